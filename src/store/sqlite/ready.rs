//! Rows made ready for the table on the thread of whoever hands them over: everything about a row that needs no
//! database. The one thread that writes is what a load waits for; what it need not do, others do.
//!
//! Must end in the values that `insert` alone would bind.

use super::calls;
use super::columns::{self, Stamps};
use super::database::{Database, Fault};
use super::raw::Value;
use super::stated::{self, Places};
use crate::dedup::{self, Identified};
use crate::record::document::{Layout, RowKind};
use crate::store::ChunkRow;
use std::sync::Arc;

/// The rows of a chunk.
#[derive(Debug, Default)]
pub struct Ready {
    text: String,
    stated: Vec<u8>,
    bound: Vec<(u8, Bound)>,
    layouts: Vec<(Arc<Layout>, Places)>,
    rows: Vec<Option<Spans>>,
}

/// What a column of content is bound to; a text lies in [`Ready::text`].
#[derive(Debug, Clone, Copy)]
enum Bound {
    Int(i64),
    Real(f64),
    Text(Span),
}

type Span = (u32, u32);

/// Where the parts of a row lie.
#[derive(Debug)]
struct Spans {
    bound: Span,
    call: Span,
    stated: Span,
    layout: u32,
}

/// A row that is alone in its call as far as it says itself, so that it can be stored together with others.
#[derive(Debug, Clone, Copy)]
pub struct ReadyRow<'r> {
    of: &'r Ready,
    spans: &'r Spans,
}

impl Ready {
    /// Makes the legs among these rows ready. Rows that must be stored one by one are left out: summaries, and those
    /// that link two calls.
    pub fn make(rows: &[ChunkRow]) -> Self {
        let mut ready = Self { rows: Vec::with_capacity(rows.len()), ..Self::default() };
        ready.text.reserve(rows.len() * 256);
        ready.bound.reserve(rows.len() * 32);
        for row in rows {
            let spans = match row {
                ChunkRow::Leg(row) => ready.add(row),
                ChunkRow::Skipped(_) | ChunkRow::Rejected(_) => None,
            };
            ready.rows.push(spans);
        }
        ready
    }

    fn add(&mut self, row: &Identified) -> Option<Spans> {
        let (raw, cdr) = (&row.leg.raw, &row.leg.cdr);
        if raw.layout.kind == RowKind::Summary {
            return None;
        }
        let links = dedup::links(raw.layout.card, cdr);
        let name = links.first().map(|(_, value)| *value);
        if name.is_some_and(|name| links.iter().any(|(_, value)| *value != name)) {
            return None;
        }
        let call = match name {
            Some(name) => self.append(name),
            None => self.append(&calls::own_name(&links, &row.key)),
        };
        let layout = self.layout(&raw.layout);
        let from = self.stated.len();
        self.stated.resize(from + stated::NUMBER, 0);
        stated::append_beside(&self.layouts[layout].1, row.copy, raw, cdr, &mut self.stated);
        let first = self.bound.len();
        let stamps = Stamps::of(cdr);
        for (place, value) in (0..).zip(columns::content(cdr, &stamps)) {
            let bound = match value {
                Value::Null | Value::Blob(_) => continue,
                Value::Int(number) => Bound::Int(number),
                Value::Real(number) => Bound::Real(number),
                Value::Text(text) => Bound::Text(self.append(text)),
            };
            self.bound.push((place, bound));
        }
        Some(Spans {
            bound: (narrow(first), narrow(self.bound.len())),
            call,
            stated: (narrow(from), narrow(self.stated.len())),
            layout: narrow(layout),
        })
    }

    fn append(&mut self, text: &str) -> Span {
        let from = narrow(self.text.len());
        self.text.push_str(text);
        (from, narrow(self.text.len()))
    }

    fn layout(&mut self, layout: &Arc<Layout>) -> usize {
        let known = self.layouts.iter().position(|(known, _)| Arc::ptr_eq(known, layout));
        known.unwrap_or_else(|| {
            self.layouts.push((layout.clone(), Places::of(layout)));
            self.layouts.len() - 1
        })
    }

    /// Writes the numbers of the layouts, which only the database knows, before the statements.
    pub fn number(&mut self, db: &mut Database<'_>) -> Result<(), Fault> {
        let mut numbers = Vec::with_capacity(self.layouts.len());
        for (layout, _) in &self.layouts {
            numbers.push(stated::number(db.layout(layout)?.id));
        }
        for spans in self.rows.iter_mut().flatten() {
            let number = &numbers[spans.layout as usize];
            let from = spans.stated.0 as usize + stated::NUMBER - number.len();
            self.stated[from..from + number.len()].copy_from_slice(number);
            spans.stated.0 = narrow(from);
        }
        Ok(())
    }

    /// A row by its place in the chunk; `None` where it must be stored alone.
    pub fn row(&self, place: usize) -> Option<ReadyRow<'_>> {
        let spans = self.rows.get(place)?.as_ref()?;
        Some(ReadyRow { of: self, spans })
    }
}

impl<'r> ReadyRow<'r> {
    /// The name of its call.
    pub fn call(&self) -> &'r str {
        self.of.slice(self.spans.call)
    }

    /// What is kept of it beside its columns.
    pub fn stated(&self) -> &'r [u8] {
        let (from, to) = self.spans.stated;
        &self.of.stated[from as usize..to as usize]
    }

    /// Its content, NULL left out: place among the columns of content, from 0, and value.
    pub fn content(&self) -> impl Iterator<Item = (usize, Value<'r>)> + use<'r> {
        let (of, (from, to)) = (self.of, self.spans.bound);
        of.bound[from as usize..to as usize].iter().map(move |(place, bound)| {
            let value = match *bound {
                Bound::Int(number) => Value::Int(number),
                Bound::Real(number) => Value::Real(number),
                Bound::Text(span) => Value::Text(of.slice(span)),
            };
            (usize::from(*place), value)
        })
    }
}

impl Ready {
    fn slice(&self, span: Span) -> &str {
        self.text.get(span.0 as usize..span.1 as usize).unwrap_or_default()
    }
}

/// A chunk holds a few hundred rows of at most 1 MiB.
fn narrow(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
