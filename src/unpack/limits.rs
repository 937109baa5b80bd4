//! How much may come out of an envelope, and how damage and the disk's failures are told apart.
//!
//! Must never trust what an archive says of itself: only bytes that came out are counted.

use super::{BUFFER, ReadSeek};
use crate::record::outcome::Reason;
use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, Read, Seek, SeekFrom};

/// What an envelope may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Archives inside each other.
    pub depth: u32,
    /// Entries of all archives together.
    pub entries: u32,
    /// Unpacked bytes of all layers together.
    pub bytes: u64,
    /// Unpacked bytes for each packed one, of an entry and of the whole.
    pub ratio: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 4, entries: 10_000, bytes: 64 << 30, ratio: 500 }
    }
}

/// A small file of zeros may pack any amount: the ratio counts from here.
const BELIEVED: u64 = 16 << 20;

/// What is wrong inside an archive, as the inner error of an `io::Error` of kind `InvalidData`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Broken {
    /// Reason for the document's rejection.
    pub reason: Reason,
    /// What is wrong and what to do.
    pub message: String,
}

impl Broken {
    /// The inner error, if it is one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    pub(super) fn archive(what: impl std::fmt::Display) -> Self {
        let message =
            format!("the archive is damaged ({what}): send it again; what could be read before is kept");
        Self { reason: Reason::ArchiveBroken, message }
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        Self::new(io::ErrorKind::InvalidData, broken)
    }
}

/// What came out so far, and whether the disk failed.
#[derive(Debug)]
pub(super) struct Meter {
    limits: Limits,
    body: u64,
    bytes: Cell<u64>,
    entries: Cell<u32>,
    spent: Cell<bool>,
    disk: RefCell<Option<(io::ErrorKind, String)>>,
}

impl Meter {
    pub(super) fn new(limits: Limits, body: u64) -> Self {
        Self {
            limits,
            body,
            bytes: Cell::new(0),
            entries: Cell::new(0),
            spent: Cell::new(false),
            disk: RefCell::new(None),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The first failure of the disk.
    pub(super) fn disk_error(&self) -> Option<io::Error> {
        self.disk.borrow().as_ref().map(|(kind, text)| io::Error::new(*kind, text.clone()))
    }

    /// Counts an entry of an archive. `Err` when nothing more may be taken from this body.
    pub(super) fn entry(&self) -> Result<(), Broken> {
        if self.spent.get() {
            return Err(self.too_large());
        }
        if self.entries.get() >= self.limits.entries {
            let message = format!(
                "the delivery holds more than {} entries, the rest of this archive is not unpacked: send smaller archives",
                self.limits.entries
            );
            return Err(Broken { reason: Reason::ArchiveTooManyEntries, message });
        }
        self.entries.set(self.entries.get() + 1);
        Ok(())
    }

    /// Counts unpacked bytes; `out` and `packed` are those of the entry they belong to.
    fn spend(&self, bytes: u64, out: u64, packed: u64) -> Result<(), Broken> {
        let total = self.bytes.get().saturating_add(bytes);
        self.bytes.set(total);
        let beyond =
            |out: u64, packed: u64| out > BELIEVED && out / packed.max(1) > u64::from(self.limits.ratio);
        if total > self.limits.bytes || beyond(total, self.body) {
            self.spent.set(true);
        }
        if self.spent.get() || beyond(out, packed) { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> Broken {
        let message = format!(
            "unpacking stopped: more than {} bytes in all, or more than {} bytes from each packed one, is no file of call \
             records; send it unpacked or in smaller archives if it is",
            self.limits.bytes, self.limits.ratio
        );
        Broken { reason: Reason::ArchiveTooLarge, message }
    }
}

/// The body or a scratch file: remembers when the disk fails, so that a decoder's error is not taken for it.
pub(super) struct Probe<'p> {
    inner: &'p mut dyn ReadSeek,
    meter: &'p Meter,
}

impl<'p> Probe<'p> {
    pub(super) fn new(inner: &'p mut dyn ReadSeek, meter: &'p Meter) -> Self {
        Self { inner, meter }
    }

    fn failed(&self, error: io::Error) -> io::Error {
        // `InvalidData` is what damaged archives say.
        let kind = match error.kind() {
            io::ErrorKind::Interrupted => return error,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => io::ErrorKind::Other,
            kind => kind,
        };
        let mut disk = self.meter.disk.borrow_mut();
        disk.get_or_insert_with(|| (kind, error.to_string()));
        if kind == error.kind() { error } else { io::Error::new(kind, error) }
    }
}

impl Read for Probe<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf).map_err(|error| self.failed(error))
    }
}

impl Seek for Probe<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        // An offset that a file cannot have is the archive's fault.
        self.inner.seek(to).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => error,
            _ => self.failed(error),
        })
    }
}

/// Counts the packed bytes that a decoder consumed.
pub(super) struct Counted<'c, R> {
    pub(super) inner: R,
    pub(super) count: &'c Cell<u64>,
}

impl<R> Counted<'_, R> {
    fn add(&self, n: usize) {
        self.count.set(self.count.get().saturating_add(n as u64));
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.add(n);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Counted<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.inner.consume(n);
        self.add(n);
    }
}

/// Unpacked bytes of one entry, counted. Once it failed it fails for ever: a reader that tries again must not find an
/// end there.
pub(super) struct Metered<'m, R> {
    inner: R,
    meter: &'m Meter,
    packed: &'m Cell<u64>,
    out: u64,
    failed: Option<Broken>,
}

impl<'m, R: Read> Metered<'m, R> {
    pub(super) fn new(inner: R, meter: &'m Meter, packed: &'m Cell<u64>) -> Self {
        Self { inner, meter, packed, out: 0, failed: None }
    }

    fn fail(&mut self, broken: Broken) -> io::Error {
        self.failed = Some(broken.clone());
        broken.into()
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(broken) = &self.failed {
            return Err(broken.clone().into());
        }
        // What a reader with a large buffer loses when a limit ends the entry stays small.
        let most = buf.len().min(BUFFER);
        match self.inner.read(&mut buf[..most]) {
            Ok(n) => {
                self.out += n as u64;
                self.meter
                    .spend(n as u64, self.out, self.packed.get())
                    .map_err(|broken| self.fail(broken))?;
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                if let Some(disk) = self.meter.disk_error() {
                    return Err(disk);
                }
                let broken = Broken::of(&error).cloned().unwrap_or_else(|| Broken::archive(&error));
                Err(self.fail(broken))
            }
        }
    }
}
