//! Windows that somebody asked a poller to fetch again. A wish is durable once it is answered, and done once.

use super::spool::{moment, parse_moment};
use super::{Intake, IntakeError, RunTally, locked};
use crate::sqlite::raw::Value;
use jiff::{SignedDuration, Timestamp};
use std::sync::mpsc::Sender;

/// How long wishes that were done are kept.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Something to fetch again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncWish {
    /// Number.
    pub id: i64,
    /// From when on; absent: from where the source has read to.
    pub from: Option<Timestamp>,
    /// Until when; absent: now.
    pub to: Option<Timestamp>,
}

/// How a wish ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncEnd {
    /// What was done for it.
    pub tally: RunTally,
    /// Why it could not be.
    pub error: Option<String>,
}

impl Intake {
    /// Whom to wake when this source has a wish to look at.
    pub fn set_sync_bell(&self, source: &str, bell: Sender<()>) {
        locked(&self.0.sync_bells).insert(source.to_owned(), bell);
    }

    /// Asks a source to fetch a window again. The same wish that waits already is not made twice.
    pub fn wish_sync(
        &self,
        source: &str,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<i64, IntakeError> {
        let now = Timestamp::now();
        let (named, now, old) =
            (source.to_owned(), moment(now), moment(now.saturating_sub(KEPT).unwrap_or(now)));
        let (from, to) = (from.map(moment), to.map(moment));
        let id = self.write(move |db| {
            let wish = [
                Value::Text(&named),
                Value::text_given(from.as_deref()),
                Value::text_given(to.as_deref()),
            ];
            let waiting = db.one(
                "SELECT id FROM sync_wish WHERE source = ? AND from_at IS ? AND to_at IS ? AND ended_at IS NULL",
                &wish,
                |row| row.int(0),
            )?;
            if let Some(waiting) = waiting {
                return Ok(waiting);
            }
            db.run("DELETE FROM sync_wish WHERE ended_at < ?", &[Value::Text(&old)])?;
            let [source, from, to] = wish;
            db.run(
                "INSERT INTO sync_wish (source, from_at, to_at, asked_at) VALUES (?, ?, ?, ?)",
                &[source, from, to, Value::Text(&now)],
            )?;
            Ok(db.one("SELECT max(id) FROM sync_wish", &[], |row| row.int(0))?.unwrap_or(0))
        })?;
        if let Some(bell) = locked(&self.0.sync_bells).get(source) {
            // A source that has ended looks at its wishes when it starts.
            let _ = bell.send(());
        }
        Ok(id)
    }

    /// The wish of this source that waits longest.
    pub fn next_sync(&self, source: &str) -> Result<Option<SyncWish>, IntakeError> {
        let named = source.to_owned();
        let row = self.read(move |db| {
            db.one(
                "SELECT id, from_at, to_at FROM sync_wish WHERE source = ? AND ended_at IS NULL ORDER BY id LIMIT 1",
                &[Value::Text(&named)],
                |row| (row.int(0), row.text_given(1), row.text_given(2)),
            )
        })?;
        let at = |text: Option<String>| text.as_deref().and_then(parse_moment);
        Ok(row.map(|(id, from, to)| SyncWish { id, from: at(from), to: at(to) }))
    }

    /// Notes that a wish was done, or why it could not be.
    pub fn end_sync(&self, id: i64, tally: RunTally, error: Option<&str>) -> Result<(), IntakeError> {
        let (now, error) = (moment(Timestamp::now()), error.map(str::to_owned));
        self.write(move |db| {
            db.run(
                "UPDATE sync_wish SET ended_at = ?2, requests = ?3, pages = ?4, records = ?5, error = ?6 WHERE id = ?1",
                &[
                    Value::Int(id),
                    Value::Text(&now),
                    Value::unsigned(tally.requests),
                    Value::unsigned(tally.pages),
                    Value::unsigned(tally.records),
                    Value::text_given(error.as_deref()),
                ],
            )?;
            Ok(())
        })
    }

    /// How a wish ended; `None` while it has not.
    pub fn sync_ended(&self, id: i64) -> Result<Option<SyncEnd>, IntakeError> {
        self.read(move |db| {
            db.one(
                "SELECT requests, pages, records, error FROM sync_wish WHERE id = ? AND ended_at IS NOT NULL",
                &[Value::Int(id)],
                |row| {
                    let [requests, pages, records] = [0, 1, 2].map(|column| row.int(column).cast_unsigned());
                    let tally = RunTally { requests, pages, records, gap: None };
                    SyncEnd { tally, error: row.text_given(3) }
                },
            )
        })
    }
}
