//! Finds what is to be read again, and what must be read again with it.

use super::super::columns::Stamp;
use super::SqliteQuery;
use crate::dedup::{Span, reach};
use crate::record::delivery::DeliveryId;
use crate::store::DeliveryStart;
use crate::store::query::{
    DeliveryWish, OpenRejection, QueryError, RejectedDocument, RejectionWish, Table, Value,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const DELIVERY: &str = "l.id AS delivery, l.source, l.account, l.origin, l.name, l.peer, l.content_hash, l.bytes, \
    l.received_at, l.pinned_format, l.time_zone, l.state";

/// Conditions with their values.
#[derive(Default)]
struct Conditions {
    sql: String,
    values: Vec<Value>,
}

impl Conditions {
    fn text(&mut self, condition: &str, text: Option<String>) {
        if let Some(text) = text {
            self.values.push(Value::Text(text));
            let _ = write!(self.sql, " AND {condition} ?{}", self.values.len());
        }
    }

    fn one_of(&mut self, column: &str, values: impl Iterator<Item = Value>) {
        let begun = self.values.len();
        self.values.extend(values);
        if self.values.len() > begun {
            let marks: Vec<String> =
                (begun..self.values.len()).map(|place| format!("?{}", place + 1)).collect();
            let _ = write!(self.sql, " AND {column} IN ({})", marks.join(", "));
        }
    }
}

/// Ids of deliveries that have ended. One that the door knew again has no documents and no original: it stands for the
/// one it repeats.
pub(super) fn deliveries(query: &SqliteQuery, wish: &DeliveryWish) -> Result<Vec<DeliveryId>, QueryError> {
    let mut conditions = Conditions::default();
    conditions.one_of("l.id", wish.ids.iter().map(|id| Value::Text(id.to_string())));
    conditions.text("l.source =", wish.source.clone());
    conditions.text("l.origin =", wish.origin.clone());
    conditions.text("l.received_at >=", wish.since.map(written));
    conditions.text("l.received_at <", wish.until.map(written));
    let sql = format!(
        "SELECT DISTINCT iif(l.state = 'repeated' AND NOT EXISTS (SELECT 1 FROM document WHERE delivery_id = l.id), \
                             (SELECT min(first.id) FROM delivery first \
                               WHERE first.content_hash = l.content_hash AND first.origin = l.origin \
                                 AND EXISTS (SELECT 1 FROM document WHERE delivery_id = first.id)), \
                             l.id) AS delivery \
           FROM delivery l WHERE l.state NOT IN ('reading', 'growing'){} ORDER BY 1",
        conditions.sql
    );
    let table = query.table(&sql, &conditions.values)?;
    let known = table.rows.iter().filter(|row| *table.value(row, "delivery") != Value::Null);
    known.map(|row| id(&table, row)).collect()
}

/// The deliveries with all that must be read again with them, oldest first.
pub(super) fn read_again(
    query: &SqliteQuery,
    chosen: &[DeliveryId],
) -> Result<Vec<DeliveryStart>, QueryError> {
    let mut wanted: BTreeSet<String> = chosen.iter().map(ToString::to_string).collect();
    for (_, spans) in spans(query)? {
        let known: BTreeSet<&String> = spans.iter().map(|span| &span.delivery).collect();
        let here: BTreeSet<String> = wanted.iter().filter(|id| known.contains(id)).cloned().collect();
        if !here.is_empty() {
            wanted.append(&mut reach(&here, &spans));
        }
    }
    let mut starts = Vec::with_capacity(wanted.len());
    let sql = format!("SELECT {DELIVERY} FROM delivery l WHERE l.id = ?1");
    for delivery in wanted {
        let table = query.table(&sql, &[Value::Text(delivery)])?;
        for row in &table.rows {
            let start = start(&table, row)?;
            if matches!(table.value(row, "state").text(), "reading" | "growing") {
                return Err(QueryError::Unfinished(start.id.to_string()));
            }
            starts.push(start);
        }
    }
    Ok(starts)
}

/// What each delivery spans, by origin.
fn spans(query: &SqliteQuery) -> Result<BTreeMap<String, Vec<Span<String>>>, QueryError> {
    let table = query.table(
        "SELECT l.origin, d.delivery_id AS delivery, unixepoch(d.first_start) AS first,
                unixepoch(d.last_start) AS last,
                d.duplicate > 0 OR d.skipped > 0 OR d.format IN (SELECT format FROM layout WHERE kind = '\"summary\"') AS hides
           FROM document d JOIN delivery l ON l.id = d.delivery_id
          WHERE d.state <> 'superseded' AND d.first_start IS NOT NULL",
        &[],
    )?;
    let mut spans: BTreeMap<String, Vec<Span<String>>> = BTreeMap::new();
    for row in &table.rows {
        let number = |column: &str| table.value(row, column).integer();
        spans.entry(table.value(row, "origin").text().to_owned()).or_default().push(Span {
            delivery: table.value(row, "delivery").text().to_owned(),
            first: number("first"),
            last: number("last"),
            hides: number("hides") != 0,
        });
    }
    Ok(spans)
}

/// Open rejections, by document, oldest first.
pub(super) fn rejected_documents(
    query: &SqliteQuery,
    wish: &RejectionWish,
) -> Result<Vec<RejectedDocument>, QueryError> {
    let mut conditions = Conditions::default();
    conditions.one_of("r.id", wish.ids.iter().map(|id| Value::Integer(*id)));
    conditions.text("r.reason =", wish.reason.clone());
    conditions.text("l.source =", wish.source.clone());
    conditions.text("coalesce(d.format, '') =", wish.format.clone());
    let sql = format!(
        "SELECT {DELIVERY}, d.id AS document, d.number, d.format, d.dialect, d.rows_read, r.id AS rejection, r.row_number, \
                r.byte_offset, 1{} AS chosen \
           FROM rejected r JOIN document d ON d.id = r.document_id JOIN delivery l ON l.id = d.delivery_id \
          WHERE r.resolved_at IS NULL AND d.state IN ('done', 'rejected') AND l.state NOT IN ('reading', 'growing') \
          ORDER BY d.delivery_id, d.number, r.row_number, r.id",
        conditions.sql
    );
    let table = query.table(&sql, &conditions.values)?;
    let mut documents: Vec<RejectedDocument> = Vec::new();
    for row in &table.rows {
        let number = |column: &str| u64::try_from(table.value(row, column).integer()).unwrap_or(0);
        let rejection = OpenRejection {
            id: table.value(row, "rejection").integer(),
            row: number("row_number"),
            offset: number("byte_offset"),
            chosen: number("chosen") != 0,
        };
        let document = table.value(row, "document").integer();
        match documents.last_mut().filter(|last| last.document == document) {
            Some(last) => last.rejections.push(rejection),
            None => documents.push(RejectedDocument {
                delivery: start(&table, row)?,
                document,
                number: u32::try_from(number("number")).unwrap_or(0),
                format: text(&table, row, "format"),
                dialect: text(&table, row, "dialect").and_then(|text| serde_json::from_str(&text).ok()),
                rows_read: number("rows_read"),
                rejections: vec![rejection],
            }),
        }
    }
    documents.retain(|document| document.rejections.iter().any(|rejection| rejection.chosen));
    Ok(documents)
}

/// A time as the tables write it.
fn written(time: Timestamp) -> String {
    Stamp::new(time.as_millisecond()).as_str().to_owned()
}

fn text(table: &Table, row: &[Value], column: &str) -> Option<String> {
    Some(table.value(row, column).text().to_owned()).filter(|text| !text.is_empty())
}

fn id(table: &Table, row: &[Value]) -> Result<DeliveryId, QueryError> {
    let id = table.value(row, "delivery").text();
    id.parse().map_err(|_| damaged("a delivery without an id"))
}

fn damaged(what: &str) -> QueryError {
    QueryError::Refused {
        cause: format!("table delivery holds {what}"),
        mend: "restore the database from a backup, or build it anew (docs/operating.md)",
    }
}

fn start(table: &Table, row: &[Value]) -> Result<DeliveryStart, QueryError> {
    let plain = |column: &str| table.value(row, column).text().to_owned();
    let received = plain("received_at");
    let received = jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S%.f", &received)
        .and_then(|time| time.to_zoned(TimeZone::UTC))
        .map_err(|_| damaged("a time that is none"))?;
    let content_hash = match table.value(row, "content_hash") {
        Value::Blob(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    };
    Ok(DeliveryStart {
        id: id(table, row)?,
        source: plain("source"),
        account: text(table, row, "account"),
        origin: plain("origin"),
        name: plain("name"),
        peer: text(table, row, "peer"),
        content_hash,
        bytes: u64::try_from(table.value(row, "bytes").integer()).unwrap_or(0),
        received_at: received.timestamp(),
        pinned_format: text(table, row, "pinned_format"),
        time_zone: text(table, row, "time_zone"),
    })
}
