//! Counters for people who wait. They promise nothing: the counts that add up are in the store.

use super::awaited::Awaited;
use super::{Ended, PipelineError};
use crate::intake::Share;
use crate::record::delivery::{DeliveryId, Spooled};
use crate::record::disk::Trouble;
use crate::record::outcome::Actor;
use crate::record::outcome::SourceTally;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How far the pipeline has come since it was built.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    rows: AtomicU64,
    sources: Mutex<BTreeMap<String, SourceTally>>,
    /// Why storing stands still, for each thread that stores.
    standing: Mutex<BTreeMap<&'static str, Trouble>>,
    /// Deliveries that wait for a person, oldest first.
    stuck: Mutex<BTreeMap<DeliveryId, Stuck>>,
    awaited: Awaited,
}

/// A delivery that waits for a person.
#[derive(Debug)]
struct Stuck {
    source: String,
    message: String,
}

/// Why a delivery rests until a person acts; `None`: nobody need.
pub(super) fn stuck(spooled: &Spooled, error: &PipelineError) -> Option<String> {
    if error.actor() != Actor::Broken {
        return None;
    }
    Some(match error {
        // They name the file, which whoever watches need not know.
        PipelineError::Intake(_) | PipelineError::OriginalGone { .. } => format!(
            "the body or original of delivery {id} cannot be used; `journalctl CDRD_DELIVERY={id}` says what to do",
            id = spooled.id
        ),
        error => error.to_string(),
    })
}

impl Progress {
    pub(super) fn add_bytes(&self, id: DeliveryId, bytes: u64) {
        crate::pulse::beat();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.awaited.add_bytes(id, bytes);
    }

    pub(super) fn add_row(&self, id: DeliveryId) {
        crate::pulse::beat();
        self.rows.fetch_add(1, Ordering::Relaxed);
        self.awaited.add_row(id);
    }

    /// Deliveries whose end somebody waits for.
    pub const fn awaited(&self) -> &Awaited {
        &self.awaited
    }

    pub(super) fn add_delivery(&self, spooled: &Spooled, ended: &Ended) {
        self.moves(spooled.id);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = sources.entry(spooled.source.clone()).or_default();
        tally.counts += ended.counts;
        tally.bytes += spooled.bytes;
        *tally.ended.entry(ended.state.word()).or_default() += 1;
    }

    /// What came of each source's deliveries, by its name.
    pub fn sources(&self) -> Vec<SourceTally> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for stuck in self.stuck().values() {
            sources.entry(stuck.source.clone()).or_default().stuck += 1;
        }
        sources.into_iter().map(|(source, tally)| SourceTally { source, ..tally }).collect()
    }

    /// Notes that a delivery rests, and why it waits for a person, if it does.
    pub(super) fn rests(&self, spooled: &Spooled, stuck: Option<String>) {
        match stuck {
            None => self.moves(spooled.id),
            Some(message) => {
                self.stuck().insert(spooled.id, Stuck { source: spooled.source.clone(), message });
            }
        }
    }

    /// A delivery rests no more, or waits for nobody.
    pub(super) fn moves(&self, id: DeliveryId) {
        self.stuck().remove(&id);
    }

    fn stuck(&self) -> MutexGuard<'_, BTreeMap<DeliveryId, Stuck>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stands(&self, share: Share, error: &PipelineError) {
        let red = error.actor() == Actor::Broken;
        let trouble = Trouble { red, message: format!("storing stands still: {error}") };
        self.standing().insert(share.word(), trouble);
    }

    pub(super) fn goes_on(&self, share: Share) {
        self.standing().remove(share.word());
    }

    /// Why storing stands still for all; nothing while it goes on.
    pub fn standstill(&self) -> Vec<Trouble> {
        let mut troubles: Vec<Trouble> = self.standing().values().cloned().collect();
        troubles.dedup();
        troubles
    }

    /// The same, and for each source which deliveries wait for a person.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = self.standstill();
        let stuck = self.stuck();
        let mut sources: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
        for Stuck { source, message } in stuck.values() {
            sources.entry(source).or_insert((0, message)).0 += 1;
        }
        let stuck =
            sources.into_iter().map(|(source, (count, oldest))| Trouble::stuck(source, count, oldest));
        troubles.extend(stuck);
        troubles
    }

    fn standing(&self) -> MutexGuard<'_, BTreeMap<&'static str, Trouble>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of bodies read.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Rows read.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}
