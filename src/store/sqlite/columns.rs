//! The public columns of a row that are made from records, in one order, as SQLite keeps them.
//!
//! Must be the only place that knows how a time or a length of time is written.

use super::raw::{Row, Value};
use crate::record::cdr::{Cdr, TextColumn};
use std::sync::LazyLock;

const TYPED: [&str; 12] = [
    "started_at",
    "answered_at",
    "ended_at",
    "utc_offset_min",
    "time_precision",
    "time_ambiguous",
    "duration_s",
    "talk_s",
    "ring_s",
    "direction",
    "disposition",
    "hangup_cause_q850",
];

/// How many columns a row's content has.
pub const CONTENT: usize = TYPED.len() + TextColumn::ALL.len();

/// Columns that are not content, in the order in which they are bound.
pub const FIXED: [&str; 21] = [
    "id",
    "key_day",
    "identity",
    "leg",
    "origin",
    "tenant",
    "source",
    "system",
    "format",
    "call_group",
    "call_head",
    "delivery_id",
    "document_id",
    "row_number",
    "byte_offset",
    "byte_length",
    "versions",
    "version_hash",
    "stated",
    "change_seq",
    "stored_at",
];

/// Names of the content columns.
pub fn names() -> impl Iterator<Item = &'static str> {
    TYPED.into_iter().chain(TextColumn::ALL.iter().map(|column| column.name()))
}

/// All columns as the table has them. A statement of many rows that names them in this order fills the table's own
/// places; in any other order SQLite copies each value once more.
pub fn in_table_order() -> impl Iterator<Item = &'static str> {
    use TextColumn::{Caller, StartedLocal};
    let text = |from: usize, to: usize| TextColumn::ALL[from..to].iter().map(|column| column.name());
    let (local, caller) = (StartedLocal as usize, Caller as usize);
    let cause = TextColumn::HangupText as usize;
    FIXED[..11]
        .iter()
        .copied()
        .chain(text(0, local))
        .chain(TYPED[..3].iter().copied())
        .chain(text(local, caller))
        .chain(TYPED[3..11].iter().copied())
        .chain(text(caller, cause))
        .chain(TYPED[11..].iter().copied())
        .chain(text(cause, TextColumn::ALL.len()))
        .chain(FIXED[11..].iter().copied())
}

/// Inserts a row unless its key is taken.
pub static INSERT: LazyLock<String> = LazyLock::new(|| {
    let columns: Vec<&str> = FIXED.into_iter().chain(names()).collect();
    let marks = vec!["?"; columns.len()].join(", ");
    format!(
        "INSERT INTO cdr ({}) VALUES ({marks}) ON CONFLICT (key_day, identity, leg) DO NOTHING",
        columns.join(", ")
    )
});

/// Writes the content of a row: leg, system, format, `change_seq`, tenant, content, then the id.
pub static UPDATE: LazyLock<String> = LazyLock::new(|| {
    let sets: Vec<String> = names().map(|name| format!("{name} = ?")).collect();
    format!(
        "UPDATE cdr SET leg = ?, system = ?, format = ?, change_seq = ?, tenant = ?, {} WHERE id = ?",
        sets.join(", ")
    )
});

/// Reads the rows of a group; the content begins at column [`SELECTED`].
pub static SELECT_GROUP: LazyLock<String> = LazyLock::new(|| {
    let columns: Vec<&str> = names().collect();
    format!(
        "SELECT id, leg, tenant, source, system, format, call_group, delivery_id, document_id, row_number, byte_offset, \
         byte_length, versions, version_hash, stated, stored_at, {} FROM cdr WHERE key_day = ? AND identity = ? ORDER BY leg",
        columns.join(", ")
    )
});

/// Columns before the content in [`SELECT_GROUP`].
pub const SELECTED: i32 = 16;

/// A value read from a row and kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// NULL (or a blob, which content never is).
    Null,
    /// An integer.
    Int(i64),
    /// A double.
    Real(f64),
    /// Text.
    Text(String),
}

impl PartialEq<Value<'_>> for Kept {
    fn eq(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Int(left), Value::Int(right)) => left == right,
            // The column has NUMERIC affinity: what is written as a double comes back as one.
            (Self::Real(left), Value::Real(right)) => left.to_bits() == right.to_bits(),
            (Self::Text(left), Value::Text(right)) => left == right,
            _ => false,
        }
    }
}

/// The content of a stored row.
#[derive(Debug, Clone, PartialEq)]
pub struct Content(Vec<Kept>);

impl Content {
    /// Reads it from column `from` on.
    pub fn read(row: &Row<'_>, from: i32) -> Self {
        let kept = (from..).take(CONTENT).map(|column| match row.value(column) {
            Value::Null | Value::Blob(_) => Kept::Null,
            Value::Int(number) => Kept::Int(number),
            Value::Real(number) => Kept::Real(number),
            Value::Text(text) => Kept::Text(text.to_owned()),
        });
        Self(kept.collect())
    }

    /// Of the text columns alone, which is all that giving records back needs.
    pub fn of_texts<'t>(text: impl Fn(TextColumn) -> &'t str) -> Self {
        let texts = TextColumn::ALL.iter().map(|column| Kept::Text(text(*column).to_owned()));
        Self(TYPED.iter().map(|_| Kept::Null).chain(texts).collect())
    }

    /// A text column.
    pub fn text(&self, column: TextColumn) -> &str {
        match self.0.get(TYPED.len() + column as usize) {
            Some(Kept::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether it is what would be written.
    pub fn same(&self, values: &[Value<'_>; CONTENT]) -> bool {
        self.0.iter().zip(values).all(|(kept, value)| kept == value)
    }

    /// Whether the start, which comes first, is what would be written.
    pub fn same_start(&self, values: &[Value<'_>; CONTENT]) -> bool {
        self.0.first().is_some_and(|kept| *kept == values[0])
    }
}

/// The times of a row as text, for [`content`] to borrow.
#[derive(Debug)]
pub struct Stamps {
    start: Stamp,
    answer: Option<Stamp>,
    end: Option<Stamp>,
}

impl Stamps {
    /// Writes the times.
    pub fn of(cdr: &Cdr) -> Self {
        Self {
            start: Stamp::new(cdr.started_at),
            answer: cdr.answered_at.map(Stamp::new),
            end: cdr.ended_at.map(Stamp::new),
        }
    }

    /// The start.
    pub fn started_at(&self) -> &str {
        self.start.as_str()
    }
}

/// The values of a row's content, in the order of [`names`].
pub fn content<'r>(cdr: &'r Cdr, stamps: &'r Stamps) -> [Value<'r>; CONTENT] {
    let stamp = |stamp: &'r Option<Stamp>| stamp.as_ref().map_or(Value::Null, |s| Value::Text(s.as_str()));
    let mut values = [Value::Null; CONTENT];
    values[..TYPED.len()].copy_from_slice(&[
        Value::Text(stamps.start.as_str()),
        stamp(&stamps.answer),
        stamp(&stamps.end),
        Value::int_or_null(cdr.utc_offset_min.map(i64::from)),
        Value::Text(cdr.time_precision.word()),
        Value::Int(i64::from(cdr.time_ambiguous)),
        seconds(cdr.duration_ms),
        seconds(cdr.talk_ms),
        seconds(cdr.ring_ms),
        Value::Text(cdr.direction.word()),
        Value::Text(cdr.disposition.word()),
        Value::int_or_null(cdr.hangup_cause_q850.map(i64::from)),
    ]);
    for (value, column) in values[TYPED.len()..].iter_mut().zip(TextColumn::ALL) {
        *value = Value::text_or_null(cdr.text.get(*column));
    }
    values
}

/// Whole seconds as an integer: `sum(talk_s)` should not become a fraction because one system counts milliseconds.
fn seconds(ms: Option<i64>) -> Value<'static> {
    match ms {
        None => Value::Null,
        Some(ms) if ms % 1000 == 0 => Value::Int(ms / 1000),
        // The whole part fits 52 bits for any length of time a call can have; the rest is below a second.
        Some(ms) => {
            let whole = i32::try_from(ms / 1000).unwrap_or(i32::MAX);
            let rest = i32::try_from(ms % 1000).unwrap_or(0);
            Value::Real((f64::from(whole) * 1000.0 + f64::from(rest)) / 1000.0)
        }
    }
}

/// An instant as `YYYY-MM-DD HH:MM:SS.SSS` in UTC: sorts as text, and is what SQLite's own functions read.
#[derive(Debug, Clone, Copy)]
pub struct Stamp([u8; 23]);

impl Stamp {
    /// Writes milliseconds since 1970, by hand: three of these a row through a formatter cost as much as the insert.
    /// Years beyond 0000 to 9999 stop at the border.
    pub fn new(ms: i64) -> Self {
        const FIRST: i64 = -62_167_219_200_000;
        const LAST: i64 = 253_402_300_799_999;
        let ms = ms.clamp(FIRST, LAST);
        let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
        let (year, month, day) = civil(days);
        let mut text = *b"0000-00-00 00:00:00.000";
        let mut put = |end: usize, digits: usize, mut number: i64| {
            for place in (end - digits..end).rev() {
                text[place] = b'0' + u8::try_from(number % 10).unwrap_or(0);
                number /= 10;
            }
        };
        put(4, 4, year);
        put(7, 2, month);
        put(10, 2, day);
        put(13, 2, of_day / 3_600_000);
        put(16, 2, of_day / 60_000 % 60);
        put(19, 2, of_day / 1000 % 60);
        put(23, 3, of_day % 1000);
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Year, month and day of a day counted from 1970-01-01 (proleptic Gregorian; eras of 400 years from 0000-03-01).
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants() {
        assert_eq!(Stamp::new(0).as_str(), "1970-01-01 00:00:00.000");
        assert_eq!(Stamp::new(-1).as_str(), "1969-12-31 23:59:59.999");
        assert_eq!(Stamp::new(951_782_400_123).as_str(), "2000-02-29 00:00:00.123");
        assert_eq!(Stamp::new(i64::MIN).as_str(), "0000-01-01 00:00:00.000");
        assert_eq!(Stamp::new(i64::MAX).as_str(), "9999-12-31 23:59:59.999");
    }

    #[test]
    fn lengths_of_time_are_whole_where_they_can_be() {
        assert_eq!(seconds(Some(61_000)), Value::Int(61));
        assert_eq!(seconds(Some(1_250)), Value::Real(1.25));
        assert_eq!(seconds(None), Value::Null);
    }

    proptest! {
        #[test]
        fn stamps_are_what_the_calendar_says(ms in -62_135_596_800_000_i64..253_402_207_200_000) {
            let timestamp = jiff::Timestamp::from_millisecond(ms).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let civil = timestamp.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S.%3f").to_string();
            let stamp = Stamp::new(ms);
            prop_assert_eq!(stamp.as_str(), civil);
        }
    }
}
