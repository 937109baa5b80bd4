//! `cdrd sync`: has a poller fetch again what the far side has of some time, through the daemon when one runs.

use super::asking::Asking;
use super::bar::Bar;
use super::screen::Screen;
use super::times::moment;
use super::{Exit, Loaded, WrongUsage};
use crate::daemon::tasks::{Done, SyncTask, Task};
use jiff::Timestamp;
use serde_json::json;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The source that is to ask
    pub source: String,
    /// Calls that began at or after: "2h" ago, "2025-03-04" or "2025-03-04 10:00" [default: what is due]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Option<Timestamp>,
    /// Calls that began before; written like --from [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<Timestamp>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Has it fetched.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    if args.from.zip(args.to).is_some_and(|(from, to)| from >= to) {
        return Err(WrongUsage("--from must be before --to".to_owned()).into());
    }
    let asking = Asking::start(loaded)?;
    let bar = Bar::start(0);
    let wish = SyncTask { source: args.source.clone(), from: args.from, to: args.to };
    let done = asking.perform(Task::Sync(wish), None, &bar, 0);
    bar.finish();
    asking.close();
    let Done::Synced { requests, pages, records, error } = done? else { return Ok(Exit::Failed) };
    if args.json {
        let told = json!({"source": args.source, "requests": requests, "pages": pages, "calls": records, "error": error});
        screen.json_value(&told)?;
    } else if error.is_none() {
        screen.line(&format!(
            "{}: {records} calls on {pages} pages, by {requests} requests; those that are new are stored",
            args.source
        ))?;
    }
    match error {
        Some(error) if !args.json => anyhow::bail!(error),
        Some(_) => Ok(Exit::Failed),
        None => Ok(Exit::Done),
    }
}
