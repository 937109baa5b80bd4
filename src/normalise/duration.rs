//! Lengths of time as PBXes write them, to milliseconds.
//!
//! Must never take a clock time for a length: the format's card says which column is which.

use crate::record::document::LengthUnit;
use crate::record::raw::trimmed;

/// A year; a longer call is a broken counter.
const LONGEST_MS: i64 = 366 * 86_400_000;

/// Milliseconds of a text whose numbers count this unit.
pub(super) fn read_as(text: &str, unit: LengthUnit) -> Option<i64> {
    let text = trimmed(text);
    let milliseconds = match unit {
        LengthUnit::Seconds => return read(text),
        LengthUnit::Milliseconds => seconds(text)? / 1000,
        LengthUnit::Minutes => seconds(text)?.checked_mul(60)?,
        LengthUnit::Clock => clock(text)?,
        LengthUnit::HoursMinutes => {
            let (hours, minutes) = text.split_once(':')?;
            let minutes = digits(minutes).filter(|minutes| *minutes < 60)?;
            digits(hours)? * 3_600_000 + minutes * 60_000
        }
    };
    (milliseconds <= LONGEST_MS).then_some(milliseconds)
}

/// Milliseconds of whole seconds and nothing else, few enough that no call is longer: nearly every length there is.
fn plain(text: &str) -> Option<i64> {
    let whole = (1..=7).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| text.bytes().fold(0, |value, byte| value * 10 + i64::from(byte - b'0')) * 1000)
}

/// Milliseconds of `125`, `125.4`, `2:05`, `0:02:05` or `2m 5s`. `None` for anything else, and for negative lengths.
pub(super) fn read(text: &str) -> Option<i64> {
    if let Some(milliseconds) = plain(text) {
        return Some(milliseconds);
    }
    let text = text.trim();
    let milliseconds = if text.contains(':') {
        clock(text)?
    } else if text.ends_with(|c: char| c.is_ascii_alphabetic()) {
        units(text)?
    } else {
        seconds(text)?
    };
    (milliseconds <= LONGEST_MS).then_some(milliseconds)
}

/// Whole or decimal seconds.
fn seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, ""));
    let whole = digits(whole)?;
    let mut thousandths = 0;
    for place in 0..3 {
        thousandths = thousandths * 10 + fraction.as_bytes().get(place).map_or(0, |b| i64::from(b & 0x0f));
    }
    fraction.bytes().all(|b| b.is_ascii_digit()).then_some(whole * 1000 + thousandths)
}

/// `H:MM:SS` or `MM:SS`, the seconds also decimal.
fn clock(text: &str) -> Option<i64> {
    let (front, last) = text.rsplit_once(':')?;
    let (hours, minutes) = front.split_once(':').unwrap_or(("0", front));
    let (hours, minutes, milliseconds) = (digits(hours)?, digits(minutes)?, seconds(last)?);
    let in_range = milliseconds < 60_000 && (minutes < 60 || !front.contains(':'));
    in_range.then_some(hours * 3_600_000 + minutes * 60_000 + milliseconds)
}

/// `1h 2m 5s`, `5 sec`, `1min`, each unit once and in this order.
fn units(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0;
    let mut smallest = i64::MAX;
    while !rest.is_empty() {
        let split = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, tail) = rest.split_at(split);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        let scale = match unit.to_ascii_lowercase().as_str() {
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600,
            "m" | "min" | "mins" | "minute" | "minutes" => 60,
            "s" | "sec" | "secs" | "second" | "seconds" => 1,
            _ => return None,
        };
        if scale >= smallest {
            return None;
        }
        smallest = scale;
        total += seconds(number.trim())? * scale;
        rest = next.trim_start();
    }
    Some(total)
}

/// At most ten digits, so that nothing overflows.
fn digits(text: &str) -> Option<i64> {
    let plain = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.bytes().fold(0, |value, b| value * 10 + i64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::read;
    use proptest::prelude::*;

    #[test]
    fn all_ways_to_write_two_minutes_and_five_seconds() {
        for text in [
            "125",
            " 125 ",
            "125.0",
            "2:05",
            "02:05",
            "0:02:05",
            "00:02:05.000",
            "2m 5s",
            "2min5sec",
            "0h 2m 5s",
        ] {
            assert_eq!(read(text), Some(125_000), "{text}");
        }
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("7.25"), Some(7_250));
        assert_eq!(read("90:00"), Some(5_400_000), "minutes without hours may pass 60");
        assert_eq!(read("100:00:01"), Some(360_001_000));
    }

    #[test]
    fn a_number_counts_what_the_stanza_says() {
        use super::{LengthUnit, read_as};
        for (text, unit, milliseconds) in [
            ("1500", LengthUnit::Milliseconds, Some(1500)),
            ("2.5", LengthUnit::Minutes, Some(150_000)),
            ("0:02:05", LengthUnit::Clock, Some(125_000)),
            ("125", LengthUnit::Clock, None),
            ("0:10", LengthUnit::HoursMinutes, Some(600_000)),
            ("0:60", LengthUnit::HoursMinutes, None),
            ("2:05", LengthUnit::Seconds, Some(125_000)),
            ("9999999999", LengthUnit::Minutes, None),
        ] {
            assert_eq!(read_as(text, unit), milliseconds, "{text} {unit:?}");
        }
    }

    #[test]
    fn what_is_no_length_is_none() {
        for text in [
            "",
            "-5",
            "+5",
            "abc",
            "1:2:3:4",
            "1:60:00",
            "0:00:75",
            "5s 2m",
            "s",
            "1e3",
            "99999999999",
            "12x",
            ":",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_gives_a_plausible_length_or_none(text in "\\PC*") {
            if let Some(milliseconds) = read(&text) {
                prop_assert!((0..=super::LONGEST_MS).contains(&milliseconds));
            }
        }

        #[test]
        fn seconds_and_clock_agree(s in 0_i64..1_000_000) {
            prop_assert_eq!(read(&s.to_string()), Some(s * 1000));
            prop_assert_eq!(read(&format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)), Some(s * 1000));
        }
    }
}
