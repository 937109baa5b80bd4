//! The control socket: commands that change something have the running daemon do it. A caller sends one line with what it
//! wants, is told in lines how far that has come, and at last how it ended; if it goes away before, the work is stopped.
//!
//! Must never take a wish from somebody who may not have it: the socket lets in the daemon's user and group and root, and
//! only its user and root may have more done than an import, which is no more than leaving a file in the inbox.

mod wire;

pub use wire::Here;
pub(super) use wire::{Answer, Request, connect, receive_line, send_request};

use super::DaemonError;
use super::tasks::{Bench, Refusal, Task, Told};
use super::works::Storing;
use crate::pulse;
use rustix::net::UCred;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Name of the socket in the state directory.
pub(super) const SOCKET: &str = "control.sock";
/// How long a caller may take to say what it wants, or to read what it is told.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the listener looks whether to stop.
const SLICE: Duration = Duration::from_millis(500);
/// How long callers whose work is stopped with the daemon may take to be told so.
const FAREWELL: Duration = Duration::from_secs(5);
/// Callers at a time: most of them wait for each other. As many again for those who may have everything done, so that
/// nobody else keeps them out.
const MOST_CALLERS: usize = 16;

/// A place among them, free again when dropped, however the caller's thread ends.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Self> {
        let free = |callers| (callers < MOST_CALLERS).then_some(callers + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        Some(Self(taken.clone()))
    }

    /// One more, however many there are.
    fn taken_by_anybody(taken: &Arc<AtomicUsize>) -> Self {
        taken.fetch_add(1, Ordering::Relaxed);
        Self(taken.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says so when dropped, also by a panic.
struct Ends<'e>(&'e AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What stores now: another one after the configuration was read again.
pub(super) type Current = Arc<RwLock<Arc<Storing>>>;

pub(super) fn current(storing: &Current) -> Arc<Storing> {
    storing.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The socket of a daemon that holds the lock of its state directory. Removed when dropped.
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        // A new daemon replaces one that is left behind.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Control {
    /// Listens. Whoever calls this holds the lock: a socket that is there belongs to nobody any more.
    pub(super) fn listen(state_dir: &Path) -> Result<Self, DaemonError> {
        let path = state_dir.join(SOCKET);
        let failed = |cause| DaemonError::System {
            what: format!("cannot listen on {}", path.display()),
            cause,
            mend: "let cdrd write to its state directory",
        };
        match std::fs::remove_file(&path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => return Err(failed(cause)),
            _ => {}
        }
        let listener = wire::bind(&path).map_err(failed)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        set_socket_timeout(&listener, Timeout::Recv, Some(SLICE)).map_err(|error| failed(error.into()))?;
        Ok(Self { listener, path })
    }

    /// Answers callers until told to stop, each on a thread of its own.
    pub(super) fn serve(&self, storing: &Current, stop: &Arc<AtomicBool>) {
        let (masters, members) = (Arc::default(), Arc::default());
        let working: Arc<AtomicUsize> = Arc::default();
        while !stop.load(Ordering::Relaxed) {
            pulse::beat();
            let Ok((stream, _)) = self.listener.accept() else { continue };
            let Ok(peer) = socket_peercred(&stream) else { continue };
            let Some(place) = Place::take(if may_all(peer) { &masters } else { &members }) else {
                let busy =
                    Refusal::new("too many commands wait for the daemon; try again when one has ended");
                let _ = Caller(Mutex::new(stream)).tell(&Answer::Refused(busy));
                continue;
            };
            let (storing, stop, working) = (current(storing), stop.clone(), working.clone());
            let served = std::thread::Builder::new().name("cdrd-caller".to_owned()).spawn(move || {
                let _place = place;
                let _enrolled = pulse::enrol("a command at the control socket");
                serve(stream, peer, &storing, &stop, &working);
            });
            if let Err(error) = served {
                tracing::warn!(%error, "a command at the control socket was turned away");
            }
        }
        let until = Instant::now() + FAREWELL;
        while working.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn may_all(peer: UCred) -> bool {
    peer.uid.is_root() || peer.uid == rustix::process::geteuid()
}

/// One caller. Whatever it sends, and however it leaves, concerns nobody else.
fn serve(stream: UnixStream, peer: UCred, storing: &Storing, stop: &AtomicBool, working: &Arc<AtomicUsize>) {
    let patient = [Timeout::Recv, Timeout::Send]
        .into_iter()
        .all(|which| set_socket_timeout(&stream, which, Some(PATIENCE)).is_ok());
    if !patient {
        return;
    }
    let waiting = pulse::waiting();
    let received = wire::receive_request(&stream);
    drop(waiting);
    let (request, file) = match received {
        Ok(received) => received,
        Err(error) => {
            tracing::debug!(%error, "what came at the control socket is no request");
            let refusal = Refusal::usage(format!("this is no request: {error}"));
            let _ = Caller(Mutex::new(stream)).tell(&Answer::Refused(refusal));
            return;
        }
    };
    let Ok(left) = stream.try_clone() else { return };
    let caller = Caller(Mutex::new(stream));
    let _works = Place::taken_by_anybody(working);
    let answer = match request {
        Request::Who => Answer::Here(Here::new(storing)),
        Request::Do { version, written, task } => {
            if let Err(refusal) = admitted(&version, &written, &task, may_all(peer), storing) {
                Answer::Refused(refusal)
            } else {
                let (name, user, process) = (task_name(&task), peer.uid.as_raw(), peer.pid.as_raw_nonzero());
                tracing::info!("{name} asked for by user {user} (process {process})");
                attend(&caller, &left, storing, stop, |bench| bench.perform(task, file))
            }
        }
    };
    let _ = caller.tell(&answer);
}

const fn task_name(task: &Task) -> &'static str {
    match task {
        Task::Import(_) => "import",
        Task::Replay(_) => "replay",
        Task::Rederive(_) => "replay --rederive",
        Task::Retry(_) => "rejected retry",
        Task::Sync(_) => "sync",
        Task::Token(_) => "token",
    }
}

/// Whether a wish may be granted.
fn admitted(
    version: &str,
    written: &str,
    task: &Task,
    may_all: bool,
    storing: &Storing,
) -> Result<(), Refusal> {
    if !may_all && !matches!(task, Task::Import(_)) {
        return Err(Refusal::new(
            "only root and the user that runs cdrd may change what is stored; run it with sudo",
        ));
    }
    if version != env!("CARGO_PKG_VERSION") {
        return Err(Refusal::new(format!(
            "the daemon that runs is cdrd {}, this command is {version:?}; restart the daemon (systemctl restart cdrd)",
            env!("CARGO_PKG_VERSION")
        )));
    }
    if written != wire::hex(&storing.config.written) {
        return Err(Refusal::new(format!(
            "the daemon that runs read another configuration than is written in {} now; have it read that (systemctl \
             reload cdrd, or send it SIGHUP), then run this again",
            storing.config.file.display()
        )));
    }
    Ok(())
}

/// Does something while a second thread watches whether the caller is still there.
fn attend(
    caller: &Caller,
    left: &UnixStream,
    storing: &Storing,
    stop: &AtomicBool,
    work: impl FnOnce(&Bench<'_>) -> Result<super::tasks::Done, Refusal>,
) -> Answer {
    let (halt, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let ends = Ends(&ended);
        scope.spawn(|| {
            let _ = set_socket_timeout(left, Timeout::Recv, Some(Duration::from_millis(200)));
            while !ended.load(Ordering::Relaxed) {
                if stop.load(Ordering::Relaxed) || wire::hung_up(left) {
                    halt.store(true, Ordering::Relaxed);
                    return;
                }
            }
        });
        let tell = |told: Told| {
            if caller.tell(&Answer::Told(told)).is_err() {
                halt.store(true, Ordering::Relaxed);
            }
        };
        let bench = Bench { storing, attended: true, stop: &halt, tell: &tell };
        let done = work(&bench);
        drop(ends);
        match done {
            Ok(done) => Answer::Done(done),
            Err(refusal) => Answer::Refused(refusal),
        }
    })
}

struct Caller(Mutex<UnixStream>);

impl Caller {
    fn tell(&self, answer: &Answer) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        // It may be slow to read, or another thread may be telling it something.
        let _waiting = pulse::waiting();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ends, MOST_CALLERS, Place};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    #[test]
    fn a_place_is_free_again_however_its_caller_ends() {
        let taken: Arc<AtomicUsize> = Arc::default();
        let mut places: Vec<_> = (0..MOST_CALLERS).map_while(|_| Place::take(&taken)).collect();
        assert_eq!(places.len(), MOST_CALLERS);
        assert!(Place::take(&taken).is_none(), "no more than that");
        let (ended, place) = (Arc::new(AtomicBool::new(false)), places.pop());
        let told = ended.clone();
        let panicked = std::thread::spawn(move || {
            let (_place, _ends) = (place, Ends(&told));
            panic!("as it is meant to");
        });
        assert!(panicked.join().is_err());
        assert!(ended.load(Ordering::Relaxed));
        assert!(Place::take(&taken).is_some());
    }
}
