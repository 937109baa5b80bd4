//! What arrived, read again: rows with a number that are in no table, because they repeat a leg, sum one up, or are no
//! call.

use super::Loaded;
use super::deliveries::second;
use super::numbers::Wished;
use super::original;
use crate::intake::Intake;
use crate::pipeline::{self, PreviewRow, Rereader};
use crate::record::delivery::{DeliveryId, printable};
use crate::record::document::{Dialect, RowKind};
use crate::record::outcome::Skip;
use crate::store::query::{Query as _, ReadDocument, Value};
use crate::store::sqlite::query::SqliteQuery;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// A row with the number.
pub struct Sighting {
    /// What became of it.
    pub outcome: String,
    /// Delivery.
    pub delivery: String,
    /// Number of the document in it.
    pub document: u32,
    /// Row.
    pub row: u64,
    /// Start, where the row is a leg.
    pub started: String,
}

/// What is looked for.
pub struct Reread<'r> {
    /// Configuration.
    pub loaded: &'r Loaded,
    /// The database.
    pub query: &'r SqliteQuery,
    /// The number.
    pub wished: &'r Wished,
    /// Calls that started at or after.
    pub since: Timestamp,
    /// Calls that started before.
    pub until: Timestamp,
    /// Legs that were already found.
    pub listed: &'r BTreeSet<i64>,
}

impl Reread<'_> {
    /// Reads every delivery of that time.
    pub fn all(&self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Vec<Sighting>> {
        let documents = self.query.documents(self.since, self.until)?;
        let mut found = Vec::new();
        if documents.is_empty() {
            return Ok(found);
        }
        let intake = original::open(self.loaded, runtime)?;
        for delivery in documents.chunk_by(|one, other| one.delivery == other.delivery) {
            let before = found.len();
            if let Err(error) = self.delivery(delivery, &intake, &mut found) {
                // The others may hold the call: this one is told and passed over.
                found.push(Sighting {
                    outcome: printable(format!("cannot be read again: {error:#}").as_bytes()),
                    delivery: delivery[0].delivery.clone(),
                    document: delivery[0].number,
                    row: 0,
                    started: String::new(),
                });
                continue;
            }
            if found.len() > before {
                self.repeats(&delivery[0], &mut found)?;
            }
        }
        Ok(found)
    }

    fn delivery(
        &self,
        documents: &[ReadDocument],
        intake: &Intake,
        found: &mut Vec<Sighting>,
    ) -> anyhow::Result<()> {
        let first = &documents[0];
        let id: DeliveryId = first.delivery.parse()?;
        let wanted = |document: &ReadDocument| -> anyhow::Result<(u32, String, Dialect)> {
            Ok((document.number, document.format.clone(), serde_json::from_str(&document.dialect)?))
        };
        let reader = Rereader {
            formats: &self.loaded.formats,
            origin: &first.origin,
            origin_key: &first.origin_key,
            source: &first.source,
            documents: documents.iter().map(wanted).collect::<anyhow::Result<_>>()?,
        };
        let scratch = self.loaded.config.state_dir.join("spool");
        let mut body = intake.open_original(id)?;
        let mut failed = None;
        let mut see = |number: u32, row: PreviewRow, verbatim: &[u8]| -> std::io::Result<()> {
            if failed.is_some() || !self.wished.stands_in(&first.origin, verbatim) {
                return Ok(());
            }
            let document = documents.iter().find(|document| document.number == number);
            match document.map(|document| self.sighting(document, &row)).transpose() {
                Ok(seen) => found.extend(seen.flatten()),
                Err(error) => failed = Some(error),
            }
            Ok(())
        };
        pipeline::reread(&mut body, &first.delivery_name, self.wished.engine(), &reader, &scratch, &mut see)?;
        failed.map_or(Ok(()), Err)
    }

    /// What became of a row; nothing where it is told already, or began at another time.
    fn sighting(&self, document: &ReadDocument, row: &PreviewRow) -> anyhow::Result<Option<Sighting>> {
        let seen = |outcome: String, row: u64, started: String| {
            Some(Sighting {
                outcome,
                delivery: document.delivery.clone(),
                document: document.number,
                row,
                started,
            })
        };
        let leg = match row {
            PreviewRow::Leg(leg) => leg,
            PreviewRow::Skipped(position, why) => {
                let why = match why {
                    Skip::Title => "a title",
                    Skip::RepeatedHeader => "a header",
                    Skip::Summary => "a summary",
                    Skip::Blank => "blank",
                    Skip::NoCall => "no call, as its [[format]] says",
                    Skip::Recorder => "the recorder's copy of a call",
                    Skip::Quality => "a report on voice quality, no call; it stays in the original",
                    Skip::Mark => "a mark of the system that writes the file",
                };
                return Ok(seen(format!("skipped: {why}"), position.row, String::new()));
            }
            // Open ones are found by their index.
            PreviewRow::Rejected(..) => return Ok(None),
        };
        let (position, cdr) = (leg.leg.raw.position, &leg.leg.cdr);
        let started = Timestamp::from_millisecond(cdr.started_at)?;
        if started < self.since || started >= self.until {
            return Ok(None);
        }
        let shown = second(&started.strftime("%Y-%m-%d %H:%M:%S").to_string());
        let outcome = match self.query.twin(leg)? {
            Some(twin) => {
                let own = twin.document == document.id && twin.row_number == i64::try_from(position.row)?;
                let of = twin.leg.map_or_else(|| "a leg".to_owned(), |leg| format!("leg {leg}"));
                match twin.leg {
                    Some(leg) if own && self.listed.contains(&leg) => return Ok(None),
                    _ if own => format!("stored in {of}"),
                    _ => {
                        format!("duplicate in {of}, from delivery {} row {}", twin.delivery, twin.row_number)
                    }
                }
            }
            None if leg.leg.raw.layout.kind == RowKind::Summary => {
                "skipped: a summary; its legs are stored".to_owned()
            }
            None => "in no table: a later delivery replaced it, or it was read otherwise then".to_owned(),
        };
        Ok(seen(outcome, position.row, shown))
    }

    /// What brought the same bytes again and was not read: whole bodies, and documents in other envelopes.
    fn repeats(&self, document: &ReadDocument, found: &mut Vec<Sighting>) -> anyhow::Result<()> {
        let id: DeliveryId = document.delivery.parse()?;
        // The id is a parsed ULID and holds nothing but letters and digits.
        let sql = format!(
            "SELECT again.id, 1 FROM delivery first JOIN delivery again ON again.content_hash = first.content_hash \
              WHERE first.id = '{id}' AND again.state = 'repeated' \
             UNION \
             SELECT again.delivery_id, again.number FROM document first \
               JOIN document again ON again.content_hash = first.content_hash \
              WHERE first.delivery_id = '{id}' AND first.state = 'done' AND again.state = 'repeated' ORDER BY 1, 2"
        );
        self.query.each(&sql, &mut |_, row| {
            found.push(Sighting {
                outcome: format!("the same bytes as in delivery {id}, once more"),
                delivery: row.first().map_or("", Value::text).to_owned(),
                document: row.get(1).map_or(1, |number| u32::try_from(number.integer()).unwrap_or(1)),
                row: 0,
                started: String::new(),
            });
            ControlFlow::Continue(())
        })?;
        Ok(())
    }
}
