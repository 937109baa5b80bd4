//! The signals: those that ask to stop, the one that asks to read the configuration again; the threads that end by
//! themselves, and the time that stopping may take.

use super::DaemonError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ten seconds are promised between a stop signal and the end.
pub(super) const LONGEST_STOP: Duration = Duration::from_secs(9);

/// The signals that the daemon listens to.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

/// What the daemon is asked for.
pub(super) enum Asked {
    Stop,
    Reload,
    /// A thread ended that must run for ever.
    Ended(String),
}

impl Signals {
    pub(super) fn listen(runtime: &Runtime) -> Result<Self, DaemonError> {
        let _inside = runtime.enter();
        let failed = |cause| DaemonError::System {
            what: "cannot listen for signals".to_owned(),
            cause,
            mend: "check the limits on open files",
        };
        let listen = |kind| signal(kind).map_err(failed);
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            int: listen(SignalKind::interrupt())?,
            hup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal, looking now and then whether a thread has ended.
    pub(super) async fn next(&mut self, ended: &(dyn Fn() -> Option<String> + Sync)) -> Asked {
        loop {
            tokio::select! {
                _ = self.term.recv() => return Asked::Stop,
                _ = self.int.recv() => return Asked::Stop,
                _ = self.hup.recv() => return Asked::Reload,
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    if let Some(name) = ended() {
                        return Asked::Ended(name);
                    }
                }
            }
        }
    }
}

/// Is set when somebody interrupts a command (Ctrl-C, SIGTERM), which then ends in order; a second time ends it at once.
pub fn interrupted() -> Result<Arc<AtomicBool>, DaemonError> {
    let told = Arc::new(AtomicBool::new(false));
    let runtime = super::runtime()?;
    let mut signals = Signals::listen(&runtime)?;
    let set = told.clone();
    super::spawn("interrupt", move || {
        loop {
            if let Asked::Stop = runtime.block_on(signals.next(&|| None))
                && set.swap(true, Ordering::Relaxed)
            {
                interrupt_at_once();
            }
        }
    })?;
    Ok(told)
}

#[expect(clippy::disallowed_methods, reason = "asked for twice; a kill is always safe")]
fn interrupt_at_once() {
    std::process::exit(1);
}

/// Ends the process when whatever waits for a locked or dying disk had its time.
#[expect(clippy::disallowed_methods, reason = "main waits for the same disk; a kill is always safe")]
pub(super) fn end_late(code: i32) {
    std::thread::sleep(LONGEST_STOP);
    tracing::warn!(
        "something does not come to its end (is the disk busy, or a database locked?); it is left as it is"
    );
    std::process::exit(code);
}

/// Joins threads until the deadline; gives the names of those that did not end. They are left to the process's end: a
/// kill is always safe.
pub(super) fn join(threads: Vec<(String, JoinHandle<()>)>, patience: Duration) -> Vec<String> {
    let deadline = Instant::now() + patience;
    let mut late = Vec::new();
    for (name, thread) in threads {
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        if thread.is_finished() {
            let _ = thread.join();
        } else {
            late.push(name);
        }
    }
    late
}
