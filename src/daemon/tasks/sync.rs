//! Has a poller fetch again what the far side has of some time. The wish is in the spool before anything is asked: the
//! poller of a running daemon finds it there, also after a crash.

use super::{Bench, Done, Refusal, SyncTask, Told};
use crate::daemon::sources::Settings;
use crate::intake::{SourceHealth, SyncEnd};
use crate::sources::polling::Poller;
use std::time::Duration;

const SLICE: Duration = Duration::from_millis(200);
const WAITS: &str = "the wish is kept, and done when the far side answers";

impl Bench<'_> {
    pub(super) fn sync(&self, wish: &SyncTask) -> Result<Done, Refusal> {
        let (config, intake) = (&self.storing.config, &self.storing.intake);
        let source = config.sources.iter().find(|source| source.name == wish.source);
        let source =
            source.ok_or_else(|| Refusal::usage(format!("no [[source]] is named {:?}", wish.source)))?;
        let Settings::Ucm(settings) = Settings::of(config, source, &self.storing.formats) else {
            return Err(Refusal::usage(format!("source {:?} is not one that is polled", wish.source)));
        };
        let id = intake.wish_sync(&wish.source, wish.from, wish.to)?;
        if !self.attended {
            let device = settings.device().map_err(|error| Refusal::new(error.to_string()))?;
            let asked = Poller::new(settings.polling, intake.clone(), device).poll_asked(self.stop);
            self.drain_all(None, &mut |_, _| {})?;
            if let (Err(trouble), None) = (asked, intake.sync_ended(id)?) {
                return Err(Refusal::new(format!("{trouble}; {WAITS}")));
            }
        }
        loop {
            if let Some(SyncEnd { tally, error }) = intake.sync_ended(id)? {
                return Ok(Done::Synced {
                    requests: tally.requests,
                    pages: tally.pages,
                    records: tally.records,
                    error,
                });
            }
            if self.stopped() {
                return Err(Refusal::interrupted(WAITS));
            }
            let state = intake.source_states()?.into_iter().find(|state| state.source == wish.source);
            if let Some(state) = state.filter(|state| state.health == SourceHealth::Retrying) {
                (self.tell)(Told::Waits(state.message));
            }
            std::thread::sleep(SLICE);
        }
    }
}
