//! Key, copy number and version hash of a record. Must never depend on a zone, on arrival or on configuration: rows
//! exist under these keys for years.

use super::carried;
use super::ordinals::Ordinals;
use crate::record::card::Match;
use crate::record::cdr::Leg;
use crate::record::port::Scratch;
use std::collections::HashMap;

/// The key of a group of legs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Days since 1970-01-01; leads the unique index, so that it grows at its end.
    pub day: i32,
    /// BLAKE3-16 of the origin's key, the family and the match fields in canonical text.
    pub identity: [u8; 16],
}

/// A leg with its key, ready to be committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Identified {
    /// The normalised leg.
    pub leg: Leg,
    /// Key of its group.
    pub key: Key,
    /// Ordinal among rows of its document with equal group and core; 0 where an id or a channel tells rows apart.
    pub copy: u32,
    /// BLAKE3-16 of layout, copy and every column as written under its source header.
    pub version_hash: [u8; 16],
}

/// Identifies the records of one document, in document order (copies are counted).
pub struct Identifier {
    origin_key: String,
    copies: Ordinals,
    /// Counts since they were last taken, where they must outlive this process.
    counted: Option<HashMap<[u8; 16], u32>>,
}

impl Identifier {
    /// For a document of the origin with this key. Without `scratch` memory grows with the rows that no id tells apart.
    pub fn new(origin_key: &str, scratch: Option<Box<dyn Scratch>>) -> Self {
        Self { origin_key: origin_key.to_owned(), copies: Ordinals::new(scratch), counted: None }
    }

    /// Counts on from what a stream had at its beginning. Fails only with the temporary file.
    pub fn seed(&mut self, seen: impl IntoIterator<Item = ([u8; 16], u32)>) -> std::io::Result<()> {
        seen.into_iter().try_for_each(|(row, count)| self.copies.add(row, count).map(|_| ()))
    }

    /// For a stream that is read on: rows were seen this often before. Fails only with the temporary file.
    pub fn going_on(
        origin_key: &str,
        scratch: Option<Box<dyn Scratch>>,
        seen: impl IntoIterator<Item = ([u8; 16], u32)>,
    ) -> std::io::Result<Self> {
        let mut identifier = Self { counted: Some(HashMap::new()), ..Self::new(origin_key, scratch) };
        identifier.seed(seen)?;
        Ok(identifier)
    }

    /// How often each row that was identified since the last call has been seen in the stream; to be stored with them.
    pub fn take_counted(&mut self) -> Vec<([u8; 16], u32)> {
        self.counted.as_mut().map(|counted| counted.drain().collect()).unwrap_or_default()
    }

    /// Identifies the next record of the document. Fails only with the temporary file.
    pub fn identify(&mut self, leg: Leg) -> std::io::Result<Identified> {
        let key = key_of(&leg, &self.origin_key);
        let copy = if carried::alone(&leg) {
            0
        } else {
            let row = first_16(&[key.identity, leg.raw.layout.hash, carried::core(&leg)].concat());
            let copy = self.copies.next(row)?;
            if let Some(counted) = &mut self.counted {
                counted.insert(row, copy.saturating_add(1));
            }
            copy
        };
        Ok(Identified { key, copy, version_hash: version_hash(&leg, copy), leg })
    }

    /// Identifies a stored version again, whose copy number is known.
    pub fn identify_again(origin_key: &str, leg: Leg, copy: u32) -> Identified {
        Identified { key: key_of(&leg, origin_key), copy, version_hash: version_hash(&leg, copy), leg }
    }
}

/// First 16 bytes of a BLAKE3 hash: collisions cannot be chosen by a sender, and 2^64 legs would be needed by chance.
pub(super) fn first_16(bytes: &[u8]) -> [u8; 16] {
    let mut short = [0; 16];
    // At once: a hasher that can be fed is two kilobytes to set up.
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    short
}

fn key_of(leg: &Leg, origin_key: &str) -> Key {
    let family = leg.raw.layout.family;
    let mut text = String::with_capacity(192);
    text.push_str(origin_key);
    text.push('\0');
    text.push_str(family.name);
    for rule in family.matched {
        text.push('\0');
        match rule {
            Match::Text(field) => carried::push_text(leg.raw.get(*field).trim(), &mut text),
            Match::Time(field) => carried::push_time(leg, *field, &mut text),
            Match::TimeModuloQuarter(field) => match (leg.id_epoch_s, carried::local_time(leg, *field)) {
                (Some(_), Some(local)) => {
                    carried::push_two(local.minute() % 15, &mut text);
                    text.push(':');
                    carried::push_two(local.second(), &mut text);
                }
                _ => carried::push_time(leg, *field, &mut text),
            },
        }
    }
    Key { day: key_day(leg), identity: first_16(text.as_bytes()) }
}

/// The day of the epoch inside a matched id, else of the matched wall clock.
fn key_day(leg: &Leg) -> i32 {
    let layout = &leg.raw.layout;
    let id_is_matched =
        layout.card.epoch_in.is_some_and(|field| layout.family.matched.contains(&Match::Text(field)));
    if let Some(epoch) = leg.id_epoch_s.filter(|_| id_is_matched) {
        return i32::try_from(epoch.div_euclid(86_400)).unwrap_or(0);
    }
    let wall_clock = layout.family.matched.iter().any(|rule| !matches!(rule, Match::Text(_)));
    if wall_clock { day_number(leg.start_local.date()) } else { 0 }
}

fn day_number(date: jiff::civil::Date) -> i32 {
    let epoch = jiff::civil::date(1970, 1, 1);
    date.since(epoch).map_or(0, |span| span.get_days())
}

fn version_hash(leg: &Leg, copy: u32) -> [u8; 16] {
    let layout = &leg.raw.layout;
    let mut buffer = Vec::with_capacity(1024);
    buffer.extend_from_slice(&layout.hash);
    buffer.extend_from_slice(&copy.to_le_bytes());
    for place in &layout.by_header {
        let value = leg.raw.value(*place).as_bytes();
        buffer.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
        buffer.extend_from_slice(value);
    }
    first_16(&buffer)
}
