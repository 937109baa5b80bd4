//! Reads the SQLite database on a connection of its own that cannot write, with `spool.db` beside it as `spool`.

mod again;

use super::{legs, lineage, rejections};
use crate::dedup::Identified;
use crate::record::delivery::DeliveryId;
use crate::record::disk::Trouble;
use crate::store::DeliveryStart;
use crate::store::query::{
    CardOf, DeliveryWish, KnownLayout, LegWish, Overview, Query, QueryError, ReadDocument, RejectedDocument,
    RejectedRow, RejectedWish, RejectionWish, See, Statement, StoredLayout, StoredOrigin, Table, Twin, Value,
};
use jiff::Timestamp;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Executor as _, Row as _, SqlSafeStr as _,
    Statement as _, TypeInfo as _, ValueRef as _,
};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// Read access to one SQLite database.
#[derive(Debug)]
pub struct SqliteQuery {
    connection: Mutex<SqliteConnection>,
    spool: bool,
    handle: Handle,
}

const DELIVERIES: &str = "SELECT id, received_at, source, account, origin, name, peer, bytes, state, rows_read, \
    stored, duplicate, amended, rejected, skipped, held FROM delivery";

/// Deliveries of which the store has not heard yet.
const AT_THE_DOOR: &str = " UNION ALL SELECT r.id, r.received_at, r.source, r.account, r.origin, r.name, r.peer, \
    r.bytes, CASE r.state WHEN 'claiming' THEN 'waiting' ELSE r.state END, 0, 0, 0, 0, 0, 0, 0 \
    FROM spool.receipt r WHERE NOT EXISTS (SELECT 1 FROM delivery d WHERE d.id = r.id)";

const LATEST_FIRST: &str = " ORDER BY id DESC LIMIT ?1";

pub(super) const OPEN_REJECTIONS: &str = "FROM rejected r JOIN document d ON d.id = r.document_id \
    LEFT JOIN delivery l ON l.id = d.delivery_id WHERE r.resolved_at IS NULL AND d.state <> 'superseded'";

impl SqliteQuery {
    /// Opens the database, and `spool.db` if it is there. Never creates either.
    pub fn open(database: &Path, spool: &Path, handle: Handle) -> Result<Self, QueryError> {
        let shown = database.display().to_string();
        if !database.try_exists().unwrap_or(true) {
            return Err(QueryError::Missing(shown));
        }
        let unreadable =
            |error: sqlx::Error| QueryError::Unreadable { path: shown.clone(), cause: words(&error) };
        let connection = handle.block_on(async {
            let mut connection = connect(database).await?;
            sqlx::query("PRAGMA query_only = ON").execute(&mut connection).await?;
            let attached = spool.exists() && attach(&mut connection, spool).await?;
            // The first read finds out whether this is a database at all.
            sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut connection).await?;
            Ok((connection, attached))
        });
        let (connection, spool) = connection.map_err(unreadable)?;
        Ok(Self { connection: Mutex::new(connection), spool, handle })
    }

    pub(super) fn table(&self, sql: &str, params: &[Value]) -> Result<Table, QueryError> {
        let mut table = Table::default();
        table.columns = self.run(sql, params, &mut |_, row| {
            table.rows.push(row);
            ControlFlow::Continue(())
        })?;
        Ok(table)
    }

    pub(super) fn number(&self, sql: &str) -> Result<i64, QueryError> {
        Ok(self.table(sql, &[])?.rows.first().and_then(|row| row.first()).map_or(0, Value::integer))
    }

    pub(super) fn run(
        &self,
        sql: &str,
        params: &[Value],
        see: &mut See<'_>,
    ) -> Result<Vec<String>, QueryError> {
        // Another thread reads the disk.
        let _waiting = crate::pulse::waiting();
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let read = async {
            let statement = connection.prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await?;
            let columns: Vec<String> =
                statement.columns().iter().map(|column| column.name().to_owned()).collect();
            let mut query = statement.query();
            for value in params {
                query = bind(query, value);
            }
            let mut rows = query.fetch(&mut *connection);
            while let Some(row) = std::future::poll_fn(|context| rows.as_mut().poll_next(context)).await {
                if see(&columns, values(&row?)?).is_break() {
                    break;
                }
            }
            Ok(columns)
        };
        self.handle.block_on(read).map_err(|error: sqlx::Error| refused(&error))
    }
}

impl Query for SqliteQuery {
    fn each(&self, sql: &str, see: &mut See<'_>) -> Result<Vec<String>, QueryError> {
        if !asks(sql) {
            return Err(QueryError::Refused {
                cause: "it is no question".to_owned(),
                mend: "`cdrd sql` only reads, write a SELECT",
            });
        }
        self.run(sql, &[], see)
    }

    fn legs(&self, wish: &LegWish) -> Result<Table, QueryError> {
        legs::legs(self, wish)
    }

    fn deliveries(&self, limit: u32) -> Result<Table, QueryError> {
        let door = if self.spool { AT_THE_DOOR } else { "" };
        self.table(&format!("{DELIVERIES}{door}{LATEST_FIRST}"), &[Value::Integer(i64::from(limit))])
    }

    fn rejected_groups(&self) -> Result<Table, QueryError> {
        let sql = format!(
            "SELECT r.reason, d.format, l.source, count(*) AS count, max(r.id) AS latest_id, \
             max(l.received_at) AS latest_at {OPEN_REJECTIONS} GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3"
        );
        self.table(&sql, &[])
    }

    fn rejected(&self, wish: &RejectedWish) -> Result<Table, QueryError> {
        rejections::rejected(self, wish)
    }

    fn rejection(&self, id: i64) -> Result<Option<RejectedRow>, QueryError> {
        let table = self.table(
            "SELECT r.*, d.delivery_id, d.number, d.path, d.format, l.name, l.source, l.origin FROM rejected r \
             JOIN document d ON d.id = r.document_id LEFT JOIN delivery l ON l.id = d.delivery_id WHERE r.id = ?1",
            &[Value::Integer(id)],
        )?;
        let Some(row) = table.rows.first() else { return Ok(None) };
        let text = |column: &str| table.value(row, column).text().to_owned();
        let integer = |column: &str| table.value(row, column).integer();
        let optional = |column: &str| Some(text(column)).filter(|text| !text.is_empty());
        let verbatim = match table.value(row, "verbatim") {
            Value::Blob(bytes) => bytes.clone(),
            other => other.text().as_bytes().to_vec(),
        };
        let layouts = match optional("format") {
            Some(format) => self.layouts(format)?,
            None => Vec::new(),
        };
        Ok(Some(RejectedRow {
            id,
            delivery: text("delivery_id"),
            delivery_name: text("name"),
            source: text("source"),
            origin: text("origin"),
            document_number: integer("number"),
            document_path: text("path"),
            format: optional("format"),
            row_number: integer("row_number"),
            byte_offset: integer("byte_offset"),
            byte_length: integer("byte_length"),
            field: optional("field"),
            reason: text("reason"),
            message: text("message"),
            resolved_at: optional("resolved_at"),
            verbatim,
            layouts,
        }))
    }

    fn statements(&self, leg: i64, card: CardOf<'_>) -> Result<Vec<Statement>, QueryError> {
        lineage::statements(self, leg, card)
    }

    fn twin(&self, record: &Identified) -> Result<Option<Twin>, QueryError> {
        lineage::twin(self, record)
    }

    fn documents(&self, since: Timestamp, until: Timestamp) -> Result<Vec<ReadDocument>, QueryError> {
        lineage::documents(self, since, until)
    }

    fn coverage(&self, at: Timestamp) -> Result<Table, QueryError> {
        lineage::coverage(self, at)
    }

    fn ended_deliveries(&self, wish: &DeliveryWish) -> Result<Vec<DeliveryId>, QueryError> {
        again::deliveries(self, wish)
    }

    fn read_again(&self, chosen: &[DeliveryId]) -> Result<Vec<DeliveryStart>, QueryError> {
        again::read_again(self, chosen)
    }

    fn rejected_documents(&self, wish: &RejectionWish) -> Result<Vec<RejectedDocument>, QueryError> {
        again::rejected_documents(self, wish)
    }

    fn origins(&self) -> Result<Vec<StoredOrigin>, QueryError> {
        // A process that died in its first moments left a file without tables.
        if self.number("SELECT count(*) FROM sqlite_schema WHERE name = 'origin'")? == 0 {
            return Ok(Vec::new());
        }
        let table = self.table(
            "SELECT name, time_zone, clock_fault, \
                    EXISTS (SELECT 1 FROM cdr WHERE cdr.origin = origin.name) AS has_rows \
               FROM origin ORDER BY name",
            &[],
        )?;
        let origin = |row: &Vec<Value>| StoredOrigin {
            name: table.value(row, "name").text().to_owned(),
            time_zone: table.value(row, "time_zone").text().to_owned(),
            has_rows: table.value(row, "has_rows").integer() != 0,
            clock_fault: Some(table.value(row, "clock_fault").text().to_owned())
                .filter(|fault| !fault.is_empty()),
        };
        Ok(table.rows.iter().map(origin).collect())
    }

    fn overview(&self, since: DeliveryId) -> Result<Overview, QueryError> {
        let (waiting, sources, growing) = if self.spool {
            let waiting = "SELECT count(*) AS deliveries, coalesce(sum(bytes), 0) AS bytes, min(received_at) AS oldest, \
                           count(*) FILTER (WHERE state = 'unfinished') AS unfinished FROM spool.receipt r \
                           WHERE state <> 'unfinished' \
                              OR NOT EXISTS (SELECT 1 FROM delivery d WHERE d.id = r.id AND d.state = 'growing')";
            let sources =
                "SELECT source, iif(silent_since IS NOT NULL AND health = 'ok', 'late', health) AS health,
                        iif(silent_since IS NOT NULL AND message = '', 'no rows since ' || heard_at, message) AS message,
                        iif(silent_since IS NOT NULL AND health = 'ok', silent_since, since) AS since, updated_at, heard_at
                   FROM spool.source_state ORDER BY source";
            // By the few that wait: deliveries are many, and have no index on their state.
            let growing = "SELECT d.id, d.name, d.source, d.received_at, r.bytes, d.rows_read, d.stored, d.duplicate, \
                           d.amended, d.rejected, d.skipped, d.held \
                           FROM spool.receipt r JOIN delivery d ON d.id = r.id WHERE d.state = 'growing' ORDER BY 1";
            (self.table(waiting, &[])?, self.table(sources, &[])?, self.table(growing, &[])?)
        } else {
            (Table::default(), Table::default(), Table::default())
        };
        Ok(Overview {
            // Kept equal to the rows of cdr by every commit, and far shorter to add up than they are to count.
            legs: self.number("SELECT coalesce(sum(legs_added - legs_withdrawn), 0) FROM document")?,
            rejected_open: self.number(&format!("SELECT count(*) {OPEN_REJECTIONS}"))?,
            last_delivery: self.table(&format!("{DELIVERIES}{LATEST_FIRST}"), &[Value::Integer(1)])?,
            recent: self.table(
                "SELECT count(*) AS deliveries, coalesce(sum(rows_read), 0) AS rows_read, \
                 coalesce(sum(stored), 0) AS stored, coalesce(sum(duplicate), 0) AS duplicate, \
                 coalesce(sum(amended), 0) AS amended, coalesce(sum(rejected), 0) AS rejected, \
                 coalesce(sum(skipped), 0) AS skipped, coalesce(sum(held), 0) AS held FROM delivery WHERE id >= ?1",
                &[Value::Text(since.to_string())],
            )?,
            waiting,
            growing,
            sources,
        })
    }
}

impl SqliteQuery {
    /// The layouts of stored rows; none in a database of a version that noted less.
    pub fn stored_layouts(&self) -> Result<Vec<StoredLayout>, QueryError> {
        if self.number("SELECT count(*) FROM pragma_table_info('layout') WHERE name = 'identity'")? == 0 {
            return Ok(Vec::new());
        }
        let table = self.table("SELECT format, kind, dialect, headers, identity FROM layout", &[])?;
        let read = |row: &Vec<Value>| {
            Some(StoredLayout {
                format: row[0].text().to_owned(),
                kind: serde_json::from_str(row[1].text()).ok()?,
                dialect: serde_json::from_str(row[2].text()).ok()?,
                headers: serde_json::from_str(row[3].text()).ok()?,
                identity: row[4].text().to_owned(),
            })
        };
        // What cannot be read is said by whoever reads the rows.
        Ok(table.rows.iter().filter_map(read).collect())
    }

    /// Deliveries of which nothing could be read, whose originals were not dropped.
    pub fn rejected_deliveries(&self) -> Result<Vec<DeliveryId>, QueryError> {
        let sql = "SELECT id FROM delivery d WHERE state = 'rejected' \
                   AND NOT EXISTS (SELECT 1 FROM spool.dropped_original o WHERE o.id = d.id)";
        let table = self.table(sql, &[])?;
        Ok(table.rows.iter().filter_map(|row| row[0].text().parse().ok()).collect())
    }

    /// How many originals were dropped, and their bytes; nothing where nobody noted it.
    pub fn dropped_originals(&self) -> (u64, u64) {
        let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM spool.dropped_original";
        let number = |value: &Value| u64::try_from(value.integer()).unwrap_or(0);
        self.table(sql, &[])
            .ok()
            .and_then(|table| Some((number(&table.rows.first()?[0]), number(&table.rows[0][1]))))
            .unwrap_or_default()
    }

    /// When the original of a delivery was dropped, in UTC; nothing where nobody noted it.
    pub fn dropped_at(&self, delivery: &str) -> Option<String> {
        let sql = "SELECT dropped_at FROM spool.dropped_original WHERE id = ?1";
        let table = self.table(sql, &[Value::Text(delivery.to_owned())]).ok()?;
        Some(table.rows.first()?[0].text().to_owned())
    }

    /// For each source that has some, how many deliveries wait for a person, and why the oldest does; nothing where nobody
    /// noted it.
    pub fn stuck(&self) -> Vec<Trouble> {
        let sql =
            "SELECT source, count(*), stuck_reason, min(id) FROM spool.receipt WHERE stuck_reason IS NOT NULL
                    GROUP BY source";
        let count = |value: &Value| u64::try_from(value.integer()).unwrap_or(0);
        let rows = self.table(sql, &[]).unwrap_or_default().rows;
        rows.iter().map(|row| Trouble::stuck(row[0].text(), count(&row[1]), row[2].text())).collect()
    }

    /// The layouts of a format.
    fn layouts(&self, format: String) -> Result<Vec<KnownLayout>, QueryError> {
        let sql = "SELECT DISTINCT headers, dialect FROM layout WHERE format = ?1 LIMIT 100";
        let table = self.table(sql, &[Value::Text(format)])?;
        let mut layouts = Vec::new();
        for row in &table.rows {
            let dialect: serde_json::Value = serde_json::from_str(row[1].text()).unwrap_or_default();
            let separator = dialect.get("separator").and_then(|text| text.as_str()?.chars().next());
            if let Ok(headers) = serde_json::from_str(row[0].text()) {
                layouts.push(KnownLayout { separator, headers });
            }
        }
        Ok(layouts)
    }
}

async fn connect(database: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .read_only(true)
        .create_if_missing(false)
        .busy_timeout(Duration::from_secs(30));
    let opened = match options.connect().await {
        Ok(mut connection) => {
            sqlx::query("SELECT 1 FROM sqlite_schema").execute(&mut connection).await.map(|_| connection)
        }
        Err(error) => Err(error),
    };
    match opened {
        // A reader who may not write to the folder cannot open a WAL database at rest: there is no -shm file to share.
        // Without a -wal nobody writes, so that the file can be read as it lies.
        Err(error) if may_not_share(&error) && !wal_of(database).exists() => {
            options.immutable(true).connect().await
        }
        opened => opened,
    }
}

fn wal_of(database: &Path) -> std::path::PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// `SQLITE_READONLY` or `SQLITE_CANTOPEN`, also as extended codes: which it is depends on whether the last writer left
/// its -shm file behind.
fn may_not_share(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 8 | 14))
}

/// Attaches `spool.db` (read-only like the connection) and tells whether its tables are there.
async fn attach(connection: &mut SqliteConnection, spool: &Path) -> Result<bool, sqlx::Error> {
    let path = spool.to_string_lossy();
    let tables = match attach_as(connection, &path).await {
        // At rest, as in `connect`.
        Err(error) if may_not_share(&error) && !wal_of(spool).exists() => {
            // Harmless where nothing was attached.
            let _ = sqlx::query("DETACH DATABASE spool").execute(&mut *connection).await;
            let plain = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
            attach_as(connection, &format!("file:{plain}?immutable=1")).await?
        }
        tables => tables?,
    };
    Ok(tables == 2)
}

async fn attach_as(connection: &mut SqliteConnection, spool: &str) -> Result<i64, sqlx::Error> {
    sqlx::query("ATTACH DATABASE ?1 AS spool").bind(spool).execute(&mut *connection).await?;
    let sql = "SELECT count(*) FROM spool.sqlite_schema WHERE name IN ('receipt', 'source_state')";
    sqlx::query_scalar(sql).fetch_one(connection).await
}

type Bound<'q> = sqlx::query::Query<'q, sqlx::Sqlite, SqliteArguments>;

fn bind<'q>(query: Bound<'q>, value: &Value) -> Bound<'q> {
    match value {
        Value::Null => query.bind(None::<String>),
        Value::Integer(number) => query.bind(*number),
        Value::Real(number) => query.bind(*number),
        Value::Text(text) => query.bind(text.clone()),
        Value::Blob(bytes) => query.bind(bytes.clone()),
    }
}

fn values(row: &SqliteRow) -> Result<Vec<Value>, sqlx::Error> {
    (0..row.columns().len())
        .map(|column| {
            let raw = row.try_get_raw(column)?;
            if raw.is_null() {
                return Ok(Value::Null);
            }
            // The value's own storage class; SQLite's columns hold any.
            Ok(match raw.type_info().name() {
                "INTEGER" => Value::Integer(row.try_get_unchecked(column)?),
                "REAL" => Value::Real(row.try_get_unchecked(column)?),
                "BLOB" => Value::Blob(row.try_get_unchecked(column)?),
                _ => {
                    let bytes: Vec<u8> = row.try_get_unchecked(column)?;
                    Value::Text(String::from_utf8_lossy(&bytes).into_owned())
                }
            })
        })
        .collect()
}

fn words(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// Whether no word of the statement, outside quotes, makes files or settings: `VACUUM INTO` and `ATTACH` write files even
/// on a connection that only reads.
fn asks(sql: &str) -> bool {
    let mut bare = String::with_capacity(sql.len());
    let mut quote = None;
    for c in sql.chars() {
        match (quote, c) {
            (None, '\'' | '"' | '`') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, _) => bare.push(c),
            _ => {}
        }
    }
    let words = bare.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.into_iter().all(|word| {
        !["VACUUM", "ATTACH", "DETACH", "PRAGMA"].iter().any(|refused| word.eq_ignore_ascii_case(refused))
    })
}

fn refused(error: &sqlx::Error) -> QueryError {
    let cause = words(error);
    let mend = if cause.contains("readonly") || cause.contains("read-only") || cause.contains("query_only") {
        "`cdrd sql` only reads, write a SELECT"
    } else if cause.contains("no such table") || cause.contains("no such column") {
        "`cdrd sql \"SELECT name, sql FROM sqlite_schema\"` shows tables and columns"
    } else if cause.contains("locked") || cause.contains("busy") {
        "something else holds the database, try again"
    } else {
        "mend the statement, or check the file with `sqlite3 FILE 'PRAGMA integrity_check'`"
    };
    QueryError::Refused { cause, mend }
}
