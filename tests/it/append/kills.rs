//! The real daemon, killed at each step of following and at random instants, while a PBX writes and rotates beside it.
//! Every line that was written must end as one row, and every life of the file as one delivery with its bytes.

use super::{append, bare, row, site};
use crate::site::{Daemon, Site, gzip_of};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Places at which following can be cut off, in the order in which a line passes them.
const POINTS: &[&str] = &[
    "grow-written",
    "grow-durable",
    "commit-inside",
    "commit-before",
    "commit-after",
    "grow-stored",
    "grow-ended",
    "documents-done",
    "delivery-finished",
    "retire-linked",
    "retire-forgotten",
    "retire-unlinked",
];

/// A PBX that writes one file and rotates it in every way. It remembers what it wrote.
struct Pbx {
    folder: PathBuf,
    /// Bytes of each life, the last one still going on.
    lives: Vec<String>,
    /// Lines written.
    lines: u32,
    seed: u64,
}

impl Pbx {
    fn new(site: &Site, seed: u64) -> Self {
        Self { folder: site.path("inbox"), lives: vec![String::new()], lines: 0, seed }
    }

    /// xorshift: any spread will do, and the seed repeats it.
    fn random(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) % below
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A few calls, some of which no id tells apart: every tenth comes twice.
    fn write(&mut self) {
        let until = self.lines + 1 + u32::try_from(self.random(6)).unwrap_or(0);
        // Two equal lines on both sides of a rotation, and nothing else before: nobody could tell what happened.
        while self.lines < until || self.lines % 10 == 9 {
            let text = match self.lines % 10 {
                8 => bare(self.lines),
                9 => bare(self.lines - 1),
                _ => row(self.lines),
            };
            self.lines += 1;
            // Sometimes in two writes, so that half a line is seen.
            let cut = if self.random(3) == 0 { text.len() / 2 } else { 0 };
            append(&self.file("Master.csv"), &text.as_bytes()[..cut]);
            append(&self.file("Master.csv"), &text.as_bytes()[cut..]);
            self.lives.last_mut().expect("there is one").push_str(&text);
        }
    }

    fn rotate(&mut self) {
        if self.lives.last().is_some_and(String::is_empty) {
            return;
        }
        for number in (1..self.lives.len()).rev() {
            for ending in ["", ".gz"] {
                let from = self.file(&format!("Master.csv.{number}{ending}"));
                if from.exists() {
                    let to = self.file(&format!("Master.csv.{}{ending}", number + 1));
                    fs::rename(from, to).expect("the folder is writable");
                }
            }
        }
        let (current, first) = (self.file("Master.csv"), self.file("Master.csv.1"));
        if self.random(2) == 0 {
            fs::rename(&current, &first).expect("the folder is writable");
        } else {
            fs::copy(&current, &first).expect("the folder is writable");
            fs::File::create(&current).expect("the folder is writable");
        }
        // The one before is packed now, as logrotate does with `delaycompress`.
        let (plain, packed) = (self.file("Master.csv.2"), self.file("Master.csv.2.gz"));
        if plain.exists() && self.random(2) == 0 {
            let written = fs::metadata(&plain).and_then(|data| data.modified()).expect("it is there");
            fs::write(&packed, gzip_of(&fs::read(&plain).expect("it is there")))
                .expect("the folder is writable");
            let file = fs::File::options().write(true).open(&packed).expect("it is there");
            file.set_modified(written).expect("it is ours");
            fs::remove_file(plain).expect("the folder is writable");
        }
        self.lives.push(String::new());
    }

    /// Does something. The first life is rotated only when it was seen: what was rotated before that is not followed.
    fn act(&mut self, site: &Site) {
        let seen = "SELECT count(*) FROM bookmark";
        if self.random(5) == 0 && site.query_now("spool.db", seen).is_some_and(|count| count == "1") {
            self.rotate();
        } else {
            self.write();
        }
    }
}

fn number(site: &Site, database: &str, sql: &str) -> Option<u32> {
    site.query_now(database, sql)?.parse().ok()
}

/// Lets an undisturbed daemon catch up with what was written.
fn catch_up(site: &Site, pbx: &Pbx, told: &str) {
    let mut daemon = site.start(None);
    let deadline = Instant::now() + Duration::from_mins(1);
    let lives = pbx.lives.iter().filter(|life| !life.is_empty()).count();
    let read = "SELECT coalesce(sum(rows_read), 0) FROM delivery";
    let ended = "SELECT count(*) FROM delivery WHERE state LIKE 'done%' OR state = 'growing'";
    let open = "SELECT count(*) FROM receipt WHERE state <> 'unfinished'";
    loop {
        let caught_up = site.is_up(&daemon)
            && number(site, "cdr.db", read).is_some_and(|rows| rows >= pbx.lines)
            && number(site, "cdr.db", ended).is_some_and(|count| count as usize >= lives)
            && number(site, "spool.db", open) == Some(0);
        if caught_up {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{told}: {} lines in {lives} lives are not caught up with in a minute: {:?}\n{}",
            pbx.lines,
            site.query("cdr.db", "SELECT name, state, bytes, rows_read FROM delivery ORDER BY id"),
            site.log()
        );
        assert!(matches!(daemon.0.try_wait(), Ok(None)), "{told}: the daemon ended:\n{}", site.log());
        std::thread::sleep(Duration::from_millis(30));
    }
    site.stop(daemon);
}

/// Each line once, in the delivery of its life, and nothing else.
fn assert_whole(site: &Site, pbx: &Pbx, told: &str) {
    let lives: Vec<&String> = pbx.lives.iter().filter(|life| !life.is_empty()).collect();
    let expected: Vec<String> = lives
        .iter()
        .map(|life| {
            let count = life.lines().count();
            format!("{}|{count}|{count}", life.len())
        })
        .collect();
    let deliveries = site.query("cdr.db", "SELECT bytes, rows_read, stored FROM delivery ORDER BY id");
    assert_eq!(deliveries, expected, "{told}\n{}", site.log());
    let mut calls: Vec<u32> =
        (0..pbx.lines).map(|line| if line % 10 == 9 { line - 1 } else { line }).collect();
    calls.sort_unstable();
    let callees =
        site.query("cdr.db", "SELECT callee_number FROM cdr ORDER BY CAST(callee_number AS INTEGER)");
    let calls: Vec<String> = calls.iter().map(ToString::to_string).collect();
    assert_eq!(callees, calls, "{told}");
    let odd =
        "SELECT id FROM document WHERE rows_read <> stored + duplicate + amended + rejected + skipped + held";
    assert_eq!(site.query("cdr.db", odd), [""; 0], "{told}");
    let ids = site.query("cdr.db", "SELECT id FROM delivery ORDER BY id");
    for (id, life) in ids.iter().zip(&lives) {
        let output = site.cdrd(&["original", id]);
        assert!(output.status.success(), "{told}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == life.as_bytes(), "{told}: original of {id}");
    }
    let bodies = crate::site::files_below(&site.path("var/spool")).len();
    let growing = site.query("spool.db", "SELECT count(*) FROM growing").remove(0);
    assert_eq!(bodies.to_string(), growing, "{told}: nothing is left behind but what grows");
}

/// Whether the crash point killed it within a while; it is killed anyway.
fn killed(site: &Site, mut daemon: Daemon, pbx: &mut Pbx, actions: u32) -> bool {
    for _ in 0..actions {
        pbx.act(site);
        let pause = pbx.random(60);
        std::thread::sleep(Duration::from_millis(pause));
    }
    let deadline = Instant::now() + Duration::from_millis(1200);
    while Instant::now() < deadline {
        if let Some(status) = daemon.0.try_wait().expect("the child is ours") {
            assert_eq!(status.signal(), Some(9), "ended otherwise than by SIGKILL:\n{}", site.log());
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn a_kill_at_any_step_of_following_loses_no_line_and_doubles_none() {
    for (place, point) in POINTS.iter().enumerate() {
        let site = site();
        let mut pbx = Pbx::new(&site, 0xA5A5_5A5A_1234_5678 ^ (place as u64) << 32);
        pbx.write();
        let mut kills = 0;
        for hit in 0..4 {
            // From the second start on it dies while it mends what the first left.
            let crash = format!("{point}:{}", 1 + hit % 3);
            let daemon = site.start(Some(&crash));
            kills += u32::from(killed(&site, daemon, &mut pbx, 12));
        }
        assert!(kills > 0, "{point} was never reached:\n{}", site.log());
        catch_up(&site, &pbx, point);
        assert_whole(&site, &pbx, point);
    }
}

#[test]
fn random_kills_beside_a_writer_that_rotates_lose_no_line_and_double_none() {
    let rounds: u64 = std::env::var("CDRD_RANDOM_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20) / 5;
    let mut seed = u64::from(std::process::id()) << 20 | 1;
    for _ in 0..rounds.max(1) {
        let site = site();
        let mut pbx = Pbx::new(&site, seed);
        let told = format!("random kills, seed {seed}");
        for _ in 0..5 {
            let mut daemon = site.start(None);
            let end = Instant::now() + Duration::from_millis(100 + pbx.random(900));
            while Instant::now() < end {
                pbx.act(&site);
                let pause = pbx.random(50);
                std::thread::sleep(Duration::from_millis(pause));
            }
            daemon.0.kill().expect("the daemon runs");
            daemon.0.wait().expect("the child is ours");
            // Lines and rotations that nobody sees.
            for _ in 0..pbx.random(6) {
                pbx.act(&site);
            }
        }
        catch_up(&site, &pbx, &told);
        assert_whole(&site, &pbx, &told);
        seed = pbx.seed;
    }
}
