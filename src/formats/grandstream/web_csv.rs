//! CSV of the web interface (download, filtered download, e-mail): any columns the user picked, names by firmware.
//!
//! Must never map a column by its place: users pick columns and firmware renames them. "Call Time" is a length of time.

use super::{BRACKETED, CONTEXTS, DIRECTIONS, DISPOSITIONS, FAMILIES, LINKS, SYSTEM, VOICEMAIL};
use crate::formats::dates::{Survey, epoch_of, is_time};
use crate::formats::syntax::delimited::{Delimited, Piece};
use crate::formats::syntax::{Fields, encoding};
use crate::formats::{Claim, Format, Head, MAY_BE_CUT, Row, RowReader, Verdict, may_be_cut};
use crate::record::card::{Card, Evidence, Told, is_named, normal_header};
use crate::record::delivery::printable;
use crate::record::document::{Dialect, Layout, LayoutUnusable, RowKind};
use crate::record::field::Field;
use crate::record::outcome::{Reason, Skip, VERBATIM_CAP};
use crate::record::raw::{Position, RawRecord, Values};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{Read, Result};
use std::sync::Arc;

/// The format.
pub struct WebCsv;

static CARD: Card = Card {
    id: "grandstream-web-csv",
    system: SYSTEM,
    title: "Grandstream UCM, CSV of the web interface",
    version: 1,
    evidence: Evidence::Seen,
    versions: &[],
    notes: &[],
    outcome: Told::Word,
    fidelity: 60,
    headers: &[
        ("cdr", Field::RowKind),
        ("acctid", Field::RecordId),
        ("accountcode", Field::AccountCode),
        ("callernumber", Field::CallerNumber),
        ("callfrom", Field::CallerNumber),
        ("calleenumber", Field::CalleeNumber),
        ("callto", Field::CalleeNumber),
        ("context", Field::Context),
        ("callerid", Field::CallerId),
        ("sourcechannel", Field::Channel),
        ("destchannel", Field::DstChannel),
        ("lastapp", Field::LastApp),
        ("lastdata", Field::LastData),
        ("starttime", Field::Start),
        ("answertime", Field::Answer),
        ("endtime", Field::End),
        ("calltime", Field::Duration),
        ("talktime", Field::Talk),
        ("disposition", Field::Disposition),
        ("callstatus", Field::Disposition),
        ("status", Field::Disposition),
        ("uniqueid", Field::UniqueId),
        ("calltype", Field::CallType),
        ("userfield", Field::CallType),
        ("loguserfield", Field::CallType),
        ("destchannelextension", Field::DstChannelExtension),
        ("dstchannelext", Field::DstChannelExtension),
        ("callername", Field::CallerName),
        ("answeredby", Field::AnsweredBy),
        ("session", Field::LinkedId),
        ("actiontype", Field::ActionType),
        ("sourcetrunkname", Field::TrunkIn),
        ("destinationtrunkname", Field::TrunkOut),
        ("desttrunkname", Field::TrunkOut),
    ],
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

/// Names that other systems' exports do not use; one of them must be there where columns are unknown.
const DISTINCTIVE: [&str; 11] = [
    "callernat",
    "calleenat",
    "premiercaller",
    "destchannelextension",
    "callstatus",
    "actiontype",
    "sourcetrunkname",
    "destinationtrunkname",
    "sourcechannel",
    "destchannel",
    "lastapp",
];
/// Names one of which every header has.
fn telling() -> impl Iterator<Item = &'static str> {
    ["callernumber", "callfrom"].into_iter().chain(DISTINCTIVE)
}

/// Names that are known but map to nothing.
const UNMAPPED: [&str; 4] = ["callernat", "calleenat", "amaflags", "premiercaller"];
/// Lines among which the header must be; the first 15 may be titles.
const HEADER_WITHIN: u64 = 16;
/// Rows that are looked at for the legs of a summary.
const LOOK_AHEAD: usize = 1000;

impl Format for WebCsv {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn recognise(&self, head: &Head<'_>) -> Verdict {
        let encoding = encoding::detect(head.bytes);
        let found = [',', ';', '\t'].into_iter().find_map(|separator| {
            let dialect = Dialect { encoding, separator: Some(separator), ..Dialect::default() };
            Found::in_head(head, dialect)
        });
        let Some(found) = found else {
            return Verdict::refused(
                "none of the first 16 lines names Caller Number, Callee Number and Start Time or enough else of a UCM export",
            );
        };
        if let Some(missing) = found.missing {
            let message = format!(
                "{missing}; pick Caller Number, Callee Number and Start Time too (CDR > Filter > Export File Data) and export again"
            );
            return Verdict::Undecided { reason: Reason::ColumnsUnusable, message };
        }
        if found.rows > 0 && found.survey.times() == 0 {
            return Verdict::refused("the header fits, but no Start Time below it is a time");
        }
        let date_order = match found.survey.order() {
            Ok(order) => order,
            Err(message) => return Verdict::Undecided { reason: Reason::DateOrderUnknown, message },
        };
        let generation = format!("generation {}", found.generation);
        let why = format!("header names {}: {generation}", found.names);
        let minute = found.survey.minute();
        let dialect = Dialect { date_order, minute, generation, ..found.dialect };
        Verdict::Claimed(Claim { certainty: found.certainty, why, dialect })
    }

    fn open<'a>(&self, dialect: &Dialect, input: Box<dyn Read + 'a>) -> Box<dyn RowReader + 'a> {
        Box::new(Reader::new(input, dialect))
    }
}

/// What the head of a document shows, read with one separator.
struct Found {
    dialect: Dialect,
    names: String,
    generation: char,
    certainty: u8,
    missing: Option<LayoutUnusable>,
    rows: usize,
    survey: Survey,
}

impl Found {
    fn in_head(head: &Head<'_>, dialect: Dialect) -> Option<Self> {
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
        let header = reader.header?;
        let known: Vec<&String> = header.names.iter().filter(|name| is_known(&normal_header(name))).collect();
        let names: Vec<String> = known.iter().take(6).map(|name| printable(name.as_bytes())).collect();
        let more = if known.len() > names.len() { ", ..." } else { "" };
        Some(Self {
            dialect,
            names: names.join(", ") + more,
            generation: header.generation(),
            // More known columns make a chance resemblance less likely.
            certainty: u8::try_from(known.len().min(13) * 5 + 30).unwrap_or(95),
            missing: header.layouts.err(),
            rows,
            survey,
        })
    }
}

fn is_known(normal: &str) -> bool {
    UNMAPPED.contains(&normal) || CARD.headers.iter().any(|(name, _)| *name == normal)
}

struct Header {
    names: Vec<String>,
    /// With the blank ones at the end.
    width: usize,
    /// Of rows that are legs and of summaries.
    layouts: std::result::Result<[Arc<Layout>; 2], LayoutUnusable>,
    start: Option<usize>,
    kind: Option<usize>,
}

impl Header {
    /// The header, if these fields are one.
    fn of(fields: &Fields<'_>, dialect: &Dialect) -> Option<Self> {
        // One look tells most rows: a header has several of these.
        if !fields.iter().any(|name| telling().any(|telling| is_named(&name, telling))) {
            return None;
        }
        let mut names: Vec<String> = fields.iter().map(Cow::into_owned).collect();
        let width = names.len();
        // Spreadsheets end every line with separators when one row was longer.
        while names.last().is_some_and(|name| name.trim().is_empty()) {
            names.pop();
        }
        let normal: Vec<String> = names.iter().map(|name| normal_header(name)).collect();
        let known = normal.iter().filter(|name| is_known(name)).count();
        let distinctive = normal.iter().filter(|name| DISTINCTIVE.contains(&name.as_str())).count();
        let has = |any: [&str; 2]| normal.iter().any(|name| any.contains(&name.as_str()));
        let matched =
            has(["callernumber", "callfrom"]) && has(["calleenumber", "callto"]) && has(["starttime"; 2]);
        let ours =
            if matched { known == normal.len() || distinctive > 0 } else { distinctive >= 3 && known >= 6 };
        if !ours {
            return None;
        }
        let layout = |kind| Layout::new(&CARD, kind, names.iter().cloned(), dialect.clone()).map(Arc::new);
        let layouts = layout(RowKind::Leg).and_then(|leg| Ok([leg, layout(RowKind::Summary)?]));
        let place = |field| normal.iter().position(|name| CARD.field_of(name) == Some(field));
        let (start, kind) = (place(Field::Start), place(Field::RowKind));
        Some(Self { names, width, layouts, start, kind })
    }

    fn generation(&self) -> char {
        let has = |any: &[&str]| self.names.iter().any(|name| any.contains(&normal_header(name).as_str()));
        if has(&["cdr"]) {
            'D'
        } else if has(&["callstatus", "calltype", "callernat", "calleenat"]) {
            'C'
        } else if has(&["callfrom", "callto"]) {
            'A'
        } else {
            'B'
        }
    }

    /// Whether a row has the columns of the header. Blank ones more only where the header has as many, and times and
    /// lengths in their place: a comma too many in front of a blank last column would look the same.
    fn fits(&self, fields: &Fields<'_>) -> bool {
        let columns = self.names.len();
        let padded = || {
            fields.len() == self.width
                && (columns..fields.len()).all(|place| fields.get(place).trim().is_empty())
                && self.layouts.as_ref().map_or(true, |[layout, _]| is_in_place(fields, layout))
        };
        fields.len() == columns || padded()
    }

    fn whole(&self, fields: &Fields<'_>) -> bool {
        self.fits(fields) && self.start.is_none_or(|start| is_time(&fields.get(start)))
    }

    fn repeated(&self, fields: &Fields<'_>) -> bool {
        self.fits(fields)
            && self
                .names
                .iter()
                .zip(fields.iter())
                .all(|(name, field)| normal_header(name) == normal_header(&field))
    }

    fn is_summary(&self, fields: &Fields<'_>) -> bool {
        self.kind.is_some_and(|place| fields.get(place).trim().to_ascii_lowercase().starts_with("main_cdr"))
    }
}

fn is_in_place(fields: &Fields<'_>, layout: &Layout) -> bool {
    layout.columns.iter().enumerate().all(|(place, column)| {
        let value = fields.get(place);
        let value = value.trim();
        let fits = match column.field {
            Some(Field::Start | Field::Answer | Field::End) => {
                is_time(value) || value.starts_with("0000-00-00")
            }
            Some(Field::Duration | Field::Talk) => {
                value.starts_with(|c: char| c.is_ascii_digit()) && !is_time(value)
            }
            _ => true,
        };
        fits || value.is_empty()
    })
}

struct Reader<'a> {
    rows: Delimited<'a>,
    dialect: Dialect,
    header: Option<Header>,
    row: u64,
    ended: bool,
    /// Rows read ahead, with their bytes.
    ahead: VecDeque<(Row, Vec<u8>)>,
    /// Bytes of the row last returned, where reading ahead has gone past it.
    kept: Option<Vec<u8>>,
}

impl<'a> Reader<'a> {
    fn new(input: Box<dyn Read + 'a>, dialect: &Dialect) -> Self {
        Self {
            rows: Delimited::new(input, dialect.encoding, dialect.separator.unwrap_or(',')),
            dialect: dialect.clone(),
            header: None,
            row: 0,
            ended: false,
            ahead: VecDeque::new(),
            kept: None,
        }
    }

    /// The next row by itself, whatever follows it.
    fn single(&mut self) -> Result<Option<Row>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let (header, dialect) = (&self.header, &self.dialect);
            let whole = |fields: &Fields<'_>| match header {
                Some(header) => header.whole(fields),
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
                (Piece::Record, None) if self.row < HEADER_WITHIN => {
                    Row::Skipped { position, why: Skip::Title }
                }
                (Piece::Record, None) => {
                    self.ended = true;
                    let message = "none of the first 16 lines is the header that names the columns; nothing from here on was read, export again with header";
                    Row::fault(position, Reason::ColumnsUnusable, message, self.rows.verbatim())
                }
            }));
        }
    }

    fn record(&self, header: &Header, position: Position) -> Row {
        let fields = self.rows.fields();
        if !header.fits(&fields) {
            let (found, wanted) = (fields.len(), header.names.len());
            let message =
                format!("{found} fields, the header names {wanted}; correct the row and send it again");
            return Row::fault(position, Reason::ColumnsMismatch, message, self.rows.verbatim());
        }
        // A call begins with a time; comparing all names for every row would cost more than reading it.
        let maybe_header =
            header.start.is_none_or(|start| !fields.get(start).starts_with(|c: char| c.is_ascii_digit()));
        if maybe_header && header.repeated(&fields) {
            return Row::Skipped { position, why: Skip::RepeatedHeader };
        }
        let [leg, summary] = match &header.layouts {
            Ok(layouts) => layouts,
            Err(unusable) => {
                let message = format!("{unusable}; pick these columns too and export again");
                return Row::fault(position, Reason::ColumnsUnusable, message, self.rows.verbatim());
            }
        };
        let layout = if header.is_summary(&fields) { summary } else { leg };
        if may_be_cut(&self.rows, layout, layout.columns.len()) {
            return Row::fault(position, Reason::ColumnsMismatch, MAY_BE_CUT, self.rows.verbatim());
        }
        let mut values = Values::default();
        fields.write(header.names.len(), &mut values);
        Row::Record(RawRecord::new(Arc::clone(layout), position, &values))
    }

    /// Whether one of the rows directly behind a summary is a leg of its session.
    fn leg_follows(&mut self, session: &str) -> Result<bool> {
        for place in 0..LOOK_AHEAD {
            if place == self.ahead.len() {
                let Some(row) = self.single()? else { return Ok(false) };
                let bytes = self.rows.verbatim();
                self.ahead.push_back((row, bytes[..bytes.len().min(VERBATIM_CAP)].to_vec()));
            }
            match &self.ahead[place].0 {
                Row::Record(next) if next.get(Field::LinkedId).trim() != session => return Ok(false),
                Row::Record(next) if next.layout.kind == RowKind::Leg => return Ok(true),
                // Without sessions only the order tells: a summary directly behind begins another call.
                Row::Record(_) if session.is_empty() => return Ok(false),
                Row::Record(_) | Row::Skipped { .. } | Row::Fault(_) => {}
            }
        }
        Ok(false)
    }
}

impl RowReader for Reader<'_> {
    fn next_row(&mut self) -> Result<Option<Row>> {
        let row = if let Some((row, bytes)) = self.ahead.pop_front() {
            self.kept = Some(bytes);
            row
        } else {
            self.kept = None;
            let Some(row) = self.single()? else { return Ok(None) };
            row
        };
        let Row::Record(record) = &row else { return Ok(Some(row)) };
        if record.layout.kind != RowKind::Summary {
            return Ok(Some(row));
        }
        if self.kept.is_none() {
            self.kept = Some(self.rows.verbatim().to_vec());
        }
        let session = record.get(Field::LinkedId).trim().to_owned();
        if self.leg_follows(&session)? {
            return Ok(Some(Row::Skipped { position: record.position, why: Skip::Summary }));
        }
        Ok(Some(row))
    }

    fn verbatim(&self) -> &[u8] {
        self.kept.as_deref().unwrap_or_else(|| self.rows.verbatim())
    }
}
