//! Who has a task done: a running daemon at its control socket, else this process, which then holds the locks.
//!
//! Must never do by itself what a daemon that runs could do, and never leave a request half told.

use super::control::{Answer, Request, SOCKET, connect, receive_line, send_request};
use super::tasks::{Bench, Done, Refusal, Task, Told};
use super::works::{build, runtime};
use super::{DaemonError, LockError, Works};
use crate::config::Config;
use crate::formats::Formats;
use crate::store::sqlite::Sqlite;
use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use super::control::Here;

/// How long a daemon that holds the lock may take to open its socket: it recovers what its last run left, or ends.
const STARTING: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// Somebody who does tasks.
pub enum Worker {
    /// The daemon at this socket.
    Daemon(PathBuf, [u8; 32]),
    /// This process.
    Own(Box<Works>),
}

impl Worker {
    /// Finds the daemon of this configuration, or takes its place while there is none.
    pub fn find(config: &Config, formats: &Formats) -> Result<Self, DaemonError> {
        let socket = config.state_dir.join(SOCKET);
        let until = Instant::now() + STARTING;
        loop {
            match connect(&socket) {
                Ok(_) => return Ok(Self::Daemon(socket, config.written)),
                Err(cause) if cause.kind() == ErrorKind::PermissionDenied => {
                    return Err(DaemonError::System {
                        what: format!("cannot ask the daemon at {}", socket.display()),
                        cause,
                        mend: "run this as root, or as somebody in the group of the state directory",
                    });
                }
                Err(_) => {}
            }
            match build(config, formats, Arc::new(runtime()?)) {
                Ok(works) => return Ok(Self::Own(Box::new(works))),
                Err(DaemonError::Locked(LockError::Held { .. })) if Instant::now() < until => {
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Has a task done.
    pub fn perform(
        &self,
        task: Task,
        file: Option<File>,
        stop: &AtomicBool,
        tell: &(dyn Fn(Told) + Sync),
    ) -> Result<Done, Refusal> {
        match self {
            Self::Daemon(socket, written) => {
                ask(socket, &Request::of(task, written), file.as_ref(), stop, tell)
            }
            Self::Own(works) => {
                Bench { storing: &works.storing, attended: false, stop, tell }.perform(task, file)
            }
        }
    }

    /// Ends in order what this process has begun.
    pub fn close(self) {
        if let Self::Own(works) = self {
            Sqlite::close(&works.storing.store);
        }
    }
}

/// The daemon that answers in this state directory.
pub fn who(state_dir: &Path) -> Option<Here> {
    let stream = connect(&state_dir.join(SOCKET)).ok()?;
    stream.set_read_timeout(Some(STARTING)).ok()?;
    send_request(&stream, &Request::Who, None).ok()?;
    match receive_line(&mut BufReader::new(stream)).ok()?? {
        Answer::Here(here) => Some(here),
        _ => None,
    }
}

fn ask(
    socket: &Path,
    request: &Request,
    file: Option<&File>,
    stop: &AtomicBool,
    tell: &(dyn Fn(Told) + Sync),
) -> Result<Done, Refusal> {
    let lost = |cause: std::io::Error| {
        Refusal::new(format!(
            "the daemon at {} does not answer any more: {cause}; look at `cdrd status` and run this again: what is done \
             is not done twice",
            socket.display()
        ))
    };
    let stream = connect(socket).map_err(lost)?;
    send_request(&stream, request, file).map_err(lost)?;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                if stop.load(Ordering::Relaxed) {
                    // The daemon takes it for going away, stops, and tells how that ended.
                    let _ = stream.shutdown(Shutdown::Write);
                    return;
                }
                std::thread::sleep(PAUSE);
            }
        });
        let answered = answers(&stream, tell).map_err(lost);
        ended.store(true, Ordering::Relaxed);
        answered?
    })
}

fn answers(stream: &UnixStream, tell: &dyn Fn(Told)) -> std::io::Result<Result<Done, Refusal>> {
    let mut lines = BufReader::new(stream);
    loop {
        match receive_line(&mut lines)? {
            Some(Answer::Told(told)) => tell(told),
            Some(Answer::Done(done)) => return Ok(Ok(done)),
            Some(Answer::Refused(refusal)) => return Ok(Err(refusal)),
            Some(Answer::Here(_)) => {}
            None => return Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}
