//! Files that stay where they are: what is known about each, so that it is taken once per content.

use super::walk::State;
use crate::intake::Bookmark;
use rustix::fs::{Mode, OFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;

/// Bookmarks of copied files: printable relative path -> (state, hash). A folder may keep a hundred thousand, so that of each
/// only half as much of its hash is held as tells two apart: a file is known where two of them agree.
#[derive(Debug, Default)]
pub(super) struct Kept(HashMap<u64, (u64, u64)>);

fn short(text: &str) -> u64 {
    let hash = blake3::hash(text.as_bytes());
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

impl Kept {
    /// From the bookmarks of the source.
    pub fn from_bookmarks(known: Vec<(u64, (u64, u64))>) -> Self {
        Self(known.into_iter().collect())
    }

    /// What is held of a bookmark.
    pub fn of_bookmark(key: &str, value: &str) -> Option<(u64, (u64, u64))> {
        let name = short(key.strip_prefix(PREFIX)?);
        let (state, hash) = value.rsplit_once(':')?;
        Some((name, (short(state), short(hash))))
    }

    /// Whether this file was taken as it is now.
    pub fn knows(&self, name: &str, state: &State) -> bool {
        self.0.get(&short(name)).is_some_and(|(known, _)| *known == short(&words(state)))
    }

    /// Whether a file of this name was taken with this content.
    pub fn knows_content(&self, name: &str, hash: &str) -> bool {
        self.0.get(&short(name)).is_some_and(|(_, known)| *known == short(hash))
    }

    /// Remembers a file that was taken.
    pub fn learn(&mut self, name: &str, state: &State, hash: &str) {
        self.0.insert(short(name), (short(&words(state)), short(hash)));
    }
}

const PREFIX: &str = "file:";

fn words(state: &State) -> String {
    format!("{}:{}:{}:{}", state.device, state.inode, state.bytes, state.mtime_ns)
}

/// The bookmark of a file.
pub(super) fn bookmark(source: &str, name: &str, state: &State, hash: &str) -> Bookmark {
    Bookmark {
        source: source.to_owned(),
        key: format!("{PREFIX}{name}"),
        value: format!("{}:{hash}", words(state)),
    }
}

/// BLAKE3 of a regular file, in hexadecimal, and the state in which it was read.
pub(super) fn hash(path: &Path) -> io::Result<(State, String)> {
    // Not blocking and not following: since the walk a sender may have put a pipe or a link there.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let state = State::of(&metadata);
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&file)?;
    Ok((state, hasher.finalize().to_hex().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_reads_back() {
        let state = State { bytes: 7, device: 2, inode: 3, mtime_ns: -5 };
        let written = bookmark("inbox", "a:b.csv", &state, "00ff");
        assert_eq!(Kept::of_bookmark("cursor", "4"), None);
        let kept =
            Kept::from_bookmarks(Kept::of_bookmark(&written.key, &written.value).into_iter().collect());
        assert!(kept.knows("a:b.csv", &state));
        assert!(!kept.knows("a:b.csv", &State { bytes: 8, ..state }));
        assert!(kept.knows_content("a:b.csv", "00ff"));
        assert!(!kept.knows("cursor", &state));
    }
}
