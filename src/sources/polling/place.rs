//! How far a poller has read, and which window it asks for next.
//!
//! Must never lean on our clock, nor on the configured zone being right: a window begins where the rows that came end, by
//! their own clock, and the last one has no end.

use super::{Config, Leg};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// What is read by slices ends this long ago: below, the far side may still write.
const RECENT: SignedDuration = SignedDuration::from_hours(24);
/// Around a change of the clocks a device may compare wall clocks: hours stand for each other there.
const AROUND_A_CHANGE: SignedDuration = SignedDuration::from_hours(3);
/// How far beyond every clock an open window reaches.
const BEYOND: SignedDuration = SignedDuration::from_hours(48);

/// How far a poller has read; its bookmark.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Everything that ended before is read. Never later than our clock said then.
    pub read_to: Option<Timestamp>,
    /// The leg that ended last: the far side must show it again.
    pub anchor: Option<Anchor>,
    /// When the last day was last read again by start.
    pub swept_at: Option<Timestamp>,
}

/// A leg that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Anchor {
    pub id: String,
    pub start: Timestamp,
    pub end: Timestamp,
}

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub from: Timestamp,
    pub to: Timestamp,
    /// It reaches to now and beyond.
    pub open: bool,
}

/// What a window showed.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The leg that must be shown again.
    pub expected: Option<Anchor>,
    pub shown_again: bool,
    pub latest: Option<Anchor>,
    /// The first end behind what was read before.
    pub first_behind: Option<Timestamp>,
    pub legs: u64,
    pub pages: u64,
}

impl Found {
    pub fn see(&mut self, leg: &Leg, behind: Option<Timestamp>) {
        self.legs += 1;
        let (Some(start), Some(end)) = (leg.start, leg.end) else { return };
        self.shown_again |= self.expected.as_ref().is_some_and(|anchor| anchor.id == leg.id);
        if self.latest.as_ref().is_none_or(|latest| latest.end < end) {
            self.latest = Some(Anchor { id: leg.id.clone(), start, end });
        }
        if behind.is_some_and(|behind| end > behind) && self.first_behind.is_none_or(|first| end < first) {
            self.first_behind = Some(end);
        }
    }

    /// The far side does not show what it showed before.
    pub const fn lacks(&self) -> bool {
        self.expected.is_some() && !self.shown_again
    }
}

impl Place {
    /// The next window. `ahead` is how far the far side's clock is ahead of `now`.
    pub fn next(
        &self,
        config: &Config,
        now: Timestamp,
        ahead: SignedDuration,
        slice: SignedDuration,
    ) -> Window {
        let begin = self.read_to.unwrap_or_else(|| before(now, config.back));
        let from = if self.read_to.is_some() { overlapping(config, begin, config.overlap) } else { begin };
        let theirs = now.checked_add(ahead).unwrap_or(now);
        let to = begin.checked_add(slice).unwrap_or(begin);
        if to < before(now.min(theirs), RECENT) {
            return Window { from, to, open: false };
        }
        Window { from, to: now.max(theirs).checked_add(BEYOND).unwrap_or(now), open: true }
    }

    /// The last day before what was read, by start: calls that lasted long and rows that were written late, also where
    /// firmware filters by start whatever it is asked.
    pub fn sweep(&self, config: &Config, now: Timestamp, ahead: SignedDuration) -> Option<Window> {
        let from = overlapping(config, self.read_to?, RECENT);
        let to = now.max(now.checked_add(ahead).unwrap_or(now)).checked_add(BEYOND).unwrap_or(now);
        Some(Window { from, to, open: true })
    }

    /// The leg that a window must show again, if its times say that any filter lets it through.
    pub fn expected(&self, window: &Window) -> Option<Anchor> {
        let within = |anchor: &&Anchor| {
            [anchor.start, anchor.end].iter().all(|at| *at >= window.from && *at <= window.to)
        };
        self.anchor.as_ref().filter(within).cloned()
    }

    /// The place behind a window that was read.
    pub fn behind(&self, window: &Window, found: &Found, now: Timestamp) -> Self {
        let seen = found.latest.as_ref().map(|latest| latest.end.min(now));
        let closed = (!window.open).then_some(window.to);
        let anchor = if found.latest.is_some() || found.lacks() { &found.latest } else { &self.anchor };
        Self {
            read_to: self.read_to.into_iter().chain(seen).chain(closed).max(),
            anchor: anchor.clone(),
            swept_at: self.swept_at.or(Some(now)),
        }
    }
}

fn before(at: Timestamp, long: SignedDuration) -> Timestamp {
    at.checked_sub(long).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// So long before, and further where the clocks change near there.
fn overlapping(config: &Config, at: Timestamp, overlap: SignedDuration) -> Timestamp {
    let from = before(at, overlap);
    let offset = |at: Timestamp| config.zone.to_offset(at);
    let later = at.checked_add(AROUND_A_CHANGE).unwrap_or(at);
    if offset(before(from, AROUND_A_CHANGE)) == offset(later) { from } else { before(from, AROUND_A_CHANGE) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use std::time::Duration;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);
    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn config() -> Config {
        Config {
            name: "ucm".to_owned(),
            origin: "pbx".to_owned(),
            peer: "ucm:8089".to_owned(),
            every: Duration::from_mins(2),
            back: SignedDuration::from_hours(24 * 30),
            overlap: SignedDuration::from_mins(10),
            page_size: 1000,
            zone: TimeZone::get("Europe/Berlin").expect("a zone"),
            pinned_format: None,
            reading: [0; 16],
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn leg(id: &str, end: &str) -> Leg {
        Leg { id: id.to_owned(), start: Some(at(end)), end: Some(at(end)), content: [0; 16] }
    }

    #[test]
    fn a_long_time_is_read_oldest_first_and_without_holes() {
        let (config, now) = (config(), at("2026-03-20T12:00:00Z"));
        let mut place = Place::default();
        let mut read_to = before(now, config.back);
        for round in 0.. {
            let window = place.next(&config, now, SignedDuration::ZERO, DAY);
            assert!(window.from <= read_to, "a hole before {}", window.from);
            if window.open {
                assert!(window.to > now);
                assert_eq!(round, 28, "a day each, up to two days ago");
                break;
            }
            assert!(window.to < before(now, DAY), "the far side may still write");
            read_to = window.to;
            place = place.behind(&window, &Found::default(), now);
        }
    }

    #[test]
    fn the_clock_of_the_rows_decides() {
        let (config, now) = (config(), at("2026-02-20T12:00:00Z"));
        let start = Place { read_to: Some(at("2026-02-20T11:50:00Z")), ..Place::default() };
        let window = start.next(&config, now, SignedDuration::ZERO, DAY);
        let behind = |end: &str| {
            let mut found = Found::default();
            found.see(&leg("1", end), None);
            start.behind(&window, &found, now).read_to
        };
        // A clock that is behind, one that is ahead, and one that was ahead by years.
        assert_eq!(behind("2026-02-20T10:55:00Z"), start.read_to);
        assert_eq!(behind("2026-02-20T11:58:00Z"), Some(at("2026-02-20T11:58:00Z")));
        assert_eq!(behind("2026-02-20T12:58:00Z"), Some(now));
        assert_eq!(behind("2031-01-01T00:00:00Z"), Some(now));
        let ahead = start.next(&config, now, HOUR * 72, DAY);
        assert!(ahead.to > at("2026-02-23T12:00:00Z"));
        // Days of which the far side says that they have not come yet are not passed over.
        let old = Place { read_to: Some(at("2026-02-17T12:00:00Z")), ..Place::default() };
        assert!(!old.next(&config, now, SignedDuration::ZERO, DAY).open);
        assert!(old.next(&config, now, -HOUR * 48, DAY).open);
    }

    #[test]
    fn hours_that_stand_for_each_other_are_read_again() {
        let config = config();
        // 2025-10-26 01:00 UTC: the clocks go back.
        for (read_to, from) in [
            ("2025-10-25T12:00:00Z", "2025-10-25T11:50:00Z"),
            ("2025-10-26T01:20:00Z", "2025-10-25T22:10:00Z"),
            ("2025-10-26T00:50:00Z", "2025-10-25T21:40:00Z"),
        ] {
            let place = Place { read_to: Some(at(read_to)), ..Place::default() };
            let window = place.next(&config, at(read_to), SignedDuration::ZERO, DAY);
            assert_eq!(window.from, at(from), "{read_to}");
        }
    }

    #[test]
    fn what_was_shown_before_is_expected_again_if_any_filter_lets_it_through() {
        let (config, now) = (config(), at("2026-02-20T12:00:00Z"));
        let anchor =
            |start: &str| Anchor { id: "7".to_owned(), start: at(start), end: at("2026-02-20T11:58:00Z") };
        let place = |start: &str| Place {
            read_to: Some(at("2026-02-20T11:58:00Z")),
            anchor: Some(anchor(start)),
            ..Place::default()
        };
        let window = place("2026-02-20T11:57:00Z").next(&config, now, SignedDuration::ZERO, DAY);
        let expected = place("2026-02-20T11:57:00Z").expected(&window);
        assert!(expected.is_some());
        assert_eq!(
            place("2026-02-20T09:00:00Z").expected(&window),
            None,
            "a long call, under a filter by start"
        );
        let mut found = Found { expected, ..Found::default() };
        assert!(found.lacks());
        found.see(&leg("8", "2026-02-20T11:59:00Z"), place("2026-02-20T11:57:00Z").read_to);
        assert!(found.lacks());
        assert_eq!(found.first_behind, Some(at("2026-02-20T11:59:00Z")));
        found.see(&leg("7", "2026-02-20T11:58:00Z"), None);
        assert!(!found.lacks());
    }
}
