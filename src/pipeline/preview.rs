//! The same sentence without storing: what would become of these bytes, and why. For `explain`.

use super::body::{Filled, ScratchFolder, read_up_to};
use super::document::{HEAD, broken, broken_behind};
use crate::dedup::{Identified, Identifier};
use crate::formats::{Formats, Head, Opinion, Row};
use crate::normalise::{ClockWatch, Engine};
use crate::record::document::{Dialect, ZoneRule};
use crate::record::outcome::{Counts, Rejection, Skip, VERBATIM_CAP};
use crate::record::port::Derive;
use crate::record::raw::{Position, RawRecord};
use crate::unpack::{self, Found, Limits, ReadSeek, UnpackError};
use std::collections::HashSet;
use std::io::{Cursor, Read};
use std::path::Path;

/// Everything that a body would become.
#[derive(Debug)]
pub struct Preview {
    /// Its documents, in envelope order.
    pub documents: Vec<DocumentPreview>,
}

/// What one document would become.
#[derive(Debug)]
pub struct DocumentPreview {
    /// Path inside the envelope; empty for a plain body.
    pub path: String,
    /// What each format said.
    pub opinions: Vec<Opinion>,
    /// The format, with its certainty and reason.
    pub chosen: Option<(&'static str, u8, String)>,
    /// The dialect.
    pub dialect: Option<Dialect>,
    /// Why the document as a whole is rejected.
    pub rejection: Option<Rejection>,
    /// The first rows.
    pub rows: Vec<PreviewRow>,
    /// Outcomes of all rows against an empty store; `amended` is always 0.
    pub counts: Counts,
    /// What is wrong with the origin's zone or clock.
    pub clock: Option<String>,
}

/// A row and what it would become.
#[derive(Debug)]
pub enum PreviewRow {
    /// A leg.
    Leg(Box<Identified>),
    /// A row that would be rejected, as written where it could be read.
    Rejected(Option<Box<RawRecord>>, Box<Rejection>),
    /// A row that is no call.
    Skipped(Position, Skip),
}

/// For whom the rows are read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'r> {
    /// Origin.
    pub origin: &'r str,
    /// Source.
    pub source: &'r str,
    /// All formats.
    pub formats: &'r Formats,
    /// IANA zone that a person named, where it is not the origin's.
    pub time_zone: Option<&'r str>,
    /// Pinned format.
    pub pinned: Option<&'r str>,
    /// Rows to show of each document.
    pub rows: usize,
}

/// Reads a body to its end and keeps its first rows.
pub fn preview(
    body: &mut dyn ReadSeek,
    name: &str,
    engine: &Engine,
    reader: Reader<'_>,
    scratch: &Path,
) -> std::io::Result<Preview> {
    let mut documents = Vec::new();
    let scratch = ScratchFolder(scratch.to_owned());
    let mut visit = |found: Found<'_>| -> std::io::Result<()> {
        documents.push(match found {
            Found::Document { path, reader: bytes, .. } => {
                preview_document(path, if path.is_empty() { name } else { path }, bytes, engine, reader)?
            }
            Found::Rejected(path, rejection) => DocumentPreview::rejected(path, Vec::new(), rejection),
        });
        Ok(())
    };
    match unpack::unpack(body, name, &Limits::default(), &scratch, &mut visit) {
        Ok(()) => Ok(Preview { documents }),
        Err(UnpackError::Io(error) | UnpackError::Visit(error)) => Err(error),
    }
}

impl DocumentPreview {
    fn rejected(path: &str, opinions: Vec<Opinion>, rejection: Rejection) -> Self {
        Self { opinions, rejection: Some(rejection), ..Self::empty(path) }
    }

    fn empty(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            opinions: Vec::new(),
            chosen: None,
            dialect: None,
            rejection: None,
            rows: Vec::new(),
            counts: Counts::default(),
            clock: None,
        }
    }
}

fn preview_document(
    path: &str,
    name: &str,
    mut bytes: &mut dyn Read,
    engine: &Engine,
    reader: Reader<'_>,
) -> std::io::Result<DocumentPreview> {
    let mut head = vec![0; HEAD];
    let Filled { bytes: length, whole } = match read_up_to(&mut bytes, &mut head) {
        Ok(filled) => filled,
        Err(error) => {
            let rejection = broken(&error).ok_or(error)?;
            return Ok(DocumentPreview::rejected(path, Vec::new(), rejection));
        }
    };
    if length == 0 {
        return Ok(DocumentPreview::empty(path));
    }
    head.truncate(length);
    let seen = Head { bytes: &head, complete: whole, name };
    let recognition = reader.formats.recognise(&seen, reader.pinned);
    let (format, mut claim) = match recognition.chosen {
        Ok(chosen) => chosen,
        Err(rejection) => {
            let rejection = broken_behind(bytes, length, whole).unwrap_or(*rejection);
            return Ok(DocumentPreview::rejected(path, recognition.opinions, rejection));
        }
    };
    if let (Some(zone), true) = (reader.time_zone, claim.dialect.zone != ZoneRule::Origin) {
        claim.dialect.zone = ZoneRule::Named(zone.to_owned());
    }
    let mut shown = DocumentPreview {
        opinions: recognition.opinions,
        chosen: Some((format.card().id, claim.certainty, claim.why.clone())),
        dialect: Some(claim.dialect.clone()),
        ..DocumentPreview::empty(path)
    };
    let input = Cursor::new(head).chain(bytes);
    let mut rows = format.open(&claim.dialect, Box::new(input));
    let mut identifier = Identifier::new(reader.origin, None);
    let mut clock = ClockWatch::new();
    let mut versions = HashSet::new();
    loop {
        let row = match rows.next_row() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(error) => {
                let rejection = broken(&error).ok_or(error)?;
                shown.note(PreviewRow::Rejected(None, Box::new(rejection)), &mut versions, reader.rows);
                break;
            }
        };
        let row = match row {
            Row::Skipped { position, why } => PreviewRow::Skipped(position, why),
            Row::Fault(rejection) => PreviewRow::Rejected(None, Box::new(rejection)),
            Row::Record(raw) => match engine.derive(raw.clone(), reader.origin, reader.source) {
                Ok(leg) => {
                    clock.see(&leg);
                    PreviewRow::Leg(Box::new(identifier.identify(leg)?))
                }
                Err(mut rejection) => {
                    let verbatim = rows.verbatim();
                    rejection.verbatim = verbatim[..verbatim.len().min(VERBATIM_CAP)].to_vec();
                    PreviewRow::Rejected(Some(Box::new(raw)), rejection)
                }
            },
        };
        shown.note(row, &mut versions, reader.rows);
    }
    shown.clock = clock.verdict().map(|fault| fault.to_string());
    Ok(shown)
}

impl DocumentPreview {
    fn note(&mut self, row: PreviewRow, versions: &mut HashSet<[u8; 16]>, keep: usize) {
        self.counts.rows_read += 1;
        match &row {
            PreviewRow::Leg(leg) if versions.insert(leg.version_hash) => self.counts.stored += 1,
            PreviewRow::Leg(_) => self.counts.duplicate += 1,
            PreviewRow::Rejected(..) => self.counts.rejected += 1,
            PreviewRow::Skipped(..) => self.counts.skipped += 1,
        }
        // Rejections are what people look for: they are shown even beyond the first rows.
        let interesting = matches!(row, PreviewRow::Rejected(..)) && self.rows.len() < keep * 2;
        if self.rows.len() < keep || interesting {
            self.rows.push(row);
        }
    }
}
