//! What lies where in an account: folders are there when somebody made them, or when something lies below them.

use super::entry::{Entry, Kind};
use std::collections::BTreeMap;
use std::collections::btree_map::Range;

/// What lies where.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub entries: BTreeMap<String, Entry>,
    /// Bytes of files that are not received.
    pub held: u64,
    /// Entries that hold something, and folders.
    pub holding: usize,
}

/// What a client is told of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub is_folder: bool,
    pub bytes: u64,
    /// Seconds since 1970.
    pub modified: u32,
}

impl Tree {
    pub fn put(&mut self, path: &str, entry: Entry) -> Option<Entry> {
        self.count(&entry, true);
        let before = self.entries.insert(path.to_owned(), entry);
        if let Some(before) = &before {
            self.count(before, false);
        }
        before
    }

    pub fn take(&mut self, path: &str) -> Option<Entry> {
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

    pub fn below(&self, folder: &str) -> Range<'_, String, Entry> {
        let start = if folder == "/" { "/".to_owned() } else { format!("{folder}/") };
        let mut end = start.clone();
        // The letter after the slash.
        end.pop();
        end.push('0');
        self.entries.range(start..end)
    }

    /// A path, made or implied by what lies below it.
    pub fn look(&self, path: &str) -> Option<Look> {
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

    pub fn is_folder(&self, path: &str) -> bool {
        self.look(path).is_some_and(|look| look.is_folder)
    }
}
