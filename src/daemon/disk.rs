//! The watch over the disks: says what ails them while it lasts, and does what a fault left undone when it is over.
//!
//! Must never hold up receiving or storing: it looks, and removes what nobody needs.

use super::control::{Current, current};
use super::works::Storing;
use crate::intake::{Dropped, IntakeError};
use crate::record::delivery::printable;
use crate::record::disk::Trouble;
use crate::store::sqlite::query::SqliteQuery;
use crate::telemetry;
use jiff::Timestamp;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(2);

/// How often it is looked whether originals that nobody could read are too many or too old.
const DROP_EVERY: Duration = Duration::from_mins(10);

/// From this size on the write-ahead log is more than a load leaves behind: somebody keeps it from being emptied.
const LONGEST_LOG: u64 = 1 << 30;
/// A test's shorter one, in bytes.
const LOG_LIMIT: &str = "CDRD_WAL_LIMIT";

/// Watches until told to stop.
pub(super) fn watch(storing: &Current, stop: &AtomicBool) {
    let mut next = Instant::now();
    let mut said = [None, None];
    let mut next_drop = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        crate::pulse::beat();
        if Instant::now() >= next {
            next = Instant::now() + EVERY;
            let storing = current(storing);
            storing.intake.remove_stuck();
            say(&mut said, lasting(&storing));
            if Instant::now() >= next_drop {
                next_drop = Instant::now() + DROP_EVERY;
                drop_originals(&storing);
            }
        }
        super::rest(next.saturating_duration_since(Instant::now()));
    }
}

/// Drops originals of deliveries that nobody could read, as the configuration says.
fn drop_originals(storing: &Storing) {
    let config = &storing.config;
    let query = SqliteQuery::open(&config.store.sqlite, &config.spool_db(), storing.handle.clone());
    // A database that cannot be read now is said elsewhere; nothing is dropped without asking it.
    let Ok(deliveries) = query.and_then(|query| query.rejected_deliveries()) else { return };
    let keep = &config.keep;
    match storing.intake.drop_originals(&deliveries, keep.rejected_max, keep.rejected_for, Timestamp::now()) {
        Ok(Dropped { count: 0, .. }) => {}
        Ok(dropped) => tracing::warn!(
            message_id = telemetry::ORIGINALS_DROPPED,
            "{} originals of deliveries that nobody could read are dropped, {} KiB: they were older than \
             keep.rejected_days or more than keep.rejected_max; their rejections stay listed",
            dropped.count,
            dropped.bytes >> 10
        ),
        Err(error) => tracing::warn!("originals that nobody could read stay for now: {error}"),
    }
}

/// One line when something begins, changes its colour, or is over.
fn say(said: &mut [Option<Trouble>; 2], now: [Option<Trouble>; 2]) {
    let over = ["the disk has room again", "the write-ahead log is short again"];
    for ((said, now), over) in said.iter_mut().zip(now).zip(over) {
        // Sizes in the words change all the time.
        match (&said, &now) {
            (None, Some(trouble)) => tracing::warn!("{}", trouble.message),
            (Some(before), Some(trouble)) if before.red != trouble.red => {
                tracing::warn!("{}", trouble.message);
            }
            (Some(_), None) => tracing::info!("{over}"),
            _ => {}
        }
        *said = now;
    }
}

/// Everything that ails disks and database now.
pub(super) fn troubles(storing: &Storing) -> Vec<Trouble> {
    let mut troubles = storing.pipeline.progress().troubles();
    troubles.extend(lasting(storing).into_iter().flatten());
    troubles
}

/// What is to be seen by looking.
fn lasting(storing: &Storing) -> [Option<Trouble>; 2] {
    let room = match storing.intake.room() {
        Ok((free, reserve)) => room(&storing.config.state_dir, free, reserve),
        Err(error) => Some(unreachable(&error)),
    };
    [room, log(&storing.config.store.sqlite, longest_log())]
}

fn unreachable(error: &IntakeError) -> Trouble {
    Trouble { red: true, message: error.to_string() }
}

/// From how many bytes on the log is too long.
pub fn longest_log() -> u64 {
    std::env::var(LOG_LIMIT).ok().and_then(|limit| limit.parse().ok()).unwrap_or(LONGEST_LOG)
}

/// What is said of the room on the disk of the state directory.
pub fn room(state_dir: &Path, free: u64, reserve: u64) -> Option<Trouble> {
    let path = printable(state_dir.as_os_str().as_bytes());
    let (left, kept) = (free >> 20, reserve >> 20);
    if free < reserve {
        let missing = ((reserve - free) >> 20) + 1;
        let message = format!(
            "the disk of {path} has {left} MiB free and keeps {kept} MiB in reserve (keep.reserve): what comes now waits with \
             its sender; free {missing} MiB, it then goes on by itself"
        );
        return Some(Trouble { red: true, message });
    }
    // A fifth more than what must stay free: time to act.
    let near = reserve + reserve / 5;
    (free < near).then(|| {
        let (warned, missing) = (near >> 20, ((near - free) >> 20) + 1);
        let message = format!(
            "the disk of {path} has {left} MiB free, which is told below {warned} MiB; below {kept} MiB (keep.reserve) nothing \
             is received any more: free {missing} MiB"
        );
        Trouble { red: false, message }
    })
}

/// What is said of a write-ahead log that grows although it is moved into the database again and again.
pub fn log(database: &Path, limit: u64) -> Option<Trouble> {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    let bytes = std::fs::metadata(&log).ok()?.len();
    (bytes > limit).then(|| {
        let (path, mebibytes) = (printable(log.as_bytes()), bytes >> 20);
        let message = format!(
            "the write-ahead log {path} has grown to {mebibytes} MiB: a program that reads the database holds an old state of \
             it; end that query or program (`fuser -v` with the path names it), the log then shrinks by itself"
        );
        Trouble { red: false, message }
    })
}

#[cfg(test)]
mod tests {
    use super::room;
    use std::path::Path;

    #[test]
    fn the_room_is_red_below_the_reserve_and_yellow_near_it() {
        let of = |free: u64| room(Path::new("/var/lib/cdrd"), free << 20, 512 << 20);
        let red = of(500).expect("it is below");
        assert!(
            red.red && red.message.contains("/var/lib/cdrd") && red.message.contains("free 13 MiB"),
            "{red:?}"
        );
        let near = of(537).expect("it is near");
        assert!(!near.red, "{near:?}");
        for words in ["537 MiB free", "below 614 MiB", "below 512 MiB", "free 78 MiB"] {
            assert!(near.message.contains(words), "{words}: {near:?}");
        }
        assert_eq!(of(700), None);
    }
}
