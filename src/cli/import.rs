//! `cdrd import`: stores files at once, without a daemon. The files stay where they are; each is a delivery like any
//! other, so that importing one twice stores nothing twice.

use super::bar::Bar;
use super::screen::Screen;
use super::{Exit, Loaded, WrongUsage, journal};
use crate::config::{self, Config, SourceKind};
use crate::daemon::{self, DaemonError, LockError, Works};
use crate::pipeline::{Ended, PipelineError, Worked};
use crate::record::delivery::{Body, Delivery, DeliveryId, printable};
use crate::record::outcome::{Actor, Counts};
use anyhow::{Context, bail};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Name of the source of imported files.
const SOURCE: &str = "import";
/// Passing failures in a row after which a command gives up; the daemon would go on for ever.
const PATIENCE: u32 = 5;

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
    journal::start_beside_a_bar();
    let config = &loaded.config;
    let choice =
        Choice::new(loaded, args.origin.as_deref(), args.format.as_deref(), args.time_zone.as_deref())?;
    for file in &args.files {
        let data = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
        if !data.is_file() {
            bail!("{} is no file; name the files to import", file.display());
        }
    }
    let works = match daemon::build(config, &loaded.formats, Arc::new(daemon::runtime()?)) {
        Ok(works) => works,
        Err(DaemonError::Locked(LockError::Held { pid, .. })) => bail!("{}", busy(config, &pid)),
        Err(error) => return Err(error.into()),
    };
    let total =
        args.files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|data| data.len()).sum();
    let bar = Bar::start(works.pipeline.progress(), total);
    let ended = import(&works, loaded, &choice, &args.files);
    bar.finish();
    let ended = ended?;
    works.store.close();
    report(&args.files, &ended, screen)
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

fn busy(config: &Config, pid: &str) -> String {
    let inboxes = config.sources.iter().map(|source| {
        let SourceKind::Folder(folder) = &source.kind;
        folder.path.display().to_string()
    });
    let inboxes: Vec<String> = inboxes.collect();
    format!(
        "cdrd already runs as process {pid}; copy the files into its inbox ({}), or stop it first",
        inboxes.join(", ")
    )
}

/// Accepts and reads each file; gives how each ended, in order.
fn import(
    works: &Works,
    loaded: &Loaded,
    choice: &Choice,
    files: &[PathBuf],
) -> anyhow::Result<HashMap<usize, Ended>> {
    let mut place_of: HashMap<DeliveryId, usize> = HashMap::new();
    let mut ended = HashMap::new();
    for (place, file) in files.iter().enumerate() {
        let receipt = works.intake.accept(vec![delivery(loaded, choice, file)?], None)?.pop();
        let receipt = receipt.context("the door gave no answer")??;
        place_of.insert(receipt.id, place);
        drain(works, Some(receipt.id), &mut |id, end| {
            if let Some(place) = place_of.get(&id) {
                ended.insert(*place, end);
            }
        })?;
    }
    Ok(ended)
}

fn delivery(loaded: &Loaded, choice: &Choice, file: &Path) -> anyhow::Result<Delivery> {
    // A person's link is meant; the door follows none.
    let path = file.canonicalize()?;
    let origin = loaded.config.origin(&choice.origin);
    let versions = loaded.formats.versions();
    let reading =
        config::reading_hash(origin, choice.time_zone.as_ref(), choice.format.as_deref(), &versions);
    Ok(Delivery {
        origin: choice.origin.clone(),
        source: SOURCE.to_owned(),
        account: None,
        peer: None,
        name: printable(file.as_os_str().as_bytes()),
        received_at: Timestamp::now(),
        pinned_format: choice.format.clone(),
        time_zone: choice.time_zone.as_ref().and_then(TimeZone::iana_name).map(str::to_owned),
        reading,
        body: Body::Copied(path),
    })
}

/// Reads everything that waits, also what an earlier run left. What fails of that goes on waiting; our delivery may not.
pub(super) fn drain(
    works: &Works,
    ours: Option<DeliveryId>,
    note: &mut dyn FnMut(DeliveryId, Ended),
) -> anyhow::Result<()> {
    let stop = AtomicBool::new(false);
    let mut failures = 0;
    loop {
        let error = match works.pipeline.work(&stop) {
            Ok(Some(Worked { id, outcome: Ok(end) })) => {
                failures = 0;
                note(id, end);
                continue;
            }
            Ok(Some(Worked { id, .. })) if ours != Some(id) => continue,
            Ok(None) if failures == 0 => return Ok(()),
            // Ours rests.
            Ok(None) => {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            Ok(Some(Worked { outcome: Err(error), .. })) | Err(error) => error,
        };
        if failures == PATIENCE || !passing(&error) {
            return Err(error.into());
        }
        failures += 1;
        tracing::warn!("{error}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn passing(error: &PipelineError) -> bool {
    error.actor() == Actor::Transient
}

fn report(files: &[PathBuf], ended: &HashMap<usize, Ended>, screen: &mut Screen) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    let mut rows = Vec::new();
    for (place, file) in files.iter().enumerate() {
        let Some(end) = ended.get(&place) else { bail!("{} was accepted but did not end", file.display()) };
        if end.counts.rejected > 0 || end.rejected_documents > 0 {
            exit = Exit::Rejected;
        }
        let mut row = vec![printable(file.as_os_str().as_bytes()), end.state.word().to_owned()];
        if screen.is_terminal() {
            row.push(end.counts.to_string());
        } else {
            row.extend(numbers(&end.counts).iter().map(ToString::to_string));
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
