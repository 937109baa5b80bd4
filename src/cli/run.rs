//! `cdrd run`: the daemon in the foreground; with `--once`, one look at everything.

use super::screen::{Screen, complain_of};
use super::{Exit, Loaded, journal, owner};
use crate::daemon::{self, Once};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look at every source once, store what came, and end: 0 done, 1 something failed, 3 something was rejected
    #[arg(long)]
    once: bool,
}

/// Runs until stopped, or once.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    owner::become_owner(&loaded.config.state_dir)?;
    journal::start();
    if args.once {
        return Ok(report(&daemon::run_once(&loaded.config, &loaded.formats)?, screen)?);
    }
    let again = || Loaded::of(&loaded.config.file).map(|again| (again.config, again.formats));
    daemon::run(&loaded.config, &loaded.formats, &again)?;
    Ok(Exit::Done)
}

fn report(once: &Once, screen: &mut Screen) -> std::io::Result<Exit> {
    for tally in &once.sources {
        let deliveries: u64 = tally.ended.values().sum();
        screen.line(&format!("{}: deliveries {deliveries}, rows {}", tally.source, tally.counts))?;
    }
    if once.sources.is_empty() {
        screen.line("nothing came")?;
    }
    for failure in &once.failures {
        complain_of(failure);
    }
    if once.waiting > 0 {
        complain_of(&format!("{} deliveries are safe and wait for the next time", once.waiting));
    }
    Ok(if !once.failures.is_empty() || once.waiting > 0 {
        Exit::Failed
    } else if once.rejected() {
        Exit::Rejected
    } else {
        Exit::Done
    })
}
