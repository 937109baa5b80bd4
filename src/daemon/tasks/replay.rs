//! Reads deliveries again, and corrects stored rows.

use super::{Bench, Done, RederiveWish, Refusal, ReplayWish, Told};
use crate::config::{self, OriginConfig};
use crate::daemon::{Storing, zone_named};
use crate::pipeline::{PipelineError, Turn};
use crate::record::delivery::{DeliveryId, Spooled, SpooledBody};
use crate::store::query::{DeliveryWish, Query as _, QueryError};
use crate::store::{Commit as _, DeliveryStart, StoreError, Switched};
use std::time::{Duration, Instant};

const UNCHANGED: &str = "nothing was changed";
/// How long deliveries that are half read may take to come to their end, beside a daemon's threads.
const HALF_READ: Duration = Duration::from_mins(1);

impl Bench<'_> {
    pub(super) fn replay(&self, wish: &ReplayWish) -> Result<Done, Refusal> {
        let (turn, again, beside) = self.choose(wish)?;
        let bytes = again.iter().map(|spooled| spooled.bytes).sum();
        (self.tell)(Told::Chosen { bytes });
        let pipeline = &self.storing.pipeline;
        let replayed = self.telling(|| pipeline.replay(&again, !wish.preview, wish.rows, self.stop));
        drop(turn);
        let replayed = replayed.map_err(|error| match error {
            PipelineError::Stopping => Refusal::interrupted(UNCHANGED),
            error => error.into(),
        })?;
        let clean = replayed.ended.iter().all(|(_, ended)| ended.is_clean());
        Ok(Done::Replayed { deliveries: again.len(), beside, switched: replayed.switched, clean })
    }

    /// What is read again, and how many of it for the sake of the chosen ones; nothing is stored meanwhile.
    fn choose(&self, wish: &ReplayWish) -> Result<(Turn<'_>, Vec<Spooled>, usize), Refusal> {
        if !wish.preview && !self.attended {
            self.drain_all(None, &mut |_, _| {})?;
        }
        let until = Instant::now() + HALF_READ;
        loop {
            let turn = self.alone()?;
            let chosen = self.chosen(&wish.chosen)?;
            match self.query()?.read_again(&chosen) {
                Ok(starts) => {
                    let again: Vec<_> =
                        starts.into_iter().map(|start| spooled(self.storing, start)).collect();
                    let beside = again.len().saturating_sub(chosen.len());
                    return Ok((turn, again, beside));
                }
                // The last run left it half read, and the daemon is about to go on with it.
                Err(QueryError::Unfinished(id)) if self.attended && Instant::now() < until => {
                    drop(turn);
                    (self.tell)(Told::Waits(format!("delivery {id} is read to its end first")));
                    std::thread::sleep(Duration::from_millis(500));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn chosen(&self, wish: &DeliveryWish) -> Result<Vec<DeliveryId>, Refusal> {
        let query = self.query()?;
        for id in &wish.ids {
            let one = DeliveryWish { ids: vec![*id], ..DeliveryWish::default() };
            if query.ended_deliveries(&one)?.is_empty() {
                return Err(Refusal::new(format!(
                    "there is no delivery {id} that has ended; `cdrd deliveries` lists them; {UNCHANGED}"
                )));
            }
        }
        let chosen = query.ended_deliveries(wish)?;
        if chosen.is_empty() {
            return Err(Refusal::new(
                "no delivery that has ended is like that; `cdrd deliveries` lists them",
            ));
        }
        Ok(chosen)
    }

    pub(super) fn rederive(&self, wish: &RederiveWish) -> Result<Done, Refusal> {
        let config = &self.storing.config;
        let like = |origin: &&OriginConfig| wish.origin.as_ref().is_none_or(|wish| *wish == origin.name);
        let origins: Vec<&OriginConfig> = config.origins.iter().filter(like).collect();
        if let Some(wish) = wish.origin.as_ref().filter(|_| origins.is_empty()) {
            let names: Vec<&str> = config.origins.iter().map(|origin| origin.name.as_str()).collect();
            return Err(Refusal::new(format!(
                "no [[origin]] is named {wish:?}; there are: {}",
                names.join(", ")
            )));
        }
        let _turn = self.alone()?;
        if wish.preview || wish.rows.is_some() {
            let rows = wish.rows.unwrap_or(0);
            return Ok(Done::Corrected(self.rederive_in_switch(!wish.preview, rows, &origins)?));
        }
        let mut rows: Vec<(String, String, u64)> = Vec::new();
        for origin in origins {
            let zone = self.zone(origin);
            let changed = match self.storing.store.rederive(&origin.name, &zone, self.stop) {
                // Each origin is corrected for itself.
                Err(StoreError::Stopped) if !rows.is_empty() => {
                    let done: Vec<&str> = rows.iter().map(|(name, ..)| name.as_str()).collect();
                    return Err(Refusal::interrupted(&format!(
                        "corrected before: {}; of the others nothing was changed",
                        done.join(", ")
                    )));
                }
                Err(StoreError::Stopped) => return Err(Refusal::interrupted(UNCHANGED)),
                changed => changed?,
            };
            rows.push((origin.name.clone(), zone, changed));
        }
        Ok(Done::Rederived(rows))
    }

    /// Only a switch can tell rows, or take them back.
    fn rederive_in_switch(
        &self,
        keep: bool,
        rows: u32,
        origins: &[&OriginConfig],
    ) -> Result<Switched, StoreError> {
        let store = &self.storing.store;
        store.begin_switch(&[], self.stop)?;
        for origin in origins {
            if let Err(error) = store.rederive(&origin.name, &self.zone(origin), self.stop) {
                // A daemon goes on after this: the switch must not stay open.
                if let Err(also) = store.end_switch(false, 0) {
                    tracing::debug!(%also, "taken back already");
                }
                return Err(error);
            }
        }
        store.end_switch(keep, rows)
    }

    fn zone(&self, origin: &OriginConfig) -> String {
        self.storing.zones.get(&origin.name).cloned().unwrap_or_default()
    }
}

/// A delivery as it is read today: a source that the configuration has is read as that says now, for another one (an
/// import) counts what was said when it came.
pub(super) fn spooled(storing: &Storing, start: DeliveryStart) -> Spooled {
    let (config, versions) = (&storing.config, storing.formats.versions());
    let source = config.sources.iter().find(|source| source.name == start.source);
    let (pinned_format, reading) = if let Some(source) = source {
        (source.pinned_format.clone(), config.reading(source, &versions))
    } else {
        let origin = config.origins.iter().find(|origin| origin.name == start.origin);
        let zone = start.time_zone.as_deref().and_then(zone_named);
        let pinned = start.pinned_format.clone();
        let reading = config::reading_hash(origin, zone.as_ref(), pinned.as_deref(), &versions);
        (pinned, reading)
    };
    Spooled {
        growth: None,
        id: start.id,
        origin: start.origin,
        source: start.source,
        account: start.account,
        peer: start.peer,
        name: start.name,
        received_at: start.received_at,
        pinned_format,
        time_zone: start.time_zone,
        reading,
        bytes: start.bytes,
        content_hash: start.content_hash,
        // Its bytes are read from the archive.
        body: SpooledBody::Bytes(Vec::new()),
    }
}
