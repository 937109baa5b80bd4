//! Summaries of calls: one is a statement only as long as no leg of its session is stored.
//!
//! Must stay free of cost for origins that send none: the table of summaries is empty and known to be.

use super::database::{Database, Fault};
use super::group::{self, Step};
use super::insert::{Changes, Reading};
use super::raw::Value;
use super::stated;
use crate::dedup::{Identified, Key};
use crate::record::cdr::{Cdr, TextColumn};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// The session of a row; empty when it has none.
pub fn session(cdr: &Cdr) -> &str {
    cdr.text.get(TextColumn::LinkedId).trim()
}

/// Whether a leg of this session is stored. Sessions are link values, so that their rows are found through the call.
pub fn has_leg(db: &mut Database<'_>, origin: &str, session: &str) -> Result<bool, Fault> {
    if session.is_empty() {
        return Ok(false);
    }
    let key = [Value::Text(origin), Value::Text(session)];
    let hidden = "SELECT 1 FROM hidden_session WHERE origin = ?1 AND linked_id = ?2";
    if db.one(hidden, &key, |_| ())?.is_some() {
        return Ok(true);
    }
    let by_link = "SELECT call_group FROM call_link WHERE origin = ?1 AND value = ?2";
    let mut names = db.all(by_link, &key, |row| row.text(0).to_owned())?;
    names.push(session.to_owned());
    let of_summaries = db.summary_layouts()?;
    for name in &names {
        let mut found = false;
        // A row whose highest version is a summary has no leg.
        db.each(
            "SELECT linked_id, coalesce(stated, (SELECT version.stated FROM version
                                                  WHERE version.key_day = cdr.key_day
                                                    AND version.identity = cdr.identity
                                                    AND version.version_hash = cdr.version_hash))
               FROM cdr WHERE origin = ?1 AND call_group = ?2 AND linked_id IS NOT NULL",
            &[Value::Text(origin), Value::Text(name)],
            |row| {
                found =
                    row.text(0).trim() == session && !of_summaries.contains(&stated::layout_of(row.blob(1))?);
                Ok(if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            },
        )?;
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Notes that a summary holds a place.
pub fn note(db: &mut Database<'_>, origin: &str, session: &str, row: &Identified) -> Result<(), Fault> {
    if session.is_empty() {
        return Ok(());
    }
    db.run(
        "INSERT INTO summary (origin, linked_id, key_day, identity, version_hash) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
        &[
            Value::Text(origin),
            Value::Text(session),
            Value::Int(row.key.day.into()),
            Value::Blob(&row.key.identity),
            Value::Blob(&row.version_hash),
        ],
    )?;
    db.summaries_changed();
    Ok(())
}

/// Forgets what is noted of statements that were withdrawn.
pub fn forget_withdrawn(db: &mut Database<'_>, reading: &Reading) -> Result<(), Fault> {
    let origin = [Value::Text(&reading.origin)];
    db.run(
        "DELETE FROM summary WHERE origin = ?1 AND NOT EXISTS
            (SELECT 1 FROM cdr_version held WHERE held.key_day = summary.key_day
                AND held.identity = summary.identity AND held.version_hash = summary.version_hash)",
        &origin,
    )?;
    db.summaries_changed();
    // No session tells by whom it is hidden: nearly always there is none, else all are found anew.
    if db.run("DELETE FROM hidden_session WHERE origin = ?1", &origin)? == 0 {
        return Ok(());
    }
    let mut after = Key { day: i32::MIN, identity: [0; 16] };
    loop {
        let keys = db.all(
            "SELECT DISTINCT key_day, identity FROM version
              WHERE (key_day, identity) > (?1, ?2) AND origin = ?3 ORDER BY key_day, identity LIMIT 1000",
            &[Value::Int(after.day.into()), Value::Blob(&after.identity), Value::Text(&reading.origin)],
            |row| Key { day: i32::try_from(row.int(0)).unwrap_or(0), identity: row.hash(1) },
        )?;
        let Some(last) = keys.last() else { return Ok(()) };
        after = *last;
        for key in keys {
            group::hide_sessions(db, reading, key)?;
        }
    }
}

/// Drops the summaries of a session, because a leg of it is stored.
pub fn give_way(db: &mut Database<'_>, reading: &Reading, session: &str) -> Result<Changes, Fault> {
    let mut changes = Changes::default();
    if session.is_empty() || !db.has_summaries()? {
        return Ok(changes);
    }
    let key = [Value::Text(&reading.origin), Value::Text(session)];
    let find = "SELECT key_day, identity, version_hash FROM summary WHERE origin = ?1 AND linked_id = ?2";
    let found = db.all(find, &key, |row| {
        (Key { day: i32::try_from(row.int(0)).unwrap_or(0), identity: row.hash(1) }, row.hash(2))
    })?;
    if found.is_empty() {
        return Ok(changes);
    }
    db.run("DELETE FROM summary WHERE origin = ?1 AND linked_id = ?2", &key)?;
    db.summaries_changed();
    let mut groups: BTreeMap<Key, Vec<[u8; 16]>> = BTreeMap::new();
    for (key, version) in found {
        groups.entry(key).or_default().push(version);
    }
    for (key, versions) in &groups {
        changes += group::regroup(db, reading, *key, &Step::Drop(versions))?;
    }
    Ok(changes)
}
