//! What a person chooses to have read again.

use crate::record::delivery::DeliveryId;
use crate::record::document::Dialect;
use crate::store::DeliveryStart;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Which deliveries; each part that is given must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeliveryWish {
    /// One of these, unless there is none.
    pub ids: Vec<DeliveryId>,
    /// By this source.
    pub source: Option<String>,
    /// Of this origin.
    pub origin: Option<String>,
    /// Received at or after.
    pub since: Option<Timestamp>,
    /// Received before.
    pub until: Option<Timestamp>,
}

/// Which open rejections; each part that is given must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RejectionWish {
    /// One of these, unless there is none.
    pub ids: Vec<i64>,
    /// For this reason.
    pub reason: Option<String>,
    /// By this source.
    pub source: Option<String>,
    /// Read in this format.
    pub format: Option<String>,
}

/// A document with open rejections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedDocument {
    /// Its delivery.
    pub delivery: DeliveryStart,
    /// Row id.
    pub document: i64,
    /// Number within the delivery.
    pub number: u32,
    /// Format in which it was read.
    pub format: Option<String>,
    /// Dialect in which it was read.
    pub dialect: Option<Dialect>,
    /// Rows that were read.
    pub rows_read: u64,
    /// All its open rejections, in row order; row 0 is the document as a whole and stands alone.
    pub rejections: Vec<OpenRejection>,
}

/// A rejection that nobody has dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRejection {
    /// Number.
    pub id: i64,
    /// Row, from 1.
    pub row: u64,
    /// Where the row begins.
    pub offset: u64,
    /// It fits the wish.
    pub chosen: bool,
}
