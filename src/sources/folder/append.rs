//! Files that only grow (`Master.csv`): what is new in them goes to the door, also across rotation.
//!
//! The place that was reached is known by the bytes before it, not by a name or an inode: whatever became of the file, it
//! is looked for in the file itself, then in its rotated siblings. One life of the file, from its first byte to its
//! rotation, is one delivery. Everything rests on [`Follower::look`], which may run at any time and any number of times.
//! Must never change anything in the folder.

mod mark;
mod siblings;
#[cfg(test)]
mod tests;

use super::FolderError;
use super::watch::{self, Bell};
use super::writers;
use crate::intake::{Intake, IntakeError, SourceHealth};
use crate::record::delivery::{Body, Delivery, DeliveryId, printable};
use crate::sources::folder::walk::State;
use jiff::Timestamp;
use mark::Mark;
use notify::RecommendedWatcher;
use siblings::{Entered, Sibling, Turn};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime};

/// How often a folder is looked at that cannot be watched, or that lacks a file.
const POLL: Duration = Duration::from_secs(5);
/// Rows of a burst share a look, and its flushes.
const BURST: Duration = Duration::from_millis(100);
/// Bytes that become durable together.
const STEP: usize = 1024 * 1024;
/// A rotated file that was not written for so long is done with, whatever the clocks of file servers say.
const LONG_AGO: Duration = Duration::from_mins(2);

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

/// What a person should know of a file after a look; later ones are worse.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
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
enum Step {
    Again,
    Rest(Standing),
}

/// Why a look at a file broke off.
enum Trouble {
    Door(IntakeError),
    File(PathBuf, io::Error),
}

impl From<IntakeError> for Trouble {
    fn from(error: IntakeError) -> Self {
        Self::Door(error)
    }
}

/// What is known of one followed file.
struct Trail {
    name: OsString,
    /// Key of its bookmark.
    key: String,
    path: PathBuf,
    mark: Option<Mark>,
    loaded: bool,
    /// Since when the place that was reached is nowhere to be found.
    lost_since: Option<Instant>,
    /// Since when rotated files are as they are.
    resting: HashMap<PathBuf, (State, Instant)>,
    /// Siblings that do not hold the place that was reached, and the one that does.
    verdicts: HashMap<PathBuf, (State, bool)>,
}

impl Trail {
    fn new(folder: &Path, name: &str) -> Self {
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

    fn reach(&mut self, mark: Mark) {
        self.mark = Some(mark);
        self.lost_since = None;
        self.verdicts.clear();
    }

    /// Whether a rotated file was not written for a while. Its own time is a hint only: file servers have clocks too.
    fn rested(&mut self, sibling: &Sibling, now: Instant, settle: Duration) -> bool {
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

    /// Hands over what is new in each file. Gives when to look again, unless something happens before.
    pub fn look(&mut self, now: Instant) -> Result<Instant, FolderError> {
        self.bell.take();
        let folder = std::fs::read_dir(&self.config.path).and_then(|_| std::fs::metadata(&self.config.path));
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
            Some(entered) => self.begin(trail, &path, entered, None),
            None => Ok(Step::Rest(Standing::Gone(format!(
                "{} is not there yet; if it never comes, correct `path` or `files`",
                printable(path.as_os_str().as_bytes())
            )))),
        }
    }

    /// The file in the life that was read last.
    fn live(&mut self, trail: &mut Trail, mark: &Mark, now: Instant) -> Result<Step, Trouble> {
        let path = trail.path.clone();
        let current = match siblings::enter_at(&path, mark) {
            Ok(Some(entered)) => {
                trail.lost_since = None;
                self.read_on(trail, &path, entered, true)?;
                return Ok(Step::Rest(Standing::Followed));
            }
            Ok(None) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(Trouble::File(path, error)),
        };
        let (siblings, closed) = self.siblings(trail)?;
        // The renamed file first, then the youngest.
        let (same, others): (Vec<_>, Vec<_>) =
            siblings.iter().rev().partition(|s| (s.state.device, s.state.inode) == (mark.device, mark.inode));
        for sibling in same.into_iter().chain(others) {
            let Some(entered) = holds(trail, sibling, mark)? else { continue };
            return self.leave(trail, sibling, entered, current, now);
        }
        if !current {
            return Ok(Step::Rest(Standing::Gone(format!(
                "{} is gone, and no rotated file beside it goes on where it was left{}; put it back, or rotate into this \
                 folder",
                printable(path.as_os_str().as_bytes()),
                closed_words(closed)
            ))));
        }
        // An editor that saves, or a rotation that is under way, looks like this for a moment.
        let since = *trail.lost_since.get_or_insert(now);
        if now.saturating_duration_since(since) < self.config.settle {
            return Ok(Step::Rest(Standing::Turning(String::new())));
        }
        let words = format!(
            "its first {} bytes were read, then it was replaced or cut off, and no rotated file goes on from there{}: \
             what was written to it after the last look is missing if nobody kept it; it is read from its beginning",
            mark.offset,
            closed_words(closed)
        );
        self.note(&path, &words);
        self.end(trail, mark, false)?;
        Ok(Step::Again)
    }

    /// Reads a rotated file to its end, and ends its life when nobody writes to it any more.
    fn leave(
        &mut self,
        trail: &mut Trail,
        sibling: &Sibling,
        entered: Entered,
        current: bool,
        now: Instant,
    ) -> Result<Step, Trouble> {
        let packed = entered.is_packed();
        let turning = || {
            let name = printable(sibling.name.as_bytes());
            Ok(Step::Rest(Standing::Turning(format!("{name} was rotated and is read to its end"))))
        };
        if !self.read_on(trail, &sibling.path, entered, false)? {
            let Some(mark) = trail.mark.clone().filter(|_| packed) else { return turning() };
            if !trail.rested(sibling, now, self.config.settle) {
                return turning();
            }
            let words = format!(
                "it cannot be unpacked beyond byte {}; the rest of its calls is missing, restore it and `cdrd import` it",
                mark.offset
            );
            self.note(&sibling.path, &words);
            self.end(trail, &mark, false)?;
            return Ok(Step::Again);
        }
        if !packed
            && (!trail.rested(sibling, now, self.config.settle) || Self::still_open(trail, sibling, current))
        {
            return turning();
        }
        // Once more, now that it is certain that nothing followed: it may have grown since it was read.
        let Some(mark) = trail.mark.clone() else { return Ok(Step::Again) };
        let grown = match std::fs::symlink_metadata(&sibling.path) {
            Ok(metadata) => State::of(&metadata) != sibling.state,
            Err(_) => true,
        };
        if grown {
            return turning();
        }
        self.end(trail, &mark, sibling.turn != Turn::Other)?;
        Ok(Step::Again)
    }

    /// Whether a process of this host may go on writing to a file that was renamed under it. One that has begun the
    /// new file is done with the old one.
    fn still_open(trail: &Trail, sibling: &Sibling, current: bool) -> bool {
        let begun = current && std::fs::metadata(&trail.path).is_ok_and(|metadata| metadata.len() > 0);
        if begun {
            return false;
        }
        let names = writers::names_of(std::iter::once(sibling.path.as_path()));
        writers::open_for_writing(&names).contains(&(sibling.state.device, sibling.state.inode))
    }

    /// What comes after a life that is over: rotated files that were never read, then the file itself.
    fn after(&mut self, trail: &mut Trail, mark: &Mark, now: Instant) -> Result<Step, Trouble> {
        let (siblings, _) = self.siblings(trail)?;
        let mut last = None;
        for (place, sibling) in siblings.iter().enumerate().rev() {
            // Asked every few seconds until the file is begun anew: a packed one is not unpacked each time.
            let known =
                trail.verdicts.get(&sibling.path).is_some_and(|known| *known == (sibling.state, true));
            if known || holds(trail, sibling, mark)?.is_some() {
                last = Some(place);
                break;
            }
        }
        let unread: Vec<&Sibling> = match last {
            Some(place) => siblings[place + 1..].iter().filter(|s| s.turn != Turn::Other).collect(),
            // The last one is gone: whatever was written since.
            None => siblings.iter().filter(|s| mark::nanoseconds(&s.state) > mark.modified_ns).collect(),
        };
        let follows = mark.proven.then(|| mark.id()).flatten();
        for (place, sibling) in unread.iter().enumerate() {
            let later = unread[place + 1..].iter().map(|sibling| sibling.path.as_path());
            if is_copied(sibling, later.chain([trail.path.as_path()])) {
                continue;
            }
            // Where its time contradicts its name it may have been read before: it is read, but not counted on.
            let in_time = last.is_some_and(|last| {
                mark::nanoseconds(&sibling.state) >= mark::nanoseconds(&siblings[last].state)
            });
            let earlier = follows.filter(|_| in_time);
            let Some(entered) = found(&sibling.path, siblings::enter(&sibling.path))? else {
                // Renamed or packed meanwhile: the next look finds it again.
                return Ok(Step::Rest(Standing::Turning(String::new())));
            };
            let packed = entered.is_packed();
            match self.begin(trail, &sibling.path, entered, earlier) {
                Ok(Step::Again) => return Ok(Step::Again),
                Ok(Step::Rest(_)) => {}
                // New calls must not wait for what nobody can read.
                Err(Trouble::File(path, error))
                    if packed && trail.rested(sibling, now, self.config.settle) =>
                {
                    self.note(&path, &format!("it cannot be unpacked: {error}; its calls are missing, restore it and `cdrd import` it"));
                }
                Err(Trouble::File(..)) if packed => return Ok(Step::Rest(Standing::Turning(String::new()))),
                Err(trouble) => return Err(trouble),
            }
        }
        let path = trail.path.clone();
        let Some(entered) = found(&path, siblings::enter(&path))? else {
            return Ok(Step::Rest(Standing::Between(format!(
                "{} was rotated and is not begun anew yet",
                printable(path.as_os_str().as_bytes())
            ))));
        };
        // Somebody put the old file back: it may hold more, and whatever it holds is known by its calls.
        let back = entered.state.bytes >= mark.offset && entered.still_holds(mark).unwrap_or(false);
        self.begin(trail, &path, entered, follows.filter(|_| !back))
    }

    /// Begins a life with its first bytes; rests where there are none.
    fn begin(
        &mut self,
        trail: &mut Trail,
        path: &Path,
        mut entered: Entered,
        continues: Option<DeliveryId>,
    ) -> Result<Step, Trouble> {
        let failed = |error| Trouble::File(path.to_owned(), error);
        let mut bytes = entered.read(STEP).map_err(failed)?;
        if path == trail.path {
            without_hole(&mut bytes);
        }
        if bytes.is_empty() {
            return Ok(Step::Rest(Standing::Followed));
        }
        let mark = Mark::new(&entered.state, &bytes);
        let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
        let delivery = Delivery {
            origin: self.config.origin.clone(),
            source: self.config.name.clone(),
            account: None,
            peer: None,
            name: printable(name),
            received_at: Timestamp::now(),
            pinned_format: self.config.pinned_format.clone(),
            time_zone: None,
            reading: self.config.reading,
            body: Body::Bytes(bytes),
        };
        let (source, key) = (self.config.name.clone(), trail.key.clone());
        let named = |id| Mark { delivery: format!("{id}"), ..mark.clone() };
        let begun = self.intake.begin_growing(&delivery, continues, |id| named(id).bookmark(&source, &key));
        if begun.is_err() {
            // What is true lies behind the door.
            trail.loaded = false;
        }
        trail.reach(named(begun?));
        Ok(Step::Again)
    }

    /// Hands over everything behind the mark. Whether it was read to its end.
    fn read_on(
        &mut self,
        trail: &mut Trail,
        path: &Path,
        mut entered: Entered,
        living: bool,
    ) -> Result<bool, Trouble> {
        let failed = |error| Trouble::File(path.to_owned(), error);
        loop {
            let mut bytes = match entered.read(STEP) {
                Ok(bytes) => bytes,
                // Still being packed, or damaged: what is whole was handed over.
                Err(_) if entered.is_packed() => return Ok(false),
                Err(error) => return Err(failed(error)),
            };
            let Some(mark) = trail.mark.clone() else { return Ok(false) };
            if living {
                without_hole(&mut bytes);
            }
            if bytes.is_empty() {
                return Ok(true);
            }
            let Some(id) = mark.id() else { return Ok(false) };
            if !entered.still_holds(&mark).map_err(failed)? {
                return Ok(false);
            }
            entered.tail = entered.tail.followed_by(&bytes);
            let moved = mark.moved(&entered.state, &entered.tail, bytes.len());
            let grown =
                self.intake.grow(id, mark.offset, &bytes, &moved.bookmark(&self.config.name, &trail.key));
            if let Err(error) = grown {
                // What is true lies behind the door.
                trail.loaded = false;
                return Err(error.into());
            }
            trail.reach(moved);
        }
    }

    fn end(&mut self, trail: &mut Trail, mark: &Mark, proven: bool) -> Result<(), Trouble> {
        let ended = Mark { ended: true, proven, ..mark.clone() };
        let bookmark = ended.bookmark(&self.config.name, &trail.key);
        if let Some(id) = mark.id() {
            let done = self.intake.end_growing(id, &bookmark);
            if done.is_err() {
                trail.loaded = false;
            }
            done?;
        }
        trail.resting.clear();
        trail.reach(ended);
        Ok(())
    }

    fn siblings(&self, trail: &Trail) -> Result<(Vec<Sibling>, usize), Trouble> {
        let others: Vec<OsString> = self.config.files.iter().map(OsString::from).collect();
        siblings::list(&self.config.path, &trail.name, &others)
            .map_err(|error| Trouble::File(self.config.path.clone(), error))
    }

    /// Says something about a file once.
    fn note(&mut self, path: &Path, words: &str) {
        if self.noted.insert((path.to_owned(), words.to_owned())) {
            let file = printable(path.as_os_str().as_bytes());
            tracing::warn!(cdrd_source = self.config.name, file, "{words}");
        }
    }
}

/// A sibling entered at the mark, if it holds it. Files are asked once: a packed one must be unpacked for it.
fn holds(trail: &mut Trail, sibling: &Sibling, mark: &Mark) -> Result<Option<Entered>, Trouble> {
    if trail.verdicts.get(&sibling.path).is_some_and(|(state, holds)| *state == sibling.state && !holds) {
        return Ok(None);
    }
    let entered = found(&sibling.path, siblings::enter_at(&sibling.path, mark))?.flatten();
    trail.verdicts.insert(sibling.path.clone(), (sibling.state, entered.is_some()));
    Ok(entered)
}

/// Whether a later file begins with all of this one: then it is no life of its own, but a copy that somebody made.
fn is_copied<'p>(sibling: &Sibling, later: impl Iterator<Item = &'p Path>) -> bool {
    // What cannot be read is told when it is read.
    let Ok(Some(end)) = siblings::end_of(&sibling.path) else { return false };
    later.into_iter().any(|path| matches!(siblings::enter_at(path, &end), Ok(Some(_))))
}

/// What was opened, unless it is gone.
fn found<T>(path: &Path, opened: io::Result<T>) -> Result<Option<T>, Trouble> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Trouble::File(path.to_owned(), error)),
    }
}

/// Takes zeros from the end: a network file system may show a hole where the bytes are still on their way.
fn without_hole(bytes: &mut Vec<u8>) {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
}

fn closed_words(closed: usize) -> String {
    match closed {
        0 => String::new(),
        some => format!(
            " ({some} beside it are packed as xz, bz2 or lz4, which cannot be looked into; use gzip or zstd)"
        ),
    }
}
