//! Bytes that ended well before, under the same configuration: they need not be read again.
//!
//! Decides only what may be left unread; that nothing is counted twice is decided by the store's unique index.

use super::spool::moment;
use crate::record::delivery::DeliveryId;
use jiff::Timestamp;
use sqlx::SqliteConnection;

/// Where a delivery came from and how it is read: what must be equal beside the bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    pub origin: &'a str,
    pub source: &'a str,
    pub account: Option<&'a str>,
    pub pinned_format: Option<&'a str>,
    pub reading: &'a [u8],
}

/// The earlier delivery of these bytes, if it ended without a rejection under the same reading.
pub(super) async fn earlier(
    connection: &mut SqliteConnection,
    key: Key<'_>,
    content_hash: &[u8; 32],
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT delivery_id FROM seen WHERE origin = ? AND source = ? AND account = ? AND pinned_format = ?
         AND content_hash = ? AND reading = ?",
    )
    .bind(key.origin)
    .bind(key.source)
    .bind(key.account.unwrap_or_default())
    .bind(key.pinned_format.unwrap_or_default())
    .bind(content_hash.as_slice())
    .bind(key.reading)
    .fetch_optional(connection)
    .await
}

/// Whether any body of this size was seen, so that hashing a file can tell something.
pub(super) async fn size_known(connection: &mut SqliteConnection, bytes: u64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM seen WHERE bytes = ?)")
        .bind(bytes.cast_signed())
        .fetch_one(connection)
        .await
}

/// Notes that these bytes ended well.
pub(super) async fn note(
    connection: &mut SqliteConnection,
    key: Key<'_>,
    content_hash: &[u8; 32],
    bytes: u64,
    id: DeliveryId,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO seen (origin, source, account, pinned_format, content_hash, bytes, reading, delivery_id, seen_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET reading = excluded.reading, delivery_id = excluded.delivery_id,
             seen_at = excluded.seen_at",
    )
    .bind(key.origin)
    .bind(key.source)
    .bind(key.account.unwrap_or_default())
    .bind(key.pinned_format.unwrap_or_default())
    .bind(content_hash.as_slice())
    .bind(bytes.cast_signed())
    .bind(key.reading)
    .bind(id.to_string())
    .bind(moment(at))
    .execute(connection)
    .await?;
    Ok(())
}
