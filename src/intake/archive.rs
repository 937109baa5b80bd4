//! Originals: every delivered body, kept as zstd frames of 1 MiB with an index behind them.
//!
//! The index is the skippable frame of zstd's own seekable format, so that plain `zstd -d` reads the file as well.

use super::durable;
use super::error::shown;
use super::{Intake, IntakeError, growing};
use crate::record::delivery::DeliveryId;
use crate::record::disk;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Input of one frame. Small enough to enter anywhere quickly, large enough to compress well.
const FRAME: usize = 1024 * 1024;
/// Of a CDR file the levels 1 and 3 make the same size (measured within 0.4 %), level 1 in two thirds of the time.
const LEVEL: i32 = 1;
const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
/// Frames (u32), descriptor (u8), magic (u32).
const FOOTER: usize = 9;
/// Compressed and plain size of a frame.
const ENTRY: usize = 8;

/// Where an original lies: by the month in which it arrived.
pub(super) fn path_of(state_dir: &Path, id: DeliveryId) -> PathBuf {
    let month = arrived(id).strftime("%Y/%m").to_string();
    state_dir.join("originals").join(month).join(format!("{id}.zst"))
}

/// When a delivery arrived, as its id says.
pub(super) fn arrived(id: DeliveryId) -> jiff::Timestamp {
    let millis = ulid::Ulid::from_string(&id.to_string()).map_or(0, |ulid| ulid.timestamp_ms());
    let millis = i64::try_from(millis).unwrap_or(0);
    jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// The name of an original that is not yet complete.
pub(super) fn part_of(path: &Path) -> PathBuf {
    path.with_extension("zst.part")
}

/// A flushed original that still has its temporary name.
#[derive(Debug)]
pub struct SealedOriginal {
    pub(super) part: PathBuf,
}

/// Writes an original while its body is read.
pub struct OriginalWriter {
    part: PathBuf,
    file: File,
    compressor: zstd::bulk::Compressor<'static>,
    plain: Vec<u8>,
    packed: Vec<u8>,
    index: Vec<(u32, u32)>,
    sealed: bool,
}

impl OriginalWriter {
    pub(super) fn create(path: &Path) -> Result<Self, IntakeError> {
        durable::make_folder(&durable::folder_of(path), 0o750)?;
        let part = part_of(path);
        let file = durable::create_private(&part)?;
        let compressor = compressor().map_err(|error| IntakeError::io("compress into", &part, error))?;
        // A small body needs no whole frame.
        let plain = Vec::new();
        Ok(Self { part, file, compressor, plain, packed: Vec::new(), index: Vec::new(), sealed: false })
    }

    /// Completes and flushes the file. Call it before the last chunk commits, and hand the result to `retire`.
    pub fn finish(mut self) -> Result<SealedOriginal, IntakeError> {
        self.seal().map_err(|error| IntakeError::io("write", &self.part, error))?;
        durable::sync_file(&self.file, &self.part)?;
        self.sealed = true;
        Ok(SealedOriginal { part: self.part.clone() })
    }

    fn seal(&mut self) -> io::Result<()> {
        self.write_frame()?;
        let mut table = Vec::new();
        write_index(&mut table, &self.index)?;
        self.file.write_all(&table)
    }

    fn write_frame(&mut self) -> io::Result<()> {
        if self.plain.is_empty() {
            return Ok(());
        }
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(self.plain.len()));
        let packed = self.compressor.compress_to_buffer(&self.plain, &mut self.packed)?;
        self.file.write_all(&self.packed)?;
        let narrow = |n: usize| u32::try_from(n).map_err(io::Error::other);
        self.index.push((narrow(packed)?, narrow(self.plain.len())?));
        self.plain.clear();
        Ok(())
    }
}

impl Write for OriginalWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.plain.len() == FRAME {
            // Whoever feeds a parser at the same time gets this error without knowing what was written.
            self.write_frame().map_err(|error| disk::at("write", &shown(&self.part), &error))?;
        }
        let taken = bytes.len().min(FRAME - self.plain.len());
        self.plain.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OriginalWriter {
    fn drop(&mut self) {
        if !self.sealed {
            // Best effort: the next writer truncates it, and recovery sweeps it.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

fn write_index(table: &mut Vec<u8>, index: &[(u32, u32)]) -> io::Result<()> {
    let frames = u32::try_from(index.len()).map_err(io::Error::other)?;
    let length = u32::try_from(index.len() * ENTRY + FOOTER).map_err(io::Error::other)?;
    table.extend_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
    table.extend_from_slice(&length.to_le_bytes());
    for (packed, plain) in index {
        table.extend_from_slice(&packed.to_le_bytes());
        table.extend_from_slice(&plain.to_le_bytes());
    }
    table.extend_from_slice(&frames.to_le_bytes());
    // No checksums in the index: each frame has its own.
    table.push(0);
    table.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
    Ok(())
}

/// Writes originals of small bodies one after another, each with one call: what a writer of its own sets up costs more
/// than their few bytes.
pub(super) struct SmallWriter {
    compressor: zstd::bulk::Compressor<'static>,
    packed: Vec<u8>,
    bytes: Vec<u8>,
    /// The folder that was made last.
    folder: PathBuf,
}

impl SmallWriter {
    pub fn new(originals: &Path) -> Result<Self, IntakeError> {
        let compressor = compressor().map_err(|error| IntakeError::io("compress into", originals, error))?;
        Ok(Self { compressor, packed: Vec::new(), bytes: Vec::new(), folder: PathBuf::new() })
    }

    /// Writes a whole body under the temporary name; whoever calls flushes the file.
    pub fn write(&mut self, path: &Path, body: &[u8]) -> Result<(SealedOriginal, File), IntakeError> {
        let part = part_of(path);
        self.pack(body).map_err(|error| IntakeError::io("compress into", &part, error))?;
        let folder = durable::folder_of(path);
        if folder != self.folder {
            durable::make_folder(&folder, 0o750)?;
            self.folder = folder;
        }
        let mut file = durable::create_private(&part)?;
        if let Err(error) = file.write_all(&self.bytes) {
            // Best effort: the next try truncates it, and recovery sweeps it.
            let _ = std::fs::remove_file(&part);
            return Err(IntakeError::io("write", &part, error));
        }
        Ok((SealedOriginal { part }, file))
    }

    fn pack(&mut self, body: &[u8]) -> io::Result<()> {
        self.bytes.clear();
        let mut index = Vec::new();
        for plain in body.chunks(FRAME) {
            self.packed.clear();
            self.packed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
            let packed = self.compressor.compress_to_buffer(plain, &mut self.packed)?;
            self.bytes.extend_from_slice(&self.packed);
            let narrow = |n: usize| u32::try_from(n).map_err(io::Error::other);
            index.push((narrow(packed)?, narrow(plain.len())?));
        }
        write_index(&mut self.bytes, &index)
    }
}

fn compressor() -> io::Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    Ok(compressor)
}

/// A body that can be entered anywhere.
pub trait OriginalRead: Read + Seek + Send {
    /// Up to `length` bytes from `offset`; fewer only at the end of the body.
    fn read_range(&mut self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        self.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        self.by_ref_dyn().take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Itself as a plain reader.
    fn by_ref_dyn(&mut self) -> &mut dyn Read;
}

impl<T: Read + Seek + Send> OriginalRead for T {
    fn by_ref_dyn(&mut self) -> &mut dyn Read {
        self
    }
}

/// Reads an archived original frame by frame.
struct ArchivedOriginal {
    file: File,
    /// Where each frame begins, in the file and in the body.
    starts: Vec<(u64, u64)>,
    /// Ends of the last frame.
    ends: (u64, u64),
    position: u64,
    /// The frame that is unpacked now.
    frame: Option<usize>,
    plain: Vec<u8>,
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl ArchivedOriginal {
    fn open(mut file: File, path: &Path) -> Result<Self, IntakeError> {
        let damaged = |what| IntakeError::DamagedOriginal { path: shown(path), what };
        let failed = |error| IntakeError::io("read", path, error);
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let footer_at = size.checked_sub(FOOTER as u64).ok_or_else(|| damaged("it is cut off"))?;
        let mut footer = [0; FOOTER];
        file.seek(SeekFrom::Start(footer_at)).map_err(failed)?;
        file.read_exact(&mut footer).map_err(failed)?;
        if footer[5..] != SEEKABLE_MAGIC.to_le_bytes() || footer[4] != 0 {
            return Err(damaged("its index is missing"));
        }
        let frames = u64::from(u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]));
        let table_length = frames * ENTRY as u64;
        let table_at = footer_at.checked_sub(table_length).ok_or_else(|| damaged("its index is cut off"))?;
        file.seek(SeekFrom::Start(table_at)).map_err(failed)?;
        let mut table = Vec::new();
        (&mut file).take(table_length).read_to_end(&mut table).map_err(failed)?;
        let mut starts = Vec::with_capacity(table.len() / ENTRY);
        let mut ends = (0_u64, 0_u64);
        for entry in table.chunks_exact(ENTRY) {
            starts.push(ends);
            ends.0 += u64::from(u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]));
            ends.1 += u64::from(u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]));
        }
        // The index's own frame header stands between the last frame and the table.
        if ends.0 + 8 != table_at {
            return Err(damaged("its index does not fit its frames"));
        }
        let decompressor = zstd::bulk::Decompressor::new().map_err(failed)?;
        Ok(Self { file, starts, ends, position: 0, frame: None, plain: Vec::new(), decompressor })
    }

    fn enter(&mut self, frame: usize) -> io::Result<()> {
        if self.frame == Some(frame) {
            return Ok(());
        }
        let (at, plain_at) = self.starts[frame];
        let (end, plain_end) = self.starts.get(frame + 1).copied().unwrap_or(self.ends);
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the archived original is damaged");
        let plain_length = usize::try_from(plain_end - plain_at).map_err(|_| damaged())?;
        if plain_length > FRAME {
            return Err(damaged());
        }
        self.frame = None;
        self.file.seek(SeekFrom::Start(at))?;
        let mut packed = Vec::new();
        (&mut self.file).take(end - at).read_to_end(&mut packed)?;
        self.plain.clear();
        self.plain.reserve(plain_length);
        if self.decompressor.decompress_to_buffer(&packed, &mut self.plain)? != plain_length {
            return Err(damaged());
        }
        self.frame = Some(frame);
        Ok(())
    }
}

impl Read for ArchivedOriginal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.ends.1 || buffer.is_empty() {
            return Ok(0);
        }
        let frame = self.starts.partition_point(|(_, plain)| *plain <= self.position) - 1;
        self.enter(frame)?;
        let skip = usize::try_from(self.position - self.starts[frame].1).map_err(io::Error::other)?;
        let read = (&self.plain[skip..]).read(buffer)?;
        self.position += u64::try_from(read).map_err(io::Error::other)?;
        Ok(read)
    }
}

impl Seek for ArchivedOriginal {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.ends.1.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Intake {
    /// Begins the original of a delivery that is being read.
    pub fn original(&self, id: DeliveryId) -> Result<OriginalWriter, IntakeError> {
        self.receipt(id)?;
        OriginalWriter::create(&path_of(&self.0.state_dir, id))
    }

    /// The body of a delivery, archived or still in the spool.
    pub fn open_original(&self, id: DeliveryId) -> Result<Box<dyn OriginalRead>, IntakeError> {
        if let Some(archived) = self.open_archived(id)? {
            return Ok(archived);
        }
        let Some(row) = self.find_receipt(id)? else {
            // Retired between the two looks?
            if let Some(archived) = self.open_archived(id)? {
                return Ok(archived);
            }
            return Err(match self.dropped_at(id)? {
                Some(at) => IntakeError::OriginalDropped { id, at },
                None => IntakeError::UnknownDelivery { id },
            });
        };
        let body: Option<Box<dyn OriginalRead>> = match row.path() {
            Some(path) => match durable::open_regular(&path) {
                Ok((file, _)) if row.ended.is_some() => {
                    Some(Box::new(growing::Acknowledged::new(file, row.bytes.cast_unsigned())))
                }
                Ok((file, _)) => Some(Box::new(file)),
                Err(IntakeError::Vanished { .. }) => None,
                Err(error) => return Err(error),
            },
            None => self.inline_body(id)?.map(|bytes| Box::new(Cursor::new(bytes)) as Box<dyn OriginalRead>),
        };
        match (body, row.path()) {
            (Some(body), _) => Ok(body),
            (None, path) => match self.open_archived(id)? {
                Some(archived) => Ok(archived),
                None => Err(IntakeError::BodyGone {
                    id,
                    path: shown(&path.unwrap_or_else(|| self.database_path())),
                }),
            },
        }
    }

    fn open_archived(&self, id: DeliveryId) -> Result<Option<Box<dyn OriginalRead>>, IntakeError> {
        let path = path_of(&self.0.state_dir, id);
        match durable::open_regular(&path) {
            Ok((file, _)) => Ok(Some(Box::new(ArchivedOriginal::open(file, &path)?))),
            Err(IntakeError::Vanished { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
