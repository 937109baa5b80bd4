//! How an upload ends: received, kept until it is renamed or marked, or broken off.
//!
//! Must never answer with success before what it says is safe, and never leave a file that looks whole and was not received.

use super::account::Account;
use super::entry::{Entry, Kind};
use super::path;
use super::refusal::{Refusal, Refused};
use super::upload::{Bytes, Ended, Upload};
use crate::crash_point;
use crate::intake::Bookmark;
use crate::record::delivery::{Body, Delivery, Receipt};
use jiff::Timestamp;
use std::net::IpAddr;
use std::sync::Arc;

/// Entries that an account may have.
const MOST_ENTRIES: usize = 100_000;

/// What a marker holds whose file was received.
pub(super) const MARK_TAKEN: &str = "taken";

impl Account {
    /// Ends an upload well. Success only once it is safe.
    pub fn finish(&self, path: &str, upload: &Arc<Upload>, owner: u64, peer: IpAddr) -> Refused<()> {
        let ended = match upload.end(owner, &self.place) {
            Ok(ended) => ended,
            Err(refusal) => {
                self.abandon(path, upload, owner);
                return Err(refusal);
            }
        };
        let marker = self.source.marker.as_deref();
        let marks = marker.and_then(|marker| path.strip_suffix(marker)).filter(|base| !base.ends_with('/'));
        if let Some(base) = marks {
            return self.mark(path, base, upload, peer);
        }
        let mark = marker.map(|marker| format!("{path}{marker}"));
        let complete = mark.as_deref().is_none_or(|mark| self.is_marked(mark));
        if path::is_unfinished(path) || !complete {
            return self.keep(path, upload, ended);
        }
        let modified = ended.modified;
        match self.receive(path, ended, peer) {
            Ok((receipt, bytes)) => {
                self.received(path, &receipt, bytes, modified, Some(upload));
                if let Some(mark) = mark {
                    self.put_mark(&mark, MARK_TAKEN, None);
                }
                Ok(())
            }
            Err((refusal, bytes)) => {
                // One of the right size would look finished: nothing of it stays.
                if let Bytes::File(name, _) = bytes {
                    self.place.remove(&name);
                }
                self.drop_upload(path, upload);
                Err(refusal)
            }
        }
    }

    /// Whether the marker came and its file did not.
    pub(super) fn is_marked(&self, mark: &str) -> bool {
        matches!(self.tree().entries.get(mark), Some(Entry { kind: Kind::Note(text), .. }) if text.is_empty())
    }

    /// A marker came: its file is finished, or will be when it comes. One that stayed would call the next file of this
    /// name finished before it is.
    fn mark(&self, mark: &str, base: &str, upload: &Arc<Upload>, peer: IpAddr) -> Refused<()> {
        let waits =
            self.tree().entries.get(base).is_some_and(|entry| matches!(entry.kind, Kind::Unfinished(_)));
        if waits && let Err(refusal) = self.hand_in(base, base, peer) {
            self.drop_upload(mark, upload);
            return Err(refusal);
        }
        self.put_mark(mark, if waits { MARK_TAKEN } else { "" }, Some(upload));
        Ok(())
    }

    pub(super) fn put_mark(&self, mark: &str, text: &str, upload: Option<&Arc<Upload>>) {
        let entry = Entry::new(Kind::Note(text.to_owned()), 0, None);
        self.remember(mark, &entry, None, false);
        self.put_received(mark, entry, upload);
    }

    /// Hands the bytes to the door. They come back when it refuses.
    fn receive(&self, path: &str, ended: Ended, peer: IpAddr) -> Result<(Receipt, u64), (Refusal, Bytes)> {
        let bytes = ended.bytes.len();
        let body = match &ended.bytes {
            Bytes::Memory(bytes) => Body::Bytes(bytes.clone()),
            Bytes::File(name, size) => {
                let file = self.place.partial.join(name);
                match Bytes::read_small(&file, *size) {
                    Some(small) => Body::Bytes(small),
                    None => Body::Claimed { path: file, claim_dir: self.place.received.clone() },
                }
            }
        };
        let small_file = match (&ended.bytes, &body) {
            (Bytes::File(name, _), Body::Bytes(_)) => Some(name.clone()),
            _ => None,
        };
        let delivery = Delivery {
            origin: self.settings.origin.clone(),
            source: self.source.name.clone(),
            account: Some(self.settings.user.clone()),
            peer: Some(peer.to_string()),
            name: path::printable(path),
            received_at: Timestamp::now(),
            pinned_format: self.source.pinned_format.clone(),
            time_zone: None,
            reading: self.settings.reading,
            body,
        };
        let bookmark = Entry::to_text_received(bytes, ended.modified).map(|value| Bookmark {
            source: self.source.name.clone(),
            key: self.key(path),
            value,
        });
        let deliveries = vec![(delivery, bookmark)];
        let answer = if self.source.feedback {
            self.intake.accept_and_tell(deliveries)
        } else {
            self.intake.accept_each(deliveries)
        };
        match answer.map(|mut receipts| receipts.pop()) {
            Ok(Some(Ok(receipt))) => {
                if let Some(name) = small_file {
                    self.place.remove(&name);
                }
                crash_point::reached("sftp-received");
                Ok((receipt, bytes))
            }
            Ok(Some(Err(error))) | Err(error) => Err((self.place.door(&error), ended.bytes)),
            Ok(None) => {
                Err((Refusal::failure("it cannot be received now; send it again later"), ended.bytes))
            }
        }
    }

    /// Shows a file as received. Only in memory: it is remembered with its receipt.
    fn received(
        &self,
        path: &str,
        receipt: &Receipt,
        bytes: u64,
        modified: Option<u32>,
        upload: Option<&Arc<Upload>>,
    ) {
        let mut id = receipt.id;
        if receipt.seen_before
            && let Ok(Some(text)) = self.intake.bookmark(&self.source.name, &self.key(path))
            && let Some(Kind::Received(first)) =
                Entry::from_text(&text).map(|remembered| remembered.entry.kind)
        {
            id = first;
        }
        self.put_received(path, Entry::new(Kind::Received(id), bytes, modified), upload);
    }

    /// Puts an entry in the place of its upload, unless another upload has taken that place.
    pub(super) fn put_received(&self, path: &str, entry: Entry, upload: Option<&Arc<Upload>>) {
        let mut tree = self.tree();
        if let Some(Entry { kind: Kind::Uploading(other), .. }) = tree.entries.get(path)
            && upload.is_none_or(|upload| !Arc::ptr_eq(upload, other))
        {
            return;
        }
        let before = tree.put(path, entry);
        let crowded = tree.entries.len() > MOST_ENTRIES;
        drop(tree);
        if let Some(name) = before.as_ref().and_then(Entry::file) {
            self.place.remove(name);
        }
        if crowded {
            self.expire(i64::MAX, i64::MIN);
        }
    }

    /// Keeps a whole file that its sender will rename: as safe as one that is received.
    fn keep(&self, path: &str, upload: &Arc<Upload>, ended: Ended) -> Refused<()> {
        let bytes = ended.bytes.len();
        let kept = self.put_on_disk(ended.bytes).and_then(|name| self.place.flush(&name).map(|()| name));
        let name = match kept {
            Ok(name) => name,
            Err(refusal) => {
                self.drop_upload(path, upload);
                return Err(refusal);
            }
        };
        let entry = Entry::new(Kind::Unfinished(name.clone()), bytes, ended.modified);
        if !self.remember(path, &entry, None, true) {
            self.place.remove(&name);
            self.drop_upload(path, upload);
            return Err(Refusal::failure("it cannot be kept now; send it again later"));
        }
        crash_point::reached("sftp-kept");
        let before = self.tree().put(path, entry);
        if let Some(old) = before.as_ref().and_then(Entry::file).filter(|old| *old != name) {
            self.place.remove(old);
        }
        Ok(())
    }

    fn put_on_disk(&self, bytes: Bytes) -> Refused<String> {
        match bytes {
            Bytes::File(name, _) => Ok(name),
            Bytes::Memory(bytes) => {
                self.place.room()?;
                let (mut file, name) = self.place.create()?;
                std::io::Write::write_all(&mut file, &bytes).map_err(|error| {
                    self.place.remove(&name);
                    self.place.disk("write", &error)
                })?;
                Ok(name)
            }
        }
    }

    /// An upload whose connection ended before it did.
    pub fn abandon(&self, path: &str, upload: &Arc<Upload>, owner: u64) {
        let Some(ended) = upload.break_off(owner, &self.place) else { return };
        let bytes = ended.bytes.len();
        let here = self.is_here(path, upload);
        if !here || (bytes == 0 && !ended.acknowledged) {
            // Another upload of this name has begun since, or nothing came.
            if let Bytes::File(name, _) = &ended.bytes {
                self.place.remove(name);
            }
            if here {
                self.drop_upload(path, upload);
            }
            return;
        }
        let (modified, acknowledged) = (ended.modified, ended.acknowledged);
        let Ok(name) = self.put_on_disk(ended.bytes) else {
            self.drop_upload(path, upload);
            return;
        };
        let flushed = self.place.flush(&name).is_ok();
        let kind = if acknowledged { Kind::Unfinished(name) } else { Kind::Partial(name) };
        let entry = Entry::new(kind, bytes, modified);
        self.remember(path, &entry, (!flushed).then_some(&self.source.boot), acknowledged);
        self.tree().put(path, entry);
    }

    /// Whether the path still belongs to this upload.
    pub(super) fn is_here(&self, path: &str, upload: &Arc<Upload>) -> bool {
        matches!(self.tree().entries.get(path),
            Some(Entry { kind: Kind::Uploading(other), .. }) if Arc::ptr_eq(upload, other))
    }

    /// Forgets an upload of which nothing stays.
    fn drop_upload(&self, path: &str, upload: &Arc<Upload>) {
        let mut tree = self.tree();
        if let Some(Entry { kind: Kind::Uploading(other), .. }) = tree.entries.get(path)
            && Arc::ptr_eq(upload, other)
        {
            tree.take(path);
            drop(tree);
            self.forget(&[path.to_owned()]);
        }
    }

    /// Receives a file that was kept, as `to`.
    pub(super) fn hand_in(&self, from: &str, to: &str, peer: IpAddr) -> Refused<()> {
        let entry = self.tree().entries.get(from).cloned();
        let Some(Entry { kind: Kind::Unfinished(name), bytes, modified, .. }) = entry else { return Ok(()) };
        let ended = Ended { bytes: Bytes::File(name, bytes), modified: Some(modified), acknowledged: true };
        let (receipt, bytes) = self.receive(to, ended, peer).map_err(|(refusal, _)| refusal)?;
        if from != to {
            self.tree().take(from);
            self.forget(&[from.to_owned()]);
        }
        self.received(to, &receipt, bytes, Some(modified), None);
        Ok(())
    }
}
