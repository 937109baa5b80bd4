//! What can go wrong at the door, in words that say what to do next. Paths are made printable; nothing of a body is
//! ever in a message.

use crate::record::delivery::{DeliveryId, printable};
use crate::record::disk;
use crate::record::outcome::Actor;
use crate::sqlite::raw::SqlError;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Why the door refused or could not work.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// `spool.db` cannot be used.
    #[error("the spool database {path} cannot be used: {source}; {}", disk::mend_database(source.code.unsigned_abs()))]
    Database {
        /// Its path, printable.
        path: String,
        /// What SQLite said.
        source: SqlError,
    },
    /// `spool.db` has another layout.
    #[error(
        "the spool database {path} cannot be brought to this version's layout: {source}; \
             start the version that last ran here, or a newer one"
    )]
    Layout {
        /// Its path, printable.
        path: String,
        /// What was wrong.
        source: sqlx::migrate::MigrateError,
    },
    /// `spool.db` is gone, although it was there.
    #[error(
        "the spool database {path} is missing, but {originals} shows that it was there: with it went what was received and \
             not yet stored, and how far each source was read; put it back, or, where it is lost for good, make an empty \
             file {word} to say so"
    )]
    SpoolMissing {
        /// Its path, printable.
        path: String,
        /// The folder of originals, printable.
        originals: String,
        /// The file that says that it is lost, printable.
        word: String,
    },
    /// `spool.db` is gone, and what it described is not.
    #[error(
        "the spool database {path} is missing, but {folder} holds {bodies} received bodies that are not stored yet; \
             put it back from a backup, or move these files elsewhere and hand them in again with `cdrd import`"
    )]
    SpoolLost {
        /// Its path, printable.
        path: String,
        /// The folder of bodies, printable.
        folder: String,
        /// How many there are.
        bodies: usize,
    },
    /// `spool.db` holds something that this program never writes.
    #[error(
        "the spool database {path} holds an unreadable {what} for delivery {id}; restore it from a backup"
    )]
    Damaged {
        /// Its path, printable.
        path: String,
        /// Which column.
        what: &'static str,
        /// Of which delivery, printable.
        id: String,
    },
    /// A file or folder operation failed.
    #[error("cannot {action} {path}: {source}; {}", disk::mend(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what, printable.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The disk reserve would be touched.
    #[error(
        "no room: the disk of {path} must keep {reserve} bytes free and has {free}, the delivery needs {needed}; \
             free at least {missing} bytes, it is then received by itself"
    )]
    NoRoom {
        /// The state directory, printable.
        path: String,
        /// Bytes that stay free.
        reserve: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes that the delivery needs.
        needed: u64,
        /// Bytes to free.
        missing: u64,
    },
    /// The file cannot be renamed into the claim folder.
    #[error(
        "{path} cannot be moved into the claim folder: {source}; let the daemon write its folder, \
             or set keep = true so that it is copied"
    )]
    ClaimRefused {
        /// The file, printable.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A symbolic link, pipe, device, socket or folder.
    #[error("{path} is no regular file and is left alone; send the file itself")]
    NotRegular {
        /// The path, printable.
        path: String,
    },
    /// The file was gone before it could be taken.
    #[error("{path} vanished before it could be taken; nothing to do, unless nobody moved it")]
    Vanished {
        /// The path, printable.
        path: String,
    },
    /// The file was written while it was copied.
    #[error("{path} changed while it was copied; it is taken again when its writer is done")]
    ChangedWhileCopied {
        /// The path, printable.
        path: String,
    },
    /// Neither spool nor archive know the delivery.
    #[error(
        "delivery {id} is neither in the spool nor in the archive; `cdrd deliveries` lists the known ones"
    )]
    UnknownDelivery {
        /// The delivery.
        id: DeliveryId,
    },
    /// The original was dropped as the configuration says.
    #[error(
        "the original of delivery {id} was dropped on {} (keep.rejected_max, keep.rejected_days): nobody could read it; \
         let its sender send it again",
        at.strftime("%Y-%m-%d")
    )]
    OriginalDropped {
        /// The delivery.
        id: DeliveryId,
        /// When.
        at: jiff::Timestamp,
    },
    /// The durable copy was removed by somebody else.
    #[error("the body of delivery {id} is gone from {path}; put the file back there")]
    BodyGone {
        /// The delivery.
        id: DeliveryId,
        /// Where it was, printable.
        path: String,
    },
    /// An archived original does not read back.
    #[error("the archived original {path} is damaged: {what}; restore it from a backup")]
    DamagedOriginal {
        /// Its path, printable.
        path: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl IntakeError {
    /// Who must act.
    pub fn actor(&self) -> Actor {
        match self {
            Self::Database { source, .. } => database_actor(source),
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Actor::Broken,
                _ => Actor::Transient,
            },
            Self::NoRoom { .. }
            | Self::Vanished { .. }
            | Self::ChangedWhileCopied { .. }
            | Self::ClaimRefused { .. } => Actor::Transient,
            Self::NotRegular { .. } => Actor::Rejected,
            Self::Layout { .. }
            | Self::SpoolLost { .. }
            | Self::SpoolMissing { .. }
            | Self::Damaged { .. }
            | Self::UnknownDelivery { .. }
            | Self::OriginalDropped { .. }
            | Self::BodyGone { .. }
            | Self::DamagedOriginal { .. } => Actor::Broken,
        }
    }

    /// Whether somebody else holds `spool.db`: that passes by itself.
    pub const fn is_locked_out(&self) -> bool {
        // SQLITE_BUSY, SQLITE_LOCKED
        matches!(self, Self::Database { source, .. } if matches!(source.code & 0xff, 5 | 6))
    }

    /// Whether only the delivery in hand is at fault, so that others may go on.
    pub fn is_of_one(&self) -> bool {
        match self {
            Self::Io { source, .. } => !disk::refuses_all(source),
            Self::Damaged { .. }
            | Self::ClaimRefused { .. }
            | Self::NotRegular { .. }
            | Self::Vanished { .. }
            | Self::ChangedWhileCopied { .. }
            | Self::UnknownDelivery { .. }
            | Self::OriginalDropped { .. }
            | Self::BodyGone { .. }
            | Self::DamagedOriginal { .. } => true,
            Self::Database { .. }
            | Self::Layout { .. }
            | Self::SpoolLost { .. }
            | Self::SpoolMissing { .. }
            | Self::NoRoom { .. } => false,
        }
    }

    pub(super) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: shown(path), source: source.into() }
    }
}

/// A path as text for messages.
pub(super) fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

/// A busy, full or failing disk may get better; a malformed or foreign file will not.
const fn database_actor(error: &SqlError) -> Actor {
    if error.transient() { Actor::Transient } else { Actor::Broken }
}

/// What the driver said when it opened the file.
pub(super) fn of_sqlx(error: &sqlx::Error) -> SqlError {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let code = code.and_then(|code| code.parse().ok()).unwrap_or(0);
    SqlError { code, message: error.to_string(), rolled_back: true }
}

/// A layout that could not be brought up to date because the disk refused is the disk's fault.
pub(super) fn of_layout(path: &Path, source: sqlx::migrate::MigrateError) -> IntakeError {
    let path = shown(path);
    if let sqlx::migrate::MigrateError::Execute(error) = &source {
        let source = of_sqlx(error);
        if source.transient() {
            return IntakeError::Database { path, source };
        }
    }
    IntakeError::Layout { path, source }
}
