//! Open rejections get another outcome: one row less rejected, one more of another kind, in one transaction.
//!
//! Must never count a rejection twice: only who resolves it first goes on.

use super::database::{Database, Fault};
use super::documents::{self, Tally, number};
use super::insert::{self, Outcome};
use super::raw::Value;
use crate::record::outcome::Rejection;
use crate::store::{ChunkRow, Committed, DeliveryEnd, Retry, StoreError};

/// Gives rows that were rejected their outcome of today.
pub fn retry(db: &mut Database<'_>, retry: &Retry) -> Result<Committed, Fault> {
    let document = [Value::Int(retry.document)];
    let ended = "SELECT 1 FROM document WHERE id = ?1 AND state IN ('done', 'rejected')";
    if db.one(ended, &document, |_| ())?.is_none() {
        return Err(StoreError::FenceLost.into());
    }
    let reading = documents::reading(db, retry.document)?;
    let mut tally = Tally::default();
    let mut resolved = 0;
    for (id, row) in &retry.rows {
        if let ChunkRow::Rejected(rejection) = row {
            say_anew(db, retry.document, *id, rejection)?;
            continue;
        }
        let now = db.now();
        let resolve = "UPDATE rejected SET resolved_at = ?3
                        WHERE id = ?1 AND document_id = ?2 AND row_number > 0 AND resolved_at IS NULL";
        if db.run(resolve, &[Value::Int(*id), document[0], Value::Text(&now)])? == 0 {
            continue;
        }
        resolved += 1;
        let counts = &mut tally.counts;
        if let ChunkRow::Leg(row) = row {
            match insert::store(db, &reading, row, &mut tally.changes)? {
                Outcome::Stored => counts.stored += 1,
                Outcome::Duplicate => counts.duplicate += 1,
                Outcome::Amended => counts.amended += 1,
                Outcome::Skipped => counts.skipped += 1,
            }
            tally.span(row.leg.cdr.started_at);
        } else {
            counts.skipped += 1;
        }
    }
    // In one statement with the others: the outcomes add up after each.
    db.run(
        "UPDATE document SET rejected = rejected - ?2, rows_read = rows_read - ?2 WHERE id = ?1",
        &[document[0], number(resolved)],
    )?;
    tally.counts.rows_read = resolved;
    documents::count(db, retry.document, &tally, None)?;
    refresh(db, &reading.delivery)?;
    Ok(Committed {
        counts: tally.counts,
        legs_added: tally.changes.added,
        legs_withdrawn: tally.changes.withdrawn,
    })
}

/// A row that is still rejected says why as it would be said today.
fn say_anew(db: &mut Database<'_>, document: i64, id: i64, rejection: &Rejection) -> Result<(), Fault> {
    db.run(
        "UPDATE rejected SET field = ?3, reason = ?4, message = ?5
          WHERE id = ?1 AND document_id = ?2 AND resolved_at IS NULL",
        &[
            Value::Int(id),
            Value::Int(document),
            rejection.field.as_deref().map_or(Value::Null, Value::Text),
            Value::Text(rejection.reason.code()),
            Value::Text(&rejection.message),
        ],
    )?;
    Ok(())
}

/// The delivery's counts and state follow those of its documents.
fn refresh(db: &mut Database<'_>, delivery: &str) -> Result<(), Fault> {
    let bytes = "SELECT bytes FROM delivery WHERE id = ?1";
    let bytes = db.one(bytes, &[Value::Text(delivery)], |row| row.unsigned(0))?.unwrap_or(0);
    let id = delivery.parse().map_err(|_| Fault::Damaged(format!("delivery {delivery:?} has no id")))?;
    documents::finish_delivery(db, id, &DeliveryEnd { state: None, content_hash: None, bytes })?;
    Ok(())
}
