//! Separated values as a stanza describes them: by the names in their header, or by the numbers of their columns.

use super::shape::{Shape, coverage, numbers};
use super::{DelimitedConfig, Mapped, MappingConfig};
use crate::formats::dates::Survey;
use crate::formats::syntax::delimited::{Delimited, Piece};
use crate::formats::syntax::{Fields, encoding};
use crate::formats::{Claim, Head, MAY_BE_CUT, Row, RowReader, Verdict, may_be_cut};
use crate::record::card::normal_header;
use crate::record::document::{Dialect, LayoutUnusable};
use crate::record::field::Field;
use crate::record::outcome::{Reason, Skip};
use crate::record::raw::Position;
use std::borrow::Cow;
use std::io::{Read, Result};

/// Lines among which the header must be, behind those that the stanza passes over.
const HEADER_WITHIN: u64 = 16;

/// Whether a document is written so.
pub(super) fn recognise(
    format: Mapped,
    syntax: &'static DelimitedConfig,
    head: &Head<'_>,
    pinned: bool,
) -> Verdict {
    let config = format.config;
    let dialect = config.dialect(config.encoding.unwrap_or_else(|| encoding::detect(head.bytes)));
    if syntax.widths.is_some() && syntax.recognise.is_none() && !pinned {
        return Verdict::refused("columns without a header prove nothing; fix the format for the source");
    }
    if !first_line_fits(syntax, head, &dialect) {
        return Verdict::refused("the first line does not look like the pattern under recognise");
    }
    let mut reader = Reader::new(format, syntax, Box::new(head.bytes), &dialect);
    let (mut rows, mut misfits, mut survey) = (0, 0, Survey::default());
    while let Ok(Some(row)) = reader.next_row() {
        let cut_off = !head.complete && reader.rows.is_unended();
        match row {
            _ if cut_off => {}
            Row::Record(record) => {
                rows += 1;
                survey.add(record.get(Field::Start), None);
            }
            Row::Fault(_) => misfits += 1,
            Row::Skipped { .. } => {}
        }
    }
    let Some(found) = reader.found else {
        return Verdict::refused(match syntax.widths {
            Some(_) => "no row has as many columns as the stanza says".to_owned(),
            None => "none of the first 16 lines names the columns that tell legs apart, and half of all"
                .to_owned(),
        });
    };
    if rows == 0 && misfits > 0 {
        return Verdict::refused("no row below fits the columns");
    }
    claim(config, dialect, found, &survey, rows)
}

/// The claim of a document in which this many columns were found, with the order of its dates settled.
pub(super) fn claim(
    config: &MappingConfig,
    mut dialect: Dialect,
    found: usize,
    survey: &Survey,
    rows: usize,
) -> Verdict {
    if config.times.is_empty() {
        if rows > 0 && survey.times() == 0 {
            return Verdict::refused(
                "the columns fit, but no start is a time; name its layout, dates = \"%d.%m.%Y %H:%M:%S\"",
            );
        }
        dialect.minute = survey.minute();
        if config.date_order.is_none() {
            match survey.order() {
                Ok(order) => dialect.date_order = order,
                Err(message) => {
                    let message =
                        format!("{message}; or write dates = \"day-first\" or \"month-first\" in the stanza");
                    return Verdict::Undecided { reason: Reason::DateOrderUnknown, message };
                }
            }
        }
    }
    let all = config.columns.len();
    dialect.generation = format!("{found} of {all} columns");
    let why = format!("it has {found} of the {all} columns of [[format]] {}", config.id);
    Verdict::Claimed(Claim { certainty: MappingConfig::certainty(found), why, dialect })
}

fn first_line_fits(syntax: &DelimitedConfig, head: &Head<'_>, dialect: &Dialect) -> bool {
    let Some(pattern) = &syntax.recognise else { return true };
    let start = encoding::mark(dialect.encoding, head.bytes);
    let bytes = usize::try_from(start).ok().and_then(|start| head.bytes.get(start..)).unwrap_or_default();
    let bytes = encoding::transcode(dialect.encoding, bytes);
    let text = encoding::decode(&bytes);
    let mut lines = text.split(['\n', '\r']).filter(|line| !line.trim().is_empty());
    let skip = usize::try_from(syntax.skip_lines).unwrap_or(usize::MAX);
    lines.nth(skip).is_some_and(|line| pattern.matches(line))
}

/// Reads the rows of one document.
pub(super) struct Reader<'a> {
    format: Mapped,
    syntax: &'static DelimitedConfig,
    pub rows: Delimited<'a>,
    dialect: Dialect,
    /// With the width of its rows.
    shapes: Vec<(usize, std::result::Result<Shape, LayoutUnusable>)>,
    header: Option<Vec<String>>,
    /// Columns of the stanza that were found.
    pub found: Option<usize>,
    row: u64,
    /// Lines that were passed over because the stanza says so.
    passed: u64,
    ended: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        format: Mapped,
        syntax: &'static DelimitedConfig,
        input: Box<dyn Read + 'a>,
        dialect: &Dialect,
    ) -> Self {
        let rows = Delimited::with_quote(input, dialect.encoding, syntax.separator, syntax.quote);
        let mut reader = Self {
            format,
            syntax,
            rows,
            dialect: dialect.clone(),
            shapes: Vec::new(),
            header: None,
            found: None,
            row: 0,
            passed: 0,
            ended: false,
        };
        for width in syntax.widths.iter().flatten() {
            let shape = Shape::new(format, &numbers(*width), dialect, false);
            reader.shapes.push((*width, shape));
        }
        reader
    }

    /// Takes a row for the header if it is one.
    fn take_header(&mut self) -> bool {
        let fields = self.rows.fields();
        let Some(mut names) = header_of(self.format.config, &fields) else { return false };
        let width = names.len();
        // Spreadsheets end every line with separators when one row was longer.
        while names.last().is_some_and(|name| name.trim().is_empty()) {
            names.pop();
        }
        let known: Vec<String> = names.iter().map(|name| normal_header(name)).collect();
        self.found = Some(coverage(self.format.config, |name| known.iter().any(|known| known == name)).0);
        self.shapes.push((names.len(), Shape::new(self.format, &names, &self.dialect, false)));
        if width > names.len() {
            self.shapes.push((width, Shape::new(self.format, &names, &self.dialect, false)));
        }
        self.header = Some(names);
        true
    }

    fn record(&mut self, position: Position) -> Row {
        let fields = self.rows.fields();
        let shape = self.shapes.iter().find(|(width, _)| *width == fields.len()).map(|(_, shape)| shape);
        let any = shape.or_else(|| self.shapes.first().map(|(_, shape)| shape));
        if let Some(Ok(any)) = any
            && any.skips(fields.len(), |place| fields.get(place))
        {
            return Row::Skipped { position, why: Skip::NoCall };
        }
        let fault = |reason, message: String| Row::fault(position, reason, message, self.rows.verbatim());
        let Some(shape) = shape else {
            let wanted: Vec<String> = self.shapes.iter().map(|(width, _)| width.to_string()).collect();
            let message = format!(
                "{} columns where [[format]] {} expects {}; look for a separator without quotes, correct the row and send \
                 it again",
                fields.len(),
                self.format.config.id,
                wanted.join(" or ")
            );
            return fault(Reason::ColumnsMismatch, message);
        };
        let shape = match shape {
            Ok(shape) => shape,
            Err(unusable) => {
                return fault(Reason::ColumnsUnusable, format!("{unusable}; export it with that column"));
            }
        };
        if self.header.as_ref().is_some_and(|header| repeats(header, &fields)) {
            return Row::Skipped { position, why: Skip::RepeatedHeader };
        }
        if may_be_cut(&self.rows, &shape.layout, shape.layout.columns.len()) {
            return fault(Reason::ColumnsMismatch, MAY_BE_CUT.to_owned());
        }
        match shape.record(position, |place| fields.get(place)) {
            Ok(record) => {
                self.found = self.found.or(Some(self.format.config.columns.len()));
                Row::Record(record)
            }
            Err((reason, message)) => fault(reason, message.to_owned()),
        }
    }
}

/// The names in a row that is a header of this stanza.
fn header_of(config: &MappingConfig, fields: &Fields<'_>) -> Option<Vec<String>> {
    let names: Vec<String> = fields.iter().map(Cow::into_owned).collect();
    let known: Vec<String> = names.iter().map(|name| normal_header(name)).collect();
    let (found, lacking) = coverage(config, |name| known.iter().any(|known| known == name));
    (lacking.is_none() && found * 2 >= config.columns.len()).then_some(names)
}

fn repeats(header: &[String], fields: &Fields<'_>) -> bool {
    // A call has a time in its columns: comparing one name is enough to tell most rows.
    let same = |place: usize| normal_header(&header[place]) == normal_header(&fields.get(place));
    !header.is_empty() && fields.get(0) == header[0].as_str() && (0..header.len()).all(same)
}

impl RowReader for Reader<'_> {
    fn next_row(&mut self) -> Result<Option<Row>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let (shapes, config, numbered) = (&self.shapes, self.format.config, self.syntax.widths.is_some());
            let whole = |fields: &Fields<'_>| {
                let shape = shapes.iter().find(|(width, _)| *width == fields.len());
                match shape {
                    Some((_, Ok(shape))) => shape
                        .start
                        .is_none_or(|start| fields.get(start).contains(|c: char| c.is_ascii_digit())),
                    Some((_, Err(_))) => false,
                    None => !numbered && shapes.is_empty() && header_of(config, fields).is_some(),
                }
            };
            let Some(piece) = self.rows.read(&whole)? else { return Ok(None) };
            let passing = self.passed < self.syntax.skip_lines;
            let wants_header = self.syntax.widths.is_none() && self.header.is_none();
            if piece == Piece::Record && wants_header && !passing && self.take_header() {
                continue;
            }
            self.row += 1;
            let position = self.rows.position(self.row);
            return Ok(Some(match piece {
                Piece::Blank => Row::Skipped { position, why: Skip::Blank },
                _ if passing => {
                    self.passed += 1;
                    Row::Skipped { position, why: Skip::Title }
                }
                Piece::Fault(reason) => {
                    Row::fault(position, reason, Piece::advice(reason), self.rows.verbatim())
                }
                Piece::Record if !wants_header => self.record(position),
                Piece::Record if self.row < HEADER_WITHIN + self.syntax.skip_lines => {
                    Row::Skipped { position, why: Skip::Title }
                }
                Piece::Record => {
                    self.ended = true;
                    let message = "none of the first 16 lines is the header that names the columns; nothing from here on was read, send it with its header";
                    Row::fault(position, Reason::ColumnsUnusable, message, self.rows.verbatim())
                }
            }));
        }
    }

    fn verbatim(&self) -> &[u8] {
        self.rows.verbatim()
    }
}
