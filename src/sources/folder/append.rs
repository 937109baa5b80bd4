//! Files that only grow (`Master.csv`): what is new in them goes to the door, also across rotation.
//!
//! The place that was reached is known by the bytes before it, not by a name or an inode: whatever became of the file, it
//! is looked for in the file itself, then in its rotated siblings. One life of the file, from its first byte to its
//! rotation, is one delivery. Everything rests on [`Follower::look`], which may run at any time and any number of times.
//! Must never change anything in the folder.

mod mark;
mod reading;
mod siblings;
mod trail;
mod turn;

use super::FolderError;
use super::watch::{self, Bell};
use crate::intake::{Intake, SourceHealth};
use crate::record::delivery::printable;
use mark::Mark;
use notify::RecommendedWatcher;
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use trail::{Standing, Step, Trail, Trouble, found};

/// How often a folder is looked at that cannot be watched, or that lacks a file.
const POLL: Duration = Duration::from_secs(5);
/// Rows of a burst share a look, and its flushes.
const BURST: Duration = Duration::from_millis(100);
/// Followed files as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the source.
    pub name: String,
    /// Origin of what they hold.
    pub origin: String,
    /// The folder in which they lie, and into which they are rotated.
    pub path: PathBuf,
    /// Their names.
    pub files: Vec<String>,
    /// How long a rotated file must not change before its life is over.
    pub settle: Duration,
    /// Longest time between two looks.
    pub rescan: Duration,
    /// Format that the configuration fixes.
    pub pinned_format: Option<String>,
    /// Hash of everything in the configuration that changes how files are read.
    pub reading: [u8; 16],
}

/// Follows the files of one folder.
pub struct Follower {
    config: Config,
    intake: Intake,
    bell: Arc<Bell>,
    watcher: Option<RecommendedWatcher>,
    /// Device and inode of the folder that is watched.
    root: Option<(u64, u64)>,
    trails: Vec<Trail>,
    /// What was said already.
    noted: HashSet<(PathBuf, String)>,
}

impl Follower {
    /// Hands what is new to this door.
    pub fn new(config: Config, intake: Intake) -> Self {
        let trails = config.files.iter().map(|name| Trail::new(&config.path, name)).collect();
        let bell = Arc::new(Bell::of_every_change());
        Self { config, intake, bell, watcher: None, root: None, trails, noted: HashSet::new() }
    }

    /// Looks until `stop` is set: when something happens, when `wake` says so, and when the time has come. Send a wake
    /// after setting `stop` to end it at once.
    pub fn run(mut self, stop: Arc<AtomicBool>, wake: Receiver<()>) {
        let stopped = move || stop.load(Ordering::Acquire);
        let bell = Arc::clone(&self.bell);
        // Ends when the last sender is dropped.
        std::thread::spawn(move || wake.into_iter().for_each(|()| bell.ring()));
        while !stopped() {
            let began = Instant::now();
            let next_look = self.look(began).unwrap_or_else(|_| began + POLL.min(self.config.rescan));
            watch::wait(&self.bell, next_look, &stopped);
            if !stopped() {
                std::thread::sleep(BURST);
            }
        }
    }

    /// How long a file that was rotated away must rest.
    pub(super) const fn settle(&self) -> std::time::Duration {
        self.config.settle
    }

    /// Hands over what is new in each file. Gives when to look again, unless something happens before.
    pub fn look(&mut self, now: Instant) -> Result<Instant, FolderError> {
        self.bell.take();
        let waiting = crate::pulse::waiting();
        let folder = std::fs::read_dir(&self.config.path).and_then(|_| std::fs::metadata(&self.config.path));
        drop(waiting);
        let root = match folder {
            Ok(metadata) => Some((metadata.dev(), metadata.ino())),
            Err(source) => {
                self.watcher = None;
                let path = printable(self.config.path.as_os_str().as_bytes());
                let error = FolderError::Unreachable { path, source };
                self.tell(SourceHealth::Stopped, &error.to_string());
                return Err(error);
            }
        };
        if self.root != root {
            self.watcher = None;
            self.root = root;
        }
        let mut polling = None;
        if self.watcher.is_none() {
            match watch::arm(&self.bell, &self.config.path, Path::new("/"), false) {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(reason) => polling = Some(reason),
            }
        }
        let mut standings = Vec::new();
        let mut trails = std::mem::take(&mut self.trails);
        let mut shut = None;
        for trail in &mut trails {
            crate::pulse::beat();
            match self.follow(trail, now) {
                Ok(standing) => standings.push(standing),
                Err(Trouble::File(path, error)) => {
                    let path = printable(path.as_os_str().as_bytes());
                    standings.push(Standing::Trouble(format!(
                        "{path} cannot be read: {error}; let the daemon read it, it is tried again by itself"
                    )));
                }
                Err(Trouble::Door(error)) => {
                    shut = Some(error);
                    break;
                }
            }
        }
        self.trails = trails;
        if let Some(error) = shut {
            self.tell(SourceHealth::Retrying, &error.to_string());
            return Err(error.into());
        }
        self.report(&standings, polling.as_deref());
        let soon = polling.is_some() || standings.iter().any(|standing| *standing != Standing::Followed);
        let turning = standings.iter().any(|standing| matches!(standing, Standing::Turning(_)));
        let rescan = if turning {
            self.config.settle
        } else if soon {
            POLL
        } else {
            self.config.rescan
        };
        // A folder that is moved away tells nothing: looking costs next to nothing.
        Ok(now + rescan.min(POLL))
    }

    fn report(&mut self, standings: &[Standing], polling: Option<&str>) {
        let mut words: Vec<&str> = Vec::new();
        for standing in standings {
            match standing {
                Standing::Followed => {}
                Standing::Turning(text)
                | Standing::Between(text)
                | Standing::Gone(text)
                | Standing::Trouble(text) => words.push(text),
            }
        }
        words.retain(|words| !words.is_empty());
        words.extend(polling);
        let bad = standings.iter().any(|s| matches!(s, Standing::Gone(_) | Standing::Trouble(_)));
        let health = if bad { SourceHealth::Retrying } else { SourceHealth::Ok };
        self.tell(health, &words.join("; "));
    }

    fn tell(&self, health: SourceHealth, message: &str) {
        // The state lies behind the same door; if it cannot be written, the log has it.
        if let Err(error) = self.intake.set_source_state(&self.config.name, health, message) {
            tracing::warn!(cdrd_source = self.config.name, %error, "the state of the source could not be noted");
        }
    }

    /// Goes on with one file until nothing is left to do now.
    fn follow(&mut self, trail: &mut Trail, now: Instant) -> Result<Standing, Trouble> {
        if !trail.loaded {
            let known = self.intake.bookmark(&self.config.name, &trail.key)?;
            trail.mark = known.as_deref().and_then(Mark::parse);
            trail.loaded = true;
        }
        loop {
            let step = match trail.mark.clone() {
                None => self.first(trail)?,
                Some(mark) if mark.ended => self.after(trail, &mark, now)?,
                Some(mark) => self.live(trail, &mark, now)?,
            };
            if let Step::Rest(standing) = step {
                return Ok(standing);
            }
        }
    }

    /// The first time that this file is looked at.
    fn first(&mut self, trail: &mut Trail) -> Result<Step, Trouble> {
        let path = trail.path.clone();
        match found(&path, siblings::enter(&path))? {
            Some(entered) => self.begin(trail, &path, entered, None, |_, _| Ok(true)),
            None => Ok(Step::Rest(Standing::Gone(format!(
                "{} is not there yet; if it never comes, correct `path` or `files`",
                printable(path.as_os_str().as_bytes())
            )))),
        }
    }

    /// Says something about a file once.
    fn note(&mut self, path: &Path, words: &str) {
        if self.noted.insert((path.to_owned(), words.to_owned())) {
            let file = printable(path.as_os_str().as_bytes());
            tracing::warn!(cdrd_source = self.config.name, file, "{words}");
        }
    }
}
