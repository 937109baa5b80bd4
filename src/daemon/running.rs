//! A daemon at work: its sources, the threads that store, what answers others, and how all of it follows a configuration
//! that is read again.
//!
//! Must never shut the door for a new configuration, nor leave the old one before the new one is known to fit.

use super::control::{Control, Current, current};
use super::signals::{join, rest_unless};
use super::sources::{Settings, Source, is_polled};
use super::systemd::Said;
use super::works::{PAUSE, Shared, Storing, fits};
use super::{DaemonError, Locks, Works, disk, silence, spawn, spawn_watched, systemd};
use crate::api;
use crate::config::{Config, ConfigError};
use crate::formats::Formats;
use crate::intake::{Intake, Share, SourceHealth};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long whatever reads stored rows again may hold up a new configuration.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a port that was taken is tried again.
const LISTEN_EVERY: Duration = Duration::from_mins(1);

/// Why a new configuration was not looked at any more.
const STOPPING: &str = "cdrd is stopping; the next start reads it";

/// Reads the configuration again.
pub type Again<'a> = dyn Fn() -> Result<(Config, Formats), ConfigError> + 'a;

/// A daemon at work.
pub(super) struct Running {
    runtime: Arc<Runtime>,
    pub(super) current: Current,
    stop: Arc<AtomicBool>,
    sources: Vec<Source>,
    storers: Storers,
    /// Threads that stay, whatever the configuration says; sources that are on their way out.
    others: Vec<(String, JoinHandle<()>)>,
    leaving: Vec<(String, JoinHandle<()>)>,
    http: Option<api::Served>,
    /// When that was last tried.
    listened: Instant,
    said: Arc<Said>,
    _locks: Locks,
}

/// The threads that run the sentence.
struct Storers {
    stop: Arc<AtomicBool>,
    threads: Vec<(String, JoinHandle<()>)>,
}

impl Storers {
    fn start(storing: &Arc<Storing>) -> Result<Self, DaemonError> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        // What is small does not wait while something large is read.
        for (share, name) in [(Share::Small, "pipeline-small"), (Share::Large, "pipeline-large")] {
            let (storing, stop) = (storing.clone(), stop.clone());
            let thread = spawn_watched(name, move || storing.pipeline.run(share, &stop))?;
            threads.push((format!("the {name}"), thread));
        }
        Ok(Self { stop, threads })
    }

    /// Ends them. Those that did not end in this time, or until all is to `stop`, are theirs still.
    fn end(&mut self, patience: Duration, stop: &AtomicBool) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        let until = Instant::now() + patience;
        let ended = || self.threads.iter().all(|(_, thread)| thread.is_finished());
        while !ended() && Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        ended()
    }
}

/// What a new configuration came to.
pub(super) enum Reloaded {
    /// It is what runs now, in these words.
    Done(String),
    /// The old one goes on.
    Refused(String),
    /// Neither can go on.
    Broken(DaemonError),
}

/// Ends sources that nobody stores for.
pub(super) fn leave(sources: Vec<Source>, patience: Duration) {
    for source in &sources {
        source.send_away();
    }
    join(sources.into_iter().map(|source| (source.name, source.thread)).collect(), patience);
}

impl Running {
    /// Starts everything; `sources` that work already go on.
    pub(super) fn start(
        works: Works,
        runtime: Arc<Runtime>,
        stop: Arc<AtomicBool>,
        mut sources: Vec<Source>,
    ) -> Result<Self, DaemonError> {
        let Works { storing, locks, .. } = works;
        let (config, intake) = (&storing.config, storing.intake.clone());
        let said = Arc::new(Said::default());
        if sources.is_empty() {
            sources = Source::start_all(config, &storing.formats, &intake)?;
        }
        let storers = Storers::start(&storing)?;
        let control = Control::listen(&config.state_dir)?;
        let current: Current = Arc::new(RwLock::new(storing.clone()));
        let mut running = Self {
            runtime,
            current: current.clone(),
            stop: stop.clone(),
            sources,
            storers,
            others: Vec::new(),
            leaving: Vec::new(),
            http: None,
            listened: Instant::now(),
            said: said.clone(),
            _locks: locks,
        };
        running.listen(config.http);
        let (watched, told) = (current.clone(), stop.clone());
        running.other("the watch for silence", "silence", move || silence::watch(&watched, &told))?;
        let (kept, told) = (current.clone(), stop.clone());
        running.other("the watch over the disks", "disks", move || disk::watch(&kept, &told))?;
        let (served, told) = (current, stop.clone());
        running.other("the control socket", "control", move || control.serve(&served, &told))?;
        let told = stop.clone();
        let shown = running.current.clone();
        running.other("the status line", "status", move || systemd::tell_status(&shown, &said, &told))?;
        if let Some(within) = sd_notify::watchdog_enabled() {
            let feeder = spawn("watchdog", move || systemd::feed_watchdog(within, &stop))?;
            running.others.push(("the watchdog's feeder".to_owned(), feeder));
        }
        Ok(running)
    }

    fn other(
        &mut self,
        words: &str,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), DaemonError> {
        self.others.push((words.to_owned(), spawn_watched(name, body)?));
        Ok(())
    }

    /// Listens for those who watch. Collecting needs no port: a taken one is loud, and no reason to refuse what PBXes send.
    fn listen(&mut self, address: Option<std::net::SocketAddr>) {
        if let Some(served) = self.http.take() {
            served.stop();
        }
        self.listened = Instant::now();
        let Some(address) = address else { return };
        let storing = current(&self.current);
        let progress = storing.pipeline.progress();
        let (named, polled, troubled) = (self.current.clone(), self.current.clone(), self.current.clone());
        let watched = api::Watched {
            intake: storing.intake.clone(),
            sources: Box::new(move || {
                current(&named).config.sources.iter().map(|source| source.name.clone()).collect()
            }),
            pollers: Box::new(move || {
                let storing = current(&polled);
                let sources = storing.config.sources.iter().filter(|source| is_polled(source));
                sources.map(|source| source.name.clone()).collect()
            }),
            tallies: Box::new(move || progress.sources()),
            troubles: Box::new(move || disk::troubles(&current(&troubled))),
        };
        match api::start(address, watched, self.runtime.handle()) {
            Ok(served) => {
                let bound = served.address;
                tracing::info!("health and metrics at http://{bound}/api/health and /metrics");
                self.http = Some(served);
            }
            Err(error) => tracing::error!(%error, "collecting without health and metrics"),
        }
    }

    /// A port that was taken may be free by now.
    fn listen_if_deaf(&mut self) {
        if self.http.is_none() {
            self.listen(current(&self.current).config.http);
        }
    }

    /// What is done now and then: main comes round.
    pub(super) fn round(&mut self) {
        if self.listened.elapsed() >= LISTEN_EVERY {
            self.listen_if_deaf();
        }
    }

    /// A thread that ended although it must run for ever.
    pub(super) fn ended(&self) -> Option<String> {
        let sources = self.sources.iter().map(|source| (format!("source {}", source.name), &source.thread));
        let others = self.others.iter().chain(&self.storers.threads);
        let mut threads = sources.chain(others.map(|(name, thread)| (name.clone(), thread)));
        threads.find(|(_, thread)| thread.is_finished()).map(|(name, _)| name)
    }

    /// Follows the configuration as it is written now.
    pub(super) fn reload(&mut self, again: &Again<'_>) -> Reloaded {
        let old = current(&self.current);
        let (config, formats) = match again() {
            Ok(read) => read,
            Err(error) => return self.refused(error.to_string()),
        };
        let fixed = |config: &Config| (config.state_dir.clone(), config.store.clone(), config.keep.clone());
        if fixed(&config) != fixed(&old.config) {
            let text =
                "state_dir, store.url and [keep] cannot change while cdrd runs: systemctl restart cdrd";
            return self.refused(text.to_owned());
        }
        if let Err(error) = fits(&config, &formats, self.runtime.handle()) {
            return self.refused(error.to_string());
        }
        if config.written == old.config.written {
            self.listen_if_deaf();
            self.said.set_refusal(None);
            self.wake_others();
            self.sources.iter().for_each(Source::wake);
            return Reloaded::Done("the configuration is as it was".to_owned());
        }
        match self.store_by(&config, &formats, &old) {
            Ok(None) => {}
            Ok(Some(refusal)) => return self.refused(refusal),
            Err(error) => return Reloaded::Broken(error),
        }
        if self.stop.load(Ordering::Relaxed) {
            return self.refused(STOPPING.to_owned());
        }
        let (kept, started, gone) = match self.collect_by(&config, &formats, &old.intake) {
            Ok(counts) => counts,
            Err(error) => return Reloaded::Broken(error),
        };
        if config.http == old.config.http {
            self.listen_if_deaf();
        } else {
            self.listen(config.http);
        }
        self.said.set_refusal(None);
        self.wake_others();
        Reloaded::Done(format!(
            "the configuration was read again: {kept} sources go on, {started} started, {gone} removed"
        ))
    }

    /// Those that rest look again at once.
    fn wake_others(&self) {
        for (_, thread) in &self.others {
            thread.thread().unpark();
        }
    }

    fn refused(&self, text: String) -> Reloaded {
        self.said.set_refusal(Some(text.clone()));
        self.wake_others();
        Reloaded::Refused(text)
    }

    /// Has what is received stored by another configuration; what is in hand is put back first. Words if it must wait.
    fn store_by(
        &mut self,
        config: &Config,
        formats: &Formats,
        old: &Arc<Storing>,
    ) -> Result<Option<String>, DaemonError> {
        self.storers.stop.store(true, Ordering::Relaxed);
        old.intake.wake();
        let ended = self.storers.end(PATIENCE, &self.stop);
        if self.stop.load(Ordering::Relaxed) {
            return Ok(Some(STOPPING.to_owned()));
        }
        let progress = old.pipeline.progress();
        let turns = old.pipeline.turns().clone();
        let turn = if ended { turns.alone_within(&self.stop, PATIENCE) } else { None };
        if turn.is_none() {
            // One that is late still has its turn, and ends by itself.
            self.storers = Storers::start(old)?;
            let text =
                "something is being read again, or the database is locked; reload again when that has ended";
            return Ok(Some(text.to_owned()));
        }
        // What cannot be written now could not be built anew either, neither by the new configuration nor by the old one.
        if let Err(error) = old.store.probe() {
            drop(turn);
            self.storers = Storers::start(old)?;
            return Ok(Some(format!("{error}; reload again when that has ended")));
        }
        old.retire();
        let handle = self.runtime.handle();
        let shared = || Shared { progress: progress.clone(), turns: turns.clone() };
        let built = Storing::new(config, formats, old.intake.clone(), handle, shared());
        let (storing, refusal) = match built {
            Ok(storing) => (storing, None),
            Err(error) => match self.build_back(old, shared) {
                Some(storing) => (storing, Some(error.to_string())),
                None => return Ok(Some(STOPPING.to_owned())),
            },
        };
        let storing = Arc::new(storing);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = storing.clone();
        self.storers = Storers::start(&storing)?;
        Ok(refusal)
    }

    /// Builds what stored before, which worked a moment ago: whatever stands in its way, the doors stay open until it
    /// does again. `None` when told to stop.
    fn build_back(&self, old: &Storing, shared: impl Fn() -> Shared) -> Option<Storing> {
        while !self.stop.load(Ordering::Relaxed) {
            let intake = old.intake.clone();
            match Storing::new(&old.config, &old.formats, intake, self.runtime.handle(), shared()) {
                Ok(storing) => return Some(storing),
                Err(error) => tracing::error!(
                    %error,
                    "nothing is stored while this lasts; what PBXes send is received all the same, and it is tried again"
                ),
            }
            rest_unless(&self.stop, PAUSE);
        }
        None
    }

    /// Starts sources that are new or changed, sends away those that are gone; the others do not notice.
    fn collect_by(
        &mut self,
        config: &Config,
        formats: &Formats,
        intake: &Intake,
    ) -> Result<(usize, usize, usize), DaemonError> {
        let mut before: Vec<Source> = std::mem::take(&mut self.sources);
        let (mut kept, mut started) = (0, 0);
        for source in &config.sources {
            let settings = Settings::of(config, source, formats);
            let known = before.iter().position(|known| known.name == source.name);
            let known = known.map(|place| before.swap_remove(place));
            if let Some(known) = known {
                if known.settings == settings {
                    kept += 1;
                    known.wake();
                    self.sources.push(known);
                    continue;
                }
                known.send_away();
                let next = Source::start(&source.name, settings, intake.clone(), Some(known.thread))?;
                self.sources.push(next);
            } else {
                // One of this name may not have ended yet, and says last of all that it is off.
                let leaving = self.leaving.iter().position(|(name, _)| *name == source.name);
                let leaving = leaving.map(|place| self.leaving.swap_remove(place).1);
                self.sources.push(Source::start(&source.name, settings, intake.clone(), leaving)?);
            }
            started += 1;
        }
        let gone = before.len();
        for source in before {
            source.send_away();
            let (name, intake) = (source.name.clone(), intake.clone());
            let last = spawn("source leaving", move || {
                let _ = source.thread.join();
                // Said by the source itself until it ended.
                let _ = intake.set_source_state(&source.name, SourceHealth::Off, "no longer configured");
            })?;
            self.leaving.push((name, last));
        }
        self.leaving.retain(|(_, thread)| !thread.is_finished());
        Ok((kept, started, gone))
    }

    /// Ends everything; the transaction under way is finished, the rest waits in the spool for the next start.
    pub(super) fn end(mut self, patience: Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.storers.stop.store(true, Ordering::Relaxed);
        for source in &self.sources {
            source.send_away();
        }
        let storing = current(&self.current);
        self.wake_others();
        storing.intake.wake();
        let mut threads: Vec<_> =
            self.sources.into_iter().map(|source| (source.name, source.thread)).collect();
        threads.append(&mut self.storers.threads);
        threads.append(&mut self.others);
        threads.append(&mut self.leaving);
        let late = join(threads, patience);
        for source in &storing.config.sources {
            // A source of a stopped daemon is not "ok"; what it last said stays readable in the message.
            let _ = storing.intake.set_source_state(&source.name, SourceHealth::Off, "cdrd is stopped");
        }
        if late.is_empty() {
            storing.store.close();
        }
    }
}
