//! How a row or document ended: counts that add up, and reasons that never change their name.

use super::delivery::DeliveryId;
use super::raw::Position;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why a document or row was rejected. The codes are public and never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No format claims the document.
    FormatUnknown,
    /// Two formats claim it with equal certainty.
    FormatAmbiguous,
    /// Dates may be day or month first, and nothing in the head decides it.
    DateOrderUnknown,
    /// The columns lack what identity needs.
    ColumnsUnusable,
    /// The archive is encrypted.
    ArchiveEncrypted,
    /// The archive cannot be read.
    ArchiveBroken,
    /// An archive of a kind that is not opened.
    ArchiveUnsupported,
    /// Archives inside archives beyond the limit.
    ArchiveTooDeep,
    /// More entries than the limit.
    ArchiveTooManyEntries,
    /// More unpacked bytes than the limit, or more than the compressed size makes believable.
    ArchiveTooLarge,
    /// The document's syntax breaks off; rows before it are stored.
    SyntaxBroken,
    /// The row has another number of columns than its layout.
    ColumnsMismatch,
    /// A quoted field never ends.
    QuoteUnbalanced,
    /// The row is longer than the cap.
    RecordTooLong,
    /// No start time.
    StartMissing,
    /// The start is no time or an impossible one.
    StartInvalid,
    /// The row has no content that a leg could have.
    RowEmpty,
    /// The row is no event of a leg that its format knows.
    EventUnknown,
}

impl Reason {
    /// All reasons.
    pub const ALL: &'static [Self] = &[
        Self::FormatUnknown,
        Self::FormatAmbiguous,
        Self::DateOrderUnknown,
        Self::ColumnsUnusable,
        Self::ArchiveEncrypted,
        Self::ArchiveBroken,
        Self::ArchiveUnsupported,
        Self::ArchiveTooDeep,
        Self::ArchiveTooManyEntries,
        Self::ArchiveTooLarge,
        Self::SyntaxBroken,
        Self::ColumnsMismatch,
        Self::QuoteUnbalanced,
        Self::RecordTooLong,
        Self::StartMissing,
        Self::StartInvalid,
        Self::RowEmpty,
        Self::EventUnknown,
    ];

    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::FormatUnknown => "format_unknown",
            Self::FormatAmbiguous => "format_ambiguous",
            Self::DateOrderUnknown => "date_order_unknown",
            Self::ColumnsUnusable => "columns_unusable",
            Self::ArchiveEncrypted => "archive_encrypted",
            Self::ArchiveBroken => "archive_broken",
            Self::ArchiveUnsupported => "archive_unsupported",
            Self::ArchiveTooDeep => "archive_too_deep",
            Self::ArchiveTooManyEntries => "archive_too_many_entries",
            Self::ArchiveTooLarge => "archive_too_large",
            Self::SyntaxBroken => "syntax_broken",
            Self::ColumnsMismatch => "columns_mismatch",
            Self::QuoteUnbalanced => "quote_unbalanced",
            Self::RecordTooLong => "record_too_long",
            Self::StartMissing => "start_missing",
            Self::StartInvalid => "start_invalid",
            Self::RowEmpty => "row_empty",
            Self::EventUnknown => "event_unknown",
        }
    }
}

/// A row (or, with row 0, a document) that could not be stored, kept for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Where.
    pub position: Position,
    /// The source header of the offending field.
    pub field: Option<String>,
    /// Stable reason.
    pub reason: Reason,
    /// What is wrong and what to do, in words; no phone numbers or names.
    pub message: String,
    /// The row as sent, cut at [`VERBATIM_CAP`].
    pub verbatim: Vec<u8>,
}

/// What stands in a message between what a person can act on and what each format of the program says.
pub const WHAT_OTHERS_SAY: &str = ". What each format of the program says: ";

/// A message as far as a person can act on it, for a line among others.
pub fn brief(message: &str) -> &str {
    message.split_once(WHAT_OTHERS_SAY).map_or(message, |(brief, _)| brief)
}

/// Bytes of a rejected row that are kept.
pub const VERBATIM_CAP: usize = 64 * 1024;

/// Why a row is no call. Only for what a format's card says are no calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// A title line before the header.
    Title,
    /// The header once more.
    RepeatedHeader,
    /// A summary whose call has legs.
    Summary,
    /// An empty line or object.
    Blank,
    /// A row that the configuration of its format says is no call.
    NoCall,
    /// The copy of a call that its recorder takes.
    Recorder,
    /// A report on the voice quality of a call; it stays in the original.
    Quality,
    /// An announcement of the system that writes the file: types of columns, beginning or end of a file.
    Mark,
}

/// Where the rows of a run of a document ended. They add up: see [`Counts::adds_up`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Rows read.
    pub rows_read: u64,
    /// Rows that added a leg.
    pub stored: u64,
    /// Rows already known, or that say nothing new.
    pub duplicate: u64,
    /// Rows that said something new about a known leg.
    pub amended: u64,
    /// Rows kept for a person.
    pub rejected: u64,
    /// Rows that are no calls.
    pub skipped: u64,
    /// Parts that wait for their other half.
    pub held: u64,
}

impl Counts {
    /// The third promise: every row read ended in exactly one outcome.
    pub const fn adds_up(&self) -> bool {
        self.rows_read
            == self.stored + self.duplicate + self.amended + self.rejected + self.skipped + self.held
    }
}

/// `5: 4 stored, 1 rejected`; outcomes that did not happen are not named.
impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.rows_read)?;
        let outcomes = [
            ("stored", self.stored),
            ("duplicate", self.duplicate),
            ("amended", self.amended),
            ("rejected", self.rejected),
            ("skipped", self.skipped),
            ("held", self.held),
        ];
        let happened = outcomes.iter().filter(|(_, rows)| *rows > 0);
        for (place, (outcome, rows)) in happened.enumerate() {
            write!(f, "{} {rows} {outcome}", if place == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.rows_read += other.rows_read;
        self.stored += other.stored;
        self.duplicate += other.duplicate;
        self.amended += other.amended;
        self.rejected += other.rejected;
        self.skipped += other.skipped;
        self.held += other.held;
    }
}

/// How a delivery ended, for the source that wants to tell its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryOutcome {
    /// Delivery.
    pub delivery: DeliveryId,
    /// Source that received it.
    pub source: String,
    /// Account within the source, where it has accounts.
    pub account: Option<String>,
    /// Name as sent, printable.
    pub name: String,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// `delivery.state`: done, done_with_rejects, rejected, repeated, empty.
    pub state: String,
    /// Outcomes of its rows.
    pub counts: Counts,
    /// Documents that were rejected whole.
    pub rejected_documents: u64,
    /// The first [`NOTED`] rejections that are open.
    pub rejections: Vec<RejectionNote>,
}

impl Verdict {
    /// Whether nothing of it was rejected.
    pub const fn is_clean(&self) -> bool {
        self.counts.rejected == 0 && self.rejected_documents == 0
    }
}

/// Rejections of a delivery that its sender is told: enough to see what is wrong with a file.
pub const NOTED: usize = 20;

/// What a sender needs to find a row that was rejected. Never its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectionNote {
    /// Path of the document inside the delivery; empty where the delivery is the document.
    pub document: String,
    /// Row; 0 for the document as a whole.
    pub row: u64,
    /// Where the row begins in the document's unpacked bytes.
    pub offset: u64,
    /// Bytes of the row.
    pub length: u64,
    /// The source header of the offending field.
    pub field: Option<String>,
    /// Stable code of the reason.
    pub reason: String,
    /// What is wrong and what to do, in words; no phone numbers or names.
    pub message: String,
}

/// What came of one source's deliveries since the process started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceTally {
    /// Source.
    pub source: String,
    /// Outcomes of rows.
    pub counts: Counts,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Deliveries by the state in which they ended.
    pub ended: std::collections::BTreeMap<&'static str, u64>,
    /// Deliveries that wait for a person now.
    pub stuck: u64,
}

/// Who must act on an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// Nobody: the daemon tries again.
    Transient,
    /// The sender or a format author: stored, visible, retriable.
    Rejected,
    /// The operator: loud, health red.
    Broken,
}
