//! One document: recognise, then read, normalise, identify and commit in chunks.
//!
//! The whole document is read from its start, because copies are counted over all its rows and archives cannot be entered
//! in the middle; rows below the store's `next_row` are read and dropped. Only one that grows is read on: `generation`.

mod generation;

pub(super) use generation::{Kept, read as read_generation};

use super::body::{Filled, ScratchFolder, read_up_to};
use super::{Pipeline, PipelineError, journal};
use crate::dedup::Identifier;
use crate::formats::{Head, Row, RowReader};
use crate::intake::{Intake, Look};
use crate::normalise::{ClockWatch, Derivation};
use crate::record::delivery::Spooled;
use crate::record::document::ZoneRule;
use crate::record::outcome::{Rejection, VERBATIM_CAP};
use crate::record::raw::Position;
use crate::store::{Chunk, ChunkRow, DocumentEnd, DocumentStart, Grown, Opened, Pending, Repeat, StoreError};
use crate::unpack;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a document's beginning that formats may look at.
pub(super) const HEAD: usize = 64 * 1024;
/// Rows of a chunk: small enough that a chunk is a few hundred KiB, large enough that its fence costs nothing.
const CHUNK_ROWS: usize = 256;
/// Source bytes of a chunk: rows of 20 KB must not make it a hundred times as large.
const CHUNK_BYTES: usize = 128 * 1024;
/// Chunks that were handed over and not yet committed: as many as a transaction takes. How many of them are in memory
/// is bounded by the store's queue.
const IN_FLIGHT: usize = 256;
/// A line about a long document every so often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What all documents of a body share.
pub(super) struct Context<'p> {
    pub pipeline: &'p Pipeline,
    pub spooled: &'p Spooled,
    /// What the body was before its first byte was read.
    pub began: Look,
    /// The file is not what was read before: begin a new run of each document.
    pub restart: bool,
    /// The one document is the body, whose hash is known without hashing it again.
    pub plain: bool,
    /// Answers to the last chunks of documents that were read: their commit is waited for once, for all.
    pub chunks: RefCell<Vec<Pending>>,
    /// Counts of equal rows at the beginning of a stream that is read again.
    pub before: Vec<([u8; 16], u32)>,
    pub stop: &'p AtomicBool,
}

impl Context<'_> {
    /// The door.
    pub fn intake(&self) -> &Intake {
        &self.pipeline.parts.intake
    }

    fn start(&self, number: u32, path: &str) -> DocumentStart {
        DocumentStart {
            delivery: self.spooled.id,
            number,
            path: path.to_owned(),
            format: None,
            dialect: None,
            claim: self.pipeline.parts.claim.clone(),
            repeat: None,
        }
    }
}

/// How a document was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It was read and its last chunk is on its way: the hash and size of its unpacked bytes.
    Read([u8; 32], u64),
    /// Nothing was to be read: rejected, empty, seen before, or done before a restart.
    Done,
    /// The body changed under the reader; nothing of the last chunk was committed.
    Changed,
}

/// Called when all rows were read and before the last chunk commits: makes the original durable, looks at the file
/// again (`false`: it changed), and gives the document's hash where it is the body's.
pub(super) type BeforeLast<'b> = dyn FnMut() -> Result<(bool, Option<[u8; 32]>), PipelineError> + 'b;

/// Reads a document to its end.
pub(super) fn read(
    context: &Context<'_>,
    number: u32,
    path: &str,
    reader: &mut dyn Read,
    repeat: Option<Repeat>,
    before_last: &mut BeforeLast<'_>,
) -> Result<Step, PipelineError> {
    if repeat.is_some() {
        let start = DocumentStart { repeat, ..context.start(number, path) };
        if context.pipeline.parts.store.open_document(&start)?.done {
            return without_rows(before_last);
        }
    }
    let hasher = (!context.plain).then(blake3::Hasher::new);
    let mut reader = Watched { inner: reader, hasher, bytes: 0 };
    // One byte more than a plain body has shows that it ends there.
    let most = if context.plain { context.spooled.bytes.saturating_add(1) } else { u64::MAX };
    let mut head = vec![0; usize::try_from(most).map_or(HEAD, |most| most.min(HEAD))];
    let Filled { bytes: length, whole } = match read_up_to(&mut reader, &mut head) {
        Ok(filled) => filled,
        Err(error) => match broken(&error) {
            Some(rejection) => return reject_after(context, number, path, rejection, before_last),
            None => return Err(body_failed(context, error)),
        },
    };
    if length == 0 {
        // Zero bytes are no document: senders probe with an empty file (CUCM does, before its first delivery).
        return without_rows(before_last);
    }
    head.truncate(length);
    let name = if path.is_empty() { context.spooled.name.as_str() } else { path };
    let seen = Head { bytes: &head, complete: whole, name };
    let recognition =
        context.pipeline.parts.formats.recognise(&seen, context.spooled.pinned_format.as_deref());
    let (format, mut claim) = match recognition.chosen {
        Ok(chosen) => chosen,
        Err(rejection) => {
            let rejection = broken_behind(&mut reader, length, whole).unwrap_or(*rejection);
            return reject_after(context, number, path, rejection, before_last);
        }
    };
    if let Some(zone) = &context.spooled.time_zone {
        claim.dialect.zone = ZoneRule::Named(zone.clone());
    }
    let start = DocumentStart {
        format: Some(format.card().id.to_owned()),
        dialect: Some(claim.dialect.clone()),
        ..context.start(number, path)
    };
    let opened = open(context, &start)?;
    if opened.done {
        return without_rows(before_last);
    }
    let input = Cursor::new(head).chain(&mut reader);
    let mut rows = format.open(&claim.dialect, Box::new(input));
    let mut committer = Committer::new(context, opened)?;
    let broken_off = committer.read_rows(&mut *rows)?;
    drop(rows);
    if let Some(rejection) = broken_off {
        committer.push(ChunkRow::Rejected(Box::new(rejection)))?;
    }
    committer.finish(before_last, &mut reader)
}

/// Why a head ends before the document does, if its envelope broke off: nobody can know what so little is, and sending
/// it again is the mend.
pub(super) fn broken_behind(reader: &mut dyn Read, length: usize, whole: bool) -> Option<Rejection> {
    if whole || length == HEAD {
        return None;
    }
    reader.read(&mut [0]).err().as_ref().and_then(broken)
}

fn without_rows(before_last: &mut BeforeLast<'_>) -> Result<Step, PipelineError> {
    let (unchanged, _) = before_last()?;
    Ok(if unchanged { Step::Done } else { Step::Changed })
}

/// Notes a document that could not be entered at all.
pub(super) fn reject(
    context: &Context<'_>,
    number: u32,
    path: &str,
    rejection: Rejection,
) -> Result<Step, PipelineError> {
    reject_after(context, number, path, rejection, &mut || Ok((true, None)))
}

fn reject_after(
    context: &Context<'_>,
    number: u32,
    path: &str,
    rejection: Rejection,
    before_last: &mut BeforeLast<'_>,
) -> Result<Step, PipelineError> {
    let start = context.start(number, path);
    let opened = open(context, &start)?;
    let (unchanged, content_hash) = before_last()?;
    if !unchanged {
        return Ok(Step::Changed);
    }
    if !opened.done {
        journal::document_rejected(context.spooled, path, &rejection);
        let chunk = Chunk {
            document: opened.document,
            claim: start.claim,
            from_row: opened.next_row,
            next_row: opened.next_row,
            rows: vec![ChunkRow::Rejected(Box::new(rejection))],
            end: Some(DocumentEnd { rejected: true, content_hash }),
            grown: None,
        };
        context.chunks.borrow_mut().push(context.pipeline.parts.store.commit(chunk));
    }
    Ok(Step::Done)
}

fn open(context: &Context<'_>, start: &DocumentStart) -> Result<Opened, StoreError> {
    let store = &context.pipeline.parts.store;
    let opened = store.open_document(start)?;
    if !context.restart || (opened.next_row == 1 && !opened.done) {
        return Ok(opened);
    }
    store.restart_document(opened.document, &start.claim)?;
    // Once more, because other bytes may be of another format or dialect.
    store.open_document(start)
}

/// The origin's part of the identity.
fn origin_key<'p>(context: &Context<'p>) -> Result<&'p str, PipelineError> {
    let origin = &context.spooled.origin;
    context.pipeline.parts.origin_keys.get(origin).map(String::as_str).ok_or_else(|| {
        PipelineError::OriginGone { delivery: context.spooled.id.to_string(), origin: origin.clone() }
    })
}

/// Turns rows into chunks and keeps a few on their way to the writer.
struct Committer<'c, 'p> {
    context: &'c Context<'p>,
    opened: Opened,
    derivation: Derivation<'p>,
    identifier: Identifier,
    clock: ClockWatch,
    rows: Vec<ChunkRow>,
    /// `next_row` once everything handed over so far is committed.
    handed: u64,
    /// The row that will be read next.
    next_row: u64,
    in_flight: VecDeque<Pending>,
    /// Source bytes of `rows`.
    bytes: usize,
    /// Where the last row begins, in a document that grows.
    at: Option<u64>,
    /// When a line about this document was last said.
    said: Instant,
}

impl<'c, 'p> Committer<'c, 'p> {
    fn new(context: &'c Context<'p>, opened: Opened) -> Result<Self, PipelineError> {
        let scratch = ScratchFolder(context.pipeline.parts.scratch.clone());
        let mut identifier = Identifier::new(origin_key(context)?, Some(Box::new(scratch)));
        identifier
            .seed(context.before.iter().copied())
            .map_err(|cause| PipelineError::Scratch { delivery: context.spooled.id.to_string(), cause })?;
        Ok(Self::with(context, opened, identifier))
    }

    fn with(context: &'c Context<'p>, opened: Opened, identifier: Identifier) -> Self {
        let (engine, spooled) = (&context.pipeline.parts.engine, context.spooled);
        Self {
            context,
            opened,
            derivation: engine.derivation(&spooled.origin, &spooled.source),
            identifier,
            clock: ClockWatch::new(),
            rows: Vec::with_capacity(CHUNK_ROWS),
            bytes: 0,
            at: None,
            said: Instant::now(),
            handed: opened.next_row,
            next_row: 1,
            in_flight: VecDeque::new(),
        }
    }

    /// Reads all rows. Gives the rejection of the rest when the envelope broke off under the reader.
    fn read_rows(&mut self, rows: &mut dyn RowReader) -> Result<Option<Rejection>, PipelineError> {
        loop {
            match rows.next_row() {
                Ok(Some(row)) => {
                    let outcome = self.outcome(row, rows)?;
                    self.push(outcome)?;
                }
                Ok(None) => return Ok(None),
                Err(error) => {
                    let Some(mut rejection) = broken(&error) else {
                        self.drain()?;
                        return Err(body_failed(self.context, error));
                    };
                    rejection.position.row = self.next_row;
                    return Ok(Some(rejection));
                }
            }
        }
    }

    fn outcome(&mut self, row: Row, reader: &dyn RowReader) -> Result<ChunkRow, PipelineError> {
        Ok(match row {
            Row::Skipped { why, .. } => ChunkRow::Skipped(why),
            Row::Fault(rejection) => ChunkRow::Rejected(Box::new(rejection)),
            Row::Record(raw) => {
                let spooled = self.context.spooled;
                match self.derivation.derive(raw) {
                    Ok(leg) => {
                        self.clock.see(&leg);
                        let identified = self.identifier.identify(leg);
                        ChunkRow::Leg(Box::new(identified.map_err(|cause| PipelineError::Scratch {
                            delivery: spooled.id.to_string(),
                            cause,
                        })?))
                    }
                    Err(mut rejection) => {
                        let bytes = reader.verbatim();
                        rejection.verbatim = bytes[..bytes.len().min(VERBATIM_CAP)].to_vec();
                        ChunkRow::Rejected(rejection)
                    }
                }
            }
        })
    }

    /// Takes the next row; hands a full chunk over.
    fn push(&mut self, row: ChunkRow) -> Result<(), PipelineError> {
        let number = self.next_row;
        self.next_row += 1;
        self.context.pipeline.parts.progress.add_row(self.context.spooled.id);
        if number >= self.opened.next_row {
            self.bytes += size_of_row(&row);
            self.rows.push(row);
            if self.rows.len() >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES {
                self.hand_over(None)?;
            }
        }
        // Also while rows of an earlier run are passed over: that may be millions.
        if number.is_multiple_of(CHUNK_ROWS as u64) { self.pause() } else { Ok(()) }
    }

    /// Ends at a stop signal; says a line when this takes long.
    fn pause(&mut self) -> Result<(), PipelineError> {
        if self.context.stop.load(Ordering::Relaxed) {
            self.drain()?;
            return Err(PipelineError::Stopping);
        }
        if self.said.elapsed() >= LINE_EVERY {
            self.said = Instant::now();
            journal::still_reading(self.context.spooled, self.next_row - 1);
        }
        Ok(())
    }

    fn hand_over(&mut self, end: Option<DocumentEnd>) -> Result<(), PipelineError> {
        let chunk = Chunk {
            document: self.opened.document,
            claim: self.context.pipeline.parts.claim.clone(),
            from_row: self.handed,
            next_row: self.next_row.max(self.handed),
            rows: std::mem::replace(&mut self.rows, Vec::with_capacity(CHUNK_ROWS)),
            end,
            grown: self
                .at
                .map(|resume_offset| Grown { resume_offset, copies: self.identifier.take_counted() }),
        };
        self.bytes = 0;
        self.handed = chunk.next_row;
        self.in_flight.push_back(self.context.pipeline.parts.store.commit(chunk));
        while self.in_flight.len() > IN_FLIGHT {
            self.settle_one()?;
        }
        Ok(())
    }

    fn settle_one(&mut self) -> Result<(), PipelineError> {
        if let Some(pending) = self.in_flight.pop_front() {
            pending.wait()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), PipelineError> {
        while !self.in_flight.is_empty() {
            self.settle_one()?;
        }
        Ok(())
    }

    fn finish(
        mut self,
        before_last: &mut BeforeLast<'_>,
        reader: &mut Watched<'_>,
    ) -> Result<Step, PipelineError> {
        // A parser may stop early; the document is known by all of its bytes.
        match std::io::copy(reader, &mut std::io::sink()) {
            Err(error) if broken(&error).is_none() => return Err(body_failed(self.context, error)),
            _ => {}
        }
        let (unchanged, body_hash) = before_last()?;
        if !unchanged {
            self.drain()?;
            return Ok(Step::Changed);
        }
        if self.next_row < self.opened.next_row {
            self.drain()?;
            return Err(PipelineError::ReadsOtherwise { delivery: self.context.spooled.id.to_string() });
        }
        let content_hash = body_hash.or_else(|| reader.hash());
        self.hand_over(Some(DocumentEnd { rejected: false, content_hash }))?;
        self.context.chunks.borrow_mut().extend(std::mem::take(&mut self.in_flight));
        self.report_clock()?;
        Ok(content_hash.map_or(Step::Done, |hash| Step::Read(hash, reader.bytes)))
    }

    /// Says once, loudly, that an origin's zone or clock disagrees with the ids in its own records; takes it back when
    /// they agree again.
    fn report_clock(&self) -> Result<(), PipelineError> {
        let pipeline = self.context.pipeline;
        let origin = &self.context.spooled.origin;
        let fault = match self.clock.verdict() {
            Some(verdict) => verdict.to_string(),
            None if self.clock.agrees() => String::new(),
            None => return Ok(()),
        };
        if !pipeline.clock_changed(origin, &fault) {
            return Ok(());
        }
        let news = pipeline.parts.store.clock_fault(origin, &fault)?;
        if news && !fault.is_empty() && pipeline.told_first(&self.context.spooled.source, &fault) {
            journal::clock_fault(self.context.spooled, &fault);
        }
        Ok(())
    }
}

/// What a row roughly holds in memory: its source bytes.
fn size_of_row(row: &ChunkRow) -> usize {
    match row {
        ChunkRow::Leg(leg) => usize::try_from(leg.leg.raw.position.length).unwrap_or(usize::MAX),
        ChunkRow::Rejected(rejection) => rejection.verbatim.len(),
        ChunkRow::Skipped(_) => 0,
    }
}

/// The document's bytes, hashed and counted.
struct Watched<'r> {
    inner: &'r mut dyn Read,
    hasher: Option<blake3::Hasher>,
    bytes: u64,
}

impl Watched<'_> {
    fn hash(&self) -> Option<[u8; 32]> {
        self.hasher.as_ref().map(|hasher| *hasher.finalize().as_bytes())
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        self.bytes += read as u64;
        Ok(read)
    }
}

/// The rejection that an unpacker's error stands for; `None` for an error of the disk.
pub(super) fn broken(error: &std::io::Error) -> Option<Rejection> {
    let broken = unpack::Broken::of(error)?;
    Some(Rejection {
        position: Position::default(),
        field: None,
        reason: broken.reason,
        message: broken.message.clone(),
        verbatim: Vec::new(),
    })
}

pub(super) fn body_failed(context: &Context<'_>, cause: std::io::Error) -> PipelineError {
    PipelineError::Body { delivery: context.spooled.id.to_string(), cause }
}
