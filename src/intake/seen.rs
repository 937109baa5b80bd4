//! Bytes that ended well before, under the same configuration: they need not be read again. The door asks for whole
//! bodies, the pipeline for documents in them.
//!
//! Decides only what may be left unread; that nothing is counted twice is decided by the store's unique index.

use super::spool::moment;
use super::{Intake, IntakeError};
use crate::record::delivery::{DeliveryId, Spooled};
use crate::sqlite::Prepared;
use crate::sqlite::raw::{SqlError, Value};
use jiff::Timestamp;

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
        let (owned, content_hash) = (Owned::of(spooled), *content_hash);
        let found = self.read(move |db| earlier(db, owned.key(), &content_hash, false))?;
        // An id that cannot be read only costs reading the document.
        Ok(found.and_then(|id| id.parse().ok()))
    }

    /// Whether a document of this size, or of unknown size, may have been seen from where this delivery came, so that
    /// hashing it before it is read can tell something.
    pub fn may_be_seen(&self, spooled: &Spooled, bytes: Option<u64>) -> Result<bool, IntakeError> {
        if let Some(bytes) = bytes {
            return self.read(move |db| size_known(db, bytes));
        }
        let owned = Owned::of(spooled);
        self.read(move |db| anything_known(db, owned.key()))
    }

    /// Forgets that these deliveries ended well: they are read again, perhaps otherwise.
    pub fn forget_seen(&self, deliveries: &[DeliveryId]) -> Result<(), IntakeError> {
        let ids = super::spool::list(deliveries.iter().map(DeliveryId::to_string));
        self.write(move |db| {
            db.run(
                "DELETE FROM seen WHERE delivery_id IN (SELECT value FROM json_each(?))",
                &[Value::Text(&ids)],
            )
        })?;
        Ok(())
    }

    /// Notes that these were read again and ended well, with hash and size of each document of an archive: equal bytes
    /// need not be read.
    pub fn note_seen<'s>(
        &self,
        ended: impl Iterator<Item = (&'s Spooled, &'s [([u8; 32], u64)])>,
    ) -> Result<(), IntakeError> {
        let ended: Vec<_> = ended
            .map(|(spooled, documents)| {
                let document = |&(hash, bytes): &_| Ended { hash, bytes, whole: false };
                let body = spooled.content_hash.map(|hash| Ended { hash, bytes: spooled.bytes, whole: true });
                let all: Vec<_> = documents.iter().map(document).chain(body).collect();
                (Owned::of(spooled), spooled.id, all)
            })
            .collect();
        self.write(move |db| {
            for (owned, id, all) in &ended {
                for ended in all {
                    note(db, owned.key(), ended, *id, Timestamp::now())?;
                }
            }
            Ok(())
        })
    }
}

/// A key on its way to the thread of the database.
struct Owned {
    origin: String,
    source: String,
    account: Option<String>,
    pinned_format: Option<String>,
    reading: [u8; 16],
}

impl Owned {
    fn of(spooled: &Spooled) -> Self {
        Self {
            origin: spooled.origin.clone(),
            source: spooled.source.clone(),
            account: spooled.account.clone(),
            pinned_format: spooled.pinned_format.clone(),
            reading: spooled.reading,
        }
    }

    fn key(&self) -> Key<'_> {
        Key {
            origin: &self.origin,
            source: &self.source,
            account: self.account.as_deref(),
            pinned_format: self.pinned_format.as_deref(),
            reading: &self.reading,
        }
    }
}

/// The earlier delivery of these bytes, if it ended without a rejection under the same reading.
pub(super) fn earlier(
    db: &mut Prepared<'_>,
    key: Key<'_>,
    content_hash: &[u8; 32],
    whole: bool,
) -> Result<Option<String>, SqlError> {
    db.one(
        "SELECT delivery_id FROM seen WHERE origin = ? AND source = ? AND account = ? AND pinned_format = ?
         AND content_hash = ? AND reading = ? AND whole >= ?",
        &[
            Value::Text(key.origin),
            Value::Text(key.source),
            Value::Text(key.account.unwrap_or_default()),
            Value::Text(key.pinned_format.unwrap_or_default()),
            Value::Blob(content_hash),
            Value::Blob(key.reading),
            Value::Int(i64::from(whole)),
        ],
        |row| row.string(0),
    )
}

/// Whether any body of this size was seen, so that hashing a file can tell something.
pub(super) fn size_known(db: &mut Prepared<'_>, bytes: u64) -> Result<bool, SqlError> {
    let found = db.one("SELECT 1 FROM seen WHERE bytes = ? LIMIT 1", &[Value::unsigned(bytes)], |_| ())?;
    Ok(found.is_some())
}

/// Whether anything was seen from there.
fn anything_known(db: &mut Prepared<'_>, key: Key<'_>) -> Result<bool, SqlError> {
    let sql = "SELECT 1 FROM seen WHERE origin = ? AND source = ? LIMIT 1";
    Ok(db.one(sql, &[Value::Text(key.origin), Value::Text(key.source)], |_| ())?.is_some())
}

/// Notes that these bytes ended well.
pub(super) fn note(
    db: &mut Prepared<'_>,
    key: Key<'_>,
    ended: &Ended,
    id: DeliveryId,
    at: Timestamp,
) -> Result<(), SqlError> {
    db.run(
        "INSERT INTO seen (origin, source, account, pinned_format, content_hash, bytes, reading, delivery_id, seen_at,
             whole)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET reading = excluded.reading, delivery_id = excluded.delivery_id,
             seen_at = excluded.seen_at, whole = excluded.whole",
        &[
            Value::Text(key.origin),
            Value::Text(key.source),
            Value::Text(key.account.unwrap_or_default()),
            Value::Text(key.pinned_format.unwrap_or_default()),
            Value::Blob(&ended.hash),
            Value::unsigned(ended.bytes),
            Value::Blob(key.reading),
            Value::Text(&id.to_string()),
            Value::Text(&moment(at)),
            Value::Int(i64::from(ended.whole)),
        ],
    )?;
    Ok(())
}
