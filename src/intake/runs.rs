//! The runs of pollers: what each asked for, what came, and what the far side no longer had. Kept for a month.

use super::spool::{moment, parse_moment};
use super::{Intake, IntakeError};
use crate::sqlite::raw::Value;
use jiff::{SignedDuration, Timestamp};

/// How long runs are kept; those with a gap stay.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);
/// How long a gap is said with the health of its source.
const SAID: SignedDuration = SignedDuration::from_hours(24 * 7);

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunTally {
    /// Requests, log-ins among them.
    pub requests: u64,
    /// Pages that came.
    pub pages: u64,
    /// Legs in pages that were handed to the door.
    pub records: u64,
    /// From when to when the far side no longer has what it should have.
    pub gap: Option<(Timestamp, Timestamp)>,
}

impl Intake {
    /// Notes that a run begins. Gives its number.
    pub fn begin_run(
        &self,
        source: &str,
        from: Timestamp,
        to: Option<Timestamp>,
    ) -> Result<i64, IntakeError> {
        let now = Timestamp::now();
        let (named, now, old) =
            (source.to_owned(), moment(now), moment(now.saturating_sub(KEPT).unwrap_or(now)));
        let (from, to) = (moment(from), to.map(moment));
        // A run that is lost in a power cut is run again.
        self.write_unflushed(move |db| {
            db.run(
                "UPDATE source_run SET ended_at = ?2, error = 'cut off' WHERE source = ?1 AND ended_at IS NULL",
                &[Value::Text(&named), Value::Text(&now)],
            )?;
            db.run(
                "DELETE FROM source_run WHERE source = ?1 AND started_at < ?2 AND gap_from IS NULL",
                &[Value::Text(&named), Value::Text(&old)],
            )?;
            db.run(
                "INSERT INTO source_run (source, started_at, window_from, window_to) VALUES (?, ?, ?, ?)",
                &[
                    Value::Text(&named),
                    Value::Text(&now),
                    Value::Text(&from),
                    Value::text_given(to.as_deref()),
                ],
            )?;
            Ok(db.one("SELECT max(id) FROM source_run", &[], |row| row.int(0))?.unwrap_or(0))
        })
    }

    /// Notes how a run ended. One that ended well makes good those of its source that did not: what they missed lies in
    /// its window, or in that of a run before it.
    pub fn end_run(
        &self,
        source: &str,
        run: i64,
        tally: RunTally,
        error: Option<&str>,
    ) -> Result<(), IntakeError> {
        let (named, now, error) = (source.to_owned(), moment(Timestamp::now()), error.map(str::to_owned));
        self.write_unflushed(move |db| {
            let (gap_from, gap_to) = (tally.gap.map(|gap| moment(gap.0)), tally.gap.map(|gap| moment(gap.1)));
            db.run(
                "UPDATE source_run SET ended_at = ?2, requests = ?3, pages = ?4, records = ?5, error = ?6,
                     gap_from = ?7, gap_to = ?8
                 WHERE id = ?1",
                &[
                    Value::Int(run),
                    Value::Text(&now),
                    Value::unsigned(tally.requests),
                    Value::unsigned(tally.pages),
                    Value::unsigned(tally.records),
                    Value::text_given(error.as_deref()),
                    Value::text_given(gap_from.as_deref()),
                    Value::text_given(gap_to.as_deref()),
                ],
            )?;
            if error.is_none() {
                db.run(
                    "UPDATE source_run SET recovered_at = ?2
                     WHERE source = ?1 AND error IS NOT NULL AND recovered_at IS NULL",
                    &[Value::Text(&named), Value::Text(&now)],
                )?;
            }
            Ok(())
        })
    }

    /// The last gap of a source, while it is still worth saying.
    pub fn last_gap(&self, source: &str) -> Result<Option<(Timestamp, Timestamp)>, IntakeError> {
        let now = Timestamp::now();
        let (named, since) = (source.to_owned(), moment(now.saturating_sub(SAID).unwrap_or(now)));
        let gap = self.read(move |db| {
            db.one(
                "SELECT gap_from, gap_to FROM source_run
                 WHERE source = ? AND gap_from IS NOT NULL AND started_at >= ? ORDER BY started_at DESC LIMIT 1",
                &[Value::Text(&named), Value::Text(&since)],
                |row| (row.string(0), row.string(1)),
            )
        })?;
        Ok(gap.and_then(|(from, to)| Some((parse_moment(&from)?, parse_moment(&to)?))))
    }
}
