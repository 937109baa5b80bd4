//! A parsable thing inside a delivery, the dialect it is written in and the layout of its rows.

use super::card::{Card, Family, Match};
use super::cdr::TextColumn;
use super::extra;
use super::field::Field;
use serde::{Deserialize, Serialize};

/// Character encoding of a document, fixed once from its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// UTF-8, with or without BOM. A field that is no UTF-8 is read as Windows-1252 (PBXes write raw bytes into caller
    /// names of otherwise clean files), so that the same row reads the same in every file.
    #[default]
    Utf8,
    /// UTF-16, little endian.
    Utf16Le,
    /// UTF-16, big endian.
    Utf16Be,
    /// Windows-1252 (and with it ISO-8859-1 and ASCII).
    Windows1252,
}

/// Order of day, month and year in dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DateOrder {
    /// `YYYY-MM-DD` or `YYYY/MM/DD`.
    #[default]
    YearFirst,
    /// `DD/MM/YYYY` (also with `.` or `-`, also two-digit years).
    DayFirst,
    /// `MM/DD/YYYY`.
    MonthFirst,
}

/// Whose clock the times of a document show.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZoneRule {
    /// Wall clock of the origin, or of the source's own `time_zone`.
    #[default]
    Origin,
    /// UTC, because the format says so.
    Utc,
    /// The zone that the stanza of a format named by a person says, as it is when the row is derived.
    Format,
    /// The IANA zone that a person named for this delivery; kept with the rows, so that they can be derived again.
    Named(String),
}

/// What a number in a column of lengths counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LengthUnit {
    /// Seconds; with colons `MM:SS` or `H:MM:SS`.
    #[default]
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Minutes.
    Minutes,
    /// `H:MM:SS` or `MM:SS`, never a bare number.
    Clock,
    /// `H:MM`.
    HoursMinutes,
}

impl LengthUnit {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_seconds(&self) -> bool {
        *self == Self::Seconds
    }
}

/// How one document writes its values. Fixed before the first row is read and stored with the document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Dialect {
    /// Encoding.
    pub encoding: Encoding,
    /// Field separator of a delimited document.
    pub separator: Option<char>,
    /// Order of dates.
    pub date_order: DateOrder,
    /// Starts are written to the minute only.
    pub minute: bool,
    /// Whose clock.
    pub zone: ZoneRule,
    /// Layouts of times that a person named, tried in this order: `epoch`, `epoch-ms` or `strptime` directives. None:
    /// as PBXes write them, in `date_order`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<String>,
    /// What a number in a column of lengths counts.
    #[serde(default, skip_serializing_if = "LengthUnit::is_seconds")]
    pub lengths: LengthUnit,
    /// Version of the layout in the format's own words ("generation C", "18 columns").
    pub generation: String,
}

/// What a row of a layout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowKind {
    /// A leg.
    #[default]
    Leg,
    /// A summary of a call, kept only where its call has no leg (Grandstream `main_cdr`).
    Summary,
}

/// One column of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Header or key exactly as written; for files without header the vendor's name of the column.
    pub header: String,
    /// What it means, when the format maps it.
    pub field: Option<Field>,
    /// The column of table `cdr` that keeps its text as written.
    pub home: Option<TextColumn>,
    /// The beginning of its member of `extra`: name and colon, as JSON.
    pub member: Box<str>,
    /// Whether nothing but `extra` has its text, so that it is always there.
    pub in_extra: bool,
}

impl Column {
    fn new(header: String, field: Option<Field>) -> Self {
        let extra_name = field.and_then(Field::extra_name);
        let mut member = String::new();
        extra::quoted(extra_name.unwrap_or(&header), &mut member);
        member.push(':');
        let in_extra = extra_name.is_some() || field.is_none();
        Self { header, field, home: field.and_then(Field::home), member: member.into_boxed_str(), in_extra }
    }
}

/// Format, columns present and row kind: what two rows must share to be compared copy by copy.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The format's card.
    pub card: &'static Card,
    /// The identity lists that apply: the first family of the card whose match fields are all present.
    pub family: &'static Family,
    /// Row kind.
    pub kind: RowKind,
    /// Columns in document order.
    pub columns: Vec<Column>,
    /// How values are written.
    pub dialect: Dialect,
    /// BLAKE3-16 of format, row kind and the sorted headers; dialect and column order are no part of it.
    pub hash: [u8; 16],
    /// Places of the columns in the order of their sorted headers, for hashing values.
    pub by_header: Vec<usize>,
    /// Places of the columns that a column of the table keeps as written, and which.
    pub homes: Vec<(usize, TextColumn)>,
    by_field: [Option<u16>; Field::COUNT],
}

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.dialect == other.dialect && self.columns == other.columns
    }
}

impl Eq for Layout {}

/// The columns of a document cannot be used: a field that identity needs is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the columns lack {missing:?}, which {format} needs to tell legs apart")]
pub struct LayoutUnusable {
    /// The format.
    pub format: &'static str,
    /// Match fields that the most tolerant family misses.
    pub missing: Vec<Field>,
}

impl Layout {
    /// Maps headers through the card and picks the family.
    ///
    /// A header that appears twice keeps its field the first time only, and later ones get `#2`, `#3`: hashes and
    /// `extra` need distinct names.
    pub fn new(
        card: &'static Card,
        kind: RowKind,
        headers: impl IntoIterator<Item = String>,
        dialect: Dialect,
    ) -> Result<Self, LayoutUnusable> {
        let mut columns: Vec<Column> = Vec::new();
        let mut by_field = [None; Field::COUNT];
        for (place, header) in headers.into_iter().enumerate() {
            let field = card.field_of(&header).filter(|field| by_field[*field as usize].is_none());
            if let Some(field) = field {
                by_field[field as usize] = u16::try_from(place).ok();
            }
            columns.push(Column::new(distinct(header, &columns), field));
        }
        let present = |field: Field| by_field[field as usize].is_some();
        let lacking = |family: &Family| -> Vec<Field> {
            family.matched.iter().map(Match::field).filter(|field| !present(*field)).collect()
        };
        let Some(family) =
            card.families.iter().find(|family| family.minute == dialect.minute && lacking(family).is_empty())
        else {
            let missing = card.families.last().map(lacking).unwrap_or_default();
            return Err(LayoutUnusable { format: card.id, missing });
        };
        let mut by_header: Vec<usize> = (0..columns.len()).collect();
        by_header.sort_by(|a, b| columns[*a].header.cmp(&columns[*b].header));
        let mut hasher = blake3::Hasher::new();
        hasher.update(card.id.as_bytes()).update(&[0, kind as u8]);
        for place in &by_header {
            hasher.update(columns[*place].header.as_bytes()).update(&[0]);
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        let homes =
            columns.iter().enumerate().filter_map(|(place, column)| Some((place, column.home?))).collect();
        Ok(Self { card, family, kind, columns, dialect, hash, by_header, homes, by_field })
    }

    /// What identity is made of here, in words: the lists of the family with the headers behind them. Rows that are
    /// stored under one text must never be read under another.
    pub fn identity(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("family {}", self.family.name);
        let mut say = |what: &str, field: Field| {
            let header = self.column_of(field).map_or("", |place| self.columns[place].header.as_str());
            // Writing to a string cannot fail.
            let _ = write!(text, "; {what} {} {header:?}", field.name());
        };
        let (family, lists) = (self.family, [("exact", self.family.exact), ("near", self.family.near)]);
        for rule in family.matched {
            let kind = match rule {
                Match::Text(_) => "match",
                Match::Time(_) => "match time",
                Match::TimeModuloQuarter(_) => "match quarter",
            };
            say(kind, rule.field());
        }
        family.sure.into_iter().for_each(|field| say("sure", field));
        family.instance.into_iter().for_each(|field| say("instance", field));
        for (what, fields) in lists {
            for field in fields {
                say(what, *field);
            }
        }
        if !family.events.is_empty() {
            say("events", Field::RowKind);
            let _ = write!(text, " {}", family.events.join(" "));
        }
        text
    }

    /// The place of a canonical field, if the layout has it.
    #[inline]
    pub fn column_of(&self, field: Field) -> Option<usize> {
        self.by_field[field as usize].map(usize::from)
    }
}

fn distinct(header: String, before: &[Column]) -> String {
    if before.iter().all(|column| column.header != header) {
        return header;
    }
    let mut number = 2;
    loop {
        let candidate = format!("{header}#{number}");
        if before.iter().all(|column| column.header != candidate) {
            return candidate;
        }
        number += 1;
    }
}
