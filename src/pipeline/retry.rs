//! Gives rejected rows and documents another chance: reads their document again and commits what was rejected, nothing
//! else.
//!
//! Must never commit a row of a document that reads otherwise than it did: its other rows would stay as they were. That
//! is for a replay.

use super::body::{Filled, ScratchFolder, read_up_to};
use super::document::{HEAD, broken, broken_behind};
use super::{Pipeline, PipelineError};
use crate::crash_point;
use crate::dedup::Identifier;
use crate::formats::{Formats, Head, Row};
use crate::record::delivery::Spooled;
use crate::record::document::{Dialect, ZoneRule};
use crate::record::outcome::{Counts, Rejection};
use crate::record::port::Derive;
use crate::record::raw::Position;
use crate::store::query::RejectedDocument;
use crate::store::{ChunkRow, Retry};
use crate::unpack::Found;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows that get their new outcome in one transaction.
const CHUNK: usize = 1000;

/// What became of the rejections of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// Each was read again.
    Read {
        /// Rejections that are resolved.
        resolved: u64,
        /// Those that are still rejected, new ones of a document that is read for the first time among them.
        rejected: u64,
        /// Legs that were added.
        added: u64,
    },
    /// The document reads otherwise now, beyond its rejections: it must be replayed.
    Otherwise,
}

/// How a document reads today.
enum Entered {
    /// It has rows.
    Rows,
    /// It is rejected whole.
    Rejected(Rejection),
}

impl Pipeline {
    /// Reads the rejections of a document again. A kill leaves each of them either open or resolved and counted once.
    pub fn retry(
        &self,
        document: &RejectedDocument,
        spooled: &Spooled,
        stop: &AtomicBool,
    ) -> Result<Retried, PipelineError> {
        let whole = document.rejections.iter().find(|rejection| rejection.row == 0);
        let retried = match whole {
            Some(rejection) => self.retry_whole(document, rejection.id, spooled, stop)?,
            None => self.retry_rows(document, spooled, stop)?,
        };
        if matches!(retried, Retried::Read { resolved: 1.., .. }) {
            let summary = self.refresh(spooled)?;
            if summary.counts.rejected == 0 && summary.rejected_documents == 0 {
                self.parts.intake.note_seen(std::iter::once((spooled, [].as_slice())))?;
            }
        }
        Ok(retried)
    }

    fn retry_whole(
        &self,
        document: &RejectedDocument,
        rejection: i64,
        spooled: &Spooled,
        stop: &AtomicBool,
    ) -> Result<Retried, PipelineError> {
        let mut first = |_: Row| Err(PipelineError::Stopping);
        match self.enter(document.number, spooled, &mut first) {
            // It has a row, so that it is worth a run.
            Ok(Some((Entered::Rows, _)) | None) | Err(PipelineError::Stopping) => {}
            Ok(Some((Entered::Rejected(now), _))) => {
                let rows = vec![(rejection, ChunkRow::Rejected(Box::new(now)))];
                self.parts.store.retry(Retry { document: document.document, rows })?;
                return Ok(Retried::Read { resolved: 0, rejected: 1, added: 0 });
            }
            Err(error) => return Err(error),
        }
        let before = self.refresh(spooled)?;
        let (after, switched) = self.in_switch(&[], true, 0, stop, &mut || {
            self.read_original(spooled, Some(document.number), stop)?;
            crash_point::reached("retry-read");
            self.refresh(spooled)
        })?;
        let rejected = after.counts.rejected.saturating_sub(before.counts.rejected);
        Ok(Retried::Read { resolved: 1, rejected, added: switched.added })
    }

    fn retry_rows(
        &self,
        document: &RejectedDocument,
        spooled: &Spooled,
        stop: &AtomicBool,
    ) -> Result<Retried, PipelineError> {
        let Some(key) = self.parts.origin_keys.get(&spooled.origin) else {
            return Err(PipelineError::OriginGone {
                delivery: spooled.id.to_string(),
                origin: spooled.origin.clone(),
            });
        };
        let mut identifier = Identifier::new(key, Some(Box::new(ScratchFolder(self.parts.scratch.clone()))));
        let scratch = |cause| PipelineError::Scratch { delivery: spooled.id.to_string(), cause };
        identifier.seed(self.parts.store.copies_before(spooled.id)?).map_err(scratch)?;
        let open: BTreeMap<u64, (u64, Option<i64>)> = document
            .rejections
            .iter()
            .map(|open| (open.row, (open.offset, open.chosen.then_some(open.id))))
            .collect();
        // Equal rows are told apart by counting them: those that are stored come first, as they did.
        let (mut rows, mut met, mut same) = (0, 0, true);
        let entered = self.enter(document.number, spooled, &mut |row| {
            halt(stop)?;
            rows += 1;
            let position = row.position();
            if let Some((offset, _)) = open.get(&position.row) {
                met += 1;
                same &= *offset == position.offset;
            } else if let Row::Record(raw) = row {
                match self.parts.engine.derive(raw, &spooled.origin, &spooled.source) {
                    Ok(leg) => {
                        identifier.identify(leg).map_err(scratch)?;
                    }
                    Err(_) => same = false,
                }
            } else {
                same &= matches!(row, Row::Skipped { .. });
            }
            Ok(())
        })?;
        let format =
            entered.and_then(|(entered, format)| format.filter(|_| matches!(entered, Entered::Rows)));
        let alike = match (&format, &document.dialect) {
            (Some((_, now)), Some(then)) => reads_alike(now, then),
            _ => true,
        };
        let format = format.map(|(format, _)| format);
        if !same || !alike || rows != document.rows_read || met != open.len() || format != document.format {
            return Ok(Retried::Otherwise);
        }
        let mut done = Done {
            pipeline: self,
            document,
            rows: Vec::new(),
            counts: Counts::default(),
            added: 0,
            rejected: 0,
        };
        self.enter(document.number, spooled, &mut |row| {
            let Some((_, Some(id))) = open.get(&row.position().row) else { return Ok(()) };
            let outcome = match row {
                Row::Skipped { why, .. } => ChunkRow::Skipped(why),
                Row::Fault(rejection) => ChunkRow::Rejected(Box::new(rejection)),
                Row::Record(raw) => match self.parts.engine.derive(raw, &spooled.origin, &spooled.source) {
                    Ok(leg) => ChunkRow::Leg(Box::new(identifier.identify(leg).map_err(scratch)?)),
                    Err(rejection) => ChunkRow::Rejected(rejection),
                },
            };
            halt(stop)?;
            done.push(*id, outcome)
        })?;
        done.hand_over()?;
        Ok(Retried::Read { resolved: done.counts.rows_read, rejected: done.rejected, added: done.added })
    }

    /// Hands out the rows of one document as it reads today, with its format; `None` when it holds nothing.
    fn enter(
        &self,
        wanted: u32,
        spooled: &Spooled,
        see: &mut dyn FnMut(Row) -> Result<(), PipelineError>,
    ) -> Result<Option<(Entered, Option<ReadAs>)>, PipelineError> {
        let mut entered = None;
        self.each_document(spooled, Some(wanted), &mut |_, found| {
            entered = match found {
                Found::Document { path, reader, .. } => {
                    rows_of(&self.parts.formats, spooled, path, reader, see)?
                }
                Found::Rejected(_, rejection) => Some((Entered::Rejected(rejection), None)),
            };
            Ok(())
        })?;
        Ok(entered)
    }
}

fn rows_of(
    formats: &Formats,
    spooled: &Spooled,
    path: &str,
    mut bytes: &mut dyn Read,
    see: &mut dyn FnMut(Row) -> Result<(), PipelineError>,
) -> Result<Option<(Entered, Option<ReadAs>)>, PipelineError> {
    let failed = |cause| PipelineError::Body { delivery: spooled.id.to_string(), cause };
    let mut head = vec![0; HEAD];
    let Filled { bytes: length, whole } = match read_up_to(&mut bytes, &mut head) {
        Ok(Filled { bytes: 0, .. }) => return Ok(None),
        Ok(filled) => filled,
        Err(error) => {
            let rejection = broken(&error).ok_or_else(|| failed(error))?;
            return Ok(Some((Entered::Rejected(rejection), None)));
        }
    };
    head.truncate(length);
    let name = if path.is_empty() { spooled.name.as_str() } else { path };
    let seen = Head { bytes: &head, complete: whole, name };
    let (format, mut claim) = match formats.recognise(&seen, spooled.pinned_format.as_deref()).chosen {
        Ok(chosen) => chosen,
        Err(rejection) => {
            let rejection = broken_behind(bytes, length, whole).unwrap_or(*rejection);
            return Ok(Some((Entered::Rejected(rejection), None)));
        }
    };
    if let Some(zone) = &spooled.time_zone {
        claim.dialect.zone = ZoneRule::Named(zone.clone());
    }
    let mut rows = format.open(&claim.dialect, Box::new(Cursor::new(head).chain(bytes)));
    let mut next = 1;
    loop {
        match rows.next_row() {
            Ok(Some(row)) => see(row)?,
            Ok(None) => break,
            Err(error) => {
                let mut rejection = broken(&error).ok_or_else(|| failed(error))?;
                rejection.position = Position { row: next, ..rejection.position };
                see(Row::Fault(rejection))?;
                break;
            }
        }
        next += 1;
    }
    Ok(Some((Entered::Rows, Some((format.card().id.to_owned(), claim.dialect)))))
}

/// Format and dialect of a document.
type ReadAs = (String, Dialect);

/// Whether rows that are stored would say the same today. The zone is corrected otherwise, and a layout of times may have
/// come behind those that were there.
fn reads_alike(now: &Dialect, then: &Dialect) -> bool {
    (now.encoding, now.separator, now.date_order, now.minute, now.lengths)
        == (then.encoding, then.separator, then.date_order, then.minute, then.lengths)
        && now.times.starts_with(&then.times)
}

pub(super) fn halt(stop: &AtomicBool) -> Result<(), PipelineError> {
    if stop.load(Ordering::Relaxed) { Err(PipelineError::Stopping) } else { Ok(()) }
}

/// Gathers rows and commits them.
struct Done<'d> {
    pipeline: &'d Pipeline,
    document: &'d RejectedDocument,
    rows: Vec<(i64, ChunkRow)>,
    counts: Counts,
    added: u64,
    rejected: u64,
}

impl Done<'_> {
    fn push(&mut self, id: i64, row: ChunkRow) -> Result<(), PipelineError> {
        self.rejected += u64::from(matches!(row, ChunkRow::Rejected(_)));
        self.rows.push((id, row));
        if self.rows.len() >= CHUNK { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), PipelineError> {
        let rows = std::mem::take(&mut self.rows);
        let retry = Retry { document: self.document.document, rows };
        let committed = self.pipeline.parts.store.retry(retry)?;
        crash_point::reached("retry-committed");
        self.counts += committed.counts;
        self.added += committed.legs_added;
        Ok(())
    }
}
