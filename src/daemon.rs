//! Composition root: takes the locks, builds every part, runs the threads, stops them. Nothing but `cli` may import it.

mod caller;
mod control;
pub mod disk;
mod locks;
mod once;
mod running;
mod signals;
mod silence;
mod sources;
mod stored;
mod systemd;
pub mod tasks;
mod works;

pub use caller::{Here, Worker, who};
pub use locks::{LockError, Locks};
pub use once::{Once, run_once};
pub use running::Again;
pub use signals::interrupted;
pub use stored::{
    engine, formats_kept, none_gone, origins, recorded_zone, source_zones, stored_layouts, stored_origins,
    zone_named, zones_corrected,
};
pub use works::{Storing, Works, build, runtime};

use crate::config::Config;
use crate::formats::Formats;
use crate::intake::IntakeError;
use crate::store::StoreError;
use crate::store::query::QueryError;
use crate::{pulse, telemetry};
use running::{Reloaded, Running};
use sd_notify::NotifyState;
use signals::{Asked, LONGEST_STOP, Signals, end_late};
use std::sync::Arc;
use std::thread::JoinHandle;

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

/// Runs until a stop signal. The transaction under way is finished; the rest waits in the spool for the next start.
/// `again` reads the configuration again when SIGHUP asks for it.
pub fn run(config: &Config, formats: &Formats, again: &Again<'_>) -> Result<(), DaemonError> {
    let runtime = Arc::new(runtime()?);
    // First of all: a stop during start-up is a stop like any other.
    let mut signals = Signals::listen(&runtime)?;
    let works = build(config, formats, runtime.clone())?;
    if works.recovered.cut_off() {
        let waiting = works.recovered.waiting;
        tracing::warn!(
            message_id = telemetry::RECOVERED,
            "the last run was cut off; {waiting} deliveries are taken up"
        );
    }
    let mut running = Running::start(works, runtime.clone())?;
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
    systemd::notify(&[NotifyState::Ready, NotifyState::Status("collecting")]);
    let ended = loop {
        match runtime.block_on(signals.next(&|| running.ended())) {
            Asked::Stop => break Ok(()),
            Asked::Reload => {
                if let Err(error) = reload(&mut running, again) {
                    break Err(error);
                }
            }
            Asked::Ended(thread) => break Err(DaemonError::ThreadEnded(thread)),
        }
    };
    tracing::info!(message_id = telemetry::STOPPING, "stopping; the transaction under way is finished first");
    systemd::notify(&[NotifyState::Stopping]);
    let code = i32::from(ended.is_err());
    std::thread::spawn(move || end_late(code));
    running.end(LONGEST_STOP);
    ended
}

fn reload(running: &mut Running, again: &Again<'_>) -> Result<(), DaemonError> {
    systemd::reloading();
    match running.reload(again) {
        Reloaded::Done(words) => tracing::info!(message_id = telemetry::RELOADED, "{words}"),
        Reloaded::Refused(why) => tracing::error!(
            message_id = telemetry::RELOADED,
            "the configuration was not read again, the one from before goes on: {why}"
        ),
        Reloaded::Broken(error) => return Err(error),
    }
    systemd::notify(&[NotifyState::Ready]);
    Ok(())
}

/// A thread that the watchdog is fed for, and only while it comes round.
fn spawn_watched(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, DaemonError> {
    let watched = name.to_owned();
    spawn(name, move || {
        let _enrolled = pulse::enrol(&watched);
        body();
    })
}

/// Rests until the time is over or the thread is woken (`unpark`): there is a change, or it is to stop.
fn rest(long: std::time::Duration) {
    let _waiting = pulse::waiting();
    std::thread::park_timeout(long);
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, DaemonError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|cause| DaemonError::System {
        what: format!("cannot start a thread for {name}"),
        cause,
        mend: "raise the limit on threads",
    })
}
