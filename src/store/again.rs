//! What reading something again hands to a store, and what it gives back.

use super::ChunkRow;
use super::query::Value;
use serde::{Deserialize, Serialize};

/// Open rejections of one document and what their rows are now.
#[derive(Debug)]
pub struct Retry {
    /// The document; it must have ended.
    pub document: i64,
    /// Number of the rejection and the row as it reads now. One that is still rejected keeps its number and says why in
    /// today's words.
    pub rows: Vec<(i64, ChunkRow)>,
}

/// What a switch changed in table `cdr`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Switched {
    /// Rows that were not there before.
    pub added: u64,
    /// Rows that say something else.
    pub changed: u64,
    /// Rows that are no longer there.
    pub removed: u64,
    /// Names of the columns that are told.
    pub columns: Vec<String>,
    /// The first of them: removed, changed, added.
    pub rows: Vec<RowChange>,
}

/// One row before and after; `None` where it is not there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowChange {
    /// As it was.
    pub before: Option<Vec<Value>>,
    /// As it is.
    pub after: Option<Vec<Value>>,
}
