//! Reads deliveries again from their originals, in one switch of the store: readers see the calls as they were until
//! all of them are read, and a crash or a failure leaves everything as it was.

use super::document::{self, Context, Step};
use super::retry::halt;
use super::{Ended, Pipeline, PipelineError, Progress, body::ScratchFolder, ended};
use crate::crash_point;
use crate::intake::{IntakeError, Look, OriginalRead};
use crate::record::delivery::{DeliveryId, Spooled};
use crate::store::{DeliveryEnd, DeliverySummary, StoreError, Switched};
use crate::unpack::{self, Found, UnpackError};
use std::cell::RefCell;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a replay came to.
#[derive(Debug)]
pub struct Replayed {
    /// How each delivery ended, in the order in which they were read.
    pub ended: Vec<(DeliveryId, Ended)>,
    /// What changed.
    pub switched: Switched,
}

impl Pipeline {
    /// Reads these deliveries again, all of them or none; without `keep` everything is taken back once it is known
    /// what would change, of which at most `rows` rows of each kind are told. Refuses before anything is done when an
    /// original is missing.
    pub fn replay(
        &self,
        again: &[Spooled],
        keep: bool,
        rows: u32,
        stop: &AtomicBool,
    ) -> Result<Replayed, PipelineError> {
        let mut readable = Vec::with_capacity(again.len());
        for spooled in again {
            match self.original(spooled) {
                Ok(_) => readable.push(spooled.clone()),
                // Nothing of it was ever stored: among others it is left as it is.
                Err(PipelineError::Intake(IntakeError::OriginalDropped { .. })) if again.len() > 1 => {}
                Err(error) => return Err(error),
            }
        }
        let again = readable.as_slice();
        let ids: Vec<DeliveryId> = again.iter().map(|spooled| spooled.id).collect();
        if keep {
            // They are no measure of equal bytes until they are read: at worst equal bytes are read once more.
            self.parts.intake.forget_seen(&ids)?;
        }
        let (ended, switched) = self.in_switch(&ids, keep, rows, stop, &mut || {
            crash_point::reached("replay-withdrawn");
            let mut all = Vec::with_capacity(again.len());
            for spooled in again {
                halt(stop)?;
                let documents = self.read_original(spooled, None, stop)?;
                all.push((ended(&self.refresh(spooled)?), documents));
            }
            crash_point::reached("replay-read");
            // The last moment at which all of it can be taken back.
            halt(stop)?;
            Ok(all)
        })?;
        crash_point::reached("replay-switched");
        if keep {
            let clean = again.iter().zip(&ended).filter(|(_, (end, _))| end.is_clean());
            self.parts
                .intake
                .note_seen(clean.map(|(spooled, (_, documents))| (spooled, documents.as_slice())))?;
        }
        let ended = ids.into_iter().zip(ended).map(|(id, (end, _))| (id, end)).collect();
        Ok(Replayed { ended, switched })
    }

    /// Does something in a switch of the store; takes it back when it fails.
    pub(super) fn in_switch<T>(
        &self,
        withdrawn: &[DeliveryId],
        keep: bool,
        rows: u32,
        stop: &AtomicBool,
        work: &mut dyn FnMut() -> Result<T, PipelineError>,
    ) -> Result<(T, Switched), PipelineError> {
        let store = &self.parts.store;
        let begun = store.begin_switch(withdrawn, stop).map_err(|error| match error {
            StoreError::Stopped => PipelineError::Stopping,
            error => error.into(),
        });
        let done = begun.and_then(|()| work());
        match done {
            Ok(value) => Ok((value, store.end_switch(keep, rows)?)),
            Err(error) => {
                if let Err(also) = store.end_switch(false, 0) {
                    tracing::debug!(%also, "taken back already");
                }
                Err(error)
            }
        }
    }

    /// The body as it arrived.
    pub(super) fn original(&self, spooled: &Spooled) -> Result<Original, PipelineError> {
        match self.parts.intake.open_original(spooled.id) {
            Ok(body) => Ok(Original { id: spooled.id, body, progress: self.progress() }),
            Err(IntakeError::UnknownDelivery { id } | IntakeError::BodyGone { id, .. }) => {
                Err(PipelineError::OriginalGone { delivery: id.to_string(), name: spooled.name.clone() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the documents of a delivery, or one of them in a new run; gives hash and size of each document of an
    /// archive that was read to its end.
    pub(super) fn read_original(
        &self,
        spooled: &Spooled,
        only: Option<u32>,
        stop: &AtomicBool,
    ) -> Result<Vec<([u8; 32], u64)>, PipelineError> {
        let mut documents = Vec::new();
        let context = Context {
            pipeline: self,
            spooled,
            began: Look::at_rest(),
            restart: only.is_some(),
            plain: false,
            chunks: RefCell::default(),
            before: self.parts.store.copies_before(spooled.id)?,
            stop,
        };
        self.each_document(spooled, only, &mut |number, found| {
            match found {
                Found::Document { path, reader, .. } => {
                    let hash = spooled.content_hash.filter(|_| path.is_empty());
                    // What it was known by may be withdrawn: it is read, whatever came before.
                    let left =
                        document::read(&context, number, path, reader, None, &mut || Ok((true, hash)))?;
                    if let Step::Read(hash, bytes) = left
                        && !path.is_empty()
                    {
                        documents.push((hash, bytes));
                    }
                }
                Found::Rejected(path, rejection) => {
                    document::reject(&context, number, path, rejection)?;
                }
            }
            Ok(())
        })?;
        for chunk in context.chunks.take() {
            chunk.wait()?;
        }
        Ok(documents)
    }

    /// Hands out the documents of a delivery's original with their numbers, or only one.
    pub(super) fn each_document(
        &self,
        spooled: &Spooled,
        only: Option<u32>,
        see: &mut dyn FnMut(u32, Found<'_>) -> Result<(), PipelineError>,
    ) -> Result<(), PipelineError> {
        let mut body = self.original(spooled)?;
        let scratch = ScratchFolder(self.parts.scratch.clone());
        let (mut number, mut enough) = (0, false);
        let mut visit = |found: Found<'_>| {
            number += 1;
            if only.is_none_or(|only| only == number) {
                see(number, found)?;
            }
            enough = only == Some(number);
            if enough { Err(PipelineError::Stopping) } else { Ok(()) }
        };
        match unpack::unpack(&mut body, &spooled.name, &self.parts.limits, &scratch, &mut visit) {
            Ok(()) => Ok(()),
            // The visitor's way of leaving early.
            Err(UnpackError::Visit(PipelineError::Stopping)) if enough => Ok(()),
            Err(UnpackError::Visit(error)) => Err(error),
            Err(UnpackError::Io(cause)) => {
                Err(PipelineError::Body { delivery: spooled.id.to_string(), cause })
            }
        }
    }

    /// Has a delivery's counts and state follow its documents.
    pub(super) fn refresh(&self, spooled: &Spooled) -> Result<DeliverySummary, PipelineError> {
        let end = DeliveryEnd { state: None, content_hash: None, bytes: spooled.bytes };
        Ok(self.parts.store.finish_delivery(spooled.id, &end).wait()?)
    }
}

/// An original that counts what is read of it.
pub(super) struct Original {
    id: DeliveryId,
    body: Box<dyn OriginalRead>,
    progress: Arc<Progress>,
}

impl Read for Original {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.body.read(buffer)?;
        self.progress.add_bytes(self.id, read as u64);
        Ok(read)
    }
}

impl Seek for Original {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.body.seek(to)
    }
}
