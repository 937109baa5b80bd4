//! What is sent, and what must have become of it: every way in at once, every row known.

use crate::site::{Site, zip_of};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

/// A site with a folder that is emptied, one that keeps its files, and one with a file that grows.
pub fn site() -> Site {
    let site = Site::new("UTC", "DE");
    let path = site.path("config.toml");
    let more = "[[source]]\nname = \"kept\"\nkind = \"folder\"\norigin = \"pbx\"\npath = \"kept\"\nsettle = \"150ms\"\n\
                keep = true\n[[source]]\nname = \"log\"\nkind = \"folder\"\norigin = \"pbx\"\npath = \"log\"\nmode = \"append\"\n\
                files = [\"Master.csv\"]\nsettle = \"150ms\"\n";
    let config = fs::read_to_string(&path).expect("the site has one");
    fs::write(path, config + more).expect("the folder is writable");
    for folder in ["kept", "log"] {
        fs::create_dir(site.path(folder)).expect("the folder is writable");
    }
    site
}

/// Rows of an Asterisk `Master.csv`, one leg each, as many bytes more as asked for.
pub fn rows(calls: std::ops::Range<u32>, more: usize) -> String {
    let mut text = String::new();
    let filler = "x".repeat(more);
    for call in calls {
        let (day, hour, minute, second) =
            (1 + call / 43_200, 8 + call % 43_200 / 3600, call / 60 % 60, call % 60);
        let epoch = 1_740_787_200 + (day - 1) * 86_400 + hour * 3600 + minute * 60 + second;
        let start = format!("2025-03-{day:02} {hour:02}:{minute:02}:{second:02}");
        let _ = writeln!(
            text,
            "\"\",\"0301234567\",\"201\",\"from-trunk\",\"\"\"A\"\" <0301234567>\",\"PJSIP/trunk-{call:08x}\",\
             \"PJSIP/201-{call:08x}\",\"Dial\",\"PJSIP/201,20{filler}\",\"{start}\",\"{start}\",\"{start}\",9,9,\"ANSWERED\",\
             \"DOCUMENTATION\",\"pbx-{epoch}.{call}\",\"\""
        );
    }
    text
}

/// What was sent so far.
#[derive(Default)]
pub struct Load {
    calls: u32,
    files: u32,
    /// Name and bytes of every whole file; what the followed file holds.
    sent: Vec<(&'static str, String, Vec<u8>)>,
    followed: String,
}

impl Load {
    fn next(&mut self, count: u32, more: usize) -> String {
        self.calls += count;
        rows(self.calls - count..self.calls, more)
    }

    fn put(&mut self, site: &Site, folder: &'static str, ending: &str, bytes: Vec<u8>) {
        self.files += 1;
        let name = format!("{:05}.{ending}", self.files);
        // Written elsewhere and moved in, as a careful sender does.
        let beside = site.path("outgoing.tmp");
        fs::write(&beside, &bytes).expect("the folder is writable");
        fs::rename(beside, site.path(folder).join(&name)).expect("one file system");
        self.sent.push((folder, name, bytes));
    }

    /// A little of everything.
    pub fn send(&mut self, site: &Site) {
        let inner = zip_of(&[("day.csv", self.next(3, 0).as_bytes())]);
        let outer = zip_of(&[("inner.zip", &inner), ("day.csv", self.next(2, 0).as_bytes())]);
        self.put(site, "inbox", "zip", outer);
        for _ in 0..3 {
            let small = self.next(2, 0);
            self.put(site, "inbox", "csv", small.into_bytes());
        }
        let large = self.next(90, 1000);
        self.put(site, "inbox", "csv", large.into_bytes());
        let small = self.next(2, 0);
        self.put(site, "kept", "csv", small.into_bytes());
        let large = self.next(280, 1000);
        self.put(site, "kept", "csv", large.into_bytes());
        let lines = self.next(3, 0);
        self.append(site, &lines);
    }

    fn append(&mut self, site: &Site, lines: &str) {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(site.path("log/Master.csv"))
            .expect("the folder is writable");
        file.write_all(lines.as_bytes()).expect("there is room");
        self.followed.push_str(lines);
    }

    /// Another file for each source, so that each looks again.
    pub fn nudge(&mut self, site: &Site) {
        for folder in ["inbox", "kept"] {
            let one = self.next(1, 0);
            self.put(site, folder, "csv", one.into_bytes());
        }
        let one = self.next(1, 0);
        self.append(site, &one);
    }

    /// Whether every row is there and nothing waits.
    pub fn is_stored(&self, site: &Site) -> bool {
        site.query_now("cdr.db", "SELECT count(*) FROM cdr").as_deref() == Some(&self.calls.to_string())
            && site
                .query_now("spool.db", "SELECT count(*) FROM receipt WHERE state <> 'unfinished'")
                .as_deref()
                == Some("0")
    }

    /// Bodies of followed files, which stay in the spool.
    pub fn growing(site: &Site) -> usize {
        site.query_now("spool.db", "SELECT count(*) FROM growing")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    /// Every row once, and every count adds up to what was sent.
    pub fn assert_counts(&self, site: &Site, told: &str) {
        let calls = self.calls.to_string();
        for sql in [
            "SELECT count(DISTINCT unique_id) FROM cdr",
            "SELECT sum(rows_read) FROM delivery WHERE state <> 'repeated'",
            "SELECT sum(stored + duplicate + amended) FROM delivery",
        ] {
            assert_eq!(site.query("cdr.db", sql), [calls.as_str()], "{told}: {sql}\n{}", site.log());
        }
        let files = (self.sent.len() + 1).to_string();
        let deliveries = "SELECT count(*) FROM delivery WHERE state <> 'repeated'";
        assert_eq!(site.query("cdr.db", deliveries), [files.as_str()], "{told}: deliveries\n{}", site.log());
    }

    /// The same table, and the same originals, as a daemon makes of the same files that nobody disturbs.
    pub fn assert_whole(&self, site: &Site) {
        let other = self::site();
        for (folder, name, bytes) in &self.sent {
            fs::write(other.path(folder).join(name), bytes).expect("the folder is writable");
        }
        fs::write(other.path("log/Master.csv"), &self.followed).expect("the folder is writable");
        let once = other.cdrd(&["run", "--once"]);
        assert!(once.status.success(), "{}", String::from_utf8_lossy(&once.stderr));
        let (table, should) = (site.table(), other.table());
        assert_eq!(table.len(), should.len());
        assert!(table == should, "the tables differ");
        for database in ["cdr.db", "spool.db"] {
            assert_eq!(site.query(database, "PRAGMA integrity_check"), ["ok"], "{database}");
        }
        for (folder, name, bytes) in &self.sent {
            let sql = format!(
                "SELECT id FROM delivery WHERE source = '{folder}' AND name = '{name}' AND state = 'done'"
            );
            let ids = site.query("cdr.db", &sql);
            let [id] = ids.as_slice() else { panic!("{folder}/{name}: {ids:?}") };
            let output = site.cdrd(&["original", id]);
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stdout == *bytes, "the original of {name} differs");
        }
    }
}
