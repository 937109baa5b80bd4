//! Handing finished files to the door: by claiming them, or by copying those that stay.

use super::walk::Found;
use super::{Folder, kept, names};
use crate::intake::{Bookmark, IntakeError, SMALL};
use crate::record::delivery::{Body, Delivery, printable};
use jiff::Timestamp;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Files per call of the door: they share their flushes.
const BATCH: usize = 256;
/// Bytes per call of the door: the bodies of small files are in memory until it is over.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;

/// What was taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub accepted: usize,
    /// Files that stay because they were copied.
    pub copied: usize,
    /// Why a file could not be taken, in words.
    pub failure: Option<String>,
}

impl Folder {
    /// Takes finished files. Fails only if the door is shut for all.
    pub(super) fn take(&mut self, finished: Vec<Found>) -> Result<Taken, IntakeError> {
        let mut taken = Taken::default();
        let (copies, claims): (Vec<_>, Vec<_>) =
            finished.into_iter().partition(|found| self.config.keep || self.refused.contains(&found.path));
        let mut copies = copies;
        for batch in batches(&claims) {
            copies.extend(self.claim(batch, &mut taken)?);
        }
        for batch in copies.chunks(BATCH) {
            self.copy(batch, &mut taken)?;
        }
        Ok(taken)
    }

    /// Hands in files of the claim folder that belong to no delivery: the state directory was lost, or restored from
    /// before they were claimed.
    pub(super) fn adopt(&mut self) -> Result<(), IntakeError> {
        let Ok(entries) = std::fs::read_dir(&self.claims) else { return Ok(()) };
        for entry in entries.flatten() {
            let path = entry.path();
            let is_file = entry.metadata().is_ok_and(|metadata| metadata.is_file());
            if !is_file || self.intake.owns(&path)? {
                continue;
            }
            let name = Path::new(names::CLAIM_FOLDER).join(entry.file_name());
            let body = Body::Claimed { path, claim_dir: self.claims.clone() };
            let delivery = self.delivery(&name, body);
            self.note(
                &name,
                "adopted",
                "the file was claimed but belongs to no delivery; it is received again",
            );
            for receipt in self.intake.accept(vec![delivery], None)? {
                if let Err(error) = receipt {
                    self.note(&name, "adopting", &error.to_string());
                }
            }
        }
        Ok(())
    }

    /// Claims a batch; gives back what can only be copied.
    fn claim(&mut self, batch: &[Found], taken: &mut Taken) -> Result<Vec<Found>, IntakeError> {
        let deliveries = batch
            .iter()
            .map(|found| {
                let path = self.config.path.join(&found.path);
                self.delivery(&found.path, Body::Claimed { path, claim_dir: self.claims.clone() })
            })
            .collect();
        let receipts = self.intake.accept(deliveries, None)?;
        let mut copies = Vec::new();
        for (found, receipt) in batch.iter().zip(receipts) {
            match receipt {
                Ok(_) => {
                    taken.accepted += 1;
                    self.sightings.remove(&found.path);
                    self.closed.remove(&found.path);
                    self.remove_marker(&found.path);
                }
                Err(error @ IntakeError::ClaimRefused { .. }) => {
                    self.note(&found.path, "copied", &format!("{error}; it is copied and stays"));
                    self.refused.insert(found.path.clone());
                    self.load_kept()?;
                    if !self.is_kept(found) {
                        copies.push(found.clone());
                    }
                }
                Err(error) => self.failed(found, &error, taken),
            }
        }
        Ok(copies)
    }

    fn copy(&mut self, batch: &[Found], taken: &mut Taken) -> Result<(), IntakeError> {
        let mut deliveries: Vec<(Delivery, Option<Bookmark>)> = Vec::new();
        let mut sent = Vec::new();
        for found in batch {
            let path = self.config.path.join(&found.path);
            let name = shown(&found.path);
            let (state, hash) = match kept::hash(&path) {
                Ok(hashed) => hashed,
                Err(error) => {
                    let error = IntakeError::Io { action: "read", path: shown(&path), source: error };
                    self.failed(found, &error, taken);
                    continue;
                }
            };
            if state != found.state {
                // Written since the walk: it settles anew.
                self.closed.remove(&found.path);
                continue;
            }
            let bookmark = kept::bookmark(&self.config.name, &name, &state, &hash);
            if self.kept.as_ref().is_some_and(|kept| kept.knows_content(&name, &hash)) {
                // Touched, or copied onto itself: only the bookmark moves.
                self.intake.accept(Vec::new(), Some(bookmark))?;
                self.learn(found, &name, &hash);
                continue;
            }
            deliveries.push((self.delivery(&found.path, Body::Copied(path)), Some(bookmark)));
            sent.push((found, name, hash));
        }
        if deliveries.is_empty() {
            return Ok(());
        }
        let receipts = self.intake.accept_each(deliveries)?;
        for ((found, name, hash), receipt) in sent.into_iter().zip(receipts) {
            match receipt {
                Ok(_) => {
                    taken.accepted += 1;
                    taken.copied += usize::from(!self.config.keep);
                    self.learn(found, &name, &hash);
                }
                Err(error) => self.failed(found, &error, taken),
            }
        }
        Ok(())
    }

    fn learn(&mut self, found: &Found, name: &str, hash: &str) {
        self.kept.get_or_insert_default().learn(name, &found.state, hash);
        self.sightings.remove(&found.path);
        self.closed.remove(&found.path);
    }

    /// Reads the bookmarks, once, where files may stay.
    pub(super) fn load_kept(&mut self) -> Result<(), IntakeError> {
        if self.kept.is_none() && (self.config.keep || !self.refused.is_empty()) {
            self.kept = Some(kept::Kept::from_bookmarks(
                self.intake.bookmarks(&self.config.name, kept::Kept::of_bookmark)?,
            ));
        }
        Ok(())
    }

    /// Whether the file stays and was taken as it is now.
    pub(super) fn is_kept(&self, found: &Found) -> bool {
        (self.config.keep || self.refused.contains(&found.path))
            && self.kept.as_ref().is_some_and(|kept| kept.knows(&shown(&found.path), &found.state))
    }

    fn delivery(&self, name: &Path, body: Body) -> Delivery {
        Delivery {
            time_zone: None,
            origin: self.config.origin.clone(),
            source: self.config.name.clone(),
            account: None,
            peer: None,
            name: shown(name),
            received_at: Timestamp::now(),
            pinned_format: self.config.pinned_format.clone(),
            reading: self.config.reading,
            body,
        }
    }

    fn failed(&mut self, found: &Found, error: &IntakeError, taken: &mut Taken) {
        match error {
            // Somebody moved it, or goes on writing it: the next look sees what there is.
            IntakeError::Vanished { .. } | IntakeError::ChangedWhileCopied { .. } => {
                self.closed.remove(&found.path);
            }
            _ => {
                self.note(&found.path, "failed", &error.to_string());
                taken.failure.get_or_insert_with(|| error.to_string());
            }
        }
    }

    /// A marker that stayed would call the next file of this name finished before it is.
    fn remove_marker(&mut self, path: &Path) {
        let Some(marker) = &self.config.marker else { return };
        let marker = self.config.path.join(names::marker_of(path, marker));
        match std::fs::remove_file(&marker) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.note(path, "marker", &format!("its marker cannot be removed: {error}")),
        }
    }
}

/// Cuts files into calls of the door.
fn batches(mut files: &[Found]) -> impl Iterator<Item = &[Found]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |found: &&Found| {
            // Larger ones stay files.
            bytes += if found.state.bytes <= SMALL { found.state.bytes } else { 0 };
            bytes <= BATCH_BYTES
        };
        let count = files.iter().take(BATCH).take_while(fits).count();
        let (batch, rest) = files.split_at(count);
        files = rest;
        (!batch.is_empty()).then_some(batch)
    })
}

pub(super) fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::folder::walk::State;

    #[test]
    fn a_call_of_the_door_is_bounded_by_files_and_by_bytes() {
        let file = |bytes| {
            let state = State { bytes, device: 1, inode: 1, mtime_ns: 0 };
            Found { path: "a.csv".into(), state, modified: None }
        };
        let sizes = |bytes, many: usize| {
            let files = vec![file(bytes); many];
            batches(&files).map(<[Found]>::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(100, 600), [256, 256, 88]);
        assert_eq!(sizes(SMALL, 100), [64, 36]);
        assert_eq!(sizes(SMALL + 1, 300), [256, 44], "large ones are never in memory");
        assert!(sizes(1, 0).is_empty());
    }
}
