//! A stored delivery read once more, in the formats and dialects in which it was stored: what its rows were, one at a
//! time. For `find --deep`. Must never store anything, nor recognise anything anew.

use super::body::ScratchFolder;
use super::document::broken;
use super::preview::PreviewRow;
use crate::dedup::Identifier;
use crate::formats::{Formats, Row, RowReader};
use crate::normalise::Engine;
use crate::record::document::Dialect;
use crate::record::port::Derive;
use crate::unpack::{self, Found, Limits, ReadSeek, UnpackError};
use std::io::Read;
use std::path::Path;

/// For whom the rows are read, and which documents.
#[derive(Debug)]
pub struct Rereader<'r> {
    /// Formats that can be read.
    pub formats: &'r Formats,
    /// Origin.
    pub origin: &'r str,
    /// The origin's part of every identity.
    pub origin_key: &'r str,
    /// Source.
    pub source: &'r str,
    /// Documents by their number, with format and dialect; others are passed over.
    pub documents: Vec<(u32, String, Dialect)>,
}

/// Takes the number of the document, a row and its bytes.
pub type SeeRow<'s> = dyn FnMut(u32, PreviewRow, &[u8]) -> std::io::Result<()> + 's;

/// Reads a body to its end and shows each row.
pub fn reread(
    body: &mut dyn ReadSeek,
    name: &str,
    engine: &Engine,
    reader: &Rereader<'_>,
    scratch: &Path,
    see: &mut SeeRow<'_>,
) -> std::io::Result<()> {
    let scratch = ScratchFolder(scratch.to_owned());
    let mut number = 0;
    let mut visit = |found: Found<'_>| -> std::io::Result<()> {
        number += 1;
        let wanted = reader.documents.iter().find(|(wanted, ..)| *wanted == number);
        let (Found::Document { reader: bytes, .. }, Some((_, format, dialect))) = (found, wanted) else {
            return Ok(());
        };
        read_document(number, bytes, format, dialect, engine, reader, &scratch, see)
    };
    match unpack::unpack(body, name, &Limits::default(), &scratch, &mut visit) {
        Ok(()) => Ok(()),
        Err(UnpackError::Io(error) | UnpackError::Visit(error)) => Err(error),
    }
}

#[expect(clippy::too_many_arguments, reason = "what a row needs comes from four places")]
fn read_document(
    number: u32,
    bytes: &mut dyn Read,
    format: &str,
    dialect: &Dialect,
    engine: &Engine,
    reader: &Rereader<'_>,
    scratch: &ScratchFolder,
    see: &mut SeeRow<'_>,
) -> std::io::Result<()> {
    let Some(format) = reader.formats.by_id(format) else { return Ok(()) };
    let mut rows = format.open(dialect, Box::new(bytes));
    let mut identifier = Identifier::new(reader.origin_key, Some(Box::new(scratch.clone())));
    loop {
        let row = match rows.next_row() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(()),
            // The rest was rejected when it was stored.
            Err(error) if broken(&error).is_some() => return Ok(()),
            Err(error) => return Err(error),
        };
        let row = match row {
            Row::Skipped { position, why } => PreviewRow::Skipped(position, why),
            Row::Fault(rejection) => PreviewRow::Rejected(None, Box::new(rejection)),
            Row::Record(raw) => match engine.derive(raw, reader.origin, reader.source) {
                Ok(leg) => PreviewRow::Leg(Box::new(identifier.identify(leg)?)),
                Err(rejection) => PreviewRow::Rejected(None, rejection),
            },
        };
        see(number, row, verbatim(&*rows))?;
    }
}

fn verbatim<'r>(rows: &'r (dyn RowReader + '_)) -> &'r [u8] {
    rows.verbatim()
}
