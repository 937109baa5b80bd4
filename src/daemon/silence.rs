//! Sources that bring nothing although they should: said once, and taken back when rows come again.
//!
//! Must never count time in which nothing is expected, nor a delivery without rows as a sign of life.

use super::control::{Current, current};
use crate::config::{Config, Expectation};
use crate::intake::{Intake, IntakeError};
use jiff::civil::Time;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often sources are looked at: an expectation is a matter of hours.
const EVERY: Duration = Duration::from_secs(5);

/// Watches until told to stop.
pub fn watch(storing: &Current, stop: &AtomicBool) {
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        crate::pulse::beat();
        if Instant::now() >= next {
            next = Instant::now() + EVERY;
            let storing = current(storing);
            if let Err(error) = look(&storing.config, &storing.intake, Timestamp::now()) {
                tracing::warn!(%error, "cannot look for silent sources; it is tried again");
            }
        }
        super::rest(next.saturating_duration_since(Instant::now()));
    }
}

/// One look at all sources.
pub fn look(config: &Config, intake: &Intake, now: Timestamp) -> Result<(), IntakeError> {
    for state in intake.source_states()? {
        let Some(source) = config.sources.iter().find(|source| source.name == state.source) else { continue };
        let expected = source.expect.as_ref();
        let silent =
            expected.is_some_and(|expected| counted(expected, state.heard_at, now) >= expected.every);
        let words = match expected {
            Some(expected) if silent => format!(
                "no rows since {}, expected at least every {}; is the PBX sending?",
                state.heard_at.strftime("%Y-%m-%d %H:%M:%S UTC"),
                expected.words
            ),
            _ => "rows come again".to_owned(),
        };
        intake.set_silence(&state.source, silent.then_some(now), &words)?;
    }
    Ok(())
}

/// The time between two instants in which rows are expected. Nothing if the clock went back.
fn counted(expected: &Expectation, from: Timestamp, to: Timestamp) -> SignedDuration {
    let (Some(zone), true) = (&expected.window_zone, to > from) else {
        return to.duration_since(from).max(SignedDuration::ZERO);
    };
    let mut sum = SignedDuration::ZERO;
    let mut day = from.to_zoned(zone.clone()).date();
    let last = to.to_zoned(zone.clone()).date();
    while day <= last && sum < expected.every {
        if expected.days[usize::from(day.weekday().to_monday_zero_offset().unsigned_abs())] {
            let at = |time: Time| day.to_datetime(time).to_zoned(zone.clone()).map(|zoned| zoned.timestamp());
            let (begins, ends) = expected.hours;
            // Midnight as an end is that of the next day.
            let ends = if ends == Time::midnight() {
                day.tomorrow().and_then(|next| next.to_zoned(zone.clone())).map(|zoned| zoned.timestamp())
            } else {
                at(ends)
            };
            if let (Ok(begins), Ok(ends)) = (at(begins), ends) {
                sum += ends.min(to).duration_since(begins.max(from)).max(SignedDuration::ZERO);
            }
        }
        let Ok(next) = day.checked_add(1.day()) else { break };
        day = next;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::counted;
    use crate::config::Expectation;
    use jiff::civil::time;
    use jiff::tz::TimeZone;
    use jiff::{SignedDuration, Timestamp};

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time of the test")
    }

    fn office() -> Expectation {
        Expectation {
            every: SignedDuration::from_hours(100),
            days: [true, true, true, true, true, false, false],
            hours: (time(8, 0, 0, 0), time(18, 0, 0, 0)),
            window_zone: Some(TimeZone::get("Europe/Berlin").expect("the system knows it")),
            words: String::new(),
        }
    }

    #[test]
    fn only_office_hours_count() {
        // Friday 17:00 to Monday 09:00 in Berlin.
        let hours = |from, to| counted(&office(), at(from), at(to)).as_hours();
        assert_eq!(hours("2026-03-06T16:00:00Z", "2026-03-09T08:00:00Z"), 2);
        assert_eq!(hours("2026-03-07T00:00:00Z", "2026-03-08T22:00:00Z"), 0);
        // Two weeks: ten working days of ten hours, the clock change in between.
        assert_eq!(hours("2026-03-23T00:00:00Z", "2026-04-05T20:00:00Z"), 100);
        assert_eq!(hours("2026-03-09T08:00:00Z", "2026-03-06T16:00:00Z"), 0, "a clock that was set back");
    }

    #[test]
    fn without_a_window_all_time_counts_and_midnight_ends_a_day() {
        let always = Expectation { window_zone: None, ..office() };
        assert_eq!(counted(&always, at("2026-03-06T16:00:00Z"), at("2026-03-07T16:00:00Z")).as_hours(), 24);
        let evenings = Expectation { hours: (time(20, 0, 0, 0), time(0, 0, 0, 0)), ..office() };
        assert_eq!(counted(&evenings, at("2026-03-02T00:00:00Z"), at("2026-03-03T00:00:00Z")).as_hours(), 4);
    }
}
