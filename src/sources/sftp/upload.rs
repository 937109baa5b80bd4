//! The bytes of one upload, from its first write to its end: small ones in memory, larger ones in the very file that the
//! door takes over.
//!
//! Must never call bytes complete that were not sent: which of them came is counted, and what is missing is taken from the
//! file that is overwritten, or refused.

use super::place::Place;
use super::refusal::{Refusal, Refused};
use crate::intake::SMALL;
use crate::record::delivery::DeliveryId;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that one upload may have in memory.
pub(super) const IN_MEMORY: u64 = 4 * SMALL;
/// Pieces between gaps that an upload may have.
const MOST_PIECES: usize = 4096;
/// How often room on the disk is asked for, in bytes.
const ROOM_EVERY: u64 = 16 * 1024 * 1024;

/// An upload under way. Whoever has its `owner` may write.
#[derive(Debug)]
pub(super) struct Upload {
    body: Mutex<Body>,
    size: AtomicU64,
}

#[derive(Debug)]
struct Body {
    /// The handle that writes; 0: it has ended.
    owner: u64,
    content: Content,
    /// Which bytes came, in order, apart from each other.
    pieces: Vec<(u64, u64)>,
    size: u64,
    /// The file that is overwritten or continued, and how many of its bytes count.
    base: Option<(DeliveryId, u64)>,
    modified: Option<u32>,
    /// Set where the sender was told before that what is in the file is safe.
    acknowledged: bool,
    /// Bytes of memory that it was given.
    charged: usize,
    /// Size from which room is asked for again.
    ask_at: u64,
}

/// Where the bytes are.
#[derive(Debug)]
enum Content {
    Memory(Vec<u8>),
    File(File, String),
}

/// The bytes of an upload that has ended.
#[derive(Debug)]
pub(super) enum Bytes {
    Memory(Vec<u8>),
    /// Name of the file, and its size.
    File(String, u64),
}

/// An upload that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub bytes: Bytes,
    pub modified: Option<u32>,
    pub acknowledged: bool,
}

/// What may be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of a file.
    pub max_file: u64,
    /// Bytes that the account may have unfinished, beside those that it has.
    pub quota_left: u64,
}

impl Upload {
    /// A new file.
    pub fn new(owner: u64) -> Arc<Self> {
        Self::of(owner, Content::Memory(Vec::new()), 0, false)
    }

    /// One that goes on where a file ends.
    pub fn resumed(owner: u64, file: File, name: String, size: u64, acknowledged: bool) -> Arc<Self> {
        Self::of(owner, Content::File(file, name), size, acknowledged)
    }

    /// One that overwrites or continues a file that was received.
    pub fn over(owner: u64, delivery: DeliveryId, size: u64) -> Arc<Self> {
        let upload = Self::new(owner);
        let mut body = upload.lock();
        body.base = Some((delivery, size));
        body.size = size;
        drop(body);
        upload.size.store(size, Ordering::Relaxed);
        upload
    }

    fn of(owner: u64, content: Content, size: u64, acknowledged: bool) -> Arc<Self> {
        let pieces = if size > 0 { vec![(0, size)] } else { Vec::new() };
        let body = Body {
            owner,
            content,
            pieces,
            size,
            base: None,
            modified: None,
            acknowledged,
            charged: 0,
            ask_at: 0,
        };
        Arc::new(Self { body: Mutex::new(body), size: AtomicU64::new(size) })
    }

    fn lock(&self) -> MutexGuard<'_, Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owned(&self, owner: u64) -> Refused<MutexGuard<'_, Body>> {
        let body = self.lock();
        if body.owner == owner {
            return Ok(body);
        }
        Err(Refusal::failure("another connection has taken over this upload"))
    }

    /// Size now.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Another handle goes on with it: the one before may be of a connection that is dead and does not know.
    pub fn take_over(&self, owner: u64) -> Refused<()> {
        let mut body = self.lock();
        if body.owner == 0 {
            return Err(Refusal::failure("that upload has just ended; try again"));
        }
        body.owner = owner;
        Ok(())
    }

    /// Writes. In memory or to a file that is made when it is needed; says the file's name when it was.
    pub fn write(
        &self,
        owner: u64,
        offset: u64,
        data: &[u8],
        bounds: Bounds,
        place: &Place,
    ) -> Refused<Option<String>> {
        let mut body = self.owned(owner)?;
        let length = data.len() as u64;
        let end = offset.checked_add(length).ok_or_else(|| Refusal::failure("no file is that large"))?;
        let size = body.size.max(end);
        body.fits(size, bounds)?;
        let made = body.make_room(end, place)?;
        match &mut body.content {
            Content::Memory(bytes) => {
                let (start, end) = (index(offset)?, index(end)?);
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(data);
            }
            Content::File(file, _) => {
                file.write_all_at(data, offset).map_err(|error| place.disk("write", &error))?;
            }
        }
        body.came(offset, end)?;
        body.size = size;
        self.size.store(size, Ordering::Relaxed);
        Ok(made)
    }

    /// Sets the size: what is behind it does not count any more.
    pub fn set_size(&self, owner: u64, size: u64, bounds: Bounds) -> Refused<()> {
        let mut body = self.owned(owner)?;
        body.fits(size, bounds)?;
        body.base = body.base.map(|(delivery, bytes)| (delivery, bytes.min(size)));
        body.pieces.retain(|(start, _)| *start < size);
        if let Some((_, end)) = body.pieces.last_mut() {
            *end = (*end).min(size);
        }
        match &mut body.content {
            Content::Memory(bytes) => bytes.truncate(index(size)?),
            Content::File(file, _) => {
                let now = file.metadata().map_or(0, |metadata| metadata.len());
                file.set_len(size.min(now)).map_err(|_| Refusal::failure("the file cannot be cut"))?;
            }
        }
        body.size = size;
        self.size.store(size, Ordering::Relaxed);
        Ok(())
    }

    /// When its content changed, as its sender says.
    pub fn set_modified(&self, owner: u64, modified: u32) -> Refused<()> {
        self.owned(owner)?.modified = Some(modified);
        Ok(())
    }

    /// When its content changed, where its sender said so.
    pub fn modified(&self) -> Option<u32> {
        self.lock().modified
    }

    /// Up to `length` bytes from `offset` of what came so far; empty at the end.
    pub fn read(&self, owner: u64, offset: u64, length: usize) -> Refused<Vec<u8>> {
        let body = self.owned(owner)?;
        let Some((_, end)) = body.pieces.iter().find(|(start, end)| *start <= offset && offset < *end) else {
            return Ok(Vec::new());
        };
        let length = length.min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        match &body.content {
            Content::Memory(bytes) => {
                let start = index(offset)?;
                Ok(bytes.get(start..start + length).unwrap_or_default().to_vec())
            }
            Content::File(file, _) => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, offset).map_err(|_| Refusal::failure("it cannot be read"))?;
                Ok(bytes)
            }
        }
    }

    /// Ends it well: every byte is there.
    pub fn end(&self, owner: u64, place: &Place) -> Refused<Ended> {
        let mut body = self.owned(owner)?;
        body.fill(place)?;
        body.owner = 0;
        place.give_back(std::mem::take(&mut body.charged));
        let modified = body.modified;
        let acknowledged = body.acknowledged;
        let size = body.size;
        let bytes = match std::mem::replace(&mut body.content, Content::Memory(Vec::new())) {
            Content::Memory(bytes) => Bytes::Memory(bytes),
            Content::File(_, name) => Bytes::File(name, size),
        };
        Ok(Ended { bytes, modified, acknowledged })
    }

    /// Ends it because its connection did, or because it was refused: what came without a gap, as far as its sender was
    /// not told that it is safe all but the last byte. One of the right size would look finished to clients that compare
    /// sizes, and would never be sent again.
    pub fn break_off(&self, owner: u64, place: &Place) -> Option<Ended> {
        let mut body = self.owned(owner).ok()?;
        body.owner = 0;
        place.give_back(std::mem::take(&mut body.charged));
        let whole = body.pieces.first().filter(|(start, _)| *start == 0).map_or(0, |(_, end)| *end);
        let (modified, acknowledged) = (body.modified, body.acknowledged);
        let kept = if acknowledged { whole } else { whole.saturating_sub(1) };
        let bytes = match std::mem::replace(&mut body.content, Content::Memory(Vec::new())) {
            Content::Memory(mut bytes) => {
                bytes.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
                Bytes::Memory(bytes)
            }
            Content::File(file, name) => {
                // Of one that cannot be cut nothing is known.
                let kept = file.set_len(kept).and_then(|()| file.sync_data()).map_or(0, |()| kept);
                Bytes::File(name, kept)
            }
        };
        Some(Ended { bytes, modified, acknowledged })
    }
}

impl Body {
    fn fits(&self, size: u64, bounds: Bounds) -> Refused<()> {
        if size > bounds.max_file {
            return Err(Refusal::failure("the file is larger than max_file of this account allows"));
        }
        if size > self.size && size > bounds.quota_left {
            return Err(Refusal::failure(
                "the unfinished files of this account would take more than its quota",
            ));
        }
        Ok(())
    }

    /// Has memory or a file for bytes up to `end`. The file's name if it was made now.
    fn make_room(&mut self, end: u64, place: &Place) -> Refused<Option<String>> {
        if end >= self.ask_at && end > IN_MEMORY {
            place.room()?;
            self.ask_at = end + ROOM_EVERY;
        }
        let Content::Memory(bytes) = &mut self.content else { return Ok(None) };
        let wanted = index(end)?;
        if end <= IN_MEMORY {
            if wanted <= self.charged {
                return Ok(None);
            }
            let capacity = wanted.next_power_of_two().max(4096);
            if place.take(capacity - self.charged) {
                self.charged = capacity;
                bytes.reserve_exact(capacity - bytes.len());
                return Ok(None);
            }
        }
        let (file, name) = place.create()?;
        file.write_all_at(bytes, 0).map_err(|error| place.disk("write", &error))?;
        place.give_back(std::mem::take(&mut self.charged));
        self.content = Content::File(file, name.clone());
        Ok(Some(name))
    }

    /// Notes that bytes came.
    fn came(&mut self, start: u64, end: u64) -> Refused<()> {
        if start == end {
            return Ok(());
        }
        // Nearly always behind the last.
        if let Some((_, last)) = self.pieces.last_mut()
            && *last == start
        {
            *last = end;
            return Ok(());
        }
        self.pieces.push((start, end));
        self.pieces.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(self.pieces.len());
        for (start, end) in self.pieces.drain(..) {
            match joined.last_mut() {
                Some((_, last)) if start <= *last => *last = end.max(*last),
                _ => joined.push((start, end)),
            }
        }
        self.pieces = joined;
        if self.pieces.len() > MOST_PIECES {
            return Err(Refusal::failure("too many gaps; send the file from its beginning to its end"));
        }
        Ok(())
    }

    /// What was not sent comes from the file that is overwritten.
    fn fill(&mut self, place: &Place) -> Refused<()> {
        let mut missing = Vec::new();
        let mut at = 0;
        for (start, end) in &self.pieces {
            if *start > at {
                missing.push((at, *start));
            }
            at = *end;
        }
        if at < self.size {
            missing.push((at, self.size));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let Some((delivery, bytes)) =
            self.base.filter(|(_, bytes)| missing.iter().all(|(_, end)| end <= bytes))
        else {
            return Err(Refusal::failure("bytes in the middle of the file were never sent; send it again"));
        };
        self.make_room(bytes, place)?;
        let mut original = place.original(delivery)?;
        for (start, end) in missing {
            let mut at = start;
            while at < end {
                let piece = original
                    .read_range(at, (end - at).min(IN_MEMORY))
                    .map_err(|error| place.disk("read", &error))?;
                if piece.is_empty() {
                    return Err(Refusal::failure("what it is to continue is gone; send the whole file"));
                }
                match &mut self.content {
                    Content::Memory(bytes) => {
                        let (start, end) = (index(at)?, index(at + piece.len() as u64)?);
                        if bytes.len() < end {
                            bytes.resize(end, 0);
                        }
                        bytes[start..end].copy_from_slice(&piece);
                    }
                    Content::File(file, _) => {
                        file.write_all_at(&piece, at).map_err(|error| place.disk("write", &error))?;
                    }
                }
                at += piece.len() as u64;
            }
        }
        self.pieces = vec![(0, self.size)];
        Ok(())
    }
}

impl Bytes {
    /// How many there are.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, bytes) => *bytes,
        }
    }

    /// All of a small file, so that it needs no file at all.
    pub fn read_small(path: &std::path::Path, bytes: u64) -> Option<Vec<u8>> {
        if bytes > IN_MEMORY {
            return None;
        }
        let mut read = Vec::new();
        File::open(path).ok()?.take(bytes + 1).read_to_end(&mut read).ok()?;
        (read.len() as u64 == bytes).then_some(read)
    }
}

fn index(offset: u64) -> Refused<usize> {
    usize::try_from(offset).map_err(|_| Refusal::failure("no file is that large"))
}
