//! The fast path of a row: one insert as leg 0 on one unique index. A row that is new is stored by it, one that came
//! before is found by one seek; only what is neither goes to `group`.
//!
//! Must never look before it inserts: the unique index decides.

use super::columns::{self, CONTENT, FIXED, Stamps};
use super::database::{Database, Fault};
use super::raw::Value;
use super::{calls, group, stated, summaries};
use crate::dedup::{self, Identified, Key};
use crate::record::document::RowKind;

/// The document whose rows are being stored.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Row id.
    pub document: i64,
    /// Its delivery.
    pub delivery: String,
    /// Its origin.
    pub origin: String,
    /// The origin's tenant.
    pub tenant: Option<String>,
    /// Its source.
    pub source: String,
}

/// What storing did to table `cdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Rows added.
    pub added: u64,
    /// Rows withdrawn.
    pub withdrawn: u64,
    /// Rows whose content or number changed, withdrawn ones too.
    pub changed: u64,
    /// Whether a row says something else now: not when only its number, format or tenant changed.
    pub amended: bool,
    /// A group's legs are told apart by nothing better than exact or near fields or copies.
    pub collision: bool,
}

impl std::ops::AddAssign for Changes {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.withdrawn += other.withdrawn;
        self.changed += other.changed;
        self.amended |= other.amended;
        self.collision |= other.collision;
    }
}

/// How a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It added at least one leg.
    Stored,
    /// Known, or says nothing new.
    Duplicate,
    /// Says something new about a known leg.
    Amended,
    /// A summary whose call has a leg.
    Skipped,
}

/// Stores one row.
pub fn store(
    db: &mut Database<'_>,
    reading: &Reading,
    row: &Identified,
    changes: &mut Changes,
) -> Result<Outcome, Fault> {
    let session = summaries::session(&row.leg.cdr);
    let kind = row.leg.raw.layout.kind;
    if kind == RowKind::Summary && summaries::has_leg(db, &reading.origin, session)? {
        return Ok(Outcome::Skipped);
    }
    let outcome = if insert_leg(db, reading, row, 0)? {
        changes.added += 1;
        Outcome::Stored
    } else {
        match settle(db, reading, row, changes)? {
            // It was said before, with all that follows from it.
            None => return Ok(Outcome::Duplicate),
            Some(outcome) => outcome,
        }
    };
    match kind {
        RowKind::Summary => summaries::note(db, &reading.origin, session, row)?,
        RowKind::Leg => *changes += summaries::give_way(db, reading, session)?,
    }
    Ok(outcome)
}

/// Stores a row whose group has a leg; `None` when this very version is known.
pub fn settle(
    db: &mut Database<'_>,
    reading: &Reading,
    row: &Identified,
    changes: &mut Changes,
) -> Result<Option<Outcome>, Fault> {
    if is_known(db, row)? {
        return Ok(None);
    }
    if join_crowd(db, reading, row, changes)? {
        return Ok(Some(Outcome::Stored));
    }
    let done = group::regroup(db, reading, row.key, &group::Step::Add(row))?;
    *changes += done;
    Ok(Some(match done {
        Changes { added: 1.., .. } => Outcome::Stored,
        Changes { amended: true, .. } => Outcome::Amended,
        _ => Outcome::Duplicate,
    }))
}

/// Inserts the row as a leg of its own where its group is remembered as one in which that changes no other leg.
fn join_crowd(
    db: &mut Database<'_>,
    reading: &Reading,
    row: &Identified,
    changes: &mut Changes,
) -> Result<bool, Fault> {
    let Some(group) = db.group(row.key) else { return Ok(false) };
    let Some(crowd) = &mut group.crowd else { return Ok(false) };
    let Some(leg) = crowd.add(row) else { return Ok(false) };
    group.versions.insert(row.version_hash);
    changes.collision |= crowd.collides();
    changes.added += 1;
    if insert_leg(db, reading, row, leg)? {
        return Ok(true);
    }
    Err(Fault::Damaged(format!("leg {leg} of a group is stored twice")))
}

/// Inserts the row as the only version of this leg unless its group has the leg. Leg 0 of a new group: a group that
/// has a leg has leg 0.
fn insert_leg(db: &mut Database<'_>, reading: &Reading, row: &Identified, leg: u32) -> Result<bool, Fault> {
    let cdr = &row.leg.cdr;
    let layout = db.layout(&row.leg.raw.layout)?;
    let blob = stated::encode_beside(&layout, row.copy, &row.leg.raw, cdr);
    let links = dedup::links(layout.layout.card, cdr);
    let own = calls::own_name(&links, &row.key);
    let lineage =
        Lineage { delivery: &reading.delivery, document: reading.document, position: row.leg.raw.position };
    let new = NewRow {
        key: row.key,
        leg,
        format: layout.layout.card.id,
        system: layout.layout.card.system,
        source: &reading.source,
        call_group: &own,
        lineage,
        versions: 1,
        version_hash: &row.version_hash,
        stated: Value::Blob(&blob),
    };
    let stamps = Stamps::of(cdr);
    let Some(id) = insert(db, reading, &new, &columns::content(cdr, &stamps))? else { return Ok(false) };
    let joining = calls::Joining {
        id,
        key: row.key,
        version_hash: row.version_hash,
        stamps: &stamps,
        links: &links,
        own: &own,
    };
    calls::join(db, &reading.origin, &joining)?;
    Ok(true)
}

/// Whether this very version is the one of leg 0, as most that are known are: one seek.
pub fn is_first(db: &mut Database<'_>, row: &Identified) -> Result<bool, Fault> {
    let key =
        [Value::Int(row.key.day.into()), Value::Blob(&row.key.identity), Value::Blob(&row.version_hash)];
    let first = "SELECT 1 FROM cdr WHERE key_day = ?1 AND identity = ?2 AND leg = 0 AND version_hash = ?3";
    Ok(db.one(first, &key, |_| ())?.is_some())
}

/// Whether this very version is stored.
fn is_known(db: &mut Database<'_>, row: &Identified) -> Result<bool, Fault> {
    if is_first(db, row)? {
        return Ok(true);
    }
    let key = [Value::Int(row.key.day.into()), Value::Blob(&row.key.identity)];
    if let Some(group) = db.group(row.key) {
        return Ok(group.versions.contains(&row.version_hash));
    }
    let all = "SELECT version_hash FROM cdr WHERE key_day = ?1 AND identity = ?2
               UNION ALL
               SELECT version_hash FROM version WHERE key_day = ?1 AND identity = ?2";
    let versions = db.all(all, &key, |found| found.hash(0))?;
    let known = versions.contains(&row.version_hash);
    if versions.len() >= group::LARGE {
        let versions = versions.into_iter().collect();
        db.remember(group::Remembered { key: row.key, versions, crowd: None });
    }
    Ok(known)
}

/// Where a statement was read.
#[derive(Debug, Clone, Copy)]
pub struct Lineage<'r> {
    /// Delivery.
    pub delivery: &'r str,
    /// Document.
    pub document: i64,
    /// Place in the document.
    pub position: crate::record::raw::Position,
}

impl Lineage<'_> {
    /// Values of `delivery_id`, `document_id`, `row_number`, `byte_offset`, `byte_length`.
    pub fn values(&self) -> [Value<'_>; 5] {
        [
            Value::Text(self.delivery),
            Value::Int(self.document),
            Value::unsigned(self.position.row),
            Value::unsigned(self.position.offset),
            Value::unsigned(self.position.length),
        ]
    }
}

/// A row to insert, beside its content.
#[derive(Debug)]
pub struct NewRow<'r> {
    /// Key of its group.
    pub key: Key,
    /// Number.
    pub leg: u32,
    /// Format of its highest version.
    pub format: &'r str,
    /// System of that format.
    pub system: &'r str,
    /// Source of its first statement.
    pub source: &'r str,
    /// Call group as far as the row alone tells.
    pub call_group: &'r str,
    /// Its first statement.
    pub lineage: Lineage<'r>,
    /// How many versions.
    pub versions: i64,
    /// Hash of its highest version.
    pub version_hash: &'r [u8; 16],
    /// The one version, or NULL.
    pub stated: Value<'r>,
}

/// Inserts a row, as head of its call until `calls` knows better; gives its id, or `None` where its key is taken.
pub fn insert(
    db: &mut Database<'_>,
    reading: &Reading,
    row: &NewRow<'_>,
    content: &[Value<'_>; CONTENT],
) -> Result<Option<i64>, Fault> {
    let now = db.now();
    let id = db.peek();
    let lineage = row.lineage.values();
    let mut values = [Value::Null; FIXED.len() + CONTENT];
    values[..FIXED.len()].copy_from_slice(&[
        Value::Int(id),
        Value::Int(row.key.day.into()),
        Value::Blob(&row.key.identity),
        Value::Int(row.leg.into()),
        Value::Text(&reading.origin),
        reading.tenant.as_deref().map_or(Value::Null, Value::Text),
        Value::Text(row.source),
        Value::Text(row.system),
        Value::Text(row.format),
        Value::Text(row.call_group),
        Value::Int(1),
        lineage[0],
        lineage[1],
        lineage[2],
        lineage[3],
        lineage[4],
        Value::Int(row.versions),
        Value::Blob(row.version_hash),
        row.stated,
        Value::Int(id),
        Value::Text(&now),
    ]);
    values[FIXED.len()..].copy_from_slice(content);
    if db.run(columns::INSERT.as_str(), &values)? == 0 {
        return Ok(None);
    }
    db.calls_reach(&reading.origin, row.call_group);
    Ok(Some(db.next()))
}
