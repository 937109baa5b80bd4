//! Bytes that ended well before, under the same configuration: they need not be read again. The door asks for whole
//! bodies, the pipeline for documents in them.
//!
//! Decides only what may be left unread; that nothing is counted twice is decided by the store's unique index.

use super::spool::moment;
use super::{Intake, IntakeError};
use crate::record::delivery::{DeliveryId, Spooled};
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

/// Bytes that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub hash: [u8; 32],
    pub bytes: u64,
    /// A body; otherwise a document of one.
    pub whole: bool,
}

impl Intake {
    /// The earlier delivery in which these bytes, a document of this one, ended well under the same reading: alone or
    /// in an archive.
    pub fn document_seen(
        &self,
        spooled: &Spooled,
        content_hash: &[u8; 32],
    ) -> Result<Option<DeliveryId>, IntakeError> {
        let found: Option<String> = self.block_on(async {
            let mut connection = self.0.pool.acquire().await?;
            earlier(&mut connection, key_of(spooled), content_hash, false).await
        })?;
        // An id that cannot be read only costs reading the document.
        Ok(found.and_then(|id| id.parse().ok()))
    }

    /// Whether a document of this size, or of unknown size, may have been seen from where this delivery came, so that
    /// hashing it before it is read can tell something.
    pub fn may_be_seen(&self, spooled: &Spooled, bytes: Option<u64>) -> Result<bool, IntakeError> {
        self.block_on(async {
            let mut connection = self.0.pool.acquire().await?;
            match bytes {
                Some(bytes) => size_known(&mut connection, bytes).await,
                None => anything_known(&mut connection, key_of(spooled)).await,
            }
        })
    }

    /// Forgets that these deliveries ended well: they are read again, perhaps otherwise.
    pub fn forget_seen(&self, deliveries: &[DeliveryId]) -> Result<(), IntakeError> {
        let ids: Vec<String> = deliveries.iter().map(|id| format!("\"{id}\"")).collect();
        self.block_on(async {
            sqlx::query("DELETE FROM seen WHERE delivery_id IN (SELECT value FROM json_each(?))")
                .bind(format!("[{}]", ids.join(",")))
                .execute(&self.0.pool)
                .await
        })?;
        Ok(())
    }

    /// Notes that these were read again and ended well, with hash and size of each document of an archive: equal bytes
    /// need not be read.
    pub fn note_seen<'s>(
        &self,
        ended: impl Iterator<Item = (&'s Spooled, &'s [([u8; 32], u64)])>,
    ) -> Result<(), IntakeError> {
        self.block_on(async {
            let mut transaction = self.0.pool.begin_with("BEGIN IMMEDIATE").await?;
            for (spooled, documents) in ended {
                let document = |&(hash, bytes): &_| Ended { hash, bytes, whole: false };
                let body = spooled.content_hash.map(|hash| Ended { hash, bytes: spooled.bytes, whole: true });
                for ended in documents.iter().map(document).chain(body) {
                    note(&mut transaction, key_of(spooled), ended, spooled.id, Timestamp::now()).await?;
                }
            }
            transaction.commit().await
        })
    }
}

fn key_of(spooled: &Spooled) -> Key<'_> {
    Key {
        origin: &spooled.origin,
        source: &spooled.source,
        account: spooled.account.as_deref(),
        pinned_format: spooled.pinned_format.as_deref(),
        reading: &spooled.reading,
    }
}

/// The earlier delivery of these bytes, if it ended without a rejection under the same reading.
pub(super) async fn earlier(
    connection: &mut SqliteConnection,
    key: Key<'_>,
    content_hash: &[u8; 32],
    whole: bool,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT delivery_id FROM seen WHERE origin = ? AND source = ? AND account = ? AND pinned_format = ?
         AND content_hash = ? AND reading = ? AND whole >= ?",
    )
    .bind(key.origin)
    .bind(key.source)
    .bind(key.account.unwrap_or_default())
    .bind(key.pinned_format.unwrap_or_default())
    .bind(content_hash.as_slice())
    .bind(key.reading)
    .bind(whole)
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

/// Whether anything was seen from there.
async fn anything_known(connection: &mut SqliteConnection, key: Key<'_>) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM seen WHERE origin = ? AND source = ?)")
        .bind(key.origin)
        .bind(key.source)
        .fetch_one(connection)
        .await
}

/// Notes that these bytes ended well.
pub(super) async fn note(
    connection: &mut SqliteConnection,
    key: Key<'_>,
    ended: Ended,
    id: DeliveryId,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO seen (origin, source, account, pinned_format, content_hash, bytes, reading, delivery_id, seen_at,
             whole)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET reading = excluded.reading, delivery_id = excluded.delivery_id,
             seen_at = excluded.seen_at, whole = excluded.whole",
    )
    .bind(key.origin)
    .bind(key.source)
    .bind(key.account.unwrap_or_default())
    .bind(key.pinned_format.unwrap_or_default())
    .bind(ended.hash.as_slice())
    .bind(ended.bytes.cast_signed())
    .bind(key.reading)
    .bind(id.to_string())
    .bind(moment(at))
    .bind(ended.whole)
    .execute(connection)
    .await?;
    Ok(())
}
