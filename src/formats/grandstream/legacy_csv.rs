//! CSV of the API (`/cdrapi?format=csv`): rows may have more fields than the header, because `lastdata` is not quoted.
//!
//! Must never let a comma in `lastdata` or in a caller's name shift the columns behind it.

use super::{API_HEADERS, BRACKETED, CONTEXTS, DIRECTIONS, DISPOSITIONS, FAMILIES, LINKS, SYSTEM, VOICEMAIL};
use crate::formats::dates::{Survey, epoch_of, is_time};
use crate::formats::syntax::delimited::{Delimited, Piece};
use crate::formats::syntax::{Fields, encoding};
use crate::formats::{Claim, Format, Head, MAY_BE_CUT, Row, RowReader, Verdict, may_be_cut};
use crate::record::card::{Card, Evidence, Told, is_named, normal_header};
use crate::record::document::{Column, Dialect, Layout, RowKind};
use crate::record::field::Field;
use crate::record::outcome::{Reason, Skip};
use crate::record::raw::{RawRecord, Values};
use std::borrow::Cow;
use std::io::{Read, Result};
use std::sync::Arc;

/// The format.
pub struct LegacyCsv;

static CARD: Card = Card {
    id: "grandstream-legacy-csv",
    system: SYSTEM,
    title: "Grandstream UCM, CSV of the CDR API",
    version: 1,
    evidence: Evidence::Documented,
    versions: &[],
    notes: &[],
    outcome: Told::Word,
    fidelity: 70,
    headers: API_HEADERS,
    families: FAMILIES,
    links: LINKS,
    dispositions: DISPOSITIONS,
    directions: DIRECTIONS,
    contexts: CONTEXTS,
    voicemail: VOICEMAIL,
    bracketed: BRACKETED,
    recording_separator: '@',
    epoch_in: Some(Field::UniqueId),
};

/// Columns without which the surplus of a row cannot be given to `clid` and `lastdata`.
const NEEDED: [&str; 7] = ["acctid", "src", "dst", "clid", "lastdata", "start", "disposition"];

impl Format for LegacyCsv {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn recognise(&self, head: &Head<'_>) -> Verdict {
        let encoding = encoding::detect(head.bytes);
        let mut reader = Reader::new(Box::new(head.bytes), &Dialect { encoding, ..Dialect::default() });
        let mut survey = Survey::default();
        while let Ok(Some(row)) = reader.next_row() {
            if let Row::Record(record) = row {
                survey.add(record.get(Field::Start), epoch_of(record.get(Field::UniqueId)));
            }
        }
        let Some(header) = reader.header else {
            return Verdict::refused("the first line is no header with AcctId, src, dst, lastdata and start");
        };
        let date_order = match survey.order() {
            Ok(order) => order,
            Err(message) => return Verdict::Undecided { reason: Reason::DateOrderUnknown, message },
        };
        let generation = format!("{} columns", header.columns);
        let why = format!("header names AcctId, src, dst, lastdata, start: {generation}");
        let separator = Some(',');
        let minute = survey.minute();
        let dialect = Dialect { encoding, separator, date_order, minute, generation, ..Dialect::default() };
        Verdict::Claimed(Claim { certainty: 95, why, dialect })
    }

    fn open<'a>(&self, dialect: &Dialect, input: Box<dyn Read + 'a>) -> Box<dyn RowReader + 'a> {
        Box::new(Reader::new(input, dialect))
    }
}

struct Header {
    names: Vec<String>,
    layout: Arc<Layout>,
    columns: usize,
    clid: usize,
    lastdata: usize,
}

struct Reader<'a> {
    rows: Delimited<'a>,
    dialect: Dialect,
    header: Option<Header>,
    row: u64,
    ended: bool,
}

impl<'a> Reader<'a> {
    fn new(input: Box<dyn Read + 'a>, dialect: &Dialect) -> Self {
        let rows = Delimited::new(input, dialect.encoding, ',');
        Self { rows, dialect: dialect.clone(), header: None, row: 0, ended: false }
    }

    fn record(&mut self) -> Row {
        let position = self.rows.position(self.row);
        let Some(header) = &self.header else {
            self.ended = true;
            let message = "the header that names the columns is missing; nothing behind it was read, send the whole answer";
            return Row::fault(position, Reason::ColumnsUnusable, message, self.rows.verbatim());
        };
        let fields = self.rows.fields();
        if header.repeated(&fields) {
            return Row::Skipped { position, why: Skip::RepeatedHeader };
        }
        match header.align(&fields) {
            Some(_) if may_be_cut(&self.rows, &header.layout, header.layout.columns.len()) => {
                Row::fault(position, Reason::ColumnsMismatch, MAY_BE_CUT, self.rows.verbatim())
            }
            Some(aligned) => {
                let mut values = Values::default();
                (0..header.columns).for_each(|column| values.push(&aligned.value(header, &fields, column)));
                Row::Record(RawRecord::new(Arc::clone(&header.layout), position, &values))
            }
            None => Row::fault(
                position,
                Reason::ColumnsMismatch,
                format!(
                    "{} fields do not fit the {} columns of the header; correct the row and send it again",
                    fields.len(),
                    header.columns
                ),
                self.rows.verbatim(),
            ),
        }
    }
}

impl RowReader for Reader<'_> {
    fn next_row(&mut self) -> Result<Option<Row>> {
        if self.ended {
            return Ok(None);
        }
        let header = &self.header;
        let dialect = &self.dialect;
        let whole = |fields: &Fields<'_>| match header {
            Some(header) => header.align(fields).is_some(),
            None => Header::of(fields, dialect).is_some(),
        };
        let Some(mut piece) = self.rows.read(&whole)? else { return Ok(None) };
        if piece == Piece::Record && self.header.is_none() {
            self.header = Header::of(&self.rows.fields(), &self.dialect);
            if let Some(header) = &self.header {
                let whole = |fields: &Fields<'_>| header.align(fields).is_some();
                match self.rows.read(&whole)? {
                    Some(next) => piece = next,
                    None => return Ok(None),
                }
            }
        }
        self.row += 1;
        let position = self.rows.position(self.row);
        Ok(Some(match piece {
            Piece::Record => self.record(),
            Piece::Blank => Row::Skipped { position, why: Skip::Blank },
            Piece::Fault(reason) => Row::fault(position, reason, Piece::advice(reason), self.rows.verbatim()),
        }))
    }

    fn verbatim(&self) -> &[u8] {
        self.rows.verbatim()
    }
}

impl Header {
    fn of(fields: &Fields<'_>, dialect: &Dialect) -> Option<Self> {
        if !NEEDED.iter().all(|needed| fields.iter().any(|name| is_named(&name, needed))) {
            return None;
        }
        let names: Vec<String> = fields.iter().map(Cow::into_owned).collect();
        let normal: Vec<String> = names.iter().map(|name| normal_header(name)).collect();
        let place = |name: &str| normal.iter().position(|normal| normal == name);
        let (clid, lastdata, start) = (place("clid")?, place("lastdata")?, place("start")?);
        if clid > lastdata || lastdata > start {
            return None;
        }
        let layout = Layout::new(&CARD, RowKind::Leg, names.iter().cloned(), dialect.clone()).ok()?;
        Some(Self { columns: names.len(), names, layout: Arc::new(layout), clid, lastdata })
    }

    fn repeated(&self, fields: &Fields<'_>) -> bool {
        fields.len() == self.columns
            && self.names.iter().zip(fields.iter()).all(|(name, field)| *name == field)
    }

    /// How the fields of a row belong to the columns. The surplus is `lastdata`'s, but for what belongs to a `clid` with
    /// a bare comma.
    fn align(&self, fields: &Fields<'_>) -> Option<Aligned> {
        let surplus = fields.len().checked_sub(self.columns)?;
        let clid = if fields.get(self.clid).is_empty() || fields.get(self.clid).ends_with('>') {
            0
        } else {
            (1..=surplus).find(|more| fields.get(self.clid + more).ends_with('>')).unwrap_or(0)
        };
        // A line may end in a comma of its own.
        let trailing = usize::from(fields.get(fields.len() - 1).is_empty());
        (0..=trailing)
            .filter(|trailing| surplus >= clid + trailing)
            .map(|trailing| Aligned { clid, lastdata: surplus - clid - trailing })
            .find(|aligned| self.is_in_place(fields, *aligned))
    }

    /// Whether channels, times, lengths and outcome stand where they should: a comma too many anywhere would be taken for
    /// one of `lastdata`, one too few for a shorter `lastdata`.
    fn is_in_place(&self, fields: &Fields<'_>, aligned: Aligned) -> bool {
        let first = self.lastdata + aligned.clid;
        // `lastdata` does not end in the start of the call.
        let swallowed = aligned.lastdata > 0 && is_time(&fields.get(first + aligned.lastdata));
        !swallowed
            && self.layout.columns.iter().enumerate().all(|(column, Column { field, .. })| {
                let value = aligned.value(self, fields, column);
                let value = value.trim();
                let fits = match field {
                    Some(Field::Channel | Field::DstChannel) => value.contains('/'),
                    Some(Field::CallerId) => value.find('"').is_none_or(|quote| quote == 0),
                    Some(Field::LastApp) => value.chars().all(|c| c.is_alphanumeric() || c == '_'),
                    Some(Field::UniqueId) => epoch_of(value).is_some(),
                    Some(Field::Start | Field::Answer | Field::End) => {
                        is_time(value) || value.starts_with("0000-00-00")
                    }
                    Some(Field::Duration | Field::Talk) => value.parse::<f64>().is_ok(),
                    Some(Field::Disposition | Field::CallType) => {
                        value.chars().all(|c| c.is_alphabetic() || c == ' ')
                    }
                    _ => true,
                };
                fits || value.is_empty()
            })
    }
}

/// How many fields more than one `clid` and `lastdata` have.
#[derive(Clone, Copy)]
struct Aligned {
    clid: usize,
    lastdata: usize,
}

impl Aligned {
    fn value<'r>(self, header: &Header, fields: &Fields<'r>, column: usize) -> Cow<'r, str> {
        let shift = |behind: usize, by: usize| if column > behind { by } else { 0 };
        let first = column + shift(header.clid, self.clid) + shift(header.lastdata, self.lastdata);
        let last = match column {
            _ if column == header.clid => first + self.clid,
            _ if column == header.lastdata => first + self.lastdata,
            _ => first,
        };
        fields.joined(first, last)
    }
}
