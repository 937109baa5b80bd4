//! What is known of one followed file, and how it stands after a look.

use super::mark::Mark;
use super::siblings::Sibling;
use crate::intake::IntakeError;
use crate::record::delivery::printable;
use crate::sources::folder::walk::State;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// A rotated file that was not written for so long is done with, whatever the clocks of file servers say.
const LONG_AGO: Duration = Duration::from_mins(2);

/// What a person should know of a file after a look; later ones are worse.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Read as far as it goes.
    Followed,
    /// Between two lives: something must rest first.
    Turning(String),
    /// Rotated, and not begun anew yet.
    Between(String),
    /// Not there, and nobody knows where it went.
    Gone(String),
    /// It cannot be read.
    Trouble(String),
}

/// Whether to look again at once.
pub(super) enum Step {
    Again,
    Rest(Standing),
}

/// Why a look at a file broke off.
pub(super) enum Trouble {
    Door(IntakeError),
    File(PathBuf, io::Error),
}

impl From<IntakeError> for Trouble {
    fn from(error: IntakeError) -> Self {
        Self::Door(error)
    }
}

/// What is known of one followed file.
pub(super) struct Trail {
    pub name: OsString,
    /// Key of its bookmark.
    pub key: String,
    pub path: PathBuf,
    pub mark: Option<Mark>,
    pub loaded: bool,
    /// Since when the place that was reached is nowhere to be found.
    pub lost_since: Option<Instant>,
    /// Since when rotated files are as they are.
    pub resting: HashMap<PathBuf, (State, Instant)>,
    /// Siblings that do not hold the place that was reached, and the one that does.
    pub verdicts: HashMap<PathBuf, (State, bool)>,
}

impl Trail {
    pub fn new(folder: &Path, name: &str) -> Self {
        Self {
            name: name.into(),
            key: format!("append:{}", printable(name.as_bytes())),
            path: folder.join(name),
            mark: None,
            loaded: false,
            lost_since: None,
            resting: HashMap::new(),
            verdicts: HashMap::new(),
        }
    }

    pub fn reach(&mut self, mark: Mark) {
        self.mark = Some(mark);
        self.lost_since = None;
        self.verdicts.clear();
    }

    /// Whether a rotated file was not written for a while. Its own time is a hint only: file servers have clocks too.
    pub fn rested(&mut self, sibling: &Sibling, now: Instant, settle: Duration) -> bool {
        let age = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_nanos(u64::try_from(sibling.state.mtime_ns).unwrap_or(0)))
            .and_then(|written| SystemTime::now().duration_since(written).ok());
        let (state, since) = self.resting.entry(sibling.path.clone()).or_insert((sibling.state, now));
        if *state != sibling.state {
            (*state, *since) = (sibling.state, now);
        }
        now.saturating_duration_since(*since) >= settle || age.is_some_and(|age| age >= settle.max(LONG_AGO))
    }
}

/// What was opened, unless it is gone.
pub(super) fn found<T>(path: &Path, opened: io::Result<T>) -> Result<Option<T>, Trouble> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Trouble::File(path.to_owned(), error)),
    }
}
