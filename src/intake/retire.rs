//! Retiring: the archive is linked, the receipt forgotten, the body unlinked, each step repeatable after a crash.
//!
//! Must never remove the last copy of a body: the original is in place and flushed before the receipt goes.

use super::archive::{self, OriginalWriter, SealedOriginal, SmallWriter};
use super::door::MANY_FILES;
use super::durable::{self, Stamp};
use super::spool::{self, Row};
use super::{Intake, IntakeError, outcomes, seen};
use crate::crash_point;
use crate::record::delivery::DeliveryId;
use crate::record::outcome::Verdict;
use crate::sqlite::Prepared;
use crate::sqlite::raw::{SqlError, Value};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How a delivery ended.
#[derive(Debug)]
pub struct Retirement {
    /// Its bytes. Without them (the store had it done before a crash) intake takes them from the body, unless the body
    /// was seen before or is archived already.
    pub original: Option<Original>,
    /// BLAKE3 of the body, where reading it told.
    pub content_hash: Option<[u8; 32]>,
    /// Hash and size of each document inside it that was read to its end; empty where the body is the document.
    pub documents: Vec<([u8; 32], u64)>,
    /// Rows that were read in it: a delivery without any is no sign of life of its source.
    pub rows: u64,
    /// Whether it ended without any rejection, so that the same bytes need not be read again.
    pub clean: bool,
    /// What came of it, for a source that tells its senders.
    pub verdict: Verdict,
    /// When.
    pub at: Timestamp,
}

/// The bytes of a delivery that was read.
#[derive(Debug)]
pub enum Original {
    /// Archived and flushed while they were read.
    Sealed(SealedOriginal),
    /// A small body: it stays in the spool until it is archived here, with the others.
    Bytes(Vec<u8>),
}

/// What the transaction of a retirement needs to know.
struct Ending {
    id: DeliveryId,
    row: Row,
    hash: Option<[u8; 32]>,
    documents: Vec<([u8; 32], u64)>,
    rows: u64,
    clean: bool,
    /// Whether its own bytes were read; a repeat was only compared.
    was_read: bool,
    verdict: Verdict,
    at: Timestamp,
    leaves: Leaves,
}

/// What becomes of the body's file.
enum Leaves {
    Nothing,
    /// It is removed, unless it is no longer what it was (a file of the spool never changes).
    File(PathBuf, Option<Stamp>),
    /// Its writer went on after the last look: what it is now comes in as a delivery of its own.
    Again(PathBuf, Stamp),
}

/// A stored file that could not be removed.
pub(super) struct Stuck {
    path: PathBuf,
    /// What it was when it was stored.
    stored: Option<Stamp>,
}

impl Intake {
    /// Ends a delivery. Doing it again is harmless.
    pub fn retire(&self, id: DeliveryId, retirement: Retirement) -> Result<(), IntakeError> {
        self.retire_all(vec![(id, retirement)])
    }

    /// Ends deliveries that share their flushes.
    pub fn retire_all(&self, ended: Vec<(DeliveryId, Retirement)>) -> Result<(), IntakeError> {
        if ended.is_empty() {
            return Ok(());
        }
        let mut endings = Vec::with_capacity(ended.len());
        let mut folders = BTreeSet::new();
        let mut rows = self.find_receipts(ended.iter().map(|(id, _)| *id))?;
        let ended = self.write_originals(ended)?;
        for (id, retirement) in ended {
            let row = rows.remove(&id.to_string());
            endings.extend(self.link_original(id, row, retirement, &mut folders)?);
        }
        durable::sync_folders(&folders)?;
        crash_point::reached("retire-linked");
        let unlinked = std::mem::take(&mut *super::locked(&self.0.unlinked));
        let ((endings, unlinked), forgotten) = self
            .0
            .database
            .write_with((endings, unlinked), |db, (endings, unlinked)| forget(db, endings, unlinked));
        if forgotten.is_err() {
            super::locked(&self.0.unlinked).extend(unlinked);
        }
        self.said(forgotten)?;
        crash_point::reached("retire-forgotten");
        let told = endings.iter().filter(|ending| ending.row.feedback);
        self.ring(told.map(|ending| ending.row.source.clone()).collect::<BTreeSet<_>>().into_iter());
        super::locked(&self.0.resting).retain(|id, _| endings.iter().all(|ending| ending.row.id != *id));
        let mut folders = BTreeSet::new();
        let mut done = Vec::new();
        for ending in &endings {
            match &ending.leaves {
                Leaves::Nothing => {}
                Leaves::File(path, stored) if is_written_since(path, stored.as_ref()) => {
                    self.take_again(ending, path)?;
                    again(ending);
                }
                Leaves::File(path, stored) => match durable::unlink(path) {
                    Ok(_) => {
                        folders.insert(durable::folder_of(path));
                        done.push(path.as_os_str().as_bytes().to_vec());
                    }
                    // The delivery has ended; its folder may have become read-only meanwhile.
                    Err(error) => {
                        tracing::warn!(cdrd_delivery = %ending.id, cdrd_source = ending.row.source,
                            "a file that is stored and archived stays for now: {error}");
                        let stuck = Stuck { path: path.clone(), stored: *stored };
                        super::locked(&self.0.stuck).push(stuck);
                    }
                },
                Leaves::Again(..) => {
                    again(ending);
                    self.announce_work();
                }
            }
        }
        match durable::sync_folders(&folders) {
            Ok(()) => super::locked(&self.0.unlinked).extend(done),
            // What a power cut brings back is removed again at the next start.
            Err(error) => tracing::warn!(%error, "the removal of stored files is not certain yet"),
        }
        crash_point::reached("retire-unlinked");
        Ok(())
    }

    /// Removes what could not be removed when it was stored. Costs nothing where there is nothing; call it now and then.
    pub fn remove_stuck(&self) {
        let stuck = std::mem::take(&mut *super::locked(&self.0.stuck));
        for one in stuck {
            // One that was written since is no leftover: recovery gives it back to its source.
            if is_written_since(&one.path, one.stored.as_ref()) {
                continue;
            }
            let folder = BTreeSet::from([durable::folder_of(&one.path)]);
            match durable::unlink(&one.path).and_then(|_| durable::sync_folders(&folder)) {
                Ok(()) => super::locked(&self.0.unlinked).push(one.path.as_os_str().as_bytes().to_vec()),
                Err(_) => super::locked(&self.0.stuck).push(one),
            }
        }
    }

    /// A file that was written between the last look and its removal: its receipt is gone, and comes back under a new id.
    fn take_again(&self, ending: &Ending, path: &Path) -> Result<(), IntakeError> {
        let Some(now) = durable::stamp(path)? else { return Ok(()) };
        let again = Again::of(ending, path, now);
        self.write(move |db| {
            receive_again(db, &again)?;
            forget_leftover(db, &again.path)
        })?;
        self.announce_work();
        Ok(())
    }

    /// Archives the small bodies and flushes them together.
    fn write_originals(
        &self,
        ended: Vec<(DeliveryId, Retirement)>,
    ) -> Result<Vec<(DeliveryId, Retirement)>, IntakeError> {
        let mut written = Vec::with_capacity(ended.len());
        let mut files = Vec::new();
        let mut writer = None;
        for (id, mut retirement) in ended {
            if let Some(Original::Bytes(body)) = &retirement.original {
                let writer = match &mut writer {
                    Some(writer) => writer,
                    none => none.insert(SmallWriter::new(&self.0.state_dir)?),
                };
                let (sealed, file) = writer.write(&archive::path_of(&self.0.state_dir, id), body)?;
                files.push((sealed.part.clone(), file));
                retirement.original = Some(Original::Sealed(sealed));
            }
            written.push((id, retirement));
        }
        if files.len() >= MANY_FILES {
            durable::sync_disk_of(&self.0.state_dir.join("originals"))?;
        } else {
            files.iter().try_for_each(|(path, file)| durable::sync_file(file, path))?;
        }
        Ok(written)
    }

    /// Brings the original into place. `None` when the delivery is retired already.
    fn link_original(
        &self,
        id: DeliveryId,
        row: Option<Row>,
        retirement: Retirement,
        folders: &mut BTreeSet<PathBuf>,
    ) -> Result<Option<Ending>, IntakeError> {
        let Some(row) = row else {
            if let Some(Original::Sealed(sealed)) = retirement.original {
                durable::unlink(&sealed.part)?;
            }
            return Ok(None);
        };
        let path = archive::path_of(&self.0.state_dir, id);
        let was_read = retirement.original.is_some() || row.repeat_of.is_none();
        let mut hash = retirement.content_hash.or_else(|| row.hash());
        let sealed = match retirement.original {
            Some(Original::Sealed(sealed)) => Some(sealed),
            Some(Original::Bytes(_)) => None,
            None if row.repeat_of.is_some() || durable::stamp(&path)?.is_some() => None,
            None => self.archive_body(id)?.map(|(sealed, computed)| {
                hash = Some(computed);
                sealed
            }),
        };
        if let Some(sealed) = sealed {
            std::fs::rename(&sealed.part, &path)
                .map_err(|error| IntakeError::io("rename", &sealed.part, error))?;
            folders.insert(durable::folder_of(&path));
        }
        let leaves = match row.file() {
            None => Leaves::Nothing,
            Some(file) if row.body_kind == "spool" => Leaves::File(file, None),
            Some(file) => {
                if row.body_kind == "inline" {
                    // The door did not wait for it: once the receipt is gone nothing else repeats the rename.
                    folders.insert(durable::folder_of(&file));
                    folders.extend(row.original_path().as_deref().map(durable::folder_of));
                }
                match durable::stamp(&file)? {
                    Some(now) if !row.is_unchanged(&now) => Leaves::Again(file, now),
                    Some(now) => Leaves::File(file, Some(now)),
                    None => Leaves::Nothing,
                }
            }
        };
        let Retirement { documents, rows, clean, verdict, at, .. } = retirement;
        Ok(Some(Ending { id, row, hash, documents, rows, clean, was_read, verdict, at, leaves }))
    }

    /// Writes the original from the body.
    fn archive_body(&self, id: DeliveryId) -> Result<Option<(SealedOriginal, [u8; 32])>, IntakeError> {
        let mut body = match self.open_original(id) {
            Ok(body) => body,
            Err(IntakeError::BodyGone { path, .. }) => {
                // Its rows are stored; only the bytes are lost, by somebody else's hand, and nothing brings them back.
                tracing::error!(delivery = %id, path, "the body is gone before it was archived; no original is kept");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut writer: OriginalWriter = self.original(id)?;
        let path = archive::path_of(&self.0.state_dir, id);
        let mut hasher = blake3::Hasher::new();
        let mut step = vec![0; 128 * 1024];
        loop {
            let read =
                body.read(&mut step).map_err(|error| IntakeError::io("read the body for", &path, error))?;
            if read == 0 {
                break;
            }
            hasher.update(&step[..read]);
            std::io::Write::write_all(&mut writer, &step[..read])
                .map_err(|error| IntakeError::io("write", &path, error))?;
        }
        Ok(Some((writer.finish()?, *hasher.finalize().as_bytes())))
    }
}

/// The transaction: what was seen is noted, receipts and inline bodies go, files to unlink are written down.
fn forget(db: &mut Prepared<'_>, endings: &[Ending], unlinked: &[Vec<u8>]) -> Result<(), SqlError> {
    for path in unlinked {
        forget_leftover(db, path)?;
    }
    for ending in endings {
        let row = &ending.row;
        // What a repeat repeats stays noted under the first delivery, which has the original.
        if ending.clean && ending.was_read {
            let document = |&(hash, bytes): &_| seen::Ended { hash, bytes, whole: false };
            let bytes = row.bytes.cast_unsigned();
            let body = ending.hash.map(|hash| seen::Ended { hash, bytes, whole: true });
            for ended in ending.documents.iter().map(document).chain(body) {
                seen::note(db, row.key(), &ended, ending.id, ending.at)?;
            }
        }
        if row.feedback {
            outcomes::write(db, row, &ending.verdict, ending.at)?;
        }
        if ending.rows > 0 {
            spool::heard(db, &row.source, ending.at)?;
        }
        match &ending.leaves {
            Leaves::Nothing => {}
            Leaves::File(path, stored) => {
                db.run(
                    "INSERT OR IGNORE INTO leftover (path, bytes, device, inode, mtime_ns) VALUES (?, ?, ?, ?, ?)",
                    &[
                        Value::Blob(path.as_os_str().as_bytes()),
                        Value::int_or_null(stored.map(|stamp| stamp.bytes.cast_signed())),
                        Value::int_or_null(stored.map(|stamp| stamp.device.cast_signed())),
                        Value::int_or_null(stored.map(|stamp| stamp.inode.cast_signed())),
                        Value::int_or_null(stored.map(|stamp| stamp.mtime_ns)),
                    ],
                )?;
            }
            Leaves::Again(path, now) => receive_again(db, &Again::of(ending, path, *now))?,
        }
        // And with it what hangs on it: an inline body.
        db.run("DELETE FROM receipt WHERE id = ?", &[Value::Text(&row.id)])?;
    }
    Ok(())
}

pub(super) fn forget_leftover(db: &mut Prepared<'_>, path: &[u8]) -> Result<(), SqlError> {
    db.run("DELETE FROM leftover WHERE path = ?", &[Value::Blob(path)])?;
    Ok(())
}

/// Whether a claimed file is no longer what it was when its rows were stored: its writer had kept it open.
pub(super) fn is_written_since(path: &Path, stored: Option<&Stamp>) -> bool {
    stored.is_some_and(|stored| durable::stamp(path).is_ok_and(|now| now.is_some_and(|now| now != *stored)))
}

fn again(ending: &Ending) {
    tracing::warn!(cdrd_delivery = %ending.id, cdrd_source = ending.row.source,
        "the file was written after it had been read; it is read again as a new delivery");
}

/// A receipt that comes back under a new id, because its file was written on.
struct Again {
    id: DeliveryId,
    row: Row,
    path: Vec<u8>,
    at: Timestamp,
    now: Stamp,
}

impl Again {
    fn of(ending: &Ending, path: &Path, now: Stamp) -> Self {
        let id = DeliveryId::new(ending.at, ulid::Ulid::new().random());
        let path = path.as_os_str().as_bytes().to_vec();
        Self { id, row: ending.row.clone(), path, at: ending.at, now }
    }
}

fn receive_again(db: &mut Prepared<'_>, again: &Again) -> Result<(), SqlError> {
    let Again { id, row, path, at, now } = again;
    db.run(
        "INSERT INTO receipt (id, state, origin, source, account, peer, name, received_at, pinned_format, time_zone,
             reading, bytes, body_kind, body_path, device, inode, mtime_ns, original_path, feedback)
         VALUES (?, 'waiting', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        &[
            Value::Text(&id.to_string()),
            Value::Text(&row.origin),
            Value::Text(&row.source),
            Value::text_given(row.account.as_deref()),
            Value::text_given(row.peer.as_deref()),
            Value::Text(&row.name),
            Value::Text(&spool::moment(*at)),
            Value::text_given(row.pinned_format.as_deref()),
            Value::text_given(row.time_zone.as_deref()),
            Value::Blob(&row.reading),
            Value::unsigned(now.bytes),
            Value::Text("claimed"),
            Value::Blob(path),
            Value::Int(now.device.cast_signed()),
            Value::Int(now.inode.cast_signed()),
            Value::Int(now.mtime_ns),
            Value::blob_given(row.original_path.as_deref()),
            Value::Int(i64::from(row.feedback)),
        ],
    )?;
    Ok(())
}
