//! `cdrd replay`: has deliveries read again from their originals, as the configuration and the formats are now; with
//! `--rederive` corrects stored rows without reading anything. All of it happens at once, or nothing.

use super::asking::Asking;
use super::bar::Bar;
use super::screen::Screen;
use super::times::moment;
use super::{Exit, Loaded, WrongUsage, changes};
use crate::daemon::tasks::{Done, RederiveWish, ReplayWish, Task};
use crate::record::delivery::DeliveryId;
use crate::store::Switched;
use crate::store::query::DeliveryWish;
use jiff::Timestamp;

/// Arguments.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub struct Args {
    /// Deliveries to read again (see `cdrd deliveries`)
    pub deliveries: Vec<DeliveryId>,
    /// Those of this source
    #[arg(long)]
    pub source: Option<String>,
    /// Those of this origin; with --rederive the origin whose rows are corrected [default: all]
    #[arg(long)]
    pub origin: Option<String>,
    /// Those received at or after: "2h" ago, "2025-03-04" or "2025-03-04 10:00"
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Those received before; written like --since
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// All deliveries
    #[arg(long)]
    pub all: bool,
    /// Only correct times, numbers and tenant of stored rows, as the configuration is now
    #[arg(long, conflicts_with_all = ["deliveries", "source", "since", "until"])]
    pub rederive: bool,
    /// Show what would change; change nothing
    #[arg(long)]
    pub preview: bool,
    /// With --preview or --json, at most so many rows of each kind of change
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub limit: u32,
    /// One JSON object per change and one with the counts
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// How many rows to tell: a replay that is done tells them only to a program.
    const fn rows(&self) -> u32 {
        if self.preview || self.json { self.limit } else { 0 }
    }

    fn wish(&self) -> DeliveryWish {
        DeliveryWish {
            ids: self.deliveries.clone(),
            source: self.source.clone(),
            origin: self.origin.clone(),
            since: self.since,
            until: self.until,
        }
    }
}

/// Replays.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let wish = args.wish();
    let task = if args.rederive {
        let rows = (args.preview || args.json).then(|| args.rows());
        Task::Rederive(RederiveWish { origin: args.origin.clone(), preview: args.preview, rows })
    } else if wish == DeliveryWish::default() && !args.all {
        let text = "say what to read again: deliveries, --source, --origin, --since, --until or --all; or --rederive";
        return Err(WrongUsage(text.to_owned()).into());
    } else {
        Task::Replay(ReplayWish { chosen: wish, preview: args.preview, rows: args.rows() })
    };
    let asking = Asking::start(loaded)?;
    let bar = Bar::start(0);
    let done = asking.perform(task, None, &bar, 0);
    bar.finish();
    asking.close();
    match done? {
        Done::Replayed { deliveries, beside, switched, clean } => {
            if !args.json {
                screen.line(&read_again(deliveries, beside))?;
            }
            tell(args, &switched, deliveries, screen)?;
            return Ok(if clean { Exit::Done } else { Exit::Rejected });
        }
        Done::Corrected(switched) => tell(args, &switched, 0, screen)?,
        Done::Rederived(origins) => {
            let row = |(name, zone, rows): (String, String, u64)| vec![name, zone, rows.to_string()];
            let rows: Vec<_> = origins.into_iter().map(row).collect();
            screen.table(&["origin", "time zone", "rows corrected"], &rows)?;
        }
        Done::Imported { .. } | Done::Retried { .. } | Done::Synced { .. } | Done::Tokens(_) => {}
    }
    Ok(Exit::Done)
}

/// What was chosen, and what had to be taken with it.
pub(super) fn read_again(deliveries: usize, beside: usize) -> String {
    match beside {
        0 => format!("{deliveries} deliveries are read again"),
        _ => format!(
            "{deliveries} deliveries are read again, {beside} of them because they tell of the same calls"
        ),
    }
}

fn tell(args: &Args, switched: &Switched, deliveries: usize, screen: &mut Screen) -> std::io::Result<()> {
    if args.json {
        changes::show_json(switched, deliveries, !args.preview, screen)
    } else {
        changes::show(switched, !args.preview, screen)
    }
}
