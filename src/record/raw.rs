//! A row as written: canonical fields and unmapped columns as text, plus its exact place in the document.

use super::document::Layout;
use super::field::Field;
use std::sync::Arc;

/// Where a row stands in its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Row number, from 1; the header that names the columns is no row.
    pub row: u64,
    /// Offset of the row's first byte in the document's unpacked bytes, before decoding.
    pub offset: u64,
    /// Length of the row in those bytes, without its line end.
    pub length: u64,
}

/// A stretch of a text in bytes; equal ends where there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Where it begins.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
}

impl Span {
    /// A record is capped at 1 MiB by the readers, so that places in it fit.
    #[inline]
    pub fn new(start: usize, end: usize) -> Self {
        let narrow = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        Self { start: narrow(start), end: narrow(end) }
    }

    /// What stands there; nothing where it ends behind the text.
    #[inline]
    pub fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// The values of a record while it is read. Kept from record to record, it needs no room of its own for each.
#[derive(Debug, Clone, Default)]
pub struct Values {
    text: String,
    spans: Vec<Span>,
}

impl Values {
    /// None, as at the beginning.
    pub fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
    }

    /// Appends the next column's value.
    pub fn push(&mut self, value: &str) {
        self.write(|text| text.push_str(value));
    }

    /// Appends what `write` writes as the next column's value.
    pub fn write(&mut self, write: impl FnOnce(&mut String)) {
        let start = self.text.len();
        write(&mut self.text);
        self.spans.push(Span::new(start, self.text.len()));
    }

    /// Takes a row as it is, for [`Self::lend`]; gives where it begins. No value yet.
    pub fn take(&mut self, row: &str) -> usize {
        let start = self.text.len();
        self.text.push_str(row);
        start
    }

    /// A stretch of what was taken is the next column's value.
    #[inline]
    pub fn lend(&mut self, start: usize, end: usize) {
        self.spans.push(Span::new(start, end));
    }
}

/// One row as written. Its text is shared with the columns of its leg, which point into it.
#[derive(Clone)]
pub struct RawRecord {
    /// Place in the document.
    pub position: Position,
    /// Which columns it has and what they mean.
    pub layout: Arc<Layout>,
    text: Arc<str>,
    spans: Box<[Span]>,
}

impl RawRecord {
    /// A record with one value per column of the layout.
    pub fn new(layout: Arc<Layout>, position: Position, values: &Values) -> Self {
        Self { position, layout, text: Arc::from(values.text.as_str()), spans: Box::from(&values.spans[..]) }
    }

    /// A record with these values.
    pub fn from_values<'v>(
        layout: Arc<Layout>,
        position: Position,
        values: impl IntoIterator<Item = &'v str>,
    ) -> Self {
        let mut all = Values::default();
        values.into_iter().for_each(|value| all.push(value));
        Self::new(layout, position, &all)
    }

    /// The value of a column by its place; empty when the row is shorter.
    #[inline]
    pub fn value(&self, column: usize) -> &str {
        self.span(column).of(&self.text)
    }

    /// Where in its text the record has the value of a column.
    #[inline]
    pub fn span(&self, column: usize) -> Span {
        self.spans.get(column).copied().unwrap_or_default()
    }

    /// The text that holds all values, for who keeps places in it.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether it has no value.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The value of a canonical field; empty when blank or when the layout lacks it.
    #[inline]
    pub fn get(&self, field: Field) -> &str {
        self.layout.column_of(field).map_or("", |column| self.value(column))
    }

    /// The same without blanks around it.
    #[inline]
    pub fn trimmed(&self, field: Field) -> &str {
        trimmed(self.get(field))
    }

    /// Each column's source header, canonical field and value.
    pub fn columns(&self) -> impl Iterator<Item = (&str, Option<Field>, &str)> {
        self.layout
            .columns
            .iter()
            .enumerate()
            .map(|(place, column)| (column.header.as_str(), column.field, self.value(place)))
    }
}

/// As `trim`, but quick where nothing is to be trimmed, as nearly always.
#[inline]
pub fn trimmed(text: &str) -> &str {
    match text.as_bytes() {
        [] | [b'!'..=b'~'] | [b'!'..=b'~', .., b'!'..=b'~'] => text,
        _ => text.trim(),
    }
}

/// Equal when every value is equal, wherever in the text it stands.
impl PartialEq for RawRecord {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position
            && self.layout == other.layout
            && self.len() == other.len()
            && (0..self.len()).all(|column| self.value(column) == other.value(column))
    }
}

impl Eq for RawRecord {}

impl std::fmt::Debug for RawRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.columns().map(|(header, _, value)| (header, value))).finish()
    }
}
