//! What a person types: the arguments, one file per sub-command, and the exit codes.

mod asking;
mod bar;
mod beside;
mod calls;
mod changes;
mod check;
mod completions;
mod csv;
mod deliveries;
mod envelope;
mod explain;
mod export;
mod find;
mod formats;
mod import;
pub mod journal;
mod lineage;
mod man;
mod marked;
mod missing;
mod numbers;
mod original;
mod owner;
mod poll;
mod rejected;
mod replay;
mod reread;
mod retry;
mod run;
pub mod screen;
mod sftp;
mod sql;
mod status;
mod sync;
mod times;
mod token;

use crate::config::{self, Config, ConfigError, Surroundings};
use crate::daemon::DaemonError;
use crate::formats::Formats;
use crate::store::query::QueryError;
use crate::store::sqlite::query::SqliteQuery;
use clap::{CommandFactory as _, Parser, Subcommand};
use screen::Screen;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Collects call detail records from every PBX and keeps each call leg exactly once.
///
/// Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 done, but documents or rows were rejected.
#[derive(Debug, Parser)]
#[command(name = "cdrd", version, max_term_width = 110)]
struct Cli {
    /// Configuration file [default: ./config.toml, else /etc/cdrd/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Collect from all sources until stopped
    #[command(after_help = "Example: cdrd run --once")]
    Run(run::Args),
    /// Say what is wrong with the configuration and this host, with line and mend
    #[command(after_help = "Example: cdrd check --config /etc/cdrd/config.toml")]
    Check(check::Args),
    /// Store the calls of files, at once
    #[command(after_help = "Example: cdrd import Master.csv Master.csv.1 --origin pbx")]
    Import(import::Args),
    /// Show how a file would be read; stores nothing
    #[command(after_help = "Example: cdrd explain report.csv")]
    Explain(explain::Args),
    /// List the formats that can be read
    #[command(after_help = "Example: cdrd formats --json")]
    Formats(formats::Args),
    /// Health, backlog and the last day at a glance
    #[command(after_help = "Example: cdrd status")]
    Status(status::Args),
    /// List recent call legs
    #[command(after_help = "Example: cdrd calls --since 2h --limit 20")]
    Calls(calls::Args),
    /// Look for a number everywhere: legs, rejected rows, and with --deep in what arrived
    #[command(after_help = "Example: cdrd find 01632960123 --around 2025-03-12 --deep")]
    Find(find::Args),
    /// List what arrived and how it ended
    #[command(after_help = "Example: cdrd deliveries --limit 10")]
    Deliveries(deliveries::Args),
    /// Write out a delivery exactly as it arrived
    #[command(after_help = "Example: cdrd original 01JQ8Z6T5Z9M3V0X4C2B1A7K8D > report.csv")]
    Original(original::Args),
    /// Rows and documents that could not be stored
    #[command(after_help = "Example: cdrd rejected list --all")]
    Rejected(rejected::Args),
    /// Read deliveries again, or correct stored rows, as the configuration and the formats are now
    #[command(after_help = "Example: cdrd replay --source inbox --since 3d --preview")]
    Replay(replay::Args),
    /// Try a source that is polled
    Poll(poll::Args),
    /// Have a source that is polled fetch again what there is of some time
    #[command(after_help = "Example: cdrd sync ucm --from 2025-03-01 --to 2025-03-08")]
    Sync(sync::Args),
    /// Accounts of the SFTP server
    #[command(after_help = "Example: cdrd sftp add-account pbx-hq")]
    Sftp(sftp::Args),
    /// Programs that may ask for something over HTTP
    Token(token::Args),
    /// Ask the database in SQL; reads only
    #[command(after_help = "Example: cdrd sql 'SELECT direction, count(*) FROM cdr GROUP BY 1'")]
    Sql(sql::Args),
    /// Write a script that completes commands and options when TAB is pressed
    #[command(after_help = "Example: cdrd completions bash > /usr/share/bash-completion/completions/cdrd")]
    Completions(completions::Args),
    /// Write the manual page
    #[command(after_help = "Example: cdrd man | man -l -")]
    Man(man::Args),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Wrong usage or configuration.
    Usage,
    /// Done, but something was rejected.
    Rejected,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Rejected => 3,
        })
    }
}

/// Arguments that only make sense beside the configuration, and do not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct WrongUsage(String);

/// What every command starts from that looks at the configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// All formats: the program's own and those that the configuration describes.
    pub formats: Formats,
}

impl Loaded {
    fn new(wished: Option<&Path>) -> Result<Self, ConfigError> {
        Self::of(&config::find(wished)?)
    }

    fn of(file: &Path) -> Result<Self, ConfigError> {
        let built_in = Formats::built_in();
        let ids: Vec<&str> = built_in.cards().map(|card| card.id).collect();
        let surroundings = Surroundings { state_directory: state_directory(), formats: &ids };
        let config = config::load(file, &surroundings)?;
        let formats = Formats::with(config.formats.iter().map(|format| format.mapping.clone()));
        Ok(Self { config, formats })
    }

    /// Read access to the database and the spool.
    pub fn query(&self, runtime: &tokio::runtime::Runtime) -> Result<SqliteQuery, QueryError> {
        SqliteQuery::open(&self.config.store.sqlite, &self.config.spool_db(), runtime.handle().clone())
    }
}

/// The runtime that a command needs for the database.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The first folder that systemd gives; the unit asks for one.
fn state_directory() -> Option<PathBuf> {
    let given = std::env::var_os("STATE_DIRECTORY")?;
    let first = std::env::split_paths(&given).next()?;
    (!first.as_os_str().is_empty()).then_some(first)
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to standard output; clap knows.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    match ended_of(&cli, &mut Screen::standard()) {
        Ok(exit) => exit.into(),
        Err(error) if is_closed_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            screen::complain(&error);
            let usage = error.is::<ConfigError>()
                || error.is::<WrongUsage>()
                || error.downcast_ref::<DaemonError>().is_some_and(DaemonError::is_configuration);
            if usage { Exit::Usage.into() } else { Exit::Failed.into() }
        }
    }
}

/// Runs a command line (its first word is the program's name) on a screen of the caller's: what a person would see, to
/// look at in a test. Wrong arguments are an error that says so.
pub fn shown_on(
    screen: &mut Screen,
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> anyhow::Result<Exit> {
    ended_of(&Cli::try_parse_from(arguments)?, screen)
}

fn ended_of(cli: &Cli, screen: &mut Screen) -> anyhow::Result<Exit> {
    dispatch(cli, screen).and_then(|exit| Ok(screen.finish().map(|()| exit)?))
}

fn dispatch(cli: &Cli, screen: &mut Screen) -> anyhow::Result<Exit> {
    match &cli.command {
        Command::Completions(args) => return completions::run(args, Cli::command(), screen),
        Command::Man(args) => return man::run(args, Cli::command(), screen),
        // A hash can be made before there is a configuration.
        Command::Sftp(args) if args.needs_no_configuration() => return sftp::hash_password(screen),
        Command::Formats(args) => {
            // What the program reads by itself can be asked without a configuration.
            let formats = match Loaded::new(cli.config.as_deref()) {
                Err(ConfigError::Missing) => Formats::built_in(),
                loaded => loaded?.formats,
            };
            return formats::run(args, &formats, screen);
        }
        _ => {}
    }
    let loaded = Loaded::new(cli.config.as_deref())?;
    match &cli.command {
        Command::Formats(_) | Command::Completions(_) | Command::Man(_) => Ok(Exit::Done),
        Command::Run(args) => run::run(args, &loaded, screen),
        Command::Check(args) => check::run(args, &loaded, screen),
        Command::Import(args) => import::run(args, &loaded, screen),
        Command::Explain(args) => explain::run(args, &loaded, screen),
        Command::Status(args) => status::run(args, &loaded, screen),
        Command::Calls(args) => calls::run(args, &loaded, screen),
        Command::Find(args) => find::run(args, &loaded, screen),
        Command::Deliveries(args) => deliveries::run(args, &loaded, screen),
        Command::Original(args) => original::run(args, &loaded, screen),
        Command::Rejected(args) => rejected::run(args, &loaded, screen),
        Command::Replay(args) => replay::run(args, &loaded, screen),
        Command::Poll(args) => poll::run(args, &loaded, screen),
        Command::Sync(args) => sync::run(args, &loaded, screen),
        Command::Token(args) => token::run(args, &loaded, screen),
        Command::Sftp(args) => sftp::run(args, &loaded, screen),
        Command::Sql(args) => sql::run(args, &loaded, screen),
    }
}

/// The reader of our output went away (`cdrd calls | head`): nothing is wrong.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{CommandFactory, Parser as _};

    /// Every command that does something, by the words that call it.
    fn leaves(command: &clap::Command, words: &str, found: &mut Vec<(String, String)>) {
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let words = format!("{words} {}", command.get_name());
            if command.has_subcommands() {
                leaves(command, &words, found);
            } else {
                let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                found.push((words, example));
            }
        }
    }

    #[test]
    fn the_arguments_are_consistent_and_each_command_has_an_example_that_parses() {
        let command = Cli::command();
        command.clone().debug_assert();
        let mut found = Vec::new();
        leaves(&command, "cdrd", &mut found);
        assert!(found.iter().any(|(words, _)| words == "cdrd rejected list"), "{found:?}");
        for (words, example) in found {
            assert!(example.starts_with(&format!("Example: {words}")), "{words}: {example:?}");
            let line =
                example.trim_start_matches("Example: ").split(['>', '|', '\'']).next().unwrap_or_default();
            let mut line: Vec<&str> = line.split_whitespace().collect();
            // Its statement stands in quotes.
            line.extend((words == "cdrd sql").then_some("SELECT 1"));
            assert!(Cli::try_parse_from(&line).is_ok(), "{example:?}");
        }
    }
}
