//! Why a request is not done, as the sender is told.

use crate::intake::IntakeError;
use russh_sftp::protocol::StatusCode;

/// Why a request is not done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub code: StatusCode,
    /// What is wrong and what to do; nothing of other accounts, and no path of this host.
    pub message: String,
}

pub(super) type Refused<T> = Result<T, Refusal>;

impl Refusal {
    pub fn new(code: StatusCode, message: &str) -> Self {
        Self { code, message: message.to_owned() }
    }

    pub fn failure(message: &str) -> Self {
        Self::new(StatusCode::Failure, message)
    }

    pub fn missing() -> Self {
        Self::new(StatusCode::NoSuchFile, "there is no such file or folder")
    }

    pub fn denied(message: &str) -> Self {
        Self::new(StatusCode::PermissionDenied, message)
    }

    pub fn unsupported(message: &str) -> Self {
        Self::new(StatusCode::OpUnsupported, message)
    }

    /// The door is shut. What is wrong with this host is the operator's to know, not the sender's.
    pub fn of_door(error: &IntakeError) -> Self {
        match error {
            IntakeError::NoRoom { .. } => {
                Self::failure("no room: the disk is full; nothing was received, send it again later")
            }
            IntakeError::UnknownDelivery { .. }
            | IntakeError::OriginalDropped { .. }
            | IntakeError::BodyGone { .. } => Self::missing(),
            _ => Self::failure("it cannot be received now; nothing was received, send it again later"),
        }
    }
}
