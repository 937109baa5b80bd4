//! Where uploads of an account lie on this host, and how much of it they may take.
//!
//! Must never make a path of anything that a sender wrote: files are called by ULIDs.

use super::refusal::{Refusal, Refused};
use crate::intake::{self, Intake, IntakeError, OriginalRead};
use crate::record::delivery::DeliveryId;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that all uploads of a source together may have in memory.
const MEMORY: usize = 8 * 1024 * 1024;

/// Memory that the uploads of a source share.
#[derive(Debug, Default)]
pub(super) struct Memory(AtomicUsize);

/// Where an account's files lie.
#[derive(Debug, Clone)]
pub(super) struct Place {
    intake: Intake,
    source: String,
    /// Uploads that are not received.
    pub partial: PathBuf,
    /// Files that the door took over.
    pub received: PathBuf,
    memory: Arc<Memory>,
}

impl Place {
    /// Makes the folders of an account.
    pub fn make(
        intake: &Intake,
        source: &str,
        folder: &Path,
        user: &str,
        memory: Arc<Memory>,
    ) -> Result<Self, IntakeError> {
        let partial = folder.join("partial").join(user);
        let received = folder.join("received").join(user);
        for folder in [&partial, &received] {
            intake::make_folder(folder, 0o700)?;
        }
        Ok(Self { intake: intake.clone(), source: source.to_owned(), partial, received, memory })
    }

    /// A new file.
    pub fn create(&self) -> Refused<(File, String)> {
        let name = ulid::Ulid::new().to_string();
        let made = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(self.partial.join(&name));
        match made {
            Ok(file) => Ok((file, name)),
            Err(error) => Err(self.disk("create", &error)),
        }
    }

    /// A file of ours, to go on with.
    pub fn reopen(&self, name: &str) -> Refused<File> {
        let opened = OpenOptions::new().read(true).write(true).open(self.partial.join(name));
        opened.map_err(|error| self.disk("open", &error))
    }

    /// Removes a file of ours.
    pub fn remove(&self, name: &str) {
        if let Err(error) = std::fs::remove_file(self.partial.join(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            self.disk("remove", &error);
        }
    }

    /// Flushes a file and its name.
    pub fn flush(&self, name: &str) -> Refused<()> {
        let flush = || {
            File::open(self.partial.join(name))?.sync_all()?;
            File::open(&self.partial)?.sync_all()
        };
        flush().map_err(|error| self.disk("flush", &error))
    }

    /// Whether the disk has room above the reserve.
    pub fn room(&self) -> Refused<()> {
        match self.intake.room() {
            Ok((free, reserve)) if free > reserve => Ok(()),
            Ok(_) => Err(Refusal::failure("no room: the disk is full; send it again later")),
            Err(error) => Err(self.door(&error)),
        }
    }

    /// The bytes of a delivery.
    pub fn original(&self, delivery: DeliveryId) -> Refused<Box<dyn OriginalRead>> {
        self.intake.open_original(delivery).map_err(|error| self.door(&error))
    }

    /// Says to the operator what failed, and gives what the sender is told.
    pub fn door(&self, error: &IntakeError) -> Refusal {
        tracing::warn!(cdrd_source = self.source, %error, "an upload was refused");
        Refusal::of_door(error)
    }

    /// The same of a file of an upload.
    pub fn disk(&self, action: &str, error: &io::Error) -> Refusal {
        tracing::warn!(
            cdrd_source = self.source,
            "cannot {action} a file in {}: {error}; the upload is refused and its sender keeps the file",
            self.partial.display()
        );
        Refusal::failure("the disk refuses; nothing was received, send it again later")
    }

    /// Takes memory, if there is enough.
    pub fn take(&self, bytes: usize) -> bool {
        let before = self.memory.0.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= MEMORY {
            return true;
        }
        self.memory.0.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    /// Gives memory back.
    pub fn give_back(&self, bytes: usize) {
        self.memory.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}
