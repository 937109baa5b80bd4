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
    awaited: Awaited,
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
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = sources.entry(spooled.source.clone()).or_default();
        tally.counts += ended.counts;
        tally.bytes += spooled.bytes;
        *tally.ended.entry(ended.state.word()).or_default() += 1;
    }

    /// What came of each source's deliveries, by its name.
    pub fn sources(&self) -> Vec<SourceTally> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources
            .iter()
            .map(|(source, tally)| SourceTally { source: source.clone(), ..tally.clone() })
            .collect()
    }

    pub(super) fn stands(&self, share: Share, error: &PipelineError) {
        let red = error.actor() == Actor::Broken;
        let trouble = Trouble { red, message: format!("storing stands still: {error}") };
        self.standing().insert(share.word(), trouble);
    }

    pub(super) fn goes_on(&self, share: Share) {
        self.standing().remove(share.word());
    }

    /// Why storing stands still; nothing while it goes on.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles: Vec<Trouble> = self.standing().values().cloned().collect();
        troubles.dedup();
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
