//! Deliveries that go together: their chunks are handed over one after another and share transactions, their originals
//! and receipts share flushes. One that fails alone does not hold up the others.
//!
//! Must never retire what the store has not said to be committed.

use super::body::{self, BodyRead};
use super::document::{self, Foreseen};
use super::{
    Ended, LONGEST_PAUSE, LONGEST_REST, Pipeline, PipelineError, RUNS_WHILE_CHANGING, Worked, ended, journal,
    progress, start_of,
};
use crate::intake::{Claimed, Retirement};
use crate::record::delivery::{DeliveryId, Spooled};
use crate::record::outcome::{Actor, Verdict};
use crate::store::{DeliveryEnd, DeliveryState, DeliverySummary, Pending};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

/// Deliveries that the store is told of before their turn: enough that reader and writer need not wait for each other, and
/// few enough that a store that refuses all is not asked long.
const AHEAD: usize = 4;

/// A delivery whose every row is on its way into the store.
struct HandedOver {
    chunks: Vec<Pending>,
    end: Pending<DeliverySummary>,
    read: Option<BodyRead>,
    /// Of a delivery that grows, the rows since it was read last.
    new_rows: Option<u64>,
}

/// Brings claimed deliveries to their end.
pub(super) fn bring_to_end(
    pipeline: &Pipeline,
    claimed: &[Claimed],
    stop: &AtomicBool,
) -> Result<Vec<Worked>, PipelineError> {
    let mut group = Group { pipeline, worked: Vec::new(), broken: None };
    let mut handed = Vec::new();
    let mut begun = VecDeque::new();
    let mut next = claimed.iter();
    for one in claimed {
        if group.broken.is_some() {
            pipeline.parts.intake.release(one.spooled.id)?;
            continue;
        }
        begun.extend(next.by_ref().take(AHEAD - begun.len()).map(|one| begin(pipeline, one)));
        let told = begun.pop_front().expect("as many were begun as were asked for");
        match hand_over(pipeline, one, told, stop) {
            Ok(over) => handed.push((one, over)),
            Err(error) => group.failed(&one.spooled, error)?,
        }
    }
    let mut stored = Vec::new();
    let mut retirements = Vec::new();
    for (one, over) in handed {
        match settle(pipeline, &one.spooled, over) {
            // Everything that came so far is stored; the delivery goes on when more comes.
            Ok((summary, retirement)) if summary.state == DeliveryState::Growing => {
                crate::crash_point::reached("grow-stored");
                let rows = retirement.rows;
                match pipeline.parts.intake.rest_growing(&one.spooled, rows) {
                    Ok(()) => {
                        pipeline.parts.progress.moves(one.spooled.id);
                        let end = ended(&summary);
                        journal::delivery_ended(&one.spooled, &end);
                        group.worked.push(Worked { id: one.spooled.id, outcome: Ok(end) });
                    }
                    Err(error) => group.failed(&one.spooled, error.into())?,
                }
            }
            Ok((summary, retirement)) => {
                stored.push((&one.spooled, ended(&summary)));
                retirements.push((one.spooled.id, retirement));
            }
            Err(error) => group.failed(&one.spooled, error)?,
        }
    }
    match pipeline.parts.intake.retire_all(retirements) {
        Ok(()) => {
            for (spooled, end) in stored {
                journal::delivery_ended(spooled, &end);
                pipeline.parts.progress.add_delivery(spooled, &end);
                group.worked.push(Worked { id: spooled.id, outcome: Ok(end) });
            }
        }
        Err(error) => group.not_retired(&stored, error.into())?,
    }
    group.broken.map_or(Ok(group.worked), Err)
}

struct Group<'p> {
    pipeline: &'p Pipeline,
    worked: Vec<Worked>,
    /// Storing stands still for all.
    broken: Option<PipelineError>,
}

impl Group<'_> {
    /// Lays a delivery aside that alone is at fault, else puts it back.
    fn failed(&mut self, spooled: &Spooled, error: PipelineError) -> Result<(), PipelineError> {
        if error.is_of_one() {
            let longest = if error.actor() == Actor::Broken { LONGEST_REST } else { LONGEST_PAUSE };
            let stuck = progress::stuck(spooled, &error);
            let pause = self.pipeline.parts.intake.set_aside(spooled.id, longest, stuck.clone())?;
            journal::set_aside(spooled, &error, pause);
            self.pipeline.parts.progress.rests(spooled, stuck);
            self.worked.push(Worked { id: spooled.id, outcome: Err(error) });
        } else {
            self.pipeline.parts.intake.release(spooled.id)?;
            self.broken.get_or_insert(error);
        }
        Ok(())
    }

    /// All of a group could not be retired: one may be at fault, which shows when each is tried alone.
    fn not_retired(
        &mut self,
        stored: &[(&Spooled, Ended)],
        error: PipelineError,
    ) -> Result<(), PipelineError> {
        if let [(only, _)] = stored {
            return self.failed(only, error);
        }
        for (spooled, _) in stored {
            self.pipeline.parts.intake.release(spooled.id)?;
        }
        self.broken.get_or_insert(error);
        Ok(())
    }
}

/// A delivery that the store was told of.
struct Begun {
    repeat_of: Option<DeliveryId>,
    started: Pending<bool>,
    foreseen: Option<Foreseen>,
}

/// Tells the store of a delivery. What can be asked at once is asked for all of a group: waiting for each answer alone
/// would have reader and writer take turns.
fn begin(pipeline: &Pipeline, claimed: &Claimed) -> Begun {
    let spooled = &claimed.spooled;
    // The configuration may have changed since the door compared the bytes.
    let repeat_of = claimed.repeat_of.filter(|_| pipeline.reads_as_accepted(spooled));
    let started = pipeline.parts.store.start_delivery(&start_of(spooled), repeat_of);
    let foreseen = if repeat_of.is_none() { document::foresee(pipeline, claimed) } else { None };
    Begun { repeat_of, started, foreseen }
}

/// Reads a delivery; its rows and its end are handed over.
fn hand_over(
    pipeline: &Pipeline,
    claimed: &Claimed,
    told: Begun,
    stop: &AtomicBool,
) -> Result<HandedOver, PipelineError> {
    let (spooled, store) = (&claimed.spooled, &pipeline.parts.store);
    let Begun { repeat_of, started, mut foreseen } = told;
    // The door's memory may be older or newer than the database: somebody restored one of them from a backup.
    if repeat_of.is_some() && started.wait()? {
        let end = DeliveryEnd {
            state: Some(DeliveryState::Repeated),
            content_hash: spooled.content_hash,
            bytes: spooled.bytes,
        };
        return Ok(HandedOver {
            chunks: Vec::new(),
            end: store.finish_delivery(spooled.id, &end),
            read: None,
            new_rows: None,
        });
    }
    if let Some(growth) = spooled.growth {
        let (read, rows) = document::read_generation(pipeline, claimed, growth, stop)?;
        let end = match &read {
            Some(read) => {
                DeliveryEnd { state: None, content_hash: Some(read.content_hash), bytes: read.bytes }
            }
            None => {
                DeliveryEnd { state: Some(DeliveryState::Growing), content_hash: None, bytes: spooled.bytes }
            }
        };
        let end = store.finish_delivery(spooled.id, &end);
        return Ok(HandedOver { chunks: Vec::new(), end, read, new_rows: Some(rows) });
    }
    let mut began = pipeline.parts.intake.first_look(claimed)?;
    for _ in 0..RUNS_WHILE_CHANGING {
        if let Some(mut read) = body::read(pipeline, claimed, began, foreseen.take(), stop)? {
            let end = DeliveryEnd { state: None, content_hash: Some(read.content_hash), bytes: read.bytes };
            let chunks = std::mem::take(&mut read.chunks);
            let end = store.finish_delivery(spooled.id, &end);
            return Ok(HandedOver { chunks, end, read: Some(read), new_rows: None });
        }
        began = pipeline.parts.intake.look(spooled.id)?;
    }
    Err(PipelineError::StillWritten { delivery: spooled.id.to_string() })
}

/// Waits until the store has all of a delivery.
fn settle(
    pipeline: &Pipeline,
    spooled: &Spooled,
    over: HandedOver,
) -> Result<(DeliverySummary, Retirement), PipelineError> {
    for chunk in over.chunks {
        chunk.wait()?;
    }
    crate::crash_point::reached("documents-done");
    let summary = over.end.wait()?;
    crate::crash_point::reached("delivery-finished");
    // Equal bytes of a stream are other calls, and what was read otherwise than the door noted is known under no reading.
    let may_be_known = spooled.growth.is_none() && pipeline.reads_as_accepted(spooled);
    let clean = may_be_known && summary.counts.rejected == 0 && summary.rejected_documents == 0;
    let verdict = Verdict {
        state: summary.state.word().to_owned(),
        counts: summary.counts,
        rejected_documents: summary.rejected_documents,
        rejections: summary.rejections.clone(),
    };
    let retirement = match over.read {
        Some(read) => Retirement {
            original: Some(read.original),
            content_hash: Some(read.content_hash),
            documents: read.documents,
            rows: over.new_rows.unwrap_or(summary.counts.rows_read),
            clean,
            verdict,
            at: Timestamp::now(),
        },
        None => Retirement {
            original: None,
            content_hash: spooled.content_hash,
            documents: Vec::new(),
            rows: over.new_rows.unwrap_or(0),
            clean: true,
            verdict,
            at: Timestamp::now(),
        },
    };
    Ok((summary, retirement))
}
