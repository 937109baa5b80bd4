//! Upkeep of `call_group`, `call_head` and `call_link`: which legs are one call, and which of them leads it.
//!
//! `dedup::call_groups` says what is right; here is only how little must be read and written to keep it. Two calls may
//! share a name (a value of two kinds): names are joined for heads, values of different kinds never join calls.

use super::columns::Stamps;
use super::database::{Database, Fault};
use super::raw::Value;
use crate::dedup::{self, Key, Links};
use crate::record::cdr::{Cdr, TextColumn};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::LazyLock;

/// A row that was just inserted as head of the call that its own link values name.
#[derive(Debug)]
pub struct Joining<'r> {
    /// Row id.
    pub id: i64,
    /// Key.
    pub key: Key,
    /// Hash of the version that ranks highest.
    pub version_hash: [u8; 16],
    /// Its times.
    pub stamps: &'r Stamps,
    /// Link values.
    pub links: &'r Links<'r>,
    /// The name it was inserted under.
    pub own: &'r str,
}

/// The name of a call that this row alone makes: its smallest link value, else its identity.
pub fn own_name(links: &Links<'_>, key: &Key) -> String {
    links.iter().map(|(_, value)| *value).min().map_or_else(|| identity_name(&key.identity), str::to_owned)
}

/// The name of a call without link values.
fn identity_name(identity: &[u8; 16]) -> String {
    let mut name = String::with_capacity(32);
    for byte in identity {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// Joins a new row to its call. Nearly always its values are all new, or all belong to one call that keeps its name.
pub fn join(db: &mut Database<'_>, origin: &str, row: &Joining<'_>) -> Result<(), Fault> {
    let mut name: Option<String> = None;
    let mut unknown: Vec<(&str, &str)> = Vec::new();
    let mut simple = true;
    for (kind, value) in row.links {
        let key = [Value::Text(origin), Value::Text(value), Value::Text(kind)];
        let find = "SELECT call_group FROM call_link WHERE origin = ?1 AND value = ?2 AND kind = ?3";
        match db.one(find, &key, |found| found.text(0).to_owned())? {
            Some(found) => {
                simple &= name.as_ref().is_none_or(|name| *name == found);
                name = Some(found);
            }
            None if *value == row.own => {}
            None => {
                let find = "SELECT 1 FROM cdr WHERE origin = ?1 AND call_group = ?2 LIMIT 1";
                simple &= db.one(find, &key[..2], |_| ())?.is_none();
                unknown.push((kind, value));
            }
        }
    }
    let name = name.unwrap_or_else(|| row.own.to_owned());
    // The group named like the row's own value has other rows.
    let other = head_of(db, origin, row.own, row.id)?;
    if name == row.own {
        if simple {
            add_links(db, origin, &unknown, row.own)?;
            return contest(db, row, other);
        }
    } else if simple && other.is_none() && name.as_str() < row.own {
        let own = row.links.iter().filter(|(_, value)| *value == row.own);
        unknown.extend(own.copied());
        add_links(db, origin, &unknown, &name)?;
        let head = head_of(db, origin, &name, row.id)?;
        let key = [Value::Int(row.id), Value::Text(&name)];
        db.calls_reach(origin, &name);
        db.run("UPDATE cdr SET call_group = ?2 WHERE id = ?1", &key)?;
        return contest(db, row, head);
    }
    let names = BTreeSet::from([row.own.to_owned(), name]);
    let links: Vec<(String, String)> =
        row.links.iter().map(|(kind, value)| ((*kind).to_owned(), (*value).to_owned())).collect();
    rebuild(db, origin, names, &links)
}

fn add_links(db: &mut Database<'_>, origin: &str, links: &[(&str, &str)], name: &str) -> Result<(), Fault> {
    for (kind, value) in links {
        db.calls_reach(origin, value);
        db.run(
            "INSERT INTO call_link (origin, value, kind, call_group) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            &[Value::Text(origin), Value::Text(value), Value::Text(kind), Value::Text(name)],
        )?;
    }
    Ok(())
}

/// What orders the legs of a call; the smallest leads. Times in the table's layout sort as they are; the hash decides
/// between legs of one group, so that the head never depends on which came first.
type Precedence = (String, Key, [u8; 16]);

const ORDER: &str = "id, started_at, key_day, identity, version_hash";

fn precedence(row: &super::raw::Row<'_>) -> (i64, Precedence) {
    let key = Key { day: i32::try_from(row.int(2)).unwrap_or(0), identity: row.hash(3) };
    (row.int(0), (row.text(1).to_owned(), key, row.hash(4)))
}

/// The head of a call, the row `but` left out.
fn head_of(
    db: &mut Database<'_>,
    origin: &str,
    name: &str,
    but: i64,
) -> Result<Option<(i64, Precedence)>, Fault> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT {ORDER} FROM cdr WHERE origin = ?1 AND call_group = ?2 AND call_head = 1 AND id <> ?3"
        )
    });
    db.one(SQL.as_str(), &[Value::Text(origin), Value::Text(name), Value::Int(but)], precedence)
}

/// Decides between the new row, which stands as head, and the head there was.
fn contest(db: &mut Database<'_>, row: &Joining<'_>, head: Option<(i64, Precedence)>) -> Result<(), Fault> {
    let Some((id, theirs)) = head else { return Ok(()) };
    let ours: Precedence = (row.stamps.started_at().to_owned(), row.key, row.version_hash);
    if ours < theirs {
        let seq = db.next();
        let values = [Value::Int(id), Value::Int(seq)];
        db.run("UPDATE cdr SET call_head = 0, change_seq = ?2 WHERE id = ?1", &values)?;
    } else {
        db.run("UPDATE cdr SET call_head = 0 WHERE id = ?1", &[Value::Int(row.id)])?;
    }
    Ok(())
}

struct Member {
    id: i64,
    call_group: String,
    call_head: bool,
    order: Precedence,
    format: String,
    cdr: Cdr,
}

/// Computes the calls of these names anew, with those that the given link values belong to, and writes what differs.
pub fn rebuild(
    db: &mut Database<'_>,
    origin: &str,
    mut names: BTreeSet<String>,
    links: &[(String, String)],
) -> Result<(), Fault> {
    for (kind, value) in links {
        let key = [Value::Text(origin), Value::Text(value), Value::Text(kind)];
        let find = "SELECT call_group FROM call_link WHERE origin = ?1 AND value = ?2 AND kind = ?3";
        names.extend(db.one(find, &key, |row| row.text(0).to_owned())?);
        names.insert(value.clone());
    }
    let mut members: Vec<Member> = Vec::new();
    let mut loaded: BTreeSet<String> = BTreeSet::new();
    let groups = loop {
        for name in names.difference(&loaded) {
            load(db, origin, name, &mut members)?;
        }
        loaded.clone_from(&names);
        let groups = groups_of(db, &members)?;
        // A call that splits may take the name of a call that is not loaded: they share a head.
        names.extend(groups.iter().cloned());
        if names.len() == loaded.len() {
            break groups;
        }
    };
    let mut heads: HashMap<&str, usize> = HashMap::new();
    for (place, name) in groups.iter().enumerate() {
        let head = heads.entry(name).or_insert(place);
        if members[place].order < members[*head].order {
            *head = place;
        }
    }
    for (place, (member, name)) in members.iter().zip(&groups).enumerate() {
        let head = heads.get(name.as_str()) == Some(&place);
        if member.call_group != *name || member.call_head != head {
            let seq = db.next();
            db.calls_reach(origin, name);
            db.run(
                "UPDATE cdr SET call_group = ?2, call_head = ?3, change_seq = ?4 WHERE id = ?1",
                &[Value::Int(member.id), Value::Text(name), Value::Int(head.into()), Value::Int(seq)],
            )?;
        }
    }
    write_links(db, origin, &loaded, &members, &groups)
}

fn load(db: &mut Database<'_>, origin: &str, name: &str, members: &mut Vec<Member>) -> Result<(), Fault> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let texts: Vec<&str> = TextColumn::ALL.iter().map(|column| column.name()).collect();
        format!(
            "SELECT {ORDER}, call_head, format, {} FROM cdr WHERE origin = ?1 AND call_group = ?2",
            texts.join(", ")
        )
    });
    let found = db.all(SQL.as_str(), &[Value::Text(origin), Value::Text(name)], |row| {
        let (id, order) = precedence(row);
        let mut cdr = Cdr::default();
        for (place, column) in (7..).zip(TextColumn::ALL) {
            cdr.text.set(*column, row.text(place));
        }
        let format = row.text(6).to_owned();
        Member { id, call_group: name.to_owned(), call_head: row.int(5) == 1, order, format, cdr }
    })?;
    members.extend(found);
    Ok(())
}

fn links_of<'m>(db: &Database<'_>, member: &'m Member) -> Result<Links<'m>, Fault> {
    Ok(dedup::links(db.card(&member.format)?, &member.cdr))
}

fn groups_of(db: &Database<'_>, members: &[Member]) -> Result<Vec<String>, Fault> {
    let links = members.iter().map(|member| links_of(db, member)).collect::<Result<Vec<_>, _>>()?;
    let named = members.iter().zip(dedup::call_groups(&links));
    Ok(named.map(|(member, name)| name.unwrap_or_else(|| identity_name(&member.order.1.identity))).collect())
}

fn write_links(
    db: &mut Database<'_>,
    origin: &str,
    names: &BTreeSet<String>,
    members: &[Member],
    groups: &[String],
) -> Result<(), Fault> {
    let mut wanted: BTreeMap<(String, String), &str> = BTreeMap::new();
    for (member, name) in members.iter().zip(groups) {
        for (kind, value) in links_of(db, member)? {
            if value != name {
                wanted.insert((value.to_owned(), kind.to_owned()), name);
            }
        }
    }
    for name in names {
        let find = "SELECT value, kind FROM call_link WHERE origin = ?1 AND call_group = ?2";
        let key = [Value::Text(origin), Value::Text(name)];
        for link in db.all(find, &key, |row| (row.text(0).to_owned(), row.text(1).to_owned()))? {
            match wanted.get(&link) {
                Some(wanted_name) if wanted_name == name => {
                    wanted.remove(&link);
                }
                Some(_) => {}
                None => {
                    let key = [Value::Text(origin), Value::Text(&link.0), Value::Text(&link.1)];
                    db.run("DELETE FROM call_link WHERE origin = ?1 AND value = ?2 AND kind = ?3", &key)?;
                }
            }
        }
    }
    for ((value, kind), name) in &wanted {
        db.calls_reach(origin, value);
        db.run(
            "INSERT INTO call_link (origin, value, kind, call_group) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (origin, value, kind) DO UPDATE SET call_group = excluded.call_group",
            &[Value::Text(origin), Value::Text(value), Value::Text(kind), Value::Text(name)],
        )?;
    }
    Ok(())
}
