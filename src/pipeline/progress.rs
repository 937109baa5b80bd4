//! Counters for people who wait. They promise nothing: the counts that add up are in the store.

use super::Ended;
use super::awaited::Awaited;
use crate::record::delivery::{DeliveryId, Spooled};
use crate::record::outcome::SourceTally;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How far the pipeline has come since it was built.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    rows: AtomicU64,
    sources: Mutex<BTreeMap<String, SourceTally>>,
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

    /// Bytes of bodies read.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Rows read.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}
