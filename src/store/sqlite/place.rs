//! Whether the path of the database still leads to the file that is open. One that was moved away, replaced or unmounted
//! takes rows as if nothing had happened, and nobody would find them again.

use crate::store::StoreError;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Device and inode.
type Node = (u64, u64);

/// The database and its log as they were when they were opened.
pub struct Place {
    path: PathBuf,
    log: PathBuf,
    database: Option<Node>,
    /// Made by the first transaction, and the same from then on.
    log_node: Option<Node>,
}

fn node(path: &Path) -> Option<Node> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Place {
    /// Of a database that was just opened.
    pub fn of(path: &Path) -> Self {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        Self { database: node(path), log_node: None, path: path.to_owned(), log: log.into() }
    }

    /// Refuses when another file, or none, is there now.
    pub fn check(&self, shown: &str) -> Result<(), StoreError> {
        let same = |path: &Path, known: Option<Node>| known.is_none() || node(path) == known;
        if same(&self.path, self.database) && same(&self.log, self.log_node) {
            return Ok(());
        }
        Err(StoreError::Moved { path: shown.to_owned() })
    }

    /// A transaction was committed: from now on the log is there too.
    pub fn committed(&mut self) {
        if self.log_node.is_none() {
            self.log_node = node(&self.log);
        }
    }
}
