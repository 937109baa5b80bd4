//! `expect_every`: how often rows of a source should come, `"26h"` or `"2h, Mon-Fri, 08:00-18:00, Europe/Berlin"`.

use super::keys;
use super::stanza::{Spotted, Stanza};
use super::{Expectation, OriginConfig, ZoneWish};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// What is expected of a source; `None` where nothing is, or where it is said wrongly.
pub fn read(
    stanza: &mut Stanza<'_, '_>,
    own_zone: Option<&TimeZone>,
    origin: Option<&OriginConfig>,
) -> Option<Expectation> {
    let text = stanza.text(keys::EXPECT_EVERY)?;
    match parse(&text) {
        Ok(Parts { every, days, hours, zone }) => {
            let windowed = days.is_some() || hours.is_some();
            let zone = zone.or_else(|| own_zone.cloned()).unwrap_or_else(|| zone_of(origin));
            Some(Expectation {
                every,
                days: days.unwrap_or([true; 7]),
                hours: hours.unwrap_or((Time::midnight(), Time::midnight())),
                window_zone: windowed.then_some(zone),
                words: text.value,
            })
        }
        Err(message) => {
            stanza.faults.push(text.fault(message));
            None
        }
    }
}

struct Parts {
    every: SignedDuration,
    days: Option<[bool; 7]>,
    hours: Option<(Time, Time)>,
    zone: Option<TimeZone>,
}

fn parse(text: &Spotted<String>) -> Result<Parts, String> {
    let mut parts = text.value.split(',').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let every = length(first).ok_or_else(|| {
        format!(
            "{first:?} is no length of time between \"1s\" and \"366d\"; write it like \"2h\" or \"1d 6h, Mon-Fri\""
        )
    })?;
    let mut all = Parts { every, days: None, hours: None, zone: None };
    for part in parts {
        if let Some(range) = days(part) {
            let days = all.days.get_or_insert([false; 7]);
            range.for_each(|day| days[day % 7] = true);
        } else if let Some(hours) = hours(part) {
            all.hours = Some(hours);
        } else if let Ok(zone) = TimeZone::get(part) {
            all.zone = Some(zone);
        } else {
            return Err(format!(
                "{part:?} is no day, no hours of one day and no time zone; write them like \"Mon-Fri\", \"08:00-18:00\" \
                 (until midnight: \"18:00-24:00\") and \"Europe/Berlin\""
            ));
        }
    }
    Ok(all)
}

#[expect(clippy::disallowed_methods, reason = "when a PBX is expected to send is no part of a row")]
fn zone_of(origin: Option<&OriginConfig>) -> TimeZone {
    match origin.map(|origin| &origin.time_zone) {
        Some(ZoneWish::Named(zone)) => zone.clone(),
        Some(ZoneWish::Auto) | None => TimeZone::system(),
    }
}

fn length(text: &str) -> Option<SignedDuration> {
    let span: Span = text.parse().ok()?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    (length > SignedDuration::ZERO && length <= LONGEST).then_some(length)
}

/// `Mon`, `Mon-Fri`; `Sat-Mon` goes over the end of the week. Days from Monday, 7 and more are those of the next week.
fn days(text: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let place = |name: &str| DAYS.iter().position(|day| name.trim().eq_ignore_ascii_case(day));
    let (first, last) = (place(first)?, place(last)?);
    Some(first..=if last < first { last + 7 } else { last })
}

/// `08:00-18:00`; `24:00` is the end of the day.
fn hours(text: &str) -> Option<(Time, Time)> {
    let time = |written: &str| match written.trim() {
        "24:00" => Some(Time::midnight()),
        other => Time::strptime("%H:%M", other).ok(),
    };
    let (begins, ends) = text.split_once('-')?;
    let (begins, ends) = (time(begins)?, time(ends)?);
    (begins < ends || ends == Time::midnight()).then_some((begins, ends))
}
