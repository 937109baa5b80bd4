//! Deliveries that grow with a file that is followed: one body in the spool for each life of that file.
//!
//! Bytes are flushed first, then one transaction acknowledges them together with the bookmark. What lies in the body
//! behind the acknowledged bytes was cut off by a crash and is written over; it must never be read.

use super::spool::moment;
use super::{Bookmark, Intake, IntakeError, bookmarks, durable, room::Room};
use crate::crash_point;
use crate::record::delivery::{Body, Delivery, DeliveryId};
use crate::sqlite::raw::Value;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

impl Intake {
    /// Makes the first bytes of a file's life durable as a delivery that grows. The body must be in memory.
    /// `continues`: the delivery before it, where it is proven that nothing lies between the two.
    pub fn begin_growing(
        &self,
        delivery: &Delivery,
        continues: Option<DeliveryId>,
        bookmark: impl FnOnce(DeliveryId) -> Bookmark,
    ) -> Result<DeliveryId, IntakeError> {
        let Body::Bytes(bytes) = &delivery.body else {
            let piece = io::Error::other("a followed file comes in pieces, not as a file");
            return Err(IntakeError::io("follow", Path::new(&delivery.name), piece));
        };
        let id = DeliveryId::new(delivery.received_at, ulid::Ulid::new().random());
        let path = self.spool_path(id);
        self.write_on(&path, 0, bytes)?;
        durable::sync_folder(&durable::folder_of(&path))?;
        crash_point::reached("grow-written");
        let bookmark = bookmark(id);
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        // Without the body, which is on disk.
        let delivery = Delivery { body: Body::Bytes(Vec::new()), ..delivery.clone() };
        self.write(move |db| {
            db.run(
                "INSERT INTO receipt (id, state, origin, source, account, peer, name, received_at, pinned_format,
                     time_zone, reading, bytes, body_kind, body_path)
                 VALUES (?, 'waiting', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'spool', ?)",
                &[
                    Value::Text(&id.to_string()),
                    Value::Text(&delivery.origin),
                    Value::Text(&delivery.source),
                    Value::text_given(delivery.account.as_deref()),
                    Value::text_given(delivery.peer.as_deref()),
                    Value::Text(&delivery.name),
                    Value::Text(&moment(delivery.received_at)),
                    Value::text_given(delivery.pinned_format.as_deref()),
                    Value::text_given(delivery.time_zone.as_deref()),
                    Value::Blob(&delivery.reading),
                    Value::unsigned(length),
                    Value::Blob(path.as_os_str().as_bytes()),
                ],
            )?;
            db.run(
                "INSERT INTO growing (id, continues, ended) VALUES (?, ?, 0)",
                &[
                    Value::Text(&id.to_string()),
                    Value::text_given(continues.map(|earlier| earlier.to_string()).as_deref()),
                ],
            )?;
            bookmarks::put(db, &bookmark)
        })?;
        crash_point::reached("grow-durable");
        self.announce_work();
        Ok(id)
    }

    /// Makes further bytes of a delivery durable, which lie at this offset of it.
    pub fn grow(
        &self,
        id: DeliveryId,
        offset: u64,
        bytes: &[u8],
        bookmark: &Bookmark,
    ) -> Result<(), IntakeError> {
        self.write_on(&self.spool_path(id), offset, bytes)?;
        crash_point::reached("grow-written");
        let length = offset + u64::try_from(bytes.len()).unwrap_or(0);
        let bookmark = bookmark.clone();
        let grown = self.write(move |db| {
            let grown = db.run(
                "UPDATE receipt SET bytes = ?, state = iif(state = 'unfinished', 'waiting', state)
                  WHERE id = ? AND bytes = ? AND EXISTS (SELECT 1 FROM growing WHERE id = receipt.id AND ended = 0)",
                &[Value::unsigned(length), Value::Text(&id.to_string()), Value::unsigned(offset)],
            )?;
            if grown == 1 {
                bookmarks::put(db, &bookmark)?;
            }
            Ok(grown)
        })?;
        if grown == 0 {
            return Err(IntakeError::UnknownDelivery { id });
        }
        crash_point::reached("grow-durable");
        self.announce_work();
        Ok(())
    }

    /// Notes that nothing follows: the file's life is over.
    pub fn end_growing(&self, id: DeliveryId, bookmark: &Bookmark) -> Result<(), IntakeError> {
        let bookmark = bookmark.clone();
        self.write(move |db| {
            for statement in [
                "UPDATE growing SET ended = 1 WHERE id = ?",
                "UPDATE receipt SET state = 'waiting' WHERE id = ? AND state = 'unfinished'",
            ] {
                db.run(statement, &[Value::Text(&id.to_string())])?;
            }
            bookmarks::put(db, &bookmark)
        })?;
        crash_point::reached("grow-ended");
        self.announce_work();
        Ok(())
    }

    fn write_on(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), IntakeError> {
        let config = &self.0.config;
        let state_dir = &self.0.state_dir;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Room::measure(state_dir, config.reserve_bytes, config.reserve_percent)?.take(state_dir, length)?;
        let failed = |action| move |error: io::Error| IntakeError::io(action, path, error);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))
            .map(File::from)
            .map_err(|error| IntakeError::io("create", path, error))?;
        let there = file.metadata().map_err(failed("look at"))?.len();
        if there < offset {
            return Err(IntakeError::io(
                "write on",
                path,
                io::Error::other(format!("{offset} bytes were flushed into it and only {there} are left")),
            ));
        }
        // What a crash left behind the acknowledged bytes.
        file.set_len(offset).map_err(failed("truncate"))?;
        file.seek(SeekFrom::Start(offset)).map_err(failed("write"))?;
        file.write_all(bytes).map_err(failed("write"))?;
        durable::sync_file(&file, path)
    }
}

/// The acknowledged bytes of a body that grows.
pub(super) struct Acknowledged {
    file: File,
    length: u64,
    position: u64,
}

impl Acknowledged {
    pub(super) fn new(file: File, length: u64) -> Self {
        Self { file, length, position: 0 }
    }
}

impl Read for Acknowledged {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..wanted], self.position)?;
        self.position += u64::try_from(read).map_err(io::Error::other)?;
        Ok(read)
    }
}

impl Seek for Acknowledged {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
