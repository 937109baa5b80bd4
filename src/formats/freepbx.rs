//! FreePBX's report of calls (CDR Reports, download as CSV), old and new header. The calls are Asterisk's, and so is
//! their identity: the same leg from `Master.csv` is the same row.
//!
//! Must never take a row whose columns may be shifted: the report writes caller ids with their quotes as they are, so that
//! a comma in a name looks like the end of a field.

use super::asterisk::{AMA_WORDS, CONTEXTS, DISPOSITIONS, FAMILIES, LINKS};
use super::dates::{Survey, epoch_of, is_time};
use super::syntax::delimited::{Delimited, Piece};
use super::syntax::{Fields, encoding};
use super::{Claim, Format, Head, MAY_BE_CUT, Row, RowReader, Verdict, may_be_cut};
use crate::record::card::{Card, Evidence, Told, is_named, normal_header};
use crate::record::document::{Dialect, Layout, LayoutUnusable, RowKind};
use crate::record::field::Field;
use crate::record::outcome::{Reason, Skip};
use crate::record::raw::{Position, RawRecord, Values};
use std::borrow::Cow;
use std::io::{Read, Result};
use std::sync::Arc;

/// The format.
pub struct ReportCsv;

static CARD: Card = Card {
    id: "freepbx-report-csv",
    system: "asterisk",
    title: "FreePBX, CSV of CDR Reports",
    version: 1,
    evidence: Evidence::Seen,
    versions: &[],
    notes: &[],
    outcome: Told::Word,
    fidelity: 70,
    headers: &[
        ("calldate", Field::Start),
        ("clid", Field::CallerId),
        ("src", Field::CallerNumber),
        ("dst", Field::CalleeNumber),
        ("dcontext", Field::Context),
        ("channel", Field::Channel),
        ("dstchannel", Field::DstChannel),
        ("lastapp", Field::LastApp),
        ("lastdata", Field::LastData),
        ("duration", Field::Duration),
        ("billsec", Field::Talk),
        ("disposition", Field::Disposition),
        ("accountcode", Field::AccountCode),
        ("uniqueid", Field::UniqueId),
        ("did", Field::Did),
        ("cnam", Field::CallerName),
        ("dstcnam", Field::CalleeName),
        ("recordingfile", Field::Recordings),
        ("linkedid", Field::LinkedId),
        ("sequence", Field::RecordId),
    ],
    families: FAMILIES,
    links: LINKS,
    dispositions: DISPOSITIONS,
    directions: &[],
    contexts: CONTEXTS,
    voicemail: &[(Field::LastApp, "VOICEMAIL")],
    bracketed: &[],
    recording_separator: ',',
    epoch_in: Some(Field::UniqueId),
};

/// Columns of the report that map to nothing; with the mapped ones all that it ever had.
const UNMAPPED: [&str; 6] = ["amaflags", "userfield", "cnum", "outboundcnum", "outboundcnam", "peeraccount"];
/// Without these it is another table of calls.
const NEEDED: [&str; 6] = ["calldate", "src", "dst", "duration", "billsec", "disposition"];

/// The header of a document.
struct Header {
    names: Vec<String>,
    normal: Vec<String>,
    layout: std::result::Result<Arc<Layout>, LayoutUnusable>,
}

impl Header {
    fn of(fields: &Fields<'_>, dialect: &Dialect) -> Option<Self> {
        if !NEEDED.iter().all(|needed| fields.iter().any(|name| is_named(&name, needed))) {
            return None;
        }
        let names: Vec<String> = fields.iter().map(Cow::into_owned).collect();
        let normal: Vec<String> = names.iter().map(|name| normal_header(name)).collect();
        let known = |name: &String| UNMAPPED.contains(&name.as_str()) || CARD.field_of(name).is_some();
        // Bicom and others lead with further columns of their own.
        if !normal.iter().all(known) {
            return None;
        }
        let layout = Layout::new(&CARD, RowKind::Leg, names.iter().cloned(), dialect.clone()).map(Arc::new);
        Some(Self { names, normal, layout })
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.normal.iter().position(|known| known == name)
    }

    fn repeated(&self, fields: &Fields<'_>) -> bool {
        fields.len() == self.names.len()
            && self.normal.iter().zip(fields.iter()).all(|(name, field)| is_named(&field, name))
    }

    /// Which fields of a row make each column: as many fields as columns, or a few more that a caller id holds because its
    /// name has commas. Arguments with commas are enclosed in quotes, so that nothing else may hold more.
    fn align(&self, fields: &Fields<'_>) -> Option<Aligned> {
        let surplus = fields.len().checked_sub(self.names.len())?;
        let column = if surplus == 0 { 0 } else { self.place("clid")? };
        let aligned = Aligned { column, surplus };
        self.fits(fields, aligned).then_some(aligned)
    }

    /// Whether times, lengths, words, channels and ids stand in their columns.
    fn fits(&self, fields: &Fields<'_>, aligned: Aligned) -> bool {
        self.normal.iter().enumerate().all(|(column, name)| {
            let text = aligned.text(fields, column);
            let text = text.trim();
            let blank = text.is_empty();
            let digits = || text.bytes().all(|byte| byte.is_ascii_digit());
            match name.as_str() {
                // Where a comma is too many it may stand in here, too: only a whole `YYYY-MM-DD HH:MM:SS` is none.
                "calldate" => is_time(text) && (aligned.surplus == 0 || text.len() == 19),
                "duration" | "billsec" => !blank && digits(),
                "sequence" => digits(),
                "disposition" => {
                    let upper = text.to_ascii_uppercase();
                    DISPOSITIONS.iter().any(|(word, _)| *word == upper)
                }
                "amaflags" => blank || AMA_WORDS.contains(&text.to_ascii_uppercase().as_str()),
                // Every channel is named TECHNOLOGY/resource.
                "channel" => text.contains('/'),
                "dstchannel" => blank || text.contains('/'),
                "lastapp" => text.chars().all(|c| c.is_alphanumeric() || c == '_'),
                "uniqueid" | "linkedid" => blank || epoch_of(text).is_some(),
                "clid" => is_caller_id(text, aligned.surplus > 0),
                // No application, no arguments.
                "lastdata" => {
                    let application = self.place("lastapp").map(|place| aligned.text(fields, place));
                    blank || application.is_none_or(|application| !application.trim().is_empty())
                }
                "src" | "dst" | "did" | "accountcode" | "dcontext" => !text.contains(['"', '<', '>']),
                _ => true,
            }
        })
    }
}

/// Where the fields of a row stand that has more of them than columns.
#[derive(Debug, Clone, Copy)]
struct Aligned {
    /// The column that holds the surplus.
    column: usize,
    surplus: usize,
}

impl Aligned {
    fn text<'f>(self, fields: &Fields<'f>, column: usize) -> Cow<'f, str> {
        match column.cmp(&self.column) {
            _ if self.surplus == 0 => fields.get(column),
            std::cmp::Ordering::Less => fields.get(column),
            std::cmp::Ordering::Equal => fields.joined(column, column + self.surplus),
            std::cmp::Ordering::Greater => fields.get(column + self.surplus),
        }
    }
}

/// `"Name" <number>`, or a bare text where no comma is in question, and nothing behind it that belongs to the next column.
fn is_caller_id(text: &str, has_commas: bool) -> bool {
    let text = bare_caller_id(text);
    let bracketed = text.matches('<').count() == 1 && text.ends_with('>');
    let torn = has_commas && text.contains('"') && !text.starts_with('"');
    (bracketed && !torn) || !(has_commas || text.contains(['<', '>', '"']))
}

/// Without the quotes that the report puts around a caller id with a comma, leaving those inside as they are.
fn bare_caller_id(text: &str) -> &str {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.filter(|inner| inner.ends_with('>')).unwrap_or(text)
}

impl Format for ReportCsv {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn recognise(&self, head: &Head<'_>) -> Verdict {
        let encoding = encoding::detect(head.bytes);
        let found = [',', ';', '\t'].into_iter().find_map(|separator| {
            let dialect = Dialect { encoding, separator: Some(separator), ..Dialect::default() };
            let mut reader = Reader::new(Box::new(head.bytes), &dialect);
            let (mut rows, mut survey) = (0, Survey::default());
            while let Ok(Some(row)) = reader.next_row() {
                match row {
                    Row::Record(record) => {
                        rows += 1;
                        survey.add(record.get(Field::Start), epoch_of(record.get(Field::UniqueId)));
                    }
                    Row::Fault(_) if reader.header.is_some() => rows += 1,
                    Row::Fault(_) | Row::Skipped { .. } => {}
                }
            }
            reader.header.map(|header| (dialect, header, rows, survey))
        });
        let Some((dialect, header, rows, survey)) = found else {
            return Verdict::refused(
                "the first line is no header with calldate, src, dst, duration, billsec and disposition",
            );
        };
        if let Err(missing) = &header.layout {
            let message = format!(
                "{missing}; download the report with all its columns (uniqueid, channel, dstchannel)"
            );
            return Verdict::Undecided { reason: Reason::ColumnsUnusable, message };
        }
        if rows > 0 && survey.times() == 0 {
            return Verdict::refused("the header fits, but no calldate below it is a time");
        }
        let date_order = match survey.order() {
            Ok(order) => order,
            Err(message) => return Verdict::Undecided { reason: Reason::DateOrderUnknown, message },
        };
        let generation = format!("{} columns", header.names.len());
        let why = format!("header names calldate, src, dst, billsec, disposition: {generation}");
        let dialect = Dialect { date_order, minute: survey.minute(), generation, ..dialect };
        Verdict::Claimed(Claim { certainty: 90, why, dialect })
    }

    fn open<'a>(&self, dialect: &Dialect, input: Box<dyn Read + 'a>) -> Box<dyn RowReader + 'a> {
        Box::new(Reader::new(input, dialect))
    }
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
        let rows = Delimited::new(input, dialect.encoding, dialect.separator.unwrap_or(','));
        Self { rows, dialect: dialect.clone(), header: None, row: 0, ended: false }
    }

    fn record(&self, header: &Header, position: Position) -> Row {
        let fields = self.rows.fields();
        if header.repeated(&fields) {
            return Row::Skipped { position, why: Skip::RepeatedHeader };
        }
        let fault = |reason, message: String| Row::fault(position, reason, message, self.rows.verbatim());
        let layout = match &header.layout {
            Ok(layout) => layout,
            Err(unusable) => {
                return fault(Reason::ColumnsUnusable, format!("{unusable}; download all columns"));
            }
        };
        let Some(aligned) = header.align(&fields) else {
            let message = format!(
                "{} fields for {} columns, or a value that cannot be one of its column: a comma or quote is not enclosed as the \
                 report encloses it, correct the row and send it again",
                fields.len(),
                header.names.len()
            );
            return fault(Reason::ColumnsMismatch, message);
        };
        if may_be_cut(&self.rows, layout, layout.columns.len()) {
            return fault(Reason::ColumnsMismatch, MAY_BE_CUT.to_owned());
        }
        let mut values = Values::default();
        let clid = header.place("clid");
        for column in 0..header.names.len() {
            let text = aligned.text(&fields, column);
            values.push(if Some(column) == clid { bare_caller_id(&text) } else { &text });
        }
        Row::Record(RawRecord::new(Arc::clone(layout), position, &values))
    }
}

impl RowReader for Reader<'_> {
    fn next_row(&mut self) -> Result<Option<Row>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let (header, dialect) = (&self.header, &self.dialect);
            let whole = |fields: &Fields<'_>| match header {
                Some(header) => header.align(fields).is_some(),
                None => Header::of(fields, dialect).is_some(),
            };
            let Some(piece) = self.rows.read(&whole)? else { return Ok(None) };
            if piece == Piece::Record && self.header.is_none() {
                self.header = Header::of(&self.rows.fields(), &self.dialect);
                if self.header.is_some() {
                    continue;
                }
            }
            self.row += 1;
            let position = self.rows.position(self.row);
            return Ok(Some(match (piece, &self.header) {
                (Piece::Blank, _) => Row::Skipped { position, why: Skip::Blank },
                (Piece::Record, Some(header)) => self.record(header, position),
                (Piece::Fault(reason), _) => {
                    Row::fault(position, reason, Piece::advice(reason), self.rows.verbatim())
                }
                (Piece::Record, None) => {
                    self.ended = true;
                    let message = "the header that names the columns is missing; nothing behind it was read, send the whole report";
                    Row::fault(position, Reason::ColumnsUnusable, message, self.rows.verbatim())
                }
            }));
        }
    }

    fn verbatim(&self) -> &[u8] {
        self.rows.verbatim()
    }
}
