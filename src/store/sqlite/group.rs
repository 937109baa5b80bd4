//! The slow path: a group whose versions change is loaded, planned by `dedup`, and what differs is written.
//!
//! Must never decide anything about legs itself, and never touch `change_seq` of a row whose content stays.

use super::calls::{self, Joining};
use super::columns::{self, CONTENT, Content, Stamps};
use super::database::{Database, Fault};
use super::insert::{self, Changes, Lineage, NewRow, Reading};
use super::raw::Value;
use super::stated;
use crate::dedup::{self, Crowd, Held, Identified, Key, Plan, PlannedLeg};
use crate::record::cdr::TextColumn;
use crate::record::document::RowKind;
use crate::record::raw::Position;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What happens to a group.
#[derive(Debug)]
pub enum Step<'s> {
    /// A version is added.
    Add(&'s Identified),
    /// Versions are dropped: summaries whose call has a leg.
    Drop(&'s [[u8; 16]]),
    /// Versions that these deliveries were the first to state are dropped.
    Withdraw(&'s HashSet<String>),
    /// Versions stay; they are derived anew.
    Derive,
}

/// A row of the group as it stands.
#[derive(Debug)]
struct Stored {
    id: i64,
    label: u32,
    tenant: String,
    source: String,
    system: String,
    format: String,
    call_group: String,
    delivery: String,
    document: i64,
    position: Position,
    versions: i64,
    version_hash: [u8; 16],
    stated: Vec<u8>,
    since: String,
    content: Content,
}

/// Where a version was read.
#[derive(Debug, Clone)]
struct About {
    source: String,
    delivery: String,
    document: i64,
    stored_at: String,
    /// It has a row in table `version`.
    in_table: bool,
}

struct Group {
    key: Key,
    rows: Vec<Stored>,
    held: Vec<Held>,
    about: Vec<About>,
}

/// Versions from which on a group is remembered: to load and plan it for each of its rows would cost the cube of them. Tests hold
/// all of this against the oracle in small.
pub const LARGE: usize = if cfg!(test) { 2 } else { 32 };

/// A large group, as the last row of it left it.
#[derive(Debug)]
pub struct Remembered {
    /// Its key.
    pub key: Key,
    /// Its versions.
    pub versions: HashSet<[u8; 16]>,
    /// Set where a row may add a leg and change no other.
    pub crowd: Option<Crowd>,
}

/// Applies a step to a group.
pub fn regroup(
    db: &mut Database<'_>,
    reading: &Reading,
    key: Key,
    step: &Step<'_>,
) -> Result<Changes, Fault> {
    db.forget_group();
    let but = if let Step::Withdraw(deliveries) = step { Some(*deliveries) } else { None };
    let mut group = load(db, reading, key, but)?;
    match step {
        Step::Add(row) => {
            group.held.push(Held {
                version: (*row).clone(),
                label: None,
                order: u64::try_from(db.next()).unwrap_or(0),
            });
            group.about.push(About {
                source: reading.source.clone(),
                delivery: reading.delivery.clone(),
                document: reading.document,
                stored_at: db.now().to_string(),
                in_table: false,
            });
        }
        Step::Drop(versions) => drop_versions(db, &mut group, versions)?,
        Step::Withdraw(_) | Step::Derive => {}
    }
    let highest = "SELECT max(leg) FROM tombstone WHERE key_day = ?1 AND identity = ?2";
    let gone = db.one(highest, &key_values(&key), |row| match row.value(0) {
        Value::Int(leg) => u32::try_from(leg).ok(),
        _ => None,
    })?;
    let highest = group.rows.iter().map(|row| row.label).max().max(gone.flatten());
    let plan = dedup::plan(&group.held, highest);
    let changes = write(db, reading, &group, &plan, matches!(step, Step::Drop(_)))?;
    if group.held.len() >= LARGE {
        let versions: Vec<&Identified> = group.held.iter().map(|held| &held.version).collect();
        let highest = plan.legs.iter().map(|leg| leg.label).max().max(highest).unwrap_or(0);
        db.remember(Remembered {
            key,
            versions: versions.iter().map(|version| version.version_hash).collect(),
            crowd: Crowd::of(&versions, highest),
        });
    }
    Ok(changes)
}

fn key_values(key: &Key) -> [Value<'_>; 2] {
    [Value::Int(key.day.into()), Value::Blob(&key.identity)]
}

/// Loads a group. Versions that are withdrawn are not derived: perhaps they cannot be any more.
fn load(
    db: &mut Database<'_>,
    reading: &Reading,
    key: Key,
    but: Option<&HashSet<String>>,
) -> Result<Group, Fault> {
    let rows = db.all(columns::SELECT_GROUP.as_str(), &key_values(&key), |row| Stored {
        id: row.int(0),
        label: u32::try_from(row.int(1)).unwrap_or(0),
        tenant: row.text(2).to_owned(),
        source: row.text(3).to_owned(),
        system: row.text(4).to_owned(),
        format: row.text(5).to_owned(),
        call_group: row.text(6).to_owned(),
        delivery: row.text(7).to_owned(),
        document: row.int(8),
        position: Position { row: row.unsigned(9), offset: row.unsigned(10), length: row.unsigned(11) },
        versions: row.int(12),
        version_hash: row.hash(13),
        stated: row.blob(14).to_vec(),
        since: row.text(15).to_owned(),
        content: Content::read(row, columns::SELECTED),
    })?;
    let mut group = Group { key, rows, held: Vec::new(), about: Vec::new() };
    let several = group.rows.iter().any(|row| row.versions > 1);
    for place in 0..group.rows.len() {
        let row = &group.rows[place];
        if row.versions == 1 && !but.is_some_and(|but| but.contains(&row.delivery)) {
            let version = single(row);
            group.held.push(revive(db, reading, key, &version, Some(&row.content))?);
            group.about.push(version.about);
        }
    }
    if several {
        for version in load_versions(db, key)? {
            if but.is_some_and(|but| but.contains(&version.about.delivery)) {
                delete_version(db, &key, &version.hash)?;
                continue;
            }
            group.held.push(revive(db, reading, key, &version, None)?);
            group.about.push(version.about);
        }
    }
    Ok(group)
}

/// A version as found, not yet derived.
struct FoundVersion {
    hash: [u8; 16],
    label: u32,
    order: i64,
    position: Position,
    stated: Vec<u8>,
    about: About,
}

fn single(row: &Stored) -> FoundVersion {
    FoundVersion {
        hash: row.version_hash,
        label: row.label,
        order: row.id,
        position: row.position,
        stated: row.stated.clone(),
        about: About {
            source: row.source.clone(),
            delivery: row.delivery.clone(),
            document: row.document,
            stored_at: row.since.clone(),
            in_table: false,
        },
    }
}

fn load_versions(db: &mut Database<'_>, key: Key) -> Result<Vec<FoundVersion>, Fault> {
    db.all(
        "SELECT version_hash, leg, stored_order, source, delivery_id, document_id, row_number, byte_offset, byte_length,
                stated, stored_at
           FROM version WHERE key_day = ?1 AND identity = ?2 ORDER BY stored_order",
        &key_values(&key),
        |row| FoundVersion {
            hash: row.hash(0),
            label: u32::try_from(row.int(1)).unwrap_or(0),
            order: row.int(2),
            position: Position { row: row.unsigned(6), offset: row.unsigned(7), length: row.unsigned(8) },
            stated: row.blob(9).to_vec(),
            about: About {
                source: row.text(3).to_owned(),
                delivery: row.text(4).to_owned(),
                document: row.int(5),
                stored_at: row.text(10).to_owned(),
                in_table: true,
            },
        },
    )
}

/// A stored version as it is derived today.
fn revive(
    db: &mut Database<'_>,
    reading: &Reading,
    key: Key,
    version: &FoundVersion,
    content: Option<&Content>,
) -> Result<Held, Fault> {
    let layout = db.known_layout(stated::layout_of(&version.stated)?)?;
    let (raw, copy) = stated::decode(&version.stated, &layout, version.position, content)?;
    let leg = db.derive().derive(raw, &reading.origin, &version.about.source).map_err(|rejection| {
        Fault::Damaged(format!(
            "row {} of document {} is stored and can no longer be read ({}); correct the origin or run the version that stored it",
            version.position.row, version.about.document, rejection.reason.code()
        ))
    })?;
    let version_of = Identified { leg, key, copy, version_hash: version.hash };
    Ok(Held {
        version: version_of,
        label: Some(version.label),
        order: u64::try_from(version.order).unwrap_or(0),
    })
}

fn drop_versions(db: &mut Database<'_>, group: &mut Group, versions: &[[u8; 16]]) -> Result<(), Fault> {
    for hash in versions {
        let Some(place) = group.held.iter().position(|held| held.version.version_hash == *hash) else {
            continue;
        };
        group.held.remove(place);
        if group.about.remove(place).in_table {
            delete_version(db, &group.key, hash)?;
        }
    }
    Ok(())
}

fn delete_version(db: &mut Database<'_>, key: &Key, hash: &[u8; 16]) -> Result<(), Fault> {
    let [day, identity] = key_values(key);
    let delete = "DELETE FROM version WHERE key_day = ?1 AND identity = ?2 AND version_hash = ?3";
    db.run(delete, &[day, identity, Value::Blob(hash)])?;
    Ok(())
}

/// What the rows' calls need after they were written.
#[derive(Debug, Default)]
pub struct Relink {
    /// Calls that lost or changed a row.
    pub names: BTreeSet<String>,
    /// Link values that rows have now.
    pub links: Vec<(String, String)>,
}

fn write(
    db: &mut Database<'_>,
    reading: &Reading,
    group: &Group,
    plan: &Plan,
    dropping: bool,
) -> Result<Changes, Fault> {
    let mut changes = Changes { collision: plan.collision, ..Changes::default() };
    let mut relink = Relink::default();
    // A row all of whose versions were dropped is not in the plan at all.
    let withdrawn: HashSet<u32> = plan.withdrawn.iter().copied().collect();
    let stated: HashSet<u32> = group.held.iter().filter_map(|held| held.label).collect();
    let gone = |row: &Stored| withdrawn.contains(&row.label) || !stated.contains(&row.label);
    let rows: HashMap<u32, &Stored> =
        group.rows.iter().filter(|row| !gone(row)).map(|row| (row.label, row)).collect();
    for row in group.rows.iter().filter(|row| gone(row)) {
        tombstone(db, reading, &group.key, row.label, if dropping { "summary" } else { "merged" })?;
        db.run("DELETE FROM cdr WHERE id = ?1", &[Value::Int(row.id)])?;
        relink.names.insert(row.call_group.clone());
        changes.withdrawn += 1;
        changes.changed += 1;
        changes.amended = true;
    }
    let mut inserted: Vec<(&PlannedLeg, i64)> = Vec::new();
    for leg in &plan.legs {
        let held_as = match plan.renumbered {
            Some((from, to)) if to == leg.label => from,
            _ => leg.label,
        };
        if let Some(row) = rows.get(&held_as) {
            if held_as != leg.label {
                tombstone(db, reading, &group.key, held_as, "renumbered")?;
            }
            update_row(db, reading, group, row, leg, &mut changes, &mut relink)?;
        } else {
            inserted.push((leg, insert_row(db, reading, group, leg)?));
            changes.added += 1;
        }
        write_versions(db, reading, group, leg)?;
    }
    link(db, reading, group, &inserted, relink)?;
    Ok(changes)
}

fn tombstone(
    db: &mut Database<'_>,
    reading: &Reading,
    key: &Key,
    label: u32,
    reason: &str,
) -> Result<(), Fault> {
    // A switch looks at its end which rows are gone; what happens in between nobody sees.
    if db.switch().is_some() {
        return Ok(());
    }
    let now = db.now();
    let seq = db.next();
    let [day, identity] = key_values(key);
    db.run(
        "INSERT INTO tombstone (change_seq, origin, key_day, identity, leg, withdrawn_at, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        &[
            Value::Int(seq),
            Value::Text(&reading.origin),
            day,
            identity,
            Value::Int(label.into()),
            Value::Text(&now),
            Value::Text(reason),
        ],
    )?;
    Ok(())
}

/// The one version of a leg beside its row; empty (NULL) when there are more.
fn stated_of(db: &mut Database<'_>, group: &Group, leg: &PlannedLeg) -> Result<Vec<u8>, Fault> {
    let [only] = leg.versions.as_slice() else { return Ok(Vec::new()) };
    let version = &group.held[*only].version;
    let layout = db.layout(&version.leg.raw.layout)?;
    Ok(stated::encode_beside(&layout, version.copy, &version.leg.raw, &leg.cdr))
}

const fn blob_or_null(blob: &[u8]) -> Value<'_> {
    if blob.is_empty() { Value::Null } else { Value::Blob(blob) }
}

fn lineage<'g>(group: &'g Group, leg: &PlannedLeg) -> (Lineage<'g>, &'g str) {
    let about = &group.about[leg.first];
    let position = group.held[leg.first].version.leg.raw.position;
    (Lineage { delivery: &about.delivery, document: about.document, position }, &about.source)
}

fn insert_row(
    db: &mut Database<'_>,
    reading: &Reading,
    group: &Group,
    leg: &PlannedLeg,
) -> Result<i64, Fault> {
    let blob = stated_of(db, group, leg)?;
    let top = &group.held[leg.top].version;
    let card = top.leg.raw.layout.card;
    let own = calls::own_name(&dedup::links(card, &leg.cdr), &group.key);
    let (lineage, source) = lineage(group, leg);
    let new = NewRow {
        key: group.key,
        leg: leg.label,
        format: card.id,
        system: card.system,
        source,
        call_group: &own,
        lineage,
        versions: i64::try_from(leg.versions.len()).unwrap_or(i64::MAX),
        version_hash: &top.version_hash,
        stated: blob_or_null(&blob),
    };
    let stamps = Stamps::of(&leg.cdr);
    insert::insert(db, reading, &new, &columns::content(&leg.cdr, &stamps))?
        .ok_or_else(|| Fault::Damaged(format!("leg {} of a group is stored twice", leg.label)))
}

/// Writes what differs and notes it in `changes` and `relink`.
fn update_row(
    db: &mut Database<'_>,
    reading: &Reading,
    group: &Group,
    row: &Stored,
    leg: &PlannedLeg,
    changes: &mut Changes,
    relink: &mut Relink,
) -> Result<(), Fault> {
    let top = &group.held[leg.top].version;
    let card = top.leg.raw.layout.card;
    let tenant = reading.tenant.as_deref().unwrap_or_default();
    let stamps = Stamps::of(&leg.cdr);
    let content: [Value<'_>; CONTENT] = columns::content(&leg.cdr, &stamps);
    let differs = row.label != leg.label
        || row.system != card.system
        || row.format != card.id
        || row.tenant != tenant
        || !row.content.same(&content);
    changes.amended |= !row.content.same(&content);
    changes.changed += u64::from(differs);
    if differs {
        let mut values = vec![
            Value::Int(leg.label.into()),
            Value::Text(card.system),
            Value::Text(card.id),
            Value::Int(db.next()),
            reading.tenant.as_deref().map_or(Value::Null, Value::Text),
        ];
        values.extend_from_slice(&content);
        values.push(Value::Int(row.id));
        db.run(columns::UPDATE.as_str(), &values)?;
    }
    let same_links = row.format == card.id
        && card.links.iter().all(|link| row.content.text(link.column) == leg.cdr.text.get(link.column));
    // The start and the hash order the legs of a call.
    if !same_links || row.version_hash != top.version_hash || !row.content.same_start(&content) {
        let new = dedup::links(card, &leg.cdr);
        relink.names.insert(row.call_group.clone());
        relink.links.extend(new.iter().map(|(kind, value)| ((*kind).to_owned(), (*value).to_owned())));
    }
    let blob = stated_of(db, group, leg)?;
    let (lineage, source) = lineage(group, leg);
    let versions = i64::try_from(leg.versions.len()).unwrap_or(i64::MAX);
    let kept = row.versions == versions
        && row.version_hash == top.version_hash
        && row.stated == blob
        && row.delivery == lineage.delivery
        && row.document == lineage.document
        && row.position == lineage.position;
    if !kept {
        let mut values = vec![
            Value::Int(row.id),
            Value::Text(source),
            Value::Int(versions),
            Value::Blob(&top.version_hash),
            blob_or_null(&blob),
        ];
        values.extend_from_slice(&lineage.values());
        db.run(
            "UPDATE cdr SET source = ?2, versions = ?3, version_hash = ?4, stated = ?5, delivery_id = ?6,
                            document_id = ?7, row_number = ?8, byte_offset = ?9, byte_length = ?10
              WHERE id = ?1",
            &values,
        )?;
    }
    Ok(())
}

/// Keeps table `version`: all versions of legs that have several, none of the others.
fn write_versions(
    db: &mut Database<'_>,
    reading: &Reading,
    group: &Group,
    leg: &PlannedLeg,
) -> Result<(), Fault> {
    let several = leg.versions.len() > 1;
    for place in &leg.versions {
        let (held, about) = (&group.held[*place], &group.about[*place]);
        let version = &held.version;
        match (several, about.in_table) {
            (true, false) => insert_version(db, reading, held, about, leg.label)?,
            (true, true) if held.label != Some(leg.label) => {
                let update =
                    "UPDATE version SET leg = ?4 WHERE key_day = ?1 AND identity = ?2 AND version_hash = ?3";
                let [day, identity] = key_values(&group.key);
                let hash = Value::Blob(&version.version_hash);
                db.run(update, &[day, identity, hash, Value::Int(leg.label.into())])?;
            }
            (false, true) => delete_version(db, &group.key, &version.version_hash)?,
            _ => {}
        }
        hide_session(db, reading, version, leg.cdr.text.get(TextColumn::LinkedId))?;
    }
    Ok(())
}

/// Notes the session of a version whose row shows another.
fn hide_session(
    db: &mut Database<'_>,
    reading: &Reading,
    version: &Identified,
    shown: &str,
) -> Result<(), Fault> {
    let session = super::summaries::session(&version.leg.cdr);
    if !session.is_empty() && session != shown.trim() && version.leg.raw.layout.kind == RowKind::Leg {
        let hide = "INSERT INTO hidden_session (origin, linked_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        db.run(hide, &[Value::Text(&reading.origin), Value::Text(session)])?;
    }
    Ok(())
}

/// Notes the hidden sessions of a group as it stands.
pub fn hide_sessions(db: &mut Database<'_>, reading: &Reading, key: Key) -> Result<(), Fault> {
    let group = load(db, reading, key, None)?;
    for held in &group.held {
        let row = group.rows.iter().find(|row| Some(row.label) == held.label);
        let shown = row.map_or("", |row| row.content.text(TextColumn::LinkedId));
        hide_session(db, reading, &held.version, shown)?;
    }
    Ok(())
}

fn insert_version(
    db: &mut Database<'_>,
    reading: &Reading,
    held: &Held,
    about: &About,
    label: u32,
) -> Result<(), Fault> {
    let version = &held.version;
    let layout = db.layout(&version.leg.raw.layout)?;
    let blob = stated::encode_whole(&layout, version.copy, &version.leg.raw);
    let position = version.leg.raw.position;
    let lineage = Lineage { delivery: &about.delivery, document: about.document, position };
    let [day, identity] = key_values(&version.key);
    let mut values = vec![
        day,
        identity,
        Value::Blob(&version.version_hash),
        Value::Int(label.into()),
        Value::Int(i64::try_from(held.order).unwrap_or(i64::MAX)),
        Value::Text(&reading.origin),
        Value::Text(&about.source),
        Value::Text(version.leg.raw.layout.card.id),
        Value::Blob(&blob),
        Value::Text(&about.stored_at),
    ];
    values.extend_from_slice(&lineage.values());
    db.run(
        "INSERT INTO version (key_day, identity, version_hash, leg, stored_order, origin, source, format, stated,
                              stored_at, delivery_id, document_id, row_number, byte_offset, byte_length)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        &values,
    )?;
    Ok(())
}

fn link(
    db: &mut Database<'_>,
    reading: &Reading,
    group: &Group,
    inserted: &[(&PlannedLeg, i64)],
    mut relink: Relink,
) -> Result<(), Fault> {
    let gathering = db.gathering().is_some();
    let changed = gathering || !relink.names.is_empty();
    for (leg, id) in inserted {
        let links = dedup::links(group.held[leg.top].version.leg.raw.layout.card, &leg.cdr);
        let own = calls::own_name(&links, &group.key);
        if changed {
            relink.names.insert(own);
            relink.links.extend(links.iter().map(|(kind, value)| ((*kind).to_owned(), (*value).to_owned())));
        } else {
            let joining = Joining {
                id: *id,
                key: group.key,
                version_hash: group.held[leg.top].version.version_hash,
                stamps: &Stamps::of(&leg.cdr),
                links: &links,
                own: &own,
            };
            calls::join(db, &reading.origin, &joining)?;
        }
    }
    if let Some(gathered) = db.gathering() {
        gathered.names.append(&mut relink.names);
        gathered.links.append(&mut relink.links);
    } else if changed {
        calls::rebuild(db, &reading.origin, relink.names, &relink.links)?;
    }
    Ok(())
}

/// The records that the versions of a group state.
#[cfg(test)]
pub fn records(
    db: &mut Database<'_>,
    origin: &str,
    key: Key,
) -> Result<Vec<([u8; 16], crate::record::raw::RawRecord)>, Fault> {
    let reading = Reading {
        document: 0,
        delivery: String::new(),
        origin: origin.to_owned(),
        tenant: None,
        source: String::new(),
    };
    let group = load(db, &reading, key, None)?;
    Ok(group.held.into_iter().map(|held| (held.version.version_hash, held.version.leg.raw)).collect())
}
