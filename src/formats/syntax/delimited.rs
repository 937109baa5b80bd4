//! Streaming reader of separated values: one record at a time, with its exact place in the document's bytes.
//!
//! Must never let one broken line harm another: a record beyond the cap is passed over, and a quote that never ends
//! costs the line it stands in, not the rest of the document.

use super::split::{Fields, Split, Splitter};
use super::window::Window;
use super::{RECORD_CAP, encoding};
use crate::record::document::Encoding;
use crate::record::outcome::{Reason, VERBATIM_CAP};
use crate::record::raw::Position;
use std::io::{Read, Result};

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// A record; its values are in `fields`.
    Record,
    /// A line without content.
    Blank,
    /// A line that could not be split.
    Fault(Reason),
}

impl Piece {
    /// What is wrong with a line that could not be split, and what to do.
    pub const fn advice(reason: Reason) -> &'static str {
        match reason {
            Reason::RecordTooLong => {
                "the line is longer than 1 MiB, which no call is; look at it in the original, it may be two files in one"
            }
            _ => {
                "a quote opens in this line and does not end where the record should; correct the line and send it again"
            }
        }
    }
}

enum Line {
    /// Ends before `end`; the next begins at `next`. Equal when the document ends without line end.
    Ended {
        end: u64,
        next: u64,
    },
    TooLong,
    None,
}

/// Reader of one document.
pub struct Delimited<'a> {
    window: Window<'a>,
    encoding: Encoding,
    separator: u8,
    quote: Option<u8>,
    started: bool,
    next: u64,
    start: u64,
    length: u64,
    /// The record as UTF-8, where the document is not 8-bit.
    text: Vec<u8>,
    /// The beginning of a record that was passed over.
    cut: Vec<u8>,
    splitter: Splitter,
    lone: Splitter,
}

impl<'a> Delimited<'a> {
    /// A reader; `separator` must be ASCII.
    pub fn new(input: Box<dyn Read + 'a>, encoding: Encoding, separator: char) -> Self {
        Self::with_quote(input, encoding, separator, Some('"'))
    }

    /// The same with another quote, which must be ASCII too, or none.
    pub fn with_quote(
        input: Box<dyn Read + 'a>,
        encoding: Encoding,
        separator: char,
        quote: Option<char>,
    ) -> Self {
        let quote = quote.and_then(|quote| u8::try_from(quote).ok());
        Self {
            quote,
            window: Window::new(input),
            encoding,
            separator: u8::try_from(separator).unwrap_or(b','),
            started: false,
            next: 0,
            start: 0,
            length: 0,
            text: Vec::new(),
            cut: Vec::new(),
            splitter: Splitter::new(quote, encoding),
            lone: Splitter::new(quote, encoding),
        }
    }

    /// The next record. `whole` says of fields that they are a complete record of this document; it decides between
    /// a value with a line end in it and a quote that was never closed.
    pub fn read(&mut self, whole: &dyn Fn(&Fields<'_>) -> bool) -> Result<Option<Piece>> {
        if !self.started {
            self.started = true;
            while self.window.end() < 3 && self.window.more(0)? {}
            self.next = encoding::mark(self.encoding, self.window.from(0));
        }
        self.start = self.next;
        self.cut.clear();
        self.text.clear();
        if let Some(piece) = self.usual() {
            return Ok(Some(piece));
        }
        match self.line(self.start, self.start)? {
            Line::None => Ok(None),
            Line::TooLong => self.pass_over().map(Some),
            Line::Ended { end, next } => {
                self.next = next;
                self.length = end - self.start;
                self.split(end, next, whole).map(Some)
            }
        }
    }

    /// The next record in the usual case: a line that is in memory up to its end and needs no second look.
    fn usual(&mut self) -> Option<Piece> {
        if encoding::unit(self.encoding) != 1 {
            return None;
        }
        let bytes = self.window.from(self.start);
        let length = self.splitter.line(bytes, self.separator).filter(|length| *length <= RECORD_CAP)?;
        let end = match bytes[length..] {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] | [b'\r', _, ..] => 1,
            _ => return None,
        };
        self.length = length as u64;
        self.next = self.start + self.length + end;
        Some(if self.is_blank() { Piece::Blank } else { Piece::Record })
    }

    fn split(&mut self, end: u64, next: u64, whole: &dyn Fn(&Fields<'_>) -> bool) -> Result<Piece> {
        self.take(self.start, end);
        if self.is_blank() {
            return Ok(Piece::Blank);
        }
        self.splitter.restart();
        let mut state = self.feed(end, 0);
        if state == Split::Whole {
            return Ok(Piece::Record);
        }
        let (mut taken, mut from) = (end, next);
        while state == Split::Open {
            // A last line without line end may be half a line: it closes nothing.
            let (end, next) = match self.line(from, self.start)? {
                Line::Ended { end, next } if end < next => (end, next),
                Line::Ended { .. } | Line::TooLong | Line::None => break,
            };
            if self.stands_alone(from, end, whole) {
                break;
            }
            let line = self.bytes_to(taken).len();
            self.take(taken, end);
            state = self.feed(end, line);
            (taken, from) = (end, next);
            if state == Split::Whole && whole(&self.splitter.fields(self.bytes_to(end))) {
                self.length = end - self.start;
                self.next = next;
                return Ok(Piece::Record);
            }
        }
        Ok(Piece::Fault(Reason::QuoteUnbalanced))
    }

    /// Whether a line that seems to continue a quoted field is a record of its own.
    fn stands_alone(&mut self, from: u64, end: u64, whole: &dyn Fn(&Fields<'_>) -> bool) -> bool {
        let bytes = encoding::transcode(self.encoding, self.window.between(from, end));
        self.lone.restart();
        if self.lone.feed(&bytes, 0, self.separator) != Split::Whole {
            return false;
        }
        let fields = self.lone.fields(&bytes);
        // The tail of a first field that spans lines ends in the closing quote.
        whole(&fields) && !self.quote.is_some_and(|quote| fields.get(0).contains(char::from(quote)))
    }

    fn pass_over(&mut self) -> Result<Piece> {
        let kept = self.start + VERBATIM_CAP as u64;
        self.cut.extend_from_slice(self.window.between(self.start, kept));
        let unit = encoding::unit(self.encoding);
        let mut from = self.start + (RECORD_CAP as u64 / unit) * unit;
        loop {
            match self.line(from, from)? {
                Line::TooLong => from += (RECORD_CAP as u64 / unit) * unit,
                Line::Ended { end, next } => {
                    self.next = next;
                    self.length = end - self.start;
                    return Ok(Piece::Fault(Reason::RecordTooLong));
                }
                Line::None => {
                    self.next = self.window.end();
                    self.length = self.next - self.start;
                    return Ok(Piece::Fault(Reason::RecordTooLong));
                }
            }
        }
    }

    /// The physical line that begins at `from`; bytes from `keep` on stay in memory.
    fn line(&mut self, from: u64, keep: u64) -> Result<Line> {
        let unit = encoding::unit(self.encoding);
        let mut scanned = from;
        loop {
            if let Some((place, byte)) = line_end(self.window.from(scanned), self.encoding) {
                let end = scanned + place;
                if end - keep > RECORD_CAP as u64 {
                    return Ok(Line::TooLong);
                }
                let mut next = end + unit;
                if byte == b'\r' {
                    while self.window.end() < next + unit && self.window.more(keep)? {}
                    if let Some((0, b'\n')) = line_end(self.window.from(next), self.encoding) {
                        next += unit;
                    }
                }
                return Ok(Line::Ended { end, next });
            }
            let whole_units = (self.window.end() - scanned) / unit * unit;
            scanned += whole_units;
            if scanned - keep > RECORD_CAP as u64 {
                return Ok(Line::TooLong);
            }
            if !self.window.more(keep)? {
                let end = self.window.end();
                return Ok(if end > from { Line::Ended { end, next: end } } else { Line::None });
            }
        }
    }

    fn take(&mut self, from: u64, end: u64) {
        if self.encoding != Encoding::Utf8 && self.encoding != Encoding::Windows1252 {
            let bytes = encoding::transcode(self.encoding, self.window.between(from, end));
            self.text.extend_from_slice(&bytes);
        }
    }

    fn feed(&mut self, end: u64, line: usize) -> Split {
        let bytes = match self.encoding {
            Encoding::Utf8 | Encoding::Windows1252 => self.window.between(self.start, end),
            Encoding::Utf16Le | Encoding::Utf16Be => &self.text,
        };
        self.splitter.feed(bytes, line, self.separator)
    }

    fn bytes_to(&self, end: u64) -> &[u8] {
        match self.encoding {
            Encoding::Utf8 | Encoding::Windows1252 => self.window.between(self.start, end),
            Encoding::Utf16Le | Encoding::Utf16Be => &self.text,
        }
    }

    fn is_blank(&self) -> bool {
        // Also rows of separators alone, which spreadsheets leave, and DOS end-of-file marks.
        let blank = |byte: &u8| *byte == self.separator || matches!(byte, b' ' | b'\t' | 0 | 0x1A | 0x0C);
        self.bytes_to(self.start + self.length).iter().all(blank)
    }

    /// The fields of the record last read.
    pub fn fields(&self) -> Fields<'_> {
        self.splitter.fields(self.bytes_to(self.start + self.length))
    }

    /// Whether the record last read has no line end behind it, so that it may be cut off.
    pub fn is_unended(&self) -> bool {
        self.next == self.start + self.length
    }

    /// Where the record last read stands, as row number `row`.
    pub fn position(&self, row: u64) -> Position {
        Position { row, offset: self.start, length: self.length }
    }

    /// Bytes of the record last read, cut at the cap.
    pub fn verbatim(&self) -> &[u8] {
        if self.cut.is_empty() {
            let length = self.length.min(VERBATIM_CAP as u64);
            self.window.between(self.start, self.start + length)
        } else {
            &self.cut
        }
    }
}

/// The first line end: its place in bytes and which it is.
fn line_end(bytes: &[u8], encoding: Encoding) -> Option<(u64, u8)> {
    let low = match encoding {
        Encoding::Utf8 | Encoding::Windows1252 => {
            let place = memchr::memchr2(b'\r', b'\n', bytes)?;
            return Some((place as u64, bytes[place]));
        }
        Encoding::Utf16Le => 0,
        Encoding::Utf16Be => 1,
    };
    let ends = |pair: &[u8]| matches!(pair[low], b'\r' | b'\n') && pair[1 - low] == 0;
    let place = bytes.chunks_exact(2).position(ends)?;
    Some((place as u64 * 2, bytes[place * 2 + low]))
}
