//! Many rows by one statement: what a statement costs by itself is shared, and indexes that grow at their end are not
//! entered anew for each row.
//!
//! Only rows that cannot meet each other go together: no two of a group or of a call. The rest follow one by one, in
//! their order. Must end in what `insert` alone would end in.

use super::calls;
use super::columns::{self, CONTENT, FIXED, Stamps};
use super::database::{Database, Fault};
use super::documents::Tally;
use super::insert::{self, Outcome, Reading};
use super::raw::Value;
use super::stated;
use crate::dedup::{self, Identified, Links};
use crate::record::document::RowKind;
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::LazyLock;

/// Rows of a statement. Tests hold it against the oracle in small.
const ROWS: usize = if cfg!(test) { 2 } else { 16 };

/// Values that all rows of a statement share: origin, tenant, source, system, format, delivery, document, time.
const SHARED: usize = 8;

/// Values of each row beside its content: id, day, identity, call, row, offset, length, version hash, statement.
const OWN: usize = 9;

/// Inserts [`ROWS`] rows as leg 0 of their groups, those whose key is taken left out. `OR FAIL`: to be able to take the
/// statement back alone, SQLite would copy each page that it changes; whoever runs it takes back more than that.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    let columns: Vec<&str> = FIXED.into_iter().chain(columns::names()).collect();
    let rows: Vec<String> =
        (0..ROWS).map(|row| format!("({})", marks(SHARED + row * (OWN + CONTENT)))).collect();
    format!(
        "INSERT OR FAIL INTO cdr ({}) VALUES {} ON CONFLICT (key_day, identity, leg) DO NOTHING",
        columns.join(", "),
        rows.join(", ")
    )
});

/// The parameters of a row whose own ones begin behind `before`.
fn marks(before: usize) -> String {
    let own = |place: usize| format!("?{}", before + place);
    let fixed = FIXED.into_iter().map(|column| match column {
        "id" | "change_seq" => own(1),
        "key_day" => own(2),
        "identity" => own(3),
        "leg" => "0".to_owned(),
        "origin" => "?1".to_owned(),
        "tenant" => "?2".to_owned(),
        "source" => "?3".to_owned(),
        "system" => "?4".to_owned(),
        "format" => "?5".to_owned(),
        "call_group" => own(4),
        "call_head" | "versions" => "1".to_owned(),
        "delivery_id" => "?6".to_owned(),
        "document_id" => "?7".to_owned(),
        "row_number" => own(5),
        "byte_offset" => own(6),
        "byte_length" => own(7),
        "version_hash" => own(8),
        "stated" => own(9),
        _ => "?8".to_owned(),
    });
    fixed.chain((1..=CONTENT).map(|place| own(OWN + place))).collect::<Vec<_>>().join(", ")
}

/// Those rows of a range whose calls have another head, or a name that is linked.
const TOUCHED: &str =
    "SELECT n.id FROM cdr n JOIN cdr o ON o.origin = n.origin AND o.call_group = n.call_group
                                                    AND o.call_head = 1 AND o.id <> n.id
                        WHERE n.id BETWEEN ?1 AND ?2";
const LINKED: &str =
    "SELECT n.id FROM cdr n JOIN call_link l ON l.origin = n.origin AND l.value = n.call_group
                       WHERE n.id BETWEEN ?1 AND ?2";

/// The rows of a range that were inserted.
const STORED: &str = "SELECT id FROM cdr WHERE id BETWEEN ?1 AND ?2";

/// Rows of one document on their way into the table.
pub struct Batch<'r> {
    reading: &'r Reading,
    together: Vec<Together<'r>>,
    later: Vec<&'r Identified>,
    /// Link values of all of them.
    values: Vec<Cow<'r, str>>,
    /// The row before was known: files that come again are known row after row, and a look costs less than trying to
    /// insert.
    known: bool,
}

/// A row that goes with others.
struct Together<'r> {
    row: &'r Identified,
    links: Links<'r>,
    call: Cow<'r, str>,
    stated: Vec<u8>,
    stamps: Stamps,
}

impl<'r> Batch<'r> {
    /// Nothing yet.
    pub fn new(reading: &'r Reading) -> Self {
        Self {
            reading,
            together: Vec::with_capacity(ROWS),
            later: Vec::new(),
            values: Vec::with_capacity(2 * ROWS),
            known: false,
        }
    }

    /// Stores a row, now or with the next ones; its outcome is counted when it is.
    pub fn add(
        &mut self,
        db: &mut Database<'_>,
        row: &'r Identified,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        if row.leg.raw.layout.kind == RowKind::Summary || db.has_summaries()? {
            self.flush(db, tally)?;
            return self.one(db, row, tally);
        }
        if self.known && insert::is_first(db, row)? {
            tally.note(Outcome::Duplicate);
            return Ok(());
        }
        let card = row.leg.raw.layout.card;
        let links = dedup::links(card, &row.leg.cdr);
        let call = match links.iter().map(|(_, value)| *value).min() {
            Some(value) => Cow::Borrowed(value),
            None => Cow::Owned(calls::own_name(&links, &row.key)),
        };
        let meets = |value: &str| self.values.iter().any(|other| *other == value);
        let other_card =
            self.together.first().is_some_and(|first| !std::ptr::eq(first.row.leg.raw.layout.card, card));
        let linked = links.iter().any(|(_, value)| *value != call);
        if linked || other_card || meets(&call) {
            self.values.extend(links.iter().map(|(_, value)| Cow::Borrowed(*value)));
            self.later.push(row);
        } else {
            self.values.push(call.clone());
            let layout = db.layout(&row.leg.raw.layout)?;
            let mut stated = Vec::with_capacity(128);
            stated::encode_beside(&layout, row.copy, &row.leg.raw, &row.leg.cdr, &mut stated);
            self.together.push(Together { row, links, call, stated, stamps: Stamps::of(&row.leg.cdr) });
        }
        if self.together.len() == ROWS || self.later.len() == ROWS { self.flush(db, tally) } else { Ok(()) }
    }

    /// Stores what still waits.
    pub fn flush(&mut self, db: &mut Database<'_>, tally: &mut Tally) -> Result<(), Fault> {
        let together = std::mem::take(&mut self.together);
        self.known = false;
        if together.len() == ROWS {
            self.insert(db, &together, tally)?;
        } else {
            for one in &together {
                self.one(db, one.row, tally)?;
            }
        }
        for row in std::mem::take(&mut self.later) {
            self.one(db, row, tally)?;
        }
        self.values.clear();
        Ok(())
    }

    fn one(&self, db: &mut Database<'_>, row: &Identified, tally: &mut Tally) -> Result<(), Fault> {
        let outcome = insert::store(db, self.reading, row, &mut tally.changes)?;
        tally.note(outcome);
        Ok(())
    }

    fn insert(
        &mut self,
        db: &mut Database<'_>,
        rows: &[Together<'_>],
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        let now = db.now();
        let numbers = i64::try_from(ROWS).unwrap_or(i64::MAX);
        let first = db.take(numbers);
        let inserted = db.run(INSERT.as_str(), &values(self.reading, rows, first, &now))?;
        let range = [Value::Int(first), Value::Int(first + numbers - 1)];
        let all = usize::try_from(inserted) == Ok(rows.len());
        let stored = if all { [true; ROWS] } else { places(db, STORED, &range, first)? };
        let mut touched = places(db, TOUCHED, &range, first)?;
        if db.has_links()? {
            for (touched, linked) in touched.iter_mut().zip(places(db, LINKED, &range, first)?) {
                *touched |= linked;
            }
        }
        for (((row, stored), touched), id) in rows.iter().zip(stored).zip(touched).zip(first..) {
            if !stored {
                continue;
            }
            tally.changes.added += 1;
            tally.note(Outcome::Stored);
            if touched {
                let joining = calls::Joining {
                    id,
                    key: row.row.key,
                    version_hash: row.row.version_hash,
                    stamps: &row.stamps,
                    links: &row.links,
                    own: &row.call,
                };
                calls::join(db, &self.reading.origin, &joining)?;
            }
        }
        for (row, stored) in rows.iter().zip(stored) {
            if !stored {
                let outcome = insert::settle(db, self.reading, row.row, &mut tally.changes)?;
                tally.note(outcome.unwrap_or(Outcome::Duplicate));
            }
        }
        self.known = inserted == 0;
        Ok(())
    }
}

/// Which rows of a range a query finds.
fn places(
    db: &mut Database<'_>,
    sql: &'static str,
    range: &[Value<'_>],
    first: i64,
) -> Result<[bool; ROWS], Fault> {
    let mut found = [false; ROWS];
    db.each(sql, range, |row| {
        let place = usize::try_from(row.int(0) - first).ok();
        if let Some(found) = place.and_then(|place| found.get_mut(place)) {
            *found = true;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

fn values<'v>(reading: &'v Reading, rows: &'v [Together<'_>], first: i64, now: &'v str) -> Vec<Value<'v>> {
    let mut values = Vec::with_capacity(SHARED + ROWS * (OWN + CONTENT));
    let card = rows.first().map(|row| row.row.leg.raw.layout.card);
    values.extend([
        Value::Text(&reading.origin),
        reading.tenant.as_deref().map_or(Value::Null, Value::Text),
        Value::Text(&reading.source),
        card.map_or(Value::Null, |card| Value::Text(card.system)),
        card.map_or(Value::Null, |card| Value::Text(card.id)),
        Value::Text(&reading.delivery),
        Value::Int(reading.document),
        Value::Text(now),
    ]);
    for (row, id) in rows.iter().zip(first..) {
        let position = row.row.leg.raw.position;
        values.extend([
            Value::Int(id),
            Value::Int(row.row.key.day.into()),
            Value::Blob(&row.row.key.identity),
            Value::Text(&row.call),
            Value::unsigned(position.row),
            Value::unsigned(position.offset),
            Value::unsigned(position.length),
            Value::Blob(&row.row.version_hash),
            Value::Blob(&row.stated),
        ]);
        values.extend(columns::content(&row.row.leg.cdr, &row.stamps));
    }
    values
}
