//! `cdrd man`: the manual page, made from the arguments themselves, so that it cannot lack one.

use super::Exit;
use super::screen::Screen;
use anyhow::Context as _;
use clap::Command;
use std::path::PathBuf;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write a page for each command into this folder (cdrd.1, cdrd-calls.1, ...) instead of the main one to standard
    /// output
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Writes the page or pages.
pub fn run(args: &Args, command: Command, screen: &mut Screen) -> anyhow::Result<Exit> {
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        screen.bytes(&page)?;
        return Ok(Exit::Done);
    };
    let failed = || format!("cannot write manual pages into {}; name a folder that exists", folder.display());
    // The generator makes a page of the command `help` too, which nobody needs.
    clap_mangen::generate_to(command.disable_help_subcommand(true), folder).with_context(failed)?;
    Ok(Exit::Done)
}
