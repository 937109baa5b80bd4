//! Accepting: from a delivery in the sender's hands to a receipt that survives `kill -9` and power cuts.
//!
//! The deliveries of a call share their flushes. Order: files into the spool or the claim announced, files renamed and,
//! unless they are small, flushed, then one transaction with receipts, inline bodies and bookmarks. Only after it may a
//! source acknowledge. The rename of a small file is flushed when it is retired: until then its receipt tells recovery to
//! repeat it.

use super::durable::{self, Stamp};
use super::error::shown;
use super::receipts::Batch;
use super::room::Room;
use super::{Bookmark, Intake, IntakeError, SMALL, seen};
use crate::crash_point;
use crate::record::delivery::{Body, Delivery, DeliveryId, Receipt};
use crate::record::disk;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// From how many files on, one flush of the whole disk is cheaper than one per file.
pub(super) const MANY_FILES: usize = 16;

/// Bytes copied at a time.
const COPY_STEP: usize = 128 * 1024;

/// A delivery on its way through the door.
pub(super) struct Arrival {
    pub id: DeliveryId,
    pub delivery: Delivery,
    pub bookmark: Option<Bookmark>,
    pub stored: Stored,
    pub bytes: u64,
    pub content_hash: Option<[u8; 32]>,
    /// Whether its source wants to be told how it ended.
    pub feedback: bool,
}

/// Where its bytes are.
pub(super) enum Stored {
    Inline(Vec<u8>),
    Spool(PathBuf),
    Claim {
        from: PathBuf,
        folder: PathBuf,
        target: PathBuf,
        /// What it was when it was taken.
        stamp: Option<Stamp>,
        /// All of a small one: then it goes into `spool.db` with its receipt, and nothing else needs a flush.
        inline: Option<Vec<u8>>,
    },
}

pub(super) type Outcome<T> = Result<T, IntakeError>;

impl Intake {
    /// Makes deliveries durable. Inner errors concern one delivery, the outer one all of them. The bookmark moves in
    /// the same step, and only if every delivery was accepted: else what was refused would never come again.
    pub fn accept(
        &self,
        deliveries: Vec<Delivery>,
        bookmark: Option<Bookmark>,
    ) -> Outcome<Vec<Outcome<Receipt>>> {
        let deliveries = deliveries.into_iter().map(|delivery| (delivery, None)).collect();
        self.receive(deliveries, bookmark, false)
    }

    /// As [`Intake::accept`], with a bookmark for each delivery that moves if that one was accepted.
    pub fn accept_each(
        &self,
        deliveries: Vec<(Delivery, Option<Bookmark>)>,
    ) -> Outcome<Vec<Outcome<Receipt>>> {
        self.receive(deliveries, None, false)
    }

    /// As [`Intake::accept_each`], for a source that wants to tell its senders how each delivery ended:
    /// [`Intake::tell_outcomes`].
    pub fn accept_and_tell(
        &self,
        deliveries: Vec<(Delivery, Option<Bookmark>)>,
    ) -> Outcome<Vec<Outcome<Receipt>>> {
        self.receive(deliveries, None, true)
    }

    fn receive(
        &self,
        deliveries: Vec<(Delivery, Option<Bookmark>)>,
        shared: Option<Bookmark>,
        feedback: bool,
    ) -> Outcome<Vec<Outcome<Receipt>>> {
        // The sender's disk and ours.
        let _waiting = crate::pulse::waiting();
        self.settle_earlier();
        let mut room = self.measure()?;
        let unique = ulid::Ulid::new().random();
        let mut arrivals: Vec<_> = deliveries
            .into_iter()
            .zip(0_u128..)
            .map(|((delivery, bookmark), place)| {
                // The low bits count, so that ids of one call sort in its order.
                let id = DeliveryId::new(delivery.received_at, (unique & !0xff_ffff) | place);
                self.stage(id, delivery, bookmark, &mut room)
            })
            .collect();
        arrivals.iter_mut().flatten().for_each(|arrival| arrival.feedback = feedback);
        self.answer(arrivals, shared)
    }

    /// Makes one delivery durable whose bytes are those of a file that somebody opened: whoever could open it may hand
    /// it in, wherever it lies. Its body is copied, and `body` is not looked at.
    pub fn accept_open(&self, mut delivery: Delivery, file: File) -> Outcome<Receipt> {
        // The sender's disk and ours.
        let _waiting = crate::pulse::waiting();
        self.settle_earlier();
        let mut room = self.measure()?;
        let name = PathBuf::from(&delivery.name);
        let (file, stamp) = durable::regular(file, &name)?;
        delivery.body = Body::Bytes(Vec::new());
        let id = DeliveryId::new(delivery.received_at, ulid::Ulid::new().random());
        let copied = self.copy(id, file, stamp, &name, &mut room);
        let arrival = copied.map(|(stored, bytes, content_hash)| Arrival {
            id,
            delivery,
            bookmark: None,
            stored,
            bytes,
            content_hash,
            feedback: false,
        });
        let mut receipts = self.answer(vec![arrival], None)?;
        receipts.pop().unwrap_or(Err(IntakeError::UnknownDelivery { id }))
    }

    fn measure(&self) -> Outcome<Room> {
        let config = &self.0.config;
        Room::measure(&self.0.state_dir, config.reserve_bytes, config.reserve_percent)
    }

    /// The steps that make arrivals durable, and their receipts.
    fn answer(
        &self,
        arrivals: Vec<Outcome<Arrival>>,
        shared: Option<Bookmark>,
    ) -> Outcome<Vec<Outcome<Receipt>>> {
        let ids: Vec<_> = arrivals.iter().flatten().map(|arrival| arrival.id).collect();
        let durable = self.make_durable(arrivals, shared);
        if durable.is_err() {
            // The commit may have reached the disk all the same: what is true is looked up at the next call.
            super::locked(&self.0.unsettled).extend(ids);
        }
        let (arrivals, known) = durable?;
        let receipts: Vec<_> = arrivals
            .into_iter()
            .zip(known)
            .map(|(arrival, seen_before)| arrival.map(|arrival| Receipt { id: arrival.id, seen_before }))
            .collect();
        crash_point::reached("accept-durable");
        if receipts.iter().any(Result::is_ok) {
            self.announce_work();
        }
        Ok(receipts)
    }

    /// First step: everything that needs no transaction.
    fn stage(
        &self,
        id: DeliveryId,
        mut delivery: Delivery,
        bookmark: Option<Bookmark>,
        room: &mut Room,
    ) -> Outcome<Arrival> {
        let body = std::mem::replace(&mut delivery.body, Body::Bytes(Vec::new()));
        let state_dir = &self.0.state_dir;
        let (stored, bytes, content_hash) = match body {
            Body::Bytes(bytes) => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                room.take(state_dir, length)?;
                let hash = *blake3::hash(&bytes).as_bytes();
                if length <= self.0.config.inline_cap {
                    (Stored::Inline(bytes), length, Some(hash))
                } else {
                    let (path, ..) = self.spool(id, &mut bytes.as_slice(), Path::new("the body"))?;
                    (Stored::Spool(path), length, Some(hash))
                }
            }
            Body::Copied(path) => {
                let (file, before) = durable::open_regular(&path)?;
                self.copy(id, file, before, &path, room)?
            }
            Body::Claimed { path, claim_dir } => {
                let Some(stamp) = durable::stamp(&path)? else {
                    return Err(IntakeError::Vanished { path: shown(&path) });
                };
                room.take(state_dir, if self.is_small(stamp.bytes) { stamp.bytes } else { 0 })?;
                let target = claim_dir.join(id.to_string());
                let claim =
                    Stored::Claim { from: path, folder: claim_dir, target, stamp: None, inline: None };
                (claim, stamp.bytes, None)
            }
        };
        Ok(Arrival { id, delivery, bookmark, stored, bytes, content_hash, feedback: false })
    }

    fn copy(
        &self,
        id: DeliveryId,
        mut file: File,
        before: Stamp,
        from: &Path,
        room: &mut Room,
    ) -> Outcome<(Stored, u64, Option<[u8; 32]>)> {
        room.take(&self.0.state_dir, before.bytes)?;
        let (stored, bytes, hash) = if before.bytes <= self.0.config.inline_cap {
            let mut bytes = Vec::new();
            // One byte more shows that it grew.
            let read = (&mut file).take(before.bytes + 1).read_to_end(&mut bytes);
            let length = read.map_err(|error| IntakeError::io("read", from, error))?;
            let hash = *blake3::hash(&bytes).as_bytes();
            (Stored::Inline(bytes), u64::try_from(length).unwrap_or(u64::MAX), hash)
        } else {
            let (path, bytes, hash) = self.spool(id, &mut file, from)?;
            (Stored::Spool(path), bytes, hash)
        };
        if before != Stamp::of_file(&file, from)? || bytes != before.bytes {
            if let Stored::Spool(path) = &stored {
                durable::unlink(path)?;
            }
            return Err(IntakeError::ChangedWhileCopied { path: shown(from) });
        }
        Ok((stored, bytes, Some(hash)))
    }

    /// Writes a spool file: temporary, flushed, renamed. Its folder is flushed with the others of the call.
    fn spool(&self, id: DeliveryId, from: &mut dyn Read, name: &Path) -> Outcome<(PathBuf, u64, [u8; 32])> {
        let path = self.spool_path(id);
        let temporary = path.with_extension("part");
        let copied = copy_flushed(from, name, &temporary).and_then(|copied| {
            durable::rename_new(&temporary, &path)
                .map_err(|error| IntakeError::io("rename", &temporary, error))?;
            Ok(copied)
        });
        if copied.is_err() {
            durable::unlink(&temporary)?;
        }
        let (bytes, hash) = copied?;
        Ok((path, bytes, hash))
    }

    /// Second step: claims, flushes, and the one transaction. Tells which arrivals were seen before.
    fn make_durable(
        &self,
        mut arrivals: Vec<Outcome<Arrival>>,
        shared: Option<Bookmark>,
    ) -> Outcome<(Vec<Outcome<Arrival>>, Vec<bool>)> {
        let mut undone = Vec::new();
        if arrivals.iter().flatten().any(|arrival| matches!(arrival.stored, Stored::Claim { .. })) {
            let announced;
            (arrivals, announced) = self.announce_claims(arrivals);
            announced?;
            crash_point::reached("accept-claiming");
            for arrival in &mut arrivals {
                if let Ok(taken) = arrival
                    && let Err(error) = self.take_over(taken)
                {
                    undone.push(taken.id);
                    *arrival = Err(error);
                }
            }
            flush_claims(&arrivals)?;
            crash_point::reached("accept-renamed");
        }
        if arrivals.iter().flatten().any(|arrival| matches!(arrival.stored, Stored::Spool(_))) {
            durable::sync_folder(&self.0.state_dir.join("spool"))?;
        }
        let shared = shared.filter(|_| arrivals.iter().all(Result::is_ok));
        let (batch, known) = self.record(Batch { arrivals, undone, shared });
        Ok((batch.arrivals, known?))
    }

    /// Whether a claimed body of this size is taken into `spool.db`.
    fn is_small(&self, bytes: u64) -> bool {
        bytes <= SMALL && bytes <= self.0.config.inline_cap
    }

    /// Renames one file into its claim folder. Nothing is moved when it fails.
    fn take_over(&self, arrival: &mut Arrival) -> Outcome<()> {
        let Stored::Claim { from, folder, target, stamp, inline } = &mut arrival.stored else {
            return Ok(());
        };
        // A full or failing disk is no reason to take the file otherwise: it is tried again.
        let refused = |error: std::io::Error| {
            if disk::is_full(&error) || error.raw_os_error() == Some(Errno::IO.raw_os_error()) {
                return IntakeError::io("move into the claim folder", from, error);
            }
            IntakeError::ClaimRefused { path: shown(from), source: error }
        };
        // Opened first: a file that the daemon may move but not read would be stuck in the claim folder.
        let (opened, before) = durable::open_regular(from)?;
        if let Err(error) = durable::make_folder(folder, 0o700) {
            return match error {
                IntakeError::Io { source, .. } => Err(refused(source)),
                other => Err(other),
            };
        }
        match durable::rename_new(from, target) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(IntakeError::Vanished { path: shown(from) });
            }
            Err(error) => return Err(refused(error)),
        }
        // Whatever was moved is what came, even if it was exchanged for another file meanwhile.
        let taken = match durable::stamp(target) {
            Ok(Some(now)) if now.is_same_file(&before) => Ok((opened, now)),
            Ok(_) => durable::open_regular(target),
            Err(error) => Err(error),
        };
        let (mut file, now) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                durable::rename_new(target, from)
                    .map_err(|error| IntakeError::io("put back", from, error))?;
                return Err(error);
            }
        };
        // One that cannot be read now, or is still written, stays a file: the pipeline looks at it again.
        if self.is_small(now.bytes)
            && let Some(bytes) = read_whole(&mut file, &now, target)
        {
            arrival.content_hash = Some(*blake3::hash(&bytes).as_bytes());
            *inline = Some(bytes);
        } else {
            arrival.content_hash = self.hash_if_size_known(&file, &now, target);
        }
        arrival.bytes = now.bytes;
        *stamp = Some(now);
        Ok(())
    }

    /// The hash of a claimed file, if a body of its size was seen. Nothing may fail here: the file is moved already,
    /// and without a hash it is merely read once more.
    fn hash_if_size_known(&self, file: &File, now: &Stamp, path: &Path) -> Option<[u8; 32]> {
        let bytes = now.bytes;
        let known = self.read(move |db| seen::size_known(db, bytes));
        if !known.ok()? {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file).ok()?;
        // Only if it still is what was hashed.
        let still = durable::stamp(path).ok()?? == *now;
        still.then(|| *hasher.finalize().as_bytes())
    }
}

/// All bytes of a file, if it still is what it was.
fn read_whole(file: &mut File, now: &Stamp, path: &Path) -> Option<Vec<u8>> {
    let length = usize::try_from(now.bytes).ok()?;
    // One byte more shows that it grew.
    let mut bytes = vec![0; length + 1];
    let mut filled = 0;
    while filled < length {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => return None,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    bytes.truncate(filled);
    (filled == length && Stamp::of_file(file, path).ok()? == *now).then_some(bytes)
}

fn copy_flushed(from: &mut dyn Read, name: &Path, to: &Path) -> Outcome<(u64, [u8; 32])> {
    let mut file: File = durable::create_private(to)?;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0_u64;
    let mut step = vec![0; COPY_STEP];
    loop {
        let read = match from.read(&mut step) {
            Ok(0) => break,
            Ok(read) => &step[..read],
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(IntakeError::io("read", name, error)),
        };
        hasher.update(read);
        file.write_all(read).map_err(|error| IntakeError::io("write", to, error))?;
        bytes += u64::try_from(read.len()).unwrap_or(0);
        crash_point::reached("accept-temporary");
    }
    durable::sync_file(&file, to)?;
    Ok((bytes, *hasher.finalize().as_bytes()))
}

/// Flushes the files that stay the durable copy, and both folders of each rename.
fn flush_claims(arrivals: &[Outcome<Arrival>]) -> Outcome<()> {
    let mut folders = BTreeSet::new();
    let mut claimed = Vec::new();
    for arrival in arrivals.iter().flatten() {
        if let Stored::Claim { from, folder, target, inline: None, .. } = &arrival.stored {
            folders.insert(durable::folder_of(from));
            folders.insert(folder.clone());
            claimed.push((folder, target));
        }
    }
    if claimed.len() >= MANY_FILES {
        // A file and both its folders are on one disk, or the rename would have failed.
        let disks: BTreeSet<_> = claimed.iter().map(|(folder, _)| (*folder).clone()).collect();
        return disks.iter().try_for_each(|folder| durable::sync_disk_of(folder));
    }
    for (_, target) in claimed {
        let (file, _) = durable::open_regular(target)?;
        durable::sync_file(&file, target)?;
    }
    durable::sync_folders(&folders)
}
