//! The blob that gives a record back as it was written: column `stated` of `cdr` (beside what the row's own columns
//! give back) and of `version` (alone).
//!
//! Layout: varint number of the layout, varint copy, varint number of values, two bits a value (blank, held by the row,
//! written here), then each value written here as varint length and bytes. Must decode to the very record: a value is
//! only left to the row where the row's text is equal byte by byte.

use super::columns::Content;
use crate::record::card::Card;
use crate::record::cdr::{Cdr, TextColumn};
use crate::record::document::{Column, Dialect, Layout, RowKind};
use crate::record::raw::{Position, RawRecord, Values};
use serde_json::{Map, Value};
use std::sync::Arc;

const BLANK: u8 = 0;
const HELD: u8 = 1;
const HERE: u8 = 2;

/// Where a row gives a column's value back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A text column.
    Column(TextColumn),
    /// A member of `extra`.
    Extra(String),
    /// Nowhere.
    Nowhere,
}

impl Place {
    /// As kept in table `layout`.
    pub fn word(&self) -> String {
        match self {
            Self::Column(column) => column.name().to_owned(),
            Self::Extra(name) => format!("extra.{name}"),
            Self::Nowhere => String::new(),
        }
    }

    fn member(&self) -> Option<&str> {
        match self {
            Self::Extra(name) => Some(name),
            _ => None,
        }
    }

    /// Reads [`Self::word`].
    pub fn from_word(word: &str) -> Self {
        if let Some(name) = word.strip_prefix("extra.") {
            return Self::Extra(name.to_owned());
        }
        let column = TextColumn::ALL.iter().find(|column| column.name() == word);
        column.map_or(Self::Nowhere, |column| Self::Column(*column))
    }
}

/// Where rows of a layout give each of its columns back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    columns: Vec<Place>,
    /// No two columns go to one member of `extra`.
    distinct: bool,
}

impl Places {
    fn new(columns: Vec<Place>) -> Self {
        let mut members: Vec<&str> = columns.iter().filter_map(Place::member).collect();
        members.sort_unstable();
        let distinct = members.windows(2).all(|pair| pair[0] != pair[1]);
        Self { columns, distinct }
    }

    /// As formats are now.
    pub fn of(layout: &Layout) -> Self {
        let place = |column: &Column| match column.field {
            Some(field) => field.home().map_or_else(
                || field.extra_name().map_or(Place::Nowhere, |name| Place::Extra(name.to_owned())),
                Place::Column,
            ),
            None => Place::Extra(column.header.clone()),
        };
        Self::new(layout.columns.iter().map(place).collect())
    }

    /// As kept in table `layout`.
    pub fn words(&self) -> Vec<String> {
        self.columns.iter().map(Place::word).collect()
    }
}

/// A layout as known to the database.
#[derive(Debug)]
pub struct KnownLayout {
    /// Row id.
    pub id: i64,
    /// The layout.
    pub layout: Arc<Layout>,
    /// Where rows give each of its columns back.
    pub places: Places,
}

impl KnownLayout {
    /// Reads a row of table `layout`: kind, dialect, headers and places. The error says what is wrong.
    pub fn read(id: i64, card: &'static Card, texts: [&str; 4]) -> Result<Self, String> {
        let [kind, dialect, headers, words] = texts;
        let damaged = |_| format!("row {id} of table layout cannot be read");
        let kind: RowKind = serde_json::from_str(kind).map_err(damaged)?;
        let dialect: Dialect = serde_json::from_str(dialect).map_err(damaged)?;
        let headers: Vec<String> = serde_json::from_str(headers).map_err(damaged)?;
        let words: Vec<String> = serde_json::from_str(words).map_err(damaged)?;
        let layout = Layout::new(card, kind, headers, dialect)
            .map_err(|error| format!("stored rows no longer fit their format: {error}"))?;
        let places = Places::new(words.iter().map(|word| Place::from_word(word)).collect());
        Ok(Self { id, layout: Arc::new(layout), places })
    }
}

/// A damaged blob, or one of a layout that does not fit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("column stated does not decode")]
pub struct Undecodable;

/// Most bytes that the number of a layout takes.
pub const NUMBER: usize = 10;

/// The number of a layout, with which each blob begins.
pub fn number(id: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(NUMBER);
    put_varint(&mut out, u64::try_from(id).unwrap_or(0));
    out
}

/// Writes a record beside the row that shows it alone.
pub fn encode_beside(layout: &KnownLayout, copy: u32, raw: &RawRecord, row: &Cdr) -> Vec<u8> {
    let mut out = number(layout.id);
    append_beside(&layout.places, copy, raw, row, &mut out);
    out
}

/// The same behind the layout's number.
pub fn append_beside(places: &Places, copy: u32, raw: &RawRecord, row: &Cdr, out: &mut Vec<u8>) {
    let extra = row.text.get(TextColumn::Extra);
    // A row of one version has its members in the order of the columns: each is looked for where the last one ended.
    let (mut rest, mut in_order) = (extra.strip_prefix('{').unwrap_or_default(), places.distinct);
    let mut members = None;
    append(copy, raw, out, |column, value| match places.columns.get(column) {
        Some(Place::Column(home)) => row.text.get(*home) == value,
        Some(Place::Extra(name)) => {
            if in_order && let Some(behind) = plain_member(rest, name, value) {
                rest = behind;
                return true;
            }
            in_order = false;
            let members = members.get_or_insert_with(|| plain_members(extra));
            members.iter().rev().find(|(member, _)| member == name).is_some_and(|(_, held)| *held == value)
        }
        _ => false,
    });
}

/// What follows this very member; `None` where the text goes on otherwise. A value with an escape is written otherwise.
fn plain_member<'e>(text: &'e str, name: &str, value: &str) -> Option<&'e str> {
    let text = text.strip_prefix('"')?.strip_prefix(name)?.strip_prefix("\":\"")?;
    let text = text.strip_prefix(value)?.strip_prefix('"')?;
    text.strip_prefix(',').or_else(|| text.strip_prefix('}'))
}

/// Writes a record whole.
pub fn encode_whole(layout: &KnownLayout, copy: u32, raw: &RawRecord) -> Vec<u8> {
    let mut out = number(layout.id);
    append(copy, raw, &mut out, |_, _| false);
    out
}

fn append(copy: u32, raw: &RawRecord, out: &mut Vec<u8>, mut held: impl FnMut(usize, &str) -> bool) {
    put_varint(out, u64::from(copy));
    put_varint(out, raw.len() as u64);
    let tags = out.len();
    out.resize(tags + raw.len().div_ceil(4), 0);
    for column in 0..raw.len() {
        let value = raw.value(column);
        let tag = if value.is_empty() {
            BLANK
        } else if held(column, value) {
            HELD
        } else {
            put_varint(out, value.len() as u64);
            out.extend_from_slice(value.as_bytes());
            HERE
        };
        out[tags + column / 4] |= tag << (column % 4 * 2);
    }
}

/// The number of the layout that a blob was written with.
pub fn layout_of(blob: &[u8]) -> Result<i64, Undecodable> {
    let mut rest = blob;
    i64::try_from(varint(&mut rest)?).map_err(|_| Undecodable)
}

/// Reads a record, and its copy number, back. `row` is the content beside which it was written, if it was.
pub fn decode(
    blob: &[u8],
    layout: &KnownLayout,
    position: Position,
    row: Option<&Content>,
) -> Result<(RawRecord, u32), Undecodable> {
    let mut rest = blob;
    varint(&mut rest)?;
    let copy = u32::try_from(varint(&mut rest)?).map_err(|_| Undecodable)?;
    let values = usize::try_from(varint(&mut rest)?).map_err(|_| Undecodable)?;
    let (tags, tail) = rest.split_at_checked(values.div_ceil(4)).ok_or(Undecodable)?;
    rest = tail;
    let extra: Map<String, Value> =
        row.and_then(|row| serde_json::from_str(row.text(TextColumn::Extra)).ok()).unwrap_or_default();
    let mut raw = Values::default();
    for column in 0..values {
        match tags[column / 4] >> (column % 4 * 2) & 3 {
            BLANK => raw.push(""),
            HELD => {
                let row = row.ok_or(Undecodable)?;
                match layout.places.columns.get(column) {
                    Some(Place::Column(home)) => raw.push(row.text(*home)),
                    Some(Place::Extra(name)) => {
                        raw.push(extra.get(name).and_then(Value::as_str).ok_or(Undecodable)?);
                    }
                    _ => return Err(Undecodable),
                }
            }
            HERE => {
                let length = usize::try_from(varint(&mut rest)?).map_err(|_| Undecodable)?;
                let (value, tail) = rest.split_at_checked(length).ok_or(Undecodable)?;
                raw.push(std::str::from_utf8(value).map_err(|_| Undecodable)?);
                rest = tail;
            }
            _ => return Err(Undecodable),
        }
    }
    let raw = RawRecord::new(layout.layout.clone(), position, &raw);
    if rest.is_empty() { Ok((raw, copy)) } else { Err(Undecodable) }
}

/// The members of a flat object of strings, those that need no escape; none for any other object: its values are
/// written here and not left to the row.
fn plain_members(extra: &str) -> Vec<(&str, &str)> {
    let mut members = Vec::with_capacity(16);
    let Some(mut rest) = extra.strip_prefix('{') else { return members };
    while let Some((name, tail)) = json_string(rest) {
        let Some((value, tail)) = tail.strip_prefix(':').and_then(json_string) else { break };
        if !name.contains('\\') && !value.contains('\\') {
            members.push((name, value));
        }
        match tail.strip_prefix(',') {
            Some(tail) => rest = tail,
            None if tail == "}" => return members,
            None => break,
        }
    }
    Vec::new()
}

/// The text between the quotes, escapes and all, and what follows.
fn json_string(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('"')?;
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', text.as_bytes().get(from..)?)?;
        if text.as_bytes()[at] == b'"' {
            return Some((&text[..at], &text[at + 1..]));
        }
        from = at + 2;
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

fn varint(rest: &mut &[u8]) -> Result<u64, Undecodable> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (first, tail) = rest.split_first().ok_or(Undecodable)?;
        *rest = tail;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Undecodable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_only_where_plain() {
        let members = plain_members(r#"{"a":"x","b\"":"y","c":"q\"z","d":"äö"}"#);
        assert_eq!(members, [("a", "x"), ("d", "äö")]);
        assert_eq!(plain_members(""), []);
        assert_eq!(plain_members(r#"{"a":"x","b":1}"#), []);
        assert_eq!(plain_members(r#"{"a":"unended"#), []);
        assert_eq!(plain_members(r#"{"a":"\"#), []);
    }

    #[test]
    fn numbers_of_any_size_survive() -> Result<(), Undecodable> {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), 1 << 62] {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            let mut rest = out.as_slice();
            assert_eq!(varint(&mut rest)?, number);
            assert!(rest.is_empty());
        }
        Ok(())
    }

    #[test]
    fn a_place_survives_its_word() {
        for place in
            [Place::Column(TextColumn::CallerName), Place::Extra("last.app".to_owned()), Place::Nowhere]
        {
            assert_eq!(Place::from_word(&place.word()), place);
        }
    }
}
