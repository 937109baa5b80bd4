//! Splits one record into fields, resumable when a quoted field goes on in the next line.
//!
//! Must never change what is written: a field that begins with a quote but goes on behind the closing one
//! (`"Name" <100>`, written raw by Grandstream and FreePBX) is kept whole with its quotes. The `csv` family of crates
//! drops them, which is why the splitting is done here.

use super::encoding::{decode, windows};
use super::marks::{BLOCK, Marks};
use crate::record::document::Encoding;
use crate::record::raw::Values;
use memchr::memchr;
use std::borrow::Cow;
use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Plain,
    Doubled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
    /// Place of the separator behind it.
    stop: usize,
    quotes: Quotes,
}

/// What splitting came to at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    Whole,
    /// A quoted field is open.
    Open,
    /// What closes a quoted field cannot be its closing quote: the field was never closed.
    Torn,
}

/// Whether two bits are set.
const fn is_two(bits: u64) -> bool {
    (bits & bits.wrapping_sub(1)).is_power_of_two()
}

/// How a field is enclosed; `None` where its quotes do something else. `two`: it has two quotes.
fn enclosed(field: &[u8], mark: u8, two: bool) -> Option<Quotes> {
    let [first, inner @ .., last] = field else { return None };
    if *first != mark || *last != mark {
        return None;
    }
    let (mut inner, mut quotes) = (inner, Quotes::Plain);
    while !two && let Some(place) = memchr(mark, inner) {
        inner = inner[place + 1..].strip_prefix(&[mark])?;
        quotes = Quotes::Doubled;
    }
    Some(quotes)
}

/// Splits records; keeps its room between them.
#[derive(Debug)]
pub(super) struct Splitter {
    /// `None`: quotes are text.
    quote: Option<u8>,
    /// Text is Windows-1252 even where it could be UTF-8.
    windows: bool,
    spans: Vec<Span>,
    at: usize,
    open: Option<usize>,
    doubled: bool,
}

impl Splitter {
    pub(super) fn new(quote: Option<u8>, encoding: Encoding) -> Self {
        let windows = encoding == Encoding::Windows1252;
        Self { quote, windows, spans: Vec::new(), at: 0, open: None, doubled: false }
    }

    pub(super) fn restart(&mut self) {
        self.spans.clear();
        self.at = 0;
        self.open = None;
        self.doubled = false;
    }

    /// Splits the record at the beginning of these bytes in the usual case: it is one line, and all its quotes enclose
    /// fields. Gives the length of the line, without its end; `None` where [`Self::feed`] must look.
    pub(super) fn line(&mut self, bytes: &[u8], separator: u8) -> Option<usize> {
        self.restart();
        if self.quote == Some(separator) {
            return None;
        }
        // Where a field begins, whether one goes on in quotes from block to block, and whether it had quotes before.
        let (mut start, mut open, mut earlier) = (0, 0, false);
        for (block, base) in bytes.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
            let mut marks = Marks::of(block, separator, self.quote.unwrap_or(separator));
            if self.quote.is_none() {
                marks.quotes = 0;
            }
            let inside = marks.inside(open);
            while marks.stops != 0 {
                let bit = marks.stops & marks.stops.wrapping_neg();
                let stop = base + marks.stops.trailing_zeros() as usize;
                marks.stops ^= bit;
                if inside & bit != 0 {
                    if bytes[stop] != separator {
                        return None;
                    }
                    continue;
                }
                let quotes = marks.quotes & (bit - 1);
                marks.quotes ^= quotes;
                let field = &bytes[start..stop];
                let span = if earlier || quotes != 0 {
                    let quotes = enclosed(field, self.quote?, !earlier && is_two(quotes))?;
                    Span { start: start + 1, end: stop - 1, stop, quotes }
                } else {
                    Span { start, end: stop, stop, quotes: Quotes::None }
                };
                self.spans.push(span);
                if bytes[stop] != separator {
                    return Some(stop);
                }
                (start, earlier) = (stop + 1, false);
            }
            earlier |= marks.quotes != 0;
            open = if inside >> (BLOCK - 1) == 0 { 0 } else { u64::MAX };
        }
        None
    }

    /// Goes on splitting a record of which `bytes` are known; `line` is where its last line begins.
    pub(super) fn feed(&mut self, bytes: &[u8], line: usize, separator: u8) -> Split {
        loop {
            if let Some(open) = self.open {
                let found = self.quote.and_then(|mark| memchr(mark, &bytes[self.at..]));
                let Some(found) = found else {
                    self.at = bytes.len();
                    return Split::Open;
                };
                let quote = self.at + found;
                if bytes.get(quote + 1).copied() == self.quote {
                    self.doubled = true;
                    self.at = quote + 2;
                    continue;
                }
                let blanks = bytes[quote + 1..].iter().take_while(|byte| **byte == b' ').count();
                let behind = quote + 1 + blanks;
                self.open = None;
                if behind == bytes.len() || bytes[behind] == separator {
                    let quotes = if self.doubled { Quotes::Doubled } else { Quotes::Plain };
                    self.spans.push(Span { start: open + 1, end: quote, stop: behind, quotes });
                    self.at = behind;
                } else if open < line || (quote > open + 1 && bytes[quote - 1] == separator) {
                    // `"a,"b"`: what looks like the closing quote opens the next field.
                    return Split::Torn;
                } else {
                    self.at = behind + memchr(separator, &bytes[behind..]).unwrap_or(bytes.len() - behind);
                    self.spans.push(Span { start: open, end: self.at, stop: self.at, quotes: Quotes::None });
                }
            } else if self.quote.is_some() && bytes.get(self.at).copied() == self.quote {
                self.open = Some(self.at);
                self.doubled = false;
                self.at += 1;
                continue;
            } else {
                let start = self.at;
                self.at += memchr(separator, &bytes[start..]).unwrap_or(bytes.len() - start);
                self.spans.push(Span { start, end: self.at, stop: self.at, quotes: Quotes::None });
            }
            if self.at >= bytes.len() {
                return if self.lacks_a_quote(bytes) { Split::Torn } else { Split::Whole };
            }
            self.at += 1;
        }
    }

    /// A writer that encloses fields encloses all that hold a quote: one left over in a bare field is half a pair. Names
    /// written raw (`"5" pipe" <100>`) are known by their number.
    fn lacks_a_quote(&self, bytes: &[u8]) -> bool {
        let Some(mark) = self.quote else { return false };
        let odd = |span: &Span| {
            let field = &bytes[span.start..span.end];
            memchr::memchr_iter(mark, field).count() % 2 == 1 && !field.ends_with(b">")
        };
        self.spans.iter().any(|span| span.quotes != Quotes::None)
            && self.spans.iter().any(|span| span.quotes == Quotes::None && odd(span))
    }

    pub(super) fn fields<'r>(&'r self, bytes: &'r [u8]) -> Fields<'r> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| !self.windows || text.is_ascii());
        Fields { bytes, text, windows: self.windows, quote: self.quote, spans: &self.spans }
    }
}

/// The fields of one record.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'r> {
    bytes: &'r [u8],
    text: Option<&'r str>,
    windows: bool,
    quote: Option<u8>,
    spans: &'r [Span],
}

impl<'r> Fields<'r> {
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// A field without its quotes; empty when there is no such field.
    pub fn get(&self, place: usize) -> Cow<'r, str> {
        let Some(span) = self.spans.get(place) else { return Cow::Borrowed("") };
        if span.quotes != Quotes::Doubled {
            return self.between(span.start, span.end);
        }
        let mut text = String::with_capacity(span.end - span.start);
        self.undoubled(span, &mut text);
        Cow::Owned(text)
    }

    /// Appends a field with one quote for each two.
    fn undoubled(&self, span: &Span, out: &mut String) {
        let (text, mark) = (self.between(span.start, span.end), self.quote.unwrap_or(b'"'));
        let mut rest = &*text;
        while let Some(place) = memchr(mark, rest.as_bytes()) {
            let (before, behind) = rest.split_at(place + 1);
            out.push_str(before);
            rest = behind.strip_prefix(char::from(mark)).unwrap_or(behind);
        }
        out.push_str(rest);
    }

    /// The bytes of a field between its quotes; doubled quotes stay doubled.
    #[inline]
    pub fn bytes(&self, place: usize) -> &'r [u8] {
        self.spans.get(place).map_or(&[], |span| &self.bytes[span.start..span.end])
    }

    /// Where a field stands in the record as UTF-8, between its quotes.
    pub fn range(&self, place: usize) -> Option<Range<usize>> {
        self.spans.get(place).map(|span| span.start..span.end)
    }

    /// Whether a field stands in quotes.
    pub fn is_enclosed(&self, place: usize) -> bool {
        self.spans.get(place).is_some_and(|span| span.quotes != Quotes::None)
    }

    /// Gives the first `count` fields to a record. A record that is text as a whole is taken at once.
    pub fn write(&self, count: usize, values: &mut Values) {
        let Some(text) = self.text else {
            return self.iter().take(count).for_each(|value| values.push(&value));
        };
        let taken = values.take(text);
        for span in self.spans.iter().take(count) {
            match span.quotes {
                Quotes::Doubled => values.write(|out| self.undoubled(span, out)),
                _ => values.lend(taken + span.start, taken + span.end),
            }
        }
    }

    /// All fields.
    pub fn iter(self) -> impl Iterator<Item = Cow<'r, str>> {
        (0..self.len()).map(move |place| self.get(place))
    }

    /// Several fields as one text, as written, with quotes and separators.
    pub fn joined(&self, first: usize, last: usize) -> Cow<'r, str> {
        if first == last {
            return self.get(first);
        }
        let start =
            first.checked_sub(1).and_then(|before| self.spans.get(before)).map_or(0, |span| span.stop + 1);
        self.spans.get(last).map_or(Cow::Borrowed(""), |span| self.between(start, span.stop))
    }

    fn between(&self, start: usize, end: usize) -> Cow<'r, str> {
        // A record that is UTF-8 as a whole is checked once, not once per field.
        match self.text.and_then(|text| text.get(start..end)) {
            Some(text) => Cow::Borrowed(text),
            None if self.windows => windows(&self.bytes[start..end]),
            None => decode(&self.bytes[start..end]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(line: &str) -> (Split, Vec<String>) {
        let mut splitter = Splitter::new(Some(b'"'), Encoding::Utf8);
        let end = splitter.feed(line.as_bytes(), 0, b',');
        (end, splitter.fields(line.as_bytes()).iter().map(Cow::into_owned).collect())
    }

    #[test]
    fn quotes_are_taken_off_only_where_they_enclose_the_field() {
        let whole = |fields: &[&str]| (Split::Whole, fields.iter().map(ToString::to_string).collect());
        assert_eq!(split("a,\"b,c\",d"), whole(&["a", "b,c", "d"]));
        assert_eq!(split("\"\"\"Ann\"\" <1>\",x"), whole(&["\"Ann\" <1>", "x"]));
        assert_eq!(split("\"Doe, Ann\" <1>,x"), whole(&["\"Doe, Ann\" <1>", "x"]));
        assert_eq!(split("\"a\" ,b"), whole(&["a", "b"]));
        assert_eq!(split("a,,"), whole(&["a", "", ""]));
        assert_eq!(split("\"\""), whole(&[""]));
        assert_eq!(split("\"a\"b\" <1>,c"), whole(&["\"a\"b\" <1>", "c"]));
        assert_eq!(split("\"a,\"b\",c").0, Split::Torn);
        assert_eq!(split("\"a\",b\"").0, Split::Torn);
        assert_eq!(split("\"a\",\"b\"c\"").0, Split::Torn);
        assert_eq!(split("a,5\" pipe").0, Split::Whole);
        assert_eq!(split("a,\"b"), (Split::Open, vec!["a".to_owned()]));
    }

    #[test]
    fn joined_fields_keep_their_separators() {
        let mut splitter = Splitter::new(Some(b'"'), Encoding::Utf8);
        let line = b"Dial,SIP/1,60,\"x\",end";
        assert_eq!(splitter.feed(line, 0, b','), Split::Whole);
        assert_eq!(splitter.fields(line).joined(1, 3), "SIP/1,60,\"x\"");
        assert_eq!(splitter.fields(line).joined(3, 3), "x");
    }

    proptest! {
        #[test]
        fn the_usual_case_is_split_as_any_other(
            text in "([a,]|\"\"|a{70}|(\"|\",|,\")[ab,]{0,9}(\"|\",|,\")){0,30}[\r\n]?[a,\"\r\n]{0,3}",
            quoted in any::<bool>(),
        ) {
            let new = || Splitter::new(quoted.then_some(b'"'), Encoding::Utf8);
            let (mut usual, mut any) = (new(), new());
            if let Some(length) = usual.line(text.as_bytes(), b',') {
                prop_assert_eq!(text.find(['\r', '\n']), Some(length));
                prop_assert_eq!(any.feed(&text.as_bytes()[..length], 0, b','), Split::Whole);
                prop_assert_eq!(usual.spans, any.spans);
            }
        }
    }

    #[test]
    fn what_is_usual() {
        let length = |line: &str| Splitter::new(Some(b'"'), Encoding::Utf8).line(line.as_bytes(), b',');
        let long = "x".repeat(200);
        for line in ["a,\"b,c\",d", "\"\"\"Ann\"\" <1>\",x", "a,,", "\"\"", "", &format!("{long},\"{long}\"")]
        {
            assert_eq!(length(&format!("{line}\nmore")), Some(line.len()), "{line}");
            assert_eq!(length(line), None, "its end is not known");
        }
        for line in ["\"a\" ,b", "\"Ann\" <1>,x", "a,5\" pipe", "\"a,\"b\"", "\"a"] {
            assert_eq!(length(&format!("{line}\n")), None, "{line}");
        }
    }
}
