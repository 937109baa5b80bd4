//! One walk over the folder: what lies there now. Reads names and states, never contents; follows no link.

use super::names;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Folders below each other that are entered; deeper ones are noted.
const DEPTH: usize = 64;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub bytes: u64,
    pub device: u64,
    pub inode: u64,
    pub mtime_ns: i128,
}

impl State {
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            device: metadata.dev(),
            inode: metadata.ino(),
            mtime_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        }
    }
}

/// Whether a file stays and is dealt with as it is: a folder may keep very many, which need not be gathered each time.
pub(super) type Known<'k> = &'k dyn Fn(&Path, &State) -> bool;

/// A regular file whose name does not say that it is unfinished. Paths are relative to the watched folder.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub path: PathBuf,
    pub state: State,
    pub modified: Option<SystemTime>,
}

/// What lies in the folder.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub files: Vec<Found>,
    /// Files and folders whose name says that they are unfinished.
    pub unfinished: Vec<(PathBuf, Option<SystemTime>)>,
    /// Links, pipes, devices, sockets.
    pub special: Vec<PathBuf>,
    /// Folders that could not be listed.
    pub unreadable: Vec<(PathBuf, io::Error)>,
}

/// Walks. Fails only if the folder itself cannot be listed.
pub(super) fn walk(root: &Path, recursive: bool, known: Known<'_>) -> io::Result<Walk> {
    let mut found = Walk::default();
    let mut folders = Vec::new();
    list(root, Path::new(""), known, &mut found, &mut folders)?;
    while recursive && let Some(folder) = folders.pop() {
        if folder.components().count() > DEPTH {
            found.unreadable.push((folder, io::Error::other("it lies too deep")));
            continue;
        }
        match list(root, &folder, known, &mut found, &mut folders) {
            Ok(()) => {}
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.unreadable.push((folder, error)),
        }
    }
    Ok(found)
}

fn list(
    root: &Path,
    folder: &Path,
    known: Known<'_>,
    found: &mut Walk,
    folders: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name();
        let path = folder.join(&name);
        // Does not follow a link.
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Vanished meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // Whoever may list a folder and not search it would take it for empty.
            Err(error) => return Err(error),
        };
        let modified = metadata.modified().ok();
        let unfinished = names::is_unfinished(name.as_bytes());
        if metadata.is_dir() {
            match (unfinished, name.as_bytes().starts_with(b".")) {
                (false, _) => folders.push(path),
                (true, false) => found.unfinished.push((path, modified)),
                // The claim folder, and what NAS systems and desktops keep (`.snapshot`, `.Trash`).
                (true, true) => {}
            }
        } else if !metadata.is_file() {
            found.special.push(path);
        } else if unfinished {
            found.unfinished.push((path, modified));
        } else {
            let state = State::of(&metadata);
            if !known(&path, &state) {
                found.files.push(Found { path, state, modified });
            }
        }
    }
    Ok(())
}
