//! What the columns of a document are to a stanza, found once, and how each row fills a record.

use super::{Mapped, MappingConfig, NamesConfig, SkipConfig, TestConfig};
use crate::record::card::normal_header;
use crate::record::document::{Dialect, Layout, LayoutUnusable, RowKind};
use crate::record::field::Field;
use crate::record::outcome::Reason;
use crate::record::raw::{Position, RawRecord, Values};
use std::borrow::Cow;
use std::sync::Arc;

/// Header of a column that is made of several.
pub(super) fn joined(parts: &[String]) -> String {
    parts.join(" + ")
}

/// Header of a column that the stanza fills itself. No vendor's header of the same name may take its field.
pub(super) fn constant(field: Field) -> String {
    format!("constant {}", field.name())
}

/// Where the value of a layout's column comes from.
#[derive(Debug)]
enum Piece {
    Source(usize),
    Joined(Vec<usize>),
    Constant(&'static str),
    /// A member that the object leaves out.
    Blank,
}

/// Why a row without any text to match is no leg.
const NOTHING_TELLS: &str = "all columns under match are blank, so that nothing tells this call from others; if such rows \
                             are no calls, name them under skip in the [[format]]";
/// Why a row that is no event is none.
const NO_EVENT: &str = "its event (row_kind) is none of those under events in the [[format]]; add the word there in the \
                        order in which events happen, or name such rows under skip if they say nothing about a call";

/// The columns of a document.
pub(super) struct Shape {
    pub layout: Arc<Layout>,
    pieces: Vec<Piece>,
    /// Source columns without which nothing tells a row from another.
    matched: Vec<usize>,
    skips: Vec<(usize, &'static SkipConfig)>,
    /// Source column of the start, the first where it is joined.
    pub start: Option<usize>,
}

impl Shape {
    /// For these headers or members; of a document without header its number of columns says the rest. With `optional`
    /// a mapped column that is not there counts as blank.
    pub(super) fn new(
        format: Mapped,
        headers: &[String],
        dialect: &Dialect,
        optional: bool,
    ) -> Result<Self, LayoutUnusable> {
        let config = format.config;
        let keys: Vec<String> = headers.iter().map(|header| normal_header(header)).collect();
        let find = |name: &str| {
            let key = normal_header(name);
            keys.iter().position(|known| *known == key)
        };
        let (mut names, mut pieces): (Vec<String>, Vec<Piece>) = (Vec::new(), Vec::new());
        for (place, header) in headers.iter().enumerate() {
            let of_join = config.columns.iter().find_map(|column| match &column.names {
                NamesConfig::Joined(parts) => {
                    let places: Option<Vec<usize>> = parts.iter().map(|part| find(part)).collect();
                    places.filter(|places| places.contains(&place)).map(|places| (column.field, places))
                }
                NamesConfig::Any(_) => None,
            });
            match of_join {
                Some((_, places)) if places[0] != place => {}
                Some((field, places)) => {
                    let parts: Vec<String> = places.iter().map(|part| headers[*part].clone()).collect();
                    names.push(if config.is_numbered() { field.name().to_owned() } else { joined(&parts) });
                    pieces.push(Piece::Joined(places));
                }
                None => {
                    names.push(if config.is_numbered() { numbered(config, header) } else { header.clone() });
                    pieces.push(Piece::Source(place));
                }
            }
        }
        let sources = |field: Field| -> Vec<usize> {
            let column = config.columns.iter().find(|column| column.field == field);
            match column.map(|column| &column.names) {
                Some(NamesConfig::Any(any)) => any.iter().filter_map(|name| find(name)).take(1).collect(),
                Some(NamesConfig::Joined(parts)) => parts.iter().filter_map(|part| find(part)).collect(),
                None => Vec::new(),
            }
        };
        if optional {
            for column in config.columns.iter().filter(|column| sources(column.field).is_empty()) {
                let name = match &column.names {
                    NamesConfig::Any(any) => any.first().cloned().unwrap_or_default(),
                    NamesConfig::Joined(parts) => joined(parts),
                };
                names.push(name);
                pieces.push(Piece::Blank);
            }
        }
        for (field, text) in &config.constants {
            names.push(constant(*field));
            pieces.push(Piece::Constant(text));
        }
        let layout = Arc::new(Layout::new(format.card, RowKind::Leg, names, dialect.clone())?);
        let of_rule = |rule: &'static SkipConfig| {
            let place = match &rule.column {
                None => Some(0),
                Some(name) => match Field::by_name(name) {
                    Some(field) => sources(field).first().copied().or_else(|| find(name)),
                    None => find(name),
                },
            };
            Some((place?, rule))
        };
        let skips = config.skip.iter().filter_map(of_rule).collect();
        let matched = config.identity.matched.iter().flat_map(|field| sources(*field)).collect();
        let start = sources(Field::Start).first().copied();
        Ok(Self { layout, pieces, matched, skips, start })
    }

    /// Whether the stanza says that a row with these values is no call. `count` values were written.
    pub(super) fn skips<'v>(&self, count: usize, value: impl Fn(usize) -> Cow<'v, str>) -> bool {
        self.skips.iter().any(|(place, rule)| {
            *place < count && {
                let text = value(*place);
                let text = text.trim();
                match &rule.test {
                    TestConfig::Equals(words) => words.iter().any(|word| is_same(word, text)),
                    TestConfig::Matches(pattern) => pattern.matches(text),
                    TestConfig::Blank => text.is_empty(),
                    TestConfig::Begins(starts) => starts.iter().any(|start| text.starts_with(start.as_str())),
                }
            }
        })
    }

    /// The record of a row, or why it is none.
    pub(super) fn record<'v>(
        &self,
        position: Position,
        value: impl Fn(usize) -> Cow<'v, str>,
    ) -> Result<RawRecord, (Reason, &'static str)> {
        let told_apart = |place: &usize| !value(*place).trim().is_empty();
        if !self.matched.iter().any(told_apart) {
            return Err((Reason::RowEmpty, NOTHING_TELLS));
        }
        let record = self.filled(position, value);
        let family = &record.layout.family;
        if !family.events.is_empty() && family.event_rank(record.get(Field::RowKind)) == 0 {
            return Err((Reason::EventUnknown, NO_EVENT));
        }
        Ok(record)
    }

    fn filled<'v>(&self, position: Position, value: impl Fn(usize) -> Cow<'v, str>) -> RawRecord {
        let mut values = Values::default();
        for piece in &self.pieces {
            match piece {
                Piece::Source(place) => values.push(value(*place).trim_matches(' ')),
                Piece::Constant(constant) => values.push(constant),
                Piece::Blank => values.push(""),
                Piece::Joined(places) => values.write(|text| {
                    let start = text.len();
                    for place in places {
                        let part = value(*place);
                        let part = part.trim();
                        if text.len() > start && !part.is_empty() {
                            text.push(' ');
                        }
                        text.push_str(part);
                    }
                }),
            }
        }
        RawRecord::new(Arc::clone(&self.layout), position, &values)
    }
}

/// Headers that stand for the columns of a document without header: their numbers.
pub(super) fn numbers(count: usize) -> Vec<String> {
    (1..=count).map(|number| number.to_string()).collect()
}

/// How a layout calls the column of this number: by its field, because a number means nothing to a reader.
fn numbered(config: &MappingConfig, number: &str) -> String {
    let mapped = config.columns.iter().find(
        |column| matches!(&column.names, NamesConfig::Any(any) if any.iter().any(|name| name == number)),
    );
    mapped.map_or_else(|| format!("column {number}"), |column| column.field.name().to_owned())
}

fn is_same(word: &str, text: &str) -> bool {
    word.eq_ignore_ascii_case(text) || (!text.is_ascii() && word.to_lowercase() == text.to_lowercase())
}

/// How many of the stanza's columns these headers or members name, and the first identity field that they lack.
pub(super) fn coverage(config: &MappingConfig, has: impl Fn(&str) -> bool) -> (usize, Option<Field>) {
    let covered = |names: &NamesConfig| match names {
        NamesConfig::Any(any) => any.iter().any(|name| has(&normal_header(name))),
        NamesConfig::Joined(parts) => parts.iter().all(|part| has(&normal_header(part))),
    };
    let found = config.columns.iter().filter(|column| covered(&column.names)).count();
    let needed = config.columns.iter().find(|column| {
        let field = column.field;
        (field == Field::Start || config.identity.matched.contains(&field)) && !covered(&column.names)
    });
    (found, needed.map(|column| column.field))
}
