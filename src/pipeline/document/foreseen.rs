//! What can be known of a document before its turn: those of a group are recognised, and their places in the store asked
//! for, while the store's writer works on the ones before them.
//!
//! Must never decide otherwise than reading would: what it is not sure to see whole it leaves alone.

use super::{Context, HEAD, start_of};
use crate::formats::{Claim, Format, Head};
use crate::intake::Claimed;
use crate::pipeline::Pipeline;
use crate::record::delivery::{Spooled, SpooledBody};
use crate::record::document::ZoneRule;
use crate::record::outcome::Rejection;
use crate::store::{DocumentStart, Opened, Pending};
use crate::unpack;

/// A document whose place in the store was asked for.
pub(in crate::pipeline) struct Foreseen {
    pub(super) recognised: Recognised,
    pub(super) start: DocumentStart,
    pub(super) opened: Pending<Opened>,
}

/// Who reads a document, and how it is written.
pub(super) struct Recognised {
    pub format: &'static dyn Format,
    pub claim: Claim,
}

impl Recognised {
    /// Asks the formats.
    pub(super) fn of(
        pipeline: &Pipeline,
        spooled: &Spooled,
        head: &Head<'_>,
    ) -> Result<Self, Box<Rejection>> {
        let recognition = pipeline.parts.formats.recognise(head, spooled.pinned_format.as_deref());
        let (format, mut claim) = recognition.chosen?;
        if let Some(zone) = &spooled.time_zone {
            claim.dialect.zone = ZoneRule::Named(zone.clone());
        }
        Ok(Self { format, claim })
    }

    /// As the store is to note it.
    pub(super) fn start(&self, start: DocumentStart) -> DocumentStart {
        DocumentStart {
            format: Some(self.format.card().id.to_owned()),
            dialect: Some(self.claim.dialect.clone()),
            ..start
        }
    }
}

/// Looks at a body that is in memory, is one document and was not seen before. `None`: it is met in its turn.
pub(in crate::pipeline) fn foresee(pipeline: &Pipeline, claimed: &Claimed) -> Option<Foreseen> {
    let spooled = &claimed.spooled;
    let SpooledBody::Bytes(bytes) = &spooled.body else { return None };
    let read_otherwise = claimed.known_as.is_some() || spooled.growth.is_some();
    let sniffed = &bytes[..bytes.len().min(unpack::SNIFFED)];
    if read_otherwise || bytes.is_empty() || bytes.len() >= HEAD || unpack::is_archive(sniffed) {
        return None;
    }
    let head = Head { bytes, complete: true, name: &spooled.name };
    let recognised = Recognised::of(pipeline, spooled, &head).ok()?;
    let start = recognised.start(start_of(pipeline, spooled, 1, ""));
    let opened = pipeline.parts.store.open_document(&start);
    Some(Foreseen { recognised, start, opened })
}

impl Context<'_> {
    /// What was foreseen of the one document, once.
    pub(super) fn foreseen(&self) -> Option<Foreseen> {
        self.foreseen.take()
    }
}
