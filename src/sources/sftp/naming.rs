//! What a sender does with names: rename, remove, make folders. What was received is only shown otherwise, never lost.

use super::account::{Account, MOST_HELD};
use super::ending::MARK_TAKEN;
use super::entry::{Entry, Kind};
use super::path;
use super::refusal::{Refusal, Refused};
use std::net::IpAddr;

impl Account {
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
    pub(super) fn relabel(&self, from: &str, to: &str, entry: &Entry, flushed: bool) -> Refused<()> {
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
}
