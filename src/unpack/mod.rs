//! Envelopes to documents: what is in a body, however often it was packed, told by magic bytes and never by names.
//!
//! Must never write to a path, believe a size or a name, or hold more than a buffer of what it unpacks in memory. Names
//! from inside are only shown.

mod entry;
mod gzip;
mod limits;
mod zip;

pub use limits::{Broken, Limits};

use crate::record::outcome::{Actor, Reason, Rejection};
use crate::record::port::Scratch;
use crate::record::raw::Position;
use limits::{Meter, Probe};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

/// A body: zips are read from their end.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek + ?Sized> ReadSeek for T {}

/// What [`unpack`] finds, in archive order.
pub enum Found<'a> {
    /// Something that is no archive.
    Document {
        /// Printable path inside the envelope: blank for a plain body, `b.csv`, `a.zip!b.csv`.
        path: &'a str,
        /// Its size, if something states it; not to be believed.
        size_hint: Option<u64>,
        /// Its bytes. Where the archive is damaged or passes a limit the good bytes come first, then an error of kind
        /// `InvalidData` that is a [`Broken`]. Any other error is the disk's.
        reader: &'a mut dyn Read,
    },
    /// Something that cannot be unpacked; what lies beside it goes on.
    Rejected(&'a str, Rejection),
}

/// Why unpacking stopped altogether.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError<E> {
    /// The disk failed under the body or the scratch file.
    #[error(
        "the body cannot be read, or no scratch file be written: {0}; look at the disk, the delivery is tried again"
    )]
    Io(io::Error),
    /// The visitor wants no more.
    #[error("{0}")]
    Visit(E),
}

impl<E> UnpackError<E> {
    /// Who must act; for the visitor's own error the visitor says it.
    pub fn actor(&self, of_visit: impl FnOnce(&E) -> Actor) -> Actor {
        match self {
            Self::Io(_) => Actor::Transient,
            Self::Visit(error) => of_visit(error),
        }
    }
}

/// Bytes of a beginning that tell what it is: the mark of a tar stands at the end of its first header.
pub const SNIFFED: usize = 512;

/// Whether a body that begins like this is an archive, also one that cannot be opened.
pub fn is_archive(head: &[u8]) -> bool {
    Envelope::of(head).is_some()
}

/// Hands out every document of a body in archive order; the caller numbers them. `name` is the name of the body as
/// sent, which tells the name inside a gzip. The visitor need not read a document to its end.
pub fn unpack<E>(
    body: &mut dyn ReadSeek,
    name: &str,
    limits: &Limits,
    scratch: &dyn Scratch,
    visit: &mut dyn FnMut(Found<'_>) -> Result<(), E>,
) -> Result<(), UnpackError<E>> {
    let length = body.seek(SeekFrom::End(0)).map_err(UnpackError::Io)?;
    let meter = Meter::new(*limits, length);
    let place = Place { path: String::new(), name: name.to_owned(), depth: 0 };
    Walk { meter: &meter, scratch, visit }.seekable(body, &place)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Envelope {
    Zip,
    Gzip,
    /// One that is not opened, by its name: its content would pass for rows, with headers of the archive between them.
    Other(&'static str),
}

impl Envelope {
    fn of(head: &[u8]) -> Option<Self> {
        match head {
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Self::Zip),
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Other("zstd")),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Other("xz")),
            [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => Some(Self::Other("7z")),
            [b'R', b'a', b'r', b'!', 0x1a, 7, ..] => Some(Self::Other("rar")),
            // Behind the level stands the number pi.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, ..] => Some(Self::Other("bzip2")),
            _ if head.get(257..262) == Some(b"ustar") => Some(Self::Other("tar")),
            _ => None,
        }
    }
}

/// Where in the envelope something is.
struct Place {
    path: String,
    name: String,
    /// Archives around it.
    depth: u32,
}

impl Place {
    fn inside(&self, name: &str) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}!{name}", self.path) };
        Self { path, name: name.to_owned(), depth: self.depth + 1 }
    }
}

/// The body or a scratch file, read with one buffer, its disk watched.
type File<'f> = BufReader<Probe<'f>>;

/// One walk through a body.
struct Walk<'w, E> {
    meter: &'w Meter,
    scratch: &'w dyn Scratch,
    visit: &'w mut dyn FnMut(Found<'_>) -> Result<(), E>,
}

const BUFFER: usize = 64 * 1024;

impl<E> Walk<'_, E> {
    fn document(
        &mut self,
        path: &str,
        size_hint: Option<u64>,
        reader: &mut dyn Read,
    ) -> Result<(), UnpackError<E>> {
        (self.visit)(Found::Document { path, size_hint, reader }).map_err(UnpackError::Visit)?;
        // A visitor that takes a failing disk for the end of a document must not make it one.
        self.disk()
    }

    fn rejected(&mut self, path: &str, broken: Broken) -> Result<(), UnpackError<E>> {
        let Broken { reason, message } = broken;
        let rejection =
            Rejection { position: Position::default(), field: None, reason, message, verbatim: Vec::new() };
        (self.visit)(Found::Rejected(path, rejection)).map_err(UnpackError::Visit)
    }

    fn disk(&self) -> Result<(), UnpackError<E>> {
        self.meter.disk_error().map_or(Ok(()), |error| Err(UnpackError::Io(error)))
    }

    /// Something that can be read from any place.
    fn seekable(&mut self, body: &mut dyn ReadSeek, place: &Place) -> Result<(), UnpackError<E>> {
        let mut file = BufReader::with_capacity(BUFFER, Probe::new(body, self.meter));
        let size = file.seek(SeekFrom::End(0)).map_err(UnpackError::Io)?;
        file.rewind().map_err(UnpackError::Io)?;
        let mut head = Vec::with_capacity(SNIFFED);
        (&mut file).take(SNIFFED as u64).read_to_end(&mut head).map_err(UnpackError::Io)?;
        file.rewind().map_err(UnpackError::Io)?;
        match self.envelope(&head, place)? {
            Opening::Plain => self.document(&place.path, Some(size), &mut file),
            Opening::Refused => Ok(()),
            Opening::Archive(Envelope::Zip) => zip::walk(self, &mut file, place),
            Opening::Archive(Envelope::Gzip) => gzip::walk(self, &mut file, place),
            Opening::Archive(Envelope::Other(name)) => self.rejected(&place.path, unsupported(name)),
        }
    }

    /// Something unpacked from an archive, which can be read once.
    fn stream(
        &mut self,
        reader: &mut dyn Read,
        place: &Place,
        size_hint: Option<u64>,
    ) -> Result<(), UnpackError<E>> {
        let mut peeked = Peeked::new(reader);
        if peeked.head.is_empty()
            && let Some(broken) = peeked.error.as_ref().and_then(Broken::of).cloned()
        {
            return self.rejected(&place.path, broken);
        }
        match self.envelope(&peeked.head.clone(), place)? {
            Opening::Plain => self.document(&place.path, size_hint, &mut peeked),
            Opening::Refused => Ok(()),
            Opening::Archive(Envelope::Gzip) => {
                gzip::walk(self, &mut BufReader::with_capacity(BUFFER, peeked), place)
            }
            Opening::Archive(Envelope::Zip) => self.by_scratch(&mut peeked, place),
            Opening::Archive(Envelope::Other(name)) => self.rejected(&place.path, unsupported(name)),
        }
    }

    fn envelope(&mut self, head: &[u8], place: &Place) -> Result<Opening, UnpackError<E>> {
        let Some(envelope) = Envelope::of(head) else { return Ok(Opening::Plain) };
        if place.depth < self.meter.limits().depth {
            return Ok(Opening::Archive(envelope));
        }
        let message = format!(
            "an archive inside {} others is not opened: send what is in it with fewer layers",
            self.meter.limits().depth
        );
        self.rejected(&place.path, Broken { reason: Reason::ArchiveTooDeep, message })?;
        Ok(Opening::Refused)
    }

    /// A zip in an archive is copied first: its list of entries is at its end. A damaged one as far as it goes.
    fn by_scratch(&mut self, reader: &mut dyn Read, place: &Place) -> Result<(), UnpackError<E>> {
        let mut file = self.scratch.file().map_err(UnpackError::Io)?;
        let mut buffer = vec![0; BUFFER];
        let cut = loop {
            match reader.read(&mut buffer) {
                Ok(0) => break None,
                Ok(n) => file.write_all(&buffer[..n]).map_err(UnpackError::Io)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => match Broken::of(&error) {
                    Some(broken) => break Some(broken.clone()),
                    None => return Err(UnpackError::Io(error)),
                },
            }
        };
        if cut.as_ref().is_none_or(|broken| broken.reason == Reason::ArchiveBroken) {
            self.seekable(&mut file, place)?;
        }
        cut.map_or(Ok(()), |broken| self.rejected(&place.path, broken))
    }
}

fn unsupported(name: &str) -> Broken {
    let message =
        format!("a {name} archive cannot be opened: send its files as they are, or in a zip or gzip");
    Broken { reason: Reason::ArchiveUnsupported, message }
}

enum Opening {
    Plain,
    Archive(Envelope),
    Refused,
}

/// A reader whose first bytes were looked at.
struct Peeked<'r> {
    head: Vec<u8>,
    given: usize,
    error: Option<io::Error>,
    rest: &'r mut dyn Read,
}

impl<'r> Peeked<'r> {
    fn new(rest: &'r mut dyn Read) -> Self {
        let mut head = Vec::with_capacity(SNIFFED);
        let error = (&mut *rest).take(SNIFFED as u64).read_to_end(&mut head).err();
        Self { head, given: 0, error, rest }
    }
}

impl Read for Peeked<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.head.get(self.given..).unwrap_or_default();
        if !left.is_empty() {
            let n = left.len().min(buf.len());
            buf[..n].copy_from_slice(&left[..n]);
            self.given += n;
            return Ok(n);
        }
        self.error.take().map_or_else(|| self.rest.read(buf), Err)
    }
}

#[cfg(test)]
mod tests;
