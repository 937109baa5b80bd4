//! Feedback: how deliveries ended, kept for the sources that asked until they have told their senders.
//!
//! An outcome is written in the transaction that forgets the receipt, and goes only when its source confirms it: after a
//! crash it is told again, and never skipped.

use super::spool::{self, Row, moment, parse_moment};
use super::{Intake, IntakeError};
use crate::crash_point;
use crate::record::delivery::DeliveryId;
use crate::record::outcome::{DeliveryOutcome, Verdict};
use crate::record::port::Feedback;
use crate::sqlite::Prepared;
use crate::sqlite::raw::{SqlError, Value};
use jiff::Timestamp;
use std::sync::mpsc::Sender;

/// Outcomes that are read at once.
const BATCH: usize = 256;

/// What a round of telling did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Outcomes that were told and confirmed.
    pub confirmed: usize,
    /// Outcomes that could not be told and are tried again.
    pub failed: usize,
    /// Why the first of them could not, in words.
    pub failure: Option<String>,
}

impl Intake {
    /// Rings this bell whenever outcomes of the source are written. One that is missed costs latency: what is not
    /// confirmed is still there at the next [`Intake::tell_outcomes`].
    pub fn ring_for_outcomes(&self, source: &str, bell: Sender<()>) {
        super::locked(&self.0.outcome_bells).insert(source.to_owned(), bell);
    }

    pub(super) fn ring(&self, sources: impl Iterator<Item = String>) {
        let mut bells = super::locked(&self.0.outcome_bells);
        for source in sources {
            if bells.get(&source).is_some_and(|bell| bell.send(()).is_err()) {
                bells.remove(&source);
            }
        }
    }

    /// The outcomes of a source that are not confirmed, oldest first, at most so many, and only those after `after`.
    pub fn outcomes(
        &self,
        source: &str,
        after: Option<DeliveryId>,
        most: usize,
    ) -> Result<Vec<DeliveryOutcome>, IntakeError> {
        let (source, after) = (source.to_owned(), after.map_or_else(String::new, |id| id.to_string()));
        let rows = self.read(move |db| {
            db.all(
                "SELECT delivery_id, source, account, name, ended_at, state, counts, rejected_documents, rejections
                   FROM outcome WHERE source = ? AND confirmed_at IS NULL AND delivery_id > ?
                  ORDER BY delivery_id LIMIT ?",
                &[Value::Text(&source), Value::Text(&after), Value::unsigned(most as u64)],
                |row| Written {
                    id: row.string(0),
                    source: row.string(1),
                    account: row.text_given(2),
                    name: row.string(3),
                    ended_at: row.string(4),
                    state: row.string(5),
                    counts: row.string(6),
                    rejected_documents: row.unsigned(7),
                    rejections: row.string(8),
                },
            )
        })?;
        rows.into_iter().map(|row| self.outcome(row)).collect()
    }

    /// Forgets outcomes: their senders were told. Losing this in a power cut means telling them again.
    pub fn confirm_outcomes(&self, deliveries: &[DeliveryId]) -> Result<(), IntakeError> {
        let ids = spool::list(deliveries.iter().map(DeliveryId::to_string));
        self.write_unflushed(move |db| {
            let sql = "DELETE FROM outcome WHERE delivery_id IN (SELECT value FROM json_each(?))";
            db.run(sql, &[Value::Text(&ids)])
        })?;
        Ok(())
    }

    /// Tells everything that is not confirmed, each outcome once a round; what fails does not hold up the others.
    pub fn tell_outcomes(&self, source: &str, feedback: &mut dyn Feedback) -> Result<Told, IntakeError> {
        let (mut told, mut after) = (Told::default(), None);
        loop {
            let outcomes = self.outcomes(source, after, BATCH)?;
            let Some(last) = outcomes.last() else { return Ok(told) };
            after = Some(last.delivery);
            let mut done = Vec::with_capacity(outcomes.len());
            for outcome in &outcomes {
                match feedback.tell(outcome) {
                    Ok(()) => done.push(outcome.delivery),
                    Err(error) => {
                        told.failed += 1;
                        told.failure.get_or_insert_with(|| error.to_string());
                    }
                }
                crash_point::reached("outcome-told");
            }
            self.confirm_outcomes(&done)?;
            told.confirmed += done.len();
        }
    }

    fn outcome(&self, row: Written) -> Result<DeliveryOutcome, IntakeError> {
        let damaged = |what| self.damaged(what, &row.id);
        Ok(DeliveryOutcome {
            delivery: row.id.parse().map_err(|_| damaged("id"))?,
            ended_at: parse_moment(&row.ended_at).ok_or_else(|| damaged("ended_at"))?,
            verdict: Verdict {
                counts: serde_json::from_str(&row.counts).map_err(|_| damaged("counts"))?,
                rejections: serde_json::from_str(&row.rejections).map_err(|_| damaged("rejections"))?,
                rejected_documents: row.rejected_documents,
                state: row.state,
            },
            source: row.source,
            account: row.account,
            name: row.name,
        })
    }
}

/// A row of `outcome`.
struct Written {
    id: String,
    source: String,
    account: Option<String>,
    name: String,
    ended_at: String,
    state: String,
    counts: String,
    rejected_documents: u64,
    rejections: String,
}

/// Writes how a delivery ended, in the transaction that forgets its receipt.
pub(super) fn write(
    db: &mut Prepared<'_>,
    row: &Row,
    verdict: &Verdict,
    at: Timestamp,
) -> Result<(), SqlError> {
    let json = |text: Result<String, serde_json::Error>| text.expect("numbers and texts always become JSON");
    db.run(
        "INSERT INTO outcome (delivery_id, source, account, name, ended_at, state, counts, rejected_documents, rejections)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        &[
            Value::Text(&row.id),
            Value::Text(&row.source),
            Value::text_given(row.account.as_deref()),
            Value::Text(&row.name),
            Value::Text(&moment(at)),
            Value::Text(&verdict.state),
            Value::Text(&json(serde_json::to_string(&verdict.counts))),
            Value::unsigned(verdict.rejected_documents),
            Value::Text(&json(serde_json::to_string(&verdict.rejections))),
        ],
    )?;
    Ok(())
}
