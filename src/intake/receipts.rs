//! Writing receipts: whatever concurrent callers hand over meanwhile shares the transaction, so that a hundred senders
//! wait for one flush.

use super::door::{Arrival, Outcome, Stored};
use super::spool::moment;
use super::{Bookmark, Intake, IntakeError, bookmarks, seen};
use crate::record::delivery::{Delivery, DeliveryId};
use crate::sqlite::Prepared;
use crate::sqlite::raw::{SqlError, Value};
use std::os::unix::ffi::OsStrExt;

/// What one call writes.
pub(super) struct Batch {
    pub arrivals: Vec<Outcome<Arrival>>,
    /// Announced claims that failed.
    pub undone: Vec<DeliveryId>,
    pub shared: Option<Bookmark>,
}

/// Which arrivals of a batch were seen before.
type Known = Vec<bool>;

impl Intake {
    /// Writes a batch durably.
    pub(super) fn record(&self, batch: Batch) -> (Batch, Result<Known, IntakeError>) {
        let (batch, known) = self.0.database.write_with(batch, |db, batch| write_batch(db, batch));
        (batch, self.said(known))
    }

    /// Writes down which files are about to be moved where, before the first one is. Not flushed: a power cut that
    /// undoes it and not the move leaves a file in the claim folder that belongs to no delivery, which its source hands
    /// in again.
    pub(super) fn announce_claims(
        &self,
        arrivals: Vec<Outcome<Arrival>>,
    ) -> (Vec<Outcome<Arrival>>, Result<(), IntakeError>) {
        let (arrivals, announced) = self.0.database.write_unflushed_with(arrivals, |db, arrivals| {
            for arrival in arrivals.iter().flatten() {
                if matches!(arrival.stored, Stored::Claim { .. }) {
                    insert(db, arrival, "claiming", None)?;
                }
            }
            Ok(())
        });
        (arrivals, self.said(announced))
    }
}

fn write_batch(db: &mut Prepared<'_>, batch: &Batch) -> Result<Known, SqlError> {
    for id in &batch.undone {
        let sql = "DELETE FROM receipt WHERE id = ? AND state = 'claiming'";
        db.run(sql, &[Value::Text(&id.to_string())])?;
    }
    let mut known = Vec::with_capacity(batch.arrivals.len());
    for arrival in &batch.arrivals {
        known.push(match arrival {
            Ok(arrival) => write_arrival(db, arrival)?,
            Err(_) => false,
        });
    }
    if let Some(bookmark) = &batch.shared {
        bookmarks::put(db, bookmark)?;
    }
    Ok(known)
}

fn write_arrival(db: &mut Prepared<'_>, arrival: &Arrival) -> Result<bool, SqlError> {
    let repeat_of = match &arrival.content_hash {
        Some(hash) => seen::earlier(db, key(&arrival.delivery), hash, true)?,
        None => None,
    };
    insert(db, arrival, "waiting", repeat_of.as_deref())?;
    if let Stored::Inline(bytes) | Stored::Claim { inline: Some(bytes), .. } = &arrival.stored {
        let sql = "INSERT INTO body (id, bytes) VALUES (?, ?) ON CONFLICT DO NOTHING";
        db.run(sql, &[Value::Text(&arrival.id.to_string()), Value::Blob(bytes)])?;
    }
    if let Some(bookmark) = &arrival.bookmark {
        let id = arrival.id.to_string();
        bookmarks::put_with(db, bookmark, repeat_of.as_deref().unwrap_or(&id))?;
    }
    Ok(repeat_of.is_some())
}

fn key(delivery: &Delivery) -> seen::Key<'_> {
    seen::Key {
        origin: &delivery.origin,
        source: &delivery.source,
        account: delivery.account.as_deref(),
        pinned_format: delivery.pinned_format.as_deref(),
        reading: &delivery.reading,
    }
}

/// Writes a receipt; one that was announced as `claiming` is completed.
fn insert(
    db: &mut Prepared<'_>,
    arrival: &Arrival,
    state: &str,
    repeat_of: Option<&str>,
) -> Result<(), SqlError> {
    let (kind, path, original, stamp) = match &arrival.stored {
        Stored::Inline(_) => ("inline", None, None, None),
        Stored::Spool(path) => ("spool", Some(path), None, None),
        Stored::Claim { from, target, stamp, inline, .. } => {
            let kind = if inline.is_some() { "inline" } else { "claimed" };
            (kind, Some(target), Some(from), *stamp)
        }
    };
    let delivery = &arrival.delivery;
    db.run(
        "INSERT INTO receipt (id, state, origin, source, account, peer, name, received_at, pinned_format, time_zone,
             reading, bytes, content_hash, repeat_of, body_kind, body_path, device, inode, mtime_ns, original_path,
             feedback)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, bytes = excluded.bytes,
             content_hash = excluded.content_hash, repeat_of = excluded.repeat_of,
             body_kind = excluded.body_kind, device = excluded.device, inode = excluded.inode, mtime_ns = excluded.mtime_ns",
        &[
            Value::Text(&arrival.id.to_string()),
            Value::Text(state),
            Value::Text(&delivery.origin),
            Value::Text(&delivery.source),
            Value::text_given(delivery.account.as_deref()),
            Value::text_given(delivery.peer.as_deref()),
            Value::Text(&delivery.name),
            Value::Text(&moment(delivery.received_at)),
            Value::text_given(delivery.pinned_format.as_deref()),
            Value::text_given(delivery.time_zone.as_deref()),
            Value::Blob(&delivery.reading),
            Value::unsigned(arrival.bytes),
            Value::blob_given(arrival.content_hash.as_ref().map(<[u8; 32]>::as_slice)),
            Value::text_given(repeat_of),
            Value::Text(kind),
            Value::blob_given(path.map(|path| path.as_os_str().as_bytes())),
            Value::int_or_null(stamp.map(|stamp| stamp.device.cast_signed())),
            Value::int_or_null(stamp.map(|stamp| stamp.inode.cast_signed())),
            Value::int_or_null(stamp.map(|stamp| stamp.mtime_ns)),
            Value::blob_given(original.map(|path| path.as_os_str().as_bytes())),
            Value::Int(i64::from(arrival.feedback)),
        ],
    )?;
    Ok(())
}
