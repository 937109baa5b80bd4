//! JSON of the CDR API (`action=cdrapi`, `/cdrapi?format=json`), in every envelope and nesting that devices send.
//!
//! Must never trust the grouping (`main_cdr`, `sub_cdr_N`): firmware groups legs of different calls. Every object is
//! looked at by itself; a leg is one that has a start and an `AcctId`.

use super::{API_HEADERS, BRACKETED, CONTEXTS, DIRECTIONS, DISPOSITIONS, FAMILIES, LINKS, SYSTEM, VOICEMAIL};
use crate::formats::syntax::json::{DEPTH_LIMIT, Event, Json, Kind};
use crate::formats::syntax::{RECORD_CAP, encoding};
use crate::formats::{Claim, Format, Head, Row, RowReader, Verdict};
use crate::record::card::{Card, Evidence};
use crate::record::document::{Dialect, Encoding, Layout, LayoutUnusable, RowKind};
use crate::record::field::Field;
use crate::record::outcome::{Reason, Skip, VERBATIM_CAP};
use crate::record::raw::{Position, RawRecord};
use std::collections::HashMap;
use std::io::{Read, Result};
use std::sync::Arc;

/// The format.
pub struct CdrapiJson;

static CARD: Card = Card {
    id: "grandstream-cdrapi-json",
    system: SYSTEM,
    title: "Grandstream UCM, JSON of the CDR API",
    version: 1,
    evidence: Evidence::Seen,
    fidelity: 90,
    headers: API_HEADERS,
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

/// Generation of documents whose outermost values are legs; a broken one can be passed over.
const LEG_PER_VALUE: &str = "one leg per value";
/// Column sets that are remembered; more in one document are only slower.
const SHAPES: usize = 256;

impl Format for CdrapiJson {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn recognise(&self, head: &Head<'_>) -> Verdict {
        let encoding = encoding::detect(head.bytes);
        let marks = match Marks::of(head, encoding) {
            Ok(marks) => marks,
            Err(why) => return Verdict::refused(why),
        };
        let (certainty, generation, why) = match (&marks.leg, &marks.envelope, &marks.status) {
            (Some(leg), envelope, _) => {
                let generation = match (envelope, leg.outermost) {
                    (Some(envelope), _) => format!("envelope {envelope}"),
                    (None, true) => LEG_PER_VALUE.to_owned(),
                    (None, false) => "bare array".to_owned(),
                };
                (90, generation, "an object has AcctId, src, dst, start and more of a UCM leg")
            }
            (None, Some(envelope), None | Some(0)) if marks.empty => {
                let certainty = if envelope == "cdr_root" { 80 } else { 50 };
                (certainty, format!("envelope {envelope}"), "an answer without calls")
            }
            (None, _, Some(status)) => {
                return Verdict::refused(format!("an API answer with status {status} and no calls"));
            }
            (None, _, None) => return Verdict::refused("no object has AcctId, src, dst and start"),
        };
        let why = format!("{why}: {generation}");
        Verdict::Claimed(Claim {
            certainty,
            why,
            dialect: Dialect { encoding, generation, ..Dialect::default() },
        })
    }

    fn open<'a>(&self, dialect: &Dialect, input: Box<dyn Read + 'a>) -> Box<dyn RowReader + 'a> {
        Box::new(Reader::new(input, dialect))
    }
}

/// What the head of a document shows.
#[derive(Default)]
struct Marks {
    leg: Option<LegMark>,
    /// The member of the envelope that holds the calls.
    envelope: Option<String>,
    /// That member is an empty array or null.
    empty: bool,
    status: Option<i64>,
}

struct LegMark {
    outermost: bool,
}

impl Marks {
    fn of(head: &Head<'_>, encoding: Encoding) -> std::result::Result<Self, &'static str> {
        let mut json = Json::new(Box::new(head.bytes), encoding);
        let mut marks = Self::default();
        let mut names: Vec<Vec<Field>> = Vec::new();
        let (mut key, mut opened, mut envelope_depth) = (String::new(), false, usize::MAX);
        while let Ok(Some(event)) = json.read() {
            match event {
                Event::Begin(kind) => {
                    marks.empty &= names.len() < envelope_depth;
                    if kind == Kind::Array
                        && marks.envelope.is_none()
                        && matches!(key.as_str(), "cdr_root" | "cdr")
                    {
                        marks.envelope = Some(key.clone());
                        marks.empty = true;
                        envelope_depth = names.len() + 1;
                    }
                    opened = true;
                    names.push(Vec::new());
                    key.clear();
                }
                Event::End(_) => {
                    let seen = names.pop().unwrap_or_default();
                    if is_leg(&seen) && marks.leg.is_none() {
                        marks.leg = Some(LegMark { outermost: json.depth() == 0 });
                    }
                }
                Event::Key => {
                    json.text().clone_into(&mut key);
                    names.iter_mut().last().into_iter().for_each(|seen| seen.extend(CARD.field_of(&key)));
                }
                Event::Scalar if !opened => return Err("the outermost value is neither object nor array"),
                Event::Scalar if names.len() == envelope_depth => marks.empty = false,
                Event::Scalar if key == "status" && marks.status.is_none() => {
                    marks.status = json.text().parse().ok();
                }
                Event::Null if key == "cdr_root" && marks.envelope.is_none() => {
                    marks.envelope = Some(key.clone());
                    marks.empty = true;
                }
                Event::Broken(_) if !opened => return Err("it is no JSON"),
                Event::Broken(_) if head.complete && marks.leg.is_none() => {
                    // Also the only leg of a document may be broken off.
                    let leg = names.iter().any(|seen| is_leg(seen));
                    marks.leg = leg.then_some(LegMark { outermost: names.len() == 1 });
                }
                Event::Scalar | Event::Null | Event::TooLong | Event::Broken(_) => {}
            }
        }
        if opened { Ok(marks) } else { Err("it holds no JSON object") }
    }
}

/// Whether these members are those of a leg; other systems' records have some of them, none has all.
fn is_leg(seen: &[Field]) -> bool {
    let needed = [Field::RecordId, Field::CallerNumber, Field::CalleeNumber, Field::Start];
    let usual = [
        Field::Context,
        Field::Channel,
        Field::DstChannel,
        Field::LastApp,
        Field::Disposition,
        Field::UniqueId,
        Field::LinkedId,
        Field::Talk,
    ];
    needed.iter().all(|field| seen.contains(field))
        && usual.iter().filter(|field| seen.contains(field)).count() >= 2
}

/// An object or array that is being read.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, all combinations occur")]
struct Frame {
    is_array: bool,
    /// Name of the member that holds it; that of the array, for its elements.
    name: String,
    start: u64,
    /// Its elements are, or it is, where calls stand: it must not be passed over silently.
    expected: bool,
    /// Rows were returned from within.
    held_rows: bool,
    too_long: bool,
    /// Keys of its own values, each followed by NUL: the name under which its layout is remembered.
    keys: String,
    values: String,
    ends: Vec<usize>,
    /// Key whose value comes next.
    key: String,
}

impl Frame {
    fn value(&self, place: Option<usize>) -> &str {
        let Some((place, end)) = place.and_then(|place| Some((place, *self.ends.get(place)?))) else {
            return "";
        };
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.values[start..end]
    }

    fn push(&mut self, value: &str) {
        if self.too_long || self.keys.len() + self.key.len() + self.values.len() + value.len() > RECORD_CAP {
            self.too_long = true;
            (self.keys, self.values, self.ends) = Default::default();
            return;
        }
        // A NUL in a name would make two names of it.
        self.keys.extend(self.key.chars().map(|c| if c == '\0' { '\u{fffd}' } else { c }));
        self.keys.push('\0');
        self.values.push_str(value);
        self.ends.push(self.values.len());
    }
}

/// What a set of keys means.
struct Shape {
    layout: std::result::Result<Arc<Layout>, LayoutUnusable>,
    id: Option<usize>,
    unique_id: Option<usize>,
    channel: Option<usize>,
    /// It has what only legs have.
    leg: bool,
}

impl Shape {
    fn of(keys: &str, dialect: &Dialect) -> Self {
        let names = || keys.split_terminator('\0');
        let place = |field| names().position(|name| CARD.field_of(name) == Some(field));
        let parties = place(Field::CallerNumber).is_some() && place(Field::CalleeNumber).is_some();
        let (id, start) = (place(Field::RecordId), place(Field::Start));
        Self {
            layout: Layout::new(&CARD, RowKind::Leg, names().map(str::to_owned), dialect.clone())
                .map(Arc::new),
            id,
            unique_id: place(Field::UniqueId),
            channel: place(Field::Channel),
            leg: start.is_some() && (id.is_some() || parties),
        }
    }
}

struct Reader<'a> {
    json: Json<'a>,
    dialect: Dialect,
    frames: Vec<Frame>,
    /// Frames to be used again.
    spare: Vec<Frame>,
    shapes: HashMap<String, Shape>,
    row: u64,
    /// Place of the row last returned.
    last: (u64, u64),
    broken: Option<Vec<u8>>,
}

impl<'a> Reader<'a> {
    fn new(input: Box<dyn Read + 'a>, dialect: &Dialect) -> Self {
        Self {
            json: Json::new(input, dialect.encoding),
            dialect: dialect.clone(),
            frames: Vec::new(),
            spare: Vec::new(),
            shapes: HashMap::new(),
            row: 0,
            last: (0, 0),
            broken: None,
        }
    }

    fn begin(&mut self, kind: Kind) {
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.is_array = kind == Kind::Array;
        frame.start = self.json.start();
        frame.name.clear();
        match self.frames.last() {
            None => frame.expected = frame.is_array,
            Some(outer) => {
                frame.name.push_str(if outer.is_array { &outer.name } else { &outer.key });
                frame.expected = if outer.is_array {
                    outer.expected
                } else if frame.is_array {
                    is_place_of_legs(&frame.name) || matches!(frame.name.as_str(), "cdr" | "cdr_root")
                } else {
                    is_place_of_legs(&frame.name)
                };
            }
        }
        self.frames.push(frame);
    }

    fn end(&mut self) -> Option<Row> {
        let frame = self.frames.pop()?;
        let row = if frame.is_array { None } else { self.object(&frame) };
        let held_rows = frame.held_rows || row.is_some();
        if let Some(outer) = self.frames.last_mut() {
            outer.held_rows |= held_rows;
            if !held_rows && !outer.is_array {
                self.keep_as_text(&frame);
            }
        }
        self.put_back(frame);
        row
    }

    /// A member that is no row is kept as it is written, unless it is empty.
    fn keep_as_text(&mut self, frame: &Frame) {
        let (start, end) = (frame.start, self.json.at());
        let whole = end - start <= VERBATIM_CAP as u64;
        let raw = encoding::transcode(self.dialect.encoding, self.json.verbatim(start, end));
        let text = encoding::decode(&raw);
        let empty = text.bytes().all(|byte| b"{}[] \t\r\n".contains(&byte));
        if let Some(outer) = self.frames.last_mut() {
            outer.too_long |= !whole;
            outer.push(if empty { "" } else { &text });
        }
    }

    fn put_back(&mut self, mut frame: Frame) {
        frame.keys.clear();
        frame.values.clear();
        frame.ends.clear();
        (frame.held_rows, frame.too_long) = (false, false);
        self.spare.push(frame);
    }

    /// What an object that has ended is.
    fn object(&mut self, frame: &Frame) -> Option<Row> {
        let position =
            Position { row: self.row + 1, offset: frame.start, length: self.json.at() - frame.start };
        let row = if frame.too_long {
            (frame.expected || !frame.held_rows).then(|| {
                let message = "the object is longer than 1 MiB, which no call is; look at it in the original";
                self.fault(position, Reason::RecordTooLong, message)
            })
        } else {
            if !self.shapes.contains_key(&frame.keys) {
                if self.shapes.len() >= SHAPES {
                    self.shapes.clear();
                }
                self.shapes.insert(frame.keys.clone(), Shape::of(&frame.keys, &self.dialect));
            }
            let shape = &self.shapes[&frame.keys];
            self.classify(frame, shape, position)
        };
        if row.is_some() {
            self.row += 1;
            self.last = (position.offset, position.length);
        }
        row
    }

    fn classify(&self, frame: &Frame, shape: &Shape, position: Position) -> Option<Row> {
        let blank = |place| frame.value(place).trim().is_empty();
        let skip = |why| Some(Row::Skipped { position, why });
        let all_blank = frame.values.trim().is_empty();
        let may_be_row = frame.expected || shape.leg;
        if !may_be_row {
            return None;
        }
        if all_blank {
            return if frame.held_rows { None } else { skip(Skip::Blank) };
        }
        if !shape.leg && frame.held_rows {
            return None;
        }
        // A blank id is that of a summary; but another object that names a channel is a leg, whatever its id.
        let nameless = shape.id.is_some() && blank(shape.unique_id) && blank(shape.channel);
        if shape.leg && blank(shape.id) && (frame.name == "main_cdr" || nameless) {
            return skip(Skip::Summary);
        }
        Some(match &shape.layout {
            Ok(layout) => {
                let values = (0..frame.ends.len()).map(|place| frame.value(Some(place)));
                Row::Record(RawRecord::from_values(Arc::clone(layout), position, values))
            }
            Err(unusable) => {
                let message = format!("{unusable}; ask the device for all fields and send the answer again");
                self.fault(position, Reason::ColumnsUnusable, message)
            }
        })
    }

    fn fault(&self, position: Position, reason: Reason, message: impl Into<String>) -> Row {
        let end = position.offset + position.length;
        Row::fault(position, reason, message, self.json.verbatim(position.offset, end))
    }

    /// A value in an array of calls that is no object.
    fn stray(&mut self, event: Event) -> Option<Row> {
        let outer = self.frames.last();
        if outer.is_some_and(|frame| !frame.is_array || !frame.expected) {
            return None;
        }
        if let Some(outer) = self.frames.last_mut() {
            outer.held_rows = true;
        }
        let (start, end) = (self.json.start(), self.json.at());
        if event == Event::Null {
            self.row += 1;
            self.last = (start, end - start);
            let position = Position { row: self.row, offset: start, length: end - start };
            return Some(Row::Skipped { position, why: Skip::Blank });
        }
        let message = "a bare value where a call should stand; look at it in the original".to_owned();
        let verbatim = self.json.verbatim(start, end).to_vec();
        Some(self.broken(start, end, Reason::ColumnsUnusable, message, verbatim))
    }

    /// The syntax breaks off: one fault for the broken object, and reading goes on behind it. What is still in memory
    /// is looked at again: an unfinished text may have swallowed the beginning of the next leg.
    fn break_off(&mut self, why: &str) -> Result<Row> {
        let at = self.json.at();
        let reach = |start: u64| at - start <= RECORD_CAP as u64;
        let innermost = self.frames.last().filter(|frame| !frame.is_array);
        let (start, end, verbatim, next);
        if self.dialect.generation == LEG_PER_VALUE {
            let outermost = self.frames.first().filter(|frame| !frame.held_rows).map(|frame| frame.start);
            start = outermost.or(innermost.map(|frame| frame.start)).unwrap_or(at);
            let from = if outermost.is_some() && reach(start) { start } else { at };
            (end, verbatim) = self.json.resume_at_line(start, from)?;
            self.leave_frames(0);
            next = "line that begins with an object";
        } else {
            // An object that gave rows holds further ones: it stays open.
            let broken = innermost.filter(|frame| !frame.held_rows).map(|frame| frame.start);
            start = broken.unwrap_or(at);
            if self.frames.len() < DEPTH_LIMIT {
                let unit = encoding::unit(self.dialect.encoding);
                let from = if reach(start) { (start + unit).min(at) } else { at };
                (end, verbatim) = self.json.resume_at_object(start, from, usize::from(broken.is_some()))?;
            } else {
                (end, verbatim) = (at, self.json.verbatim(start, at).to_vec());
            }
            self.leave_frames(self.frames.len() - usize::from(broken.is_some()));
            next = "object";
        }
        let rest = if self.json.has_ended() {
            "no further call was found".to_owned()
        } else {
            format!("reading went on at the next {next}")
        };
        let message = format!("{why} (byte {at}); {rest}, have the document sent again, complete");
        Ok(self.broken(start, end, Reason::SyntaxBroken, message, verbatim))
    }

    fn leave_frames(&mut self, depth: usize) {
        while self.frames.len() > depth {
            self.frames.pop().into_iter().for_each(|frame| self.put_back(frame));
        }
    }

    fn broken(&mut self, start: u64, end: u64, reason: Reason, message: String, verbatim: Vec<u8>) -> Row {
        self.row += 1;
        let position = Position { row: self.row, offset: start, length: end - start };
        let row = Row::fault(position, reason, message, &verbatim);
        self.broken = Some(verbatim);
        row
    }
}

fn is_place_of_legs(name: &str) -> bool {
    name == "main_cdr" || name.starts_with("sub_cdr")
}

impl RowReader for Reader<'_> {
    fn next_row(&mut self) -> Result<Option<Row>> {
        self.broken = None;
        loop {
            let Some(event) = self.json.read()? else { return Ok(None) };
            let row = match event {
                Event::Begin(kind) => {
                    self.begin(kind);
                    None
                }
                Event::End(_) => self.end(),
                Event::Key => {
                    if let Some(frame) = self.frames.last_mut() {
                        self.json.text().clone_into(&mut frame.key);
                    }
                    None
                }
                Event::Broken(why) => Some(self.break_off(why)?),
                Event::Scalar | Event::Null | Event::TooLong => match self.frames.last_mut() {
                    Some(frame) if !frame.is_array => {
                        frame.too_long |= event == Event::TooLong;
                        frame.push(if event == Event::Scalar { self.json.text() } else { "" });
                        None
                    }
                    _ => self.stray(event),
                },
            };
            if row.is_some() {
                return Ok(row);
            }
        }
    }

    fn verbatim(&self) -> &[u8] {
        match &self.broken {
            Some(bytes) => bytes,
            None => self.json.verbatim(self.last.0, self.last.0 + self.last.1),
        }
    }
}
