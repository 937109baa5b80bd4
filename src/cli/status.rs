//! `cdrd status`: whether a daemon runs, how its sources are, what waits, and what the last day brought.

use super::deliveries::{counts, second};
use super::screen::{Screen, Tone, cell, json_object, size};
use super::{Exit, Loaded};
use crate::config::Config;
use crate::record::delivery::{DeliveryId, printable};
use crate::record::disk::Trouble;
use crate::store::query::{Overview, Query as _, QueryError, StoredOrigin, Table, Value};
use crate::{daemon, intake};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What the database and the spool know.
#[derive(Default)]
struct Stored {
    overview: Overview,
    origins: Vec<StoredOrigin>,
    /// Originals of deliveries that nobody could read, which were dropped, and their bytes.
    dropped: (u64, u64),
    /// Deliveries that wait for a person.
    stuck: Vec<Trouble>,
}

/// Shows everything at a glance.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let runtime = super::runtime()?;
    let yesterday =
        Timestamp::now().checked_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::UNIX_EPOCH);
    let stored = match loaded.query(&runtime) {
        Ok(query) => {
            let overview = query.overview(DeliveryId::new(yesterday, 0))?;
            let (dropped, stuck) = (query.dropped_originals(), query.stuck());
            Some(Stored { overview, origins: query.origins()?, dropped, stuck })
        }
        Err(QueryError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let daemon = daemon(&loaded.config.lock_file());
    if args.json {
        screen.json_value(&as_json(loaded, daemon, stored.unwrap_or_default()))?;
    } else {
        as_lines(loaded, daemon, stored.as_ref(), screen)?;
    }
    Ok(Exit::Done)
}

fn as_json(loaded: &Loaded, daemon: Option<u32>, stored: Stored) -> serde_json::Value {
    let config = &loaded.config;
    let Stored { overview, origins, dropped, stuck } = stored;
    let troubles = troubles(config).into_iter().chain(told(config, daemon)).chain(stuck);
    let origins: Vec<_> = origins
        .iter()
        .map(|origin| {
            json!({"origin": origin.name, "time_zone": origin.time_zone, "clock_fault": origin.clock_fault})
        })
        .collect();
    let first = |table: &Table| table.rows.first().map(|row| json_object(&table.columns, row));
    let growing: Vec<_> =
        overview.growing.rows.iter().map(|row| json_object(&overview.growing.columns, row)).collect();
    let sources: Vec<_> =
        overview.sources.rows.iter().map(|row| json_object(&overview.sources.columns, row)).collect();
    json!({
        "pid": daemon,
        "state_dir": config.state_dir.to_string_lossy(),
        "troubles": troubles.map(|trouble| trouble.message).collect::<Vec<_>>(),
        "database": config.store.sqlite.to_string_lossy(),
        "database_bytes": bytes_on_disk(&config.store.sqlite),
        "legs": overview.legs,
        "rejected_open": overview.rejected_open,
        "dropped_originals": {"count": dropped.0, "bytes": dropped.1},
        "waiting": first(&overview.waiting),
        "growing": growing,
        "last_delivery": first(&overview.last_delivery),
        "last_24_h": first(&overview.recent),
        "sources": sources,
        "origins": origins,
    })
}

/// What ails the disk of the state directory and the database's log, seen from outside.
fn troubles(config: &Config) -> Vec<Trouble> {
    let room = intake::room_of(&config.state_dir, &config.door());
    let room = room.ok().and_then(|(free, reserve)| daemon::disk::room(&config.state_dir, free, reserve));
    room.into_iter().chain(daemon::disk::log(&config.store.sqlite, daemon::disk::longest_log())).collect()
}

/// What a running daemon says: why storing stands still.
fn told(config: &Config, daemon: Option<u32>) -> Vec<Trouble> {
    daemon.and_then(|_| daemon::who(&config.state_dir)).map(|here| here.troubles).unwrap_or_default()
}

fn as_lines(
    loaded: &Loaded,
    daemon: Option<u32>,
    stored: Option<&Stored>,
    screen: &mut Screen,
) -> std::io::Result<()> {
    let config = &loaded.config;
    let mut fact = |name: &str, text: &str| screen.hanging(&format!("{name:<10} "), text);
    match daemon {
        Some(pid) => fact("daemon", &format!("running, pid {pid}"))?,
        None => fact("daemon", "not running; what follows is as it was left")?,
    }
    fact("state", &config.state_dir.display().to_string())?;
    let disk = troubles(config).into_iter().map(|trouble| ("disk       ", trouble));
    let stuck = stored.map(|stored| stored.stuck.clone()).unwrap_or_default();
    let storing = told(config, daemon).into_iter().chain(stuck).map(|told| ("storing    ", told));
    for (what, trouble) in disk.chain(storing) {
        let tone = if trouble.red { Tone::Bad } else { Tone::Warning };
        screen.toned((tone, what), (Tone::Plain, &trouble.message))?;
    }
    let mut fact = |name: &str, text: &str| screen.hanging(&format!("{name:<10} "), text);
    let Some(Stored { overview, origins, dropped, .. }) = stored else {
        return fact("database", &format!("none yet at {}", config.store.sqlite.display()));
    };
    let database = format!(
        "{}, {}, {} legs",
        config.store.sqlite.display(),
        size(bytes_on_disk(&config.store.sqlite)),
        overview.legs
    );
    fact("database", &database)?;
    fact("waiting", &waiting(&overview.waiting))?;
    for row in &overview.growing.rows {
        fact("growing", &growing(&overview.growing, row))?;
    }
    fact("last", &last_delivery(&overview.last_delivery))?;
    fact("24 hours", &sums(&overview.recent))?;
    match overview.rejected_open {
        0 => fact("rejected", "none open")?,
        open => {
            let text = format!("{open} open: `cdrd rejected list` says why");
            screen.toned((Tone::Warning, "rejected   "), (Tone::Plain, &text))?;
        }
    }
    if dropped.0 > 0 {
        let text = format!(
            "{} originals that nobody could read were dropped (keep.rejected_max, keep.rejected_days)",
            dropped.0
        );
        screen.toned((Tone::Plain, "dropped    "), (Tone::Plain, &text))?;
    }
    for source in &config.sources {
        let states = &overview.sources;
        let known = states.rows.iter().find(|row| states.value(row, "source").text() == source.name);
        let state = known.map_or_else(|| "not started yet".to_owned(), |row| health(states, row));
        let tone = known.map_or(Tone::Faint, |row| match states.value(row, "health").text() {
            "ok" => Tone::Good,
            "retrying" | "late" => Tone::Warning,
            "stopped" => Tone::Bad,
            _ => Tone::Faint,
        });
        screen.toned((tone, "source     "), (Tone::Plain, &format!("{}: {state}", source.name)))?;
    }
    for (origin, fault) in origins.iter().filter_map(|origin| Some((origin, origin.clock_fault.as_ref()?))) {
        let text = format!("origin {}: {}", origin.name, printable(fault.as_bytes()));
        screen.toned((Tone::Warning, "clock      "), (Tone::Plain, &text))?;
    }
    Ok(())
}

fn health(states: &Table, row: &[Value]) -> String {
    let text = |column| cell(states.value(row, column));
    let since = format!("{} since {}", text("health"), second(&text("since")));
    match text("message") {
        message if message.is_empty() => since,
        message => format!("{since}: {message}"),
    }
}

fn waiting(table: &Table) -> String {
    let Some(row) = table.rows.first() else { return "nothing".to_owned() };
    let count = table.value(row, "deliveries").integer();
    if count == 0 {
        return "nothing".to_owned();
    }
    let bytes = size(table.value(row, "bytes").integer());
    let oldest = second(&cell(table.value(row, "oldest")));
    match table.value(row, "unfinished").integer() {
        0 => format!("deliveries {count}, {bytes}, the oldest from {oldest}"),
        unfinished => {
            format!("deliveries {count} ({unfinished} of them unfinished), {bytes}, the oldest from {oldest}")
        }
    }
}

/// A file that is followed: what it came to since it was begun.
fn growing(table: &Table, row: &[Value]) -> String {
    let text = |column| cell(table.value(row, column));
    format!(
        "{} from {} since {}, {}, rows {}",
        text("name"),
        text("source"),
        second(&text("received_at")),
        size(table.value(row, "bytes").integer()),
        counts(table, row)
    )
}

fn last_delivery(table: &Table) -> String {
    let Some(row) = table.rows.first() else { return "nothing arrived yet".to_owned() };
    let text = |column| cell(table.value(row, column));
    format!(
        "{} from {}, {}, {} ({})",
        text("name"),
        text("source"),
        second(&text("received_at")),
        text("state"),
        text("id")
    )
}

fn sums(table: &Table) -> String {
    let Some(row) = table.rows.first() else { return "nothing".to_owned() };
    format!("deliveries {}, rows {}", table.value(row, "deliveries").integer(), counts(table, row))
}

/// The database with what is still in its write-ahead log.
fn bytes_on_disk(database: &Path) -> i64 {
    let mut wal = database.as_os_str().to_owned();
    wal.push("-wal");
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    i64::try_from(bytes(database) + bytes(Path::new(&wal))).unwrap_or(i64::MAX)
}

/// The pid of the daemon that holds the lock. Only looks: taking the lock to see whether it is free would turn away a
/// daemon that starts at this instant.
fn daemon(lock: &Path) -> Option<u32> {
    let inode = std::fs::metadata(lock).ok()?.ino().to_string();
    let pid: u32 = std::fs::read_to_string(lock).ok()?.trim().parse().ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let held = locks.lines().any(|line| {
        // `1: FLOCK  ADVISORY  WRITE 1234 fd:01:2345 0 EOF`
        line.split_whitespace().any(|word| word.rsplit_once(':').is_some_and(|(_, number)| number == inode))
    });
    held.then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::{daemon, sums};
    use crate::store::query::{Table, Value};
    use rustix::fs::{FlockOperation, flock};
    use std::io::Write as _;

    #[test]
    fn a_lock_file_without_its_lock_is_no_daemon() -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new()?;
        writeln!(file, "4711")?;
        assert_eq!(daemon(file.path()), None);
        flock(file.as_file(), FlockOperation::NonBlockingLockExclusive)?;
        assert_eq!(daemon(file.path()), Some(4711));
        flock(file.as_file(), FlockOperation::Unlock)?;
        assert_eq!(daemon(file.path()), None);
        Ok(())
    }

    #[test]
    fn sums_name_only_what_happened() {
        let columns =
            ["deliveries", "rows_read", "stored", "duplicate", "rejected"].map(str::to_owned).to_vec();
        let rows = vec![[2, 5, 4, 0, 1].map(Value::Integer).to_vec()];
        assert_eq!(sums(&Table { columns, rows }), "deliveries 2, rows 5: 4 stored, 1 rejected");
    }
}
