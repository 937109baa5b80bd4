//! A switch: statements are withdrawn and read again in one transaction, so that readers see all of it or nothing, and
//! a crash leaves nothing of it.
//!
//! Rows are taken out and made again by the same code as when they first came. Triggers keep each row as it was before
//! it was first touched: at the end a row that says the same has its number, its times and its place in the sequence
//! back, and one that is gone leaves a tombstone. Must be begun and ended in one transaction; the writer sees to that.

use super::columns;
use super::database::{Database, Fault};
use super::group::{self, Step};
use super::insert::Reading;
use super::pace::Pace;
use super::raw::{self, Value};
use super::{calls, rederive, summaries};
use crate::crash_point;
use crate::dedup::Key;
use crate::record::delivery::DeliveryId;
use crate::store::query::Value as Told;
use crate::store::{RowChange, StoreError, Switched};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// Groups per batch: bounds memory, not the transaction.
const BATCH: i64 = 1000;

/// Columns beside the content that are the same or not: the others tell where a statement was read.
const COMPARED: [&str; 6] = ["origin", "tenant", "system", "format", "call_group", "call_head"];

const SAME_KEY: &str = "old.key_day = cdr.key_day AND old.identity = cdr.identity AND old.leg = cdr.leg";

/// Begins a switch and withdraws what these deliveries were the first to state.
///
/// # Errors
/// When `stop` is set meanwhile: the writer then takes all of it back.
pub fn begin(db: &mut Database<'_>, withdrawn: &[DeliveryId], stop: &AtomicBool) -> Result<(), Fault> {
    let before = db.open_switch();
    let all: Vec<&str> = columns::FIXED.into_iter().chain(columns::names()).collect();
    let old: Vec<String> = all.iter().map(|name| format!("OLD.{name}")).collect();
    let (all, old) = (all.join(", "), old.join(", "));
    db.run_once(&format!("CREATE TEMP TABLE switch_before AS SELECT {all} FROM cdr LIMIT 0"), &[])?;
    db.run_once("CREATE UNIQUE INDEX temp.switch_before_id ON switch_before (id)", &[])?;
    db.run_once("CREATE INDEX temp.switch_before_key ON switch_before (key_day, identity, leg)", &[])?;
    for event in ["UPDATE", "DELETE"] {
        let trigger = format!(
            "CREATE TEMP TRIGGER switch_{event} BEFORE {event} ON main.cdr WHEN OLD.id <= {before}
             BEGIN INSERT OR IGNORE INTO switch_before ({all}) VALUES ({old}); END"
        );
        db.run_once(&trigger, &[])?;
    }
    withdraw(db, withdrawn, stop)
}

fn withdraw(db: &mut Database<'_>, deliveries: &[DeliveryId], stop: &AtomicBool) -> Result<(), Fault> {
    db.run_once("CREATE TEMP TABLE switch_delivery (id TEXT PRIMARY KEY) WITHOUT ROWID", &[])?;
    let deliveries: HashSet<String> = deliveries.iter().map(ToString::to_string).collect();
    for id in &deliveries {
        db.run("INSERT INTO switch_delivery (id) VALUES (?1)", &[Value::Text(id)])?;
    }
    let now = db.now();
    db.run(
        "UPDATE rejected SET resolved_at = ?1 WHERE resolved_at IS NULL AND document_id IN
            (SELECT id FROM document WHERE delivery_id IN (SELECT id FROM switch_delivery))",
        &[Value::Text(&now)],
    )?;
    db.run(
        "UPDATE document SET state = 'superseded' WHERE delivery_id IN (SELECT id FROM switch_delivery)",
        &[],
    )?;
    // One look through both tables: an index by delivery would cost each row that comes. Neighbours in the table are
    // withdrawn one after the other.
    db.run_once(
        "CREATE TEMP TABLE switch_group AS
         SELECT key_day, identity, origin, min(document_id) AS document
           FROM (SELECT key_day, identity, origin, document_id, id AS place FROM cdr
                  WHERE versions = 1 AND delivery_id IN (SELECT id FROM switch_delivery)
                 UNION ALL
                 SELECT key_day, identity, origin, document_id, stored_order FROM version
                  WHERE delivery_id IN (SELECT id FROM switch_delivery))
          GROUP BY origin, key_day, identity ORDER BY origin, min(place)",
        &[],
    )?;
    let mut pace = Pace::new("withdrawing what is read again");
    let origins = "SELECT DISTINCT origin FROM switch_group";
    for origin in db.all(origins, &[], |row| row.text(0).to_owned())? {
        let tenant = "SELECT tenant FROM origin WHERE name = ?1";
        let tenant = db.one(tenant, &[Value::Text(&origin)], |row| row.text(0).to_owned())?;
        let mut reading = Reading {
            document: 0,
            delivery: String::new(),
            origin,
            tenant: tenant.filter(|tenant| !tenant.is_empty()),
            source: String::new(),
        };
        withdraw_groups(db, &mut reading, &deliveries, &mut pace, stop)?;
        summaries::forget_withdrawn(db, &reading)?;
    }
    db.run_once("DROP TABLE temp.switch_group", &[])?;
    db.run_once("DROP TABLE temp.switch_delivery", &[])?;
    Ok(())
}

fn withdraw_groups(
    db: &mut Database<'_>,
    reading: &mut Reading,
    deliveries: &HashSet<String>,
    pace: &mut Pace,
    stop: &AtomicBool,
) -> Result<(), Fault> {
    let mut after = 0;
    loop {
        let batch = db.all(
            "SELECT rowid, key_day, identity, document FROM switch_group WHERE rowid > ?1 AND origin = ?2
              ORDER BY rowid LIMIT ?3",
            &[Value::Int(after), Value::Text(&reading.origin), Value::Int(BATCH)],
            |row| {
                let key = Key { day: i32::try_from(row.int(1)).unwrap_or(0), identity: row.hash(2) };
                (row.int(0), key, row.int(3))
            },
        )?;
        let Some((last, ..)) = batch.last() else { return Ok(()) };
        after = *last;
        // A call of many legs is computed anew once, not once for each.
        db.gather();
        for (_, key, document) in batch {
            if stop.load(Ordering::Relaxed) {
                return Err(StoreError::Stopped.into());
            }
            crash_point::reached("switch-withdraws");
            reading.document = document;
            let done = group::regroup(db, reading, key, &Step::Withdraw(deliveries))?;
            rederive::balance(db, document, done)?;
            pace.step();
        }
        let relink = db.gathered();
        calls::rebuild(db, &reading.origin, relink.names, &relink.links)?;
    }
}

/// Ends a switch: gives rows that are as before their places back, leaves tombstones, and tells what changed.
pub fn end(db: &mut Database<'_>, rows: u32) -> Result<Switched, Fault> {
    let Some(before) = db.switch() else { return Err(StoreError::SwitchLost.into()) };
    for event in ["UPDATE", "DELETE"] {
        db.run_once(&format!("DROP TRIGGER temp.switch_{event}"), &[])?;
    }
    let number = [Value::Int(before)];
    // Their number may have gone to no other row, but that row may stand under another leg number now.
    db.run_once(
        &format!(
            "UPDATE cdr SET id = old.id, stored_at = old.stored_at FROM switch_before old
              WHERE cdr.id > ?1 AND {SAME_KEY} AND NOT EXISTS (SELECT 1 FROM cdr taken WHERE taken.id = old.id)"
        ),
        &number,
    )?;
    let same = compared().fold(String::new(), |mut same, name| {
        let _ = write!(same, " AND cdr.{name} IS old.{name}");
        same
    });
    db.run_once(
        &format!(
            "UPDATE cdr SET change_seq = old.change_seq FROM switch_before old
              WHERE cdr.change_seq > ?1 AND {SAME_KEY} AND cdr.id = old.id{same}"
        ),
        &number,
    )?;
    let now = db.now();
    let removed = db.run_once(
        &format!(
            "INSERT INTO tombstone (change_seq, origin, key_day, identity, leg, withdrawn_at, reason)
             SELECT ?1 + row_number() OVER (ORDER BY old.id), old.origin, old.key_day, old.identity, old.leg, ?2,
                    'replayed'
               FROM switch_before old WHERE NOT EXISTS (SELECT 1 FROM cdr WHERE {SAME_KEY})"
        ),
        &[Value::Int(db.last()), Value::Text(&now)],
    )?;
    db.skip(removed);
    let switched = told(db, before, removed, rows)?;
    db.run_once("DROP TABLE temp.switch_before", &[])?;
    db.close_switch();
    Ok(switched)
}

fn compared() -> impl Iterator<Item = &'static str> {
    COMPARED.into_iter().chain(columns::names())
}

fn told(db: &mut Database<'_>, before: i64, removed: u64, limit: u32) -> Result<Switched, Fault> {
    let names: Vec<&str> = ["leg"].into_iter().chain(compared()).collect();
    let of = |table: &str| -> String {
        let columns: Vec<String> = names.iter().map(|name| format!("{table}.{name}")).collect();
        columns.join(", ")
    };
    let (old, new) = (of("old"), of("cdr"));
    let gone = format!("FROM switch_before old WHERE NOT EXISTS (SELECT 1 FROM cdr WHERE {SAME_KEY})");
    let changed = format!("FROM switch_before old JOIN cdr ON {SAME_KEY} WHERE cdr.change_seq > {before}");
    let added = format!(
        "FROM cdr WHERE change_seq > {before} AND NOT EXISTS (SELECT 1 FROM switch_before old WHERE {SAME_KEY})"
    );
    let width = names.len();
    let order = format!("ORDER BY started_at, key_day, identity, leg LIMIT {limit}");
    let old_order = format!("ORDER BY old.started_at, old.key_day, old.identity, old.leg LIMIT {limit}");
    let mut rows = Vec::new();
    let mut tell = |sql: String, has_before: bool, has_after: bool, db: &mut Database<'_>| {
        db.each_once(&sql, |row| {
            let mut place = 0;
            let mut part = |there: bool| {
                there.then(|| {
                    let values = (place..place + width).map(|column| value(row, column)).collect();
                    place += width;
                    values
                })
            };
            let (before, after) = (part(has_before), part(has_after));
            rows.push(RowChange { before, after });
        })
    };
    tell(format!("SELECT {old} {gone} {old_order}"), true, false, db)?;
    tell(format!("SELECT {old}, {new} {changed} {old_order}"), true, true, db)?;
    tell(format!("SELECT {new} {added} {order}"), false, true, db)?;
    let changed = db.count_once(&format!("SELECT count(*) {changed}"))?;
    let added = db.count_once(&format!("SELECT count(*) {added}"))?;
    let columns = names.into_iter().map(str::to_owned).collect();
    Ok(Switched { added, changed, removed, columns, rows })
}

fn value(row: &raw::Row<'_>, column: usize) -> Told {
    match row.value(i32::try_from(column).unwrap_or(i32::MAX)) {
        Value::Null => Told::Null,
        Value::Int(number) => Told::Integer(number),
        Value::Real(number) => Told::Real(number),
        Value::Text(text) => Told::Text(text.to_owned()),
        Value::Blob(bytes) => Told::Blob(bytes.to_vec()),
    }
}
