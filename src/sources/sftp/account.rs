//! An account's files as its sender sees them: what was received, what is half there, what waits to be renamed.
//!
//! Must never call an upload well ended before the door has its receipt, never show an account anything of another, and
//! never read what its sender did not finish.

use super::entry::{Entry, Kind, now};
use super::place::Place;
use super::refusal::{Refusal, Refused};
use super::upload::{Bounds, Bytes, Ended, Upload};
use super::{AccountSettings, path};
use crate::crash_point;
use crate::intake::{Bookmark, Intake, IntakeError};
use crate::record::delivery::{Body, Delivery, Receipt};
use jiff::Timestamp;
use russh_sftp::protocol::StatusCode;
use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Entries that an account may have.
const MOST_ENTRIES: usize = 100_000;
/// Of these, those that hold something here, and folders.
const MOST_HELD: usize = 10_000;

/// What a marker holds whose file was received.
const MARK_TAKEN: &str = "taken";

/// What an account needs to know of the source.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub name: String,
    pub pinned_format: Option<String>,
    pub marker: Option<String>,
    pub feedback: bool,
    /// The start of this host.
    pub boot: String,
}

/// An account at work.
#[derive(Debug)]
pub(super) struct Account {
    pub settings: AccountSettings,
    pub place: Place,
    source: Source,
    intake: Intake,
    tree: Mutex<Tree>,
}

/// What lies where.
#[derive(Debug, Default)]
struct Tree {
    entries: BTreeMap<String, Entry>,
    /// Bytes of files that are not received.
    held: u64,
    /// Entries that hold something, and folders.
    holding: usize,
}

/// What a client is told of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub is_folder: bool,
    pub bytes: u64,
    /// Seconds since 1970.
    pub modified: u32,
}

/// How a client wants to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    pub create: bool,
    pub truncate: bool,
    pub exclusive: bool,
}

/// What a client may read.
pub(super) enum Readable {
    Original(Box<dyn crate::intake::OriginalRead>),
    File(std::fs::File),
    Text(String),
}

impl Tree {
    fn put(&mut self, path: &str, entry: Entry) -> Option<Entry> {
        self.count(&entry, true);
        let before = self.entries.insert(path.to_owned(), entry);
        if let Some(before) = &before {
            self.count(before, false);
        }
        before
    }

    fn take(&mut self, path: &str) -> Option<Entry> {
        let entry = self.entries.remove(path)?;
        self.count(&entry, false);
        Some(entry)
    }

    fn count(&mut self, entry: &Entry, added: bool) {
        let holds = usize::from(entry.file().is_some() || entry.is_folder());
        if added {
            self.held += entry.held();
            self.holding += holds;
        } else {
            self.held = self.held.saturating_sub(entry.held());
            self.holding = self.holding.saturating_sub(holds);
        }
    }

    fn below(&self, folder: &str) -> Range<'_, String, Entry> {
        let start = if folder == "/" { "/".to_owned() } else { format!("{folder}/") };
        let mut end = start.clone();
        // The letter after the slash.
        end.pop();
        end.push('0');
        self.entries.range(start..end)
    }

    /// A path, made or implied by what lies below it.
    fn look(&self, path: &str) -> Option<Look> {
        if path == "/" {
            return Some(Look { is_folder: true, bytes: 0, modified: 0 });
        }
        if let Some(entry) = self.entries.get(path) {
            let modified = match &entry.kind {
                Kind::Uploading(upload) => upload.modified().unwrap_or(entry.modified),
                _ => entry.modified,
            };
            return Some(Look { is_folder: entry.is_folder(), bytes: entry.size(), modified });
        }
        let first = self.below(path).next()?.1;
        Some(Look { is_folder: true, bytes: 0, modified: first.modified })
    }

    fn is_folder(&self, path: &str) -> bool {
        self.look(path).is_some_and(|look| look.is_folder)
    }
}

impl Account {
    /// With what was remembered of it.
    pub fn new(
        settings: AccountSettings,
        source: Source,
        place: Place,
        intake: Intake,
        entries: Vec<(String, Entry)>,
    ) -> Self {
        let mut tree = Tree::default();
        for (path, entry) in entries {
            tree.put(&path, entry);
        }
        Self { settings, place, source, intake, tree: Mutex::new(tree) }
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under what a path is remembered.
    fn key(&self, path: &str) -> String {
        format!("{}:{path}", self.settings.user)
    }

    /// What lies at a path.
    pub fn look(&self, path: &str) -> Refused<Look> {
        self.tree().look(path).ok_or_else(Refusal::missing)
    }

    /// The names in a folder.
    pub fn list(&self, folder: &str) -> Refused<Vec<(String, Look)>> {
        let tree = self.tree();
        match tree.look(folder) {
            None => return Err(Refusal::missing()),
            Some(look) if !look.is_folder => return Err(Refusal::failure("this is no folder")),
            Some(_) => {}
        }
        let start = if folder == "/" { 1 } else { folder.len() + 1 };
        let mut names: Vec<(String, Look)> = Vec::new();
        for (path, entry) in tree.below(folder) {
            let rest = &path[start..];
            let name = rest.split('/').next().unwrap_or(rest);
            if names.last().is_none_or(|(last, _)| last != name) {
                let whole = &path[..start + name.len()];
                let implied = Look { is_folder: true, bytes: 0, modified: entry.modified };
                names.push((name.to_owned(), tree.look(whole).unwrap_or(implied)));
            }
        }
        // "a" and "a/b" may have "a.csv" between them.
        names.sort_by(|a, b| a.0.cmp(&b.0));
        names.dedup_by(|a, b| a.0 == b.0);
        Ok(names)
    }

    /// What may still be written.
    pub fn bounds(&self) -> Bounds {
        let held = self.tree().held;
        Bounds { max_file: self.settings.max_file, quota_left: self.settings.quota.saturating_sub(held) }
    }

    /// Begins an upload, or goes on with one, for the handle `owner`.
    pub fn begin(&self, path: &str, wish: Wish, owner: u64) -> Refused<Arc<Upload>> {
        let tree = self.tree();
        if tree.is_folder(path) {
            return Err(Refusal::failure("this is a folder"));
        }
        let mut above = path::parent(path);
        while above != "/" {
            if tree.entries.get(above).is_some_and(|entry| !entry.is_folder()) {
                return Err(Refusal::missing());
            }
            above = path::parent(above);
        }
        let before = tree.entries.get(path).cloned();
        match &before {
            Some(_) if wish.exclusive => {
                return Err(Refusal::failure("there is a file of this name already"));
            }
            None if !wish.create => return Err(Refusal::missing()),
            None if tree.holding >= MOST_HELD => {
                return Err(Refusal::failure("too many unfinished files and folders; remove some"));
            }
            _ => {}
        }
        let upload = match before.as_ref().filter(|_| !wish.truncate) {
            Some(Entry { kind: Kind::Received(delivery), bytes, .. }) => {
                Upload::over(owner, *delivery, *bytes)
            }
            Some(Entry { kind: Kind::Uploading(upload), .. }) => {
                upload.take_over(owner)?;
                return Ok(upload.clone());
            }
            Some(entry) if entry.file().is_some() => {
                let name = entry.file().unwrap_or_default().to_owned();
                let acknowledged = matches!(entry.kind, Kind::Unfinished(_));
                Upload::resumed(owner, self.place.reopen(&name)?, name, entry.bytes, acknowledged)
            }
            _ => Upload::new(owner),
        };
        drop(tree);
        // What is written anew takes the place of what broke off. What was acknowledged stays until something else is.
        if wish.truncate
            && let Some(Entry { kind: Kind::Partial(name), .. }) = &before
        {
            self.forget(&[path.to_owned()]);
            self.place.remove(name);
        }
        let kept = before.filter(|entry| matches!(entry.kind, Kind::Unfinished(_)) && wish.truncate);
        if let Some(kept) = kept {
            // Its handle has the path; the entry is seen as it was until that handle is closed.
            self.tree().put(path, kept);
        } else {
            self.tree().put(path, Entry::new(Kind::Uploading(upload.clone()), 0, None));
        }
        Ok(upload)
    }

    /// Remembers in which file an upload is: a process that dies leaves it there.
    pub fn spilled(&self, path: &str, upload: &Arc<Upload>, name: String) {
        if !self.is_here(path, upload) {
            return;
        }
        let entry = Entry::new(Kind::Partial(name), u64::MAX, None);
        self.remember(path, &entry, Some(&self.source.boot), false);
    }

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
    fn is_marked(&self, mark: &str) -> bool {
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

    fn put_mark(&self, mark: &str, text: &str, upload: Option<&Arc<Upload>>) {
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
    fn put_received(&self, path: &str, entry: Entry, upload: Option<&Arc<Upload>>) {
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
    fn is_here(&self, path: &str, upload: &Arc<Upload>) -> bool {
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
    fn hand_in(&self, from: &str, to: &str, peer: IpAddr) -> Refused<()> {
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

    /// Renames. For a file that was kept under an unfinished name this is the moment at which it is received.
    pub fn rename(&self, from: &str, to: &str, replace: bool, peer: IpAddr) -> Refused<()> {
        let (entry, target) = {
            let tree = self.tree();
            if tree.is_folder(to) {
                return Err(Refusal::failure("there is a folder of this name"));
            }
            (tree.entries.get(from).cloned(), tree.entries.get(to).cloned())
        };
        let Some(entry) = entry else {
            return Err(if self.look(from).is_ok() {
                Refusal::unsupported("folders with something in them cannot be renamed")
            } else {
                Refusal::missing()
            });
        };
        if from == to {
            return Ok(());
        }
        if target.is_some() && !replace {
            return Err(Refusal::failure("there is a file of this name already"));
        }
        match &entry.kind {
            Kind::Uploading(_) => Err(Refusal::failure("it is still being written")),
            Kind::Partial(_) => Err(Refusal::failure(
                "its upload broke off; resume it, or send it again, before it is renamed",
            )),
            Kind::Unfinished(_) if !path::is_unfinished(to) && self.source.marker.is_none() => {
                self.hand_in(from, to, peer)
            }
            Kind::Unfinished(_) => {
                let moved = self.relabel(from, to, &entry, true);
                let mark = self.source.marker.as_deref().map(|marker| format!("{to}{marker}"));
                if let Some(mark) = mark.filter(|mark| moved.is_ok() && self.is_marked(mark)) {
                    self.hand_in(to, to, peer)?;
                    self.put_mark(&mark, MARK_TAKEN, None);
                }
                moved
            }
            Kind::Folder if self.tree().below(from).next().is_some() => {
                Err(Refusal::unsupported("folders with something in them cannot be renamed"))
            }
            Kind::Folder | Kind::Received(_) | Kind::Note(_) => self.relabel(from, to, &entry, false),
        }
    }

    /// Shows an entry elsewhere.
    fn relabel(&self, from: &str, to: &str, entry: &Entry, flushed: bool) -> Refused<()> {
        if !self.remember(to, entry, None, flushed) {
            return Err(Refusal::failure("it cannot be renamed now; try again later"));
        }
        let mut tree = self.tree();
        tree.take(from);
        let before = tree.put(to, entry.clone());
        drop(tree);
        self.forget(&[from.to_owned()]);
        if let Some(name) = before.as_ref().and_then(Entry::file) {
            self.place.remove(name);
        }
        Ok(())
    }

    /// Forgets a file. What was received stays received.
    pub fn remove(&self, path: &str) -> Refused<()> {
        let mut tree = self.tree();
        match tree.entries.get(path) {
            None => return Err(Refusal::missing()),
            Some(entry) if entry.is_folder() => return Err(Refusal::failure("this is a folder")),
            Some(Entry { kind: Kind::Uploading(_), .. }) => {
                return Err(Refusal::failure("it is still being written"));
            }
            Some(_) => {}
        }
        let entry = tree.take(path);
        drop(tree);
        self.forget(&[path.to_owned()]);
        if let Some(name) = entry.as_ref().and_then(Entry::file) {
            self.place.remove(name);
        }
        Ok(())
    }

    /// Makes a folder.
    pub fn make_folder(&self, path: &str) -> Refused<()> {
        let tree = self.tree();
        if tree.look(path).is_some() {
            return Err(Refusal::failure("it is there already"));
        }
        if tree.look(path::parent(path)).is_none_or(|look| !look.is_folder) {
            return Err(Refusal::missing());
        }
        if tree.holding >= MOST_HELD {
            return Err(Refusal::failure("too many unfinished files and folders; remove some"));
        }
        drop(tree);
        let entry = Entry::new(Kind::Folder, 0, None);
        self.remember(path, &entry, None, false);
        self.tree().put(path, entry);
        Ok(())
    }

    /// Removes an empty folder.
    pub fn remove_folder(&self, path: &str) -> Refused<()> {
        let mut tree = self.tree();
        match tree.look(path) {
            None => return Err(Refusal::missing()),
            Some(look) if !look.is_folder => return Err(Refusal::failure("this is no folder")),
            Some(_) if path == "/" => return Err(Refusal::denied("this folder stays")),
            Some(_) => {}
        }
        if tree.below(path).next().is_some() {
            return Err(Refusal::failure("the folder is not empty"));
        }
        tree.take(path);
        drop(tree);
        self.forget(&[path.to_owned()]);
        Ok(())
    }

    /// Notes when a file changed, as its sender says.
    pub fn set_modified(&self, path: &str, modified: u32) -> Refused<()> {
        let mut tree = self.tree();
        let Some(entry) = tree.entries.get_mut(path) else {
            return tree.look(path).map(|_| ()).ok_or_else(Refusal::missing);
        };
        if matches!(entry.kind, Kind::Uploading(_)) || entry.modified == modified {
            return Ok(());
        }
        entry.modified = modified;
        let entry = entry.clone();
        drop(tree);
        self.remember(path, &entry, None, false);
        Ok(())
    }

    /// Opens a file for reading.
    pub fn open(&self, path: &str) -> Refused<Readable> {
        let (is_folder, entry) = {
            let tree = self.tree();
            (tree.is_folder(path), tree.entries.get(path).cloned())
        };
        match entry.map(|entry| entry.kind) {
            _ if is_folder => Err(Refusal::failure("this is a folder")),
            None | Some(Kind::Folder) => Err(Refusal::missing()),
            Some(Kind::Received(delivery)) => Ok(Readable::Original(self.place.original(delivery)?)),
            Some(Kind::Note(text)) => Ok(Readable::Text(text)),
            Some(Kind::Partial(name) | Kind::Unfinished(name)) => {
                Ok(Readable::File(self.place.reopen(&name)?))
            }
            Some(Kind::Uploading(_)) => Err(Refusal::failure("it is still being written")),
        }
    }

    /// Puts a note of ours beside a file.
    pub fn leave_note(&self, path: &str, text: &str) -> Result<(), IntakeError> {
        let entry = Entry::new(Kind::Note(text.to_owned()), text.len() as u64, None);
        if let Some(value) = entry.to_text(None) {
            let bookmark = Bookmark { source: self.source.name.clone(), key: self.key(path), value };
            self.intake.put_bookmarks(vec![bookmark], false)?;
        }
        // A file of the sender's is never covered by a note.
        let mut tree = self.tree();
        let ours = tree.entries.get(path).is_none_or(|entry| matches!(entry.kind, Kind::Note(_)));
        if ours && !tree.is_folder(path) {
            tree.put(path, entry);
        }
        Ok(())
    }

    /// Takes a note of ours away.
    pub fn take_note(&self, path: &str) {
        let mut tree = self.tree();
        if matches!(tree.entries.get(path), Some(Entry { kind: Kind::Note(_), .. })) {
            tree.take(path);
            drop(tree);
            self.forget(&[path.to_owned()]);
        }
    }

    /// Forgets what was shown since before `shown`, and removes uploads that broke off before `partial`.
    pub fn expire(&self, shown: i64, partial: i64) {
        let mut tree = self.tree();
        let old = |entry: &Entry| match entry.kind {
            Kind::Received(_) | Kind::Note(_) => entry.since < shown,
            Kind::Partial(_) => entry.since < partial,
            Kind::Folder | Kind::Unfinished(_) | Kind::Uploading(_) => false,
        };
        let gone: Vec<String> =
            tree.entries.iter().filter(|(_, entry)| old(entry)).map(|(path, _)| path.clone()).collect();
        let entries: Vec<Entry> = gone.iter().filter_map(|path| tree.take(path)).collect();
        drop(tree);
        self.forget(&gone);
        for name in entries.iter().filter_map(Entry::file) {
            self.place.remove(name);
        }
    }

    /// Files that were acknowledged before `before` and never renamed or marked.
    pub fn unfinished(&self, before: i64) -> Vec<String> {
        let tree = self.tree();
        let waits = |entry: &Entry| matches!(entry.kind, Kind::Unfinished(_)) && entry.since < before;
        tree.entries.iter().filter(|(_, entry)| waits(entry)).map(|(path, _)| path::printable(path)).collect()
    }

    /// Hands in files that the door took over and knows nothing of: the spool was restored from before they came.
    pub fn adopt(&self) -> Result<(), IntakeError> {
        let Ok(entries) = std::fs::read_dir(&self.place.received) else { return Ok(()) };
        for entry in entries.flatten() {
            let file = entry.path();
            if self.intake.owns(&file)? {
                continue;
            }
            let name = path::printable(&entry.file_name().to_string_lossy());
            tracing::warn!(
                cdrd_source = self.source.name,
                "{name} of account {} was received but belongs to no delivery; it is received again",
                self.settings.user
            );
            let delivery = Delivery {
                origin: self.settings.origin.clone(),
                source: self.source.name.clone(),
                account: Some(self.settings.user.clone()),
                peer: None,
                name,
                received_at: Timestamp::now(),
                pinned_format: self.source.pinned_format.clone(),
                time_zone: None,
                reading: self.settings.reading,
                body: Body::Claimed { path: file, claim_dir: self.place.received.clone() },
            };
            for receipt in self.intake.accept(vec![delivery], None)? {
                receipt?;
            }
        }
        Ok(())
    }

    /// Writes an entry down. Whether that worked; the log says why not.
    fn remember(&self, path: &str, entry: &Entry, boot: Option<&String>, flushed: bool) -> bool {
        let Some(value) = entry.to_text(boot.map(String::as_str)) else { return true };
        let bookmark = Bookmark { source: self.source.name.clone(), key: self.key(path), value };
        match self.intake.put_bookmarks(vec![bookmark], flushed) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(cdrd_source = self.source.name, %error, "an account's file cannot be remembered");
                false
            }
        }
    }

    fn forget(&self, paths: &[String]) {
        if paths.is_empty() {
            return;
        }
        let keys = paths.iter().map(|path| self.key(path)).collect();
        if let Err(error) = self.intake.forget_bookmarks(&self.source.name, keys) {
            tracing::warn!(cdrd_source = self.source.name, %error, "an account's file cannot be forgotten; it shows again after a restart");
        }
    }

    /// Whether somebody at this address may be this account.
    pub fn lets_in(&self, peer: IpAddr) -> bool {
        self.settings.networks.is_empty() || self.settings.networks.iter().any(|network| network.holds(peer))
    }
}

/// Now, and the same for messages that say how old something is.
pub(super) fn ago(span: std::time::Duration) -> i64 {
    now().saturating_sub(i64::try_from(span.as_secs()).unwrap_or(i64::MAX))
}

impl From<Refusal> for StatusCode {
    fn from(refusal: Refusal) -> Self {
        refusal.code
    }
}
