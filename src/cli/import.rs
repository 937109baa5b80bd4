//! `cdrd import`: stores files at once. The files stay where they are; each is a delivery like any other, so that
//! importing one twice stores nothing twice.

use super::asking::Asking;
use super::bar::Bar;
use super::screen::Screen;
use super::{Exit, Loaded, WrongUsage};
use crate::daemon::tasks::{Done, ImportWish, Task};
use crate::record::delivery::printable;
use crate::record::outcome::Counts;
use anyhow::{Context, bail};
use jiff::tz::TimeZone;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files to store; they stay where they are
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Origin whose calls these are [default: the only one configured]
    #[arg(long)]
    pub origin: Option<String>,
    /// Let only this format read them (see `cdrd formats`)
    #[arg(long)]
    pub format: Option<String>,
    /// Zone in which their times are written, like Europe/Berlin [default: the origin's]
    #[arg(long)]
    pub time_zone: Option<String>,
}

/// Stores the files.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let choice =
        Choice::new(loaded, args.origin.as_deref(), args.format.as_deref(), args.time_zone.as_deref())?;
    // Opened by whoever calls: the daemon need not be able to find them, and root is somebody else after this.
    let mut files = Vec::new();
    for path in &args.files {
        let data = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if !data.is_file() {
            bail!("{} is no file; name the files to import", path.display());
        }
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push((path, file, data.len()));
    }
    let asking = Asking::start(loaded)?;
    let bar = Bar::start(files.iter().map(|(.., bytes)| bytes).sum());
    let mut ended = Vec::new();
    let (mut before, mut failed) = (0, None);
    for (path, file, bytes) in files {
        let wish = ImportWish {
            name: printable(path.as_os_str().as_bytes()),
            origin: choice.origin.clone(),
            format: choice.format.clone(),
            time_zone: choice.time_zone.as_ref().and_then(TimeZone::iana_name).map(str::to_owned),
        };
        match asking.perform(Task::Import(wish), Some(file), &bar, before) {
            Ok(done) => ended.push((path, done)),
            // Those before it are stored, and are told.
            Err(error) => {
                failed = Some(error.context(path.display().to_string()));
                break;
            }
        }
        before += bytes;
    }
    bar.finish();
    asking.close();
    let exit = if ended.is_empty() && failed.is_some() { Exit::Failed } else { report(&ended, screen)? };
    failed.map_or(Ok(exit), Err)
}

/// What a person chose for all files of a command.
pub(super) struct Choice {
    pub origin: String,
    pub format: Option<String>,
    pub time_zone: Option<TimeZone>,
}

impl Choice {
    /// Checks the names; a wrong one is said with those that exist.
    pub fn new(
        loaded: &Loaded,
        origin: Option<&str>,
        format: Option<&str>,
        time_zone: Option<&str>,
    ) -> Result<Self, WrongUsage> {
        let config = &loaded.config;
        let names: Vec<&str> = config.origins.iter().map(|origin| origin.name.as_str()).collect();
        let wrong = |text: String| Err(WrongUsage(text));
        let origin = match (origin, names.as_slice()) {
            (_, []) => return wrong(format!("{} has no [[origin]]; add one", config.file.display())),
            (Some(wish), _) if names.contains(&wish) => wish.to_owned(),
            (Some(wish), _) => {
                return wrong(format!("no [[origin]] is named {wish:?}; there are: {}", names.join(", ")));
            }
            (None, [only]) => (*only).to_owned(),
            (None, _) => {
                return wrong(format!(
                    "several origins are configured; name one: --origin {}",
                    names.join(" | ")
                ));
            }
        };
        if let Some(wish) = format
            && loaded.formats.by_id(wish).is_none()
        {
            return wrong(format!("no format is named {wish:?}; see `cdrd formats`"));
        }
        let time_zone = match time_zone.map(|wish| (wish, TimeZone::get(wish))) {
            Some((wish, Err(_))) => {
                return wrong(format!("{wish:?} is no IANA time zone; write one like Europe/Berlin"));
            }
            Some((_, Ok(zone))) => Some(zone),
            None => None,
        };
        Ok(Self { origin, format: format.map(str::to_owned), time_zone })
    }
}

fn report(ended: &[(&PathBuf, Done)], screen: &mut Screen) -> std::io::Result<Exit> {
    let mut exit = Exit::Done;
    let mut rows = Vec::new();
    for (file, done) in ended {
        let Done::Imported { state, counts, rejected_documents } = done else { continue };
        if counts.rejected > 0 || *rejected_documents > 0 {
            exit = Exit::Rejected;
        }
        let mut row = vec![printable(file.as_os_str().as_bytes()), state.clone()];
        if screen.is_terminal() {
            row.push(counts.to_string());
        } else {
            row.extend(numbers(counts).iter().map(ToString::to_string));
        }
        rows.push(row);
    }
    let mut header = vec!["file", "state", "rows"];
    if !screen.is_terminal() {
        header.extend(["stored", "duplicate", "amended", "rejected", "skipped"]);
    }
    screen.table(&header, &rows)?;
    if exit == Exit::Rejected && screen.is_terminal() {
        screen.line("See `cdrd rejected list` for what was rejected and why.")?;
    }
    Ok(exit)
}

fn numbers(counts: &Counts) -> [u64; 6] {
    [counts.rows_read, counts.stored, counts.duplicate, counts.amended, counts.rejected, counts.skipped]
}
