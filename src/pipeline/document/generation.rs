//! A document that grows: read on from the last row that is committed, as if it had been read in one go.
//!
//! Must never commit a row that the bytes to come could still change: whole lines only, and none from the first on for
//! whose sake the parser had to look beyond the end.

use super::{Committer, Context, HEAD, body_failed, origin_key, reject};
use crate::dedup::Identifier;
use crate::formats::{Claim, Format, Formats, Head, Row, RowReader, Verdict};
use crate::intake::Claimed;
use crate::normalise::ClockWatch;
use crate::pipeline::body::{self, BodyRead, ScratchFolder, read_up_to};
use crate::pipeline::{Pipeline, PipelineError, journal};
use crate::record::delivery::{Growth, SpooledBody};
use crate::record::document::{Dialect, ZoneRule};
use crate::record::outcome::{Reason, Rejection};
use crate::record::raw::Position;
use crate::store::{DocumentEnd, DocumentStart, OpenedGrowing};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Bytes searched for a line end at a time.
const STEP: usize = 64 * 1024;

/// Reads on as far as there are whole rows; to the end, with its original, when the generation has ended. Gives the rows
/// that are new, too.
pub(in crate::pipeline) fn read(
    pipeline: &Pipeline,
    claimed: &Claimed,
    growth: Growth,
    stop: &AtomicBool,
) -> Result<(Option<BodyRead>, u64), PipelineError> {
    let (spooled, began) = (&claimed.spooled, pipeline.parts.intake.first_look(claimed)?);
    let context = Context {
        pipeline,
        spooled,
        began,
        restart: false,
        plain: true,
        chunks: RefCell::default(),
        before: Vec::new(),
        foreseen: Cell::default(),
        stop,
    };
    let failed = |cause| body_failed(&context, cause);
    let SpooledBody::File { path, .. } = &spooled.body else {
        return Err(failed(std::io::Error::other("a body that grows is a file")));
    };
    let body = File::open(path).map_err(failed)?;
    let length =
        if growth.ended { spooled.bytes } else { whole_lines(&body, spooled.bytes).map_err(failed)? };
    let mut generation = Generation { context: &context, body, length, growth, rows: Cell::new(0) };
    let read = if generation.growth.ended { Some(generation.finish()?) } else { None };
    if read.is_none() {
        generation.go_on()?;
    }
    let rows = generation.rows.get();
    for chunk in context.chunks.take() {
        chunk.wait()?;
    }
    Ok((read, rows))
}

/// How many of the first `length` bytes are whole lines.
fn whole_lines(body: &File, length: u64) -> std::io::Result<u64> {
    let mut end = length;
    let mut buffer = vec![0; STEP];
    while end > 0 {
        let start = end.saturating_sub(STEP as u64);
        let piece = &mut buffer[..usize::try_from(end - start).map_err(std::io::Error::other)?];
        body.read_exact_at(piece, start)?;
        if let Some(place) = memchr::memrchr(b'\n', piece) {
            return Ok(start + place as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Counters and clock of a document that grows, kept in memory between two looks. The store has the counters too.
pub(in crate::pipeline) type Kept = (Stream, Identifier, ClockWatch);

/// How far they have come.
#[derive(Debug, Clone, Copy)]
pub(in crate::pipeline) struct Stream {
    /// The row that is read next.
    next_row: u64,
    /// The first row that the clock saw.
    watched_from: u64,
    /// When the counters were taken from the store.
    loaded: Instant,
}

/// After this time the counters are taken from the store again, which forgets what is long ago.
const FRESH: Duration = Duration::from_hours(1);
/// Rows from which the clock is judged: one call alone may have begun long before its leg.
const CLOCK_ROWS: u64 = 20;

/// One life of a followed file, as far as its bytes may be read.
struct Generation<'c, 'p> {
    context: &'c Context<'p>,
    body: File,
    length: u64,
    growth: Growth,
    /// Rows that were not there at the look before.
    rows: Cell<u64>,
}

impl Generation<'_, '_> {
    /// Stores what came.
    fn go_on(&mut self) -> Result<(), PipelineError> {
        let Some((opened, format)) = self.open()? else { return Ok(()) };
        let (mut committer, since) = self.committer(&opened)?;
        self.read_rows(&mut committer, &opened, format)?;
        committer.hand_over_rest()?;
        committer.drain()?;
        let mut stream = Stream { next_row: committer.next_row, ..since };
        self.rows.set(stream.next_row - opened.opened.next_row);
        if stream.next_row - stream.watched_from >= CLOCK_ROWS {
            committer.report_clock()?;
            (committer.clock, stream.watched_from) = (ClockWatch::new(), stream.next_row);
        }
        let kept = (stream, committer.identifier, committer.clock);
        self.context.pipeline.keep_stream(self.context.spooled.id, kept);
        Ok(())
    }

    /// Stores what is left, and makes the original.
    fn finish(&mut self) -> Result<BodyRead, PipelineError> {
        let opened = self.open()?;
        let committer = match &opened {
            Some((opened, format)) => {
                let (mut committer, stream) = self.committer(opened)?;
                self.read_rows(&mut committer, opened, *format)?;
                let rows = committer.next_row - opened.opened.next_row;
                Some((committer, stream.watched_from, rows))
            }
            None => None,
        };
        let read = body::archive(self.context)?;
        if let Some((mut committer, watched_from, rows)) = committer {
            self.rows.set(rows);
            let end = DocumentEnd { rejected: false, content_hash: Some(read.content_hash) };
            committer.hand_over(Some(end))?;
            committer.drain()?;
            if watched_from == 1 || committer.next_row - watched_from >= CLOCK_ROWS {
                committer.report_clock()?;
            }
        }
        Ok(read)
    }

    /// The document and its format, fixed once; `None` while there is nothing to read: no row yet, or none that
    /// anybody can read.
    fn open(&mut self) -> Result<Option<(OpenedGrowing, &'static dyn Format)>, PipelineError> {
        if let Some(opened) = self.opened()? {
            return if opened.opened.done { Ok(None) } else { self.known(opened) };
        }
        let head = self.head()?;
        if head.is_empty() {
            return Ok(None);
        }
        let spooled = self.context.spooled;
        let seen = Head { bytes: &head, complete: head.len() < HEAD, name: &spooled.name };
        let formats = &self.context.pipeline.parts.formats;
        let recognition = formats.recognise(&seen, spooled.pinned_format.as_deref());
        let chosen = recognition.chosen.map_err(|rejection| *rejection).and_then(|(format, claim)| {
            if format.is_lines(&claim.dialect) { Ok((format, claim.dialect)) } else { Err(no_lines(format)) }
        });
        let (format, mut dialect) = match chosen {
            Ok(chosen) => chosen,
            // A first line alone may tell too little; the bytes are safe meanwhile.
            Err(rejection) if head.len() < HEAD && !self.growth.ended => {
                let told = format!("not recognised {}", spooled.id);
                if self.context.pipeline.told_first(&spooled.source, &told) {
                    journal::not_recognised_yet(spooled, &rejection);
                }
                return Ok(None);
            }
            Err(rejection) => {
                reject(self.context, 1, "", rejection)?;
                return Ok(None);
            }
        };
        // A header alone does not tell how dates are written.
        let undecided = head.len() < HEAD && !self.growth.ended;
        let first =
            first_record(&head, format, &dialect).map_err(|cause| body_failed(self.context, cause))?;
        if undecided && first.is_none() {
            return Ok(None);
        }
        if let Some(zone) = &spooled.time_zone {
            dialect.zone = ZoneRule::Named(zone.clone());
        }
        let start = DocumentStart {
            format: Some(format.card().id.to_owned()),
            dialect: Some(dialect),
            ..self.context.start(1, "")
        };
        self.context.pipeline.parts.store.open_document(&start).wait()?;
        self.opened()?.map_or(Ok(None), |opened| self.known(opened))
    }

    /// The format of a document that was opened before.
    fn known(
        &self,
        opened: OpenedGrowing,
    ) -> Result<Option<(OpenedGrowing, &'static dyn Format)>, PipelineError> {
        let Some((id, dialect)) = &opened.read_as else { return Ok(None) };
        match self.context.pipeline.parts.formats.by_id(id) {
            Some(format) if !Formats::is_built_in(id) && self.is_written_otherwise(format, dialect)? => {
                Err(reads_otherwise(self.context))
            }
            Some(format) => Ok(Some((opened, format))),
            None => Err(PipelineError::FormatGone {
                delivery: self.context.spooled.id.to_string(),
                format: id.clone(),
            }),
        }
    }

    /// Whether a format that a person describes has changed since: rows would be cut and named in another way.
    fn is_written_otherwise(
        &self,
        format: &'static dyn Format,
        then: &Dialect,
    ) -> Result<bool, PipelineError> {
        let head = self.head()?;
        let name = &self.context.spooled.name;
        Ok(match format.recognise_pinned(&Head { bytes: &head, complete: head.len() < HEAD, name }) {
            Verdict::Refused { .. } => true,
            Verdict::Undecided { .. } => false,
            Verdict::Claimed(Claim { dialect: now, .. }) => {
                (now.separator, now.lengths) != (then.separator, then.lengths)
                    || !now.times.starts_with(&then.times)
            }
        })
    }

    fn opened(&self) -> Result<Option<OpenedGrowing>, PipelineError> {
        let parts = &self.context.pipeline.parts;
        Ok(parts.store.open_growing(self.context.spooled.id, &parts.claim, self.growth.continues)?)
    }

    /// The first bytes.
    fn head(&self) -> Result<Vec<u8>, PipelineError> {
        let mut head = vec![0; HEAD];
        let mut begin = (&self.body).take(self.length);
        begin.get_mut().seek(SeekFrom::Start(0)).map_err(|cause| body_failed(self.context, cause))?;
        let length =
            read_up_to(&mut begin, &mut head).map_err(|cause| body_failed(self.context, cause))?.bytes;
        head.truncate(length);
        Ok(head)
    }

    fn committer(&self, opened: &OpenedGrowing) -> Result<(Committer<'_, '_>, Stream), PipelineError> {
        let pipeline = self.context.pipeline;
        let next_row = opened.opened.next_row;
        let kept = pipeline.take_stream(self.context.spooled.id);
        let (stream, identifier, clock) = match kept.filter(|(kept, ..)| kept.next_row == next_row) {
            Some((stream, identifier, clock)) if stream.loaded.elapsed() < FRESH => {
                (stream, Some(identifier), clock)
            }
            Some((stream, _, clock)) => (Stream { loaded: Instant::now(), ..stream }, None, clock),
            None => {
                let stream = Stream { next_row, watched_from: next_row, loaded: Instant::now() };
                (stream, None, ClockWatch::new())
            }
        };
        let identifier = match identifier {
            Some(identifier) => identifier,
            None => self.counted(opened)?,
        };
        let mut committer = Committer::with(self.context, opened.opened, identifier);
        (committer.next_row, committer.clock) = (next_row, clock);
        Ok((committer, stream))
    }

    /// The counters as the store has them.
    fn counted(&self, opened: &OpenedGrowing) -> Result<Identifier, PipelineError> {
        let parts = &self.context.pipeline.parts;
        let scratch = ScratchFolder(parts.scratch.clone());
        let copies = parts.store.copies(opened.opened.document)?;
        let identifier = Identifier::going_on(origin_key(self.context)?, Some(Box::new(scratch)), copies);
        identifier
            .map_err(|cause| PipelineError::Scratch { delivery: self.context.spooled.id.to_string(), cause })
    }

    fn read_rows(
        &self,
        committer: &mut Committer<'_, '_>,
        opened: &OpenedGrowing,
        format: &'static dyn Format,
    ) -> Result<(), PipelineError> {
        let Some((_, dialect)) = &opened.read_as else { return Ok(()) };
        let failed = |cause| body_failed(self.context, cause);
        let head = self.head()?;
        let seam = Seam::find(opened, &head, format, dialect).map_err(failed)?;
        let beyond = Cell::new(false);
        let mut rest = &self.body;
        rest.seek(SeekFrom::Start(seam.from)).map_err(failed)?;
        let rest = EndSeen { inner: rest.take(self.length.saturating_sub(seam.from)), seen: &beyond };
        let front = usize::try_from(seam.front).ok().and_then(|front| head.get(..front)).unwrap_or_default();
        let mut rows = format.open(dialect, Box::new(Cursor::new(front).chain(rest)));
        committer.read_on(&mut *rows, seam, &|| beyond.get() && !self.growth.ended)
    }
}

fn reads_otherwise(context: &Context<'_>) -> PipelineError {
    PipelineError::ReadsOtherwise { delivery: context.spooled.id.to_string() }
}

fn no_lines(format: &'static dyn Format) -> Rejection {
    Rejection {
        position: Position::default(),
        field: None,
        reason: Reason::FormatUnknown,
        message: format!(
            "this is {}, which is not written line by line in an 8-bit encoding and cannot be followed while it grows; \
             let a source without mode = \"append\" take it when it is finished",
            format.card().title
        ),
        verbatim: Vec::new(),
    }
}

/// Tells when the parser asked for more than there is: what it decided since could turn out otherwise.
struct EndSeen<'s, R> {
    inner: R,
    seen: &'s Cell<bool>,
}

impl<R: Read> Read for EndSeen<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            self.seen.set(true);
        }
        Ok(read)
    }
}

/// Where reading on begins: the bytes before the first record (they may name the columns), then everything from the
/// last committed row on. That row is read again because a parser may compare a row with the one before.
#[derive(Debug, Clone, Copy)]
struct Seam {
    /// Bytes taken from the beginning.
    front: u64,
    /// Where the rest begins.
    from: u64,
    /// Rows that are read and dropped: they are committed.
    dropped: u64,
}

/// How many rows stand before the first record, and where it begins.
fn first_record(
    head: &[u8],
    format: &'static dyn Format,
    dialect: &Dialect,
) -> std::io::Result<Option<(u64, u64)>> {
    let mut rows = format.open(dialect, Box::new(head));
    let mut before = 0;
    while let Some(row) = rows.next_row()? {
        if let Row::Record(record) = row {
            return Ok(Some((before, record.position.offset)));
        }
        before += 1;
    }
    Ok(None)
}

impl Seam {
    fn find(
        opened: &OpenedGrowing,
        head: &[u8],
        format: &'static dyn Format,
        dialect: &Dialect,
    ) -> std::io::Result<Self> {
        let committed = opened.opened.next_row - 1;
        let whole = Self { front: 0, from: 0, dropped: committed };
        match first_record(head, format, dialect)? {
            Some((before, front)) if committed > 0 && opened.resume_offset > front => {
                Ok(Self { front, from: opened.resume_offset, dropped: before + 1 })
            }
            _ => Ok(whole),
        }
    }

    /// Where a row lies in the document, not in what is read of it.
    const fn place(&self, offset: u64) -> u64 {
        if offset < self.front { offset } else { offset - self.front + self.from }
    }
}

impl Committer<'_, '_> {
    /// Reads the rows that are not yet committed, until `undecided` says that what follows may turn out otherwise.
    fn read_on(
        &mut self,
        rows: &mut dyn RowReader,
        seam: Seam,
        undecided: &dyn Fn() -> bool,
    ) -> Result<(), PipelineError> {
        let mut dropped = 0;
        loop {
            let row = match rows.next_row() {
                Ok(row) => row,
                Err(cause) => {
                    self.drain()?;
                    return Err(body_failed(self.context, cause));
                }
            };
            let Some(mut row) = row else {
                // What is committed is not there any more: whatever came since would be passed over as well.
                return if dropped < seam.dropped { Err(reads_otherwise(self.context)) } else { Ok(()) };
            };
            if undecided() {
                return Ok(());
            }
            if dropped < seam.dropped {
                dropped += 1;
                continue;
            }
            let position = match &mut row {
                Row::Record(record) => &mut record.position,
                Row::Skipped { position, .. } => position,
                Row::Fault(rejection) => &mut rejection.position,
            };
            position.row = self.next_row;
            position.offset = seam.place(position.offset);
            let at = position.offset;
            let outcome = self.outcome(row, rows)?;
            self.at = Some(at);
            self.push(outcome)?;
        }
    }

    /// Hands over what makes no full chunk, if there is something.
    fn hand_over_rest(&mut self) -> Result<(), PipelineError> {
        if self.rows.is_empty() { Ok(()) } else { self.hand_over(None) }
    }
}
