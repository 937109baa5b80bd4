//! Streaming pull reader of JSON, tolerant of what devices write: concatenated values, stray commas, raw control
//! characters and other encodings inside strings.
//!
//! Must never hold more than a record: a value beyond the cap is passed over, an array of any length streams through.

use super::window::Window;
use super::{RECORD_CAP, encoding};
use crate::record::document::Encoding;
use crate::record::outcome::VERBATIM_CAP;
use std::io::{Read, Result};

/// Deepest nesting that is read.
pub const DEPTH_LIMIT: usize = 64;

/// Object or array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of JSON")]
pub enum Kind {
    Object,
    Array,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An object or array begins.
    Begin(Kind),
    /// It ends.
    End(Kind),
    /// Name of a member, in `text`.
    Key,
    /// A string, number or boolean, as text in `text`.
    Scalar,
    /// A null.
    Null,
    /// A string beyond the cap, passed over.
    TooLong,
    /// The syntax breaks off here; nothing follows unless `resume` finds a place to go on.
    Broken(&'static str),
}

struct Frame {
    kind: Kind,
    start: u64,
    /// The beginning of an object or array that is too long to be kept.
    cut: Option<Vec<u8>>,
}

/// Reader of one document.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, all combinations occur")]
pub struct Json<'a> {
    window: Window<'a>,
    encoding: Encoding,
    unit: u64,
    at: u64,
    started: bool,
    ended: bool,
    /// A key was read, its value not yet.
    value_due: bool,
    /// What was last read stands at the beginning of a line.
    line_begins: bool,
    /// The syntax broke before, so that brackets may be missing.
    repaired: bool,
    frames: Vec<Frame>,
    /// The beginning of what was last read, with its offset, where that is too long to be kept.
    cut: Option<(u64, Vec<u8>)>,
    start: u64,
    text: String,
}

/// How a string ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Read,
    TooLong,
    Missing,
}

impl<'a> Json<'a> {
    /// A reader at the beginning of a document.
    pub fn new(input: Box<dyn Read + 'a>, encoding: Encoding) -> Self {
        Self {
            window: Window::new(input),
            encoding,
            unit: encoding::unit(encoding),
            at: 0,
            started: false,
            ended: false,
            value_due: false,
            line_begins: false,
            repaired: false,
            frames: Vec::new(),
            cut: None,
            start: 0,
            text: String::new(),
        }
    }

    /// Text of the key or scalar last read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where what was last read begins: an object or array at its opening bracket.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Where reading stands.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Whether nothing more can be read.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// How many objects and arrays are open.
    pub fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Bytes from `start`, cut at the cap; `start` is that of what was last read, or of an object still open.
    pub fn verbatim(&self, start: u64, end: u64) -> &[u8] {
        let open = self.frames.iter().find(|frame| frame.start == start).and_then(|frame| frame.cut.as_ref());
        let last = self.cut.as_ref().filter(|(begun, _)| *begun == start).map(|(_, cut)| cut);
        match open.or(last) {
            Some(cut) => cut,
            None => self.window.between(start, end.min(start + VERBATIM_CAP as u64)),
        }
    }

    /// The next event; `None` at the end of the document.
    pub fn read(&mut self) -> Result<Option<Event>> {
        self.cut = None;
        if self.ended {
            return Ok(None);
        }
        if !self.started {
            self.started = true;
            while self.window.end() < 3 && self.window.more(0)? {}
            self.at = encoding::mark(self.encoding, self.window.from(0));
        }
        let Some(first) = self.skip_blanks()? else {
            self.ended = true;
            let open = !self.frames.is_empty() || self.value_due;
            self.start = self.at;
            return Ok(open.then_some(Event::Broken("the document ends in the middle")));
        };
        self.start = self.at;
        let event = match self.frames.last().map(|frame| frame.kind) {
            Some(Kind::Object) if !self.value_due => self.member(first)?,
            inside => {
                self.value_due = false;
                self.value(first, inside == Some(Kind::Array))?
            }
        };
        self.ended = matches!(event, Event::Broken(_));
        Ok(Some(event))
    }

    /// After a break: goes on at the next line behind `from` that begins with an object. `from` is `start` or where
    /// reading stands. Gives the end of what is passed over and its bytes from `start`, cut at the cap.
    pub fn resume_at_line(&mut self, start: u64, from: u64) -> Result<(u64, Vec<u8>)> {
        self.frames.clear();
        let line_begins = from == self.at && self.start == self.at && self.line_begins;
        self.pass_over(start, from, line_begins, |_, line_begins| Ok(line_begins))
    }

    /// After a break: goes on at the next object behind `from` that begins with a name, as if it stood where reading
    /// broke off; the `left` innermost objects and arrays are given up. Otherwise as `resume_at_line`.
    pub fn resume_at_object(&mut self, start: u64, from: u64, left: usize) -> Result<(u64, Vec<u8>)> {
        let bytes = self.pass_over(start, from, false, |json, _| json.name_follows())?;
        self.frames.truncate(self.frames.len().saturating_sub(left));
        self.value_due = self.frames.last().is_some_and(|frame| frame.kind == Kind::Object);
        self.repaired = true;
        Ok(bytes)
    }

    fn pass_over(
        &mut self,
        start: u64,
        from: u64,
        mut line_begins: bool,
        ends: impl Fn(&mut Self, bool) -> Result<bool>,
    ) -> Result<(u64, Vec<u8>)> {
        let mut bytes = self.verbatim(start, from).to_vec();
        let mut end = from;
        self.at = from;
        self.value_due = false;
        while let Some(byte) = self.peek(self.at)? {
            if byte == b'{' && ends(self, line_begins)? {
                self.ended = false;
                break;
            }
            line_begins = matches!(byte, b'\n' | b'\r');
            if bytes.len() < VERBATIM_CAP {
                bytes.extend_from_slice(self.window.between(self.at, self.at + self.unit));
            }
            self.at += self.unit;
            if !line_begins {
                end = self.at;
            }
        }
        bytes.truncate(usize::try_from(end - start).unwrap_or(usize::MAX));
        Ok((end, bytes))
    }

    /// Whether the brace where reading stands is followed by a name in quotes and a colon: inside a text the quotes
    /// would be escaped.
    fn name_follows(&mut self) -> Result<bool> {
        const NAME_WITHIN: u64 = 256;
        while self.window.end() < self.at + NAME_WITHIN * self.unit && self.load(self.at)? {}
        let units = (1..NAME_WITHIN).map_while(|place| self.unit_at(self.at + place * self.unit));
        let mut rest = units.skip_while(u8::is_ascii_whitespace);
        let named = rest.next() == Some(b'"') && !matches!(rest.next(), None | Some(b'"' | b'\\'));
        let mut behind = rest.skip_while(|unit| !matches!(unit, b'"' | b'\\'));
        Ok(named
            && behind.next() == Some(b'"')
            && behind.find(|unit| !unit.is_ascii_whitespace()) == Some(b':'))
    }

    fn member(&mut self, first: u8) -> Result<Event> {
        match first {
            b'}' => Ok(self.end(Kind::Object)),
            // The end of this object was lost with what was passed over.
            b'{' | b']' if self.repaired => Ok(self.leave(Kind::Object)),
            b'"' => {
                if self.string()? != Ending::Read {
                    return Ok(Event::Broken("a name of a member never ends"));
                }
                let (start, text) = (self.start, std::mem::take(&mut self.text));
                let colon = self.skip_blanks()? == Some(b':');
                (self.start, self.text) = (start, text);
                if !colon {
                    return Ok(Event::Broken("a name without a value"));
                }
                self.at += self.unit;
                self.value_due = true;
                Ok(Event::Key)
            }
            _ => Ok(Event::Broken("something else where the name of a member should stand")),
        }
    }

    fn value(&mut self, first: u8, in_array: bool) -> Result<Event> {
        match first {
            b'{' => Ok(self.begin(Kind::Object)),
            b'[' => Ok(self.begin(Kind::Array)),
            b']' if in_array => Ok(self.end(Kind::Array)),
            b'"' => Ok(match self.string()? {
                Ending::Read => Event::Scalar,
                Ending::TooLong => Event::TooLong,
                Ending::Missing => Event::Broken("the document ends inside a text"),
            }),
            b'-' | b'0'..=b'9' | b'a'..=b'z' => self.bare(),
            _ => Ok(Event::Broken("something else where a value should stand")),
        }
    }

    fn begin(&mut self, kind: Kind) -> Event {
        if self.frames.len() >= DEPTH_LIMIT {
            return Event::Broken("objects nested deeper than 64");
        }
        self.frames.push(Frame { kind, start: self.at, cut: None });
        self.at += self.unit;
        Event::Begin(kind)
    }

    fn end(&mut self, kind: Kind) -> Event {
        self.at += self.unit;
        self.leave(kind)
    }

    fn leave(&mut self, kind: Kind) -> Event {
        if let Some(frame) = self.frames.pop() {
            self.start = frame.start;
            self.cut = frame.cut.map(|cut| (frame.start, cut));
        }
        Event::End(kind)
    }

    /// Reads a string into `text`.
    fn string(&mut self) -> Result<Ending> {
        let content = self.at + self.unit;
        let mut escaped = false;
        self.at = content;
        self.text.clear();
        loop {
            let Some((found, byte)) = self.find_in_string(self.at) else {
                self.at += (self.window.end() - self.at) / self.unit * self.unit;
                if !self.load_string(content)? {
                    return Ok(Ending::Missing);
                }
                continue;
            };
            self.at = found + self.unit;
            if byte == b'"' {
                break;
            }
            escaped = true;
            while self.window.end() < self.at + self.unit {
                if !self.load_string(content)? {
                    return Ok(Ending::Missing);
                }
            }
            self.at += self.unit;
        }
        let end = self.at - self.unit;
        if end - content > RECORD_CAP as u64 {
            self.cut_string(content);
            return Ok(Ending::TooLong);
        }
        let raw = encoding::transcode(self.encoding, self.window.between(content, end));
        let text = encoding::decode(&raw);
        if escaped {
            unescape(&text, &mut self.text);
        } else {
            self.text.push_str(&text);
        }
        Ok(Ending::Read)
    }

    fn load_string(&mut self, content: u64) -> Result<bool> {
        let keep = if self.at - content > RECORD_CAP as u64 {
            self.cut_string(content);
            self.at
        } else {
            self.start
        };
        self.load(keep)
    }

    fn cut_string(&mut self, content: u64) {
        let start = content - self.unit;
        if self.cut.is_none() {
            self.cut = Some((start, self.window.between(start, start + VERBATIM_CAP as u64).to_vec()));
        }
    }

    fn bare(&mut self) -> Result<Event> {
        self.text.clear();
        while let Some(byte) = self.peek(self.start)? {
            if !matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') {
                break;
            }
            if self.text.len() > 64 {
                return Ok(Event::Broken("a number longer than any number"));
            }
            self.text.push(char::from(byte));
            self.at += self.unit;
        }
        Ok(match self.text.as_str() {
            "null" => Event::Null,
            "true" | "false" => Event::Scalar,
            number if number.parse::<f64>().is_ok_and(f64::is_finite) => Event::Scalar,
            _ => Event::Broken("a word that is neither a number, true, false nor null"),
        })
    }

    /// The next unit that is no blank, as a byte; commas are blanks wherever no value is due.
    fn skip_blanks(&mut self) -> Result<Option<u8>> {
        self.line_begins = false;
        loop {
            let byte = self.peek(self.at)?;
            match byte {
                Some(b' ' | b'\t' | b'\r' | b'\n' | 0 | 0x1A) => {}
                Some(b',') if !self.value_due => {}
                other => return Ok(other),
            }
            self.line_begins = matches!(byte, Some(b'\r' | b'\n'));
            self.at += self.unit;
        }
    }

    fn peek(&mut self, keep: u64) -> Result<Option<u8>> {
        while self.window.end() < self.at + self.unit {
            if !self.load(keep)? {
                return Ok(None);
            }
        }
        Ok(self.unit_at(self.at))
    }

    /// The unit at an offset: itself if ASCII, else 0xFF.
    fn unit_at(&self, offset: u64) -> Option<u8> {
        let bytes = self.window.from(offset);
        Some(match self.encoding {
            Encoding::Utf8 | Encoding::Windows1252 => *bytes.first()?,
            Encoding::Utf16Le => ascii(*bytes.get(1)?, bytes[0]),
            Encoding::Utf16Be => ascii(*bytes.first()?, *bytes.get(1)?),
        })
    }

    fn find_in_string(&self, from: u64) -> Option<(u64, u8)> {
        let bytes = self.window.from(from);
        if self.unit == 1 {
            let place = memchr::memchr2(b'"', b'\\', bytes)?;
            return Some((from + place as u64, bytes[place]));
        }
        let low = usize::from(self.encoding == Encoding::Utf16Be);
        let wanted = |pair: &[u8]| pair[1 - low] == 0 && matches!(pair[low], b'"' | b'\\');
        let place = bytes.chunks_exact(2).position(wanted)?;
        Some((from + place as u64 * 2, bytes[place * 2 + low]))
    }

    /// Loads more; what is open stays in memory unless it has grown beyond the cap.
    fn load(&mut self, keep: u64) -> Result<bool> {
        let mut keep = keep;
        for frame in &mut self.frames {
            if frame.cut.is_some() {
                continue;
            }
            if self.at.saturating_sub(frame.start) > RECORD_CAP as u64 {
                let kept = frame.start + VERBATIM_CAP as u64;
                frame.cut = Some(self.window.between(frame.start, kept).to_vec());
            } else {
                keep = keep.min(frame.start);
            }
        }
        self.window.more(keep)
    }
}

const fn ascii(high: u8, low: u8) -> u8 {
    if high == 0 && low < 0x80 { low } else { 0xFF }
}

/// Resolves escapes; what is no escape of JSON stays as written.
fn unescape(text: &str, into: &mut String) {
    let mut rest = text;
    while let Some(place) = rest.find('\\') {
        into.push_str(&rest[..place]);
        rest = &rest[place + 1..];
        let Some(escape) = rest.chars().next() else {
            into.push('\\');
            return;
        };
        rest = &rest[escape.len_utf8()..];
        match escape {
            '"' | '\\' | '/' => into.push(escape),
            'b' => into.push('\u{8}'),
            'f' => into.push('\u{c}'),
            'n' => into.push('\n'),
            'r' => into.push('\r'),
            't' => into.push('\t'),
            'u' => rest = unescape_unit(rest, into),
            other => {
                into.push('\\');
                into.push(other);
            }
        }
    }
    into.push_str(rest);
}

/// Resolves what follows `\u`, with the second half of a surrogate pair; gives back the rest.
fn unescape_unit<'t>(rest: &'t str, into: &mut String) -> &'t str {
    let hex = |text: &str| {
        text.get(..4)
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u16::from_str_radix(hex, 16).ok())
    };
    let Some(first) = hex(rest) else {
        into.push_str("\\u");
        return rest;
    };
    let behind = &rest[4..];
    let second = behind.strip_prefix("\\u").and_then(hex).filter(|unit| (0xDC00..0xE000).contains(unit));
    if let (0xD800..0xDC00, Some(second)) = (first, second) {
        into.extend(char::decode_utf16([first, second]).map(|unit| unit.unwrap_or('\u{fffd}')));
        return &behind[6..];
    }
    into.push(char::from_u32(u32::from(first)).unwrap_or('\u{fffd}'));
    behind
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(document: &[u8]) -> Result<Vec<(Event, String)>> {
        let mut json = Json::new(Box::new(document), encoding::detect(document));
        let mut all = Vec::new();
        while let Some(event) = json.read()? {
            let text = matches!(event, Event::Key | Event::Scalar).then(|| json.text().to_owned());
            all.push((event, text.unwrap_or_default()));
        }
        Ok(all)
    }

    #[test]
    fn strings_are_unescaped_as_json_and_otherwise_left() -> Result<()> {
        let all = events(b"[\"a\\\"b\\u00e9\\ud83d\\ude00\\q\\ud800\", \"M\xFCl\x00ler\"]")?;
        assert_eq!(all[1].1, "a\"b\u{e9}\u{1f600}\\q\u{fffd}");
        assert_eq!(all[2].1, "M\u{fc}l\0ler");
        Ok(())
    }

    #[test]
    fn a_text_beyond_the_cap_is_passed_over() -> Result<()> {
        let mut document = b"{\"a\":\"".to_vec();
        document.extend(std::iter::repeat_n(b'x', 3 * RECORD_CAP));
        document.extend(b"\",\"b\":1}");
        let all = events(&document)?;
        let kinds: Vec<Event> = all.iter().map(|(event, _)| *event).collect();
        let object = Kind::Object;
        assert_eq!(
            kinds,
            [Event::Begin(object), Event::Key, Event::TooLong, Event::Key, Event::Scalar, Event::End(object)]
        );
        Ok(())
    }

    #[test]
    fn nesting_is_limited() -> Result<()> {
        let all = events(&[b'['; 100])?;
        assert_eq!(all.len(), DEPTH_LIMIT + 1);
        assert!(matches!(all.last(), Some((Event::Broken(_), _))));
        Ok(())
    }
}
