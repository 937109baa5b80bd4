//! `cdrd man`: the manual page, made from the arguments themselves, so that it cannot lack one.

use super::Exit;
use super::screen::Screen;
use anyhow::Context as _;
use clap::Command;
use std::path::{Path, PathBuf};

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
    // The generator makes a page of the command `help` too, which nobody needs.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let Some(folder) = &args.folder else {
        screen.bytes(&page(&command)?)?;
        return Ok(Exit::Done);
    };
    let failed = || format!("cannot write manual pages into {}; name a folder that exists", folder.display());
    pages(&command, folder).with_context(failed)?;
    Ok(Exit::Done)
}

/// A page for a command and each below it.
fn pages(command: &Command, folder: &Path) -> anyhow::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(below, folder)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    std::fs::write(folder.join(format!("{name}.1")), page(command)?)?;
    Ok(())
}

fn page(command: &Command) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    let foot = concat!("cdrd ", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(command.clone()).source(foot).render(&mut page)?;
    Ok(with_values(&String::from_utf8(page)?, command).into_bytes())
}

/// The synopsis with the values of options, which the generator leaves out.
fn with_values(page: &str, command: &Command) -> String {
    let Some((before, rest)) = page.split_once(".SH SYNOPSIS\n") else { return page.to_owned() };
    let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
    let mut line = line.to_owned();
    for option in command.get_opts() {
        let (Some(long), Some([value, ..])) = (option.get_long(), option.get_value_names()) else { continue };
        let written = format!("\\fB\\-\\-{}\\fR", long.replace('-', "\\-"));
        line = line.replace(&written, &format!("{written} \\fI{value}\\fR"));
    }
    format!("{before}.SH SYNOPSIS\n{line}\n{after}")
}
