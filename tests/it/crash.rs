//! Kills the real binary at every line of the crash table and at random instants; a restart must end in the table of
//! a run that nobody disturbed, with nothing left behind and every original intact.

use crate::site::{Daemon, Site, files_below};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

/// (crash point, how many hits apart the ten kills are): each line of the table up to retiring.
const POINTS: &[(&str, u64)] = &[
    // Die between 1 and 2: half accepted.
    ("accept-claiming", 1),
    ("accept-renamed", 1),
    // Between 2 and 3: durable, nobody told.
    ("accept-durable", 1),
    // Between 4 and 10, and inside 10.
    ("commit-inside", 1),
    ("commit-before", 2),
    ("commit-after", 2),
    ("original-sealed", 2),
    // Between 10 and 11.
    ("documents-done", 2),
    ("delivery-finished", 2),
    ("retire-linked", 2),
    ("retire-forgotten", 2),
    ("retire-unlinked", 2),
];

const KILLS_PER_POINT: u64 = 10;

/// Files to send: several chunks, an archive of several documents, many small ones that partly repeat.
fn workload() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    files.insert("a-master.csv".to_owned(), asterisk_rows(0..3200).into_bytes());
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for part in 0..3 {
        // Stored, so that it is large enough to be copied where files are kept.
        let options =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file(format!("day-{part}.csv"), options).expect("an archive in memory");
        // The first half of each part stands in the big file too.
        let rows = asterisk_rows(2500 + part * 700..3400 + part * 700);
        archive.write_all(rows.as_bytes()).expect("an archive in memory");
    }
    files.insert("b-month.zip".to_owned(), archive.finish().expect("an archive in memory").into_inner());
    for small in 0..24 {
        let rows = asterisk_rows(5300 + small * 3..5304 + small * 3);
        files.insert(format!("c-{small:03}.csv"), rows.into_bytes());
    }
    files
}

/// Rows of an Asterisk `Master.csv` with 18 columns; four legs a call, some unanswered and without second channel.
fn asterisk_rows(rows: std::ops::Range<u32>) -> String {
    let mut text = String::new();
    for row in rows {
        let call = row / 4;
        let (minute, second) = (call % 3000 / 60, call % 60);
        let epoch = 1_741_600_800 + call;
        let (hour, day) = (10 + call / 3000, 10);
        let start = format!("2025-03-{day} {hour:02}:{minute:02}:{second:02}");
        let answered = row % 4 == 0;
        let (answer, disposition) =
            if answered { (format!("\"{start}\""), "ANSWERED") } else { (String::new(), "NO ANSWER") };
        let second_channel =
            if row % 4 == 3 { String::new() } else { format!("PJSIP/20{}-{row:08x}", row % 4) };
        let _ = writeln!(
            text,
            "\"\",\"0301234{call:04}\",\"20{}\",\"from-trunk\",\"\"\"Caller {call}\"\" <0301234{call:04}>\",\
             \"PJSIP/trunk-{call:08x}\",\"{second_channel}\",\"Dial\",\"PJSIP/20{},20\",\"{start}\",{answer},\
             \"{start}\",{},{},\"{disposition}\",\"DOCUMENTATION\",\"{epoch}.{call}\",\"\"",
            row % 4,
            row % 4,
            row % 50,
            if answered { row % 50 } else { 0 },
        );
    }
    text
}

fn site_with(files: &BTreeMap<String, Vec<u8>>) -> Site {
    let site = Site::new("UTC", "DE");
    for (name, bytes) in files {
        site.drop_file(name, bytes);
    }
    site
}

/// Waits until the daemon was killed by its crash point (`true`) or has nothing left to do.
fn killed(site: &Site, daemon: &mut Daemon) -> bool {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(status) = daemon.0.try_wait().expect("the child is ours") {
            assert_eq!(status.signal(), Some(9), "ended otherwise than by SIGKILL:\n{}", site.log());
            return true;
        }
        if site.drained() {
            return false;
        }
        assert!(Instant::now() < deadline, "neither killed nor drained:\n{}", site.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn assert_whole(site: &Site, files: &BTreeMap<String, Vec<u8>>, expected: &[String], told: &str) {
    let table = site.table();
    assert_eq!(table.len(), expected.len(), "{told}: rows\n{}", site.log());
    for (row, should) in table.iter().zip(expected) {
        assert_eq!(row, should, "{told}");
    }
    let left: Vec<_> =
        files_below(&site.path("inbox")).into_iter().chain(files_below(&site.path("var/spool"))).collect();
    assert!(left.is_empty(), "{told}: left behind {left:?}");
    for table in ["receipt", "body"] {
        assert_eq!(
            site.query("spool.db", &format!("SELECT count(*) FROM {table}")),
            ["0"],
            "{told}: {table}"
        );
    }
    let odd = "SELECT name, state FROM delivery WHERE state <> 'done' AND state <> 'repeated' OR rows_read <> \
               stored + duplicate + amended + rejected + skipped + held OR rejected > 0";
    assert_eq!(site.query("cdr.db", odd), [""; 0], "{told}");
    let balance =
        "SELECT (SELECT sum(legs_added - legs_withdrawn) FROM document) = (SELECT count(*) FROM cdr)";
    assert_eq!(site.query("cdr.db", balance), ["1"], "{told}: legs added and withdrawn");
    let heads =
        "SELECT count(*) FROM (SELECT sum(call_head) s FROM cdr GROUP BY origin, call_group) WHERE s <> 1";
    assert_eq!(site.query("cdr.db", heads), ["0"], "{told}: one head a call");
    assert_originals(site, files, told);
}

/// What was counted for each delivery: a run that was cut off and goes on counts no row twice and none too few.
fn counts(site: &Site) -> Vec<String> {
    let counts = "SELECT name, rows_read, stored + duplicate + amended, skipped FROM delivery ORDER BY name";
    site.query("cdr.db", counts)
}

/// Every file that was sent is kept, byte for byte, and nothing else lies beside.
fn assert_originals(site: &Site, files: &BTreeMap<String, Vec<u8>>, told: &str) {
    let kept = files_below(&site.path("var/originals"));
    let listed = site.query("cdr.db", "SELECT id || '|' || name FROM delivery WHERE state <> 'repeated'");
    assert_eq!(kept.len(), listed.len(), "{told}: {kept:?}");
    let mut names: Vec<&str> = Vec::new();
    for line in &listed {
        let (id, name) = line.split_once('|').expect("two columns");
        names.push(name);
        let output = site.cdrd(&["original", id]);
        assert!(output.status.success(), "{told}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(files.get(name).is_some_and(|bytes| *bytes == output.stdout), "{told}: original of {name}");
    }
    names.sort_unstable();
    assert_eq!(names, files.keys().map(String::as_str).collect::<Vec<_>>(), "{told}: one delivery a file");
}

#[test]
fn a_kill_at_any_line_of_the_crash_table_changes_nothing() {
    let files = workload();
    let undisturbed = site_with(&files);
    undisturbed.run_to_end();
    let expected = undisturbed.table();
    assert_eq!(expected.len(), 4873, "every leg once:\n{}", undisturbed.log());
    assert_whole(&undisturbed, &files, &expected, "undisturbed");
    let counted = counts(&undisturbed);
    for (point, step) in POINTS {
        let mut kills = 0;
        while kills < KILLS_PER_POINT {
            let site = site_with(&files);
            let before = kills;
            // Several kills in one life: the second start may die while it mends what the first left.
            for hit in 0..KILLS_PER_POINT {
                let crash = format!("{point}:{}", 1 + hit * step);
                let mut daemon = site.start(Some(&crash));
                if !killed(&site, &mut daemon) {
                    break;
                }
                kills += 1;
            }
            assert!(kills > before, "{point} was never reached:\n{}", site.log());
            site.run_to_end();
            assert_whole(&site, &files, &expected, point);
            assert_eq!(counts(&site), counted, "{point}");
        }
    }
}

/// Large files that stay in their folder are copied: die in the middle of a copy, between 1 and 2.
#[test]
fn a_kill_in_the_middle_of_a_copy_changes_nothing() {
    let files = workload();
    // The others are kept in spool.db and need no copy.
    assert!(files["a-master.csv"].len() > 256 << 10 && files["b-month.zip"].len() > 256 << 10);
    let all = files.len().to_string();
    let keeping = || {
        let site = site_with(&files);
        let config = std::fs::read_to_string(site.path("config.toml")).expect("the site has one");
        std::fs::write(site.path("config.toml"), config + "keep = true\n").expect("the folder is writable");
        site
    };
    let run = |site: &Site| {
        let mut daemon = site.start(None);
        let deadline = Instant::now() + Duration::from_mins(1);
        let ended = "SELECT count(*) FROM delivery WHERE state = 'done'";
        while !site.is_up(&daemon) || site.query("cdr.db", ended) != [all.as_str()] || !site.nothing_waits() {
            assert!(Instant::now() < deadline, "not ended:\n{}", site.log());
            assert!(matches!(daemon.0.try_wait(), Ok(None)), "the daemon ended:\n{}", site.log());
            std::thread::sleep(Duration::from_millis(30));
        }
        site.stop(daemon);
    };
    let undisturbed = keeping();
    run(&undisturbed);
    let expected = undisturbed.table();
    assert_eq!(expected.len(), 4873);
    for first in [1, 2] {
        let site = keeping();
        for hit in 0..5 {
            let mut daemon = site.start(Some(&format!("accept-temporary:{}", first + hit)));
            let status = daemon.0.wait().expect("the child is ours");
            assert_eq!(status.signal(), Some(9), "{}", site.log());
        }
        run(&site);
        assert!(site.table() == expected, "{}", site.log());
        assert_eq!(files_below(&site.path("var/spool")), [""; 0].map(std::path::PathBuf::from));
        assert_eq!(files_below(&site.path("inbox")).len(), files.len(), "they stay");
        assert_originals(&site, &files, "copied");
    }
}

#[test]
fn random_kills_change_nothing() {
    let rounds: u64 = std::env::var("CDRD_RANDOM_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let files = workload();
    let undisturbed = site_with(&files);
    undisturbed.run_to_end();
    let expected = undisturbed.table();
    let mut seed = u64::from(std::process::id()) << 20 | 1;
    let mut kills = 0;
    while kills < rounds {
        let site = site_with(&files);
        let told = format!("random kills, seed {seed}");
        for _ in 0..5 {
            // xorshift: any spread of instants will do, and the seed in the message repeats it.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let mut daemon = site.start(None);
            std::thread::sleep(Duration::from_millis(20 + seed % 700));
            daemon.0.kill().expect("the daemon runs");
            daemon.0.wait().expect("the child is ours");
            kills += 1;
        }
        site.run_to_end();
        assert_whole(&site, &files, &expected, &told);
        assert_eq!(counts(&site), counts(&undisturbed), "{told}");
    }
}

/// The first moments make the databases: a half made one is no reason not to start.
#[test]
fn kills_in_the_first_moments_do_not_keep_it_from_starting() {
    for round in 0..12 {
        let site = Site::new("UTC", "DE");
        for kill in 0..3 {
            let mut daemon = site.start(None);
            std::thread::sleep(Duration::from_millis(10 + (round * 17 + kill * 23) % 60));
            daemon.0.kill().expect("it runs");
            daemon.0.wait().expect("the child is ours");
        }
        site.run_to_end();
    }
}
