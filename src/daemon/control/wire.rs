//! What goes over the control socket: a line of JSON from the caller, with a file's descriptor for an import, and lines of
//! JSON back.
//!
//! Must bound whatever it reads: anybody of the daemon's group may connect.

use super::PATIENCE;
use crate::config::Config;
use crate::daemon::tasks::{Done, Refusal, Task, Told};
use crate::daemon::works::Storing;
use crate::record::disk::Trouble;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, Error, ErrorKind, IoSlice, IoSliceMut, Read as _, Result, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

/// Longest request: some ten thousand ids of deliveries.
const LONGEST: usize = 1024 * 1024;
/// Longest path that fits into the address of a socket.
const LONGEST_PATH: usize = 107;

/// What a caller wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::daemon) enum Request {
    /// To know who is there.
    Who,
    /// Something done.
    Do {
        /// The caller's version.
        version: String,
        /// Hash of the configuration files as the caller read them.
        written: String,
        /// What.
        task: Task,
    },
}

impl Request {
    /// To have something done.
    pub(in crate::daemon) fn of(task: Task, written: &[u8; 32]) -> Self {
        Self::Do { version: env!("CARGO_PKG_VERSION").to_owned(), written: hex(written), task }
    }
}

/// What a caller is told; a line each, and nothing after the last three.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::daemon) enum Answer {
    /// How far it has come.
    Told(Told),
    /// Who is there.
    Here(Here),
    /// It is done.
    Done(Done),
    /// It is not.
    Refused(Refusal),
}

/// The daemon that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Hash of the configuration files as it read them.
    pub written: String,
    /// Why storing stands still.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
}

impl Here {
    /// Whether it runs by this configuration as it is written.
    pub fn runs_by(&self, config: &Config) -> bool {
        self.written == hex(&config.written)
    }

    pub(super) fn new(storing: &Storing) -> Self {
        Self {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            written: hex(&storing.config.written),
            troubles: storing.pipeline.progress().standstill(),
        }
    }
}

pub(in crate::daemon) fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}

pub(super) fn bind(path: &Path) -> Result<UnixListener> {
    near(path, |path| UnixListener::bind(path))
}

/// Connects to the daemon of a state directory.
pub(in crate::daemon) fn connect(path: &Path) -> Result<UnixStream> {
    near(path, |path| UnixStream::connect(path))
}

/// The address of a socket is short; a long path is entered through its open folder.
fn near<T>(path: &Path, enter: impl Fn(&Path) -> Result<T>) -> Result<T> {
    if path.as_os_str().as_bytes().len() <= LONGEST_PATH {
        return enter(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    enter(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

/// Sends a request, and a file that belongs to it.
pub(in crate::daemon) fn send_request(
    mut stream: &UnixStream,
    request: &Request,
    file: Option<&File>,
) -> Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let sent = match file {
        None => 0,
        Some(file) => {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let files = [file.as_fd()];
            if !control.push(SendAncillaryMessage::ScmRights(&files)) {
                return Err(Error::other("the file could not be handed over"));
            }
            sendmsg(stream, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?
        }
    };
    stream.write_all(&line[sent..])
}

/// Reads a request and the file that came with it.
pub(super) fn receive_request(mut stream: &UnixStream) -> Result<(Request, Option<File>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut first = vec![0; 64 * 1024];
    let received =
        recvmsg(stream, &mut [IoSliceMut::new(&mut first)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            files.extend(descriptors.map(File::from));
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) || files.len() > 1 {
        return Err(Error::new(ErrorKind::InvalidData, "more than one file came with it"));
    }
    let mut line = first[..received.bytes].to_vec();
    let until = Instant::now() + PATIENCE;
    let end = loop {
        if let Some(end) = memchr::memchr(b'\n', &line) {
            break end;
        }
        let read = if line.len() < LONGEST && Instant::now() < until { stream.read(&mut first)? } else { 0 };
        if read == 0 {
            return Err(Error::new(ErrorKind::InvalidData, "it does not end, is too long or too slow"));
        }
        line.extend_from_slice(&first[..read]);
    };
    let request = serde_json::from_slice(&line[..end])
        .map_err(|error| Error::new(ErrorKind::InvalidData, format!("at its letter {}", error.column())))?;
    Ok((request, files.pop()))
}

/// The next line that the daemon tells; `None` when it has hung up.
pub(in crate::daemon) fn receive_line(from: &mut impl BufRead) -> Result<Option<Answer>> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line)? == 0 || !line.ends_with(b"\n") {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(Error::from)
}

/// Whether the other end has hung up; waits as long as the socket's timeout.
pub(super) fn hung_up(stream: &UnixStream) -> bool {
    let mut byte = [0_u8; 1];
    match recv(stream, &mut byte, RecvFlags::empty()) {
        Ok((0, _)) => true,
        // More than was asked for is not looked at.
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => false,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn received(bytes: &[u8]) -> Result<(Request, Option<File>)> {
        let (mut here, there) = UnixStream::pair()?;
        here.write_all(bytes)?;
        drop(here);
        receive_request(&there)
    }

    #[test]
    fn a_request_arrives_with_its_file() -> Result<()> {
        let (here, there) = UnixStream::pair()?;
        let mut file = tempfile::tempfile()?;
        file.write_all(b"its bytes")?;
        send_request(&here, &Request::Who, Some(&file))?;
        let (request, came) = receive_request(&there)?;
        assert_eq!(request, Request::Who);
        assert_eq!(came.map(|came| came.metadata().map(|data| data.len())).transpose()?, Some(9));
        Ok(())
    }

    proptest! {
        #[test]
        fn garbage_is_no_request(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(received(&bytes).is_err());
        }
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_no_request() -> Result<()> {
        assert!(received(b"\"who\"").is_err(), "without its end");
        assert_eq!(received(b"\"who\"\nmore")?.0, Request::Who);
        let (mut here, there) = UnixStream::pair()?;
        let sender = std::thread::spawn(move || while here.write_all(&[b' '; 4096]).is_ok() {});
        assert!(receive_request(&there).is_err(), "no end");
        drop(there);
        sender.join().expect("it does not panic");
        Ok(())
    }
}
