//! The store down and real disks that fill: the door stays open as long as there is room, health says what ails, and
//! everything goes on by itself.

mod read_only;

use crate::site::{Daemon, Site, asterisk_rows};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(100);

/// A site that can be asked for its health.
struct Rig {
    site: Site,
    daemon: Daemon,
    calls: u32,
}

impl Rig {
    fn start(more: &str, environment: &[(&str, PathBuf)]) -> Self {
        Self::on(Site::new("UTC", "DE"), more, environment)
    }

    fn on(site: Site, more: &str, environment: &[(&str, PathBuf)]) -> Self {
        let path = site.path("config.toml");
        let config = fs::read_to_string(&path).expect("the site has one");
        let config = config.replace("listen = \"off\"", "listen = \"127.0.0.1:0\"");
        fs::write(&path, config + more).expect("the folder is writable");
        let daemon = site.start_with(environment);
        let mut rig = Self { site, daemon, calls: 0 };
        rig.until("up", |rig| rig.site.is_up(&rig.daemon));
        rig
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "{what}: not in time:\n{}", self.site.log());
            assert!(matches!(self.daemon.0.try_wait(), Ok(None)), "{what}: it ended:\n{}", self.site.log());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn send(&mut self, rows: u32) {
        let name = format!("{:05}.csv", self.calls);
        self.calls += rows;
        self.site.drop_file(&name, asterisk_rows(self.calls - rows..self.calls).as_bytes());
    }

    fn stored(&mut self) {
        self.until("stored", |rig| {
            let rows = rig.site.query_now("cdr.db", "SELECT count(*) FROM cdr");
            rows.as_deref() == Some(&rig.calls.to_string()) && rig.site.nothing_waits()
        });
        let calls = self.calls.to_string();
        for sql in ["SELECT count(DISTINCT unique_id) FROM cdr", "SELECT sum(stored) FROM delivery"] {
            assert_eq!(self.site.query("cdr.db", sql), [calls.as_str()], "{sql}");
        }
    }

    fn waiting(&self) -> String {
        self.site.query_now("spool.db", "SELECT count(*) FROM receipt").unwrap_or_default()
    }

    fn health(&self) -> Value {
        let log = self.site.log();
        let (_, rest) = log.rsplit_once("health and metrics at http://").expect("it listens");
        let address = rest.split('/').next().unwrap_or_default();
        let mut stream = TcpStream::connect(address).expect("the daemon listens");
        write!(stream, "GET /api/health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        serde_json::from_str(answer.split_once("\r\n\r\n").expect("a head and a body").1).expect("JSON")
    }

    /// Waits until health has this colour and a trouble with these words.
    fn ails(&mut self, colour: &str, words: &str) {
        self.until(&format!("{colour}: {words}"), |rig| {
            let health = rig.health();
            health["status"] == colour && health["troubles"].to_string().contains(words)
        });
    }

    fn well(&mut self) {
        self.until("well", |rig| rig.health()["status"] == "ok");
    }
}

/// Another program at work on a database, until it is dropped.
struct Other(Child);

impl Other {
    fn runs(database: &Path, sql: &str) -> Self {
        let mut child = Command::new("sqlite3")
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sqlite3 is installed by tests/run");
        let input = child.stdin.as_mut().expect("it is piped");
        writeln!(input, ".timeout 5000\n{sql}\n.print ready").expect("it reads");
        input.flush().expect("it reads");
        let mut said = String::new();
        let output = child.stdout.as_mut().expect("it is piped");
        let mut byte = [0];
        while !said.ends_with("ready\n") {
            assert_eq!(output.read(&mut byte).expect("it writes"), 1, "it ended: {said}");
            said.push(char::from(byte[0]));
        }
        Self(child)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_database_that_another_program_locks_delays_storing_never_receiving() {
    let mut rig = Rig::start("", &[]);
    rig.send(3);
    rig.stored();
    let other = Other::runs(&rig.site.path("var/cdr.db"), "BEGIN IMMEDIATE;");
    for _ in 0..3 {
        rig.send(3);
    }
    rig.until("received", |rig| rig.waiting() == "3");
    rig.ails("yellow", "another program holds a lock");
    rig.send(3);
    rig.until("received", |rig| rig.waiting() == "4");
    drop(other);
    rig.stored();
    rig.well();
    rig.site.stop(rig.daemon);
}

#[test]
fn nothing_is_written_into_a_database_that_was_moved_away() {
    let mut rig = Rig::start("", &[]);
    rig.send(3);
    rig.stored();
    let (here, there) = (rig.site.path("var/cdr.db"), rig.site.path("moved.db"));
    fs::rename(&here, &there).expect("our folder");
    rig.send(3);
    rig.ails("red", "was moved, replaced or unmounted");
    rig.send(3);
    rig.until("received", |rig| rig.waiting() == "2");
    assert!(!here.exists(), "no empty database takes its place");
    // Another one in its place is not taken for it.
    fs::copy(&there, &here).expect("our folder");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(rig.waiting(), "2");
    fs::rename(&there, &here).expect("our folder");
    rig.stored();
    rig.well();
    rig.site.stop(rig.daemon);
}

#[test]
fn a_reader_that_keeps_the_log_from_shrinking_is_told() {
    let limit = [("CDRD_WAL_LIMIT", PathBuf::from("1000000"))];
    let mut rig = Rig::start("", &limit);
    rig.send(3);
    rig.stored();
    let reader = Other::runs(&rig.site.path("var/cdr.db"), "BEGIN; SELECT count(*) FROM cdr;");
    while fs::metadata(rig.site.path("var/cdr.db-wal")).expect("it is there").len() <= 1_000_000 {
        rig.send(200);
        rig.stored();
    }
    rig.ails("yellow", "write-ahead log");
    let status = rig.site.command(&["status"]).env("CDRD_WAL_LIMIT", "1000000").output().expect("it runs");
    assert!(String::from_utf8_lossy(&status.stdout).contains("write-ahead log"), "{status:?}");
    drop(reader);
    rig.send(3);
    rig.stored();
    rig.site.stop(rig.daemon);
}

/// A small file system of its own at a folder of the site; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    /// `None` where this test may not mount.
    fn at(path: PathBuf, options: &str) -> Option<Self> {
        Self::mounted(path, &["-t", "tmpfs", "-o", options, "tmpfs"])
    }

    /// The same of what these arguments of `mount` name.
    fn mounted(path: PathBuf, arguments: &[&str]) -> Option<Self> {
        fs::create_dir_all(&path).expect("our folder");
        let mut mount = Command::new("mount");
        mount.args(arguments).arg(&path).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(path));
        }
        eprintln!("not tried: a file system can only be mounted by root");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        // The site's own folder could not go while this was mounted in it.
        let _ = self.0.parent().map(fs::remove_dir_all);
    }
}

#[test]
fn below_the_reserve_files_wait_with_their_sender() {
    let site = Site::new("UTC", "DE");
    let Some(_small) = Small::at(site.path("var"), "size=64m") else { return };
    let mut rig = Rig::on(site, "[keep]\nreserve = \"16MiB\"\n", &[]);
    rig.send(3);
    rig.stored();
    rig.well();
    let filler = rig.site.path("var/filler");
    fs::write(&filler, vec![1; 45 << 20]).expect("it fits");
    rig.ails("yellow", "MiB free");
    fs::write(&filler, vec![1; 50 << 20]).expect("it fits");
    rig.ails("red", "keeps 16 MiB in reserve");
    rig.send(3);
    rig.until("told", |rig| rig.site.log().contains("no room: the disk of"));
    let status = rig.site.cdrd(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("in reserve") && status.contains("no room"), "{status}");
    assert_eq!(rig.waiting(), "0", "nothing was received");
    assert!(crate::site::files_below(&rig.site.path("inbox")).len() == 1, "the file waits where it is");
    fs::remove_file(filler).expect("our folder");
    rig.stored();
    rig.well();
    rig.site.stop(rig.daemon);
}

#[test]
fn a_disk_that_is_really_full_or_has_no_inode_left_loses_nothing() {
    for (options, inodes) in [("size=24m", false), ("size=64m,nr_inodes=60", true)] {
        let site = Site::new("UTC", "DE");
        let Some(_small) = Small::at(site.path("var"), options) else { return };
        let mut rig = Rig::on(site, "[keep]\nreserve = \"1KiB\"\n", &[]);
        rig.send(400);
        rig.stored();
        for round in 0..3 {
            let before = rig.site.log().len();
            let filled = rig.site.path("var/filled");
            fs::create_dir(&filled).expect("there is room");
            // Until nothing is left: whole pieces, then single pages.
            let piece = if inodes { 0 } else { 1 << 20 };
            for piece in [piece, 4096.min(piece)] {
                let mut number = 0;
                while fs::write(filled.join(format!("{piece}-{number}")), vec![1; piece]).is_ok() {
                    number += 1;
                }
            }
            rig.send(400);
            rig.until("told", |rig| {
                let log = rig.site.log();
                log[before..].contains("free ") || log[before..].contains("no room")
            });
            fs::remove_dir_all(&filled).expect("our folder");
            rig.send(2);
            rig.stored();
            assert!(!rig.site.path("var/filled").exists(), "round {round}");
        }
        for database in ["cdr.db", "spool.db"] {
            assert_eq!(rig.site.query(database, "PRAGMA integrity_check"), ["ok"], "{database}");
        }
        rig.site.stop(rig.daemon);
    }
}

#[test]
fn what_nobody_can_read_has_a_quota_and_stays_listed() {
    let mut rig = Rig::start("[keep]\nrejected_max = \"3KiB\"\n", &[]);
    rig.send(3);
    rig.stored();
    let spam = 5;
    for number in 0..spam {
        // Hexadecimal digits of hashes: they pack to half their size at best.
        let mut text = String::new();
        for line in 0..128 {
            let _ = writeln!(text, "{:016x}", mixed(number * 1000 + line));
        }
        rig.site.drop_file(&format!("spam-{number}.eml"), text.as_bytes());
    }
    let rejected = "SELECT count(*) FROM delivery WHERE state = 'rejected'";
    rig.until("rejected", |rig| {
        rig.site.query_now("cdr.db", rejected).as_deref() == Some("5") && rig.site.nothing_waits()
    });
    let Rig { site, daemon, .. } = rig;
    site.stop(daemon);
    assert_eq!(crate::site::files_below(&site.path("var/originals")).len(), 6);
    let daemon = site.start(None);
    let deadline = Instant::now() + PATIENCE;
    while !site.log().contains("originals of deliveries that nobody could read are dropped") {
        assert!(Instant::now() < deadline, "{}", site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    site.stop(daemon);
    let kept = crate::site::files_below(&site.path("var/originals"));
    let bytes: u64 = kept.iter().map(|path| fs::metadata(path).expect("it is there").len()).sum();
    let dropped = site.query("spool.db", "SELECT id FROM dropped_original");
    assert!(!dropped.is_empty() && kept.len() + dropped.len() == 6, "{kept:?} {dropped:?}");
    assert!(bytes < (3 << 10) + 1000, "{bytes} bytes are kept, one of them of a good delivery");
    let gone = site.cdrd(&["original", &dropped[0]]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("keep.rejected_max"), "{gone:?}");
    let status = site.cdrd(&["status"]);
    let words = format!("{} originals that nobody could read were dropped", dropped.len());
    assert!(String::from_utf8_lossy(&status.stdout).contains(&words), "{status:?}");
    // What is left of each says what it was, why and when, and that there is nothing to be had of it any more.
    let ledger = format!(
        "SELECT r.id FROM rejected r JOIN document d ON d.id = r.document_id JOIN delivery l ON l.id = d.delivery_id
          WHERE l.id = '{}' AND l.name LIKE 'spam-%' AND l.received_at > '2' AND length(l.content_hash) = 32 AND l.bytes > 0
            AND r.reason = 'format_unknown' AND r.message <> ''",
        dropped[0]
    );
    let id = site.query("cdr.db", &ledger).first().expect("it is listed").clone();
    let told = |arguments: &[&str]| {
        let output = site.cdrd(arguments);
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        // The screen may break lines.
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let shown = told(&["rejected", "show", &id]);
    assert!(
        shown.contains("original dropped 2") && shown.contains("let its sender send it again"),
        "{shown}"
    );
    let retried = told(&["rejected", "retry", &id]);
    assert!(retried.contains("was dropped on 2") && retried.contains("send it again"), "{retried}");
    let exported = told(&["rejected", "export", "--output", "mend"]);
    assert_eq!(exported.matches("none: the original was dropped on 2").count(), dropped.len(), "{exported}");
    assert_eq!(crate::site::files_below(&site.path("mend")).len(), 5 - dropped.len(), "{exported}");
    let listed = site.query("cdr.db", "SELECT count(*) FROM rejected WHERE reason = 'format_unknown'");
    assert_eq!(listed, ["5"], "each rejection stays listed");
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["3"]);
}

/// Digits without a pattern.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 31;
    mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 29)
}
