//! `cdrd find`: everything in which a number stands, and where there is nothing, what is known of that time. A call that
//! somebody misses is stored, rejected, or never arrived: this says which.

use super::calls;
use super::deliveries::second;
use super::missing::Missing;
use super::numbers::Wished;
use super::reread::{Reread, Sighting};
use super::screen::{Screen, Tone, cell, json_object, note};
use super::times::{length, moment};
use super::{Exit, Loaded, WrongUsage};
use crate::store::query::{LegWish, NUMBER_COLUMNS, Query as _, RejectedWish, Table, Value};
use crate::store::sqlite::query::SqliteQuery;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::collections::BTreeSet;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The number, written as the PBX or as people do; an extension, or a text like anonymous
    number: String,
    /// Only about this time, and in every column that holds a number: "2h" ago, a day, or a time in this host's zone
    /// ("2025-03-04 10:00") or with its own offset
    #[arg(long, value_name = "TIME", value_parser = moment)]
    around: Option<Timestamp>,
    /// How far before and after that time
    #[arg(long, value_name = "LENGTH", value_parser = length, default_value = "1d", requires = "around")]
    within: SignedDuration,
    /// Also read again what arrived of that time: duplicates, summaries and other rows that are in no table
    #[arg(long, requires = "around")]
    deep: bool,
    /// Of each kind at most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// One JSON object per line; its member `kind` says what it is
    #[arg(long)]
    json: bool,
}

/// A time with its surroundings.
#[derive(Clone, Copy)]
pub struct Around {
    /// The time.
    pub at: Timestamp,
    since: Timestamp,
    until: Timestamp,
}

/// What was found.
struct Found {
    legs: Table,
    /// Columns of each leg in which the number stands.
    columns: Vec<Vec<&'static str>>,
    rejected: Table,
    sightings: Vec<Sighting>,
}

/// Looks everywhere.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    if args.number.trim().is_empty() {
        return Err(WrongUsage("the number is empty; write the one that is missed".to_owned()).into());
    }
    let runtime = super::runtime()?;
    let query = loaded.query(&runtime)?;
    let wished = Wished::new(&args.number, loaded, &query)?;
    let around = args.around.map(|at| Around {
        at,
        since: at.checked_sub(args.within).unwrap_or(Timestamp::MIN),
        until: at.checked_add(args.within).unwrap_or(Timestamp::MAX),
    });
    let (legs, columns) = legs(args, &wished, around, &query)?;
    let rejected = rejected(&wished, around, &query)?;
    let mut found = Found { legs, columns, rejected, sightings: Vec::new() };
    if let Some(Around { since, until, .. }) = around.filter(|_| args.deep) {
        let listed: BTreeSet<i64> =
            found.legs.rows.iter().map(|row| found.legs.value(row, "id").integer()).collect();
        let reread = Reread { loaded, query: &query, wished: &wished, since, until, listed: &listed };
        found.sightings = reread.all(&crate::daemon::runtime()?)?;
    }
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    if [found.legs.rows.len(), found.rejected.rows.len(), found.sightings.len()]
        .iter()
        .any(|rows| *rows > most)
    {
        note(&format!("only {most} of each kind; --limit N gives more"));
    }
    found.legs.rows.truncate(most);
    found.rejected.rows.truncate(most);
    found.sightings.truncate(most);
    if args.json {
        found.as_json(screen)?;
    } else {
        found.print(&wished, around, screen)?;
    }
    if !found.is_empty() {
        return Ok(Exit::Done);
    }
    let missing = Missing::look(around, &query)?;
    if args.json {
        missing.as_json(around, loaded, screen)?;
    } else {
        missing.print(around, loaded, screen)?;
    }
    Ok(Exit::Done)
}

/// Legs by the indexes of caller and callee, and of a time those that have the number in another column.
fn legs(
    args: &Args,
    wished: &Wished,
    around: Option<Around>,
    query: &SqliteQuery,
) -> anyhow::Result<(Table, Vec<Vec<&'static str>>)> {
    let (since, until) = (around.map(|around| around.since), around.map(|around| around.until));
    // One more, to know whether there are more.
    let limit = args.limit.saturating_add(1);
    let by_index = LegWish { since, until, parties: wished.parties(), limit, ..LegWish::default() };
    let mut legs = query.legs(&by_index)?;
    if around.is_some() {
        let ending = wished.ending();
        let by_time = query.legs(&LegWish { since, until, ending, limit: u32::MAX, ..LegWish::default() })?;
        let known: BTreeSet<i64> = legs.rows.iter().map(|row| legs.value(row, "id").integer()).collect();
        let others = by_time.rows.iter().filter(|row| {
            !known.contains(&by_time.value(row, "id").integer())
                && !standing(&by_time, row, wished).is_empty()
        });
        legs.rows.extend(others.cloned());
        let start = |row: &Vec<Value>| by_time.value(row, "started_at").text().to_owned();
        legs.rows.sort_by_cached_key(|row| std::cmp::Reverse(start(row)));
        legs.rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let columns = legs.rows.iter().map(|row| standing(&legs, row, wished)).collect();
    Ok((legs, columns))
}

/// Columns of a leg in which the number stands.
fn standing(legs: &Table, row: &[Value], wished: &Wished) -> Vec<&'static str> {
    let origin = legs.value(row, "origin").text();
    NUMBER_COLUMNS.into_iter().filter(|column| wished.is(origin, legs.value(row, column).text())).collect()
}

fn rejected(wished: &Wished, around: Option<Around>, query: &SqliteQuery) -> anyhow::Result<Table> {
    let tail = wished.tail();
    if tail.is_empty() {
        return Ok(Table::default());
    }
    let mut found = query.rejected(&RejectedWish {
        tail: Some(tail),
        around: around.map(|around| (around.since, around.until)),
        limit: u32::MAX,
        ..RejectedWish::default()
    })?;
    let origin = |row: &Vec<Value>| found.value(row, "origin").text().to_owned();
    let holds = |row: &Vec<Value>| match row.last() {
        Some(Value::Blob(bytes)) => wished.stands_in(&origin(row), bytes),
        _ => false,
    };
    let held: Vec<bool> = found.rows.iter().map(holds).collect();
    let mut held = held.into_iter();
    found.rows.retain(|_| held.next().unwrap_or(false));
    // The bytes are for `cdrd rejected show`.
    found.columns.pop();
    for row in &mut found.rows {
        row.pop();
    }
    Ok(found)
}

impl Found {
    /// Nothing holds the number; what could not be read tells nothing.
    fn is_empty(&self) -> bool {
        let seen = self.sightings.iter().any(|seen| seen.row > 0);
        self.legs.rows.is_empty() && self.rejected.rows.is_empty() && !seen
    }

    fn print(&self, wished: &Wished, around: Option<Around>, screen: &mut Screen) -> std::io::Result<()> {
        let forms = wished.parties().join(", ");
        let how = match around {
            Some(Around { since, until, .. }) => format!(
                "{forms} as caller or callee (by index) or in {} (by time), between {} and {}",
                NUMBER_COLUMNS[2..].join(", "),
                written(since),
                written(until)
            ),
            None => format!(
                "{forms} as caller or callee (by index); with --around TIME in every column that holds numbers"
            ),
        };
        screen.toned((Tone::Faint, "looked for "), (Tone::Faint, &how))?;
        self.print_legs(screen)?;
        self.print_rejected(screen)?;
        if self.sightings.is_empty() {
            return Ok(());
        }
        screen.line("")?;
        screen.line(&screen.paint(Tone::Heading, "in what arrived"))?;
        let rows: Vec<Vec<String>> = self
            .sightings
            .iter()
            .map(|seen| {
                vec![
                    seen.outcome.clone(),
                    seen.delivery.clone(),
                    seen.document.to_string(),
                    if seen.row == 0 { String::new() } else { seen.row.to_string() },
                    seen.started.clone(),
                ]
            })
            .collect();
        screen.table(&["outcome", "delivery", "document", "row", "started"], &rows)
    }

    fn print_legs(&self, screen: &mut Screen) -> std::io::Result<()> {
        if self.legs.rows.is_empty() {
            return Ok(());
        }
        screen.line("")?;
        screen.line(&screen.paint(Tone::Heading, "legs"))?;
        let mut header = calls::HEADER.to_vec();
        let mut rows: Vec<Vec<String>> =
            self.legs.rows.iter().map(|row| calls::shown(&self.legs, row)).collect();
        if screen.is_terminal() {
            // What `cdrd calls ID` shows as well.
            calls::shorten(&mut header, &mut rows);
            for place in [5, 1] {
                header.remove(place);
                for row in &mut rows {
                    row.remove(place);
                }
            }
        }
        header.insert(0, "id");
        header.push("stands in");
        for ((cells, row), columns) in rows.iter_mut().zip(&self.legs.rows).zip(&self.columns) {
            cells.insert(0, cell(self.legs.value(row, "id")));
            cells.push(columns.join(", "));
        }
        screen.table(&header, &rows)
    }

    fn print_rejected(&self, screen: &mut Screen) -> std::io::Result<()> {
        if self.rejected.rows.is_empty() {
            return Ok(());
        }
        screen.line("")?;
        screen.line(&screen.paint(Tone::Heading, "rejected rows"))?;
        let text = |row: &[Value], column: &str| cell(self.rejected.value(row, column));
        let rows: Vec<Vec<String>> = self
            .rejected
            .rows
            .iter()
            .map(|row| {
                ["id", "reason", "source", "name", "row_number"].map(|column| text(row, column)).to_vec()
            })
            .collect();
        screen.table(&["id", "reason", "source", "name", "row"], &rows)?;
        screen.line("`cdrd rejected show ID` shows the row and says what to do.")
    }

    fn as_json(&self, screen: &mut Screen) -> std::io::Result<()> {
        let kind = |kind: &str, mut object: serde_json::Value| {
            object["kind"] = kind.into();
            object
        };
        for (row, columns) in self.legs.rows.iter().zip(&self.columns) {
            let mut leg = kind("leg", json_object(&self.legs.columns, row));
            leg["stands_in"] = json!(columns);
            screen.json_value(&leg)?;
        }
        for row in &self.rejected.rows {
            screen.json_value(&kind("rejected", json_object(&self.rejected.columns, row)))?;
        }
        for seen in &self.sightings {
            screen.json_value(&json!({
                "kind": "arrived", "outcome": seen.outcome, "delivery_id": seen.delivery, "document": seen.document,
                "row": seen.row, "started_at": seen.started,
            }))?;
        }
        Ok(())
    }
}

/// A time as all others are shown.
pub fn written(time: Timestamp) -> String {
    second(&time.strftime("%Y-%m-%d %H:%M:%S").to_string())
}
