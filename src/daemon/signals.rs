//! The signals: those that ask to stop, the one that asks to read the configuration again; the threads that end by
//! themselves, and the time that stopping may take.

use super::DaemonError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
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

    /// Waits for a signal.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.term.recv() => Asked::Stop,
            _ = self.int.recv() => Asked::Stop,
            _ = self.hup.recv() => Asked::Reload,
        }
    }

    /// Heeds them whatever else the process does, for as long as the runtime lives: a stop is known to everybody at
    /// once, and from then on its time runs, also while a configuration is read again or a database is waited for.
    /// Gives what main is asked for; what comes twice before main looks is asked once.
    pub(super) fn heed(mut self, runtime: &Runtime, stop: Arc<AtomicBool>) -> Receiver<Asked> {
        let (ask, asked): (SyncSender<Asked>, _) = sync_channel(1);
        runtime.spawn(async move {
            loop {
                let next = self.next().await;
                if matches!(next, Asked::Stop) && !stop.swap(true, Ordering::Relaxed) {
                    let _ = std::thread::Builder::new().name("end".to_owned()).spawn(|| end_late(0));
                }
                // Full: main is about to look, and looks at `stop` too.
                let _ = ask.try_send(next);
            }
        });
        asked
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
            if let Asked::Stop = runtime.block_on(signals.next())
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

/// Rests for so long, or until told to stop.
pub(super) fn rest_unless(stop: &AtomicBool, long: Duration) {
    let until = Instant::now() + long;
    while !stop.load(Ordering::Relaxed) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
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
