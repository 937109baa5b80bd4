//! `cdrd run`: the daemon in the foreground.

use super::screen::Screen;
use super::{Exit, Loaded, journal};
use crate::daemon;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs until stopped.
pub fn run(_args: &Args, loaded: &Loaded, _screen: &mut Screen) -> anyhow::Result<Exit> {
    journal::start();
    daemon::run(&loaded.config, &loaded.formats)?;
    Ok(Exit::Done)
}
