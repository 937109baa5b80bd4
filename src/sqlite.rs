//! A SQLite connection with the statements that were prepared on it. Door and store each have their own databases and
//! share only this way of talking to them.
//!
//! Must know no table, and must stay on the thread that opened it.

pub mod raw;

use raw::{Connection, Row, SqlError, Statement, Value};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::ControlFlow;

/// The connection and its statements, each prepared once.
pub struct Prepared<'c> {
    connection: Connection<'c>,
    statements: HashMap<(usize, usize), Statement<'c>>,
}

impl<'c> Prepared<'c> {
    /// Nothing is prepared yet.
    pub fn new(connection: Connection<'c>) -> Self {
        Self { connection, statements: HashMap::new() }
    }

    /// The connection.
    pub const fn connection(&self) -> &Connection<'c> {
        &self.connection
    }

    /// Runs a statement; gives the number of rows changed.
    pub fn run(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, SqlError> {
        self.statement(sql)?.run(values)
    }

    /// Runs a statement that is made anew each time: SQLite obeys some pragmas only then.
    pub fn run_once(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, SqlError> {
        self.connection.prepare(sql)?.run(values)
    }

    /// Hands each row to `row` until it breaks.
    pub fn each<E: From<SqlError>>(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
        row: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        self.statement(sql)?.each(values, row)
    }

    /// All rows.
    pub fn all<T>(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> T,
    ) -> Result<Vec<T>, SqlError> {
        let mut rows = Vec::new();
        self.each(sql, values, |row| {
            rows.push(read(row));
            Ok::<_, SqlError>(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    /// The first row.
    pub fn one<T>(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> T,
    ) -> Result<Option<T>, SqlError> {
        let mut first = None;
        self.each(sql, values, |row| {
            first = Some(read(row));
            Ok::<_, SqlError>(ControlFlow::Break(()))
        })?;
        Ok(first)
    }

    /// A statement, prepared once. It is found by the address of its text: hashing that would cost
    /// as much as a seek.
    pub fn statement(&mut self, sql: &'static str) -> Result<&mut Statement<'c>, SqlError> {
        match self.statements.entry((sql.as_ptr().addr(), sql.len())) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(self.connection.prepare(sql)?)),
        }
    }
}
