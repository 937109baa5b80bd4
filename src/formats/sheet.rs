//! Separated values as a vendor's file declares them: the names in their header or, without one, the order of their
//! columns; what must stand where, so that a shifted row is known; and which rows are no calls.
//!
//! Must never read a row whose columns may be shifted, nor take the place of what the vendor wrote: what is made of several
//! columns stands beside them.

use super::dates::Survey;
use super::syntax::delimited::{Delimited, Piece};
use super::syntax::{Fields, encoding};
use super::{Claim, Format, Head, MAY_BE_CUT, Row, RowReader, Verdict, may_be_cut};
use crate::record::card::{Card, is_named, normal_header};
use crate::record::document::{Dialect, Layout, LayoutUnusable, LengthUnit, RowKind, ZoneRule};
use crate::record::field::Field;
use crate::record::outcome::{Reason, Skip};
use crate::record::raw::{Position, RawRecord, Values};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::io::{Read, Result};
use std::sync::{Arc, OnceLock};

/// Lines among which a header must be.
const HEADER_WITHIN: u64 = 16;
/// Rows among which one must be a call: every document is shown to every format, and most are not its own.
const CALL_WITHIN: usize = 64;

/// Names of all columns that formats make of others. What is made of a column changes with it.
#[cfg(test)]
pub(super) const MADE: &[&str] = &[
    "session",
    "redirectedBy",
    "cause",
    "clearedBy",
    "origAddress",
    "destAddress",
    "outcome",
    "leg direction",
];

/// Whether a text can stand in a column.
type Check = fn(&str) -> bool;

/// What a column is that is made of others.
type Make = fn(&Cells<'_>) -> String;

/// What one vendor writes.
pub(super) struct Sheet {
    pub card: &'static Card,
    /// ASCII characters that may separate, the usual one first.
    pub separators: &'static [char],
    /// `None`: quotes are text.
    pub quote: Option<char>,
    /// Normalised names that every header has; none: there never is a header.
    pub header: &'static [&'static str],
    /// Orders of columns of rows without header, each of another width.
    pub orders: &'static [Order],
    /// Names of columns and what can stand in them.
    pub checks: &'static [(&'static str, Check)],
    /// What the format itself says of times.
    pub zone: ZoneRule,
    /// Layouts of times; none: as PBXes write them.
    pub times: &'static [&'static str],
    /// What a length counts.
    pub lengths: LengthUnit,
    /// A value without what encloses it in this format, and blank where it stands for nothing; `None`: as it is.
    pub clean: Option<fn(&str) -> &str>,
    /// Columns that are made of others.
    pub made: &'static [(&'static str, Make)],
    /// Why a row is no call.
    pub skip: fn(&Cells<'_>) -> Option<Skip>,
    /// What to do where identity lacks a column.
    pub advice: &'static str,
    /// The columns of each order, made once: every document is shown to every format.
    pub known: OnceLock<Vec<Arc<Columns>>>,
}

/// One order of columns.
pub(super) struct Order {
    /// The version of the layout in words.
    pub name: &'static str,
    /// As the vendor names them.
    pub columns: &'static [&'static str],
}

/// A row by the names of its columns.
pub(super) struct Cells<'r> {
    fields: Fields<'r>,
    names: &'r [String],
    clean: Option<fn(&str) -> &str>,
}

impl Cells<'_> {
    /// The text in the column of this normalised name, without blanks around it; nothing where there is no such column.
    pub(super) fn get(&self, name: &str) -> Cow<'_, str> {
        let Some(place) = self.names.iter().position(|known| known == name) else { return Cow::Borrowed("") };
        let clean = self.clean.unwrap_or(|text| text);
        match self.fields.get(place) {
            Cow::Borrowed(text) => Cow::Borrowed(clean(text).trim()),
            Cow::Owned(text) => Cow::Owned(clean(&text).trim().to_owned()),
        }
    }

    /// What stands in each column.
    pub(super) fn texts(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.fields.iter()
    }

    /// How many columns the row has.
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }
}

/// Every row is a call.
pub(super) fn none_skipped(_: &Cells<'_>) -> Option<Skip> {
    None
}

/// Blank or digits alone, with a sign perhaps.
pub(super) fn is_whole(text: &str) -> bool {
    text.is_empty() || text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit())
}

/// Blank, or a number of seconds or `H:MM:SS`.
pub(super) fn is_length(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'))
}

/// Blank, or a date and time of day.
pub(super) fn is_time_or_blank(text: &str) -> bool {
    text.is_empty() || super::dates::is_time(text)
}

/// `8-4-4-4-12` hexadecimal digits.
pub(super) fn is_uuid(text: &str) -> bool {
    let groups = [8, 4, 4, 4, 12];
    let hex =
        |group: &str, length| group.len() == length && group.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut parts = text.split('-');
    groups.into_iter().all(|length| parts.next().is_some_and(|part| hex(part, length)))
        && parts.next().is_none()
}

/// Columns of a document or of some of its rows, whatever its dialect.
pub(super) struct Columns {
    headers: Vec<String>,
    /// Normalised, without those that are made.
    names: Vec<String>,
    checks: Vec<(usize, Check)>,
    version: String,
}

impl Columns {
    fn new(sheet: &Sheet, headers: Vec<String>, version: String) -> Self {
        let names: Vec<String> = headers.iter().map(|header| normal_header(header)).collect();
        let place = |name: &str| names.iter().position(|known| known == name);
        let checks = sheet.checks.iter().filter_map(|(name, check)| Some((place(name)?, *check))).collect();
        Self { headers, names, checks, version }
    }

    /// The first column in which something else stands than can.
    fn misplaced(&self, sheet: &'static Sheet, fields: &Fields<'_>) -> Option<usize> {
        let clean = sheet.clean.unwrap_or(|text| text);
        let fits = |(place, check): &(usize, Check)| check(clean(&fields.get(*place)).trim());
        self.checks.iter().find(|check| !fits(check)).map(|(place, _)| *place)
    }

    fn fits(&self, sheet: &'static Sheet, fields: &Fields<'_>) -> bool {
        fields.len() == self.names.len() && self.misplaced(sheet, fields).is_none()
    }

    fn repeated(&self, fields: &Fields<'_>) -> bool {
        fields.len() == self.names.len()
            && self.names.iter().zip(fields.iter()).all(|(name, field)| is_named(&field, name))
    }
}

/// Columns as a document of one dialect has them.
struct Shape {
    columns: Arc<Columns>,
    /// Made when the first row has these columns.
    layout: OnceCell<std::result::Result<Arc<Layout>, LayoutUnusable>>,
}

impl Shape {
    fn new(columns: Arc<Columns>) -> Self {
        Self { columns, layout: OnceCell::new() }
    }

    fn layout(&self, sheet: &Sheet, dialect: &Dialect) -> &std::result::Result<Arc<Layout>, LayoutUnusable> {
        self.layout.get_or_init(|| {
            let made = sheet.made.iter().map(|(header, _)| (*header).to_owned());
            let all = self.columns.headers.iter().cloned().chain(made);
            Layout::new(sheet.card, RowKind::Leg, all, dialect.clone()).map(Arc::new)
        })
    }

    fn cells<'r>(&'r self, sheet: &'static Sheet, fields: Fields<'r>) -> Cells<'r> {
        Cells { fields, names: &self.columns.names, clean: sheet.clean }
    }
}

impl Sheet {
    fn known_columns(&self) -> &[Arc<Columns>] {
        self.known.get_or_init(|| {
            let of_order = |order: &Order| {
                let headers = order.columns.iter().map(|&name| name.to_owned()).collect();
                Arc::new(Columns::new(self, headers, order.name.to_owned()))
            };
            self.orders.iter().map(of_order).collect()
        })
    }

    fn is_header(&self, fields: &Fields<'_>) -> bool {
        // One look is enough to tell most rows.
        let counts = fields.bytes(0).first().is_some_and(u8::is_ascii_digit);
        if self.header.is_empty() || fields.len() < self.header.len() || counts {
            return false;
        }
        self.header.iter().all(|needed| fields.iter().any(|name| is_named(&name, needed)))
    }

    fn dialect(&self, encoding: crate::record::document::Encoding, separator: char) -> Dialect {
        Dialect {
            encoding,
            separator: Some(separator),
            zone: self.zone.clone(),
            times: self.times.iter().map(|&layout| layout.to_owned()).collect(),
            lengths: self.lengths,
            ..Dialect::default()
        }
    }

    /// What the head of a document shows, read with one separator.
    fn look(&'static self, head: &Head<'_>, separator: char) -> Seen {
        let dialect = self.dialect(encoding::detect(head.bytes), separator);
        let mut reader = Reader::new(self, Box::new(head.bytes), &dialect);
        let mut seen = Seen { dialect, ..Seen::default() };
        while let Ok(Some(row)) = reader.next_row() {
            if !head.complete && reader.rows.is_unended() {
                continue;
            }
            if seen.calls == 0 && seen.rows >= CALL_WITHIN {
                break;
            }
            match row {
                Row::Record(record) => {
                    seen.rows += 1;
                    seen.calls += 1;
                    seen.survey.add(record.get(Field::Start), None);
                }
                Row::Fault(fault) => {
                    seen.rows += 1;
                    seen.unusable |= fault.reason == Reason::ColumnsUnusable;
                }
                Row::Skipped { why: Skip::Recorder | Skip::Quality, .. } => {
                    seen.rows += 1;
                    seen.calls += 1;
                }
                Row::Skipped { .. } => {}
            }
        }
        seen.headed = reader.header.is_some();
        let mut used: Vec<String> =
            reader.used.iter().map(|place| reader.shapes[*place].columns.version.clone()).collect();
        if used.is_empty() {
            used.extend(reader.header.map(|place| reader.shapes[place].columns.version.clone()));
        }
        used.sort_unstable();
        used.dedup();
        seen.dialect.generation = used.join(", ");
        seen
    }

    fn recognise(&'static self, head: &Head<'_>) -> Verdict {
        let mut best: Option<Seen> = None;
        let needed = self.fewest_separators();
        for separator in self.separators {
            // Most documents are another format's: what has too few separators for one row needs no look.
            let mark = u8::try_from(*separator).unwrap_or_default();
            if memchr::memchr_iter(mark, head.bytes).count() < needed {
                continue;
            }
            // The first of those that read as much; none reads more than all.
            let seen = self.look(head, *separator);
            let all = seen.calls > 0 && seen.calls == seen.rows;
            if best.as_ref().is_none_or(|best| (seen.headed, seen.calls) > (best.headed, best.calls)) {
                best = Some(seen);
            }
            if all {
                break;
            }
        }
        let Some(mut seen) =
            best.filter(|seen| seen.headed || (seen.calls > 0 && seen.calls * 2 >= seen.rows))
        else {
            return Verdict::refused(self.refusal());
        };
        if seen.unusable && seen.calls == 0 {
            let message = format!("the header lacks what tells calls apart; {}", self.advice);
            return Verdict::Undecided { reason: Reason::ColumnsUnusable, message };
        }
        if seen.rows > 0 && seen.calls == 0 {
            return Verdict::refused("the header fits, but no row below it does");
        }
        if self.times.is_empty() {
            match seen.survey.order() {
                Ok(order) => seen.dialect.date_order = order,
                Err(message) => return Verdict::Undecided { reason: Reason::DateOrderUnknown, message },
            }
            seen.dialect.minute = seen.survey.minute();
        }
        let version = &seen.dialect.generation;
        let (certainty, why) = match (seen.headed, seen.calls == seen.rows) {
            (true, _) => (90, format!("its header names {}: {version}", self.header.join(", "))),
            (false, true) => (85, format!("all {} rows have its columns: {version}", seen.rows)),
            (false, false) => {
                (70, format!("{} of {} rows have its columns: {version}", seen.calls, seen.rows))
            }
        };
        Verdict::Claimed(Claim { certainty, why, dialect: seen.dialect })
    }

    /// How many separators a header or a row of any order has at least.
    fn fewest_separators(&self) -> usize {
        let header = Some(self.header.len()).filter(|names| *names > 0);
        let orders = self.orders.iter().map(|order| order.columns.len());
        orders.chain(header).min().unwrap_or(0).saturating_sub(1)
    }

    fn refusal(&self) -> String {
        let widths: Vec<String> = self.orders.iter().map(|order| order.columns.len().to_string()).collect();
        match (self.header, widths.as_slice()) {
            (header, []) => format!("no line of the first 16 names {}", header.join(", ")),
            ([], widths) => format!("rows do not have its {} columns", widths.join(" or ")),
            (header, widths) => format!(
                "no line of the first 16 names {}, and rows do not have its {} columns",
                header.join(", "),
                widths.join(" or ")
            ),
        }
    }
}

/// What the head of a document shows.
#[derive(Default)]
struct Seen {
    dialect: Dialect,
    headed: bool,
    rows: usize,
    calls: usize,
    unusable: bool,
    survey: Survey,
}

impl Format for &'static Sheet {
    fn card(&self) -> &'static Card {
        self.card
    }

    fn recognise(&self, head: &Head<'_>) -> Verdict {
        Sheet::recognise(self, head)
    }

    fn open<'a>(&self, dialect: &Dialect, input: Box<dyn Read + 'a>) -> Box<dyn RowReader + 'a> {
        Box::new(Reader::new(self, input, dialect))
    }
}

/// Reads the rows of one document.
struct Reader<'a> {
    sheet: &'static Sheet,
    rows: Delimited<'a>,
    dialect: Dialect,
    /// Those of rows without header, then that of the header.
    shapes: Vec<Shape>,
    header: Option<usize>,
    /// Shapes that rows had.
    used: Vec<usize>,
    row: u64,
    ended: bool,
    values: Values,
}

impl<'a> Reader<'a> {
    fn new(sheet: &'static Sheet, input: Box<dyn Read + 'a>, dialect: &Dialect) -> Self {
        let separator = dialect.separator.unwrap_or(sheet.separators[0]);
        let rows = Delimited::with_quote(input, dialect.encoding, separator, sheet.quote);
        let shapes = sheet.known_columns().iter().map(|columns| Shape::new(Arc::clone(columns))).collect();
        let dialect = dialect.clone();
        let (used, values) = (Vec::new(), Values::default());
        Self { sheet, rows, dialect, shapes, header: None, used, row: 0, ended: false, values }
    }

    /// Takes a row for the header if it is one.
    fn take_header(&mut self) -> bool {
        let fields = self.rows.fields();
        if self.header.is_some() || !self.used.is_empty() || !self.sheet.is_header(&fields) {
            return false;
        }
        let headers: Vec<String> = fields.iter().map(Cow::into_owned).collect();
        // The comma that some end every line with is no column.
        let named = headers.iter().rposition(|name| !name.trim().is_empty()).map_or(0, |last| last + 1);
        let version = format!("header of {named} columns");
        self.header = Some(self.shapes.len());
        self.shapes.push(Shape::new(Arc::new(Columns::new(self.sheet, headers, version))));
        true
    }

    /// The shape of the row last read: that of the header, or one of its width in which everything stands in its place.
    fn shape(&self, fields: &Fields<'_>) -> Option<usize> {
        self.header.or_else(|| {
            let of_width = |shape: &&Shape| shape.columns.names.len() == fields.len();
            let fitting = self
                .shapes
                .iter()
                .position(|shape| of_width(&shape) && shape.columns.fits(self.sheet, fields));
            fitting.or_else(|| self.shapes.iter().position(|shape| of_width(&shape)))
        })
    }

    fn record(&mut self, position: Position) -> Row {
        let fields = self.rows.fields();
        let fault = |reason, message: String| Row::fault(position, reason, message, self.rows.verbatim());
        let Some(place) = self.shape(&fields) else {
            let widths: Vec<String> =
                self.shapes.iter().map(|shape| shape.columns.names.len().to_string()).collect();
            let message = format!(
                "{} columns where {} has {}; correct the row and send it again",
                fields.len(),
                self.sheet.card.title,
                widths.join(" or ")
            );
            return fault(Reason::ColumnsMismatch, message);
        };
        let shape = &self.shapes[place];
        if shape.columns.repeated(&fields) || (self.header.is_none() && self.sheet.is_header(&fields)) {
            return Row::Skipped { position, why: Skip::RepeatedHeader };
        }
        let cells = shape.cells(self.sheet, fields);
        if let Some(why) = (self.sheet.skip)(&cells) {
            return Row::Skipped { position, why };
        }
        let layout = || match shape.layout(self.sheet, &self.dialect) {
            Ok(layout) => Ok(Arc::clone(layout)),
            Err(unusable) => {
                Err(fault(Reason::ColumnsUnusable, format!("{unusable}; {}", self.sheet.advice)))
            }
        };
        // A header without what identity needs is the fault, not what stands below it.
        if self.header.is_some()
            && let Err(fault) = layout()
        {
            return fault;
        }
        let count = shape.columns.names.len();
        if fields.len() != count {
            let message = format!(
                "{} columns where the header names {count}: look for a separator without quotes, correct the row and send it again",
                fields.len()
            );
            return fault(Reason::ColumnsMismatch, message);
        }
        if let Some(place) = shape.columns.misplaced(self.sheet, &fields) {
            let header = shape.columns.headers.get(place).map(String::as_str);
            let message = format!(
                "what stands in column {} is no {}, as if columns were shifted by a separator or quote too many or too few; \
                 correct the row and send it again",
                place + 1,
                header.unwrap_or("value of it")
            );
            return fault(Reason::ColumnsMismatch, message).in_field(header);
        }
        let layout = match layout() {
            Ok(layout) => layout,
            Err(fault) => return fault,
        };
        if may_be_cut(&self.rows, &layout, count) {
            return fault(Reason::ColumnsMismatch, MAY_BE_CUT.to_owned());
        }
        self.values.clear();
        match self.sheet.clean {
            None => fields.write(count, &mut self.values),
            Some(clean) => fields.iter().take(count).for_each(|text| self.values.push(clean(&text))),
        }
        for (_, make) in self.sheet.made {
            self.values.push(&make(&cells));
        }
        let record = RawRecord::new(layout, position, &self.values);
        if !self.used.contains(&place) {
            self.used.push(place);
        }
        Row::Record(record)
    }
}

impl RowReader for Reader<'_> {
    fn next_row(&mut self) -> Result<Option<Row>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let (sheet, shapes, header) = (self.sheet, &self.shapes, self.header);
            let whole = |fields: &Fields<'_>| match header {
                Some(place) => shapes[place].columns.fits(sheet, fields),
                None => {
                    sheet.is_header(fields) || shapes.iter().any(|shape| shape.columns.fits(sheet, fields))
                }
            };
            let Some(piece) = self.rows.read(&whole)? else { return Ok(None) };
            if piece == Piece::Record && self.take_header() {
                continue;
            }
            self.row += 1;
            let position = self.rows.position(self.row);
            let lacks_header = self.header.is_none() && sheet.orders.is_empty();
            return Ok(Some(match piece {
                Piece::Blank => Row::Skipped { position, why: Skip::Blank },
                Piece::Fault(reason) => {
                    Row::fault(position, reason, Piece::advice(reason), self.rows.verbatim())
                }
                Piece::Record if !lacks_header => self.record(position),
                Piece::Record if self.row < HEADER_WITHIN => Row::Skipped { position, why: Skip::Title },
                Piece::Record => {
                    self.ended = true;
                    let message = "none of the first 16 lines is the header that names the columns; nothing from here on was read, \
                                   send it with its header";
                    Row::fault(position, Reason::ColumnsUnusable, message, self.rows.verbatim())
                }
            }));
        }
    }

    fn verbatim(&self) -> &[u8] {
        self.rows.verbatim()
    }
}
