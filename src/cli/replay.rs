//! `cdrd replay`: has deliveries read again from their originals, as the configuration and the formats are now; with
//! `--rederive` corrects stored rows without reading anything. All of it happens at once, or nothing.

use super::again::{finish_leftovers, spooled, works};
use super::bar::Bar;
use super::screen::Screen;
use super::times::moment;
use super::{Exit, Loaded, WrongUsage, changes};
use crate::config::OriginConfig;
use crate::daemon::Works;
use crate::record::delivery::{DeliveryId, Spooled};
use crate::store::query::{DeliveryWish, Query as _};
use crate::store::{Commit as _, Switched};
use anyhow::bail;
use jiff::Timestamp;
use std::sync::atomic::AtomicBool;

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
    if args.rederive {
        return rederive(args, loaded, screen);
    }
    let wish = args.wish();
    if wish == DeliveryWish::default() && !args.all {
        let text = "say what to read again: deliveries, --source, --origin, --since, --until or --all; or --rederive";
        return Err(WrongUsage(text.to_owned()).into());
    }
    let works = works(loaded)?;
    if !args.preview {
        finish_leftovers(&works)?;
    }
    let runtime = super::runtime()?;
    let query = loaded.query(&runtime)?;
    for id in &args.deliveries {
        let one = DeliveryWish { ids: vec![*id], ..DeliveryWish::default() };
        if query.ended_deliveries(&one)?.is_empty() {
            bail!(
                "there is no delivery {id} that has ended; `cdrd deliveries` lists them; nothing was changed"
            );
        }
    }
    let chosen = query.ended_deliveries(&wish)?;
    if chosen.is_empty() {
        bail!("no delivery that has ended is like that; `cdrd deliveries` lists them");
    }
    let again: Vec<Spooled> =
        query.read_again(&chosen)?.into_iter().map(|start| spooled(loaded, start)).collect();
    drop(query);
    let beside = again.len().saturating_sub(chosen.len());
    if !args.json {
        let also = if beside == 0 {
            String::new()
        } else {
            format!(", {beside} of them because they tell of the same calls")
        };
        screen.line(&format!("{} deliveries are read again{also}", again.len()))?;
        screen.finish()?;
    }
    let bar = Bar::start(works.pipeline.progress(), again.iter().map(|spooled| spooled.bytes).sum());
    let replayed = works.pipeline.replay(&again, !args.preview, args.rows(), &AtomicBool::new(false));
    bar.finish();
    let replayed = replayed?;
    works.store.close();
    tell(args, &replayed.switched, again.len(), screen)?;
    let clean = replayed.ended.iter().all(|(_, ended)| ended.is_clean());
    Ok(if clean { Exit::Done } else { Exit::Rejected })
}

fn tell(args: &Args, switched: &Switched, deliveries: usize, screen: &mut Screen) -> std::io::Result<()> {
    if args.json {
        changes::show_json(switched, deliveries, !args.preview, screen)
    } else {
        changes::show(switched, !args.preview, screen)
    }
}

fn rederive(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let config = &loaded.config;
    let chosen = |origin: &&OriginConfig| args.origin.as_ref().is_none_or(|wish| *wish == origin.name);
    let origins: Vec<&OriginConfig> = config.origins.iter().filter(chosen).collect();
    if let Some(wish) = args.origin.as_ref().filter(|_| origins.is_empty()) {
        let names: Vec<&str> = config.origins.iter().map(|origin| origin.name.as_str()).collect();
        bail!("no [[origin]] is named {wish:?}; there are: {}", names.join(", "));
    }
    let works = works(loaded)?;
    if args.preview || args.json {
        let switched = rederive_in_switch(args, &works, &origins)?;
        works.store.close();
        tell(args, &switched, 0, screen)?;
        return Ok(Exit::Done);
    }
    let mut rows = Vec::new();
    for origin in origins {
        let zone = works.zones.get(&origin.name).cloned().unwrap_or_default();
        let changed = works.store.rederive(&origin.name, &zone)?;
        rows.push(vec![origin.name.clone(), zone, changed.to_string()]);
    }
    works.store.close();
    screen.table(&["origin", "time zone", "rows corrected"], &rows)?;
    Ok(Exit::Done)
}

/// Only a switch can tell rows, or take them back.
fn rederive_in_switch(args: &Args, works: &Works, origins: &[&OriginConfig]) -> anyhow::Result<Switched> {
    works.store.begin_switch(&[])?;
    for origin in origins {
        let zone = works.zones.get(&origin.name).cloned().unwrap_or_default();
        works.store.rederive(&origin.name, &zone)?;
    }
    Ok(works.store.end_switch(!args.preview, args.rows())?)
}
