//! The sentence: claim -> unpack -> recognise -> read -> normalise -> identify -> commit -> retire.
//!
//! Threads read, one what is small and one what is large, while the store's writer commits; a crash anywhere repeats work
//! and never a row.
//!
//! Must never know a source or a vendor, and must never acknowledge anything: that was done at the door.

mod awaited;
mod body;
mod document;
mod group;
mod journal;
mod preview;
mod progress;
mod repeats;
mod replay;
mod reread;
mod retry;
mod turns;

pub use awaited::{Awaited, Expected, News};
pub use body::ScratchFolder;
pub use preview::{DocumentPreview, Preview, PreviewRow, Reader, preview};
pub use progress::Progress;
pub use replay::Replayed;
pub use reread::{Rereader, SeeRow, reread};
pub use retry::Retried;
pub use turns::{Turn, Turns};

use crate::formats::Formats;
use crate::intake::{Intake, IntakeError, Share};
use crate::normalise::Engine;
use crate::pulse;
use crate::record::delivery::{DeliveryId, Spooled};
use crate::record::disk;
use crate::record::outcome::{Actor, Counts};
use crate::store::{Commit, DeliveryStart, DeliveryState, DeliverySummary, StoreError, lane};
use crate::unpack::Limits;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What the pipeline is built from.
pub struct Parts {
    /// The door.
    pub intake: Intake,
    /// The store.
    pub store: Arc<dyn Commit>,
    /// All formats.
    pub formats: Formats,
    /// Carried text to typed columns.
    pub engine: Arc<Engine>,
    /// Each origin's part of the identity, by its name.
    pub origin_keys: HashMap<String, String>,
    /// What origins are called now, by their former names: what waited may have been accepted under one.
    pub renamed: HashMap<String, String>,
    /// How each configured source is read now, by its name: what waited may have been accepted under another
    /// configuration.
    pub readings: HashMap<String, [u8; 16]>,
    /// ULID of this process's start: the fence against an older process.
    pub claim: String,
    /// Limits of archives.
    pub limits: Limits,
    /// Folder for archives inside archives.
    pub scratch: PathBuf,
    /// Counters, kept where another pipeline takes over in a running daemon.
    pub progress: Arc<Progress>,
    /// Whose turn it is to store.
    pub turns: Arc<Turns>,
}

/// Reads what the door has accepted, one delivery after another.
pub struct Pipeline {
    parts: Parts,
    /// What was last found out about each origin's clock: most documents change nothing, and need no transaction.
    clocks: Mutex<HashMap<String, String>>,
    /// What was said aloud about clocks: sources that disagree with each other must not take turns for ever.
    told: Mutex<HashSet<(String, String)>>,
    /// Counters of the deliveries that grow, so that a new line does not cost reading them all.
    streams: Mutex<HashMap<DeliveryId, document::Kept>>,
}

/// Why a delivery was left for later or for ever.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The door.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The body could not be read.
    #[error("the body of delivery {delivery} cannot be read or archived: {cause}; {}", disk::mend(cause))]
    Body {
        /// Delivery.
        delivery: String,
        /// Cause.
        cause: std::io::Error,
    },
    /// The temporary file could not be used.
    #[error(
        "cannot use the temporary file that counts equal rows of delivery {delivery}: {cause}; {}",
        disk::mend(cause)
    )]
    Scratch {
        /// Delivery.
        delivery: String,
        /// Cause.
        cause: std::io::Error,
    },
    /// The file kept changing while it was read.
    #[error("the file of delivery {delivery} is still being written; it is read again when it rests")]
    StillWritten {
        /// Delivery.
        delivery: String,
    },
    /// The configuration no longer has the origin.
    #[error(
        "delivery {delivery} belongs to origin {origin:?}, which the configuration no longer has; write formerly = {origin:?} into the stanza of the origin that it is called now, or add [[origin]] name = {origin:?} again"
    )]
    OriginGone {
        /// Delivery.
        delivery: String,
        /// Origin.
        origin: String,
    },
    /// The program no longer has the format of a delivery that is read on.
    #[error(
        "delivery {delivery} was begun as {format}, which this version no longer reads; start a version that does until \
         its file is rotated"
    )]
    FormatGone {
        /// Delivery.
        delivery: String,
        /// Format.
        format: String,
    },
    /// The configuration reads other rows out of the same bytes.
    #[error(
        "delivery {delivery} reads otherwise than when it was begun: rows of it that are stored are not there any more; \
         write its [[format]] as it was, and change it once this delivery has ended"
    )]
    ReadsOtherwise {
        /// Delivery.
        delivery: String,
    },
    /// The bytes are nowhere.
    #[error(
        "the original of delivery {delivery} ({name}) is gone, so that it cannot be read again; put it back below originals/, or choose other deliveries; nothing was changed"
    )]
    OriginalGone {
        /// Delivery.
        delivery: String,
        /// Its name.
        name: String,
    },
    /// The process is stopping; the rest is read after the next start.
    #[error("stopping")]
    Stopping,
}

impl PipelineError {
    /// Who must act.
    pub fn actor(&self) -> Actor {
        match self {
            Self::Intake(error) => error.actor(),
            Self::Store(error) => error.actor(),
            Self::Body { .. } | Self::Scratch { .. } | Self::StillWritten { .. } | Self::Stopping => {
                Actor::Transient
            }
            Self::OriginGone { .. }
            | Self::OriginalGone { .. }
            | Self::FormatGone { .. }
            | Self::ReadsOtherwise { .. } => Actor::Broken,
        }
    }

    /// Whether only the delivery in hand is at fault, so that others may go on.
    fn is_of_one(&self) -> bool {
        match self {
            Self::Intake(error) => error.is_of_one(),
            Self::Body { cause, .. } => !disk::refuses_all(cause),
            Self::StillWritten { .. }
            | Self::OriginGone { .. }
            | Self::OriginalGone { .. }
            | Self::FormatGone { .. }
            | Self::ReadsOtherwise { .. } => true,
            Self::Store(_) | Self::Scratch { .. } | Self::Stopping => false,
        }
    }
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// State.
    pub state: DeliveryState,
    /// Outcomes of its rows.
    pub counts: Counts,
    /// Documents that were rejected whole.
    pub rejected_documents: u64,
}

impl Ended {
    /// Whether nothing of it was rejected.
    pub const fn is_clean(&self) -> bool {
        self.counts.rejected == 0 && self.rejected_documents == 0
    }
}

/// What became of a delivery that was taken up.
#[derive(Debug)]
pub struct Worked {
    /// Delivery.
    pub id: DeliveryId,
    /// How it ended, or why it rests.
    pub outcome: Result<Ended, PipelineError>,
}

/// A file that changes under the reader is read again; one that never rests must not hold up the others.
const RUNS_WHILE_CHANGING: u32 = 3;
/// Small deliveries that are taken up at once: a few megabytes at most, and a flush for all of them.
const TOGETHER: u32 = 128;
/// First and longest pause after a failure that concerns all deliveries, and the longest after one that may pass.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a share is looked at although nothing was announced: what rests may go on.
const IDLE: Duration = Duration::from_secs(3);
/// Longest rest of a delivery that waits for a person.
const LONGEST_REST: Duration = Duration::from_mins(10);

impl Pipeline {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self { parts, clocks: Mutex::default(), told: Mutex::default(), streams: Mutex::default() }
    }

    /// Counters that move while a delivery is read.
    pub fn progress(&self) -> Arc<Progress> {
        self.parts.progress.clone()
    }

    /// Whose turn it is to store. Whoever reads something again must have a turn alone.
    pub const fn turns(&self) -> &Arc<Turns> {
        &self.parts.turns
    }

    /// Whether a delivery is read as it was accepted: else nothing that was known of its bytes then counts.
    fn reads_as_accepted(&self, spooled: &Spooled) -> bool {
        self.parts.readings.get(&spooled.source).is_none_or(|reading| *reading == spooled.reading)
    }

    fn clock_changed(&self, origin: &str, fault: &str) -> bool {
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.insert(origin.to_owned(), fault.to_owned()).as_deref() != Some(fault)
    }

    fn told_first(&self, source: &str, fault: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert((source.to_owned(), fault.to_owned()))
    }

    /// Takes the counters of a delivery that grows, if they are known.
    fn take_stream(&self, id: DeliveryId) -> Option<document::Kept> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    fn keep_stream(&self, id: DeliveryId, stream: document::Kept) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).insert(id, stream);
    }

    /// Works on one share until told to stop. Transient failures are tried again with a growing pause; a broken store is
    /// said loudly and tried again too, because the door must stay open meanwhile.
    pub fn run(&self, share: Share, stop: &AtomicBool) {
        if share == Share::Large {
            lane::give_way();
        }
        let mut pause = SHORTEST_PAUSE;
        // After a failure that concerned a whole group: its deliveries are tried one by one.
        let mut alone = 0_u32;
        while !stop.load(Ordering::Relaxed) {
            pulse::beat();
            let most = if alone == 0 && share == Share::Small { TOGETHER } else { 1 };
            let Some(turn) = self.parts.turns.together(stop) else { break };
            let worked = self.work_together(share, most, stop);
            drop(turn);
            for worked in worked.iter().flatten() {
                self.parts.progress.awaited().worked(worked);
            }
            match worked {
                Ok(worked) if worked.is_empty() => {
                    self.parts.progress.goes_on(share);
                    self.parts.intake.wait_for_work(share, IDLE);
                }
                Ok(worked) => {
                    self.parts.progress.goes_on(share);
                    alone = alone.saturating_sub(1);
                    // Those that rest are not to blame the next one for.
                    if worked.iter().any(|worked| worked.outcome.is_ok()) {
                        pause = SHORTEST_PAUSE;
                    }
                }
                Err(PipelineError::Stopping) => break,
                Err(error) => {
                    alone = TOGETHER;
                    self.parts.progress.awaited().stalled(&error);
                    self.parts.progress.stands(share, &error);
                    journal::paused(&error, pause);
                    rest(pause, stop);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Takes the next delivery, if there is one, and brings it to its end. Fails only if storing stands still for all.
    pub fn work(&self, stop: &AtomicBool) -> Result<Option<Worked>, PipelineError> {
        Ok(self.work_together(Share::All, 1, stop)?.pop())
    }

    /// Takes the next deliveries of a share and brings them to their end; they share flushes. Fails only if storing
    /// stands still for all.
    pub fn work_together(
        &self,
        share: Share,
        most: u32,
        stop: &AtomicBool,
    ) -> Result<Vec<Worked>, PipelineError> {
        let mut claimed = self.parts.intake.claim(share, most)?;
        for waited in &mut claimed {
            if let Some(now) = self.parts.renamed.get(&waited.spooled.origin) {
                waited.spooled.origin.clone_from(now);
            }
        }
        group::bring_to_end(self, &claimed, stop)
    }
}

fn ended(summary: &DeliverySummary) -> Ended {
    Ended { state: summary.state, counts: summary.counts, rejected_documents: summary.rejected_documents }
}

fn start_of(spooled: &Spooled) -> DeliveryStart {
    DeliveryStart {
        id: spooled.id,
        source: spooled.source.clone(),
        account: spooled.account.clone(),
        origin: spooled.origin.clone(),
        name: spooled.name.clone(),
        peer: spooled.peer.clone(),
        content_hash: spooled.content_hash,
        bytes: spooled.bytes,
        received_at: spooled.received_at,
        pinned_format: spooled.pinned_format.clone(),
        time_zone: spooled.time_zone.clone(),
    }
}

/// Sleeps in short steps, so that a stop is not held up.
fn rest(pause: Duration, stop: &AtomicBool) {
    const SLICE: Duration = Duration::from_millis(50);
    let mut left = pause;
    while !left.is_zero() && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(SLICE.min(left));
        pulse::beat();
        left = left.saturating_sub(SLICE);
    }
}
