//! Files that survive a power cut: opening without following links, renaming without replacing, flushing.
//!
//! Must never follow a symbolic link in the last component of a path that a sender chose.

use super::error::{IntakeError, shown};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub bytes: u64,
    pub device: u64,
    pub inode: u64,
    pub mtime_ns: i64,
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            device: stat.st_dev,
            inode: stat.st_ino,
            mtime_ns: stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec),
        }
    }

    /// Whether both are of one file, whatever was written into it between them.
    pub const fn is_same_file(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode
    }

    /// Of an open file.
    pub fn of_file(file: &File, path: &Path) -> Result<Self, IntakeError> {
        rustix::fs::fstat(file)
            .map(|stat| Self::of(&stat))
            .map_err(|error| IntakeError::io("look at", path, error))
    }
}

/// The stamp of the regular file at this path; `None` when nothing is there.
pub(super) fn stamp(path: &Path) -> Result<Option<Stamp>, IntakeError> {
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
            Ok(Some(Stamp::of(&stat)))
        }
        Ok(_) => Err(IntakeError::NotRegular { path: shown(path) }),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(IntakeError::io("look at", path, error)),
    }
}

/// Opens a regular file for reading. Not blocking, because a sender may have left a pipe there.
pub(super) fn open_regular(path: &Path) -> Result<(File, Stamp), IntakeError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(IntakeError::Vanished { path: shown(path) }),
        // A link, or a socket.
        Err(Errno::LOOP | Errno::NXIO) => return Err(IntakeError::NotRegular { path: shown(path) }),
        Err(error) => return Err(IntakeError::io("open", path, error)),
    };
    regular(file, path)
}

/// An open file, if it is a regular one.
pub(super) fn regular(file: File, path: &Path) -> Result<(File, Stamp), IntakeError> {
    let stat = rustix::fs::fstat(&file).map_err(|error| IntakeError::io("look at", path, error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(IntakeError::NotRegular { path: shown(path) });
    }
    Ok((file, Stamp::of(&stat)))
}

/// Creates a file that only the daemon reads, replacing a half one of an earlier try.
pub(super) fn create_private(path: &Path) -> Result<File, IntakeError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))
        .map(File::from)
        .map_err(|error| IntakeError::io("create", path, error))
}

/// Renames without ever replacing something.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            // NFS and some FUSE systems do not know the flag. The target's name holds a fresh ULID, so that looking
            // before renaming is enough.
            match rustix::fs::statat(CWD, to, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => Ok(rustix::fs::rename(from, to)?),
                Ok(_) => Err(Errno::EXIST.into()),
                Err(error) => Err(error.into()),
            }
        }
        other => Ok(other?),
    }
}

/// Removes a file; one that is not there is removed already. Whether it was there.
pub(super) fn unlink(path: &Path) -> Result<bool, IntakeError> {
    match rustix::fs::unlink(path) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(error) => Err(IntakeError::io("remove", path, error)),
    }
}

/// Flushes an open file.
pub(super) fn sync_file(file: &File, path: &Path) -> Result<(), IntakeError> {
    file.sync_all().map_err(|error| IntakeError::io("flush", path, error))
}

/// Flushes a folder, so that the names in it survive.
pub(super) fn sync_folder(path: &Path) -> Result<(), IntakeError> {
    let folder = open_folder(path)?;
    match rustix::fs::fsync(&folder) {
        // CIFS and some FUSE systems cannot flush a folder; there the server decides what survives.
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(IntakeError::io("flush", path, error)),
    }
}

/// Flushes folders; one that is gone meanwhile has no names to keep.
pub(super) fn sync_folders(paths: &BTreeSet<PathBuf>) -> Result<(), IntakeError> {
    for path in paths {
        match sync_folder(path) {
            Err(IntakeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// Flushes everything on the file system of this folder: cheaper than many files one by one.
pub(super) fn sync_disk_of(path: &Path) -> Result<(), IntakeError> {
    let folder = open_folder(path)?;
    rustix::fs::syncfs(&folder).map_err(|error| IntakeError::io("flush the disk of", path, error))
}

fn open_folder(path: &Path) -> Result<rustix::fd::OwnedFd, IntakeError> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| IntakeError::io("open the folder", path, error))
}

/// Makes a folder below an existing one, each new name flushed, so that a file in it cannot lose its way.
pub(super) fn make_folder(path: &Path, mode: u32) -> Result<(), IntakeError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folder(parent, mode)?;
    }
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(IntakeError::io("create the folder", path, error)),
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// The folder in which a path lies.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}
