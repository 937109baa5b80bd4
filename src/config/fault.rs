//! What is wrong with a configuration, all of it at once, each with its place and its mend.

use crate::record::outcome::Actor;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {key}: {message}", file.display())]
pub struct Fault {
    /// File.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// The key with its table, `source.settle`.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No file anywhere.
    #[error(
        "no configuration file: neither ./config.toml nor /etc/cdrd/config.toml exists; write one (the annotated \
         default comes with cdrd as config.toml) or name one with --config FILE"
    )]
    Missing,
    /// A file cannot be read.
    #[error(
        "{}: cannot be read: {cause}; check the path given with --config and that this user may read it",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// It was read and is wrong.
    #[error("{}", listed(.0))]
    Wrong(Vec<Fault>),
}

impl ConfigError {
    /// All faults, in the order in which a person mends a file.
    pub(super) fn wrong(mut faults: Vec<Fault>) -> Self {
        // A stable sort by line within a file; files stay in the order in which they were read.
        let mut files: Vec<PathBuf> = Vec::new();
        for fault in &faults {
            if !files.contains(&fault.file) {
                files.push(fault.file.clone());
            }
        }
        faults.sort_by_key(|fault| (files.iter().position(|file| *file == fault.file), fault.line));
        Self::Wrong(faults)
    }

    /// Who must act.
    pub const fn actor(&self) -> Actor {
        Actor::Broken
    }
}

fn listed(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
