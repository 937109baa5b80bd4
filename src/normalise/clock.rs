//! Notices that an origin's time zone or clock is wrong, from the UTC second in the vendor's own ids.
//!
//! Must never correct anything: it only tells, because which of the two clocks is right is the operator's to say.

use crate::record::cdr::Leg;

/// Ids are made when a channel begins, legs start up to minutes later; a wrong zone is off by at least 15 minutes.
const TOLERATED_S: i64 = 600;

/// All zones are multiples of this from UTC.
const QUARTER_S: i64 = 900;

/// How exactly a quarter of an hour must be met to believe in a zone and not in a wrong clock.
const EXACT_S: i64 = 60;

/// Watches the legs of one document.
#[derive(Debug, Default)]
pub struct ClockWatch {
    nearest: Option<Nearest>,
}

/// The leg whose start is nearest to the second in its id: later legs of a channel start long after it.
#[derive(Debug, Clone, Copy)]
struct Nearest {
    difference_s: i64,
    offset_min: Option<i32>,
}

/// The times of a document and its ids disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockFault {
    /// Start by the configured zone less the second in the id.
    pub difference_s: i64,
    /// The offset from UTC that would fit, `+02:00`; `None` if no zone would.
    pub fits: Option<String>,
}

impl ClockWatch {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at a leg; one without an id that carries the time tells nothing.
    pub fn see(&mut self, leg: &Leg) {
        let Some(epoch) = leg.id_epoch_s else { return };
        let difference_s = leg.cdr.started_at.div_euclid(1000) - epoch;
        if self.nearest.is_none_or(|nearest| difference_s.abs() < nearest.difference_s.abs()) {
            self.nearest = Some(Nearest { difference_s, offset_min: leg.cdr.utc_offset_min });
        }
    }

    /// Whether the ids seen so far confirm the zone. Legs without such ids confirm nothing.
    pub fn agrees(&self) -> bool {
        self.nearest.is_some_and(|nearest| nearest.difference_s.abs() <= TOLERATED_S)
    }

    /// What the legs seen so far say.
    pub fn verdict(&self) -> Option<ClockFault> {
        let nearest = self.nearest.filter(|nearest| nearest.difference_s.abs() > TOLERATED_S)?;
        Some(ClockFault { difference_s: nearest.difference_s, fits: nearest.fits() })
    }
}

impl Nearest {
    fn fits(self) -> Option<String> {
        let quarters = (self.difference_s + QUARTER_S / 2).div_euclid(QUARTER_S);
        let exact = (self.difference_s - quarters * QUARTER_S).abs() <= EXACT_S;
        let minutes = i64::from(self.offset_min?) + quarters * (QUARTER_S / 60);
        // Kiribati is the farthest east, Baker Island the farthest west.
        (exact && (-12 * 60..=14 * 60).contains(&minutes)).then(|| offset_text(minutes))
    }
}

fn offset_text(minutes: i64) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}

impl std::fmt::Display for ClockFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let minutes = (self.difference_s.abs() + 30) / 60;
        let side = if self.difference_s > 0 { "after" } else { "before" };
        write!(
            f,
            "calls seem to start {} h {:02} min {side} the time in the PBX's own call ids",
            minutes / 60,
            minutes % 60
        )?;
        match &self.fits {
            Some(offset) => write!(
                f,
                ": the PBX writes times at UTC offset {offset}; set time_zone of its [[origin]] (or of the [[source]], if \
                 only this one differs) to a zone with that offset; rows stored before are corrected by `cdrd replay --rederive`"
            ),
            None => write!(
                f,
                ", and no time_zone would fit: set the clock of the PBX, then check time_zone of its [[origin]]"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Nearest;

    fn fits(difference_s: i64, offset_min: i32) -> Option<String> {
        Nearest { difference_s, offset_min: Some(offset_min) }.fits()
    }

    #[test]
    fn the_offset_that_would_fit() {
        assert_eq!(fits(7200, 0).as_deref(), Some("+02:00"), "written two hours ahead of UTC, read as UTC");
        assert_eq!(fits(-3590, 120).as_deref(), Some("+01:00"));
        assert_eq!(fits(-18_000 + 4, 0).as_deref(), Some("-05:00"));
        assert_eq!(fits(20_700, 0).as_deref(), Some("+05:45"));
        assert_eq!(fits(1000, 0), None, "no quarter of an hour");
        assert_eq!(fits(20 * 3600, 0), None, "no zone is that far");
    }
}
