//! `cdrd completions`: scripts by which a shell completes commands and options, made from the arguments themselves. A
//! command and not a step of the build: the arguments name types of most modules, which a build script cannot compile.

use super::Exit;
use super::screen::Screen;
use clap::Command;
use clap_complete::Shell;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Writes the script.
pub fn run(args: &Args, mut command: Command, screen: &mut Screen) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "cdrd", &mut script);
    screen.bytes(&script)?;
    Ok(Exit::Done)
}
