//! Where a leg comes from: the statements that it is made of, and the documents in which they stood.

use super::columns::{Content, Stamp};
use super::legs::Asked;
use super::query::SqliteQuery;
use super::stated::{self, KnownLayout};
use crate::dedup::Identified;
use crate::record::raw::Position;
use crate::store::query::{CardOf, QueryError, ReadDocument, Statement, Table, Twin, Value};
use jiff::Timestamp;

/// A leg with one version keeps it in its own row.
const OWN: &str = "SELECT c.*, d.number, d.path, l.name, l.received_at FROM cdr c \
    LEFT JOIN document d ON d.id = c.document_id LEFT JOIN delivery l ON l.id = c.delivery_id WHERE c.id = ?1";

const OTHERS: &str = "SELECT v.*, d.number, d.path, l.name, l.received_at FROM version v \
    LEFT JOIN document d ON d.id = v.document_id LEFT JOIN delivery l ON l.id = v.delivery_id \
    WHERE v.key_day = ?1 AND v.identity = ?2 AND v.leg = ?3 ORDER BY v.stored_order";

/// All statements of a leg.
pub(super) fn statements(
    query: &SqliteQuery,
    leg: i64,
    card: CardOf<'_>,
) -> Result<Vec<Statement>, QueryError> {
    let own = query.table(OWN, &[Value::Integer(leg)])?;
    let Some(row) = own.rows.first() else { return Ok(Vec::new()) };
    if own.value(row, "versions").integer() == 1 {
        return Ok(vec![statement(query, &own, row, true, card)?]);
    }
    let key = ["key_day", "identity", "leg"].map(|column| own.value(row, column).clone());
    let others = query.table(OTHERS, &key)?;
    others.rows.iter().map(|row| statement(query, &others, row, false, card)).collect()
}

fn statement(
    query: &SqliteQuery,
    table: &Table,
    row: &[Value],
    beside: bool,
    card: CardOf<'_>,
) -> Result<Statement, QueryError> {
    let text = |column: &str| table.value(row, column).text().to_owned();
    let unsigned = |column: &str| u64::try_from(table.value(row, column).integer()).unwrap_or(0);
    let position = Position {
        row: unsigned("row_number"),
        offset: unsigned("byte_offset"),
        length: unsigned("byte_length"),
    };
    let undecodable = |_| {
        QueryError::Unfit(format!(
            "the statement of row {} of delivery {} cannot be read",
            position.row,
            text("delivery_id")
        ))
    };
    let blob = blob(table.value(row, "stated"));
    let layout = layout(query, stated::layout_of(blob).map_err(undecodable)?, card)?;
    let content = beside.then(|| Content::of_texts(|column| table.value(row, column.name()).text()));
    let (raw, _) = stated::decode(blob, &layout, position, content.as_ref()).map_err(undecodable)?;
    Ok(Statement {
        version_hash: hash(table.value(row, "version_hash")),
        origin: text("origin"),
        source: text("source"),
        delivery: text("delivery_id"),
        delivery_name: text("name"),
        received_at: text("received_at"),
        document: table.value(row, "document_id").integer(),
        document_number: table.value(row, "number").integer(),
        document_path: text("path"),
        stored_at: text("stored_at"),
        raw,
    })
}

fn layout(query: &SqliteQuery, id: i64, card: CardOf<'_>) -> Result<KnownLayout, QueryError> {
    let find = "SELECT format, kind, dialect, headers, places FROM layout WHERE id = ?1";
    let found = query.table(find, &[Value::Integer(id)])?;
    let missing = || QueryError::Unfit(format!("row {id} of table layout is missing"));
    let [format, texts @ ..] = found.rows.first().map(Vec::as_slice).ok_or_else(missing)? else {
        return Err(missing());
    };
    let Some(card) = card(format.text()) else {
        return Err(QueryError::Unfit(format!(
            "stored rows have the format {}, which is not known",
            format.text()
        )));
    };
    let [kind, dialect, headers, places] = texts else { return Err(missing()) };
    KnownLayout::read(id, card, [kind.text(), dialect.text(), headers.text(), places.text()])
        .map_err(QueryError::Unfit)
}

fn blob(value: &Value) -> &[u8] {
    match value {
        Value::Blob(bytes) => bytes,
        _ => &[],
    }
}

fn hash(value: &Value) -> [u8; 16] {
    blob(value).try_into().unwrap_or_default()
}

/// The stored statement with the very same text.
pub(super) fn twin(query: &SqliteQuery, record: &Identified) -> Result<Option<Twin>, QueryError> {
    let sql = "SELECT v.delivery_id, v.document_id, v.row_number,
                      (SELECT id FROM cdr c WHERE c.key_day = ?1 AND c.identity = ?2 AND c.leg = v.leg) AS leg
                 FROM cdr_version v WHERE v.key_day = ?1 AND v.identity = ?2 AND v.version_hash = ?3";
    let found = query.table(
        sql,
        &[
            Value::Integer(record.key.day.into()),
            Value::Blob(record.key.identity.to_vec()),
            Value::Blob(record.version_hash.to_vec()),
        ],
    )?;
    let twin = |row: &Vec<Value>| Twin {
        leg: Some(found.value(row, "leg").integer()).filter(|leg| *leg != 0),
        delivery: found.value(row, "delivery_id").text().to_owned(),
        document: found.value(row, "document_id").integer(),
        row_number: found.value(row, "row_number").integer(),
    };
    Ok(found.rows.first().map(twin))
}

/// Documents whose calls span some of this time.
pub(super) fn documents(
    query: &SqliteQuery,
    since: Timestamp,
    until: Timestamp,
) -> Result<Vec<ReadDocument>, QueryError> {
    let mut asked = Asked::default();
    asked.text("d.last_start >= {}", &stamp(since));
    asked.text("d.first_start <= {}", &stamp(until));
    let sql = format!(
        "SELECT d.id, d.delivery_id, d.number, d.path, d.format, d.dialect, l.name, l.source, l.origin, \
                coalesce(o.key, l.origin) AS key \
           FROM document d JOIN delivery l ON l.id = d.delivery_id LEFT JOIN origin o ON o.name = l.origin \
          WHERE d.state <> 'superseded' AND d.format IS NOT NULL AND {} ORDER BY d.delivery_id, d.number",
        asked.sql()
    );
    let found = query.table(&sql, &asked.values)?;
    let document = |row: &Vec<Value>| {
        let text = |column: &str| found.value(row, column).text().to_owned();
        ReadDocument {
            id: found.value(row, "id").integer(),
            delivery: text("delivery_id"),
            delivery_name: text("name"),
            source: text("source"),
            origin: text("origin"),
            origin_key: text("key"),
            number: u32::try_from(found.value(row, "number").integer()).unwrap_or(0),
            path: text("path"),
            format: text("format"),
            dialect: text("dialect"),
        }
    };
    Ok(found.rows.iter().map(document).collect())
}

/// What each source brought of a time.
pub(super) fn coverage(query: &SqliteQuery, at: Timestamp) -> Result<Table, QueryError> {
    let part = |relation: &str, start: &str, end: &str, condition: &str, group: &str| {
        format!(
            "SELECT l.source, l.origin, '{relation}' AS relation, d.delivery_id, l.name, d.number, d.path, \
                    {start} AS first_start, {end} AS last_start \
               FROM document d JOIN delivery l ON l.id = d.delivery_id \
              WHERE d.state <> 'superseded' AND {condition} {group}"
        )
    };
    // The other columns of a row with max() or min() are those of the row that has it.
    let each = "GROUP BY l.source, l.origin";
    let sql = [
        part("covers", "d.first_start", "d.last_start", "d.first_start <= ?1 AND d.last_start >= ?1", ""),
        part("before", "d.first_start", "max(d.last_start)", "d.last_start < ?1", each),
        part("after", "min(d.first_start)", "d.last_start", "d.first_start > ?1", each),
    ];
    let sql = format!("{} ORDER BY 1, 2, first_start, delivery_id", sql.join(" UNION ALL "));
    query.table(&sql, &[Value::Text(stamp(at))])
}

fn stamp(time: Timestamp) -> String {
    Stamp::new(time.as_millisecond()).as_str().to_owned()
}
