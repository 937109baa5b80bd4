//! `cdrd replay`: has what is stored read again. In this stage in one way: rows of an origin are derived anew in place,
//! after its zone, country or tenant was corrected. Must never change how many rows there are.

use super::screen::Screen;
use super::{Exit, Loaded, journal};
use crate::config::OriginConfig;
use crate::daemon::{self, DaemonError, LockError};
use crate::store::Commit as _;
use anyhow::bail;
use std::sync::Arc;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Correct times, numbers and tenant of stored rows, as the configuration is now
    #[arg(long, required = true)]
    pub rederive: bool,
    /// Origin whose rows are corrected [default: all]
    #[arg(long)]
    pub origin: Option<String>,
}

/// Corrects the rows.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    journal::start();
    let config = &loaded.config;
    let chosen = |origin: &&OriginConfig| args.origin.as_ref().is_none_or(|wish| *wish == origin.name);
    let origins: Vec<&OriginConfig> = config.origins.iter().filter(chosen).collect();
    if let Some(wish) = args.origin.as_ref().filter(|_| origins.is_empty()) {
        let names: Vec<&str> = config.origins.iter().map(|origin| origin.name.as_str()).collect();
        bail!("no [[origin]] is named {wish:?}; there are: {}", names.join(", "));
    }
    let works = match daemon::build(config, &loaded.formats, Arc::new(daemon::runtime()?)) {
        Ok(works) => works,
        Err(DaemonError::Locked(LockError::Held { pid, .. })) => {
            bail!(
                "cdrd runs as process {pid}; stop it first, so that nothing is stored while rows are corrected"
            )
        }
        Err(error) => return Err(error.into()),
    };
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
