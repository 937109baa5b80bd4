//! Which rows of `cdr` a person asks for, by the indexes that every commit pays for anyway.
//!
//! Must give the latest rows first and never read a year to show a day's.

use super::columns::Stamp;
use super::query::SqliteQuery;
use crate::store::query::{LegWish, NUMBER_COLUMNS, QueryError, Table, Value};
use jiff::Timestamp;

const COLUMNS: &str = "cdr.id, started_at, answered_at, ended_at, started_local, utc_offset_min, time_precision, \
    time_ambiguous, duration_s, talk_s, ring_s, direction, disposition, caller, caller_number, caller_name, callee, \
    callee_number, callee_name, dialled_number, did, redirecting_number, answered_by, extension, user_name, location, \
    trunk_in, trunk_out, queue, agent, account_code, channel, dst_channel, context, hangup_cause_q850, hangup_text, \
    released_by, cost, currency, codec, recordings, extra, origin, tenant, source, system, format, call_group, \
    call_head, unique_id, linked_id, sip_call_id, delivery_id, document_id, row_number, byte_offset, byte_length, \
    versions, change_seq, stored_at";

/// Days that are looked through at first; a number that nobody calls often needs more, four times as many each time.
const DAYS: i64 = 12;

/// Days between the key's day and the start in UTC: zones, and calls that last. A row whose PBX set its clock by more
/// than this during the call is found by its number without a time, or by its time.
const SLACK: i64 = 7;

const DAY_MS: i64 = 86_400_000;

/// A table is walked from day to day by its index, whether or not the planner has counted its rows.
const DAYS_BELOW: &str = "WITH RECURSIVE day(d, n) AS (
    SELECT max(key_day), 1 FROM cdr WHERE key_day < ?1
    UNION ALL SELECT (SELECT max(key_day) FROM cdr WHERE key_day < d), n + 1 FROM day WHERE d > ?2 AND n < ?3
    ) SELECT d FROM day WHERE d >= ?2 AND d <> 0";

/// Conditions with their values.
#[derive(Debug, Default)]
pub(super) struct Asked {
    conditions: Vec<String>,
    pub(super) values: Vec<Value>,
}

impl Asked {
    /// A condition; `{}` stands for the value.
    pub(super) fn add(&mut self, condition: &str, value: Value) {
        let mark = self.mark(value);
        self.conditions.push(condition.replace("{}", &mark));
    }

    pub(super) fn text(&mut self, condition: &str, value: &str) {
        self.add(condition, Value::Text(value.to_owned()));
    }

    /// The mark of another value.
    pub(super) fn mark(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("?{}", self.values.len())
    }

    /// All of them, after a `WHERE` of their own.
    pub(super) fn sql(&self) -> String {
        if self.conditions.is_empty() { "true".to_owned() } else { self.conditions.join(" AND ") }
    }
}

/// The legs that are wished for.
pub(super) fn legs(query: &SqliteQuery, wish: &LegWish) -> Result<Table, QueryError> {
    if wish.parties.is_empty() { by_time(query, wish) } else { by_parties(query, wish) }
}

fn by_time(query: &SqliteQuery, wish: &LegWish) -> Result<Table, QueryError> {
    let mut asked = asked(wish);
    let Some(name) = &wish.name else {
        let limit = asked.mark(Value::Integer(wish.limit.into()));
        let sql = format!(
            "SELECT {COLUMNS} FROM cdr WHERE {} ORDER BY started_at DESC, id DESC LIMIT {limit}",
            asked.sql()
        );
        return query.table(&sql, &asked.values);
    };
    let name = asked.mark(Value::Text(name.clone()));
    let limit = asked.mark(Value::Integer(wish.limit.into()));
    let mut found = Table::default();
    for hit in [by_link(&name), format!("SELECT id FROM cdr WHERE unique_id = {name}")] {
        let sql = format!(
            "SELECT {COLUMNS} FROM ({hit}) AS hit CROSS JOIN cdr ON cdr.id = hit.id WHERE {} \
             ORDER BY +started_at DESC, +cdr.id DESC LIMIT {limit}",
            asked.sql()
        );
        found = query.table(&sql, &asked.values)?;
        if !found.rows.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// A row number, or a unique id that joins legs to calls, by the indexes of calls.
fn by_link(name: &str) -> String {
    format!(
        "SELECT id FROM cdr WHERE id = CAST({name} AS INTEGER) AND CAST(id AS TEXT) = {name} \
         UNION SELECT l.id FROM origin o CROSS JOIN cdr l ON l.origin = o.name AND l.call_group = {name} \
                WHERE l.unique_id = {name} \
         UNION SELECT l.id FROM origin o CROSS JOIN call_link k ON k.origin = o.name AND k.value = {name} \
                CROSS JOIN cdr l ON l.origin = o.name AND l.call_group = k.call_group WHERE l.unique_id = {name}"
    )
}

/// The latest days first, until there are enough rows that no earlier day can have a later one.
fn by_parties(query: &SqliteQuery, wish: &LegWish) -> Result<Table, QueryError> {
    let day = |time: Timestamp| time.as_millisecond().div_euclid(DAY_MS);
    let lowest = wish.since.map_or(i64::from(i32::MIN), |since| day(since) - SLACK);
    let mut below = wish.until.map_or(i64::from(i32::MAX), |until| day(until) + SLACK + 1);
    let mut found = Table::default();
    // Records whose identity holds no time stand under day 0.
    let mut days = vec![0];
    let mut wanted = DAYS;
    loop {
        let range = [Value::Integer(below), Value::Integer(lowest), Value::Integer(wanted)];
        let walked = query.table(DAYS_BELOW, &range)?;
        days.extend(walked.rows.iter().filter_map(|row| row.first()).map(Value::integer));
        let mut part = of_days(query, wish, &days)?;
        found.columns = part.columns;
        found.rows.append(&mut part.rows);
        let whole = i64::try_from(walked.rows.len()).unwrap_or(i64::MAX) < wanted;
        below = days.last().copied().unwrap_or(0);
        if whole || has_enough(&found, wish.limit, below) {
            break;
        }
        days.clear();
        wanted *= 4;
    }
    // As the database sorts: the latest first.
    let place =
        |row: &[Value]| (found.value(row, "started_at").text().to_owned(), found.value(row, "id").integer());
    let mut rows: Vec<_> = found.rows.iter().map(|row| (place(row), row.clone())).collect();
    rows.sort_by(|(one, _), (other, _)| other.cmp(one));
    rows.truncate(usize::try_from(wish.limit).unwrap_or(usize::MAX));
    Ok(Table { columns: found.columns, rows: rows.into_iter().map(|(_, row)| row).collect() })
}

/// Whether so many rows were found that those of earlier days come after them.
fn has_enough(found: &Table, limit: u32, below: i64) -> bool {
    let border = Stamp::new((below + SLACK).saturating_mul(DAY_MS));
    let later = found.rows.iter().filter(|row| found.value(row, "started_at").text() >= border.as_str());
    later.count() >= usize::try_from(limit).unwrap_or(usize::MAX)
}

fn of_days(query: &SqliteQuery, wish: &LegWish, days: &[i64]) -> Result<Table, QueryError> {
    let (sql, values) = of_days_sql(wish, days);
    query.table(&sql, &values)
}

/// One seek into an index for each day, column and number.
pub(super) fn of_days_sql(wish: &LegWish, days: &[i64]) -> (String, Vec<Value>) {
    let mut asked = asked(wish);
    let days = days.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    let mut hits = Vec::new();
    for party in &wish.parties {
        let party = asked.mark(Value::Text(party.clone()));
        for column in ["caller", "callee"] {
            // Named, because a planner that counted the rows when they were few would read them all.
            hits.push(format!(
                "SELECT id FROM cdr INDEXED BY cdr_{column} \
                 WHERE key_day IN ({days}) AND {column} = {party}"
            ));
        }
    }
    let limit = asked.mark(Value::Integer(wish.limit.into()));
    // Sorted before the other columns are read: a number may have thousands of rows in these days.
    let sql = format!(
        "SELECT {COLUMNS} FROM (SELECT cdr.id AS hit FROM ({}) AS hit CROSS JOIN cdr ON cdr.id = hit.id WHERE {} \
                                ORDER BY +started_at DESC, +cdr.id DESC LIMIT {limit}) AS latest \
         CROSS JOIN cdr ON cdr.id = latest.hit ORDER BY started_at DESC, cdr.id DESC",
        hits.join(" UNION "),
        asked.sql()
    );
    (sql, asked.values)
}

/// What holds beside the name and the parties.
fn asked(wish: &LegWish) -> Asked {
    let mut asked = Asked::default();
    let stamp = |time: Timestamp| Stamp::new(time.as_millisecond()).as_str().to_owned();
    if let Some(since) = wish.since {
        asked.text("started_at >= {}", &stamp(since));
    }
    if let Some(until) = wish.until {
        asked.text("started_at < {}", &stamp(until));
    }
    if let Some(direction) = wish.direction {
        asked.text("direction = {}", direction.word());
    }
    if let Some(disposition) = wish.disposition {
        asked.text("disposition = {}", disposition.word());
    }
    if let Some(origin) = &wish.origin {
        asked.text("origin = {}", origin);
    }
    if let Some(ending) = &wish.ending {
        let length = ending.chars().count();
        let any = NUMBER_COLUMNS.map(|column| format!("substr(rtrim({column}), -{length}) = {{}}"));
        asked.text(&format!("({})", any.join(" OR ")), ending);
    }
    asked
}
