//! What systemd is told while a database cannot be used: the daemon stays ready and alive, says what ails it, and stores by
//! itself what came meanwhile, once.

use super::{Ear, hold, wait, watched};
use crate::site::{Daemon, Site, asterisk_rows};
use std::fs;

/// How often the watchdog is fed at least while something is out of order.
const MEALS: usize = 6;

/// Runs a daemon whose database is taken away in one of the ways and given back.
fn stays_ready<Gone>(take: impl FnOnce(&Site) -> Gone, words: &str, give_back: impl FnOnce(&Site, Gone)) {
    let site = Site::new("UTC", "DE");
    let (mut daemon, ear) = watched(&site, &[]);
    site.drop_file("a.csv", asterisk_rows(0..4).as_bytes());
    site.wait_drained(&mut daemon);
    let gone = take(&site);
    site.drop_file("b.csv", asterisk_rows(10..14).as_bytes());
    let mut heard = ear.until(words, &site);
    site.drop_file("c.csv", asterisk_rows(20..24).as_bytes());
    let receipts = |site: &Site| site.query_now("spool.db", "SELECT count(*) FROM receipt");
    wait("the receipts", &site, || receipts(&site).as_deref() == Some("2"));
    heard.extend(ear.until("2 deliveries wait to be stored", &site));
    for _ in 0..MEALS {
        heard.extend(ear.until("WATCHDOG=1", &site));
    }
    give_back(&site, gone);
    heard.extend(ear.until("STATUS=collecting\n", &site));
    site.wait_drained(&mut daemon);
    for word in ["READY=1", "RELOADING=1", "STOPPING=1"] {
        assert!(!heard.iter().any(|told| told.contains(word)), "{word}: {heard:?}");
    }
    assert!(!site.log().contains("does not come round"), "{}", site.log());
    for (sql, count) in [
        ("SELECT count(*) FROM cdr", "12"),
        ("SELECT count(DISTINCT unique_id) FROM cdr", "12"),
        ("SELECT sum(stored) FROM delivery", "12"),
        ("SELECT sum(rows_read) FROM delivery", "12"),
    ] {
        assert_eq!(site.query("cdr.db", sql), [count], "{sql}");
    }
    site.stop(daemon);
    let last = ear.until("STOPPING=1", &site);
    assert!(!last.iter().any(|told| told.contains("READY=1")), "{last:?}");
}

#[test]
fn a_locked_database_leaves_the_daemon_ready_and_fed_and_draining_starts_by_itself() {
    stays_ready(hold, "another program holds a lock", |_, held| drop(held));
}

#[test]
fn a_database_that_was_moved_away_leaves_the_daemon_ready_and_fed_and_draining_starts_by_itself() {
    let away = |site: &Site| fs::rename(site.path("var/cdr.db"), site.path("moved.db")).expect("our folder");
    stays_ready(away, "was moved, replaced or unmounted", |site, ()| {
        fs::rename(site.path("moved.db"), site.path("var/cdr.db")).expect("our folder");
    });
}

/// Killed with something acknowledged that is not stored.
fn left_waiting(site: &Site) {
    site.run_to_end();
    let held = hold(site);
    // The database is waited for before anything says that it is up.
    let daemon: Daemon = site.start(None);
    site.drop_file("a.csv", asterisk_rows(0..4).as_bytes());
    wait("the receipt", site, || {
        site.query_now("spool.db", "SELECT count(*) FROM receipt").as_deref() == Some("1")
    });
    drop(daemon);
    drop(held);
}

#[test]
fn a_start_waits_for_a_locked_spool_and_says_so() {
    let site = Site::new("UTC", "DE");
    left_waiting(&site);
    let held = super::hold_that(&site, "spool.db");
    let ear = Ear::at(&site);
    let mut command = site.command(&["run"]);
    command.env("NOTIFY_SOCKET", site.path("notify"));
    let mut daemon = site.started(command);
    site.drop_file("b.csv", asterisk_rows(10..14).as_bytes());
    let heard = ear.until("STATUS=nothing is received yet", &site);
    assert!(heard.iter().all(|words| !words.contains("READY=1")), "{heard:?}");
    let told = heard.last().expect("the one that was waited for");
    for words in ["EXTEND_TIMEOUT_USEC=", "WATCHDOG=1", "spool.db", "another program holds a lock"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(matches!(daemon.0.try_wait(), Ok(None)), "{}", site.log());
    assert!(site.path("inbox/b.csv").exists(), "what nobody can receive stays with its sender");
    drop(held);
    ear.until("READY=1", &site);
    site.wait_drained(&mut daemon);
    assert_eq!(site.query("cdr.db", "SELECT count(*), count(DISTINCT unique_id) FROM cdr"), ["8|8"]);
    assert_eq!(site.query("cdr.db", "SELECT sum(stored), count(*) FROM delivery"), ["8|2"]);
    site.stop(daemon);
}

/// The door itself cannot write: senders keep what they have, and the daemon says so although it cannot note it.
#[test]
fn a_spool_that_is_locked_while_it_runs_leaves_the_daemon_ready_and_fed() {
    let site = Site::new("UTC", "DE");
    let (mut daemon, ear) = watched(&site, &[]);
    site.drop_file("a.csv", asterisk_rows(0..4).as_bytes());
    site.wait_drained(&mut daemon);
    let held = super::hold_that(&site, "spool.db");
    site.drop_file("b.csv", asterisk_rows(10..14).as_bytes());
    let mut heard = ear.until("another program holds a lock", &site);
    for _ in 0..MEALS {
        heard.extend(ear.until("WATCHDOG=1", &site));
    }
    assert!(site.path("inbox/b.csv").exists(), "what nobody can receive stays with its sender");
    drop(held);
    heard.extend(ear.until("STATUS=collecting\n", &site));
    site.wait_drained(&mut daemon);
    for word in ["READY=1", "RELOADING=1", "STOPPING=1"] {
        assert!(!heard.iter().any(|told| told.contains(word)), "{word}: {heard:?}");
    }
    assert!(!site.log().contains("does not come round"), "{}", site.log());
    assert_eq!(site.query("cdr.db", "SELECT count(*), count(DISTINCT unique_id) FROM cdr"), ["8|8"]);
    assert_eq!(site.query("cdr.db", "SELECT sum(stored), count(*) FROM delivery"), ["8|2"]);
    site.stop(daemon);
}
