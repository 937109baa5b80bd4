//! Stopping: the signals that ask for it, the threads that end by themselves, and the time that all of it may take.

use super::DaemonError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ten seconds are promised between a stop signal and the end.
pub(super) const LONGEST_STOP: Duration = Duration::from_secs(9);

/// The signals that stop the daemon.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
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
        Ok(Self { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())? })
    }

    /// Waits for SIGTERM or SIGINT; gives the name of a thread that ended before.
    pub(super) async fn stop(mut self, threads: &[(String, JoinHandle<()>)]) -> Option<String> {
        loop {
            tokio::select! {
                _ = self.term.recv() => return None,
                _ = self.int.recv() => return None,
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    if let Some((name, _)) = threads.iter().find(|(_, thread)| thread.is_finished()) {
                        return Some(name.clone());
                    }
                }
            }
        }
    }
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
