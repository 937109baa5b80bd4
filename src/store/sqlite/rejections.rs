//! Which open rejections a person asks for.

use super::columns::Stamp;
use super::legs::Asked;
use super::query::{OPEN_REJECTIONS, SqliteQuery};
use crate::store::digits;
use crate::store::query::{QueryError, RejectedWish, Table, Value};
use std::ops::ControlFlow;

const COLUMNS: &str = "r.id, d.delivery_id, l.name, l.source, d.path, d.format, r.row_number, r.byte_offset, r.byte_length, \
    r.reason, r.field, r.message, r.document_id, d.number AS document_number";

/// The rejections, the latest first.
pub(super) fn rejected(query: &SqliteQuery, wish: &RejectedWish) -> Result<Table, QueryError> {
    let mut asked = Asked::default();
    if let Some(reason) = &wish.reason {
        asked.text("r.reason = {}", reason);
    }
    if let Some(format) = &wish.format {
        asked.text("coalesce(d.format, '') = {}", format);
    }
    if let Some(source) = &wish.source {
        asked.text("l.source = {}", source);
    }
    if let Some((since, until)) = wish.around {
        let stamp = |time: jiff::Timestamp| Stamp::new(time.as_millisecond()).as_str().to_owned();
        asked.text("(d.last_start IS NULL OR d.last_start >= {})", &stamp(since));
        asked.text("(d.first_start IS NULL OR d.first_start <= {})", &stamp(until));
    }
    if let Some(tail) = &wish.tail {
        return with_number(query, wish, asked, tail);
    }
    let limit = asked.mark(Value::Integer(wish.limit.into()));
    let sql =
        format!("SELECT {COLUMNS} {OPEN_REJECTIONS} AND {} ORDER BY r.id DESC LIMIT {limit}", asked.sql());
    query.table(&sql, &asked.values)
}

/// Those in which a number stands: the listed ones by their index, then the few that must be read to know.
fn with_number(
    query: &SqliteQuery,
    wish: &RejectedWish,
    mut asked: Asked,
    tail: &str,
) -> Result<Table, QueryError> {
    // Before the daemon of this version first ran there is no such table, and all are read.
    let listed = query.number("SELECT count(*) FROM sqlite_schema WHERE name = 'rejected_number'")? > 0;
    if listed {
        let listed = "r.id IN (SELECT rejected_id FROM rejected_number WHERE number IN ({}, ''))";
        asked.text(listed, tail);
    }
    let sql = format!(
        "SELECT {COLUMNS}, l.origin, r.verbatim {OPEN_REJECTIONS} AND {} ORDER BY r.id DESC",
        asked.sql()
    );
    let most = usize::try_from(wish.limit).unwrap_or(usize::MAX);
    let mut found = Table::default();
    found.columns = query.run(&sql, &asked.values, &mut |_, row| {
        let verbatim = match row.last() {
            Some(Value::Blob(bytes)) => bytes.as_slice(),
            _ => &[],
        };
        if digits::has_tail(verbatim, tail) {
            found.rows.push(row);
        }
        if found.rows.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}
