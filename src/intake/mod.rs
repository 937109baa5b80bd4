//! The only door: makes a delivery durable and answers with a receipt; keeps it until it is retired.
//!
//! Must never answer before bytes and bookmark are on disk, never follow a link that a sender made, and never need the
//! store: receiving goes on while the database is down.
//!
//! All calls block and belong on plain threads, never inside an async task.

mod archive;
mod bookmarks;
mod database;
mod door;
mod dropped;
mod durable;
mod error;
mod growing;
mod outcomes;
mod receipts;
mod recovery;
mod retire;
mod room;
mod runs;
mod seen;
mod source_state;
mod spool;
#[cfg(test)]
mod tests;
mod tokens;
mod wishes;

pub use archive::{OriginalRead, OriginalWriter, SealedOriginal};
pub use bookmarks::{Bookmark, DELIVERY};
pub use dropped::Dropped;
pub use error::IntakeError;
pub use outcomes::Told;
pub use recovery::Recovered;
pub use retire::{Original, Retirement};
pub use room::room_of;
pub use runs::RunTally;
pub use source_state::{SourceHealth, SourceState};
pub use spool::{Backlog, Claimed, Look, SMALL, Share, Waiting};
pub use tokens::KnownToken;
pub use wishes::{SyncEnd, SyncWish};

use crate::record::delivery::DeliveryId;
use crate::sqlite::Prepared;
use crate::sqlite::raw::SqlError;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// How the door behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bodies up to this size lie in `spool.db`, larger ones are files.
    pub inline_cap: u64,
    /// Bytes of the disk that stay free.
    pub reserve_bytes: u64,
    /// Share of the disk that stays free; the larger of the two counts.
    pub reserve_percent: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self { inline_cap: 256 * 1024, reserve_bytes: 512 * 1024 * 1024, reserve_percent: 5 }
    }
}

/// The door. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Intake(Arc<Inner>);

struct Inner {
    state_dir: PathBuf,
    config: Config,
    database: database::Database,
    /// Whether something may wait to be claimed.
    work: Mutex<Work>,
    arrived: Condvar,
    /// Whom to tell that outcomes were written, by source.
    outcome_bells: Mutex<HashMap<String, Sender<()>>>,
    /// Whom to tell that somebody wants something fetched again, by source.
    sync_bells: Mutex<HashMap<String, Sender<()>>>,
    /// Deliveries whose receipt failed half-way; finished or undone at the next call.
    unsettled: Mutex<Vec<DeliveryId>>,
    /// Deliveries that failed and are left alone for a while, by their id.
    resting: Mutex<HashMap<String, spool::Rest>>,
    /// Leftovers that could not be unlinked: they are tried again.
    stuck: Mutex<Vec<retire::Stuck>>,
    /// Leftovers that are unlinked; their rows go with the next retirement, which saves a flush.
    unlinked: Mutex<Vec<Vec<u8>>>,
}

/// What may wait: each share is looked after by a thread of its own.
#[derive(Debug)]
struct Work {
    small: bool,
    large: bool,
}

impl Work {
    const fn waits(&self, share: Share) -> bool {
        (self.small && share.takes_small()) || (self.large && share.takes_large())
    }

    const fn taken_up(&mut self, share: Share) {
        self.small &= !share.takes_small();
        self.large &= !share.takes_large();
    }
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("state_dir", &self.0.state_dir).finish_non_exhaustive()
    }
}

/// Makes a folder, and those above it, so that what is put into it cannot lose its way in a power cut.
pub fn make_folder(path: &Path, mode: u32) -> Result<(), IntakeError> {
    durable::make_folder(path, mode)
}

impl Intake {
    /// Opens the spool of this state directory, creating and migrating it as needed.
    pub fn open(state_dir: &Path, config: Config, handle: Handle) -> Result<Self, IntakeError> {
        for folder in [state_dir.to_owned(), state_dir.join("spool"), state_dir.join("originals")] {
            durable::make_folder(&folder, 0o750)?;
        }
        // A process that died may have made a folder and not come to flushing its name.
        for folder in [durable::folder_of(state_dir), state_dir.join("originals")] {
            match durable::sync_folder(&folder) {
                // The folder above may be closed to the daemon: then somebody else made what is in it.
                Err(IntakeError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::PermissionDenied => {}
                other => other?,
            }
        }
        let path = state_dir.join("spool.db");
        refuse_lost_spool(&path, &state_dir.join("spool"))?;
        let lost = refuse_missing_spool(&path, state_dir)?;
        let database = database::Database::open(&path, handle)?;
        if let Some(word) = lost {
            durable::unlink(&word)?;
        }
        durable::sync_folder(state_dir)?;
        Ok(Self(Arc::new(Inner {
            state_dir: state_dir.to_owned(),
            config,
            database,
            work: Mutex::new(Work { small: true, large: true }),
            arrived: Condvar::new(),
            outcome_bells: Mutex::new(HashMap::new()),
            sync_bells: Mutex::new(HashMap::new()),
            unsettled: Mutex::new(Vec::new()),
            resting: Mutex::new(HashMap::new()),
            stuck: Mutex::new(Vec::new()),
            unlinked: Mutex::new(Vec::new()),
        })))
    }

    /// Closes the spool when the daemon stops; later calls fail. Not needed for durability: it spares the next start
    /// reading the log.
    pub fn close(&self) {
        self.announce_work();
        self.0.database.close();
    }

    /// Waits until something of this share may wait to be claimed, or the time is over. Whether there may be work.
    pub fn wait_for_work(&self, share: Share, timeout: Duration) -> bool {
        let _waiting = crate::pulse::waiting();
        let work = locked(&self.0.work);
        let (work, _) = self
            .0
            .arrived
            .wait_timeout_while(work, timeout, |work| !work.waits(share))
            .unwrap_or_else(PoisonError::into_inner);
        work.waits(share)
    }

    /// Has whoever waits for work look again, for work or whether to stop.
    pub fn wake(&self) {
        self.announce_work();
    }

    fn announce_work(&self) {
        *locked(&self.0.work) = Work { small: true, large: true };
        self.0.arrived.notify_all();
    }

    /// Flushes of `spool.db` since it was opened, however many receipts shared each.
    pub fn flushes(&self) -> u64 {
        self.0.database.flushes()
    }

    fn read<T: Send + 'static>(
        &self,
        step: impl FnMut(&mut Prepared<'_>) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, IntakeError> {
        self.said(self.0.database.read(step))
    }

    fn write<T: Send + 'static>(
        &self,
        step: impl FnMut(&mut Prepared<'_>) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, IntakeError> {
        self.said(self.0.database.write(step))
    }

    fn write_unflushed<T: Send + 'static>(
        &self,
        step: impl FnMut(&mut Prepared<'_>) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, IntakeError> {
        self.said(self.0.database.write_unflushed(step))
    }

    /// The error with the file that it is about.
    fn said<T>(&self, result: Result<T, SqlError>) -> Result<T, IntakeError> {
        result.map_err(|source| IntakeError::Database { path: error::shown(&self.database_path()), source })
    }

    fn damaged(&self, what: &'static str, id: &str) -> IntakeError {
        IntakeError::Damaged {
            path: error::shown(&self.database_path()),
            what,
            id: crate::record::delivery::printable(id.as_bytes()),
        }
    }

    fn database_path(&self) -> PathBuf {
        self.0.state_dir.join("spool.db")
    }

    fn spool_path(&self, id: DeliveryId) -> PathBuf {
        self.0.state_dir.join("spool").join(id.to_string())
    }
}

/// A new `spool.db` would know nothing of the bodies beside it, and recovery would sweep what was acknowledged.
fn refuse_lost_spool(database: &Path, folder: &Path) -> Result<(), IntakeError> {
    if database.exists() {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).map_err(|error| IntakeError::io("list", folder, error))?;
    let whole = |name: &std::ffi::OsStr| Path::new(name).extension().is_none();
    let bodies = entries.flatten().filter(|entry| whole(&entry.file_name())).count();
    if bodies == 0 {
        return Ok(());
    }
    Err(IntakeError::SpoolLost { path: error::shown(database), folder: error::shown(folder), bodies })
}

/// Bodies that were not stored are in `spool.db` itself, most of them: a new one in its place would forget them without
/// a word. Gives the file in which a person says that it is lost for good.
fn refuse_missing_spool(database: &Path, state_dir: &Path) -> Result<Option<PathBuf>, IntakeError> {
    let (originals, word) = (state_dir.join("originals"), state_dir.join("spool.lost"));
    if database.exists() {
        return Ok(None);
    }
    let kept =
        std::fs::read_dir(&originals).map_err(|error| IntakeError::io("list", &originals, error))?.next();
    match (kept, word.exists()) {
        (None, _) => Ok(None),
        (Some(_), true) => Ok(Some(word)),
        (Some(_), false) => Err(IntakeError::SpoolMissing {
            path: error::shown(database),
            originals: error::shown(&originals),
            word: error::shown(&word),
        }),
    }
}

/// A lock whose holder panicked guards nothing that could be half done: every step is durable on its own.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
