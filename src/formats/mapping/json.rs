//! JSON as a stanza describes it: where the records are, and which members mean what. Members of objects within a record
//! are named with dots (`from.number`), arrays are kept as they are written.

use super::delimited::claim;
use super::shape::{Shape, coverage};
use super::{Mapped, StepConfig};
use crate::formats::dates::Survey;
use crate::formats::syntax::json::{DEPTH_LIMIT, Event, Json, Kind};
use crate::formats::syntax::{RECORD_CAP, encoding};
use crate::formats::{Head, Row, RowReader, Verdict};
use crate::record::card::normal_header;
use crate::record::document::{Dialect, LayoutUnusable};
use crate::record::field::Field;
use crate::record::outcome::{Reason, Skip, VERBATIM_CAP};
use crate::record::raw::Position;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Result};

/// Sets of members that are remembered; more in one document are only slower.
const SHAPES: usize = 256;

/// Whether a document is written so.
pub(super) fn recognise(
    format: Mapped,
    path: Option<&'static [StepConfig]>,
    head: &Head<'_>,
    pinned: bool,
) -> Verdict {
    let config = format.config;
    let dialect = config.dialect(config.encoding.unwrap_or_else(|| encoding::detect(head.bytes)));
    let mut reader = Reader::new(format, path, Box::new(head.bytes), &dialect);
    let (mut rows, mut survey) = (0, Survey::default());
    let mut members: BTreeSet<String> = BTreeSet::new();
    while let Ok(Some(row)) = reader.next_row() {
        if let Row::Record(record) = row {
            rows += 1;
            survey.add(record.get(Field::Start), None);
        }
    }
    for keys in reader.shapes.keys() {
        members.extend(keys.split_terminator('\0').map(normal_header));
    }
    let (found, lacking) = coverage(config, |name| members.contains(name));
    let behind = pinned && !head.complete && head.bytes.trim_ascii_start().starts_with(b"{");
    match lacking {
        _ if rows == 0 && reader.reached && pinned => claim(config, dialect, 0, &survey, 0),
        // Of a quiet day, or an answer that hides a fault: nothing in it tells.
        _ if rows == 0 && reader.reached => Verdict::refused(
            "the place of its records is empty, so that nothing tells whose it is; where that is usual, fix the format in the \
             source",
        ),
        // The first record lies behind what may be looked at: a person's word tells that there are any, but not which
        // order its dates have.
        _ if rows == 0 && behind && (!config.times.is_empty() || config.date_order.is_some()) => {
            claim(config, dialect, 0, &survey, 0)
        }
        _ if rows == 0 && behind => Verdict::Undecided {
            reason: Reason::DateOrderUnknown,
            message: "its first record begins behind the first 64 KiB, which are all that is looked at to see how dates \
                      are written; write dates = \"day-first\", \"month-first\" or their layout in the stanza"
                .to_owned(),
        },
        _ if rows == 0 => Verdict::refused("no object stands where the stanza says that records are"),
        Some(field) => Verdict::refused(format!("no object has the member for {}", field.name())),
        None if found * 2 < config.columns.len() => {
            Verdict::refused(format!("its objects have only {found} of the stanza's members"))
        }
        None => claim(config, dialect, found, &survey, rows),
    }
}

/// An object or array that is open.
struct Frame {
    kind: Kind,
    start: u64,
    /// Steps of the path that lead here; `None` beside the path.
    steps: Option<usize>,
    /// Rows before it.
    rows: u64,
    /// Member whose value comes next.
    key: String,
}

/// The record that is being read.
#[derive(Default)]
struct Record {
    /// Depth of its own object; 0 while there is none.
    depth: usize,
    /// Depth of the array within it that is kept as written; 0 for none.
    array: usize,
    too_long: bool,
    /// It stands behind the envelope, as if that had been closed too early: a record only if it looks like one.
    astray: bool,
    /// Names of its values, each followed by NUL.
    keys: String,
    values: String,
    ends: Vec<usize>,
}

impl Record {
    fn push(&mut self, name: impl Iterator<Item = char>, value: &str) {
        if self.too_long || self.keys.len() + self.values.len() + value.len() > RECORD_CAP {
            self.too_long = true;
            return;
        }
        // A NUL in a name would make two names of it.
        self.keys.extend(name.map(|c| if c == '\0' { '\u{fffd}' } else { c }));
        self.keys.push('\0');
        self.values.push_str(value);
        self.ends.push(self.values.len());
    }

    fn value(&self, place: usize) -> &str {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.ends.get(place).map_or("", |end| &self.values[start..*end])
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.ends.clear();
        (self.depth, self.array, self.too_long, self.astray) = (0, 0, false, false);
    }
}

/// Reads the rows of one document.
pub(super) struct Reader<'a> {
    format: Mapped,
    path: Option<&'static [StepConfig]>,
    json: Json<'a>,
    dialect: Dialect,
    frames: Vec<Frame>,
    record: Record,
    shapes: HashMap<String, std::result::Result<Shape, LayoutUnusable>>,
    /// The place of the records was reached.
    reached: bool,
    row: u64,
    /// Place of the row last returned.
    last: (u64, u64),
    broken: Option<Vec<u8>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        format: Mapped,
        path: Option<&'static [StepConfig]>,
        input: Box<dyn Read + 'a>,
        dialect: &Dialect,
    ) -> Self {
        Self {
            format,
            path,
            json: Json::new(input, dialect.encoding),
            dialect: dialect.clone(),
            frames: Vec::new(),
            record: Record::default(),
            shapes: HashMap::new(),
            reached: false,
            row: 0,
            last: (0, 0),
            broken: None,
        }
    }

    /// Steps of the path that lead to the next value.
    fn steps(&self) -> Option<usize> {
        let Some(outer) = self.frames.last() else { return Some(0) };
        let path = self.path.unwrap_or_default();
        let steps = outer.steps?;
        // An array around all records, or one that a stray bracket made: what it holds stands where it stands.
        if outer.kind == Kind::Array && steps == path.len() {
            return Some(steps);
        }
        let leads = match (path.get(steps)?, outer.kind) {
            (StepConfig::Member(name), Kind::Object) => *name == outer.key,
            (StepConfig::Each, Kind::Array) => true,
            _ => false,
        };
        leads.then_some(steps + 1)
    }

    /// Whether a value to which this many steps lead is where records are.
    fn is_place(&self, steps: Option<usize>) -> bool {
        steps.is_some_and(|steps| steps == self.path.map_or(0, <[_]>::len))
    }

    fn begin(&mut self, kind: Kind) {
        let inside = self.record.depth > 0;
        let steps = if inside { None } else { self.steps() };
        self.frames.push(Frame { kind, start: self.json.start(), steps, rows: self.row, key: String::new() });
        let leads_to_each = || {
            let path = self.path.unwrap_or(&[StepConfig::Each]);
            steps.is_some_and(|steps| path.get(steps) == Some(&StepConfig::Each) && steps + 1 == path.len())
        };
        if inside {
            if kind == Kind::Array && self.record.array == 0 {
                self.record.array = self.frames.len();
            }
        } else if kind == Kind::Object && self.is_place(steps) {
            self.record.depth = self.frames.len();
            self.reached = true;
        } else if kind == Kind::Array && leads_to_each() {
            self.reached = true;
        } else if kind == Kind::Object && self.reached && self.frames.len() == 1 {
            (self.record.depth, self.record.astray) = (1, true);
        }
    }

    fn end(&mut self) -> Option<Row> {
        let depth = self.frames.len();
        let frame = self.frames.pop()?;
        if self.record.depth == depth {
            return self.finish(&frame);
        }
        if self.record.array == depth {
            self.record.array = 0;
            let (start, end) = (frame.start, self.json.at());
            let raw = encoding::transcode(self.dialect.encoding, self.json.verbatim(start, end));
            let text = encoding::decode(&raw);
            let empty = text.bytes().all(|byte| b"{}[] \t\r\n".contains(&byte));
            self.record.too_long |= end - start > VERBATIM_CAP as u64;
            let name = name(&self.frames, self.record.depth);
            self.record.push(name, if empty { "" } else { &text });
        }
        // An empty array where a record should stand; one around all records is an answer without any.
        let among_records = self.frames.last().is_some_and(|outer| outer.kind == Kind::Array);
        if frame.kind == Kind::Array
            && among_records
            && self.record.depth == 0
            && self.is_place(frame.steps)
            && self.row == frame.rows
        {
            let position = self.next_position(frame.start);
            return Some(Row::Skipped { position, why: Skip::Blank });
        }
        None
    }

    fn value(&mut self, event: Event) -> Option<Row> {
        if self.record.array > 0 {
            return None;
        }
        if self.record.depth > 0 {
            self.record.too_long |= event == Event::TooLong;
            let text = if event == Event::Scalar { self.json.text() } else { "" };
            self.record.push(name(&self.frames, self.record.depth), text);
            return None;
        }
        // Something else where a record should stand.
        if !self.is_place(self.steps()) {
            return None;
        }
        let position = self.next_position(self.json.start());
        if event == Event::Null {
            return Some(Row::Skipped { position, why: Skip::Blank });
        }
        let message = "a bare value where a record should stand; look at it in the original";
        Some(self.fault(position, Reason::ColumnsUnusable, message.to_owned()))
    }

    fn next_position(&mut self, start: u64) -> Position {
        self.row += 1;
        self.last = (start, self.json.at() - start);
        Position { row: self.row, offset: self.last.0, length: self.last.1 }
    }

    fn fault(&self, position: Position, reason: Reason, message: String) -> Row {
        let end = position.offset + position.length;
        Row::fault(position, reason, message, self.json.verbatim(position.offset, end))
    }

    /// What a record that has ended is.
    fn finish(&mut self, frame: &Frame) -> Option<Row> {
        if self.record.astray {
            let members: Vec<String> = self.record.keys.split_terminator('\0').map(normal_header).collect();
            let (_, lacking) =
                coverage(self.format.config, |name| members.iter().any(|member| member == name));
            if lacking.is_some() {
                self.record.clear();
                return None;
            }
        }
        let position = self.next_position(frame.start);
        let row = self.classify(position);
        self.record.clear();
        Some(row)
    }

    fn key(&mut self) {
        let Some(frame) = self.frames.last_mut() else { return };
        self.json.text().clone_into(&mut frame.key);
        // Another envelope, not a record.
        let first = self.path.and_then(<[_]>::first);
        if self.record.astray
            && self.frames.len() == 1
            && matches!((first, self.frames.first()), (Some(StepConfig::Member(name)), Some(frame)) if *name == frame.key)
        {
            self.record.clear();
        }
    }

    fn classify(&mut self, position: Position) -> Row {
        if self.record.too_long {
            let message = "the object is longer than 1 MiB, which no call is; look at it in the original";
            return self.fault(position, Reason::RecordTooLong, message.to_owned());
        }
        if self.record.values.trim().is_empty() {
            return Row::Skipped { position, why: Skip::Blank };
        }
        if !self.shapes.contains_key(&self.record.keys) {
            if self.shapes.len() >= SHAPES {
                self.shapes.clear();
            }
            let members: Vec<String> = self.record.keys.split_terminator('\0').map(str::to_owned).collect();
            let shape = Shape::new(self.format, &members, &self.dialect, true);
            self.shapes.insert(self.record.keys.clone(), shape);
        }
        let shape = match &self.shapes[&self.record.keys] {
            Ok(shape) => shape,
            Err(unusable) => return self.fault(position, Reason::ColumnsUnusable, unusable.to_string()),
        };
        let value = |place: usize| Cow::Borrowed(self.record.value(place));
        if shape.skips(self.record.ends.len(), value) {
            return Row::Skipped { position, why: Skip::NoCall };
        }
        match shape.record(position, value) {
            Ok(record) => Row::Record(record),
            Err((reason, message)) => self.fault(position, reason, message.to_owned()),
        }
    }

    /// How many objects and arrays are open where the elements of the innermost array on the path stand.
    fn container(&self) -> Option<usize> {
        let path = self.path.unwrap_or(&[StepConfig::Each]);
        let holds = |frame: &Frame| {
            let step = frame.steps.and_then(|steps| path.get(steps));
            frame.kind == Kind::Array && step == Some(&StepConfig::Each)
        };
        self.frames.iter().rposition(holds).map(|place| place + 1)
    }

    /// The syntax breaks off: one fault for the record in hand, and reading goes on behind it.
    fn break_off(&mut self, why: &str) -> Result<Row> {
        let at = self.json.at();
        let record = self.record.depth.checked_sub(1);
        // Outside a record, what cannot be read begins it.
        let word = self.json.start();
        let lost = if at - word <= RECORD_CAP as u64 { word } else { at };
        let start = record.map_or(lost, |depth| self.frames[depth].start);
        let reach = at - start <= RECORD_CAP as u64;
        let (end, verbatim);
        if record.map_or(self.frames.is_empty(), |depth| depth == 0) {
            (end, verbatim) = self.json.resume_at_line(start, if reach { start } else { at })?;
            self.frames.clear();
        } else if self.frames.len() < DEPTH_LIMIT {
            let left = self.frames.len() - record.or_else(|| self.container()).unwrap_or(self.frames.len());
            let from = if reach { (start + encoding::unit(self.dialect.encoding)).min(at) } else { at };
            (end, verbatim) = self.json.resume_at_object(start, from, left)?;
            self.frames.truncate(self.frames.len() - left);
        } else {
            (end, verbatim) = (at, self.json.verbatim(start, at).to_vec());
        }
        self.record.clear();
        let rest =
            if self.json.has_ended() { "no further record was found" } else { "reading went on behind it" };
        let message = format!("{why} (byte {at}); {rest}, have the document sent again, complete");
        self.row += 1;
        let position = Position { row: self.row, offset: start, length: end - start };
        let row = Row::fault(position, Reason::SyntaxBroken, message, &verbatim);
        self.broken = Some(verbatim);
        Ok(row)
    }
}

/// The member that is being read, with those that hold it.
fn name(frames: &[Frame], depth: usize) -> impl Iterator<Item = char> {
    let inside = frames.iter().skip(depth.saturating_sub(1)).enumerate();
    inside.flat_map(|(place, frame)| (place > 0).then_some('.').into_iter().chain(frame.key.chars()))
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
                    self.key();
                    None
                }
                Event::Broken(why) => Some(self.break_off(why)?),
                Event::Scalar | Event::Null | Event::TooLong => self.value(event),
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
