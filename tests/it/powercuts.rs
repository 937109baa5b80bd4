//! Power cuts: what the real daemon writes and flushes is recorded while files come, and the disk is laid out as it may be
//! found after a power cut at a random point. The next start must bring every row that a sender was told is safe, each once.

mod disk;

use crate::faults::load;
use crate::faults::shim;
use crate::site::{Site, files_below};
use disk::{Dice, Disk, Fate, entries, entry};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Calls of one wave: small files, a large one, an archive, two that are copied and then removed, lines that are appended.
const WAVES: u32 = 4;

/// Senders, and the log that they share with the shim.
struct Senders {
    site: Site,
    /// Beside the site, on the same file system.
    aside: tempfile::TempDir,
    calls: u32,
    files: u32,
    /// Files that their sender removes once they are received.
    to_remove: BTreeSet<String>,
}

impl Senders {
    fn new() -> Self {
        let site = load::site();
        let aside = tempfile::tempdir().expect("a temporary folder can be made");
        Self { site, aside, calls: 0, files: 0, to_remove: BTreeSet::new() }
    }

    fn log(&self) -> PathBuf {
        self.aside.path().join("log")
    }

    fn note(&self, op: u8, path: &Path, other: &Path, data: &[u8]) {
        let mut log = fs::OpenOptions::new().create(true).append(true).open(self.log()).expect("our folder");
        log.write_all(&entry(op, path, other, 0, data)).expect("there is room");
    }

    fn rows(&mut self, count: u32, more: usize) -> Vec<u8> {
        self.calls += count;
        load::rows(self.calls - count..self.calls, more).into_bytes()
    }

    /// A finished file appears; its inode stays what it is, whatever is laid out later.
    fn put(&mut self, folder: &str, ending: &str, bytes: &[u8]) -> String {
        self.files += 1;
        let name = format!("{:05}.{ending}", self.files);
        let aside = self.aside.path().join(&name);
        fs::write(&aside, bytes).expect("our folder");
        let target = self.site.path(folder).join(&name);
        self.note(100, &target, &aside, b"");
        let beside = self.aside.path().join("moving");
        fs::hard_link(&aside, &beside).expect("one file system");
        fs::rename(beside, target).expect("one file system");
        name
    }

    fn append(&self, bytes: &[u8]) {
        let path = self.site.path("log/Master.csv");
        self.note(102, &path, Path::new(""), bytes);
        let mut file = fs::OpenOptions::new().append(true).open(path).expect("it is there");
        file.write_all(bytes).expect("there is room");
    }

    fn wave(&mut self) {
        let large = self.rows(90, 1000);
        self.put("inbox", "csv", &large);
        for _ in 0..6 {
            let small = self.rows(2, 0);
            self.put("inbox", "csv", &small);
        }
        let packed = self.rows(5, 0);
        self.put("inbox", "zip", &crate::site::zip_of(&[("day.csv", &packed)]));
        for (count, more) in [(2, 0), (280, 1000)] {
            let bytes = self.rows(count, more);
            let name = self.put("kept", "csv", &bytes);
            self.to_remove.insert(name);
        }
        let lines = self.rows(3, 0);
        self.append(&lines);
    }

    /// What a careful sender does: its copy goes when the receipt is durable.
    fn remove_received(&mut self) {
        for (database, table) in [("spool.db", "receipt"), ("cdr.db", "delivery")] {
            let sql = format!("SELECT group_concat(name) FROM {table} WHERE source = 'kept'");
            let Some(names) = self.site.query_now(database, &sql) else { continue };
            for name in names.split(',').filter(|name| self.to_remove.remove(*name)).collect::<Vec<_>>() {
                let path = self.site.path("kept").join(name);
                self.note(101, &path, Path::new(""), b"");
                fs::remove_file(path).expect("it is there");
            }
        }
    }
}

/// A recorded run: what lay there before, and everything that happened.
struct Recorded {
    senders: Senders,
    before: Vec<(PathBuf, Vec<u8>)>,
    happened: Vec<disk::Entry>,
    table: Vec<String>,
}

impl Recorded {
    fn disk(&self) -> Disk {
        let mut disk = Disk::default();
        for folder in ["", "inbox", "kept", "log"] {
            let path = self.senders.site.dir.path().join(folder);
            disk.has_folder(Path::new(path.to_string_lossy().trim_end_matches('/')));
        }
        for (path, bytes) in &self.before {
            disk.has_file(path, None, bytes.clone());
        }
        disk
    }
}

/// Runs the daemon until everything that the senders have is stored.
fn record() -> Recorded {
    let mut senders = Senders::new();
    let first = senders.rows(3, 0);
    fs::write(senders.site.path("log/Master.csv"), &first).expect("our folder");
    let before: Vec<(PathBuf, Vec<u8>)> = files_below(senders.site.dir.path())
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).expect("our folder")))
        .collect();
    let environment = [
        ("LD_PRELOAD", shim::library().clone()),
        ("CDRD_RECORD", senders.log()),
        ("CDRD_RECORD_BELOW", senders.site.dir.path().to_owned()),
    ];
    let daemon = senders.site.start_with(&environment);
    let deadline = Instant::now() + Duration::from_mins(2);
    // Not sooner: another program that opens a database would make files that nobody recorded.
    while !senders.site.is_up(&daemon) {
        assert!(Instant::now() < deadline, "not up:\n{}", senders.site.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut wave = 0;
    loop {
        senders.remove_received();
        let stored = senders.site.query_now("cdr.db", "SELECT count(*) FROM cdr");
        let done = senders.to_remove.is_empty()
            && stored.as_deref() == Some(senders.calls.to_string().as_str())
            && senders.site.query_now("spool.db", "SELECT count(*) FROM receipt").as_deref() == Some("1");
        if done && wave == WAVES {
            break;
        }
        if done {
            senders.wave();
            wave += 1;
        }
        assert!(Instant::now() < deadline, "not stored:\n{}", senders.site.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    senders.site.stop(daemon);
    let happened = entries(&fs::read(senders.log()).expect("the shim wrote it"));
    let mut recorded = Recorded { senders, before, happened, table: Vec::new() };
    // The model is the disk, as long as nothing is cut.
    let mut disk = recorded.disk();
    for entry in &recorded.happened {
        disk.happen(entry);
    }
    let root = recorded.senders.site.dir.path();
    assert_eq!(
        disk.differs(root),
        Vec::<PathBuf>::new(),
        "the log does not hold everything that was written"
    );
    recorded.table = recorded.senders.site.table();
    assert_eq!(recorded.table.len(), usize::try_from(recorded.senders.calls).expect("it fits"));
    recorded
}

#[test]
fn a_power_cut_at_any_point_loses_nothing_that_was_acknowledged() {
    let cuts: usize = std::env::var("CDRD_POWER_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(15);
    let seed = std::env::var("CDRD_SEED").ok().and_then(|n| n.parse().ok());
    let seed = seed.unwrap_or(u64::from(std::process::id()) << 20 | 1);
    let recorded = record();
    eprintln!("power cuts: {cuts}, seed {seed}, {} writes and flushes", recorded.happened.len());
    let mut dice = Dice(seed);
    for cut in 0..cuts {
        let fate = [Fate::Torn, Fate::Lost, Fate::Torn, Fate::There][cut % 4];
        let at = dice.roll(recorded.happened.len() + 1);
        let mut disk = recorded.disk();
        for entry in &recorded.happened[..at] {
            disk.happen(entry);
        }
        let root = recorded.senders.site.dir.path();
        disk.lay_out(root, fate, &mut dice);
        // What had not been sent when the power failed comes afterwards.
        for entry in &recorded.happened[at..] {
            match entry.op {
                disk::Op::Put => fs::hard_link(&entry.other, &entry.path).expect("one file system"),
                disk::Op::Append => {
                    let mut file =
                        fs::OpenOptions::new().append(true).open(&entry.path).expect("it is there");
                    file.write_all(&entry.data).expect("there is room");
                }
                _ => {}
            }
        }
        let told = format!("cut {cut} of seed {seed}: at {at} of {}, {fate:?}", recorded.happened.len());
        check(&recorded.senders.site, &recorded.table, &told);
    }
}

/// The next start stores everything, each row once.
fn check(site: &Site, expected: &[String], told: &str) {
    let once = site.cdrd(&["run", "--once"]);
    let said = String::from_utf8_lossy(&once.stderr).into_owned();
    assert!(once.status.success(), "{told}: {said}");
    let table = site.table();
    assert_eq!(table.len(), expected.len(), "{told}: rows\n{said}");
    assert!(table == expected, "{told}: the table differs\n{said}");
    for database in ["cdr.db", "spool.db"] {
        assert_eq!(site.query(database, "PRAGMA integrity_check"), ["ok"], "{told}: {database}");
    }
    let odd =
        "SELECT name, state FROM delivery WHERE state NOT IN ('done', 'repeated', 'growing') OR rejected > 0";
    assert_eq!(site.query("cdr.db", odd), [""; 0], "{told}");
    assert!(
        files_below(&site.path("inbox")).is_empty(),
        "{told}: {:?}\n{said}",
        files_below(&site.path("inbox"))
    );
    let waiting = "SELECT count(*) FROM receipt WHERE state <> 'unfinished'";
    assert_eq!(site.query("spool.db", waiting), ["0"], "{told}\n{said}");
}
