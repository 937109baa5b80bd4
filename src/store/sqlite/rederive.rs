//! Derives the rows of an origin again in place, because what its wall clock or numbers mean was corrected.

use super::database::{Database, Fault};
use super::group::{self, Step};
use super::insert::{Changes, Reading};
use super::pace::Pace;
use super::raw::Value;
use crate::dedup::Key;
use crate::store::StoreError;
use std::sync::atomic::{AtomicBool, Ordering};

/// Groups per batch: bounds memory, not the transaction. Readers never see half an origin corrected.
const BATCH: i64 = 1000;

/// Derives every group of an origin again; gives the number of rows that changed.
///
/// # Errors
/// When `stop` is set meanwhile: the writer then takes all of it back.
pub fn rederive(
    db: &mut Database<'_>,
    origin: &str,
    time_zone: &str,
    stop: &AtomicBool,
) -> Result<u64, Fault> {
    let record = "UPDATE origin SET time_zone = ?2, clock_fault = NULL WHERE name = ?1";
    db.run(record, &[Value::Text(origin), Value::Text(time_zone)])?;
    let tenant = "SELECT tenant FROM origin WHERE name = ?1";
    let tenant = db.one(tenant, &[Value::Text(origin)], |row| row.text(0).to_owned())?;
    let tenant = tenant.filter(|tenant| !tenant.is_empty());
    let mut pace = Pace::new("deriving calls again");
    let mut changed = 0;
    let mut after = Key { day: i32::MIN, identity: [0; 16] };
    loop {
        let batch = next_batch(db, origin, after)?;
        let Some((last, _)) = batch.last() else { return Ok(changed) };
        after = *last;
        for (key, document) in batch {
            if stop.load(Ordering::Relaxed) {
                return Err(StoreError::Stopped.into());
            }
            let reading = Reading {
                document,
                delivery: String::new(),
                origin: origin.to_owned(),
                tenant: tenant.clone(),
                source: String::new(),
            };
            let done = group::regroup(db, &reading, key, &Step::Derive)?;
            changed += done.changed + done.added;
            balance(db, document, done)?;
            pace.step();
        }
    }
}

fn next_batch(db: &mut Database<'_>, origin: &str, after: Key) -> Result<Vec<(Key, i64)>, Fault> {
    db.all(
        // By key: the planner would rather find the origin's rows by their calls and sort all of them for each batch.
        "SELECT key_day, identity, document_id FROM cdr INDEXED BY cdr_key
          WHERE (key_day, identity) > (?1, ?2) AND leg = 0 AND origin = ?3
          ORDER BY key_day, identity LIMIT ?4",
        &[Value::Int(after.day.into()), Value::Blob(&after.identity), Value::Text(origin), Value::Int(BATCH)],
        |row| (Key { day: i32::try_from(row.int(0)).unwrap_or(0), identity: row.hash(1) }, row.int(2)),
    )
}

/// Legs that merge or split because times are read anew are counted on the document of the group's first leg, so that
/// added minus withdrawn stays the number of rows.
pub fn balance(db: &mut Database<'_>, document: i64, done: Changes) -> Result<(), Fault> {
    if done.added == 0 && done.withdrawn == 0 {
        return Ok(());
    }
    let number = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
    db.run("UPDATE document SET legs_added = legs_added + ?2, legs_withdrawn = legs_withdrawn + ?3 WHERE id = ?1", &[
        Value::Int(document),
        number(done.added),
        number(done.withdrawn),
    ])?;
    Ok(())
}
