//! Composition root: takes the locks, builds every part, runs the threads, stops them. Nothing but `cli` may import it.

mod disk;
mod locks;
mod once;
mod signals;
mod silence;
mod stored;

pub use locks::{LockError, Locks};
pub use once::{Once, run_once};
pub use stored::{
    engine, formats_kept, none_gone, origins, recorded_zone, source_zones, stored_layouts, stored_origins,
    zone_named, zones_corrected,
};

use crate::config::{Config, FolderConfig, SourceConfig, SourceKind};
use crate::formats::Formats;
use crate::intake::{Intake, IntakeError, Recovered, Share, SourceHealth};
use crate::pipeline::{Parts, Pipeline};
use crate::record::delivery::DeliveryId;
use crate::record::port::Derive;
use crate::sources::folder::append::{self, Follower};
use crate::sources::folder::{self, Folder};
use crate::store::query::QueryError;
use crate::store::sqlite::Sqlite;
use crate::store::{Commit, OriginStart, StoreError};
use crate::{api, intake, telemetry, unpack};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Runtime;

use signals::{LONGEST_STOP, Signals, end_late, join};

/// Why the daemon could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another process works on this state.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The door.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something that every process needs is missing.
    #[error("{what}: {cause}; {mend}")]
    System {
        /// What failed.
        what: String,
        /// Why.
        cause: std::io::Error,
        /// What to do.
        mend: &'static str,
    },
    /// The zone of this host is unknown.
    #[error(
        "{file}: time_zone = \"auto\" of origin {origin:?}, but this host's zone is unknown; write the PBX's zone, for example time_zone = \"Europe/Berlin\""
    )]
    ZoneUnknown {
        /// Configuration file.
        file: String,
        /// Origin.
        origin: String,
    },
    /// What is stored cannot be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Rows would belong to nobody.
    #[error(
        "{file}: origin {origin:?} has rows in the database but no [[origin]] stanza; write it again, or formerly = \
         {origin:?} in the stanza that takes its place"
    )]
    OriginGone {
        /// Configuration file.
        file: String,
        /// Origin.
        origin: String,
    },
    /// Stored rows would be read under other keys.
    #[error(
        "{place}: format.match: [[format]] {format:?} has rows in the database whose identity is made of other columns \
         than it says now ({cause}); put match, sure, instance, exact, near and events and the columns behind them back, \
         or give the changed stanza another id"
    )]
    FormatChanged {
        /// File and line of the stanza.
        place: String,
        /// Format.
        format: String,
        /// What differs.
        cause: String,
    },
    /// Stored rows could not be read.
    #[error(
        "{file}: format {format:?} has rows in the database but no [[format]] stanza; write it again, or run the version of \
         cdrd that stored them"
    )]
    FormatGone {
        /// Configuration file.
        file: String,
        /// Format.
        format: String,
    },
    /// A thread ended that must run for ever.
    #[error(
        "{0} ended unexpectedly; the process stops so that its supervisor starts it again (nothing acknowledged is lost)"
    )]
    ThreadEnded(String),
}

impl DaemonError {
    /// Whether the configuration is at fault.
    pub const fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::ZoneUnknown { .. }
                | Self::OriginGone { .. }
                | Self::FormatChanged { .. }
                | Self::FormatGone { .. }
        )
    }
}

/// Everything that reads and stores, built and recovered, with the locks held.
pub struct Works {
    /// The door.
    pub intake: Intake,
    /// The store.
    pub store: Sqlite,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// What the last process left behind and this one set right.
    pub recovered: Recovered,
    /// The zone in which each origin's rows are read, by the origin's name.
    pub zones: HashMap<String, String>,
    _locks: Locks,
    _runtime: Arc<Runtime>,
}

/// A runtime for what needs one (the database driver, signals).
pub fn runtime() -> Result<Runtime, DaemonError> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|cause| {
        DaemonError::System {
            what: "cannot start the asynchronous runtime".to_owned(),
            cause,
            mend: "check the limits on threads and open files",
        }
    })
}

/// Takes the locks and builds everything but the sources.
pub fn build(config: &Config, formats: &Formats, runtime: Arc<Runtime>) -> Result<Works, DaemonError> {
    intake::make_folder(&config.state_dir, 0o750)?;
    let locks = Locks::take(&config.state_dir, &config.store.sqlite)?;
    let intake = Intake::open(&config.state_dir, crate::intake::Config::default(), runtime.handle().clone())?;
    let recovered = intake.recover()?;
    Sqlite::prepare(&config.store.sqlite, runtime.handle())?;
    let stored = stored_origins(config, runtime.handle())?;
    none_gone(config, &stored)?;
    formats_kept(config, formats, &stored_layouts(config, runtime.handle())?)?;
    for words in zones_corrected(config, &stored) {
        tracing::warn!("{words}");
    }
    let origins = origins(config, &stored)?;
    let engine = Arc::new(engine(config, origins.clone(), formats));
    let derive: Arc<dyn Derive> = engine.clone();
    let store = Sqlite::open(&config.store.sqlite, derive, runtime.handle().clone())?;
    let mut origin_keys = HashMap::new();
    let mut zones = HashMap::new();
    for (wish, origin) in config.origins.iter().zip(&origins) {
        let zone = origin.time_zone.iana_name().unwrap_or("UTC");
        let row = store.origin(&OriginStart {
            name: origin.name.clone(),
            tenant: origin.tenant.clone(),
            time_zone: zone.to_owned(),
            formerly: wish.formerly.clone(),
        })?;
        origin_keys.insert(origin.name.clone(), row.key);
        zones.insert(origin.name.clone(), zone.to_owned());
    }
    let claim = DeliveryId::new(Timestamp::now(), u128::from(std::process::id())).to_string();
    let pipeline = Pipeline::new(Parts {
        intake: intake.clone(),
        store: Arc::new(store.clone()),
        formats: formats.clone(),
        engine,
        origin_keys,
        readings: (config.sources.iter())
            .map(|source| (source.name.clone(), config.reading(source, &formats.versions())))
            .collect(),
        claim,
        limits: unpack::Limits::default(),
        scratch: config.state_dir.join("spool"),
    });
    Ok(Works { intake, store, pipeline, recovered, zones, _locks: locks, _runtime: runtime })
}

/// Runs until a stop signal. The transaction under way is finished; the rest waits in the spool for the next start.
pub fn run(config: &Config, formats: &Formats) -> Result<(), DaemonError> {
    let runtime = Arc::new(runtime()?);
    // First of all: a stop during start-up is a stop like any other.
    let signals = Signals::listen(&runtime)?;
    let works = build(config, formats, runtime.clone())?;
    if works.recovered.cut_off() {
        let waiting = works.recovered.waiting;
        tracing::warn!(
            message_id = telemetry::RECOVERED,
            "the last run was cut off; {waiting} deliveries are taken up"
        );
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads: Vec<(String, JoinHandle<()>)> = Vec::new();
    // Held for the life of the threads: a closed channel is a source's sign to go.
    let mut wakers = Vec::new();
    for source in &config.sources {
        let (waker, wake) = std::sync::mpsc::channel();
        wakers.push(waker);
        let (stop, intake) = (stop.clone(), works.intake.clone());
        let name = format!("source {}", source.name);
        let SourceKind::Folder(kind) = &source.kind;
        if !kind.append.is_empty() {
            let follower = Follower::new(followed(config, source, kind, formats), intake);
            threads.push((name.clone(), spawn(&name, move || follower.run(stop, wake))?));
            continue;
        }
        let folder = folder_of(config, source, formats, &works.intake);
        threads.push((name.clone(), spawn(&name, move || folder.run(stop, wake))?));
    }
    let Works { intake, store, pipeline, _locks, _runtime, .. } = works;
    if let Some(address) = config.http {
        let progress = pipeline.progress();
        let watched = api::Watched {
            intake: intake.clone(),
            sources: config.sources.iter().map(|source| source.name.clone()).collect(),
            tallies: Box::new(move || progress.sources()),
        };
        // Collecting needs no port: a taken one is loud, and no reason to refuse what PBXes send.
        match api::start(address, watched, runtime.handle()) {
            Ok(bound) => tracing::info!("health and metrics at http://{bound}/api/health and /metrics"),
            Err(error) => tracing::error!(%error, "collecting without health and metrics"),
        }
    }
    let (listened, silence_stop, expected) = (intake.clone(), stop.clone(), config.clone());
    threads.push((
        "the watch for silence".to_owned(),
        spawn("silence", move || silence::watch(&expected, &listened, &silence_stop))?,
    ));
    let (kept, disk_stop) = (intake.clone(), stop.clone());
    threads.push((
        "the watch over the disks".to_owned(),
        spawn("disks", move || disk::watch(&kept, &disk_stop))?,
    ));
    // What is small does not wait while something large is read.
    let pipeline = Arc::new(pipeline);
    for (share, name) in [(Share::Small, "pipeline-small"), (Share::Large, "pipeline-large")] {
        let (pipeline, stop) = (pipeline.clone(), stop.clone());
        threads.push((format!("the {name}"), spawn(name, move || pipeline.run(share, &stop))?));
    }
    tracing::info!(
        message_id = telemetry::STARTED,
        "collecting from {}, configured by {}",
        if config.sources.len() == 1 {
            "1 source".to_owned()
        } else {
            format!("{} sources", config.sources.len())
        },
        config.file.display()
    );
    notify_systemd(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("collecting")]);
    let (watched, status_stop) = (intake.clone(), stop.clone());
    threads
        .push(("the status line".to_owned(), spawn("status", move || tell_status(&watched, &status_stop))?));
    let ended = runtime.block_on(signals.stop(&threads));
    tracing::info!(message_id = telemetry::STOPPING, "stopping; the transaction under way is finished first");
    notify_systemd(&[sd_notify::NotifyState::Stopping]);
    stop.store(true, Ordering::Relaxed);
    for waker in &wakers {
        let _ = waker.send(());
    }
    let code = i32::from(ended.is_some());
    std::thread::spawn(move || end_late(code));
    let late = join(threads, LONGEST_STOP);
    for source in &config.sources {
        // A source of a stopped daemon is not "ok"; what it last said stays readable in the message.
        let _ = intake.set_source_state(&source.name, SourceHealth::Off, "cdrd is stopped");
    }
    if late.is_empty() {
        store.close();
    }
    match ended {
        Some(thread) => Err(DaemonError::ThreadEnded(thread)),
        None => Ok(()),
    }
}

fn followed(
    config: &Config,
    source: &SourceConfig,
    folder: &FolderConfig,
    formats: &Formats,
) -> append::Config {
    append::Config {
        name: source.name.clone(),
        origin: source.origin.clone(),
        path: folder.path.clone(),
        files: folder.append.clone(),
        settle: folder.settle,
        rescan: folder.rescan,
        pinned_format: source.pinned_format.clone(),
        reading: config.reading(source, &formats.versions()),
    }
}

/// The source that this stanza describes.
fn folder_of(config: &Config, source: &SourceConfig, formats: &Formats, intake: &Intake) -> Folder {
    let SourceKind::Folder(folder) = &source.kind;
    // For the very first start. A folder that goes missing later is the source's to report, and a disk that is not
    // mounted shows as a folder whose parent is missing too.
    if folder.path.parent().is_some_and(std::path::Path::is_dir) {
        let _ = intake::make_folder(&folder.path, 0o755);
    }
    let settings = folder::Config {
        name: source.name.clone(),
        origin: source.origin.clone(),
        path: folder.path.clone(),
        settle: folder.settle,
        recursive: folder.recursive,
        marker: folder.marker.clone(),
        keep: folder.keep,
        rescan: folder.rescan,
        pinned_format: source.pinned_format.clone(),
        reading: config.reading(source, &formats.versions()),
    };
    Folder::new(settings, intake.clone())
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, DaemonError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|cause| DaemonError::System {
        what: format!("cannot start a thread for {name}"),
        cause,
        mend: "raise the limit on threads",
    })
}

/// Keeps the text of `systemctl status` true: what is red, and what waits.
fn tell_status(intake: &Intake, stop: &AtomicBool) {
    let mut said = String::new();
    while !stop.load(Ordering::Relaxed) {
        let text = status_text(intake);
        if text != said {
            notify_systemd(&[sd_notify::NotifyState::Status(&text)]);
            said = text;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn status_text(intake: &Intake) -> String {
    let states = intake.source_states().unwrap_or_default();
    let red: Vec<String> = states
        .iter()
        .filter(|state| !matches!(state.seen_whole(), SourceHealth::Ok | SourceHealth::Off))
        .map(|state| format!("{} is {}: {}", state.source, state.seen_whole().word(), state.message))
        .collect();
    if red.is_empty() { "collecting".to_owned() } else { red.join("; ") }
}

/// Tells systemd, if it listens; outside a unit this does nothing.
fn notify_systemd(states: &[sd_notify::NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
