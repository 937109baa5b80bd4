//! Rotation: from one life of a followed file to the next, whatever became of its name, seen or not.
//!
//! Must never take a file for another because of its name, and never leave out one that was rotated unseen.

use super::Follower;
use super::mark::{self, ANCHOR, Mark};
use super::siblings::{self, Entered, Sibling, Turn};
use super::trail::{Standing, Step, Trail, Trouble, found};
use crate::record::delivery::printable;
use crate::sources::folder::walk::State;
use crate::sources::folder::writers;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

impl Follower {
    /// The file in the life that was read last.
    pub(super) fn live(&mut self, trail: &mut Trail, mark: &Mark, now: Instant) -> Result<Step, Trouble> {
        let path = trail.path.clone();
        let current = match siblings::enter_at(&path, mark) {
            Ok(Some(entered)) if !self.begins_alike(trail, mark, &entered)? => {
                trail.lost_since = None;
                self.read_on(trail, &path, entered, true)?;
                return Ok(Step::Rest(Standing::Followed));
            }
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(Trouble::File(path, error)),
        };
        let Some((siblings, closed)) = self.siblings(trail)? else {
            return Ok(Step::Rest(Standing::Turning(String::new())));
        };
        // The renamed file first, then the youngest.
        let (same, others): (Vec<_>, Vec<_>) =
            siblings.iter().rev().partition(|s| (s.state.device, s.state.inode) == (mark.device, mark.inode));
        for sibling in same.into_iter().chain(others) {
            let Some(entered) = holds(trail, sibling, mark)? else { continue };
            if !entered.is_of(sibling) {
                return Ok(Step::Rest(Standing::Turning(String::new())));
            }
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

    /// Whether a young file only begins with the same line or two as the one before, which was renamed.
    fn begins_alike(&self, trail: &Trail, mark: &Mark, entered: &Entered) -> Result<bool, Trouble> {
        let read = (mark.device, mark.inode);
        if mark.offset >= ANCHOR as u64 || (entered.state.device, entered.state.inode) == read {
            return Ok(false);
        }
        let siblings = self.siblings(trail)?.map(|(siblings, _)| siblings).unwrap_or_default();
        Ok(siblings.iter().any(|sibling| {
            (sibling.state.device, sibling.state.inode) == read && begins_with(&sibling.path, mark)
        }))
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
        let (device, inode) = (sibling.state.device, sibling.state.inode);
        self.end(trail, &Mark { device, inode, ..mark }, sibling.turn != Turn::Other)?;
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

    /// What comes after a life that is over: rotated files that were never read, then the file itself. Files may be
    /// renamed at any instant, so that every conclusion is looked at again before it is acted upon.
    pub(super) fn after(&mut self, trail: &mut Trail, mark: &Mark, now: Instant) -> Result<Step, Trouble> {
        let moving = || Ok(Step::Rest(Standing::Turning(String::new())));
        let Some((siblings, _)) = self.siblings(trail)? else { return moving() };
        let path = trail.path.clone();
        // Opened before anything is concluded from it.
        let current = found(&path, siblings::enter(&path))?;
        let Some((last, unread)) = unread(trail, &siblings, mark)? else { return moving() };
        let follows = mark.proven.then(|| mark.id()).flatten();
        let mut copied = Vec::new();
        for (place, sibling) in unread.iter().enumerate() {
            let end = siblings::end_of(&sibling.path);
            // A line or two may begin two lives; a whole anchor does not.
            if let Ok(Some(end)) = &end
                && end.offset >= ANCHOR as u64
            {
                let later = unread[place + 1..].iter().map(|sibling| sibling.path.as_path());
                // A copy that somebody made is no life of its own.
                if let Some(by) = later.chain([path.as_path()]).find(|later| begins_with(later, end)) {
                    copied.extend((by == path).then(|| end.clone()));
                    continue;
                }
            }
            let Some(entered) = found(&sibling.path, siblings::enter(&sibling.path))? else {
                return moving();
            };
            if !entered.is_of(sibling) {
                return moving();
            }
            // Where its time contradicts its name it may have been read before: it is read, but not counted on.
            let in_time =
                last.is_some_and(|last| mark::nanoseconds(&sibling.state) >= mark::nanoseconds(&last.state));
            let packed = entered.is_packed();
            match self.begin(trail, &sibling.path, entered, follows.filter(|_| in_time), |_, _| Ok(true)) {
                Ok(Step::Again) => return Ok(Step::Again),
                Ok(Step::Rest(_)) => {}
                // New calls must not wait for what nobody can read.
                Err(Trouble::File(path, error))
                    if packed && trail.rested(sibling, now, self.config.settle) =>
                {
                    let words = format!(
                        "it cannot be unpacked: {error}; its calls are missing, restore it and `cdrd import` it"
                    );
                    self.note(&path, &words);
                }
                Err(Trouble::File(..)) if packed => return moving(),
                Err(trouble) => return Err(trouble),
            }
        }
        let Some(entered) = current else {
            return Ok(Step::Rest(Standing::Between(format!(
                "{} was rotated and is not begun anew yet",
                printable(path.as_os_str().as_bytes())
            ))));
        };
        // Somebody put the old file back: it may hold more, and whatever it holds is known by its calls.
        let back = mark.offset >= ANCHOR as u64
            && entered.state.bytes >= mark.offset
            && entered.still_holds(mark).unwrap_or(false);
        let name = trail.name.clone();
        let unmoved = |follower: &Self, entered: &Entered| -> Result<bool, Trouble> {
            let now = follower.siblings_of(&name)?;
            let whole = |end: &Mark| entered.still_holds(end).unwrap_or(false);
            Ok(now.is_some_and(|(now, _)| now == siblings) && copied.iter().all(whole))
        };
        self.begin(trail, &path, entered, follows.filter(|_| !back), unmoved)
    }

    /// The rotated files; `None` while they are being renamed.
    fn siblings(&self, trail: &Trail) -> Result<Option<(Vec<Sibling>, usize)>, Trouble> {
        self.siblings_of(&trail.name)
    }

    fn siblings_of(&self, name: &OsStr) -> Result<Option<(Vec<Sibling>, usize)>, Trouble> {
        let others: Vec<OsString> = self.config.files.iter().map(OsString::from).collect();
        siblings::list(&self.config.path, name, &others)
            .map_err(|error| Trouble::File(self.config.path.clone(), error))
    }
}

/// The last file that was read, if it is still there, and those that were not.
type Unread<'s> = (Option<&'s Sibling>, Vec<&'s Sibling>);

/// What was rotated since; `None` where a file was renamed meanwhile.
fn unread<'s>(
    trail: &mut Trail,
    siblings: &'s [Sibling],
    mark: &Mark,
) -> Result<Option<Unread<'s>>, Trouble> {
    // The very file first: two lives may begin with the same line.
    let (same, others): (Vec<_>, Vec<_>) = siblings
        .iter()
        .enumerate()
        .rev()
        .partition(|(_, s)| (s.state.device, s.state.inode) == (mark.device, mark.inode));
    for (place, sibling) in same.into_iter().chain(others) {
        // Asked every few seconds until the file is begun anew: a packed one is not unpacked each time.
        let known = trail.verdicts.get(&sibling.path).is_some_and(|known| *known == (sibling.state, true));
        let entered = if known { None } else { holds(trail, sibling, mark)? };
        if entered.as_ref().is_some_and(|entered| !entered.is_of(sibling)) {
            return Ok(None);
        }
        if known || entered.is_some() {
            let younger = siblings[place + 1..].iter().filter(|sibling| sibling.turn != Turn::Other);
            return Ok(Some((Some(sibling), younger.collect())));
        }
    }
    // The last one is gone: whatever was written since.
    let later = |sibling: &&Sibling| mark::nanoseconds(&sibling.state) > mark.modified_ns;
    Ok(Some((None, siblings.iter().filter(later).collect())))
}

/// Whether a file begins with everything up to this place.
fn begins_with(path: &Path, end: &Mark) -> bool {
    // What cannot be read is told when it is read.
    matches!(siblings::enter_at(path, end), Ok(Some(_)))
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

fn closed_words(closed: usize) -> String {
    match closed {
        0 => String::new(),
        some => format!(
            " ({some} beside it are packed as xz, bz2 or lz4, which cannot be looked into; use gzip or zstd)"
        ),
    }
}
