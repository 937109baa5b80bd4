//! One process works on a state directory and on a SQLite file: a lock on each, with the holder's pid inside. The
//! kernel drops them with the process, however it ends.

use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Both locks, held until dropped.
#[derive(Debug)]
pub struct Locks {
    _state: File,
    _store: File,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("cdrd already runs on {path} as process {pid}")]
    Held {
        /// What is locked.
        path: PathBuf,
        /// Its holder.
        pid: String,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {path}: {cause}; check the folder's owner and permissions")]
    Io {
        /// Lock file.
        path: PathBuf,
        /// Cause.
        cause: std::io::Error,
    },
}

const STATE_LOCK: &str = "cdrd.lock";

impl Locks {
    /// Takes both, or says who has one.
    pub fn take(state_dir: &Path, store: &Path) -> Result<Self, LockError> {
        let state = lock(&state_dir.join(STATE_LOCK), state_dir)?;
        let mut beside = store.as_os_str().to_owned();
        beside.push(".lock");
        let store = lock(Path::new(&beside), store)?;
        Ok(Self { _state: state, _store: store })
    }
}

fn lock(path: &Path, what: &Path) -> Result<File, LockError> {
    let io = |cause| LockError::Io { path: path.to_owned(), cause };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(path)
        .map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(LockError::Held { path: what.to_owned(), pid: pid_in(&mut file) });
        }
        Err(error) => return Err(io(error.into())),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(file)
}

fn pid_in(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(20).read_to_string(&mut text);
    let pid: String = text.chars().take_while(char::is_ascii_digit).collect();
    if pid.is_empty() { "unknown".to_owned() } else { pid }
}
