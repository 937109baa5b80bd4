//! Many rows by one statement: what a statement costs by itself is shared, and indexes that grow at their end are not
//! entered anew for each row.
//!
//! Only rows that cannot meet each other go together: no two of a group or of a call. The rest follow one by one, in
//! their order. Must end in what `insert` alone would end in.

use super::calls;
use super::columns::{self, CONTENT, Stamps};
use super::database::{Database, Fault};
use super::documents::Tally;
use super::insert::{self, Outcome, Reading};
use super::raw::{Binding, SqlError, Value};
use super::ready::ReadyRow;
use crate::dedup::{self, Identified};
use crate::record::document::RowKind;
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
    let columns: Vec<&str> = columns::in_table_order().collect();
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
    let mark = |column| match column {
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
        "stored_at" => "?8".to_owned(),
        content => columns::names()
            .position(|name| name == content)
            .map_or_else(String::new, |place| own(OWN + place + 1)),
    };
    columns::in_table_order().map(mark).collect::<Vec<_>>().join(", ")
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
    together: Vec<(&'r Identified, ReadyRow<'r>)>,
    later: Vec<&'r Identified>,
    /// Link values of the later ones.
    linked: Vec<&'r str>,
    /// The row before was known: files that come again are known row after row, and a look costs less than trying to
    /// insert.
    known: bool,
}

impl<'r> Batch<'r> {
    /// Nothing yet.
    pub fn new(reading: &'r Reading) -> Self {
        Self {
            reading,
            together: Vec::with_capacity(ROWS),
            later: Vec::new(),
            linked: Vec::new(),
            known: false,
        }
    }

    /// Stores a row, now or with the next ones; its outcome is counted when it is.
    pub fn add(
        &mut self,
        db: &mut Database<'_>,
        row: &'r Identified,
        ready: Option<ReadyRow<'r>>,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        if row.leg.raw.layout.kind == RowKind::Summary || db.has_summaries()? {
            self.flush(db, tally)?;
            return self.one(db, row, tally);
        }
        if (self.known || ready.is_none()) && insert::is_first(db, row)? {
            tally.note(Outcome::Duplicate);
            return Ok(());
        }
        match ready {
            Some(ready) if self.apart(row, ready.call()) => self.together.push((row, ready)),
            _ => {
                let links = dedup::links(row.leg.raw.layout.card, &row.leg.cdr);
                self.linked.extend(links.iter().map(|(_, value)| *value));
                self.later.push(row);
            }
        }
        if self.together.len() == ROWS || self.later.len() == ROWS { self.flush(db, tally) } else { Ok(()) }
    }

    /// Whether a row meets none of those that wait.
    fn apart(&self, row: &Identified, call: &str) -> bool {
        let card = row.leg.raw.layout.card;
        self.together.first().is_none_or(|(first, _)| std::ptr::eq(first.leg.raw.layout.card, card))
            && self.together.iter().all(|(_, other)| other.call() != call)
            && !self.linked.contains(&call)
    }

    /// Stores what still waits.
    pub fn flush(&mut self, db: &mut Database<'_>, tally: &mut Tally) -> Result<(), Fault> {
        let together = std::mem::take(&mut self.together);
        self.known = false;
        if together.len() == ROWS {
            self.insert(db, &together, tally)?;
        } else {
            for (row, _) in &together {
                self.one(db, row, tally)?;
            }
        }
        for row in std::mem::take(&mut self.later) {
            self.one(db, row, tally)?;
        }
        self.linked.clear();
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
        rows: &[(&'r Identified, ReadyRow<'r>)],
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        let origin = self.reading.origin.as_str();
        let now = db.now();
        let numbers = i64::try_from(ROWS).unwrap_or(i64::MAX);
        let first = db.take(numbers);
        // What lies beyond all that is stored meets nothing.
        let end = db.calls_end(origin)?;
        let new = rows.iter().all(|(_, ready)| ready.call() > end);
        let inserted =
            db.run_bound(INSERT.as_str(), |values| bind(self.reading, rows, first, &now, values))?;
        if let Some(last) = rows.iter().map(|(_, ready)| ready.call()).max() {
            db.calls_reach(origin, last);
        }
        let range = [Value::Int(first), Value::Int(first + numbers - 1)];
        let all = usize::try_from(inserted) == Ok(rows.len());
        let stored = if all { [true; ROWS] } else { places(db, STORED, &range, first)? };
        let mut touched = [false; ROWS];
        if !new {
            touched = places(db, TOUCHED, &range, first)?;
            if db.has_links()? {
                for (touched, linked) in touched.iter_mut().zip(places(db, LINKED, &range, first)?) {
                    *touched |= linked;
                }
            }
        }
        for ((((row, ready), stored), touched), id) in rows.iter().zip(stored).zip(touched).zip(first..) {
            if !stored {
                continue;
            }
            tally.changes.added += 1;
            tally.note(Outcome::Stored);
            if touched {
                let joining = calls::Joining {
                    id,
                    key: row.key,
                    version_hash: row.version_hash,
                    stamps: &Stamps::of(&row.leg.cdr),
                    links: &dedup::links(row.leg.raw.layout.card, &row.leg.cdr),
                    own: ready.call(),
                };
                calls::join(db, origin, &joining)?;
            }
        }
        for ((row, _), stored) in rows.iter().zip(stored) {
            if !stored {
                let outcome = insert::settle(db, self.reading, row, &mut tally.changes)?;
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

/// Binds the parameters of the statement; those that are NULL are left out.
fn bind<'v>(
    reading: &'v Reading,
    rows: &[(&'v Identified, ReadyRow<'v>)],
    first: i64,
    now: &'v str,
    values: &mut Binding<'_, 'v, '_>,
) -> Result<(), SqlError> {
    let card = rows.first().map(|(row, _)| row.leg.raw.layout.card);
    let shared = [
        Value::Text(&reading.origin),
        reading.tenant.as_deref().map_or(Value::Null, Value::Text),
        Value::Text(&reading.source),
        card.map_or(Value::Null, |card| Value::Text(card.system)),
        card.map_or(Value::Null, |card| Value::Text(card.id)),
        Value::Text(&reading.delivery),
        Value::Int(reading.document),
        Value::Text(now),
    ];
    for (place, value) in shared.into_iter().enumerate() {
        values.set(place, value)?;
    }
    for (row_place, ((row, ready), id)) in rows.iter().zip(first..).enumerate() {
        let position = row.leg.raw.position;
        let before = SHARED + row_place * (OWN + CONTENT);
        let own = [
            Value::Int(id),
            Value::Int(row.key.day.into()),
            Value::Blob(&row.key.identity),
            Value::Text(ready.call()),
            Value::unsigned(position.row),
            Value::unsigned(position.offset),
            Value::unsigned(position.length),
            Value::Blob(&row.version_hash),
            Value::Blob(ready.stated()),
        ];
        for (place, value) in own.into_iter().enumerate() {
            values.set(before + place, value)?;
        }
        for (place, value) in ready.content() {
            values.set(before + OWN + place, value)?;
        }
    }
    Ok(())
}
