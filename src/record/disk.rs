//! What a disk that fails asks of a person, in the words that every message about it ends with.
//!
//! Must never decide who acts: only what helps.

use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};

const FULL: &str = "free space on its disk (`df -h` and `df -i` tell whether bytes or inodes ran out), it then goes on by itself";
const READ_ONLY: &str =
    "its disk is mounted read-only: look at `dmesg`, then `mount -o remount,rw`, it then goes on by itself";
const DENIED: &str = "let the user of cdrd read and write it";
const FAILS: &str = "its disk fails: look at `dmesg`, it is tried again by itself";
const LOCKED: &str = "another program holds a lock on it: end it (`fuser -v` with the path names it), it then goes on by itself";

/// Something that a person should know of, as long as it lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// A person must act; else it may pass by itself.
    pub red: bool,
    /// What it is, where, and what to do.
    pub message: String,
}

impl Trouble {
    /// Deliveries of a source wait for a person; why the oldest of them does.
    pub fn stuck(source: &str, deliveries: u64, oldest: &str) -> Self {
        let message = format!(
            "deliveries of source {source:?} that wait for a person: {deliveries}; the oldest: {oldest}"
        );
        Self { red: true, message }
    }
}

/// Whether a disk has no room left.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Whether it is the disk that refuses, so that every file on it is refused alike.
pub fn refuses_all(error: &io::Error) -> bool {
    is_full(error) || error.kind() == ErrorKind::ReadOnlyFilesystem
}

/// What to do about a file that could not be used.
pub fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => FULL,
        ErrorKind::ReadOnlyFilesystem => READ_ONLY,
        ErrorKind::PermissionDenied => DENIED,
        ErrorKind::NotFound => "create it or mount its disk",
        _ => FAILS,
    }
}

/// What to do about a database that refused, by SQLite's result code; 0 where there is none.
pub const fn mend_database(code: u32) -> &'static str {
    match code & 0xff {
        // SQLITE_BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN
        5 | 6 => LOCKED,
        8 => READ_ONLY,
        10 => {
            "its disk fails, is read-only or has no free space: look at `dmesg` and `df -h`, it is tried again by itself"
        }
        13 => FULL,
        14 => "let the user of cdrd read and write it and its folder, and look whether its disk is mounted",
        _ => "check its disk and permissions",
    }
}

/// The error with the path in front, of the same kind.
pub fn at(what: &str, path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_own_mend() {
        let of = |code| mend(&io::Error::from_raw_os_error(code));
        // ENOSPC, EDQUOT, EROFS, EIO, EACCES
        assert_eq!((of(28), of(122), of(30), of(5), of(13)), (FULL, FULL, READ_ONLY, FAILS, DENIED));
        let named = at("write", "/var/x", &io::Error::from_raw_os_error(28));
        assert_eq!((mend(&named), is_full(&named)), (FULL, true), "a path in front changes nothing");
        // SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_BUSY
        assert_eq!(mend_database(13), FULL);
        assert!(mend_database(778).contains("dmesg"));
        assert_eq!(mend_database(5), LOCKED);
    }
}
