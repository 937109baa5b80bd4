//! The open database as the writer sees it: the connection, its prepared statements, and what is remembered of the
//! tables between statements. Whatever is remembered is forgotten when a transaction or savepoint rolls back.

use super::columns::Stamp;
use super::group::{Relink, Remembered};
use super::raw::{Binding, Connection, Row, SqlError, Value};
use super::stated::{self, KnownLayout, Places};
use crate::dedup::Key;
use crate::record::card::Card;
use crate::record::disk;
use crate::record::document::{Layout, RowKind};
use crate::record::port::Derive;
use crate::sqlite::Prepared;
use crate::store::StoreError;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

/// Why a step inside a transaction failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// SQLite refused.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored contradicts itself.
    #[error("{0}")]
    Damaged(String),
}

impl From<stated::Undecodable> for Fault {
    fn from(error: stated::Undecodable) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl Fault {
    /// The error for the caller.
    pub fn for_caller(&self, path: &str) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Sql(error) if error.transient() => StoreError::Transient {
                path,
                cause: error.to_string(),
                mend: disk::mend_database(error.code.unsigned_abs()),
            },
            Self::Sql(error) => StoreError::Broken { path, cause: error.to_string() },
            Self::Store(error) => error.clone(),
            Self::Damaged(cause) => StoreError::Broken { path, cause: cause.clone() },
        }
    }
}

/// The database.
pub struct Database<'c> {
    prepared: Prepared<'c>,
    derive: Arc<dyn Derive>,
    last: i64,
    /// Never goes back, not even when a transaction does: a chunk meant for a document that was rolled back must not
    /// meet another one under its id.
    last_document: i64,
    known: HashMap<i64, Rc<KnownLayout>>,
    writing: Vec<Rc<KnownLayout>>,
    summaries: Option<bool>,
    /// Some link value names another call; never taken back, a look costs little.
    links: bool,
    /// An origin, and the highest of the names of its calls and their link values.
    reach: Option<(String, String)>,
    group: Option<Remembered>,
    /// The last number given before the switch under way.
    switch: Option<i64>,
    /// Temporary tables are in a file.
    spills: bool,
    relink: Option<Relink>,
    now: Rc<str>,
}

impl<'c> Database<'c> {
    /// Reads where the sequences stand.
    pub fn new(connection: Connection<'c>, derive: Arc<dyn Derive>) -> Result<Self, Fault> {
        let mut database = Self {
            prepared: Prepared::new(connection),
            derive,
            last: 0,
            last_document: 0,
            known: HashMap::new(),
            writing: Vec::new(),
            summaries: None,
            links: false,
            reach: None,
            group: None,
            switch: None,
            spills: false,
            relink: None,
            now: "".into(),
        };
        database.read_sequence()?;
        let last = database.one("SELECT max(id) FROM document", &[], |row| row.int(0))?;
        database.last_document = last.unwrap_or(0);
        Ok(database)
    }

    fn read_sequence(&mut self) -> Result<(), Fault> {
        // The maxima cost a seek each, and hold even where a tool wrote rows past the sequence.
        let last = self.one(
            "SELECT max((SELECT last FROM sequence), (SELECT coalesce(max(id), 0) FROM cdr),
                        (SELECT coalesce(max(change_seq), 0) FROM cdr),
                        (SELECT coalesce(max(change_seq), 0) FROM tombstone))",
            &[],
            |row| row.int(0),
        )?;
        self.last = last.unwrap_or(0);
        Ok(())
    }

    /// The connection.
    pub const fn connection(&self) -> &Connection<'c> {
        self.prepared.connection()
    }

    /// Begins a transaction; its rows share one `stored_at`.
    pub fn begin(&mut self) -> Result<(), Fault> {
        self.now = Stamp::new(jiff::Timestamp::now().as_millisecond()).as_str().into();
        self.run("BEGIN IMMEDIATE", &[])?;
        Ok(())
    }

    /// Commits.
    pub fn commit(&mut self) -> Result<(), Fault> {
        let last = self.last;
        self.run("UPDATE sequence SET last = ?1 WHERE last <> ?1", &[Value::Int(last)])?;
        self.run("COMMIT", &[])?;
        Ok(())
    }

    /// Whether temporary tables of the next transaction are in a file: a switch keeps each row that it touches. Otherwise
    /// they are in memory, where what a savepoint keeps of pages costs less than a file for it.
    pub fn spill(&mut self, to_file: bool) -> Result<(), Fault> {
        if self.spills != to_file {
            let pragma = if to_file { "PRAGMA temp_store = FILE" } else { "PRAGMA temp_store = MEMORY" };
            self.run_once(pragma, &[])?;
            self.spills = to_file;
        }
        Ok(())
    }

    /// Begins a step that can be taken back alone.
    pub fn step(&mut self) -> Result<(), Fault> {
        self.run("SAVEPOINT step", &[])?;
        Ok(())
    }

    /// Keeps the step.
    pub fn keep(&mut self) -> Result<(), Fault> {
        self.run("RELEASE step", &[])?;
        Ok(())
    }

    /// Rolls back the step, or the whole transaction.
    pub fn roll_back(&mut self, savepoint: bool) -> Result<(), Fault> {
        if !self.connection().autocommit() {
            if savepoint {
                self.run("ROLLBACK TO step", &[])?;
                self.run("RELEASE step", &[])?;
            } else {
                self.run("ROLLBACK", &[])?;
            }
        }
        self.known.clear();
        self.writing.clear();
        self.summaries = None;
        self.reach = None;
        self.group = None;
        if !savepoint {
            self.close_switch();
        }
        Ok(())
    }

    /// Begins a switch; gives the last number given before it.
    pub fn open_switch(&mut self) -> i64 {
        self.group = None;
        *self.switch.insert(self.last)
    }

    /// The last number given before the switch under way.
    pub const fn switch(&self) -> Option<i64> {
        self.switch
    }

    /// The switch is over.
    pub fn close_switch(&mut self) {
        self.switch = None;
        self.relink = None;
    }

    /// From now on calls are not computed anew group by group, but gathered for [`Self::gathered`].
    pub fn gather(&mut self) {
        self.relink.get_or_insert_default();
    }

    /// Where to gather the calls that change, if they are gathered.
    pub const fn gathering(&mut self) -> Option<&mut Relink> {
        self.relink.as_mut()
    }

    /// What was gathered; gathers no more.
    pub fn gathered(&mut self) -> Relink {
        self.relink.take().unwrap_or_default()
    }

    /// Runs a statement that is made anew each time.
    pub fn run_once(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, SqlError> {
        self.prepared.run_once(sql, values)
    }

    /// Hands each row of such a statement to `row`.
    pub fn each_once(&mut self, sql: &str, mut row: impl FnMut(&Row<'_>)) -> Result<(), Fault> {
        self.connection().prepare(sql)?.each(&[], |found| {
            row(found);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The number that such a statement gives.
    pub fn count_once(&mut self, sql: &str) -> Result<u64, Fault> {
        let mut count = 0;
        self.each_once(sql, |row| count = row.unsigned(0))?;
        Ok(count)
    }

    /// The last number given.
    pub const fn last(&self) -> i64 {
        self.last
    }

    /// The time at which this transaction stores.
    pub fn now(&self) -> Rc<str> {
        self.now.clone()
    }

    /// The next number of the sequence, not yet taken. Numbers that a rolled back transaction took stay unused.
    pub const fn peek(&self) -> i64 {
        self.last + 1
    }

    /// Takes the next number.
    pub const fn next(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    /// So many numbers were taken.
    pub fn skip(&mut self, numbers: u64) {
        self.last = self.last.saturating_add_unsigned(numbers);
    }

    /// Takes several numbers; gives the first.
    pub const fn take(&mut self, numbers: i64) -> i64 {
        self.last += numbers;
        self.last - numbers + 1
    }

    /// Takes the next document id.
    pub const fn next_document(&mut self) -> i64 {
        self.last_document += 1;
        self.last_document
    }

    /// Runs a statement; gives the number of rows changed.
    pub fn run(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, SqlError> {
        self.prepared.run(sql, values)
    }

    /// Hands each row to `row` until it breaks.
    pub fn each(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
        row: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        self.prepared.each(sql, values, row)
    }

    /// All rows.
    pub fn all<T>(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
        read: impl FnMut(&Row<'_>) -> T,
    ) -> Result<Vec<T>, Fault> {
        Ok(self.prepared.all(sql, values, read)?)
    }

    /// The first row.
    pub fn one<T>(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> T,
    ) -> Result<Option<T>, Fault> {
        Ok(self.prepared.one(sql, values, read)?)
    }

    /// How to derive a stored version.
    pub fn derive(&self) -> Arc<dyn Derive> {
        self.derive.clone()
    }

    /// The card of a format of stored rows.
    pub fn card(&self, format: &str) -> Result<&'static Card, Fault> {
        self.derive.card(format).ok_or_else(|| unknown_format(format))
    }

    /// Whether any summary holds a place.
    pub fn has_summaries(&mut self) -> Result<bool, Fault> {
        if let Some(known) = self.summaries {
            return Ok(known);
        }
        let some = self.one("SELECT 1 FROM summary LIMIT 1", &[], |_| ())?.is_some();
        self.summaries = Some(some);
        Ok(some)
    }

    /// Whether any link value differs from the name of its call.
    pub fn has_links(&mut self) -> Result<bool, Fault> {
        if !self.links {
            self.links = self.one("SELECT 1 FROM call_link LIMIT 1", &[], |_| ())?.is_some();
        }
        Ok(self.links)
    }

    /// The highest of the names of an origin's calls and of their link values. Ids that grow with time lie beyond it:
    /// nothing stored can have them.
    pub fn calls_end(&mut self, origin: &str) -> Result<&str, Fault> {
        if self.reach.as_ref().is_none_or(|(known, _)| known != origin) {
            let find = "SELECT max(coalesce((SELECT max(call_group) FROM cdr WHERE origin = ?1), ''),
                                   coalesce((SELECT max(value) FROM call_link WHERE origin = ?1), ''))";
            let end = self.one(find, &[Value::Text(origin)], |row| row.text(0).to_owned())?;
            self.reach = Some((origin.to_owned(), end.unwrap_or_default()));
        }
        Ok(self.reach.as_ref().map_or("", |(_, end)| end))
    }

    /// A call of an origin has this name or link value now.
    pub fn calls_reach(&mut self, origin: &str, name: &str) {
        if let Some((known, end)) = &mut self.reach
            && known == origin
            && end.as_str() < name
        {
            name.clone_into(end);
        }
    }

    /// Runs a statement with what `bind` gives it; parameters left out are NULL.
    pub fn run_bound<'v>(
        &mut self,
        sql: &'static str,
        bind: impl FnOnce(&mut Binding<'_, 'v, '_>) -> Result<(), SqlError>,
    ) -> Result<u64, SqlError> {
        self.prepared.statement(sql)?.run_bound(bind)
    }

    /// Forgets whether any summary holds a place.
    pub const fn summaries_changed(&mut self) {
        self.summaries = None;
    }

    /// What is remembered of a group.
    pub fn group(&mut self, key: Key) -> Option<&mut Remembered> {
        self.group.as_mut().filter(|group| group.key == key)
    }

    /// Remembers a group, the last one only: equal rows stand together.
    pub fn remember(&mut self, group: Remembered) {
        self.group = Some(group);
    }

    /// Forgets the group: it changes by other ways than by a row of its own.
    pub fn forget_group(&mut self) {
        self.group = None;
    }

    /// The row of a layout for writing, made if it is new.
    pub fn layout(&mut self, layout: &Arc<Layout>) -> Result<Rc<KnownLayout>, Fault> {
        // Rows of one document share their layout; the one used last stands first.
        if let Some(place) = self.writing.iter().position(|known| Arc::ptr_eq(&known.layout, layout)) {
            self.writing.swap(0, place);
            return Ok(self.writing[0].clone());
        }
        let places = Places::of(layout);
        let words = places.words();
        let headers: Vec<&str> = layout.columns.iter().map(|column| column.header.as_str()).collect();
        let (words, headers) = (json(&words)?, json(&headers)?);
        let (dialect, kind) = (json(&layout.dialect)?, json(&layout.kind)?);
        let identity = layout.identity();
        let key = [
            Value::Blob(&layout.hash),
            Value::Text(&dialect),
            Value::Text(&headers),
            Value::Text(&words),
            Value::Text(layout.card.id),
            Value::Text(&kind),
            Value::Text(&identity),
        ];
        let find = "SELECT id FROM layout WHERE hash = ?1 AND dialect = ?2 AND headers = ?3 AND places = ?4";
        let id = match self.one(find, &key[..4], |row| row.int(0))? {
            Some(id) => id,
            None => self
                .one(
                    "INSERT INTO layout (hash, dialect, headers, places, format, kind, identity)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING id",
                    &key,
                    |row| row.int(0),
                )?
                .ok_or_else(|| Fault::Damaged("table layout gave no id".to_owned()))?,
        };
        let known = Rc::new(KnownLayout { id, layout: layout.clone(), places });
        // Each document has its own copy of its layout: keep only those of the documents in work.
        self.writing.truncate(15);
        self.writing.insert(0, known.clone());
        Ok(known)
    }

    /// Ids of the layouts whose rows are summaries.
    pub fn summary_layouts(&mut self) -> Result<Vec<i64>, Fault> {
        let kind = json(&RowKind::Summary)?;
        self.all("SELECT id FROM layout WHERE kind = ?1", &[Value::Text(&kind)], |row| row.int(0))
    }

    /// A layout of stored rows.
    pub fn known_layout(&mut self, id: i64) -> Result<Rc<KnownLayout>, Fault> {
        if let Some(known) = self.known.get(&id) {
            return Ok(known.clone());
        }
        let find = "SELECT format, kind, dialect, headers, places FROM layout WHERE id = ?1";
        let found = self
            .one(find, &[Value::Int(id)], |row| [0, 1, 2, 3, 4].map(|column| row.text(column).to_owned()))?;
        let damaged = || Fault::Damaged(format!("row {id} of table layout cannot be read"));
        let [format, kind, dialect, headers, words] = found.ok_or_else(damaged)?;
        let card = self.card(&format)?;
        let known =
            KnownLayout::read(id, card, [&kind, &dialect, &headers, &words]).map_err(Fault::Damaged)?;
        let known = Rc::new(known);
        self.known.insert(id, known.clone());
        Ok(known)
    }
}

fn unknown_format(format: &str) -> Fault {
    Fault::Damaged(format!(
        "stored rows have the format {format}, which this version of cdrd does not know; run the version that stored them"
    ))
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::Damaged(error.to_string()))
}
