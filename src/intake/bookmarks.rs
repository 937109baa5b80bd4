//! How far each source has read. A bookmark is only moved in the transaction that makes the deliveries durable.

use super::{Intake, IntakeError};
use sqlx::SqliteConnection;

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
        self.block_on(async {
            sqlx::query_scalar("SELECT value FROM bookmark WHERE source = ? AND key = ?")
                .bind(source)
                .bind(key)
                .fetch_optional(&self.0.pool)
                .await
        })
    }

    /// All bookmarks of a source, key and value.
    pub fn bookmarks(&self, source: &str) -> Result<Vec<(String, String)>, IntakeError> {
        self.block_on(async {
            sqlx::query_as("SELECT key, value FROM bookmark WHERE source = ?")
                .bind(source)
                .fetch_all(&self.0.pool)
                .await
        })
    }
}

pub(super) async fn put(connection: &mut SqliteConnection, bookmark: &Bookmark) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO bookmark (source, key, value) VALUES (?, ?, ?)
         ON CONFLICT (source, key) DO UPDATE SET value = excluded.value",
    )
    .bind(&bookmark.source)
    .bind(&bookmark.key)
    .bind(&bookmark.value)
    .execute(connection)
    .await?;
    Ok(())
}
