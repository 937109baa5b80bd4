//! Deliveries whose end somebody waits for: how far each has come, and how it ended or why it rests.
//!
//! Must hold nothing of a delivery that nobody waits for: a daemon brings millions to their end.

use super::{Ended, PipelineError, Worked};
use crate::record::delivery::DeliveryId;
use crate::record::outcome::Actor;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Deliveries that are waited for.
#[derive(Debug, Default)]
pub struct Awaited {
    waited: Mutex<Waited>,
    told: Condvar,
    /// Nobody waits: what is noted most of the time costs no lock.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Waited {
    /// Callers that do not know the id of theirs yet: until they do, everything is noted.
    early: usize,
    known: HashMap<DeliveryId, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Somebody waits for this one.
    wanted: bool,
    bytes: u64,
    rows: u64,
    news: Option<News>,
}

/// What became of a delivery.
#[derive(Debug, Clone)]
pub enum News {
    /// It ended.
    Ended(Ended),
    /// It rests, and is tried again.
    Rests {
        /// Why.
        why: String,
        /// Who must act before it can go on.
        actor: Actor,
    },
}

impl Awaited {
    /// Begins to note, so that a delivery that ends at once is not missed. To be called before it is accepted.
    pub fn expect(&self) -> Expected<'_> {
        self.lock().early += 1;
        self.any.store(true, Ordering::Release);
        Expected { awaited: self, id: None }
    }

    pub(super) fn add_bytes(&self, id: DeliveryId, bytes: u64) {
        self.note(id, |seen| seen.bytes += bytes);
    }

    pub(super) fn add_row(&self, id: DeliveryId) {
        self.note(id, |seen| seen.rows += 1);
    }

    pub(super) fn worked(&self, worked: &Worked) {
        let news = match &worked.outcome {
            Ok(ended) => News::Ended(*ended),
            Err(error) => News::Rests { why: error.to_string(), actor: error.actor() },
        };
        self.note(worked.id, |seen| seen.news = Some(news));
        self.told.notify_all();
    }

    /// Storing stands still for all.
    pub(super) fn stalled(&self, error: &PipelineError) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let news = News::Rests { why: error.to_string(), actor: error.actor() };
        for seen in self.lock().known.values_mut().filter(|seen| seen.wanted && seen.news.is_none()) {
            seen.news = Some(news.clone());
        }
        self.told.notify_all();
    }

    fn note(&self, id: DeliveryId, change: impl FnOnce(&mut Seen)) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut waited = self.lock();
        if waited.early > 0 {
            change(waited.known.entry(id).or_default());
        } else if let Some(seen) = waited.known.get_mut(&id) {
            change(seen);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waited> {
        self.waited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits. Forgotten when dropped.
#[derive(Debug)]
pub struct Expected<'a> {
    awaited: &'a Awaited,
    id: Option<DeliveryId>,
}

impl Expected<'_> {
    /// Says which delivery is waited for.
    pub fn is(&mut self, id: DeliveryId) {
        let mut waited = self.awaited.lock();
        waited.known.entry(id).or_default().wanted = true;
        if self.id.replace(id).is_none() {
            waited.early -= 1;
        }
        if waited.early == 0 {
            waited.known.retain(|_, seen| seen.wanted);
        }
    }

    /// Waits so long for news; each is told once.
    pub fn news(&self, patience: Duration) -> Option<News> {
        let id = self.id?;
        // For the threads that store.
        let _waiting = crate::pulse::waiting();
        let waited = self.awaited.lock();
        let none = |waited: &mut Waited| waited.known.get(&id).is_none_or(|seen| seen.news.is_none());
        let (mut waited, _) = self
            .awaited
            .told
            .wait_timeout_while(waited, patience, none)
            .unwrap_or_else(PoisonError::into_inner);
        waited.known.get_mut(&id)?.news.take()
    }

    /// Bytes and rows that were read of it so far.
    pub fn come(&self) -> (u64, u64) {
        let waited = self.awaited.lock();
        let seen = self.id.and_then(|id| waited.known.get(&id));
        seen.map_or((0, 0), |seen| (seen.bytes, seen.rows))
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        let mut waited = self.awaited.lock();
        match self.id {
            Some(id) => {
                waited.known.remove(&id);
            }
            None => waited.early -= 1,
        }
        if waited.early == 0 {
            waited.known.retain(|_, seen| seen.wanted);
            self.awaited.any.store(!waited.known.is_empty(), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Awaited, News};
    use crate::pipeline::{PipelineError, Worked};
    use crate::record::delivery::DeliveryId;
    use std::time::Duration;

    fn id(number: u128) -> DeliveryId {
        DeliveryId::new(jiff::Timestamp::UNIX_EPOCH, number)
    }

    #[test]
    fn what_ends_before_its_id_is_known_is_not_missed_and_others_are_forgotten() {
        let awaited = Awaited::default();
        let rests = |number| Worked { id: id(number), outcome: Err(PipelineError::Stopping) };
        awaited.worked(&rests(1));
        assert!(awaited.lock().known.is_empty(), "nobody waits");
        let mut expected = awaited.expect();
        awaited.add_bytes(id(1), 7);
        awaited.worked(&rests(1));
        awaited.worked(&rests(2));
        expected.is(id(1));
        assert_eq!(awaited.lock().known.len(), 1, "the others are forgotten");
        assert_eq!(expected.come(), (7, 0));
        assert!(matches!(expected.news(Duration::ZERO), Some(News::Rests { .. })));
        assert!(expected.news(Duration::ZERO).is_none(), "told once");
        awaited.stalled(&PipelineError::Stopping);
        assert!(expected.news(Duration::ZERO).is_some());
        drop(expected);
        assert!(awaited.lock().known.is_empty() && !awaited.any.load(std::sync::atomic::Ordering::Acquire));
    }
}
