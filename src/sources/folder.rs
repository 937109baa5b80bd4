//! A watched folder: finished files are handed to the door and so leave the folder, or are copied and stay.
//!
//! Must never take a file that is still being written, follow a link, or let one bad file stop the others. Everything
//! rests on [`Folder::look`], which may run at any time and any number of times; inotify only makes it run sooner.

pub mod append;
mod kept;
mod names;
mod once;
mod report;
mod take;
#[cfg(test)]
mod tests;
mod walk;
mod watch;
mod writers;

use crate::intake::{Intake, IntakeError, SourceHealth};
use crate::pulse;
use crate::record::delivery::printable;
use crate::record::outcome::Actor;
use notify::RecommendedWatcher;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use walk::{Found, State, Walk};

/// How often a folder that cannot be watched, or that is missing, is looked at.
const POLL: Duration = Duration::from_secs(5);
/// How often a file that could not be moved away is tried again: its folder may have been made writable.
const FORGIVE: Duration = Duration::from_mins(10);
/// Events of a burst share a look.
const BURST: Duration = Duration::from_millis(50);
/// Walking must not take more than a fifth of the time, however many files stay in the folder.
const REST: u32 = 4;
/// Looks that nothing asked for take at most this part of the time.
const CHEAP: u32 = 2000;

/// A watched folder as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the source.
    pub name: String,
    /// Origin of what lies there.
    pub origin: String,
    /// The folder.
    pub path: PathBuf,
    /// How long a file must not change where nothing else says that it is finished.
    pub settle: Duration,
    /// Whether folders in it count.
    pub recursive: bool,
    /// `.FIN`: `NAME` is finished when `NAME.FIN` exists, and never before.
    pub marker: Option<String>,
    /// Copies files and leaves them.
    pub keep: bool,
    /// Longest time between two looks.
    pub rescan: Duration,
    /// Format that the configuration fixes.
    pub pinned_format: Option<String>,
    /// Hash of everything in the configuration that changes how files are read.
    pub reading: [u8; 16],
}

impl Config {
    /// A folder with the defaults.
    pub fn new(name: &str, origin: &str, path: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            origin: origin.to_owned(),
            path,
            settle: Duration::from_secs(5),
            recursive: true,
            marker: None,
            keep: false,
            rescan: Duration::from_mins(1),
            pinned_format: None,
            reading: [0; 16],
        }
    }
}

/// Why a look could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder is not there or cannot be listed.
    #[error(
        "the folder {path} cannot be listed: {source}; create it or mount its disk, let the daemon read it, \
             or correct `path`; it is tried again by itself"
    )]
    Unreachable {
        /// Its path, printable.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The door is shut.
    #[error(transparent)]
    Door(#[from] IntakeError),
}

impl FolderError {
    /// Who must act.
    pub fn actor(&self) -> Actor {
        match self {
            Self::Unreachable { .. } => Actor::Broken,
            Self::Door(error) => error.actor(),
        }
    }
}

/// What a look did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Files taken.
    pub accepted: usize,
    /// Files that are not finished yet.
    pub waiting: usize,
    /// When to look again, unless something happens before.
    pub next_look: Instant,
}

/// Since when a file is as it is.
struct Sighting {
    state: State,
    since: Instant,
}

/// A watched folder.
pub struct Folder {
    config: Config,
    intake: Intake,
    /// The claim folder in it.
    claims: PathBuf,
    bell: Arc<watch::Bell>,
    watcher: Option<RecommendedWatcher>,
    /// Why there is no watcher.
    polling: Option<String>,
    /// Device and inode of the folder that is watched.
    root: Option<(u64, u64)>,
    /// Files that were closed or moved in since their last change, relative.
    closed: HashSet<PathBuf>,
    sightings: HashMap<PathBuf, Sighting>,
    /// Files that could not be moved away, and therefore are copied.
    refused: HashSet<PathBuf>,
    forgiven: Option<Instant>,
    kept: Option<kept::Kept>,
    /// How long the last walk took.
    walked: Duration,
    /// What was said about paths already.
    noted: HashSet<(PathBuf, &'static str)>,
}

impl Folder {
    /// A folder that hands its files to this door.
    pub fn new(config: Config, intake: Intake) -> Self {
        Self {
            claims: config.path.join(names::CLAIM_FOLDER),
            config,
            intake,
            bell: Arc::default(),
            watcher: None,
            polling: None,
            root: None,
            closed: HashSet::new(),
            sightings: HashMap::new(),
            refused: HashSet::new(),
            forgiven: None,
            kept: None,
            walked: Duration::ZERO,
            noted: HashSet::new(),
        }
    }

    /// Looks until `stop` is set: when something happens, when `wake` says so, and when the time has come. Send a wake
    /// after setting `stop` to end it at once.
    pub fn run(mut self, stop: Arc<AtomicBool>, wake: Receiver<()>) {
        let stopped = move || stop.load(Ordering::Acquire);
        let bell = Arc::clone(&self.bell);
        // Ends when the last sender is dropped.
        std::thread::spawn(move || wake.into_iter().for_each(|()| bell.ring()));
        while !stopped() {
            pulse::beat();
            let began = Instant::now();
            let next_look = match self.look(began) {
                // In the usual folder, which is empty, a look costs nothing; one that keeps its files waits longer.
                Ok(look) => look.next_look.min(began + POLL.max(self.walked * CHEAP)),
                Err(error) => {
                    if let FolderError::Door(error) = &error {
                        self.note(Path::new(""), "door", &error.to_string());
                    }
                    began + POLL.min(self.config.rescan)
                }
            };
            // From the last look on, not from the bell: a single file is taken at once, the files of a burst together.
            let rested = Instant::now() + BURST.max(self.walked * REST);
            // A folder that is moved away or unmounted tells nothing.
            let gone = || self.root.is_some() && watch::root_of(&self.config.path) != self.root;
            watch::wait(&self.bell, next_look, &|| stopped() || gone());
            while !stopped() && Instant::now() < rested {
                pulse::beat();
                std::thread::sleep(rested.saturating_duration_since(Instant::now()).min(BURST));
            }
        }
    }

    /// Walks the folder once and takes what is finished.
    pub fn look(&mut self, now: Instant) -> Result<Look, FolderError> {
        self.find_root()?;
        self.hear();
        if self.forgiven.is_none_or(|at| now.saturating_duration_since(at) >= FORGIVE) {
            self.refused.clear();
            self.forgiven = Some(now);
        }
        self.load_kept()?;
        let began = Instant::now();
        let waiting = pulse::waiting();
        let known = |path: &Path, state: &State| {
            self.config.keep
                && self.config.marker.is_none()
                && self.kept.as_ref().is_some_and(|kept| kept.knows(&take::shown(path), state))
        };
        let walked = walk::walk(&self.config.path, self.config.recursive, &known);
        drop(waiting);
        let walk = match walked {
            Ok(walk) => walk,
            Err(error) => return Err(self.unreachable(error)),
        };
        self.walked = began.elapsed();
        self.load_kept()?;
        // What nobody tells of is found by walking; where the kernel tells of everything, a large folder may wait longer.
        let told = self.watcher.is_some() && self.polling.is_none() && watch::is_local(&self.config.path);
        let rare = if told { self.walked * CHEAP } else { Duration::ZERO };
        let mut next_look = now + self.config.rescan.max(rare);
        let (finished, waiting) = self.finished(&walk, now, &mut next_look);
        let taken = match self.take(finished) {
            Ok(taken) => taken,
            Err(error) => {
                // The state lies behind the same door; if it cannot be written either, the log has it.
                let _ = self.intake.set_source_state(
                    &self.config.name,
                    SourceHealth::Retrying,
                    &error.to_string(),
                );
                return Err(error.into());
            }
        };
        if self.polling.is_some() || taken.failure.is_some() {
            next_look = next_look.min(now + POLL);
        }
        self.report(&walk, &taken)?;
        self.forget_absent(&walk);
        Ok(Look { accepted: taken.accepted, waiting, next_look })
    }

    /// Makes sure that the folder is there, and watched: it may have been removed, mounted over or restored.
    fn find_root(&mut self) -> Result<(), FolderError> {
        let _waiting = pulse::waiting();
        let metadata = match std::fs::metadata(&self.config.path) {
            Ok(metadata) if metadata.is_dir() => metadata,
            Ok(_) => return Err(self.unreachable(io::ErrorKind::NotADirectory.into())),
            Err(error) => return Err(self.unreachable(error)),
        };
        let root = (metadata.dev(), metadata.ino());
        if self.root != Some(root) {
            self.watcher = None;
            self.closed.clear();
            self.refused.clear();
            self.adopt()?;
            self.root = Some(root);
        }
        if self.watcher.is_none() {
            let armed = watch::arm(&self.bell, &self.config.path, &self.claims, self.config.recursive);
            match armed {
                Ok(watcher) => {
                    self.watcher = Some(watcher);
                    self.polling = None;
                }
                Err(reason) => {
                    self.note(Path::new(""), "unwatched", &reason);
                    self.polling = Some(reason);
                }
            }
        }
        Ok(())
    }

    fn unreachable(&mut self, source: io::Error) -> FolderError {
        self.watcher = None;
        self.root = None;
        let error =
            FolderError::Unreachable { path: printable(self.config.path.as_os_str().as_bytes()), source };
        let state =
            self.intake.set_source_state(&self.config.name, SourceHealth::Stopped, &error.to_string());
        if let Err(error) = state {
            tracing::warn!(cdrd_source = self.config.name, %error, "the state of the source could not be noted");
        }
        error
    }

    /// Takes over what inotify told since the last look.
    fn hear(&mut self) {
        let heard = self.bell.take();
        if heard.lost {
            self.closed.clear();
        }
        for (path, completed) in heard.files {
            let Ok(relative) = path.strip_prefix(&self.config.path) else { continue };
            if completed {
                self.closed.insert(relative.to_owned());
            } else {
                self.closed.remove(relative);
            }
        }
        if let Some(limit) = heard.limit {
            self.note(Path::new(""), "unwatched", &limit);
            self.polling = Some(limit);
        }
    }

    /// The files that are finished, oldest first, and how many are not. Lowers `next_look` to when one may be.
    fn finished(&mut self, walk: &Walk, now: Instant, next_look: &mut Instant) -> (Vec<Found>, usize) {
        let marker = self.config.marker.clone();
        let marker = marker.as_deref();
        let present: HashSet<&Path> = match marker {
            Some(_) => walk.files.iter().map(|found| found.path.as_path()).collect(),
            None => HashSet::new(),
        };
        let mut finished = Vec::new();
        let mut settled = Vec::new();
        let mut waiting = 0;
        for found in &walk.files {
            if names::marked(&found.path, marker).is_some() || self.is_kept(found) {
                continue;
            }
            let since = self.sight(found, now);
            if let Some(marker) = marker {
                if present.contains(names::marker_of(&found.path, marker).as_path()) {
                    finished.push(found.clone());
                } else {
                    waiting += 1;
                }
            } else if found.state.bytes > 0 && self.closed.contains(&found.path) {
                // An empty file must settle: some senders create it, close it and only then write.
                finished.push(found.clone());
            } else if now.saturating_duration_since(since) >= self.config.settle {
                settled.push(found);
            } else {
                waiting += 1;
                *next_look = (*next_look).min(since + self.config.settle);
            }
        }
        if !settled.is_empty() {
            let names = writers::names_of(settled.iter().map(|found| found.path.as_path()));
            let open = writers::open_for_writing(&names);
            for found in settled {
                if open.contains(&(found.state.device, found.state.inode)) {
                    waiting += 1;
                    *next_look = (*next_look).min(now + self.config.settle.max(Duration::from_secs(1)));
                } else {
                    finished.push(found.clone());
                }
            }
        }
        finished.sort_by(|a, b| (a.state.mtime_ns, &a.path).cmp(&(b.state.mtime_ns, &b.path)));
        (finished, waiting)
    }

    /// Since when the file is as it is now.
    fn sight(&mut self, found: &Found, now: Instant) -> Instant {
        match self.sightings.get_mut(&found.path) {
            Some(sighting) if sighting.state == found.state => sighting.since,
            Some(sighting) => {
                *sighting = Sighting { state: found.state, since: now };
                now
            }
            None => {
                self.sightings.insert(found.path.clone(), Sighting { state: found.state, since: now });
                now
            }
        }
    }

    /// Forgets what is no longer in the folder, so that memory follows the folder.
    fn forget_absent(&mut self, walk: &Walk) {
        let present: HashSet<&Path> = walk.files.iter().map(|found| found.path.as_path()).collect();
        self.sightings.retain(|path, _| present.contains(path.as_path()));
        self.closed.retain(|path| present.contains(path.as_path()));
        self.refused.retain(|path| present.contains(path.as_path()));
        let others: HashSet<&Path> = (walk.unfinished.iter().map(|(path, _)| path.as_path()))
            .chain(walk.special.iter().map(PathBuf::as_path))
            .chain(walk.unreadable.iter().map(|(path, _)| path.as_path()))
            .collect();
        self.noted.retain(|(path, _)| {
            path.as_os_str().is_empty() || present.contains(path.as_path()) || others.contains(path.as_path())
        });
    }

    /// Says something about a path once.
    fn note(&mut self, path: &Path, what: &'static str, words: &str) {
        if self.noted.insert((path.to_owned(), what)) {
            let file = printable(path.as_os_str().as_bytes());
            tracing::warn!(cdrd_source = self.config.name, file, "{words}");
        }
    }
}
