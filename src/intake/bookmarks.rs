//! How far each source has read. A bookmark is only moved in the transaction that makes the deliveries durable.

use super::{Intake, IntakeError};
use crate::sqlite::Prepared;
use crate::sqlite::raw::{SqlError, Value};
use std::ops::ControlFlow;

/// Stands in a bookmark's value for the delivery that it moves with: its id, or that of the earlier delivery whose bytes
/// it repeats, whose original it shares.
pub const DELIVERY: &str = "{delivery}";

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

    /// Writes bookmarks that move without a delivery. What is not `flushed` may be lost in a power cut.
    pub fn put_bookmarks(&self, bookmarks: Vec<Bookmark>, flushed: bool) -> Result<(), IntakeError> {
        let step = move |db: &mut Prepared<'_>| bookmarks.iter().try_for_each(|bookmark| put(db, bookmark));
        if flushed { self.write(step) } else { self.write_unflushed(step) }
    }

    /// Forgets bookmarks of a source. A power cut may bring them back.
    pub fn forget_bookmarks(&self, source: &str, keys: Vec<String>) -> Result<(), IntakeError> {
        let source = source.to_owned();
        self.write_unflushed(move |db| {
            for key in &keys {
                let sql = "DELETE FROM bookmark WHERE source = ? AND key = ?";
                db.run(sql, &[Value::Text(&source), Value::Text(key)])?;
            }
            Ok(())
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

/// Moves a bookmark with this delivery.
pub(super) fn put_with(db: &mut Prepared<'_>, bookmark: &Bookmark, delivery: &str) -> Result<(), SqlError> {
    if !bookmark.value.contains(DELIVERY) {
        return put(db, bookmark);
    }
    put(db, &Bookmark { value: bookmark.value.replace(DELIVERY, delivery), ..bookmark.clone() })
}

pub(super) fn put(db: &mut Prepared<'_>, bookmark: &Bookmark) -> Result<(), SqlError> {
    db.run(
        "INSERT INTO bookmark (source, key, value) VALUES (?, ?, ?)
         ON CONFLICT (source, key) DO UPDATE SET value = excluded.value",
        &[Value::Text(&bookmark.source), Value::Text(&bookmark.key), Value::Text(&bookmark.value)],
    )?;
    Ok(())
}
