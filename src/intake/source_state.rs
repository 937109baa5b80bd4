//! The health of each source, written when it changes, so that `status` also tells it while no daemon runs.

use super::spool::{moment, parse_moment};
use super::{Intake, IntakeError};
use crate::sqlite::raw::Value;
use crate::telemetry;
use jiff::Timestamp;

/// How a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the public words")]
pub enum SourceHealth {
    Ok,
    Late,
    Retrying,
    Stopped,
    Off,
}

impl SourceHealth {
    const ALL: [Self; 5] = [Self::Ok, Self::Late, Self::Retrying, Self::Stopped, Self::Off];

    /// The word in the table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Late => "late",
            Self::Retrying => "retrying",
            Self::Stopped => "stopped",
            Self::Off => "off",
        }
    }
}

/// One line at each change of health.
fn say(source: &str, health: SourceHealth, message: &str) {
    let (message_id, word) = (telemetry::SOURCE_STATE_CHANGED, health.word());
    // The level is part of an event's static data, hence one macro call per level.
    macro_rules! say {
        ($level:expr) => {
            tracing::event!(
                $level,
                message_id,
                cdrd_source = source,
                cdrd_health = word,
                "source {source} is {word}{}{message}",
                if message.is_empty() { "" } else { ": " }
            )
        };
    }
    match health {
        SourceHealth::Ok | SourceHealth::Off => say!(tracing::Level::INFO),
        SourceHealth::Late | SourceHealth::Retrying => say!(tracing::Level::WARN),
        SourceHealth::Stopped => say!(tracing::Level::ERROR),
    }
}

/// A row of `source_state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceState {
    /// Source.
    pub source: String,
    /// Health.
    pub health: SourceHealth,
    /// What a person should know; empty when there is nothing.
    pub message: String,
    /// Since when it has this health.
    pub since: Timestamp,
    /// When health or message last changed.
    pub updated_at: Timestamp,
    /// When rows last came from it; before the first ones, since when it is watched.
    pub heard_at: Timestamp,
    /// Since when it has been silent for longer than it should.
    pub silent_since: Option<Timestamp>,
}

impl SourceState {
    /// Its health with its silence: a source that works and brings nothing is late.
    pub fn seen_whole(&self) -> SourceHealth {
        if self.health == SourceHealth::Ok && self.silent_since.is_some() {
            SourceHealth::Late
        } else {
            self.health
        }
    }
}

/// A row of the table: source, health, message, since, updated, heard, silent since.
type Row = (String, String, String, String, String, Option<String>, Option<String>);

impl Intake {
    /// Notes the health of a source. Writes only what changed.
    pub fn set_source_state(
        &self,
        source: &str,
        health: SourceHealth,
        message: &str,
    ) -> Result<(), IntakeError> {
        let now = moment(Timestamp::now());
        let (named, said) = (source.to_owned(), message.to_owned());
        let same = |(was, words): &(String, String)| was == health.word() && words == message;
        let asked = named.clone();
        let before = self.read(move |db| {
            let sql = "SELECT health, message FROM source_state WHERE source = ?";
            db.one(sql, &[Value::Text(&asked)], |row| (row.string(0), row.string(1)))
        })?;
        if before.as_ref().is_some_and(same) {
            return Ok(());
        }
        // A health that is lost in a power cut is written again at the next start.
        self.write_unflushed(move |db| {
            db.run(
                "INSERT INTO source_state (source, health, message, since, updated_at, heard_at)
                 VALUES (?1, ?2, ?3, ?4, ?4, ?4)
                 ON CONFLICT (source) DO UPDATE SET
                     since = CASE WHEN health = excluded.health THEN since ELSE excluded.since END,
                     health = excluded.health, message = excluded.message, updated_at = excluded.updated_at
                 WHERE health <> excluded.health OR message <> excluded.message",
                &[Value::Text(&named), Value::Text(health.word()), Value::Text(&said), Value::Text(&now)],
            )
        })?;
        if before.is_none_or(|(before, _)| before != health.word()) {
            say(source, health, message);
        }
        Ok(())
    }

    /// Notes that a source has been silent for too long since `since`, or no longer is. One line for each change.
    pub fn set_silence(
        &self,
        source: &str,
        since: Option<Timestamp>,
        message: &str,
    ) -> Result<(), IntakeError> {
        let (named, silent) = (source.to_owned(), since.map(moment));
        let changed = self.write(move |db| {
            db.run(
                "UPDATE source_state SET silent_since = ?2 WHERE source = ?1 AND (silent_since IS NULL) <> (?2 IS NULL)",
                &[Value::Text(&named), Value::text_given(silent.as_deref())],
            )
        })?;
        if changed > 0 {
            let health = if since.is_some() { SourceHealth::Late } else { SourceHealth::Ok };
            say(source, health, message);
        }
        Ok(())
    }

    /// The health of every source that ever ran, by name.
    pub fn source_states(&self) -> Result<Vec<SourceState>, IntakeError> {
        let rows: Vec<Row> = self.read(|db| {
            db.all(
                "SELECT source, health, message, since, updated_at, heard_at, silent_since FROM source_state
                 ORDER BY source",
                &[],
                |row| {
                    let [source, health, message, since, updated] =
                        [0, 1, 2, 3, 4].map(|column| row.string(column));
                    (source, health, message, since, updated, row.text_given(5), row.text_given(6))
                },
            )
        })?;
        rows.into_iter()
            .map(|(source, health, message, since, updated_at, heard_at, silent_since)| {
                let damaged = || self.damaged("source state", "of a source");
                Ok(SourceState {
                    health: SourceHealth::ALL
                        .into_iter()
                        .find(|known| known.word() == health)
                        .ok_or_else(damaged)?,
                    since: parse_moment(&since).ok_or_else(damaged)?,
                    updated_at: parse_moment(&updated_at).ok_or_else(damaged)?,
                    // A source that was watched before this was written down.
                    heard_at: parse_moment(heard_at.as_ref().unwrap_or(&since)).ok_or_else(damaged)?,
                    silent_since: silent_since.as_deref().and_then(parse_moment),
                    source,
                    message,
                })
            })
            .collect()
    }
}
