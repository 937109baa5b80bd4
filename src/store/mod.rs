//! Keeps legs. A store commits chunks of a document behind a fence and counts them in the same transaction; a query
//! only reads. Which rows a group has is decided by `dedup` alone, so that every store ends in the same table.
//!
//! Must never know a format, a source or the spool.

mod again;
pub mod digits;
pub mod lane;
pub mod query;
pub mod sqlite;

#[cfg(test)]
pub mod conformance;

pub use again::{Retry, RowChange, Switched};

use crate::dedup::Identified;
use crate::record::delivery::DeliveryId;
use crate::record::document::Dialect;
use crate::record::outcome::{Actor, Counts, Rejection, RejectionNote, Skip};
use jiff::Timestamp;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

/// What writing needs. Calls block; each runs on the store's one writer.
pub trait Commit: Send + Sync {
    /// The origin's key, fixed when it first stores something, and the zone recorded for it then. Renames the origin
    /// that was `formerly` called otherwise, with its rows.
    fn origin(&self, origin: &OriginStart) -> Result<OriginRow, StoreError>;
    /// Notes a delivery at claim; again after a restart changes nothing. Tells whether the earlier delivery that it
    /// repeats ended well in this store, so that it need not be read. Not durable by itself: a document of a delivery
    /// that was not noted after all is refused.
    fn start_delivery(&self, delivery: &DeliveryStart, repeat_of: Option<DeliveryId>) -> Pending<bool>;
    /// Upserts a document with this process's claim and tells where its last run stands.
    fn open_document(&self, document: &DocumentStart) -> Result<Opened, StoreError>;
    /// Takes up the document of a delivery that grows, if it was opened before. Rows that no id tells apart are counted
    /// on from the delivery that it continues.
    fn open_growing(
        &self,
        delivery: DeliveryId,
        claim: &str,
        continues: Option<DeliveryId>,
    ) -> Result<Option<OpenedGrowing>, StoreError>;
    /// How often rows that no id tells apart were seen in the last two days of the stream that a document belongs to.
    fn copies(&self, document: i64) -> Result<Vec<([u8; 16], u32)>, StoreError>;
    /// How often they had been seen when a delivery that grew began, so that reading it again counts the same. None of
    /// any other delivery.
    fn copies_before(&self, delivery: DeliveryId) -> Result<Vec<([u8; 16], u32)>, StoreError>;
    /// Begins a new run of a document from row 1 (its file changed after it was claimed).
    fn restart_document(&self, document: i64, claim: &str) -> Result<Opened, StoreError>;
    /// Hands a chunk to the writer. Chunks of several documents may share a transaction; the answer comes after its
    /// commit.
    fn commit(&self, chunk: Chunk) -> Pending;
    /// Notes how a delivery ended; its counts are the sums over the latest runs of its documents. Refused while one of
    /// them is being read, so that it may be asked for before the answers to its last chunks have come.
    fn finish_delivery(&self, id: DeliveryId, end: &DeliveryEnd) -> Pending<DeliverySummary>;
    /// Notes what is wrong with an origin's zone or clock, or with an empty text that nothing is; `true` when that was
    /// not noted before.
    fn clock_fault(&self, origin: &str, fault: &str) -> Result<bool, StoreError>;
    /// Derives every row of an origin again in place (its zone, country or tenant was corrected) and records the zone
    /// as the one they are read in. Gives the rows that changed; takes all of it back when `stop` is set meanwhile.
    fn rederive(&self, origin: &str, time_zone: &str, stop: &AtomicBool) -> Result<u64, StoreError>;
    /// Begins a switch: until it ends nothing that is done can be seen, and a crash takes all of it back. Withdraws what
    /// these deliveries state; each of their documents begins a new run when it is opened. Gives up and leaves all as it
    /// was when `stop` is set while it withdraws.
    fn begin_switch(&self, withdrawn: &[DeliveryId], stop: &AtomicBool) -> Result<(), StoreError>;
    /// Ends the switch, all of it becoming visible and durable at once, or takes it back. Tells what it changed, with
    /// at most `rows` rows of each kind.
    fn end_switch(&self, keep: bool, rows: u32) -> Result<Switched, StoreError>;
    /// Gives open rejections of a document that has ended another outcome. Each passes once: who resolved it first.
    fn retry(&self, retry: Retry) -> Result<Committed, StoreError>;
}

/// An origin as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OriginStart {
    /// Name.
    pub name: String,
    /// Tenant, written to its rows from now on.
    pub tenant: Option<String>,
    /// IANA zone to record if this is its first start.
    pub time_zone: String,
    /// Its name before it was renamed.
    pub formerly: Option<String>,
}

/// An origin as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginRow {
    /// The origin's part of every identity.
    pub key: String,
    /// IANA zone recorded at first start (it matters for `time_zone = "auto"`).
    pub time_zone: String,
}

/// A delivery as it was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of table delivery")]
pub struct DeliveryStart {
    pub id: DeliveryId,
    pub source: String,
    pub account: Option<String>,
    pub origin: String,
    pub name: String,
    pub peer: Option<String>,
    pub content_hash: Option<[u8; 32]>,
    pub bytes: u64,
    pub received_at: Timestamp,
    pub pinned_format: Option<String>,
    pub time_zone: Option<String>,
}

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryEnd {
    /// State, where it does not follow from the documents (`Repeated`).
    pub state: Option<DeliveryState>,
    /// Hash of the body.
    pub content_hash: Option<[u8; 32]>,
    /// Bytes of the body as finally read (a file may have grown after its claim).
    pub bytes: u64,
}

/// What a delivery came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySummary {
    /// State as given, else: `Rejected` when every document was rejected whole, `DoneWithRejects` when a document or
    /// row was, `Repeated` when every document was seen before, `Empty` when there was no row at all, `Done`.
    pub state: DeliveryState,
    /// Sums over the latest runs of its documents.
    pub counts: Counts,
    /// Documents that were rejected whole.
    pub rejected_documents: u64,
    /// The first of its open rejections, where there are any.
    pub rejections: Vec<RejectionNote>,
}

/// States of a delivery that the store writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the public words")]
pub enum DeliveryState {
    Reading,
    Growing,
    Done,
    DoneWithRejects,
    Rejected,
    Repeated,
    Empty,
}

impl DeliveryState {
    /// All states.
    pub const ALL: [Self; 7] = [
        Self::Reading,
        Self::Growing,
        Self::Done,
        Self::DoneWithRejects,
        Self::Rejected,
        Self::Repeated,
        Self::Empty,
    ];

    /// The word in the table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Growing => "growing",
            Self::Done => "done",
            Self::DoneWithRejects => "done_with_rejects",
            Self::Rejected => "rejected",
            Self::Repeated => "repeated",
            Self::Empty => "empty",
        }
    }
}

/// A document that is about to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentStart {
    /// Its delivery.
    pub delivery: DeliveryId,
    /// Number within the delivery, from 1, in envelope order.
    pub number: u32,
    /// Printable path inside the envelope; empty for a plain body.
    pub path: String,
    /// Format; `None` for a document that nobody claims.
    pub format: Option<String>,
    /// Dialect as fixed from the head.
    pub dialect: Option<Dialect>,
    /// ULID of this process's start: an older process's chunks no longer pass the fence.
    pub claim: String,
    /// The same bytes as an earlier document's: if that one ended well in this store and nothing of this one is
    /// committed, it is noted as repeated, and done.
    pub repeat: Option<Repeat>,
}

/// An earlier delivery in which a document was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// The earlier delivery.
    pub of: DeliveryId,
    /// BLAKE3 of the document's unpacked bytes.
    pub content_hash: [u8; 32],
}

/// Where a document stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Its row id.
    pub document: i64,
    /// Run, from 1.
    pub run: u32,
    /// The next row to commit; rows below are discarded. 1 for a fresh document.
    pub next_row: u64,
    /// The run ended; nothing is left to do but retire.
    pub done: bool,
}

/// A document that grows, as far as it is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedGrowing {
    /// Where it stands.
    pub opened: Opened,
    /// Format and dialect as fixed from its first bytes; `None` where nobody claimed it.
    pub read_as: Option<(String, Dialect)>,
    /// Offset at which the row before `next_row` begins.
    pub resume_offset: u64,
}

/// What a chunk of a document that grows moves on beside its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grown {
    /// Offset at which the chunk's last row begins.
    pub resume_offset: u64,
    /// Counts of the rows in it that no id tells apart.
    pub copies: Vec<([u8; 16], u32)>,
}

/// Rows of one document, in row order, that commit together.
#[derive(Debug)]
pub struct Chunk {
    /// Document.
    pub document: i64,
    /// The process's claim.
    pub claim: String,
    /// `next_row` as the committer believes it to be.
    pub from_row: u64,
    /// `next_row` after this chunk.
    pub next_row: u64,
    /// The rows.
    pub rows: Vec<ChunkRow>,
    /// Set on the last chunk of the run.
    pub end: Option<DocumentEnd>,
    /// Set where the document grows.
    pub grown: Option<Grown>,
}

/// One row of a chunk.
#[derive(Debug)]
pub enum ChunkRow {
    /// A leg.
    Leg(Box<Identified>),
    /// No call.
    Skipped(Skip),
    /// Kept for a person. Row 0 is the document itself and counts as no row.
    Rejected(Box<Rejection>),
}

/// How a run of a document ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DocumentEnd {
    /// The document as a whole was rejected.
    pub rejected: bool,
    /// BLAKE3 of the unpacked bytes.
    pub content_hash: Option<[u8; 32]>,
}

/// What a committed chunk did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Committed {
    /// Outcomes of its rows; they add up.
    pub counts: Counts,
    /// Rows of `cdr` added.
    pub legs_added: u64,
    /// Rows of `cdr` withdrawn.
    pub legs_withdrawn: u64,
}

/// The answer to something that is on its way. As long as nobody waits for it, more work may join its transaction.
pub struct Pending<T = Committed> {
    answer: Receiver<Result<T, StoreError>>,
    hurry: Box<dyn FnOnce() + Send>,
}

impl<T> Pending<T> {
    /// An answer that will come through this channel; `hurry` says that somebody waits for it.
    pub fn new(answer: Receiver<Result<T, StoreError>>, hurry: impl FnOnce() + Send + 'static) -> Self {
        Self { answer, hurry: Box::new(hurry) }
    }

    /// Waits until its transaction committed or failed.
    pub fn wait(self) -> Result<T, StoreError> {
        match self.answer.try_recv() {
            Ok(answer) => answer,
            Err(TryRecvError::Disconnected) => Err(StoreError::WriterGone),
            Err(TryRecvError::Empty) => {
                let _waiting = crate::pulse::waiting();
                (self.hurry)();
                self.answer.recv().unwrap_or(Err(StoreError::WriterGone))
            }
        }
    }
}

impl<T> Pending<T> {
    /// Waits as [`Pending::wait`] does, and does something again and again meanwhile.
    pub fn wait_while(self, mut meanwhile: impl FnMut()) -> Result<T, StoreError> {
        let _waiting = crate::pulse::waiting();
        (self.hurry)();
        loop {
            match self.answer.recv_timeout(Duration::from_millis(50)) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => return Err(StoreError::WriterGone),
                Err(RecvTimeoutError::Timeout) => meanwhile(),
            }
        }
    }
}

impl<T> std::fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

/// Why the store did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another run or process moved the document on; the chunk was dropped whole.
    #[error("the document was taken over by another run; this chunk was dropped and nothing of it stored")]
    FenceLost,
    /// Busy, disk full, I/O error: it will be tried again.
    #[error("the database {path} cannot be written now: {cause}; {mend}")]
    Transient {
        /// The database file.
        path: String,
        /// SQLite's words.
        cause: String,
        /// What helps.
        mend: &'static str,
    },
    /// The database is damaged, of another version, or refuses a statement for good.
    #[error(
        "the database {path} refuses a statement: {cause}; stop cdrd, check the file (`sqlite3 FILE 'PRAGMA integrity_check'`) and restore it from a backup if it is damaged"
    )]
    Broken {
        /// The database file.
        path: String,
        /// SQLite's words.
        cause: String,
    },
    /// The path leads to another file, or to none.
    #[error(
        "the database {path} was moved, replaced or unmounted while cdrd runs: nothing is written into the old file any more; \
         put it back with its -wal (it then goes on by itself), or restart cdrd to go on with what is there now"
    )]
    Moved {
        /// The database file.
        path: String,
    },
    /// The writer thread ended.
    #[error("the store's writer has ended; restart cdrd and look for its last message")]
    WriterGone,
    /// The switch was taken back before this.
    #[error("something failed before this and everything since was taken back; nothing of it is stored")]
    SwitchLost,
    /// Whoever asked for it does not want it any more.
    #[error("stopped; nothing was changed")]
    Stopped,
    /// The origin cannot be used.
    #[error("{0}")]
    Origin(String),
}

impl StoreError {
    /// Who must act.
    pub const fn actor(&self) -> Actor {
        match self {
            Self::FenceLost | Self::SwitchLost | Self::Stopped | Self::Transient { .. } => Actor::Transient,
            Self::Broken { .. } | Self::Moved { .. } | Self::WriterGone | Self::Origin(_) => Actor::Broken,
        }
    }
}
