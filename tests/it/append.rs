//! Files that only grow: followed across every way of rotating them, in pieces of any size, over kills at any instant.

mod kills;
mod pieces;
mod rotation;

use crate::site::Site;
use cdrd::config::{self, Surroundings};
use cdrd::daemon::{self, Works};
use cdrd::formats::Formats;
use cdrd::intake::SourceHealth;
use cdrd::sources::folder::append::{Config, Follower};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Longer than anything has to rest.
const LATER: Duration = Duration::from_mins(5);

/// A follower and everything behind it in this process, so that looks happen when a test says so.
struct Bench {
    site: Site,
    works: Option<Works>,
    follower: Option<Follower>,
    /// The time that the follower is told.
    now: Instant,
}

impl Bench {
    /// Follows `Master.csv` in the inbox.
    fn new() -> Self {
        let mut bench = Self { site: site(), works: None, follower: None, now: Instant::now() };
        bench.start();
        bench
    }

    /// What a start of the daemon does; before it the daemon is down.
    fn start(&mut self) {
        self.stop();
        let file = self.site.path("config.toml");
        let config = config::load(&file, &Surroundings::default()).expect("the configuration is right");
        let runtime = Arc::new(daemon::runtime().expect("a runtime"));
        // A child that another test forks at this instant holds the lock until it is its own program.
        let mut built = daemon::build(&config, &Formats::built_in(), Arc::clone(&runtime));
        for _ in 0..200 {
            if built.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            built = daemon::build(&config, &Formats::built_in(), Arc::clone(&runtime));
        }
        let works = built.expect("everything is there");
        let settings = Config {
            name: "pbx-file".to_owned(),
            origin: "pbx".to_owned(),
            path: self.site.path("inbox"),
            files: vec!["Master.csv".to_owned()],
            settle: Duration::from_secs(5),
            rescan: Duration::from_mins(1),
            pinned_format: None,
            reading: [0; 16],
        };
        self.follower = Some(Follower::new(settings, works.storing.intake.clone()));
        self.works = Some(works);
    }

    fn stop(&mut self) {
        self.follower = None;
        if let Some(works) = self.works.take() {
            works.storing.store.close();
            works.storing.intake.close();
        }
    }

    /// Looks once, and stores what came.
    fn look(&mut self) {
        self.look_only();
        self.store();
    }

    fn look_only(&mut self) {
        let now = self.now;
        self.follower.as_mut().expect("started").look(now).expect("the folder is there");
    }

    fn store(&self) {
        let pipeline = &self.works.as_ref().expect("started").storing.pipeline;
        while let Some(worked) = pipeline.work(&AtomicBool::new(false)).expect("the store works") {
            assert!(worked.outcome.is_ok(), "{:?}", worked.outcome);
        }
    }

    /// Looks until everything that had to rest has rested.
    fn settle(&mut self) {
        for _ in 0..6 {
            self.look();
            self.now += LATER;
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.site.path("inbox").join(name)
    }

    fn append(&self, text: &str) {
        append(&self.file("Master.csv"), text.as_bytes());
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.file(from), self.file(to)).expect("the folder is writable");
    }

    /// What `logrotate` does with `copytruncate`.
    fn copy_and_truncate(&self, to: &str) {
        fs::copy(self.file("Master.csv"), self.file(to)).expect("the folder is writable");
        fs::File::create(self.file("Master.csv")).expect("the folder is writable");
    }

    fn sql(&self, sql: &str) -> Vec<String> {
        self.site.query("cdr.db", sql)
    }

    /// State and counts of each delivery, in the order of their begin.
    fn deliveries(&self) -> Vec<String> {
        self.sql("SELECT state, rows_read, stored, duplicate, rejected FROM delivery ORDER BY id")
    }

    /// The callee numbers that are stored, each as often as it has legs.
    fn callees(&self) -> Vec<String> {
        self.sql("SELECT callee_number FROM cdr ORDER BY CAST(callee_number AS INTEGER)")
    }

    fn health(&self) -> (SourceHealth, String) {
        let states =
            self.works.as_ref().expect("started").storing.intake.source_states().expect("it is open");
        let state = states.into_iter().find(|state| state.source == "pbx-file").expect("it was looked at");
        (state.health, state.message)
    }

    /// The originals, in the order of the deliveries.
    fn originals(&mut self) -> Vec<Vec<u8>> {
        let ids = self.sql("SELECT id FROM delivery ORDER BY id");
        ids.iter()
            .map(|id| {
                let output = self.site.cdrd(&["original", id]);
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                output.stdout
            })
            .collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A site that follows `Master.csv` in its inbox.
fn site() -> Site {
    let site = Site::new("UTC", "DE");
    let config = "state_dir = \"var\"\n[http]\nlisten = \"off\"\n[[origin]]\nname = \"pbx\"\ntime_zone = \"UTC\"\n[[source]]\nname = \"pbx-file\"\n\
                  kind = \"folder\"\npath = \"inbox\"\nmode = \"append\"\nsettle = \"150ms\"\n";
    fs::write(site.path("config.toml"), config).expect("the folder is writable");
    site
}

fn append(path: &Path, bytes: &[u8]) {
    let file = fs::OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(bytes)).expect("the folder is writable");
}

/// A row that its unique id tells apart.
fn row(call: u32) -> String {
    line(call, &format!("SIP/{call}-{call:08x}"))
}

/// A row that no id tells apart from an equal one.
fn bare(call: u32) -> String {
    line(call, "")
}

fn line(call: u32, second_channel: &str) -> String {
    let start = format!("2025-03-10 {:02}:{:02}:{:02}", 8 + call / 3600 % 16, call / 60 % 60, call % 60);
    format!(
        "\"\",\"100\",\"{call}\",\"from-internal\",\"\"\"A\"\" <100>\",\"SIP/100-{call:08x}\",\"{second_channel}\",\"Dial\",\
         \"SIP/{call},20\",\"{start}\",,\"{start}\",{},0,\"NO ANSWER\",\"DOCUMENTATION\",\"{}.{call}\",\"\"\n",
        call % 50,
        1_741_593_600 + call
    )
}

fn rows(calls: std::ops::Range<u32>) -> String {
    calls.map(row).collect()
}

/// What `callees` gives for these calls, once each.
fn numbers(calls: impl IntoIterator<Item = u32>) -> Vec<String> {
    calls.into_iter().map(|call| call.to_string()).collect()
}
