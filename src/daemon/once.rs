//! `run --once`: every source is looked at once, what came and what waited is stored, and the process ends. For timers
//! and for hosts that are not always on.

use super::signals::Signals;
use super::sources::{Settings, make};
use super::{DaemonError, Storing, build, runtime};
use crate::config::{Config, SourceKind};
use crate::formats::Formats;
use crate::intake::SourceHealth;
use crate::pipeline::{PipelineError, Worked};
use crate::record::outcome::{Actor, SourceTally};
use crate::sources::folder::Folder;
use crate::sources::folder::append::Follower;
use crate::sources::polling::Poller;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Passing failures in a row after which the rest is left for the next time; the daemon would go on for ever.
const PATIENCE: u32 = 5;
/// Rest after one.
const PAUSE: Duration = Duration::from_millis(500);

/// How a look at everything ended.
#[derive(Debug, Default)]
pub struct Once {
    /// What came of each source's deliveries.
    pub sources: Vec<SourceTally>,
    /// Sources that could not be looked at, and deliveries that could not be stored, in words.
    pub failures: Vec<String>,
    /// Deliveries that wait for the next time.
    pub waiting: usize,
}

impl Once {
    /// Whether a document or a row was rejected.
    pub fn rejected(&self) -> bool {
        let ended = |tally: &SourceTally, state| tally.ended.get(state).is_some_and(|count| *count > 0);
        self.sources.iter().any(|tally| {
            tally.counts.rejected > 0 || ended(tally, "rejected") || ended(tally, "done_with_rejects")
        })
    }
}

/// Looks at every source once and stores what came.
pub fn run_once(config: &Config, formats: &Formats) -> Result<Once, DaemonError> {
    let runtime = Arc::new(runtime()?);
    let mut signals = Signals::listen(&runtime)?;
    let works = build(config, formats, runtime.clone())?;
    let storing = &works.storing;
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    runtime.spawn(async move {
        // There is no configuration to read again.
        while !matches!(signals.next().await, super::signals::Asked::Stop) {}
        told.store(true, Ordering::Relaxed);
    });
    let mut once = Once::default();
    // Side by side: each may wait for files to come to rest.
    let looks: Vec<_> = (config.sources.iter())
        // A server waits for senders, not they for it.
        .filter(|source| !matches!(source.kind, SourceKind::Sftp(_)))
        .map(|source| {
            let (stop, intake) = (stop.clone(), storing.intake.clone());
            let look = match Settings::of(config, source, formats) {
                Settings::Folder(settings) => {
                    make(&settings);
                    let mut folder = Folder::new(settings, intake);
                    std::thread::spawn(move || {
                        folder.take_once(&stop).map(|_| ()).map_err(|error| error.to_string())
                    })
                }
                Settings::Followed(settings) => {
                    let mut follower = Follower::new(settings, intake);
                    std::thread::spawn(move || follower.take_once(&stop).map_err(|error| error.to_string()))
                }
                Settings::Sftp(_) => std::thread::spawn(|| Ok(())),
                Settings::Ucm(settings) => std::thread::spawn(move || {
                    let device = settings.device().map_err(|error| error.to_string())?;
                    let poller = Poller::new(settings.polling, intake, device);
                    poller.poll_once(&stop).map_err(|error| error.to_string())
                }),
            };
            (source, look)
        })
        .collect();
    for (source, look) in looks {
        match look.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => once.failures.push(format!("source {}: {error}", source.name)),
            Err(_) => once.failures.push(format!("source {}: it ended unexpectedly", source.name)),
        }
    }
    drain(storing, &stop, &mut once);
    once.sources = storing.pipeline.progress().sources();
    // A life of a followed file goes on: all that it has so far is stored.
    once.waiting = storing.intake.backlog()?.iter().filter(|waiting| waiting.state != "unfinished").count();
    for source in &config.sources {
        let _ = storing.intake.set_source_state(&source.name, SourceHealth::Off, "cdrd is stopped");
    }
    storing.store.close();
    Ok(once)
}

/// Stores what waits. What fails goes on waiting.
fn drain(storing: &Storing, stop: &AtomicBool, once: &mut Once) {
    let mut failures = 0;
    while !stop.load(Ordering::Relaxed) {
        match storing.pipeline.work(stop) {
            Ok(None) | Err(PipelineError::Stopping) => return,
            Ok(Some(Worked { outcome: Ok(_), .. })) => failures = 0,
            Ok(Some(Worked { outcome: Err(error), .. })) => once.failures.push(error.to_string()),
            Err(error) if failures < PATIENCE && error.actor() == Actor::Transient => {
                failures += 1;
                tracing::warn!("{error}");
                std::thread::sleep(PAUSE);
            }
            Err(error) => {
                once.failures.push(error.to_string());
                return;
            }
        }
    }
}
