//! `cdrd sql`: a person's own question to the database. Reads only.

use super::screen::{Screen, cell};
use super::{Exit, Loaded};
use crate::store::query::{Query as _, Value};
use std::io;
use std::ops::ControlFlow;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A SELECT; the tables of spool.db are there as spool.receipt, spool.source_state, ...
    statement: String,
    /// One JSON object per line; blobs in hexadecimal
    #[arg(long)]
    json: bool,
    /// On a terminal, at most so many rows; a pipe and --json get all
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: usize,
}

/// Asks and shows the answer.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let runtime = super::runtime()?;
    let query = loaded.query(&runtime)?;
    if screen.is_terminal() && !args.json {
        return drawn(args, &query, screen);
    }
    let mut wrote = Ok(());
    let mut any = false;
    let columns = query.each(&args.statement, &mut |columns, row| {
        wrote = if args.json { screen.json(columns, &row) } else { line(screen, columns, &row, any) };
        any = true;
        if wrote.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    wrote?;
    if !any && !args.json {
        screen.line(&columns.join("\t"))?;
    }
    Ok(Exit::Done)
}

/// A row as it comes, the names of the columns before the first.
fn line(screen: &mut Screen, columns: &[String], row: &[Value], header_written: bool) -> io::Result<()> {
    if !header_written {
        screen.line(&columns.join("\t"))?;
    }
    screen.line(&row.iter().map(cell).collect::<Vec<_>>().join("\t"))
}

fn drawn(
    args: &Args,
    query: &crate::store::sqlite::query::SqliteQuery,
    screen: &mut Screen,
) -> anyhow::Result<Exit> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut more = false;
    let columns = query.each(&args.statement, &mut |_, row| {
        more = rows.len() == args.limit;
        if more {
            return ControlFlow::Break(());
        }
        rows.push(row.iter().map(cell).collect());
        ControlFlow::Continue(())
    })?;
    screen.table(&columns.iter().map(String::as_str).collect::<Vec<_>>(), &rows)?;
    if more {
        screen.line(&format!("only the first {} rows; --limit N shows more", args.limit))?;
    }
    Ok(Exit::Done)
}
