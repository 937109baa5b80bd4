//! What a person is told about the folder: its health, and what is left alone in it.

use super::take::Taken;
use super::walk::Walk;
use super::{Folder, names};
use crate::intake::{IntakeError, SourceHealth};
use crate::record::delivery::printable;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// From this age on an unfinished file is listed: no sender writes one file for longer.
const OVERDUE: Duration = Duration::from_hours(1);

impl Folder {
    /// Logs what is new and writes the state of the source.
    pub(super) fn report(&mut self, walk: &Walk, taken: &Taken) -> Result<(), IntakeError> {
        for path in &walk.special {
            self.note(
                path,
                "special",
                "this is a link, pipe, device or socket and is left alone; send the file itself",
            );
        }
        for (path, error) in &walk.unreadable {
            self.note(
                path,
                "unreadable",
                &format!("the folder cannot be listed: {error}; let the daemon read it"),
            );
        }
        // It is back: the next time that it is unreachable, or the door shut, is news again.
        self.noted.remove(&(PathBuf::new(), "unreachable"));
        self.noted.remove(&(PathBuf::new(), "door"));
        let overdue = self.overdue(walk);
        for path in &overdue {
            self.note(
                path,
                "unfinished",
                "unfinished for more than an hour; left alone until it is renamed or marked",
            );
        }
        let mut words = Vec::new();
        words.extend(taken.failure.clone());
        if let Some(first) = overdue.first() {
            words.push(format!(
                "{} unfinished for more than an hour and left alone, for example {}",
                overdue.len(),
                printable(first.as_os_str().as_bytes())
            ));
        }
        if let Some((path, error)) = walk.unreadable.first() {
            let path = printable(path.as_os_str().as_bytes());
            words.push(format!(
                "{} folders cannot be listed, for example {path}: {error}",
                walk.unreadable.len()
            ));
        }
        if !self.refused.is_empty() {
            words.push("files cannot be moved away: they are copied and stay".to_owned());
        }
        words.extend(self.polling.clone());
        let trouble = taken.failure.is_some() || !walk.unreadable.is_empty();
        let health = if trouble { SourceHealth::Retrying } else { SourceHealth::Ok };
        self.intake.set_source_state(&self.config.name, health, &words.join("; "))
    }

    /// What has been unfinished for too long, by name or for want of its marker. Removes markers left without a file.
    fn overdue(&self, walk: &Walk) -> Vec<PathBuf> {
        let mut overdue: Vec<PathBuf> = (walk.unfinished.iter())
            .filter(|(_, modified)| is_old(*modified))
            .map(|(path, _)| path.clone())
            .collect();
        let Some(marker) = self.config.marker.as_deref() else { return overdue };
        for found in walk.files.iter().filter(|found| is_old(found.modified)) {
            let absent = |path: &Path| !self.config.path.join(path).exists();
            match names::marked(&found.path, Some(marker)) {
                // A crash between claim and removal left it. Best effort: it is tried again at every look.
                Some(base) if absent(base) && !self.config.keep => {
                    let _ = std::fs::remove_file(self.config.path.join(&found.path));
                }
                None if self.sightings.contains_key(&found.path) => overdue.push(found.path.clone()),
                Some(_) | None => {}
            }
        }
        overdue
    }
}

fn is_old(modified: Option<SystemTime>) -> bool {
    modified.is_some_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age >= OVERDUE))
}
