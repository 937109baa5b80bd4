//! An account's files as its sender sees them: what was received, what is half there, what waits to be renamed.
//!
//! Must never call an upload well ended before the door has its receipt, never show an account anything of another, and
//! never read what its sender did not finish.

use super::entry::{Entry, Kind, now};
use super::place::Place;
use super::refusal::{Refusal, Refused};
use super::tree::{Look, Tree};
use super::upload::{Bounds, Upload};
use super::{AccountSettings, path};
use crate::intake::{Bookmark, Intake, IntakeError};
use crate::record::delivery::{Body, Delivery};
use jiff::Timestamp;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Folders that an account may have, and files that hold something here.
pub(super) const MOST_HELD: usize = 10_000;

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
    pub(super) source: Source,
    pub(super) intake: Intake,
    tree: Mutex<Tree>,
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

    pub(super) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under what a path is remembered.
    pub(super) fn key(&self, path: &str) -> String {
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
    pub(super) fn remember(&self, path: &str, entry: &Entry, boot: Option<&String>, flushed: bool) -> bool {
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

    pub(super) fn forget(&self, paths: &[String]) {
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
