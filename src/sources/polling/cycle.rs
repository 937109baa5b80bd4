//! One cycle: what was missed is caught up, oldest first; then what is new; now and then the last day once more; then
//! what somebody asked for.

use super::place::{Found, Place, Window};
use super::{By, Poller, System, Trouble};
use crate::crash_point;
use crate::intake::{Bookmark, IntakeError, RunTally, SourceHealth, SyncWish};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bookmark: how far was read.
const PLACE: &str = "read-to";
/// Bookmark: why nothing is tried any more.
const REFUSED: &str = "refused";
/// How often the last day is read again.
const SWEEP: SignedDuration = SignedDuration::from_hours(1);
/// How often in a row what was shown before must be missing until that is believed.
const BELIEVED: u32 = 3;
const SHORTEST_SLICE: SignedDuration = SignedDuration::from_hours(1);
const LONGEST_SLICE: SignedDuration = SignedDuration::from_hours(24 * 32);
/// A slice with more pages is halved the next time.
const MANY_PAGES: u64 = 4;
/// Failures in a row after which a wish is given up.
const WISH_PATIENCE: u32 = 5;

/// Why nothing is tried any more. It outlives the process: one that is started again and again must not try each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Refusal {
    message: String,
    tries_left: Option<u64>,
    /// The credentials that were refused.
    credentials: Option<u16>,
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(super) fn door(error: IntakeError) -> Trouble {
    Trouble::passing(error.to_string())
}

impl<S: System> Poller<S> {
    /// Everything that is due.
    pub(super) fn cycle(&mut self, woken: bool, stop: &AtomicBool) -> Result<(), Trouble> {
        self.heed_refusal(woken)?;
        let done = self.catch_up(stop).and_then(|()| self.fulfil_all(stop));
        if let Err(Trouble::Refused { message, tries_left }) = &done {
            let refusal = Refusal {
                message: message.clone(),
                tries_left: *tries_left,
                credentials: self.system.credentials(),
            };
            self.keep(REFUSED, &serde_json::to_string(&refusal).unwrap_or_default())?;
            self.end_wishes(message)?;
        }
        done
    }

    fn keep(&self, key: &str, value: &str) -> Result<(), Trouble> {
        let (source, key, value) = (self.config.name.clone(), key.to_owned(), value.to_owned());
        self.intake.accept(Vec::new(), Some(Bookmark { source, key, value })).map_err(door)?;
        Ok(())
    }

    /// A refusal holds until the credentials are others, or somebody says so; the last try that a device allows is only
    /// made with others.
    fn heed_refusal(&self, woken: bool) -> Result<(), Trouble> {
        let kept = self.intake.bookmark(&self.config.name, REFUSED).map_err(door)?;
        let Some(refusal) = kept.and_then(|kept| serde_json::from_str::<Refusal>(&kept).ok()) else {
            return Ok(());
        };
        // A password file that cannot be read for a moment is no other password.
        let now = self.system.credentials();
        let others = now.is_some() && now != refusal.credentials;
        let last = refusal.tries_left.is_some_and(|left| left <= 1);
        if others || (woken && !last) {
            return self.keep(REFUSED, "");
        }
        if woken {
            self.end_wishes(&refusal.message)?;
        }
        Err(Trouble::Refused { message: refusal.message, tries_left: refusal.tries_left })
    }

    fn place(&self) -> Result<Place, Trouble> {
        let kept = self.intake.bookmark(&self.config.name, PLACE).map_err(door)?;
        // One that cannot be read is a place before everything: it is read again, and is known.
        Ok(kept.and_then(|kept| serde_json::from_str(&kept).ok()).unwrap_or_default())
    }

    /// The bookmark behind a window, if it is another one.
    fn bookmark(&self, before: &Place, after: &Place) -> Option<Bookmark> {
        (before != after).then(|| Bookmark {
            source: self.config.name.clone(),
            key: PLACE.to_owned(),
            value: serde_json::to_string(after).unwrap_or_default(),
        })
    }

    fn catch_up(&mut self, stop: &AtomicBool) -> Result<(), Trouble> {
        loop {
            let (place, now) = (self.place()?, Timestamp::now());
            let window = place.next(&self.config, now, self.ahead, self.slice);
            let mut found = Found { expected: place.expected(&window), ..Found::default() };
            let believed = self.missing >= BELIEVED;
            let mut behind = |poller: &Self, found: &Found| {
                let after = place.behind(&window, found, now);
                if found.lacks() && !believed { None } else { poller.bookmark(&place, &after) }
            };
            self.run_of(&window, By::End, false, &place, &mut found, &mut behind, stop)?;
            crash_point::reached("poll-window");
            if found.lacks() && !believed {
                self.missing += 1;
                let message = "the device does not show calls that it showed before; it is asked again before that is \
                               believed";
                return Err(Trouble::passing(message));
            }
            self.missing = 0;
            if window.open {
                return self.sweep(&place, now, stop);
            }
            self.fit_slice(&found);
            let words = format!("catching up: read to {:.0}", window.to);
            self.say(SourceHealth::Ok, &words);
        }
    }

    fn fit_slice(&mut self, found: &Found) {
        if found.pages > MANY_PAGES {
            self.slice = (self.slice / 2).max(SHORTEST_SLICE);
        } else if found.legs == 0 {
            self.slice = (self.slice * 2).min(LONGEST_SLICE);
        }
    }

    /// Reads the last day again when that is due.
    fn sweep(&mut self, before: &Place, now: Timestamp, stop: &AtomicBool) -> Result<(), Trouble> {
        let due = before.swept_at.is_some_and(|at| now.duration_since(at) >= SWEEP || at > now);
        let place = self.place()?;
        let window = place.sweep(&self.config, now, self.ahead).filter(|_| due);
        let Some(window) = window else { return Ok(()) };
        let mut behind = |poller: &Self, _: &Found| {
            poller.bookmark(&place, &Place { swept_at: Some(now), ..place.clone() })
        };
        self.run_of(&window, By::Start, false, &place, &mut Found::default(), &mut behind, stop)
    }

    /// Reads one window, and notes the run.
    #[expect(
        clippy::too_many_arguments,
        reason = "a window, how it is read, what it showed and what moves with it"
    )]
    fn run_of(
        &mut self,
        window: &Window,
        by: By,
        again: bool,
        place: &Place,
        found: &mut Found,
        behind: &mut dyn FnMut(&Self, &Found) -> Option<Bookmark>,
        stop: &AtomicBool,
    ) -> Result<(), Trouble> {
        let to = (!window.open).then_some(window.to);
        let run = self.intake.begin_run(&self.config.name, window.from, to).map_err(door)?;
        let mut tally = RunTally::default();
        // That nothing happened in a time that is passed over is only believed if it is said of both ends of a call.
        let mut sure = |poller: &Self, found: &Found| {
            if window.open || found.legs > 0 { behind(poller, found) } else { None }
        };
        let mut read = self.read(window, by, again, place.read_to, &mut tally, found, &mut sure, stop);
        if read.is_ok() && !window.open && found.legs == 0 {
            read = self.read(window, By::Start, again, place.read_to, &mut tally, found, behind, stop);
        }
        if read.is_ok() && found.lacks() && self.missing >= BELIEVED {
            let from = place.read_to.unwrap_or(window.from);
            let to = found.first_behind.unwrap_or_else(|| window.to.min(Timestamp::now()));
            tally.gap = Some((from, to));
            tracing::warn!(
                cdrd_source = self.config.name,
                "calls of source {} between {from:.0} and {to:.0} may be missing: its device has deleted what it had shown; import \
                 its CSV of that time if there is one",
                self.config.name
            );
        }
        let lacks = "the device does not show what it showed before";
        let error = match &read {
            Err(Trouble::Stopping) => Some("stopped".to_owned()),
            Err(trouble) => Some(trouble.to_string()),
            Ok(()) if found.lacks() && tally.gap.is_none() => Some(lacks.to_owned()),
            Ok(()) => None,
        };
        self.intake.end_run(&self.config.name, run, tally, error.as_deref()).map_err(door)?;
        read
    }

    /// Does what was asked for since.
    fn fulfil_all(&mut self, stop: &AtomicBool) -> Result<(), Trouble> {
        while let Some(wish) = self.intake.next_sync(&self.config.name).map_err(door)? {
            let mut tally = RunTally::default();
            match self.fulfil(&wish, &mut tally, stop) {
                Ok(()) => {
                    self.wish_failures = 0;
                    self.intake.end_sync(wish.id, tally, None).map_err(door)?;
                }
                Err(trouble @ Trouble::Passing { .. }) if self.wish_failures < WISH_PATIENCE => {
                    self.wish_failures += 1;
                    return Err(trouble);
                }
                // Done at the next start.
                Err(Trouble::Stopping) => return Err(Trouble::Stopping),
                Err(trouble) => {
                    self.wish_failures = 0;
                    self.intake.end_sync(wish.id, tally, Some(&trouble.to_string())).map_err(door)?;
                    return Err(trouble);
                }
            }
        }
        Ok(())
    }

    /// Fetches the calls that began in a window, whatever is known of them. The bookmark stays.
    fn fulfil(&mut self, wish: &SyncWish, tally: &mut RunTally, stop: &AtomicBool) -> Result<(), Trouble> {
        let (place, now) = (self.place()?, Timestamp::now());
        let usual = place.next(&self.config, now, self.ahead, LONGEST_SLICE);
        let mut from = wish.from.unwrap_or(usual.from);
        let to = wish.to.unwrap_or_else(|| usual.to.max(now));
        while from < to && !stop.load(Ordering::Relaxed) {
            let until = from.checked_add(self.slice).unwrap_or(to).min(to);
            let window = Window { from, to: until, open: until == to && wish.to.is_none() };
            let mut found = Found::default();
            let run = self.intake.begin_run(&self.config.name, from, Some(until)).map_err(door)?;
            let mut part = RunTally::default();
            let mut stays = |_: &Self, _: &Found| None;
            let read = self.read(&window, By::Start, true, None, &mut part, &mut found, &mut stays, stop);
            let error = read.as_ref().err().map(ToString::to_string);
            self.intake.end_run(&self.config.name, run, part, error.as_deref()).map_err(door)?;
            tally.requests += part.requests;
            tally.pages += part.pages;
            tally.records += part.records;
            read?;
            self.fit_slice(&found);
            from = until;
        }
        if stop.load(Ordering::Relaxed) { Err(Trouble::Stopping) } else { Ok(()) }
    }

    fn end_wishes(&self, why: &str) -> Result<(), Trouble> {
        while let Some(wish) = self.intake.next_sync(&self.config.name).map_err(door)? {
            self.intake.end_sync(wish.id, RunTally::default(), Some(why)).map_err(door)?;
        }
        Ok(())
    }
}
