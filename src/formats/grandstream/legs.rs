//! Legs in the answers of the CDR API, JSON or XML: the same members, envelopes and nesting.
//!
//! Must never trust the grouping (`main_cdr`, `sub_cdr_N`): firmware groups legs of different calls. Every object is
//! looked at by itself; a leg is one that has a start and an `AcctId`.

use crate::formats::syntax::json::{DEPTH_LIMIT, Event, Json, Kind};
use crate::formats::syntax::xml::Xml;
use crate::formats::syntax::{RECORD_CAP, encoding};
use crate::formats::{Row, RowReader};
use crate::record::card::Card;
use crate::record::document::{Dialect, Layout, LayoutUnusable, RowKind};
use crate::record::field::Field;
use crate::record::outcome::{Reason, Skip, VERBATIM_CAP};
use crate::record::raw::{Position, RawRecord};
use std::collections::HashMap;
use std::io::Result;
use std::sync::Arc;

/// Generation of documents whose outermost values are legs; a broken one can be passed over.
pub(super) const LEG_PER_VALUE: &str = "one leg per value";
/// Column sets that are remembered; more in one document are only slower.
const SHAPES: usize = 256;

/// Whether these members are those of a leg; other systems' records have some of them, none has all.
pub(super) fn is_leg(seen: &[Field]) -> bool {
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
    /// Nothing but the start lacks to make it a leg.
    startless: bool,
}

impl Shape {
    fn of(keys: &str, card: &'static Card, dialect: &Dialect) -> Self {
        let names = || keys.split_terminator('\0');
        let place = |field| names().position(|name| card.field_of(name) == Some(field));
        let parties = place(Field::CallerNumber).is_some() && place(Field::CalleeNumber).is_some();
        let (id, start) = (place(Field::RecordId), place(Field::Start));
        Self {
            layout: Layout::new(card, RowKind::Leg, names().map(str::to_owned), dialect.clone())
                .map(Arc::new),
            id,
            unique_id: place(Field::UniqueId),
            channel: place(Field::Channel),
            leg: start.is_some() && (id.is_some() || parties),
            startless: start.is_none() && id.is_some() && parties,
        }
    }
}

/// Where legs are read from: objects with members, however they are written.
pub(super) trait Tree {
    fn read(&mut self) -> Result<Option<Event>>;
    fn text(&self) -> &str;
    fn start(&self) -> u64;
    fn at(&self) -> u64;
    fn has_ended(&self) -> bool;
    fn verbatim(&self, start: u64, end: u64) -> &[u8];
    fn resume_at_line(&mut self, start: u64, from: u64) -> Result<(u64, Vec<u8>)>;
    fn resume_at_object(&mut self, start: u64, from: u64, left: usize) -> Result<(u64, Vec<u8>)>;
    /// Whether a repeated member stands for an array: then its name tells what it is.
    fn repeats_members(&self) -> bool;
    /// Whether the name of what just began says that it is a leg.
    fn begins_leg(&self) -> bool;
}

macro_rules! tree {
    ($reader:ident, $repeats:literal, $line:expr, $begins:expr) => {
        impl Tree for $reader<'_> {
            fn read(&mut self) -> Result<Option<Event>> {
                Self::read(self)
            }
            fn text(&self) -> &str {
                Self::text(self)
            }
            fn start(&self) -> u64 {
                Self::start(self)
            }
            fn at(&self) -> u64 {
                Self::at(self)
            }
            fn has_ended(&self) -> bool {
                Self::has_ended(self)
            }
            fn verbatim(&self, start: u64, end: u64) -> &[u8] {
                Self::verbatim(self, start, end)
            }
            fn resume_at_line(&mut self, start: u64, from: u64) -> Result<(u64, Vec<u8>)> {
                $line(self, start, from)
            }
            fn resume_at_object(&mut self, start: u64, from: u64, left: usize) -> Result<(u64, Vec<u8>)> {
                Self::resume_at_object(self, start, from, left)
            }
            fn repeats_members(&self) -> bool {
                $repeats
            }
            fn begins_leg(&self) -> bool {
                $begins(self)
            }
        }
    };
}

tree!(Json, false, Json::resume_at_line, |_: &Json<'_>| false);
// No generation of XML has a leg per line.
tree!(
    Xml,
    true,
    |xml: &mut Xml<'_>, start, from| xml.resume_at_object(start, from, usize::MAX),
    |xml: &Xml<'_>| xml.element() == "cdr"
);

/// Reads the legs of one document.
pub(super) struct Reader<T> {
    json: T,
    card: &'static Card,
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

impl<T: Tree> Reader<T> {
    pub(super) fn new(json: T, card: &'static Card, dialect: &Dialect) -> Self {
        Self {
            json,
            card,
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
            None => {
                let per_value = self.dialect.generation == LEG_PER_VALUE;
                frame.expected = frame.is_array || per_value || self.json.begins_leg();
            }
            Some(outer) => {
                frame.name.push_str(if outer.is_array { &outer.name } else { &outer.key });
                frame.expected = if outer.is_array {
                    outer.expected
                } else if frame.is_array {
                    is_place_of_legs(&frame.name) || matches!(frame.name.as_str(), "cdr" | "cdr_root")
                } else {
                    let repeated = self.json.repeats_members() && frame.name == "cdr";
                    repeated || is_place_of_legs(&frame.name)
                };
            }
        }
        self.frames.push(frame);
    }

    fn end(&mut self) -> Option<Row> {
        let frame = self.frames.pop()?;
        let row = if frame.is_array { self.empty_array(&frame) } else { self.object(&frame) };
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

    /// An empty array where a call should stand; one around all calls is an answer without any.
    fn empty_array(&mut self, frame: &Frame) -> Option<Row> {
        let among_calls = self.frames.last().is_some_and(|outer| outer.is_array && outer.expected);
        if frame.held_rows || !among_calls {
            return None;
        }
        self.row += 1;
        self.last = (frame.start, self.json.at() - frame.start);
        let position = Position { row: self.row, offset: self.last.0, length: self.last.1 };
        Some(Row::Skipped { position, why: Skip::Blank })
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
                self.shapes.insert(frame.keys.clone(), Shape::of(&frame.keys, self.card, &self.dialect));
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
        let may_be_row = frame.expected || shape.leg || shape.startless;
        if !may_be_row {
            return None;
        }
        if all_blank {
            return if frame.held_rows { None } else { skip(Skip::Blank) };
        }
        let group = !shape.startless || blank(shape.id);
        if !shape.leg && group && frame.held_rows {
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
        // Outside a call, what cannot be read begins it.
        let lost = Some(self.json.start()).filter(|word| reach(*word)).unwrap_or(at);
        let innermost = self.frames.last().filter(|frame| !frame.is_array);
        let (start, end, verbatim, next);
        if self.dialect.generation == LEG_PER_VALUE {
            let outermost = self.frames.first().filter(|frame| !frame.held_rows).map(|frame| frame.start);
            start = outermost.or(innermost.map(|frame| frame.start)).unwrap_or(lost);
            let from =
                if (outermost.is_some() || self.frames.is_empty()) && reach(start) { start } else { at };
            (end, verbatim) = self.json.resume_at_line(start, from)?;
            self.leave_frames(0);
            next = "line that begins with an object";
        } else {
            // An object that gave rows holds further ones: it stays open.
            let broken = innermost.filter(|frame| !frame.held_rows).map(|frame| frame.start);
            start = broken.unwrap_or(lost);
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

impl<T: Tree> RowReader for Reader<T> {
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
