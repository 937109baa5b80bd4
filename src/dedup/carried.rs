//! What a record carries for comparison: canonical text of the identity fields. Blank means not carried, except where
//! the blank itself is a value (`DstChannel`: no second channel existed).

use super::identity::first_16;
use crate::record::card::Match;
use crate::record::cdr::Leg;
use crate::record::document::LengthUnit;
use crate::record::field::Field;
use jiff::civil::DateTime;
use std::borrow::Cow;
use std::fmt::Write as _;

/// The parsed wall clock of a time field.
pub(super) fn local_time(leg: &Leg, field: Field) -> Option<DateTime> {
    match field {
        Field::Start => Some(leg.start_local),
        Field::Answer => leg.answer_local,
        Field::End => leg.end_local,
        _ => None,
    }
}

/// Appends `YYYY-MM-DD HH:MM:SS`: routes differ in fractions of a second.
pub(super) fn write_canonical_time(time: DateTime, out: &mut String) {
    let year = time.year();
    if (0..=9999).contains(&year) {
        push_two(i8::try_from(year / 100).unwrap_or(0), out);
        push_two(i8::try_from(year % 100).unwrap_or(0), out);
    } else {
        let _ = write!(out, "{year:04}");
    }
    let parts = [
        ('-', time.month()),
        ('-', time.day()),
        (' ', time.hour()),
        (':', time.minute()),
        (':', time.second()),
    ];
    for (before, part) in parts {
        out.push(before);
        push_two(part, out);
    }
}

/// Appends a number below 100 in two digits. By hand: a formatter takes longer than the hash of what it writes.
pub(super) fn push_two(number: i8, out: &mut String) {
    let digit = |digit: i8| char::from(b'0' + digit.unsigned_abs() % 10);
    out.push(digit(number / 10));
    out.push(digit(number % 10));
}

/// Appends a text whose end a NUL marks: no value may hold one, lest two fields read like two others.
pub(super) fn push_text(text: &str, out: &mut String) {
    if !text.contains(['\0', '\u{1}']) {
        return out.push_str(text);
    }
    for character in text.chars() {
        match character {
            '\0' => out.push_str("\u{1}0"),
            '\u{1}' => out.push_str("\u{1}1"),
            other => out.push(other),
        }
    }
}

/// Appends the canonical text of a time field, or its trimmed text where it is no time.
pub(super) fn push_time(leg: &Leg, field: Field, out: &mut String) {
    match local_time(leg, field) {
        Some(time) => write_canonical_time(time, out),
        None => push_text(leg.raw.get(field).trim(), out),
    }
}

/// The canonical text of a field that the record carries.
pub(super) fn carried(leg: &Leg, field: Field) -> Option<Cow<'_, str>> {
    leg.raw.layout.column_of(field)?;
    let text = leg.raw.get(field).trim();
    if field == Field::DstChannel {
        return Some(Cow::Borrowed(text));
    }
    // Devices fill the answer of an unanswered leg with its end, or not at all, depending on the route.
    if text.is_empty() || (field == Field::Answer && leg.cdr.disposition.unanswered()) {
        return None;
    }
    match local_time(leg, field) {
        Some(time) => {
            let mut canonical = String::with_capacity(19);
            write_canonical_time(time, &mut canonical);
            Some(Cow::Owned(canonical))
        }
        None => Some(Cow::Borrowed(text)),
    }
}

/// Milliseconds of a near field as carried. `None` when blank or no number.
pub(super) fn near_ms(leg: &Leg, field: Field) -> Option<i64> {
    let text = leg.raw.get(field).trim();
    if text.is_empty() {
        return None;
    }
    if leg.raw.layout.dialect.lengths == LengthUnit::Seconds
        && let Ok(seconds) = text.parse::<i64>()
    {
        return seconds.checked_mul(1000);
    }
    match field {
        Field::Duration => leg.cdr.duration_ms,
        Field::Talk => leg.cdr.talk_ms,
        _ => None,
    }
}

/// The id that is unique per leg, if the record carries it.
pub(super) fn sure(leg: &Leg) -> Option<&str> {
    let text = leg.raw.get(leg.raw.layout.family.sure?).trim();
    (!text.is_empty()).then_some(text)
}

/// The name of the leg's own channel, if the record carries one.
pub(super) fn instance(leg: &Leg) -> Option<&str> {
    let text = leg.raw.get(leg.raw.layout.family.instance?).trim();
    (!text.is_empty()).then_some(text)
}

/// Whether the record is one of several events of a leg: all of a group state the same one.
pub(super) fn is_event(leg: &Leg) -> bool {
    !leg.raw.layout.family.events.is_empty()
}

/// Whether an id or a channel tells this row from every other, so that equal rows are the same leg and not copies.
pub(super) fn alone(leg: &Leg) -> bool {
    is_event(leg) || sure(leg).is_some() || instance(leg).is_some()
}

/// The core of the record's statement: constant for events; the sure id alone if carried; else the exact fields, the near fields where
/// neither `end` nor a channel is carried, and the start as written where it is matched modulo.
pub(super) fn core(leg: &Leg) -> [u8; 16] {
    let family = leg.raw.layout.family;
    let mut text = String::with_capacity(256);
    if is_event(leg) {
        text.push_str("event\0");
    } else if let Some(id) = sure(leg) {
        text.push_str("sure\0");
        text.push_str(id);
    } else {
        for field in family.exact.iter().chain(family.instance.iter()) {
            push_carried(&mut text, carried(leg, *field).as_deref());
        }
        let has_instance = instance(leg).is_some();
        if !has_instance && carried(leg, Field::End).is_none() {
            for field in family.near {
                push_carried(&mut text, near_ms(leg, *field).map(|ms| ms.to_string()).as_deref());
            }
        }
        let modulo = family.matched.iter().any(|rule| matches!(rule, Match::TimeModuloQuarter(_)));
        if !has_instance && modulo {
            write_canonical_time(leg.start_local, &mut text);
        }
    }
    first_16(text.as_bytes())
}

fn push_carried(text: &mut String, value: Option<&str>) {
    // A value that is carried blank and one that is not carried must differ.
    match value {
        Some(value) => {
            text.push('=');
            push_text(value, text);
        }
        None => text.push('-'),
    }
    text.push('\0');
}

/// Whether two versions cannot be statements of one leg.
pub(super) fn conflict(a: &Leg, b: &Leg) -> bool {
    let family = a.raw.layout.family;
    if is_event(a) {
        return false;
    }
    let exact = family.sure.iter().chain(family.instance.iter()).chain(family.exact);
    for field in exact {
        if let (Some(left), Some(right)) = (carried(a, *field), carried(b, *field))
            && left != right
        {
            return true;
        }
    }
    let shares_end = carried(a, Field::End).is_some() && carried(b, Field::End).is_some();
    let shares_instance = instance(a).is_some() && instance(b).is_some();
    if shares_end || shares_instance {
        return false;
    }
    family.near.iter().any(|field| match (near_ms(a, *field), near_ms(b, *field)) {
        (Some(left), Some(right)) => (left - right).abs() > 1000,
        _ => false,
    })
}

/// How many identity fields both carry with equal text: the better of two possible legs shares more.
pub(super) fn equal_fields(a: &Leg, b: &Leg) -> usize {
    let family = a.raw.layout.family;
    let texts = family.sure.iter().chain(family.instance.iter()).chain(family.exact);
    let equal = texts
        .filter(|field| match (carried(a, **field), carried(b, **field)) {
            (Some(left), Some(right)) => left == right,
            _ => false,
        })
        .count();
    let near = family
        .near
        .iter()
        .filter(|field| {
            let left = near_ms(a, **field);
            left.is_some() && left == near_ms(b, **field)
        })
        .count();
    equal + near
}
