//! Reading what is stored, beside a daemon that writes. Must never change anything, nor wait for the writer.

mod again;

pub use again::{DeliveryWish, OpenRejection, RejectedDocument, RejectionWish};

use super::DeliveryStart;
use crate::dedup::Identified;
use crate::record::card::Card;
use crate::record::cdr::{Direction, Disposition};
use crate::record::delivery::DeliveryId;
use crate::record::document::{Dialect, RowKind};
use crate::record::outcome::Actor;
use crate::record::raw::RawRecord;
use jiff::Timestamp;
use std::ops::ControlFlow;

/// Read access. Calls block.
pub trait Query: Send + Sync {
    /// The rows of a person's own statement, one at a time, until `see` has enough. Gives the names of the columns.
    fn each(&self, sql: &str, see: &mut See<'_>) -> Result<Vec<String>, QueryError>;
    /// Legs, the latest first, with the public columns of table `cdr`.
    fn legs(&self, wish: &LegWish) -> Result<Table, QueryError>;
    /// Deliveries, the latest first, with those that wait at the door.
    fn deliveries(&self, limit: u32) -> Result<Table, QueryError>;
    /// Open rejections, counted by reason, format and source.
    fn rejected_groups(&self) -> Result<Table, QueryError>;
    /// Open rejections, the latest first.
    fn rejected(&self, wish: &RejectedWish) -> Result<Table, QueryError>;
    /// One rejection, open or not.
    fn rejection(&self, id: i64) -> Result<Option<RejectedRow>, QueryError>;
    /// Every version of a leg as it was received, the first stored first. Fails where `card` does not know the format.
    fn statements(&self, leg: i64, card: CardOf<'_>) -> Result<Vec<Statement>, QueryError>;
    /// The stored statement that says the very same as this record, if there is one.
    fn twin(&self, record: &Identified) -> Result<Option<Twin>, QueryError>;
    /// Documents some of whose calls started in this time, the first delivered first.
    fn documents(&self, since: Timestamp, until: Timestamp) -> Result<Vec<ReadDocument>, QueryError>;
    /// For each source and origin the documents whose calls span this instant (`covers`), the last that ends `before`
    /// it and the first that begins `after` it.
    fn coverage(&self, at: Timestamp) -> Result<Table, QueryError>;
    /// Deliveries that have ended, oldest first; for a repeated one the one it repeats.
    fn ended_deliveries(&self, wish: &DeliveryWish) -> Result<Vec<DeliveryId>, QueryError>;
    /// These deliveries and all whose statements may be hidden behind theirs, oldest first: none of them may be read
    /// again without the others.
    fn read_again(&self, chosen: &[DeliveryId]) -> Result<Vec<DeliveryStart>, QueryError>;
    /// Documents with open rejections, oldest first.
    fn rejected_documents(&self, wish: &RejectionWish) -> Result<Vec<RejectedDocument>, QueryError>;
    /// The origins that were ever started.
    fn origins(&self) -> Result<Vec<StoredOrigin>, QueryError>;
    /// Everything at a glance; deliveries are summed up from `since` on.
    fn overview(&self, since: DeliveryId) -> Result<Overview, QueryError>;
}

/// A row of table `origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOrigin {
    /// Name.
    pub name: String,
    /// IANA zone in which its rows were read: recorded at its first start, or when they were derived again.
    pub time_zone: String,
    /// Whether legs of it are stored.
    pub has_rows: bool,
    /// What is wrong with its zone or clock, as it was last noticed.
    pub clock_fault: Option<String>,
}

/// A layout of stored rows, as it was when the first of them was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLayout {
    /// Format.
    pub format: String,
    /// Row kind.
    pub kind: RowKind,
    /// Dialect.
    pub dialect: Dialect,
    /// Headers in document order.
    pub headers: Vec<String>,
    /// What identity was made of; empty where it was not noted.
    pub identity: String,
}

/// Takes the names of the columns and one row, and says whether it wants another.
pub type See<'s> = dyn FnMut(&[String], Vec<Value>) -> ControlFlow<()> + 's;

/// A value as the database holds it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are the database's storage classes")]
pub enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// Rows with the names of their columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Names.
    pub columns: Vec<String>,
    /// Rows, each as long as `columns`.
    pub rows: Vec<Vec<Value>>,
}

/// Which legs: all conditions hold together; none is `Default`, but for the limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LegWish {
    /// Started at or after.
    pub since: Option<Timestamp>,
    /// Started before.
    pub until: Option<Timestamp>,
    /// Row number, or the vendor's unique id.
    pub name: Option<String>,
    /// Caller or callee is one of these, as the columns `caller` and `callee` have them; found by their indexes.
    pub parties: Vec<String>,
    /// Some column that holds a number ends so. No index helps: bound the time.
    pub ending: Option<String>,
    /// Direction.
    pub direction: Option<Direction>,
    /// Outcome.
    pub disposition: Option<Disposition>,
    /// Origin.
    pub origin: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// Columns of `cdr` that hold numbers.
pub const NUMBER_COLUMNS: [&str; 9] = [
    "caller",
    "callee",
    "caller_number",
    "callee_number",
    "dialled_number",
    "did",
    "redirecting_number",
    "answered_by",
    "extension",
];

/// Which open rejections: all conditions hold together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RejectedWish {
    /// Reason code.
    pub reason: Option<String>,
    /// Format; empty for documents that no format claims.
    pub format: Option<String>,
    /// Source.
    pub source: Option<String>,
    /// A number whose [`super::digits::tail`] this is stands in the row. The column `verbatim` is given with it.
    pub tail: Option<String>,
    /// The calls of its document span some of this time, or nobody knows which they span.
    pub around: Option<(Timestamp, Timestamp)>,
    /// At most so many.
    pub limit: u32,
}

/// Finds the card of a format.
pub type CardOf<'c> = &'c dyn Fn(&str) -> Option<&'static Card>;

/// One version of a leg, as it was received.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of the tables cdr or version, document and delivery")]
pub struct Statement {
    pub version_hash: [u8; 16],
    pub origin: String,
    pub source: String,
    pub delivery: String,
    pub delivery_name: String,
    pub received_at: String,
    pub document: i64,
    pub document_number: i64,
    pub document_path: String,
    pub stored_at: String,
    /// The record, with its format and its exact place.
    pub raw: RawRecord,
}

/// Where a statement is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the view cdr_version, and id of table cdr")]
pub struct Twin {
    /// Row of `cdr`, where its leg has one.
    pub leg: Option<i64>,
    pub delivery: String,
    pub document: i64,
    pub row_number: i64,
}

/// A document that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the tables document, delivery and origin")]
pub struct ReadDocument {
    pub id: i64,
    pub delivery: String,
    pub delivery_name: String,
    pub source: String,
    pub origin: String,
    /// The origin's part of every identity.
    pub origin_key: String,
    pub number: u32,
    pub path: String,
    pub format: String,
    /// JSON.
    pub dialect: String,
}

/// A rejected row with its place.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of the tables rejected, document and delivery")]
pub struct RejectedRow {
    pub id: i64,
    pub delivery: String,
    pub delivery_name: String,
    pub source: String,
    pub origin: String,
    pub document_number: i64,
    pub document_path: String,
    pub format: Option<String>,
    pub row_number: i64,
    pub byte_offset: i64,
    pub byte_length: i64,
    pub field: Option<String>,
    pub reason: String,
    pub message: String,
    pub resolved_at: Option<String>,
    pub verbatim: Vec<u8>,
    pub layouts: Vec<KnownLayout>,
}

/// A layout of which rows are stored: it tells where in a rejected row of the same format a field stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLayout {
    /// Separator of a delimited document.
    pub separator: Option<char>,
    /// Headers in document order.
    pub headers: Vec<String>,
}

/// Everything at a glance.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overview {
    /// Rows of table `cdr`.
    pub legs: i64,
    /// Rejected rows and documents that nobody has dealt with.
    pub rejected_open: i64,
    /// The latest delivery, if there is one.
    pub last_delivery: Table,
    /// One row: how many deliveries, and the sums of their counts.
    pub recent: Table,
    /// One row: how many deliveries wait at the door, their bytes, and the oldest.
    pub waiting: Table,
    /// Deliveries that grow with the file that is followed, with their counts so far.
    pub growing: Table,
    /// Health of each source as it was last written.
    pub sources: Table,
}

/// Why nothing could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No database.
    #[error("there is no database yet at {0}; `cdrd run` or `cdrd import FILE` creates it")]
    Missing(String),
    /// It cannot be opened.
    #[error(
        "the database {path} cannot be opened: {cause}; check that this user may read it and its folder (members of \
         the group cdrd may)"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// SQLite's words.
        cause: String,
    },
    /// What is stored does not fit this version.
    #[error(
        "{0}; run the version of cdrd that stored it, or check the file with `sqlite3 FILE 'PRAGMA integrity_check'`"
    )]
    Unfit(String),
    /// What is half read cannot be read again.
    #[error(
        "delivery {0} is not read to its end; let `cdrd run` or `cdrd import` finish it first (one that follows a growing file \
         ends when that file is rotated)"
    )]
    Unfinished(String),
    /// A statement failed.
    #[error("the database refuses this: {cause}; {mend}")]
    Refused {
        /// SQLite's words.
        cause: String,
        /// What to do.
        mend: &'static str,
    },
}

impl QueryError {
    /// Who must act.
    pub const fn actor(&self) -> Actor {
        Actor::Broken
    }
}

impl Table {
    /// The value of a column by its name.
    pub fn value<'t>(&self, row: &'t [Value], column: &str) -> &'t Value {
        let place = self.columns.iter().position(|name| name == column);
        place.and_then(|place| row.get(place)).unwrap_or(&Value::Null)
    }
}

impl Value {
    /// A number, 0 where there is none.
    pub const fn integer(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            _ => 0,
        }
    }

    /// Text, empty where there is none.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }
}
