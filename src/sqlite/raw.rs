//! SQLite's C interface behind a safe one: prepared statements on the connection that sqlx opened and locked for us.
//! sqlx's own way costs several times the insert itself.
//!
//! Must stay the only file with `unsafe`, and must never let a bound value or a read column outlive one call.

#![expect(unsafe_code, reason = "the C interface; each block says why it is sound")]

use libsqlite3_sys as ffi;
use sqlx::sqlite::LockedSqliteHandle;
use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::ptr::NonNull;
use std::rc::Rc;

/// Steps of SQLite's machine after which a statement has shown that it still comes on: a fraction of a second.
const STEPS: c_int = 1_000_000;

/// Called by SQLite inside long statements; 0 lets them go on.
extern "C" fn progress(_: *mut std::ffi::c_void) -> c_int {
    crate::pulse::beat();
    0
}

/// SQLite refused something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (SQLite code {code})")]
pub struct SqlError {
    /// Extended result code.
    pub code: i32,
    /// SQLite's words.
    pub message: String,
    /// No transaction is open any more: some errors roll back all of it.
    pub rolled_back: bool,
}

impl SqlError {
    /// Whether trying again later may help.
    pub const fn transient(&self) -> bool {
        matches!(
            self.code & 0xff,
            ffi::SQLITE_FULL
                | ffi::SQLITE_IOERR
                | ffi::SQLITE_BUSY
                | ffi::SQLITE_LOCKED
                // The log could not be entered while another process recovered it.
                | ffi::SQLITE_PROTOCOL
                | ffi::SQLITE_READONLY
                | ffi::SQLITE_NOMEM
                | ffi::SQLITE_CANTOPEN
                | ffi::SQLITE_INTERRUPT
        )
    }
}

/// A value to bind, borrowed for one call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'v> {
    /// NULL.
    Null,
    /// An integer.
    Int(i64),
    /// A double.
    Real(f64),
    /// Text.
    Text(&'v str),
    /// Bytes.
    Blob(&'v [u8]),
}

impl<'v> Value<'v> {
    /// Text; NULL when blank.
    pub const fn text_or_null(text: &'v str) -> Self {
        if text.is_empty() { Self::Null } else { Self::Text(text) }
    }

    /// A count or a place; SQLite's integers are signed.
    pub fn unsigned(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// An integer or NULL.
    pub fn int_or_null(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Int)
    }

    /// Text or NULL; empty text is text.
    pub fn text_given(text: Option<&'v str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }

    /// Bytes or NULL.
    pub fn blob_given(bytes: Option<&'v [u8]>) -> Self {
        bytes.map_or(Self::Null, Self::Blob)
    }
}

/// The locked connection. Cheap to clone within its thread.
#[derive(Clone)]
pub struct Connection<'c>(Rc<Handle<'c>>);

struct Handle<'c> {
    db: NonNull<ffi::sqlite3>,
    // Keeps sqlx's own thread off the connection as long as any statement of ours exists.
    _lock: LockedSqliteHandle<'c>,
}

impl<'c> Connection<'c> {
    /// Takes over a locked connection.
    pub fn new(mut lock: LockedSqliteHandle<'c>) -> Self {
        let db = lock.as_raw_handle();
        let none = std::ptr::null_mut::<c_int>();
        // SAFETY: the connection is open and ours; the function needs no argument and is never gone. The option takes a
        // number and a place for the answer, which may be null; it cannot fail for it is known to this library.
        unsafe {
            ffi::sqlite3_progress_handler(db.as_ptr(), STEPS, Some(progress), std::ptr::null_mut());
            // Without it a statement that compares a column with a bound value is planned anew whenever that value changes.
            ffi::sqlite3_db_config(db.as_ptr(), ffi::SQLITE_DBCONFIG_ENABLE_QPSG, 1 as c_int, none);
        }
        Self(Rc::new(Handle { db, _lock: lock }))
    }

    /// Prepares a statement that will run often.
    pub fn prepare(&self, sql: &str) -> Result<Statement<'c>, SqlError> {
        let mut statement = std::ptr::null_mut();
        let length = c_int::try_from(sql.len()).unwrap_or(c_int::MAX);
        // SAFETY: the connection is open and locked by `Handle`; the text is valid for `length` bytes and only read
        // during the call; the out pointer is ours.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                self.0.db.as_ptr(),
                sql.as_ptr().cast(),
                length,
                ffi::SQLITE_PREPARE_PERSISTENT,
                &raw mut statement,
                std::ptr::null_mut(),
            )
        };
        match NonNull::new(statement) {
            Some(statement) if code == ffi::SQLITE_OK => {
                Ok(Statement { raw: statement, on: self.clone(), clear: true })
            }
            _ => Err(self.error(code)),
        }
    }

    /// Whether no transaction is open.
    pub fn autocommit(&self) -> bool {
        // SAFETY: the connection is open and locked by `Handle`.
        unsafe { ffi::sqlite3_get_autocommit(self.0.db.as_ptr()) != 0 }
    }

    fn error(&self, code: c_int) -> SqlError {
        // SAFETY: the connection is open and locked, so that no other call can change or free the message before it
        // is copied; SQLite gives a NUL-terminated text, never a null pointer, for an open connection.
        let message = unsafe { CStr::from_ptr(ffi::sqlite3_errmsg(self.0.db.as_ptr())) };
        SqlError { code, message: message.to_string_lossy().into_owned(), rolled_back: self.autocommit() }
    }
}

/// A prepared statement.
pub struct Statement<'c> {
    raw: NonNull<ffi::sqlite3_stmt>,
    on: Connection<'c>,
    /// It is reset and nothing is bound.
    clear: bool,
}

impl<'c> Statement<'c> {
    /// Binds, runs to the end and gives the number of rows changed. Rows it returns are ignored.
    pub fn run(&mut self, values: &[Value<'_>]) -> Result<u64, SqlError> {
        self.each(values, |_| Ok(ControlFlow::Continue(())))?;
        Ok(self.changes())
    }

    /// The same with the values that `bind` sets, which live as long as `'v`, that is until this returns; the others
    /// are NULL.
    pub fn run_bound<'v>(
        &mut self,
        bind: impl FnOnce(&mut Binding<'_, 'v, 'c>) -> Result<(), SqlError>,
    ) -> Result<u64, SqlError> {
        self.clear();
        self.clear = false;
        bind(&mut Binding { statement: self, _values: PhantomData })?;
        self.step(|_| Ok::<_, SqlError>(ControlFlow::Continue(())))?;
        Ok(self.changes())
    }

    fn changes(&self) -> u64 {
        // SAFETY: the connection is open and locked by `Handle`.
        let changes = unsafe { ffi::sqlite3_changes64(self.on.0.db.as_ptr()) };
        u64::try_from(changes).unwrap_or(0)
    }

    /// Binds, and hands each row to `row` until it breaks.
    ///
    /// Values are bound without a copy. That is sound because `bind` binds every parameter anew, or leaves it cleared,
    /// before the first step of each call, and SQLite reads bound values only while stepping, which happens only here,
    /// within their borrow.
    pub fn each<E: From<SqlError>>(
        &mut self,
        values: &[Value<'_>],
        row: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        self.clear();
        // SAFETY: the statement is valid.
        let wanted = unsafe { ffi::sqlite3_bind_parameter_count(self.raw.as_ptr()) };
        if usize::try_from(wanted) != Ok(values.len()) {
            return Err(E::from(SqlError {
                code: ffi::SQLITE_RANGE,
                message: format!("{} values for {wanted} parameters", values.len()),
                rolled_back: self.on.autocommit(),
            }));
        }
        self.clear = false;
        for (place, value) in values.iter().enumerate() {
            self.set(place, *value)?;
        }
        self.step(row)
    }

    /// Runs with what is bound, which must be alive; nothing is bound afterwards.
    fn step<E: From<SqlError>>(
        &mut self,
        mut row: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let outcome = loop {
            // SAFETY: the statement is valid until dropped and used by this thread alone; its bound values are alive.
            match unsafe { ffi::sqlite3_step(self.raw.as_ptr()) } {
                ffi::SQLITE_DONE => break Ok(()),
                ffi::SQLITE_ROW => match row(&Row { raw: self.raw, _of: &self.on }) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => break Ok(()),
                    Err(error) => break Err(error),
                },
                // The message must be copied before the reset below.
                code => break Err(self.on.error(code).into()),
            }
        };
        self.reset();
        outcome
    }

    fn reset(&mut self) {
        // SAFETY: the statement is valid. The result repeats the error of the last step, which is already known.
        unsafe {
            ffi::sqlite3_reset(self.raw.as_ptr());
            ffi::sqlite3_clear_bindings(self.raw.as_ptr());
        }
        self.clear = true;
    }

    fn clear(&mut self) {
        // A closure that panicked may have left the statement in the middle of its rows.
        if !self.clear {
            self.reset();
        }
    }

    /// Binds to a statement that is clear but for other values. `place` counts from 0.
    ///
    /// The value must live until the statement has stepped and is clear again.
    #[inline]
    fn set(&mut self, place: usize, value: Value<'_>) -> Result<(), SqlError> {
        let statement = self.raw.as_ptr();
        let place = c_int::try_from(place + 1).unwrap_or(c_int::MAX);
        // SAFETY: the statement is valid and not stepping (it was clear when binding began); SQLite itself refuses a
        // place that is no parameter. Text and blobs are bound as static: they outlive the steps of this call (see
        // `each` and `Binding`), after which they are cleared or, had `row` panicked, replaced before the next step. A
        // slice's pointer is never null.
        let code = unsafe {
            match value {
                // A cleared parameter is NULL, and most columns of most rows are.
                Value::Null => ffi::SQLITE_OK,
                Value::Int(number) => ffi::sqlite3_bind_int64(statement, place, number),
                Value::Real(number) => ffi::sqlite3_bind_double(statement, place, number),
                Value::Text(text) => ffi::sqlite3_bind_text(
                    statement,
                    place,
                    text.as_ptr().cast(),
                    length(text.len()),
                    ffi::SQLITE_STATIC(),
                ),
                Value::Blob(bytes) => ffi::sqlite3_bind_blob(
                    statement,
                    place,
                    bytes.as_ptr().cast(),
                    length(bytes.len()),
                    ffi::SQLITE_STATIC(),
                ),
            }
        };
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(self.on.error(code)) }
    }
}

/// A statement that is being given its values, which all live as long as `'v`: longer than the call of
/// [`Statement::run_bound`] that steps it.
pub struct Binding<'s, 'v, 'c> {
    statement: &'s mut Statement<'c>,
    // Invariant: a binding for short-lived values must not pass for one of long-lived ones, nor the other way.
    _values: PhantomData<fn(&'v ()) -> &'v ()>,
}

impl<'v> Binding<'_, 'v, '_> {
    /// Sets the parameter at `place`, which counts from 0.
    #[inline]
    pub fn set(&mut self, place: usize, value: Value<'v>) -> Result<(), SqlError> {
        self.statement.set(place, value)
    }
}

/// Records are capped far below 2 GiB; were one not, its tail would be cut and never read beyond its end.
fn length(bytes: usize) -> c_int {
    c_int::try_from(bytes).unwrap_or(c_int::MAX)
}

impl Drop for Statement<'_> {
    fn drop(&mut self) {
        // SAFETY: the statement is valid, finalised once, and its connection is still open: `on` holds the lock.
        unsafe {
            ffi::sqlite3_finalize(self.raw.as_ptr());
        }
    }
}

/// The row a statement stands on.
pub struct Row<'r> {
    raw: NonNull<ffi::sqlite3_stmt>,
    _of: &'r Connection<'r>,
}

impl Row<'_> {
    fn kind(&self, column: i32) -> c_int {
        // SAFETY: the statement stands on a row as long as `self` exists; a column out of range reads as NULL.
        unsafe { ffi::sqlite3_column_type(self.raw.as_ptr(), column) }
    }

    /// An integer; 0 when it is none.
    pub fn int(&self, column: i32) -> i64 {
        if self.kind(column) != ffi::SQLITE_INTEGER {
            return 0;
        }
        // SAFETY: as in `kind`; reading an integer converts nothing.
        unsafe { ffi::sqlite3_column_int64(self.raw.as_ptr(), column) }
    }

    /// An integer as an unsigned one; 0 when negative.
    pub fn unsigned(&self, column: i32) -> u64 {
        u64::try_from(self.int(column)).unwrap_or(0)
    }

    /// Text; empty when NULL or no text.
    pub fn text(&self, column: i32) -> &str {
        if self.kind(column) != ffi::SQLITE_TEXT {
            return "";
        }
        // SAFETY: as in `kind`. The column is text in UTF-8 (the database's encoding), so that nothing is converted
        // and the bytes stay where they are until the next step, which needs `self` gone.
        let bytes = unsafe {
            let start = ffi::sqlite3_column_text(self.raw.as_ptr(), column);
            let length = ffi::sqlite3_column_bytes(self.raw.as_ptr(), column);
            slice(start, length)
        };
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Bytes; empty when NULL or no blob.
    pub fn blob(&self, column: i32) -> &[u8] {
        if self.kind(column) != ffi::SQLITE_BLOB {
            return &[];
        }
        // SAFETY: as in `kind`. The column is a blob, so that nothing is converted and the bytes stay where they are
        // until the next step, which needs `self` gone.
        unsafe {
            let start = ffi::sqlite3_column_blob(self.raw.as_ptr(), column);
            let length = ffi::sqlite3_column_bytes(self.raw.as_ptr(), column);
            slice(start.cast(), length)
        }
    }

    /// Whatever the column holds.
    pub fn value(&self, column: i32) -> Value<'_> {
        match self.kind(column) {
            ffi::SQLITE_INTEGER => Value::Int(self.int(column)),
            // SAFETY: as in `kind`; reading a double converts nothing.
            ffi::SQLITE_FLOAT => {
                Value::Real(unsafe { ffi::sqlite3_column_double(self.raw.as_ptr(), column) })
            }
            ffi::SQLITE_TEXT => Value::Text(self.text(column)),
            ffi::SQLITE_BLOB => Value::Blob(self.blob(column)),
            _ => Value::Null,
        }
    }

    /// Text of one's own.
    pub fn string(&self, column: i32) -> String {
        self.text(column).to_owned()
    }

    /// Text; `None` when NULL or no text.
    pub fn text_given(&self, column: i32) -> Option<String> {
        (self.kind(column) == ffi::SQLITE_TEXT).then(|| self.string(column))
    }

    /// Bytes; `None` when NULL or no blob.
    pub fn blob_given(&self, column: i32) -> Option<Vec<u8>> {
        (self.kind(column) == ffi::SQLITE_BLOB).then(|| self.blob(column).to_vec())
    }

    /// An integer; `None` when NULL or no integer.
    pub fn int_given(&self, column: i32) -> Option<i64> {
        (self.kind(column) == ffi::SQLITE_INTEGER).then(|| self.int(column))
    }

    /// A 16-byte blob; zeros when it is none.
    pub fn hash(&self, column: i32) -> [u8; 16] {
        self.blob(column).try_into().unwrap_or_default()
    }
}

/// SAFETY: `start` points to `length` bytes that live as long as `'r`, or is null for an empty value.
unsafe fn slice<'r>(start: *const u8, length: c_int) -> &'r [u8] {
    match usize::try_from(length) {
        // SAFETY: the caller's promise.
        Ok(length) if !start.is_null() => unsafe { std::slice::from_raw_parts(start, length) },
        _ => &[],
    }
}
