//! Streaming pull reader of XML in the terms of the JSON reader: an element that holds elements or attributes is an object,
//! one that holds text is a value, and its name is the name of the member.
//!
//! Must never resolve an entity but the five of XML itself and characters by number, never look at a DOCTYPE, and never
//! hold more than a record: a text beyond the cap is passed over.

mod markup;
#[cfg(test)]
mod tests;

use super::json::{DEPTH_LIMIT, Event, Kind};
use super::window::Window;
use super::{RECORD_CAP, encoding};
use crate::record::outcome::VERBATIM_CAP;
use markup::{attributes, is_name, unescape};
use std::io::{Read, Result};

/// An element that is open.
struct Frame {
    name: String,
    start: u64,
    /// The beginning of an element that is too long to be kept.
    cut: Option<Vec<u8>>,
}

/// What stands between two angle brackets, or between two such.
enum Token {
    /// Text, read into `text`.
    Text,
    /// Text beyond the cap.
    TooLong,
    /// A tag that opens; `true`: it closes itself.
    Open(bool),
    /// A tag that closes.
    Close,
    /// Comment, declaration, DOCTYPE.
    Nothing,
    Broken(&'static str),
    End,
}

/// What an element holds.
enum Content {
    Value((Event, String)),
    Elements,
    Broken(&'static str),
}

/// Reader of one document in an 8-bit encoding.
pub struct Xml<'a> {
    window: Window<'a>,
    at: u64,
    started: bool,
    ended: bool,
    /// The syntax broke before, so that tags may be missing.
    repaired: bool,
    /// Where it broke last, if an element without end did it.
    unclosed: Option<u64>,
    frames: Vec<Frame>,
    /// Events that one tag gave at once, the next last, with their texts.
    ready: Vec<(Event, String)>,
    /// Beginning of what was last read, with its offset, where that is too long to be kept.
    cut: Option<(u64, Vec<u8>)>,
    start: u64,
    text: String,
    /// Name of the tag last read, and its attributes.
    name: String,
    attributes: Vec<(String, String)>,
}

impl<'a> Xml<'a> {
    /// A reader at the beginning of a document.
    pub fn new(input: Box<dyn Read + 'a>) -> Self {
        Self {
            window: Window::new(input),
            at: 0,
            started: false,
            ended: false,
            repaired: false,
            unclosed: None,
            frames: Vec::new(),
            ready: Vec::new(),
            cut: None,
            start: 0,
            text: String::new(),
            name: String::new(),
            attributes: Vec::new(),
        }
    }

    /// Text of the name or value last read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where what was last read begins: an element at its opening bracket.
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

    /// How many elements are open.
    pub fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Name of the innermost element that is open, or of the outermost that was read.
    pub fn element(&self) -> &str {
        self.frames.last().map_or(&self.name, |frame| &frame.name)
    }

    /// Bytes from `start`, cut at the cap; `start` is that of what was last read, or of an element still open.
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
        if let Some((event, text)) = self.ready.pop() {
            self.text = text;
            return Ok(Some(event));
        }
        self.cut = None;
        if self.ended {
            return Ok(None);
        }
        if !self.started {
            self.started = true;
            while self.window.end() < 3 && self.window.more(0)? {}
            self.at = encoding::mark(crate::record::document::Encoding::Utf8, self.window.from(0));
        }
        loop {
            self.start = self.at;
            match self.token()? {
                // Between elements stands layout, and what was left of a tag that lost its bracket.
                Token::Text
                    if self.text.chars().all(|c| c.is_whitespace() || matches!(c, '\0' | '\u{1a}')) => {}
                Token::Text => {
                    self.at = self.start;
                    return Ok(Some(self.broken("text between elements")));
                }
                Token::TooLong => return Ok(Some(self.broken("text between elements"))),
                Token::Nothing => {}
                Token::Open(closed) => return self.open(closed).map(Some),
                Token::Close => {
                    if let Some(event) = self.close() {
                        return Ok(Some(event));
                    }
                }
                Token::Broken(why) => return Ok(Some(self.broken(why))),
                Token::End if self.frames.is_empty() => {
                    self.ended = true;
                    return Ok(None);
                }
                Token::End => return Ok(Some(self.broken("the document ends in the middle"))),
            }
        }
    }

    fn broken(&mut self, why: &'static str) -> Event {
        self.ended = true;
        self.unclosed = None;
        Event::Broken(why)
    }

    /// An element begins: a value if nothing but text is in it, else an object.
    fn open(&mut self, closed: bool) -> Result<Event> {
        let start = self.start;
        let (name, attributes) = (std::mem::take(&mut self.name), std::mem::take(&mut self.attributes));
        let mut value = None;
        if closed {
            value = attributes.is_empty().then(|| (Event::Scalar, String::new()));
        } else {
            let content = self.at;
            match self.content(&name, start)? {
                Content::Value(found) if attributes.is_empty() || !found.1.is_empty() => value = Some(found),
                Content::Value(_) | Content::Elements => self.at = content,
                Content::Broken(why) => {
                    self.start = start;
                    return Ok(self.broken(why));
                }
            }
        }
        self.start = start;
        let named = !self.frames.is_empty();
        if let Some((event, text)) = value {
            if !named {
                self.name = name;
                if event == Event::Scalar && text.trim().is_empty() {
                    self.ready.push((Event::End(Kind::Object), String::new()));
                    return Ok(Event::Begin(Kind::Object));
                }
                self.text = text;
                return Ok(event);
            }
            self.ready.push((event, text));
            self.text = name;
            return Ok(Event::Key);
        }
        if self.frames.last().is_some_and(|outer| outer.name == name) {
            self.at = start;
            if self.unclosed == Some(start) {
                // Whoever reads kept it open all the same: it ends here.
                return Ok(self.leave());
            }
            let event = self.broken("an element begins within one of its own name, whose end is missing");
            self.unclosed = Some(start);
            return Ok(event);
        }
        if self.frames.len() >= DEPTH_LIMIT {
            return Ok(self.broken("elements nested deeper than 64"));
        }
        if closed {
            self.ready.push((Event::End(Kind::Object), String::new()));
        }
        for (attribute, text) in attributes.into_iter().rev() {
            self.ready.push((Event::Scalar, text));
            self.ready.push((Event::Key, attribute));
        }
        if !closed {
            self.frames.push(Frame { name: name.clone(), start, cut: None });
        }
        if !named {
            self.name = name;
            return Ok(Event::Begin(Kind::Object));
        }
        self.ready.push((Event::Begin(Kind::Object), String::new()));
        self.text = name;
        Ok(Event::Key)
    }

    /// The text of an element that holds nothing else, read to its end.
    fn content(&mut self, name: &str, start: u64) -> Result<Content> {
        let content = self.at;
        let (mut text, mut event) = (String::new(), Event::Scalar);
        loop {
            // Loading must keep the element: it is looked at again if it holds others.
            let before = self.at;
            match self.token_from(start)? {
                Token::Text => text.push_str(&self.text),
                Token::TooLong => event = Event::TooLong,
                Token::Nothing => {}
                Token::Close if self.name == name => return Ok(Content::Value((event, text))),
                // Its beginning is gone: what follows is read as if it stood beside it, and its end will be one too many.
                _ if event == Event::TooLong => {
                    self.at = before;
                    return Ok(Content::Value((event, text)));
                }
                Token::Open(_) if text.trim().is_empty() => return Ok(Content::Elements),
                Token::Broken(why) => return Ok(Content::Broken(why)),
                Token::End => return Ok(Content::Broken("the document ends inside a value")),
                Token::Open(_) => {
                    self.at = content;
                    return Ok(Content::Broken("text beside elements in one element"));
                }
                Token::Close => {
                    self.at = before;
                    return Ok(Content::Broken("a value has another end than beginning"));
                }
            }
            if text.len() > RECORD_CAP {
                (text, event) = (String::new(), Event::TooLong);
            }
        }
    }

    fn close(&mut self) -> Option<Event> {
        let Some(place) = self.frames.iter().rposition(|frame| frame.name == self.name) else {
            // The beginning was lost with what was passed over.
            return (!self.repaired).then(|| self.broken("an element ends that did not begin"));
        };
        if place + 1 == self.frames.len() {
            return Some(self.leave());
        }
        if self.repaired {
            // The ends of those within were lost: they end one by one, and this tag is read again.
            self.at = self.start;
            let at = self.at;
            let event = self.leave();
            self.at = at;
            return Some(event);
        }
        self.at = self.start;
        Some(self.broken("an element ends before the one within it"))
    }

    fn leave(&mut self) -> Event {
        if let Some(frame) = self.frames.pop() {
            self.start = frame.start;
            self.cut = frame.cut.map(|cut| (frame.start, cut));
        }
        Event::End(Kind::Object)
    }

    /// After a break: goes on at the next element behind `from` that holds elements, as if it stood where reading broke
    /// off; the `left` innermost ones are given up. Gives the end of what is passed over and its bytes from `start`, cut
    /// at the cap.
    pub fn resume_at_object(&mut self, start: u64, from: u64, left: usize) -> Result<(u64, Vec<u8>)> {
        let mut bytes = self.verbatim(start, from).to_vec();
        let mut end = from;
        self.at = from;
        self.ready.clear();
        while let Some(byte) = self.byte(self.at)? {
            // What broke at this very place would break there again.
            let onwards = self.at > from || self.unclosed == Some(from);
            if byte == b'<' && onwards && self.holds_elements()? {
                self.ended = false;
                break;
            }
            if bytes.len() < VERBATIM_CAP {
                bytes.push(byte);
            }
            self.at += 1;
            if !byte.is_ascii_whitespace() {
                end = self.at;
            }
        }
        bytes.truncate(usize::try_from(end - start).unwrap_or(usize::MAX));
        self.frames.truncate(self.frames.len().saturating_sub(left));
        self.repaired = true;
        Ok((end, bytes))
    }

    /// Whether a tag opens where reading stands that has attributes, or behind which another opens.
    fn holds_elements(&mut self) -> Result<bool> {
        const WITHIN: u64 = 4096;
        while self.window.end() < self.at + WITHIN && self.load(self.at)? {}
        let ahead = self.window.from(self.at);
        let ahead = &ahead[..ahead.len().min(4096)];
        let Some(tag) = memchr::memchr(b'>', ahead).filter(|_| is_name(ahead, 1)) else { return Ok(false) };
        let inside = &ahead[1..tag];
        if inside.contains(&b'<') || inside.contains(&b'=') {
            return Ok(!inside.contains(&b'<'));
        }
        let blanks = ahead[tag + 1..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let inner = tag + 1 + blanks;
        Ok(!inside.ends_with(b"/") && ahead.get(inner) == Some(&b'<') && is_name(ahead, inner + 1))
    }

    fn token(&mut self) -> Result<Token> {
        self.token_from(self.start)
    }

    /// The next token; bytes from `keep` on stay in memory unless they have grown beyond the cap.
    fn token_from(&mut self, keep: u64) -> Result<Token> {
        let Some(first) = self.byte_keeping(self.at, keep)? else { return Ok(Token::End) };
        if first != b'<' {
            return self.characters(keep);
        }
        let begins = |xml: &Self, text: &[u8]| xml.window.from(xml.at).starts_with(text);
        for far in 1..9 {
            self.byte_keeping(self.at + far, keep)?;
        }
        if begins(self, b"<!--") {
            return self.pass(4, b"-->", keep);
        }
        if begins(self, b"<![CDATA[") {
            return self.cdata(keep);
        }
        if begins(self, b"<!") {
            return self.declaration(keep);
        }
        if begins(self, b"<?") {
            return self.pass(2, b"?>", keep);
        }
        self.tag(keep)
    }

    /// Text to the next bracket.
    fn characters(&mut self, keep: u64) -> Result<Token> {
        let (begun, mut scanned) = (self.at, self.at);
        loop {
            if let Some(place) = memchr::memchr(b'<', self.window.from(scanned)) {
                self.at = scanned + place as u64;
                break;
            }
            scanned = self.window.end();
            let keep = if scanned - begun > RECORD_CAP as u64 { scanned } else { keep };
            if !self.load(keep)? {
                self.at = scanned;
                break;
            }
        }
        if self.at - begun > RECORD_CAP as u64 {
            return Ok(Token::TooLong);
        }
        let text = encoding::decode(self.window.between(begun, self.at)).into_owned();
        self.text.clear();
        unescape(&text, &mut self.text);
        if self.text.trim().is_empty() {
            self.text.clear();
        }
        Ok(Token::Text)
    }

    fn cdata(&mut self, keep: u64) -> Result<Token> {
        let begun = self.at + 9;
        match self.pass(9, b"]]>", keep)? {
            Token::Nothing if self.at - 3 - begun > RECORD_CAP as u64 => Ok(Token::TooLong),
            Token::Nothing => {
                let text = encoding::decode(self.window.between(begun, self.at - 3)).into_owned();
                self.text = text;
                Ok(Token::Text)
            }
            other => Ok(other),
        }
    }

    /// Passes over everything to this mark.
    fn pass(&mut self, opening: u64, mark: &[u8], keep: u64) -> Result<Token> {
        let begun = self.at;
        let mut scanned = self.at + opening;
        loop {
            if let Some(place) = memchr::memmem::find(self.window.from(scanned), mark) {
                self.at = scanned + place as u64 + mark.len() as u64;
                return Ok(Token::Nothing);
            }
            scanned = scanned.max(self.window.end().saturating_sub(mark.len() as u64 - 1));
            let keep = if scanned - begun > RECORD_CAP as u64 { scanned } else { keep };
            if !self.load(keep)? {
                self.at = self.window.end();
                return Ok(Token::Broken("the document ends inside a comment, an instruction or a text"));
            }
        }
    }

    /// A DOCTYPE, with whatever brackets it holds; nothing in it is looked at.
    fn declaration(&mut self, keep: u64) -> Result<Token> {
        let (begun, mut depth) = (self.at, 0_usize);
        while let Some(byte) = self.byte_keeping(self.at, keep)? {
            self.at += 1;
            match byte {
                b'<' | b'[' => depth += 1,
                b'>' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if byte == b'>' && depth == 0 {
                return Ok(Token::Nothing);
            }
            if self.at - begun > VERBATIM_CAP as u64 {
                return Ok(Token::Broken("a declaration longer than any"));
            }
        }
        Ok(Token::Broken("the document ends inside a declaration"))
    }

    /// A tag, with its name and attributes.
    fn tag(&mut self, keep: u64) -> Result<Token> {
        let begun = self.at;
        let (mut end, mut quote) = (self.at + 1, None);
        loop {
            let Some(byte) = self.byte_keeping(end, keep)? else {
                return Ok(Token::Broken("the document ends inside a tag"));
            };
            match (quote, byte) {
                (None, b'>') => break,
                (None, b'<') => return Ok(Token::Broken("a bracket that is no tag")),
                (None, b'"' | b'\'') => quote = Some(byte),
                (Some(open), _) if open == byte => quote = None,
                _ => {}
            }
            end += 1;
            if end - begun > VERBATIM_CAP as u64 {
                return Ok(Token::Broken("a tag longer than any"));
            }
        }
        let inside = encoding::decode(self.window.between(begun + 1, end)).into_owned();
        let (closes, inside) = inside.strip_prefix('/').map_or((false, inside.as_str()), |rest| (true, rest));
        let (alone, inside) = inside.strip_suffix('/').map_or((false, inside), |rest| (true, rest));
        let name = inside.split(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default();
        if !is_name(name.as_bytes(), 0) || name.contains(['"', '\'', '=', '&']) {
            return Ok(Token::Broken("a bracket that is no tag"));
        }
        self.at = end + 1;
        self.attributes.clear();
        if !closes && !attributes(&inside[name.len()..], &mut self.attributes) {
            return Ok(Token::Broken("a tag whose attributes are not written name=\"value\""));
        }
        // The name space is the sender's: what counts is the name in it.
        let local = name.rsplit_once(':').map_or(name, |(_, local)| local);
        local.clone_into(&mut self.name);
        Ok(if closes { Token::Close } else { Token::Open(alone) })
    }

    fn byte(&mut self, offset: u64) -> Result<Option<u8>> {
        self.byte_keeping(offset, offset)
    }

    fn byte_keeping(&mut self, offset: u64, keep: u64) -> Result<Option<u8>> {
        while self.window.end() <= offset {
            if !self.load(keep)? {
                return Ok(None);
            }
        }
        Ok(self.window.from(offset).first().copied())
    }

    /// Loads more; what is open stays in memory unless it has grown beyond the cap.
    fn load(&mut self, keep: u64) -> Result<bool> {
        let mut keep = keep;
        for frame in &mut self.frames {
            if frame.cut.is_some() {
                continue;
            }
            if self.at.saturating_sub(frame.start) > RECORD_CAP as u64 {
                let kept = (frame.start + VERBATIM_CAP as u64).min(self.window.end());
                frame.cut = Some(self.window.between(frame.start, kept).to_vec());
            } else {
                keep = keep.min(frame.start);
            }
        }
        self.window.more(keep)
    }
}
