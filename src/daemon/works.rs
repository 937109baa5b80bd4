//! Everything that reads and stores, built from a configuration. A running daemon builds what stores anew when its
//! configuration changes; the door stays as it is, and open.

use super::stored::{
    engine, formats_kept, none_gone, origins, stored_layouts, stored_origins, zones_corrected,
};
use super::{DaemonError, Locks};
use crate::config::Config;
use crate::formats::Formats;
use crate::intake::{Intake, Recovered};
use crate::pipeline::{Parts, Pipeline, Progress, Turns};
use crate::record::delivery::DeliveryId;
use crate::record::port::Derive;
use crate::store::sqlite::Sqlite;
use crate::store::{Commit as _, OriginStart};
use crate::{intake, unpack};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};

/// The door and what stores behind it, built and recovered, with the locks held.
pub struct Works {
    /// What stores.
    pub storing: Arc<Storing>,
    /// What the last process left behind and this one set right.
    pub recovered: Recovered,
    pub(super) locks: Locks,
    pub(super) _runtime: Arc<Runtime>,
}

/// What stores as one configuration says.
pub struct Storing {
    /// That configuration.
    pub config: Config,
    /// Its formats.
    pub formats: Formats,
    /// The door.
    pub intake: Intake,
    /// The store.
    pub store: Sqlite,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The zone in which each origin's rows are read, by the origin's name.
    pub zones: HashMap<String, String>,
    pub(super) handle: Handle,
    /// Another one has taken its place.
    retired: AtomicBool,
}

/// Rest before what stores is built once more.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Told why it cannot be built yet, with the door if that is open; rests, and says whether it is tried again.
pub(super) type Waits<'w> = dyn FnMut(Option<&Intake>, &DaemonError) -> Result<bool, DaemonError> + 'w;

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
    build_waiting(config, formats, runtime, &mut |_, _| Ok(false))
}

/// The same. Where somebody else holds a database it is tried again while `waits` says so; where that is the store's, the
/// door is open and recovered meanwhile.
pub(super) fn build_waiting(
    config: &Config,
    formats: &Formats,
    runtime: Arc<Runtime>,
    waits: &mut Waits<'_>,
) -> Result<Works, DaemonError> {
    intake::make_folder(&config.state_dir, 0o750)?;
    let locks = Locks::take(&config.state_dir, &config.store.sqlite)?;
    let open = || {
        let intake = Intake::open(&config.state_dir, config.door(), runtime.handle().clone())?;
        let recovered = intake.recover()?;
        Ok::<_, DaemonError>((intake, recovered))
    };
    let (intake, recovered) = loop {
        match open() {
            Ok(opened) => break opened,
            Err(error) if error.is_locked_out() && waits(None, &error)? => {}
            Err(error) => return Err(error),
        }
    };
    let storing = loop {
        match first(config, formats, &intake, runtime.handle()) {
            Ok(storing) => break storing,
            Err(error) if error.is_locked_out() && waits(Some(&intake), &error)? => {}
            Err(error) => return Err(error),
        }
    };
    Ok(Works { storing: Arc::new(storing), recovered, locks, _runtime: runtime })
}

fn first(
    config: &Config,
    formats: &Formats,
    intake: &Intake,
    handle: &Handle,
) -> Result<Storing, DaemonError> {
    Sqlite::prepare(&config.store.sqlite, handle)?;
    fits(config, formats, handle)?;
    let shared = Shared { progress: Arc::default(), turns: Arc::default() };
    Storing::new(config, formats, intake.clone(), handle, shared)
}

/// Refuses a configuration that would leave stored rows without a home.
pub(super) fn fits(config: &Config, formats: &Formats, handle: &Handle) -> Result<(), DaemonError> {
    let stored = stored_origins(config, handle)?;
    none_gone(config, &stored)?;
    formats_kept(config, formats, &stored_layouts(config, handle)?)?;
    origins(config, &stored)?;
    for words in zones_corrected(config, &stored) {
        tracing::warn!("{words}");
    }
    Ok(())
}

/// What outlives a configuration.
pub(super) struct Shared {
    pub progress: Arc<Progress>,
    pub turns: Arc<Turns>,
}

impl Storing {
    pub(super) fn new(
        config: &Config,
        formats: &Formats,
        intake: Intake,
        handle: &Handle,
        shared: Shared,
    ) -> Result<Self, DaemonError> {
        let origins = origins(config, &stored_origins(config, handle)?)?;
        let engine = Arc::new(engine(config, origins.clone(), formats));
        let derive: Arc<dyn Derive> = engine.clone();
        let store = Sqlite::open(&config.store.sqlite, derive, handle.clone())?;
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
            renamed: (config.origins.iter())
                .filter_map(|origin| Some((origin.formerly.clone()?, origin.name.clone())))
                .collect(),
            readings: (config.sources.iter())
                .map(|source| (source.name.clone(), config.reading(source, &formats.versions())))
                .collect(),
            claim,
            limits: unpack::Limits::default(),
            scratch: config.state_dir.join("spool"),
            progress: shared.progress,
            turns: shared.turns,
        });
        let (config, formats, handle) = (config.clone(), formats.clone(), handle.clone());
        let retired = AtomicBool::new(false);
        Ok(Self { config, formats, intake, store, pipeline, zones, handle, retired })
    }

    /// Another one takes its place: nothing is stored by this one any more.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.store.close();
    }

    /// Whether another one has taken its place.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}
