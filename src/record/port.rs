//! The few traits at which modules meet that must not import each other. The daemon supplies the bodies.

use super::card::Card;
use super::cdr::Leg;
use super::outcome::{DeliveryOutcome, Rejection};
use super::raw::RawRecord;
use std::io::{Read, Seek, Write};

/// Carried text to typed columns. The body is `normalise`, handed to the store by the pipeline, so that the store can
/// derive a version again without knowing how.
pub trait Derive: Send + Sync {
    /// The leg that this record states for this origin, received by this source (which may have its own time zone).
    fn derive(&self, raw: RawRecord, origin: &str, source: &str) -> Result<Leg, Box<Rejection>>;

    /// The card of a format, for rows stored earlier. `None` when the format no longer exists.
    fn card(&self, format: &str) -> Option<&'static Card>;
}

/// A source's way back to its senders: `.ok` and `.err` files, a mail's final folder.
pub trait Feedback {
    /// Tells the sender how its delivery ended. It may be told again, after a crash: doing it twice must be doing it once.
    /// What fails is tried again later.
    fn tell(&mut self, outcome: &DeliveryOutcome) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Room on disk for an archive inside an archive: a zip can only be read with its end in hand.
pub trait Scratch: Send {
    /// A new empty file that vanishes when dropped.
    fn file(&self) -> std::io::Result<Box<dyn ScratchFile>>;
}

/// A temporary file.
pub trait ScratchFile: Read + Write + Seek + Send {}

impl<T: Read + Write + Seek + Send> ScratchFile for T {}
