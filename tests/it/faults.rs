//! System calls of the running daemon are made to fail at every place where it writes: nothing is lost, nothing is
//! counted twice, the log names the path and the mend, and when the fault is over everything goes on by itself.

pub mod load;
pub mod shim;
mod sites;

use crate::site::{Daemon, Site, files_below};
use load::Load;
use shim::Faults;
use sites::{FIRST, SITES, WriteSite};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_mins(1);

/// A site with every kind of folder source, whose daemon runs on the shim.
struct Rig {
    site: Site,
    faults: Faults,
    daemon: Daemon,
    load: Load,
}

impl Rig {
    fn start() -> Self {
        let site = load::site();
        let faults = Faults::of(&site);
        let daemon = site.start_with(&faults.environment());
        let mut rig = Self { site, faults, daemon, load: Load::default() };
        rig.until("started", |rig| rig.site.is_up(&rig.daemon));
        rig
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "{what}: not in time:\n{}", self.site.log());
            assert!(
                matches!(self.daemon.0.try_wait(), Ok(None)),
                "{what}: the daemon ended:\n{}",
                self.site.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One round: load comes while the fault holds; it is met and told; then it is over, and everything is stored.
    fn round(&mut self, place: &WriteSite, fault: &str) {
        let told = format!("{} {fault}", place.name);
        let (said, deadline) = (self.site.log().len(), Instant::now() + PATIENCE);
        let pattern = format!("{}{}", self.site.dir.path().display(), place.pattern);
        let rules: Vec<_> = place.ops.iter().map(|op| (*op, pattern.as_str(), fault, 0, -1)).collect();
        self.faults.set(&rules);
        self.load.send(&self.site);
        // Some places are only written when enough has come.
        let mut more = Instant::now() + Duration::from_secs(2);
        while self.faults.hits().is_empty() {
            if Instant::now() > more {
                self.load.send(&self.site);
                more = Instant::now() + Duration::from_secs(2);
            }
            self.until(&format!("{told}: reached"), |rig| {
                !rig.faults.hits().is_empty() || Instant::now() > more
            });
            assert!(Instant::now() < deadline, "{told}: never reached");
        }
        if let Some(names) = place.names {
            self.until(&format!("{told}: told"), |rig| {
                rig.site.log()[said..].lines().any(|line| tells(line, names, fault))
            });
        }
        self.faults.clear();
        // What lets a source look again at once, as any new file does.
        self.load.nudge(&self.site);
        self.until(&format!("{told}: stored"), |rig| rig.load.is_stored(&rig.site));
        self.load.assert_counts(&self.site, &told);
        if let Some(words) = place.again {
            self.until(&format!("{told}: again"), |rig| rig.site.log()[said..].contains(words));
        }
    }

    /// Everything of all rounds, compared with what a daemon makes of the same files that nobody disturbs.
    fn end(mut self) {
        self.faults.clear();
        self.until("what was stored is removed", |rig| {
            let left = files_below(&rig.site.path("var/spool")).len();
            files_below(&rig.site.path("inbox")).is_empty() && left == Load::growing(&rig.site)
        });
        let Self { site, daemon, load, .. } = self;
        site.stop(daemon);
        let parts: Vec<_> = files_below(&site.path("var"))
            .into_iter()
            .filter(|path| path.to_string_lossy().ends_with(".part"))
            .collect();
        assert!(parts.is_empty(), "half files are left: {parts:?}");
        load.assert_whole(&site);
    }
}

/// Whether a line of the log names the path and says what to do.
fn tells(line: &str, names: &str, fault: &str) -> bool {
    let mend = match fault {
        "ENOSPC" | "SHORT" | "EDQUOT" => "free ",
        "EROFS" => "read-only",
        _ => "disk",
    };
    (line.contains("WARN") || line.contains("ERROR")) && line.contains(names) && line.contains(mend)
}

/// What is made once, by a daemon of its own each.
#[test]
fn a_fault_at_what_is_made_first_passes_too() {
    for place in FIRST {
        for fault in place.faults {
            let mut rig = Rig::start();
            rig.round(place, fault);
            rig.site.stop(rig.daemon);
        }
    }
}

/// What is written before anything can be received: the start fails in words, and the next one succeeds.
#[test]
fn a_fault_while_starting_is_said_and_the_next_start_heals() {
    for (op, pattern, words) in [
        ("create", "/var/cdrd.lock", "cdrd.lock"),
        ("create", "/var/cdr.db.lock", "cdr.db.lock"),
        ("write", "/var/spool.db*", "spool.db"),
        ("write", "/var/cdr.db*", "cdr.db"),
        ("sync", "/var", "var"),
    ] {
        let site = load::site();
        let mut faults = Faults::of(&site);
        faults.set(&[(op, &format!("{}{pattern}", site.dir.path().display()), "ENOSPC", 0, -1)]);
        let mut load = Load::default();
        load.send(&site);
        let mut daemon = site.start_with(&faults.environment());
        let status = daemon.0.wait().expect("the child is ours");
        let said = site.log();
        assert_eq!(status.code(), Some(1), "{pattern}: {said}");
        let named = said.contains(words);
        assert!(named && (said.contains("No space left") || said.contains("full")), "{pattern}: {said}");
        faults.clear();
        let once = site.cdrd(&["run", "--once"]);
        assert!(once.status.success(), "{pattern}: {}", String::from_utf8_lossy(&once.stderr));
        assert!(load.is_stored(&site), "{pattern}");
        load.assert_counts(&site, pattern);
    }
}

/// One daemon lives through a fault at every place where it writes.
#[test]
fn a_fault_at_any_place_of_writing_loses_nothing_and_passes() {
    let all = std::env::var_os("CDRD_ALL_FAULTS").is_some();
    let only = std::env::var("CDRD_FAULT_SITE").unwrap_or_default();
    let mut rig = Rig::start();
    for (number, place) in SITES.iter().enumerate() {
        if !place.name.contains(&only) {
            continue;
        }
        for (nth, fault) in place.faults.iter().enumerate() {
            if all || nth == number % place.faults.len() {
                eprintln!("{} {fault}", place.name);
                rig.round(place, fault);
            }
        }
    }
    rig.end();
}
