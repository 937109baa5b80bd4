//! The syntax readers, below all formats.

use cdrd::formats::syntax::Fields;
use cdrd::formats::syntax::delimited::{Delimited, Piece};
use cdrd::formats::syntax::json::{Event, Json};
use cdrd::formats::syntax::xml::Xml;
use cdrd::record::document::Encoding;
use std::io::Read;

/// A reader that gives a few bytes at a time.
pub struct Pieces<'a> {
    bytes: &'a [u8],
    size: usize,
}

impl<'a> Pieces<'a> {
    pub fn new(bytes: &'a [u8], size: usize) -> Self {
        Self { bytes, size: size.max(1) }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let size = self.size.min(into.len()).min(self.bytes.len());
        into[..size].copy_from_slice(&self.bytes[..size]);
        self.bytes = &self.bytes[size..];
        Ok(size)
    }
}

/// The first bytes of an input choose how the rest is read.
fn settings(bytes: &[u8]) -> Option<(u8, usize, &[u8])> {
    let ([how, size], rest) = bytes.split_first_chunk::<2>()?;
    Some((*how, usize::from(*size), rest))
}

fn encoding(how: u8) -> Encoding {
    match how % 4 {
        0 => Encoding::Utf8,
        1 => Encoding::Windows1252,
        2 => Encoding::Utf16Le,
        _ => Encoding::Utf16Be,
    }
}

/// Where a piece lies, what it is and what its fields are.
type Found = (u64, u64, Piece, Vec<String>);

fn pieces(input: Box<dyn Read + '_>, how: u8, bytes: &[u8]) -> Vec<Found> {
    let separator = [',', ';', '\t', '|'][usize::from(how / 4 % 4)];
    let columns = usize::from(how / 16);
    let whole = |fields: &Fields<'_>| fields.len() == columns;
    let mut reader = Delimited::new(input, encoding(how), separator);
    let mut all = Vec::new();
    let mut end = 0;
    while let Some(piece) = reader.read(&whole).expect("memory does not fail") {
        let at = reader.position(1);
        assert!(at.offset >= end, "a piece begins in the one before");
        end = at.offset + at.length;
        let (start, stop) = (place(at.offset), place(end));
        let verbatim = reader.verbatim();
        assert_eq!(verbatim, &bytes[start..stop][..verbatim.len()], "bytes are those of the place");
        let fields = match piece {
            Piece::Record => reader.fields().iter().map(|field| field.into_owned()).collect(),
            _ => Vec::new(),
        };
        all.push((at.offset, at.length, piece, fields));
    }
    all
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("inputs are small")
}

/// Rows of a delimited file: in place, and the same however the bytes come.
pub fn delimited(input: &[u8]) {
    let Some((how, size, bytes)) = settings(input) else { return };
    let whole = pieces(Box::new(bytes), how, bytes);
    let in_pieces = pieces(Box::new(Pieces::new(bytes, size)), how, bytes);
    assert_eq!(whole, in_pieces);
}

fn events(input: Box<dyn Read + '_>, how: u8) -> Vec<(Event, String, u64)> {
    let mut reader = Json::new(input, encoding(how));
    let mut all = Vec::new();
    let mut broken_at = None;
    while let Some(event) = reader.read().expect("memory does not fail") {
        let text = if matches!(event, Event::Key | Event::Scalar) { reader.text() } else { "" };
        all.push((event, text.to_owned(), reader.at()));
        if let Event::Broken(_) = event {
            let start = reader.at();
            // Whoever breaks off twice at one place, as at an object that lies too deep, gives up.
            if broken_at.replace(start) == Some(start) {
                break;
            }
            let resumed = if how & 4 == 0 {
                reader.resume_at_line(start, start)
            } else {
                reader.resume_at_object(start, start, usize::from(how & 8 == 0))
            };
            let (end, _) = resumed.expect("memory does not fail");
            assert!(end >= start, "reading goes on where it broke off, or later");
        }
    }
    all
}

/// Events of a JSON document: the same however the bytes come, to its end whatever is broken.
pub fn json(input: &[u8]) {
    let Some((how, size, bytes)) = settings(input) else { return };
    let whole = events(Box::new(bytes), how);
    let in_pieces = events(Box::new(Pieces::new(bytes, size)), how);
    assert_eq!(whole, in_pieces);
}

fn elements(input: Box<dyn Read + '_>, how: u8) -> Vec<(Event, String, u64)> {
    let mut reader = Xml::new(input);
    let mut all = Vec::new();
    let mut broken_at = None;
    while let Some(event) = reader.read().expect("memory does not fail") {
        let text = if matches!(event, Event::Key | Event::Scalar) { reader.text() } else { "" };
        all.push((event, text.to_owned(), reader.at()));
        if let Event::Broken(_) = event {
            let start = reader.at();
            if broken_at.replace(start) == Some(start) {
                break;
            }
            let left = usize::from(how) % (reader.depth() + 1);
            let (end, _) = reader.resume_at_object(start, start, left).expect("memory does not fail");
            assert!(end >= start, "reading goes on where it broke off, or later");
        }
    }
    all
}

/// Events of an XML document: the same however the bytes come.
pub fn xml(input: &[u8]) {
    let Some((how, size, bytes)) = settings(input) else { return };
    let whole = elements(Box::new(bytes), how);
    let in_pieces = elements(Box::new(Pieces::new(bytes, size)), how);
    assert_eq!(whole, in_pieces);
}
