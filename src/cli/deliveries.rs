//! `cdrd deliveries`: what arrived, the latest first, also what still waits at the door.

use super::screen::{Screen, cell};
use super::{Exit, Loaded};
use crate::record::outcome::Counts;
use crate::store::query::{Query as _, Table, Value};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// One JSON object per line, with the columns of table delivery
    #[arg(long)]
    json: bool,
}

/// Outcomes of rows that are worth naming one by one.
const OUTCOMES: [&str; 6] = ["stored", "duplicate", "amended", "rejected", "skipped", "held"];

/// Lists deliveries.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let runtime = super::runtime()?;
    let deliveries = loaded.query(&runtime)?.deliveries(args.limit)?;
    if args.json {
        screen.json_table(&deliveries)?;
        return Ok(Exit::Done);
    }
    let terminal = screen.is_terminal();
    // A terminal is too narrow for a column per outcome; a pipe is not.
    let mut header = vec!["id", "received", "source", "name", "state", "rows"];
    if !terminal {
        header.push("bytes");
        header.extend(OUTCOMES);
    }
    let rows: Vec<Vec<String>> =
        deliveries.rows.iter().map(|row| shown(&deliveries, row, terminal)).collect();
    screen.table(&header, &rows)?;
    Ok(Exit::Done)
}

fn shown(table: &Table, row: &[Value], terminal: bool) -> Vec<String> {
    let text = |column: &str| cell(table.value(row, column));
    let mut cells =
        vec![text("id"), second(&text("received_at")), text("source"), text("name"), text("state")];
    if terminal {
        cells.push(counts(table, row).to_string());
    } else {
        cells.extend([text("rows_read"), text("bytes")]);
        cells.extend(OUTCOMES.map(text));
    }
    cells
}

/// The counts of a row of table delivery, or of their sums.
pub fn counts(table: &Table, row: &[Value]) -> Counts {
    let count = |column: &str| u64::try_from(table.value(row, column).integer()).unwrap_or(0);
    Counts {
        rows_read: count("rows_read"),
        stored: count("stored"),
        duplicate: count("duplicate"),
        amended: count("amended"),
        rejected: count("rejected"),
        skipped: count("skipped"),
        held: count("held"),
    }
}

/// A time of the tables, to the second.
pub fn second(time: &str) -> String {
    let whole = time.split('.').next().unwrap_or(time);
    if whole.is_empty() { String::new() } else { format!("{whole}Z") }
}
