//! Origins, deliveries, documents and rejections: the rows that say what was read, and the fence that lets one process
//! alone move a document on.

use super::columns::Stamp;
use super::database::{Database, Fault};
use super::insert::{Changes, Outcome, Reading};
use super::raw::Value;
use crate::record::delivery::DeliveryId;
use crate::record::outcome::{Counts, NOTED, Rejection, RejectionNote, VERBATIM_CAP};
use crate::store::digits;
use crate::store::{
    Chunk, DeliveryEnd, DeliveryStart, DeliveryState, DeliverySummary, DocumentEnd, DocumentStart, Opened,
    OriginRow, OriginStart, StoreError,
};

/// Finds or makes an origin; renames the one that was formerly called otherwise.
pub fn origin(db: &mut Database<'_>, origin: &OriginStart) -> Result<OriginRow, Fault> {
    if let Some(formerly) = origin.formerly.as_deref().filter(|formerly| *formerly != origin.name) {
        rename(db, formerly, &origin.name)?;
    }
    if let Some(row) = find_origin(db, &origin.name)? {
        let tenant = origin.tenant.as_deref().map_or(Value::Null, Value::Text);
        let update = "UPDATE origin SET tenant = ?2 WHERE name = ?1 AND tenant IS NOT ?2";
        db.run(update, &[Value::Text(&origin.name), tenant])?;
        // A zone corrected before the first row corrects nothing.
        let zone = "UPDATE origin SET time_zone = ?2 WHERE name = ?1 AND time_zone <> ?2
                        AND NOT EXISTS (SELECT 1 FROM cdr WHERE origin = ?1)";
        if db.run(zone, &[Value::Text(&origin.name), Value::Text(&origin.time_zone)])? > 0 {
            return Ok(OriginRow { time_zone: origin.time_zone.clone(), ..row });
        }
        return Ok(row);
    }
    // The name may be the key of an origin that was renamed since.
    let mut key = origin.name.clone();
    let taken = "SELECT 1 FROM origin WHERE key = ?1";
    let mut number = 2;
    while db.one(taken, &[Value::Text(&key)], |_| ())?.is_some() {
        key = format!("{}#{number}", origin.name);
        number += 1;
    }
    let now = db.now();
    db.run(
        "INSERT INTO origin (name, key, tenant, time_zone, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        &[
            Value::Text(&origin.name),
            Value::Text(&key),
            origin.tenant.as_deref().map_or(Value::Null, Value::Text),
            Value::Text(&origin.time_zone),
            Value::Text(&now),
        ],
    )?;
    Ok(OriginRow { key, time_zone: origin.time_zone.clone() })
}

fn find_origin(db: &mut Database<'_>, name: &str) -> Result<Option<OriginRow>, Fault> {
    let find = "SELECT key, time_zone FROM origin WHERE name = ?1";
    db.one(find, &[Value::Text(name)], |row| OriginRow {
        key: row.text(0).to_owned(),
        time_zone: row.text(1).to_owned(),
    })
}

fn rename(db: &mut Database<'_>, formerly: &str, name: &str) -> Result<(), Fault> {
    let Some(old) = find_origin(db, formerly)? else { return Ok(()) };
    if let Some(new) = find_origin(db, name)? {
        if new.key == old.key || new.key != name || new.key == formerly {
            return Ok(());
        }
        return Err(StoreError::Origin(format!(
            "origin {name} was formerly {formerly}, but both have stored something; remove `formerly` if they are two \
             PBXes, else restore the database from before {name} was first used"
        ))
        .into());
    }
    let pair = [Value::Text(formerly), Value::Text(name)];
    for update in [
        "UPDATE origin SET name = ?2 WHERE name = ?1",
        "UPDATE version SET origin = ?2 WHERE origin = ?1",
        "UPDATE summary SET origin = ?2 WHERE origin = ?1",
        "UPDATE hidden_session SET origin = ?2 WHERE origin = ?1",
        "UPDATE call_link SET origin = ?2 WHERE origin = ?1",
        "UPDATE tombstone SET origin = ?2 WHERE origin = ?1",
        "UPDATE delivery SET origin = ?2 WHERE origin = ?1",
    ] {
        db.run(update, &pair)?;
    }
    // Whoever copies changes must see the new name: each row gets its own place in the sequence.
    for id in db.all("SELECT id FROM cdr WHERE origin = ?1", &pair[..1], |row| row.int(0))? {
        let values = [Value::Int(id), Value::Text(name), Value::Int(db.next())];
        db.run("UPDATE cdr SET origin = ?2, change_seq = ?3 WHERE id = ?1", &values)?;
    }
    Ok(())
}

/// Notes a delivery.
pub fn start_delivery(
    db: &mut Database<'_>,
    delivery: &DeliveryStart,
    repeat_of: Option<DeliveryId>,
) -> Result<bool, Fault> {
    let received = Stamp::new(delivery.received_at.as_millisecond());
    db.run(
        "INSERT INTO delivery (id, source, account, origin, name, peer, content_hash, bytes, received_at, state,
                               pinned_format, time_zone)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (id) DO NOTHING",
        &[
            Value::Text(&delivery.id.to_string()),
            Value::Text(&delivery.source),
            delivery.account.as_deref().map_or(Value::Null, Value::Text),
            Value::Text(&delivery.origin),
            Value::Text(&delivery.name),
            delivery.peer.as_deref().map_or(Value::Null, Value::Text),
            delivery.content_hash.as_ref().map_or(Value::Null, |hash| Value::Blob(hash)),
            number(delivery.bytes),
            Value::Text(received.as_str()),
            Value::Text(DeliveryState::Reading.word()),
            delivery.pinned_format.as_deref().map_or(Value::Null, Value::Text),
            delivery.time_zone.as_deref().map_or(Value::Null, Value::Text),
        ],
    )?;
    repeat_of.map_or(Ok(false), |earlier| ended_well(db, earlier, delivery.id))
}

/// Whether this store has all of the earlier delivery, for the origin of this one: the spool may be younger or older
/// than the database, if one of them came from a backup, and another PBX may have taken the name of an origin that was
/// renamed. A delivery is repeated itself when all its documents were.
fn ended_well(db: &mut Database<'_>, earlier: DeliveryId, this: DeliveryId) -> Result<bool, Fault> {
    let ended = "SELECT 1 FROM delivery WHERE id = ?1 AND state IN ('done', 'empty', 'repeated')
                    AND origin = (SELECT origin FROM delivery WHERE id = ?2)";
    let ids = [earlier, this].map(|id| id.to_string());
    Ok(db.one(ended, &[Value::Text(&ids[0]), Value::Text(&ids[1])], |_| ())?.is_some())
}

/// Adopts the latest run of a document, or begins the first; ends it if its bytes were seen before.
pub fn open(db: &mut Database<'_>, document: &DocumentStart) -> Result<Opened, Fault> {
    let opened = adopt(db, document)?;
    let untouched = !opened.done && opened.next_row == 1;
    let Some(repeat) = document.repeat.filter(|_| untouched) else { return Ok(opened) };
    if !ended_well(db, repeat.of, document.delivery)? {
        return Ok(opened);
    }
    db.run(
        "UPDATE document SET state = 'repeated', content_hash = ?2 WHERE id = ?1",
        &[Value::Int(opened.document), Value::Blob(&repeat.content_hash)],
    )?;
    Ok(Opened { done: true, ..opened })
}

fn adopt(db: &mut Database<'_>, document: &DocumentStart) -> Result<Opened, Fault> {
    let delivery = document.delivery.to_string();
    let dialect = document.dialect.as_ref().map(serde_json::to_string).transpose();
    let dialect = dialect.map_err(|error| Fault::Damaged(error.to_string()))?;
    let format = document.format.as_deref().map_or(Value::Null, Value::Text);
    let dialect = dialect.as_deref().map_or(Value::Null, Value::Text);
    let find = "SELECT id, run, next_row, state FROM document WHERE delivery_id = ?1 AND number = ?2
                 ORDER BY run DESC LIMIT 1";
    let key = [Value::Text(&delivery), Value::Int(document.number.into())];
    let found = db.one(find, &key, |row| {
        let opened = Opened {
            document: row.int(0),
            run: u32::try_from(row.int(1)).unwrap_or(1),
            next_row: row.unsigned(2),
            done: row.text(3) != "reading",
        };
        (opened, row.text(3) == "superseded")
    })?;
    // What the run before stated was withdrawn.
    let run = found.filter(|(_, superseded)| *superseded).map_or(1, |(opened, _)| opened.run + 1);
    if let Some((opened, false)) = found {
        // Rows that are stored were read in the dialect that is stored with them.
        db.run(
            "UPDATE document SET claim = ?2, format = iif(next_row = 1, ?3, format),
                                 dialect = iif(next_row = 1, ?4, dialect), path = iif(next_row = 1, ?5, path)
              WHERE id = ?1",
            &[
                Value::Int(opened.document),
                Value::Text(&document.claim),
                format,
                dialect,
                Value::Text(&document.path),
            ],
        )?;
        return Ok(opened);
    }
    let id = db.next_document();
    let inserted = db.run(
        "INSERT INTO document (id, delivery_id, number, run, path, format, dialect, state, next_row, claim)
         SELECT ?1, ?2, ?3, ?8, ?4, ?5, ?6, 'reading', 1, ?7
          WHERE EXISTS (SELECT 1 FROM delivery WHERE id = ?2)",
        &[
            Value::Int(id),
            key[0],
            key[1],
            Value::Text(&document.path),
            format,
            dialect,
            Value::Text(&document.claim),
            Value::Int(run.into()),
        ],
    )?;
    // The delivery was noted in a transaction that was rolled back: it must be claimed again.
    if inserted == 0 {
        return Err(StoreError::FenceLost.into());
    }
    Ok(Opened { document: id, run, next_row: 1, done: false })
}

/// Begins a new run of a document.
pub fn restart(db: &mut Database<'_>, document: i64, claim: &str) -> Result<Opened, Fault> {
    let old = [Value::Int(document), Value::Text(claim)];
    let supersede = "UPDATE document SET state = 'superseded' WHERE id = ?1 AND claim = ?2
                        AND NOT EXISTS (SELECT 1 FROM document later
                                         WHERE later.delivery_id = document.delivery_id
                                           AND later.number = document.number AND later.run > document.run)";
    if db.run(supersede, &old)? == 0 {
        return Err(StoreError::FenceLost.into());
    }
    let now = db.now();
    let resolve = "UPDATE rejected SET resolved_at = ?2 WHERE document_id = ?1 AND resolved_at IS NULL";
    db.run(resolve, &[Value::Int(document), Value::Text(&now)])?;
    let id = db.next_document();
    let run = db.one(
        "INSERT INTO document (id, delivery_id, number, run, path, format, dialect, state, next_row, claim)
         SELECT ?1, delivery_id, number, run + 1, path, format, dialect, 'reading', 1, claim
           FROM document WHERE id = ?2
         RETURNING run",
        &[Value::Int(id), Value::Int(document)],
        |row| u32::try_from(row.int(0)).unwrap_or(1),
    )?;
    Ok(Opened { document: id, run: run.unwrap_or(1), next_row: 1, done: false })
}

/// Passes the fence: moves the document on if it stands where this process left it.
pub fn fence(db: &mut Database<'_>, chunk: &Chunk) -> Result<(), Fault> {
    let moved = db.run(
        "UPDATE document SET next_row = ?2 WHERE id = ?1 AND next_row = ?3 AND claim = ?4 AND state = 'reading'",
        &[
            Value::Int(chunk.document),
            number(chunk.next_row),
            number(chunk.from_row),
            Value::Text(&chunk.claim),
        ],
    )?;
    if moved == 1 { Ok(()) } else { Err(StoreError::FenceLost.into()) }
}

/// Whose rows a document's are.
pub fn reading(db: &mut Database<'_>, document: i64) -> Result<Reading, Fault> {
    let find = "SELECT delivery.id, delivery.origin, origin.tenant, delivery.source
                  FROM document JOIN delivery ON delivery.id = document.delivery_id
                  LEFT JOIN origin ON origin.name = delivery.origin
                 WHERE document.id = ?1";
    let found = db.one(find, &[Value::Int(document)], |row| Reading {
        document,
        delivery: row.text(0).to_owned(),
        origin: row.text(1).to_owned(),
        tenant: Some(row.text(2).to_owned()).filter(|tenant| !tenant.is_empty()),
        source: row.text(3).to_owned(),
    })?;
    found.ok_or_else(|| StoreError::FenceLost.into())
}

/// What a chunk adds to its document.
#[derive(Debug, Default)]
pub struct Tally {
    /// Outcomes.
    pub counts: Counts,
    /// Rows added and withdrawn.
    pub changes: Changes,
    /// Earliest and latest start, milliseconds.
    pub span: Option<(i64, i64)>,
}

impl Tally {
    /// Counts a row by how it ended.
    pub const fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Stored => self.counts.stored += 1,
            Outcome::Duplicate => self.counts.duplicate += 1,
            Outcome::Amended => self.counts.amended += 1,
            Outcome::Skipped => self.counts.skipped += 1,
        }
        self.counts.rows_read += 1;
    }

    /// Notes a start.
    pub fn span(&mut self, start: i64) {
        let (first, last) = self.span.unwrap_or((start, start));
        self.span = Some((first.min(start), last.max(start)));
    }
}

/// Adds a chunk's counts, and ends the run with its last chunk.
pub fn count(
    db: &mut Database<'_>,
    document: i64,
    tally: &Tally,
    end: Option<&DocumentEnd>,
) -> Result<(), Fault> {
    let span = tally.span.map(|(first, last)| (Stamp::new(first), Stamp::new(last)));
    let counts = &tally.counts;
    let hash = end.and_then(|end| end.content_hash);
    db.run(
        "UPDATE document SET rows_read = rows_read + ?2, stored = stored + ?3, duplicate = duplicate + ?4,
                amended = amended + ?5, rejected = rejected + ?6, skipped = skipped + ?7, held = held + ?8,
                legs_added = legs_added + ?9, legs_withdrawn = legs_withdrawn + ?10,
                first_start = min(coalesce(first_start, ?11), coalesce(?11, first_start)),
                last_start = max(coalesce(last_start, ?12), coalesce(?12, last_start)),
                flags = iif(?13, 'identity_collision', flags),
                state = coalesce(?14, state), content_hash = coalesce(?15, content_hash)
          WHERE id = ?1",
        &[
            Value::Int(document),
            number(counts.rows_read),
            number(counts.stored),
            number(counts.duplicate),
            number(counts.amended),
            number(counts.rejected),
            number(counts.skipped),
            number(counts.held),
            number(tally.changes.added),
            number(tally.changes.withdrawn),
            span.as_ref().map_or(Value::Null, |(first, _)| Value::Text(first.as_str())),
            span.as_ref().map_or(Value::Null, |(_, last)| Value::Text(last.as_str())),
            Value::Int(tally.changes.collision.into()),
            end.map_or(Value::Null, |end| Value::Text(if end.rejected { "rejected" } else { "done" })),
            hash.as_ref().map_or(Value::Null, |hash| Value::Blob(hash)),
        ],
    )?;
    Ok(())
}

/// Keeps a rejected row (row 0: the document) for a person.
pub fn reject(db: &mut Database<'_>, document: i64, rejection: &Rejection) -> Result<(), Fault> {
    let position = rejection.position;
    let verbatim = rejection.verbatim.get(..VERBATIM_CAP).unwrap_or(&rejection.verbatim);
    let id = db.one(
        "INSERT INTO rejected (document_id, row_number, byte_offset, byte_length, verbatim, field, reason, message)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING id",
        &[
            Value::Int(document),
            number(position.row),
            number(position.offset),
            number(position.length),
            Value::Blob(verbatim),
            rejection.field.as_deref().map_or(Value::Null, Value::Text),
            Value::Text(rejection.reason.code()),
            Value::Text(&rejection.message),
        ],
        |row| row.int(0),
    )?;
    // Its numbers, to find it by; one empty number where they are too many.
    let tails = digits::tails(verbatim).unwrap_or_else(|| [String::new()].into());
    for tail in &tails {
        // A rejection that was deleted by hand may have left its number behind.
        let list = "INSERT INTO rejected_number (number, rejected_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        db.run(list, &[Value::Text(tail), Value::Int(id.unwrap_or(0))])?;
    }
    Ok(())
}

/// Ends a delivery; its counts are those of the latest runs of its documents.
pub fn finish_delivery(
    db: &mut Database<'_>,
    id: DeliveryId,
    end: &DeliveryEnd,
) -> Result<DeliverySummary, Fault> {
    let id = id.to_string();
    let sum = "SELECT coalesce(sum(rows_read), 0), coalesce(sum(stored), 0), coalesce(sum(duplicate), 0),
                      coalesce(sum(amended), 0), coalesce(sum(rejected), 0), coalesce(sum(skipped), 0),
                      coalesce(sum(held), 0), count(*), coalesce(sum(state = 'rejected'), 0),
                      coalesce(sum(state = 'repeated'), 0)
                 FROM document WHERE delivery_id = ?1 AND state <> 'superseded'";
    let sums = db.one(sum, &[Value::Text(&id)], |row| {
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|column| row.unsigned(column))
    })?;
    let [
        rows_read,
        stored,
        duplicate,
        amended,
        rejected,
        skipped,
        held,
        documents,
        rejected_documents,
        repeated,
    ] = sums.unwrap_or_default();
    let counts = Counts { rows_read, stored, duplicate, amended, rejected, skipped, held };
    let state = end.state.unwrap_or(match counts {
        _ if documents > 0 && documents == rejected_documents => DeliveryState::Rejected,
        Counts { rejected: 1.., .. } => DeliveryState::DoneWithRejects,
        _ if rejected_documents > 0 => DeliveryState::DoneWithRejects,
        _ if documents > 0 && documents == repeated => DeliveryState::Repeated,
        Counts { rows_read: 0, .. } => DeliveryState::Empty,
        _ => DeliveryState::Done,
    });
    let mut values = vec![
        Value::Text(&id),
        Value::Text(state.word()),
        end.content_hash.as_ref().map_or(Value::Null, |hash| Value::Blob(hash)),
        number(end.bytes),
    ];
    values.extend([rows_read, stored, duplicate, amended, rejected, skipped, held].map(number));
    let updated = db.run(
        "UPDATE delivery SET state = ?2, content_hash = coalesce(?3, content_hash), bytes = ?4, rows_read = ?5,
                stored = ?6, duplicate = ?7, amended = ?8, rejected = ?9, skipped = ?10, held = ?11
          WHERE id = ?1 AND (?2 = 'growing'
                OR NOT EXISTS (SELECT 1 FROM document WHERE delivery_id = ?1 AND state = 'reading'))",
        &values,
    )?;
    if updated == 0 {
        return Err(StoreError::FenceLost.into());
    }
    let rejections = if rejected + rejected_documents > 0 { first_rejections(db, &id)? } else { Vec::new() };
    Ok(DeliverySummary { state, counts, rejected_documents, rejections })
}

fn first_rejections(db: &mut Database<'_>, delivery: &str) -> Result<Vec<RejectionNote>, Fault> {
    db.all(
        "SELECT path, row_number, byte_offset, byte_length, field, reason, message
           FROM document JOIN rejected ON document_id = document.id
          WHERE delivery_id = ? AND state <> 'superseded' AND resolved_at IS NULL
          ORDER BY number, row_number LIMIT ?",
        &[Value::Text(delivery), Value::unsigned(NOTED as u64)],
        |row| RejectionNote {
            document: row.string(0),
            row: row.unsigned(1),
            offset: row.unsigned(2),
            length: row.unsigned(3),
            field: row.text_given(4),
            reason: row.string(5),
            message: row.string(6),
        },
    )
}

/// Notes what is wrong with an origin's clock, nothing if it is empty; gives whether that is news.
pub fn clock_fault(db: &mut Database<'_>, origin: &str, fault: &str) -> Result<bool, Fault> {
    let note = "UPDATE origin SET clock_fault = ?2 WHERE name = ?1 AND clock_fault IS NOT ?2";
    let fault = if fault.is_empty() { Value::Null } else { Value::Text(fault) };
    Ok(db.run(note, &[Value::Text(origin), fault])? > 0)
}

/// A count as a value.
pub fn number(number: u64) -> Value<'static> {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}
