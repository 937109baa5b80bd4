//! One entry of a zip: its local header and its bytes.
//!
//! Must never take damaged bytes for good ones: length and checksum are compared at the end.

use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use std::io::{self, BufRead, Read};

/// What stands in front of an entry's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LocalHeader {
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) packed: u32,
    pub(super) size: u32,
    pub(super) name: Vec<u8>,
}

impl LocalHeader {
    /// Length without name and extra fields.
    const FIXED: usize = 30;

    /// Reads a header and stops at the first byte of the data. `None` when something else is there.
    pub(super) fn read(file: &mut impl Read) -> io::Result<Option<Self>> {
        let mut fixed = [0; Self::FIXED];
        file.read_exact(&mut fixed)?;
        if !fixed.starts_with(b"PK\x03\x04") {
            return Ok(None);
        }
        let short = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let long = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let mut name = vec![0; usize::from(short(26))];
        file.read_exact(&mut name)?;
        let mut extra = vec![0; usize::from(short(28))];
        file.read_exact(&mut extra)?;
        Ok(Some(Self {
            flags: short(6),
            method: short(8),
            crc: long(14),
            packed: long(18),
            size: long(22),
            name,
        }))
    }

    pub(super) fn encrypted(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Lengths and checksum follow the data: the sender streamed.
    pub(super) fn streamed(&self) -> bool {
        self.flags & 8 != 0
    }
}

/// Compression methods by number.
pub(super) const STORED: u16 = 0;
pub(super) const DEFLATED: u16 = 8;

/// What the entry must turn out to be; a streamed entry of an archive without a list states nothing beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) size: u64,
    pub(super) crc: u32,
}

/// The unpacked bytes of an entry.
pub(super) struct Content<R: BufRead> {
    source: Source<R>,
    crc: Crc,
    size: u64,
    stated: Option<Stated>,
}

enum Source<R: BufRead> {
    Stored(R),
    Deflated(DeflateDecoder<R>),
}

impl<R: BufRead> Content<R> {
    /// `None` for a method that is not supported.
    pub(super) fn new(packed: R, method: u16, stated: Option<Stated>) -> Option<Self> {
        let source = match method {
            STORED => Source::Stored(packed),
            DEFLATED => Source::Deflated(DeflateDecoder::new(packed)),
            _ => return None,
        };
        Some(Self { source, crc: Crc::new(), size: 0, stated })
    }
}

impl<R: BufRead> Read for Content<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.source {
            Source::Stored(reader) => reader.read(buf)?,
            Source::Deflated(decoder) => decoder.read(buf)?,
        };
        self.crc.update(&buf[..n]);
        self.size += n as u64;
        let damage = |text| Err(io::Error::new(io::ErrorKind::InvalidData, text));
        match self.stated {
            Some(stated) if n == 0 && !buf.is_empty() => {
                if self.size != stated.size {
                    return damage("an entry has another length than stated");
                }
                if self.crc.sum() != stated.crc {
                    return damage("the checksum of an entry is wrong");
                }
            }
            _ => {}
        }
        Ok(n)
    }
}
