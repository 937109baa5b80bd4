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
pub use sources::{Tried, credentials, password, try_source};
pub use stored::{
    engine, formats_kept, none_gone, origins, recorded_zone, source_zones, stored_layouts, stored_origins,
    zone_named, zones_corrected,
};
pub use works::{Storing, Works, build, runtime};

use crate::config::Config;
use crate::formats::Formats;
use crate::intake::{Intake, IntakeError};
use crate::store::StoreError;
use crate::store::query::QueryError;
use crate::{pulse, telemetry};
use running::{Reloaded, Running};
use sd_notify::NotifyState;
use signals::{Asked, LONGEST_STOP, Signals, end_late, rest_unless};
use sources::Source;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What systemd is asked for when the database keeps the start waiting: longer than one more attempt takes.
const START_MORE: Duration = Duration::from_mins(1);

/// How often main looks whether a thread has ended.
const ROUND: Duration = Duration::from_secs(1);

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
    /// Whether somebody else holds a database: that passes by itself. A path that cannot be written is said at once,
    /// while whoever starts cdrd still looks.
    fn is_locked_out(&self) -> bool {
        if let Self::Intake(error) = self {
            return error.is_locked_out();
        }
        let (Self::Store(StoreError::Transient { cause, .. })
        | Self::Query(QueryError::Unreadable { cause, .. } | QueryError::Refused { cause, .. })) = self
        else {
            return false;
        };
        cause.contains("database is locked")
    }

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
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Signals::listen(&runtime)?.heed(&runtime, stop.clone());
    let mut sources = Vec::new();
    let built = works::build_waiting(config, formats, runtime.clone(), &mut |intake, error| {
        match intake {
            Some(intake) => wait_for_store(config, formats, intake, &mut sources, error)?,
            None => wait_for_door(error),
        }
        rest_unless(&stop, works::PAUSE);
        Ok(!stop.load(Ordering::Relaxed))
    });
    let works = match built {
        Ok(works) => works,
        Err(error) if error.is_locked_out() && stop.load(Ordering::Relaxed) => {
            running::leave(sources, LONGEST_STOP);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if works.recovered.cut_off() {
        let waiting = works.recovered.waiting;
        tracing::warn!(
            message_id = telemetry::RECOVERED,
            "the last run was cut off; {waiting} deliveries are taken up"
        );
    }
    let mut running = Running::start(works, runtime, stop.clone(), sources)?;
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
        let next = asked.recv_timeout(ROUND);
        if stop.load(Ordering::Relaxed) {
            break Ok(());
        }
        match next {
            Ok(Asked::Stop) => break Ok(()),
            Ok(Asked::Reload) => {
                if let Err(error) = reload(&mut running, again) {
                    break Err(error);
                }
            }
            Err(_) => {
                running.round();
                // The stop that ended it may have come since.
                if let Some(thread) = running.ended()
                    && !stop.load(Ordering::Relaxed)
                {
                    break Err(DaemonError::ThreadEnded(thread));
                }
            }
        }
    };
    tracing::info!(message_id = telemetry::STOPPING, "stopping; the transaction under way is finished first");
    systemd::notify(&[NotifyState::Stopping]);
    if ended.is_err() {
        std::thread::spawn(|| end_late(1));
    }
    running.end(LONGEST_STOP);
    ended
}

/// What stores cannot be built now: the sources work all the same, so that nobody has to keep what the door would take.
fn wait_for_store(
    config: &Config,
    formats: &Formats,
    intake: &Intake,
    sources: &mut Vec<Source>,
    error: &DaemonError,
) -> Result<(), DaemonError> {
    tracing::error!(
        %error,
        "nothing is stored while this lasts; what PBXes send is received all the same, and it is tried again"
    );
    if sources.is_empty() {
        *sources = Source::start_all(config, formats, intake)?;
    }
    start_takes_longer("receiving; the database cannot be written yet");
    Ok(())
}

/// The spool cannot be opened now: nothing can be received, and senders keep what they have.
fn wait_for_door(error: &DaemonError) {
    tracing::error!(
        %error,
        "nothing is received while this lasts: what PBXes send waits with them, and it is tried again"
    );
    start_takes_longer(&format!("nothing is received yet: {error}"));
}

fn start_takes_longer(why: &str) {
    let longer = u32::try_from(START_MORE.as_micros()).unwrap_or(u32::MAX);
    systemd::notify(&[
        NotifyState::ExtendTimeoutUsec(longer),
        NotifyState::Watchdog,
        NotifyState::Status(why),
    ]);
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
