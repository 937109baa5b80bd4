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

/// One row as written. All values lie in one buffer, so that a record costs two allocations.
#[derive(Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// Place in the document.
    pub position: Position,
    /// Which columns it has and what they mean.
    pub layout: Arc<Layout>,
    text: String,
    ends: Vec<u32>,
}

impl RawRecord {
    /// An empty record; push one value per column of the layout.
    pub fn new(layout: Arc<Layout>, position: Position) -> Self {
        let columns = layout.columns.len();
        let room = usize::try_from(position.length).unwrap_or(0).min(4096);
        Self { position, layout, text: String::with_capacity(room), ends: Vec::with_capacity(columns) }
    }

    /// Appends the next column's value. A record is capped at 1 MiB by the readers, so that offsets fit.
    pub fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    /// A record with these values.
    pub fn from_values<'v>(
        layout: Arc<Layout>,
        position: Position,
        values: impl IntoIterator<Item = &'v str>,
    ) -> Self {
        let mut record = Self::new(layout, position);
        for value in values {
            record.push(value);
        }
        record
    }

    /// The value of a column by its place; empty when the row is shorter.
    pub fn value(&self, column: usize) -> &str {
        let Some(end) = self.ends.get(column) else { return "" };
        let start = if column == 0 { 0 } else { self.ends[column - 1] };
        self.text.get(start as usize..*end as usize).unwrap_or_default()
    }

    /// How many values were pushed.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no value was pushed.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The value of a canonical field; empty when blank or when the layout lacks it.
    pub fn get(&self, field: Field) -> &str {
        self.layout.column_of(field).map_or("", |column| self.value(column))
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

impl std::fmt::Debug for RawRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.columns().map(|(header, _, value)| (header, value))).finish()
    }
}
