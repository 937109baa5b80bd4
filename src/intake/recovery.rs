//! After a crash: every half step is finished or undone, and nothing is left behind.

use super::durable::{self, Stamp};
use super::{Intake, IntakeError, archive};
use crate::record::delivery::DeliveryId;
use crate::sqlite::raw::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// What recovery found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Deliveries that wait now.
    pub waiting: u64,
    /// Of these, the ones that were being read.
    pub interrupted: u64,
    /// Claims that were finished: the file had been moved.
    pub claims_finished: u64,
    /// Claims that were undone: the file is still where its sender put it.
    pub claims_undone: u64,
    /// Half or orphaned files that were removed.
    pub swept: u64,
}

impl Recovered {
    /// Whether the last process was cut off in the middle of something.
    pub const fn cut_off(&self) -> bool {
        self.interrupted + self.claims_finished + self.claims_undone + self.swept > 0
    }
}

/// A row of `leftover`.
#[derive(Debug)]
struct Leftover {
    path: Vec<u8>,
    bytes: Option<i64>,
    device: Option<i64>,
    inode: Option<i64>,
    mtime_ns: Option<i64>,
}

impl Leftover {
    /// What a claimed file was when it was stored.
    fn stamp(&self) -> Option<Stamp> {
        Some(Stamp {
            bytes: self.bytes?.cast_unsigned(),
            device: self.device?.cast_unsigned(),
            inode: self.inode?.cast_unsigned(),
            mtime_ns: self.mtime_ns?,
        })
    }
}

impl Intake {
    /// Finishes or undoes what a crash left half done. Call it once after opening, with the state directory locked and
    /// before any source runs.
    pub fn recover(&self) -> Result<Recovered, IntakeError> {
        let mut recovered = Recovered::default();
        let claims = self.read(|db| {
            let sql = "SELECT id, body_path FROM receipt WHERE state = 'claiming' AND body_path IS NOT NULL";
            db.all(sql, &[], |row| (row.string(0), row.blob(1).to_vec()))
        })?;
        for (id, target) in claims {
            match self.settle_claim(&id, &PathBuf::from(OsString::from_vec(target))) {
                Ok(true) => recovered.claims_finished += 1,
                Ok(false) => recovered.claims_undone += 1,
                Err(error @ IntakeError::Database { .. }) => return Err(error),
                // One folder that cannot be entered today must not keep the others waiting.
                Err(error) => {
                    tracing::warn!(delivery = id, %error, "a claim could not be settled and is tried again");
                    super::locked(&self.0.unsettled).push(id.parse().map_err(|_| self.damaged("id", &id))?);
                }
            }
        }
        recovered.claims_finished += self.repeat_renames()?;
        recovered.swept += self.remove_leftovers()?;
        recovered.swept += self.sweep_spool()?;
        recovered.swept += self.sweep_originals()?;
        (recovered.interrupted, recovered.waiting) = self.write(|db| {
            let interrupted = db.run("UPDATE receipt SET state = 'waiting' WHERE state = 'reading'", &[])?;
            let waiting = "SELECT count(*) FROM receipt WHERE state = 'waiting'";
            Ok((interrupted, db.one(waiting, &[], |row| row.unsigned(0))?.unwrap_or(0)))
        })?;
        self.announce_work();
        Ok(recovered)
    }

    /// The same for single deliveries of calls that failed in this process. What cannot be settled now is tried at the
    /// next call: one source's broken folder must not shut the door for the others.
    pub(super) fn settle_earlier(&self) {
        let ids = std::mem::take(&mut *super::locked(&self.0.unsettled));
        for id in ids {
            if let Err(error) = self.settle(id) {
                tracing::warn!(delivery = %id, %error, "a delivery could not be settled and is tried again");
                super::locked(&self.0.unsettled).push(id);
            }
        }
    }

    fn settle(&self, id: DeliveryId) -> Result<(), IntakeError> {
        let state = self.read(move |db| {
            let sql = "SELECT state, body_path FROM receipt WHERE id = ?";
            db.one(sql, &[Value::Text(&id.to_string())], |row| (row.string(0), row.blob_given(1)))
        })?;
        match state {
            None => {
                durable::unlink(&self.spool_path(id))?;
            }
            Some((state, Some(target))) if state == "claiming" => {
                if self.settle_claim(&id.to_string(), &PathBuf::from(OsString::from_vec(target)))? {
                    self.announce_work();
                }
            }
            Some(_) => self.announce_work(),
        }
        Ok(())
    }

    /// A claimed file that reached its target waits; else the claim is forgotten, because the file is still where the
    /// sender put it (or in the claim folder of a disk that is not mounted now: its source hands it in when it finds it).
    fn settle_claim(&self, id: &str, target: &std::path::Path) -> Result<bool, IntakeError> {
        let stamp = match durable::open_regular(target) {
            Ok((file, stamp)) => {
                durable::sync_file(&file, target)?;
                durable::sync_folder(&durable::folder_of(target))?;
                Some(stamp)
            }
            Err(IntakeError::Vanished { .. } | IntakeError::NotRegular { .. }) => None,
            Err(error) => return Err(error),
        };
        let id = id.to_owned();
        self.write(move |db| match stamp {
            Some(Stamp { bytes, device, inode, mtime_ns }) => db.run(
                "UPDATE receipt SET state = 'waiting', bytes = ?, device = ?, inode = ?, mtime_ns = ?
                 WHERE id = ? AND state = 'claiming'",
                &[
                    Value::unsigned(bytes),
                    Value::Int(device.cast_signed()),
                    Value::Int(inode.cast_signed()),
                    Value::Int(mtime_ns),
                    Value::Text(&id),
                ],
            ),
            None => db.run("DELETE FROM receipt WHERE id = ? AND state = 'claiming'", &[Value::Text(&id)]),
        })?;
        Ok(stamp.is_some())
    }

    /// Small files that were taken into `spool.db` and whose rename a power cut undid: they would come again.
    fn repeat_renames(&self) -> Result<u64, IntakeError> {
        let taken = self.read(|db| {
            let sql = "SELECT id FROM receipt WHERE body_kind = 'inline' AND body_path IS NOT NULL";
            db.all(sql, &[], |row| row.string(0))
        })?;
        let mut repeated = 0;
        for id in taken {
            let id: DeliveryId = id.parse().map_err(|_| self.damaged("id", &id))?;
            let row = self.receipt(id)?;
            let (Some(target), Some(from)) = (row.file(), row.original_path()) else { continue };
            // Anything else that lies there now is another file, and its source's to hand in.
            let undone = durable::stamp(&target).is_ok_and(|there| there.is_none())
                && durable::stamp(&from)
                    .is_ok_and(|there| there.is_some_and(|there| row.is_unchanged(&there)));
            if undone {
                match durable::rename_new(&from, &target) {
                    Ok(()) => repeated += 1,
                    Err(error) => tracing::warn!(delivery = %id, %error,
                        "a received file is back in its folder and cannot be moved again; it will be received twice"),
                }
            }
        }
        Ok(repeated)
    }

    /// Bodies of retired deliveries.
    fn remove_leftovers(&self) -> Result<u64, IntakeError> {
        let paths = self.read(|db| {
            db.all("SELECT path, bytes, device, inode, mtime_ns FROM leftover", &[], |row| Leftover {
                path: row.blob(0).to_vec(),
                bytes: row.int_given(1),
                device: row.int_given(2),
                inode: row.int_given(3),
                mtime_ns: row.int_given(4),
            })
        })?;
        let mut removed = 0;
        let mut done = Vec::new();
        let mut folders: BTreeMap<PathBuf, Vec<Vec<u8>>> = BTreeMap::new();
        for leftover in paths {
            let path = PathBuf::from(OsString::from_vec(leftover.path.clone()));
            if super::retire::is_written_since(&path, leftover.stamp().as_ref()) {
                // Its source finds it in its claim folder, without a receipt, and hands it in.
                tracing::warn!("a stored file was written after it had been read; it is received again");
                done.push(leftover.path);
                continue;
            }
            match durable::unlink(&path) {
                Ok(was_there) => {
                    removed += u64::from(was_there);
                    folders.entry(durable::folder_of(&path)).or_default().push(leftover.path);
                }
                Err(error) => {
                    tracing::warn!(%error, "a stored file cannot be removed; the next start tries again");
                }
            }
        }
        for (folder, paths) in folders {
            // One source's folder that is gone, closed or no folder any more must not keep the daemon from starting.
            match durable::sync_folders(&BTreeSet::from([folder])) {
                Ok(()) => done.extend(paths),
                Err(error) => {
                    tracing::warn!(%error, "the removal of stored files is not certain yet; the next start tries again");
                }
            }
        }
        self.write(move |db| done.iter().try_for_each(|path| super::retire::forget_leftover(db, path)))?;
        super::locked(&self.0.unlinked).clear();
        Ok(removed)
    }

    /// Spool files without a receipt: half ones, and whole ones that were never acknowledged.
    fn sweep_spool(&self) -> Result<u64, IntakeError> {
        let known = self.read(|db| {
            db.all("SELECT id FROM receipt WHERE body_kind = 'spool'", &[], |row| row.string(0))
        })?;
        let known: HashSet<String> = known.into_iter().collect();
        let folder = self.0.state_dir.join("spool");
        let mut swept = 0;
        let entries = std::fs::read_dir(&folder).map_err(|error| IntakeError::io("list", &folder, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| IntakeError::io("list", &folder, error))?;
            let name = entry.file_name();
            if !name.to_str().is_some_and(|name| known.contains(name)) {
                swept += u64::from(durable::unlink(&entry.path())?);
            }
        }
        Ok(swept)
    }

    /// Half originals: only deliveries that are not yet retired can have one.
    fn sweep_originals(&self) -> Result<u64, IntakeError> {
        let ids = self.read(|db| {
            db.all("SELECT id FROM receipt WHERE state <> 'claiming'", &[], |row| row.string(0))
        })?;
        let mut swept = 0;
        for text in ids {
            let id: DeliveryId = text.parse().map_err(|_| self.damaged("id", &text))?;
            let path = archive::part_of(&archive::path_of(&self.0.state_dir, id));
            swept += u64::from(durable::unlink(&path)?);
        }
        Ok(swept)
    }
}
