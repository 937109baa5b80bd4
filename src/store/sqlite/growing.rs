//! Documents that grow: where they are read on, and how often rows that no id tells apart were seen so far.
//!
//! Counts move in the transaction that stores the rows they count, so that a crash can neither lose nor double one.

use super::database::{Database, Fault};
use super::raw::Value;
use crate::record::delivery::DeliveryId;
use crate::store::{Grown, Opened, OpenedGrowing};

/// A found document: where it stands, how it is read, where its last row begins.
type Found = (Opened, String, String, u64);

/// Takes up the document of a delivery that grows; `None` when none was opened yet.
pub fn open(
    db: &mut Database<'_>,
    delivery: DeliveryId,
    claim: &str,
    continues: Option<DeliveryId>,
) -> Result<Option<OpenedGrowing>, Fault> {
    let Some((opened, format, dialect, resume_offset)) = find(db, delivery)? else { return Ok(None) };
    let document = Value::Int(opened.document);
    db.run("UPDATE document SET claim = ?2 WHERE id = ?1", &[document, Value::Text(claim)])?;
    if opened.next_row == 1 {
        begin(db, opened.document, continues)?;
    }
    let read_as = if format.is_empty() {
        None
    } else {
        let dialect = serde_json::from_str(&dialect).map_err(|error| Fault::Damaged(error.to_string()))?;
        Some((format, dialect))
    };
    Ok(Some(OpenedGrowing { opened, read_as, resume_offset }))
}

/// How often rows that no id tells apart were seen in the last two days.
pub fn copies(db: &mut Database<'_>, document: i64) -> Result<Vec<([u8; 16], u32)>, Fault> {
    let now = db.now();
    db.all(
        "SELECT row, count FROM copies WHERE document_id = ?1 AND seen_at >= datetime(?2, '-2 days')",
        &[Value::Int(document), Value::Text(&now)],
        |row| (row.hash(0), u32::try_from(row.int(1)).unwrap_or(u32::MAX)),
    )
}

/// How often rows that no id tells apart had been seen when a delivery that grew began.
pub fn copies_before(db: &mut Database<'_>, delivery: DeliveryId) -> Result<Vec<([u8; 16], u32)>, Fault> {
    db.all(
        "SELECT copies.row, copies.before FROM document JOIN copies ON copies.document_id = document.id
          WHERE document.delivery_id = ?1 AND copies.before > 0",
        &[Value::Text(&delivery.to_string())],
        |row| (row.hash(0), u32::try_from(row.int(1)).unwrap_or(u32::MAX)),
    )
}

fn find(db: &mut Database<'_>, delivery: DeliveryId) -> Result<Option<Found>, Fault> {
    let find = "SELECT id, run, next_row, state, format, dialect, resume_offset FROM document
                 WHERE delivery_id = ?1 AND number = 1 ORDER BY run DESC LIMIT 1";
    db.one(find, &[Value::Text(&delivery.to_string())], |row| {
        let opened = Opened {
            document: row.int(0),
            run: u32::try_from(row.int(1)).unwrap_or(1),
            next_row: row.unsigned(2),
            done: row.text(3) != "reading",
        };
        (opened, row.text(4).to_owned(), row.text(5).to_owned(), row.unsigned(6))
    })
}

/// Counts on from the document before, and forgets what nobody will ask for again.
fn begin(db: &mut Database<'_>, document: i64, continues: Option<DeliveryId>) -> Result<(), Fault> {
    let now = db.now();
    db.run(
        "DELETE FROM copies WHERE before = 0 AND seen_at < datetime(?1, '-2 days')",
        &[Value::Text(&now)],
    )?;
    let Some(earlier) = continues else { return Ok(()) };
    db.run(
        "INSERT INTO copies (document_id, row, before, count, seen_at)
         SELECT ?1, row, count, count, seen_at FROM copies
          WHERE document_id = (SELECT id FROM document WHERE delivery_id = ?2 AND number = 1
                                ORDER BY run DESC LIMIT 1)
            AND seen_at >= datetime(?3, '-2 days')
             ON CONFLICT DO NOTHING",
        &[Value::Int(document), Value::Text(&earlier.to_string()), Value::Text(&now)],
    )?;
    Ok(())
}

/// Moves on with a chunk, behind the same fence.
pub fn move_on(db: &mut Database<'_>, document: i64, grown: &Grown) -> Result<(), Fault> {
    let offset = i64::try_from(grown.resume_offset).unwrap_or(i64::MAX);
    let update = "UPDATE document SET resume_offset = ?2 WHERE id = ?1";
    db.run(update, &[Value::Int(document), Value::Int(offset)])?;
    let now = db.now();
    for (row, count) in &grown.copies {
        db.run(
            "INSERT INTO copies (document_id, row, before, count, seen_at) VALUES (?1, ?2, 0, ?3, ?4)
             ON CONFLICT DO UPDATE SET count = excluded.count, seen_at = excluded.seen_at",
            &[Value::Int(document), Value::Blob(row), Value::Int(i64::from(*count)), Value::Text(&now)],
        )?;
    }
    Ok(())
}
