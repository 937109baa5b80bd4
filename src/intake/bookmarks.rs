//! How far each source has read. A bookmark is only moved in the transaction that makes the deliveries durable.

use super::{Intake, IntakeError};
use crate::sqlite::Prepared;
use crate::sqlite::raw::{SqlError, Value};
use std::ops::ControlFlow;

/// How far a source has read, or what it knows of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bookmark {
    /// Source.
    pub source: String,
    /// Which of the source's bookmarks.
    pub key: String,
    /// Its new value.
    pub value: String,
}

impl Intake {
    /// The value of a bookmark.
    pub fn bookmark(&self, source: &str, key: &str) -> Result<Option<String>, IntakeError> {
        let (source, key) = (source.to_owned(), key.to_owned());
        self.read(move |db| {
            let sql = "SELECT value FROM bookmark WHERE source = ? AND key = ?";
            db.one(sql, &[Value::Text(&source), Value::Text(&key)], |row| row.string(0))
        })
    }

    /// All bookmarks of a source, as much of each key and value as `take` makes of them: there may be many.
    pub fn bookmarks<T: Send + 'static>(
        &self,
        source: &str,
        take: fn(&str, &str) -> Option<T>,
    ) -> Result<Vec<T>, IntakeError> {
        let source = source.to_owned();
        self.read(move |db| {
            let mut taken = Vec::new();
            let sql = "SELECT key, value FROM bookmark WHERE source = ?";
            db.each(sql, &[Value::Text(&source)], |row| {
                taken.extend(take(row.text(0), row.text(1)));
                Ok::<_, SqlError>(ControlFlow::Continue(()))
            })?;
            Ok(taken)
        })
    }
}

pub(super) fn put(db: &mut Prepared<'_>, bookmark: &Bookmark) -> Result<(), SqlError> {
    db.run(
        "INSERT INTO bookmark (source, key, value) VALUES (?, ?, ?)
         ON CONFLICT (source, key) DO UPDATE SET value = excluded.value",
        &[Value::Text(&bookmark.source), Value::Text(&bookmark.key), Value::Text(&bookmark.value)],
    )?;
    Ok(())
}
