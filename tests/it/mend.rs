//! What operators mend afterwards: zones, formats, rejected rows and documents. The table must end as if everything had
//! been right from the start, also when the mending hands are killed.

use crate::site::{Site, files_below};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Rows of an Asterisk `Master.csv`; three legs a call.
fn rows(rows: std::ops::Range<u32>) -> String {
    let mut text = String::new();
    for row in rows {
        let call = row / 3;
        let (hour, minute, second) = (8 + call / 3600, call / 60 % 60, call % 60);
        let start = format!("2025-07-10 {hour:02}:{minute:02}:{second:02}");
        let _ = writeln!(
            text,
            "\"\",\"0301234{call:04}\",\"20{leg}\",\"from-trunk\",\"\"\"A\"\" <0301234{call:04}>\",\
             \"PJSIP/trunk-{call:08x}\",\"PJSIP/20{leg}-{row:08x}\",\"Dial\",\"PJSIP/20{leg},20\",\"{start}\",\
             \"{start}\",\"{start}\",9,9,\"ANSWERED\",\"DOCUMENTATION\",\"pbx-{}.{call}\",\"\"",
            1_752_134_400 + call,
            leg = row % 3,
        );
    }
    text
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A sub-command that must end with this code; gives what it wrote.
fn cdrd(site: &Site, arguments: &[&str], code: i32) -> String {
    let output = site.cdrd(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn import(site: &Site, name: &str, text: &str, code: i32) {
    fs::write(site.path(name), text).expect("the folder is writable");
    cdrd(site, &["import", name], code);
}

fn rewrite_config(site: &Site, from: &str, to: &str) {
    let path = site.path("config.toml");
    let text = fs::read_to_string(&path).expect("the site has one");
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).expect("the folder is writable");
}

/// Does to the database what an earlier version might have left.
fn tamper(site: &Site, sql: &str) {
    let output = Command::new("sqlite3").arg(site.path("var/cdr.db")).arg(sql).output();
    let output = output.expect("sqlite3 is installed by tests/run");
    assert!(output.status.success(), "{sql}: {}", said(&output));
}

/// An earlier version rejected these rows of `cdr`: each its own leg 0, and not the head of its call.
fn reject(site: &Site, rows: &str) {
    let chosen = format!("SELECT id FROM cdr WHERE call_head = 0 AND {rows}");
    let sql = format!(
        "BEGIN;
         CREATE TEMP TABLE chosen AS {chosen};
         INSERT INTO rejected (document_id, row_number, byte_offset, byte_length, verbatim, reason, message)
             SELECT document_id, row_number, byte_offset, byte_length, x'41', 'start_invalid', 'no time'
               FROM cdr WHERE id IN (SELECT id FROM chosen);
         UPDATE document SET stored = stored - n, legs_added = legs_added - n, rejected = rejected + n
           FROM (SELECT document_id AS d, count(*) AS n FROM cdr WHERE id IN (SELECT id FROM chosen) GROUP BY 1)
          WHERE document.id = d;
         UPDATE delivery SET stored = stored - n, rejected = rejected + n, state = 'done_with_rejects'
           FROM (SELECT delivery_id AS d, count(*) AS n FROM cdr WHERE id IN (SELECT id FROM chosen) GROUP BY 1)
          WHERE delivery.id = d;
         DELETE FROM cdr WHERE id IN (SELECT id FROM chosen);
         COMMIT;"
    );
    tamper(site, &sql);
}

/// What holds whatever happened.
fn assert_sums(site: &Site, told: &str) {
    let odd = "SELECT id FROM document WHERE rows_read <> stored + duplicate + amended + rejected + skipped + held \
               UNION ALL SELECT id FROM document WHERE state <> 'superseded' AND rejected <> \
               (SELECT count(*) FROM rejected r WHERE r.document_id = document.id AND row_number > 0 AND resolved_at IS NULL) \
               UNION ALL SELECT l.id FROM delivery l WHERE state <> 'repeated' AND \
               (rows_read, stored, duplicate, amended, rejected, skipped) IS NOT \
               (SELECT sum(rows_read), sum(stored), sum(duplicate), sum(amended), sum(rejected), sum(skipped) \
                  FROM document d WHERE d.delivery_id = l.id AND d.state <> 'superseded')";
    assert_eq!(site.query("cdr.db", odd), [""; 0], "{told}");
    let balance =
        "SELECT (SELECT sum(legs_added - legs_withdrawn) FROM document) - (SELECT count(*) FROM cdr)";
    assert_eq!(site.query("cdr.db", balance), ["0"], "{told}: legs added and withdrawn");
    let heads =
        "SELECT count(*) FROM (SELECT sum(call_head) s FROM cdr GROUP BY origin, call_group) WHERE s <> 1";
    assert_eq!(site.query("cdr.db", heads), ["0"], "{told}: one head a call");
    assert_eq!(site.query("cdr.db", "PRAGMA integrity_check"), ["ok"], "{told}");
}

/// Number, place in the sequence and leg number of every row.
fn places(site: &Site) -> Vec<String> {
    site.query("cdr.db", "SELECT id, change_seq, leg, stored_at, hex(identity) FROM cdr ORDER BY id")
}

#[test]
fn correcting_the_zone_of_ten_thousand_legs_leaves_ten_thousand() {
    let site = Site::new("UTC", "DE");
    import(&site, "a.csv", &rows(0..10_000), 0);
    rewrite_config(&site, "\"UTC\"", "\"Europe/Berlin\"");
    let before = (site.table(), places(&site));
    let preview = cdrd(&site, &["replay", "--rederive", "--preview", "--limit", "1"], 0);
    assert!(preview.contains("rows would be: 0 added, 10000 changed, 0 removed"), "{preview}");
    assert!(
        preview.contains("started_at: \"2025-07-10 08:00:00.000\" -> \"2025-07-10 06:00:00.000\""),
        "{preview}"
    );
    assert!(before == (site.table(), places(&site)), "a preview changes nothing");
    cdrd(&site, &["replay", "--rederive"], 0);
    assert_eq!(site.query("cdr.db", "SELECT count(*), count(DISTINCT id) FROM cdr"), ["10000|10000"]);
    assert_eq!(site.query("cdr.db", "SELECT DISTINCT utc_offset_min FROM cdr"), ["120"]);
    let again = cdrd(&site, &["replay", "--all"], 0);
    assert!(again.contains("rows: 0 added, 0 changed, 0 removed"), "read again it says the same: {again}");
    assert_sums(&site, "corrected");
    let fresh = Site::new("Europe/Berlin", "DE");
    import(&fresh, "a.csv", &rows(0..10_000), 0);
    assert!(fresh.table() == site.table(), "as if the zone had been right");
}

#[test]
fn a_replay_corrects_what_was_read_wrongly_in_place_and_tells_it_before() {
    let site = Site::new("UTC", "DE");
    import(&site, "a.csv", &rows(0..30), 0);
    import(&site, "b.csv", &rows(20..50), 0);
    let right = site.table();
    let before = places(&site);
    tamper(
        &site,
        "UPDATE cdr SET direction = 'transit' WHERE row_number % 10 = 1; DELETE FROM cdr WHERE id = 42;
                   UPDATE document SET legs_added = legs_added - 1 WHERE id = 2",
    );
    let wrong = (site.table(), places(&site));
    let deliveries = site.query("cdr.db", "SELECT id FROM delivery ORDER BY id");
    let preview = cdrd(&site, &["replay", &deliveries[0], "--preview", "--json"], 0);
    let lines: Vec<serde_json::Value> =
        preview.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect();
    // b.csv states legs of a.csv too: it must be read with it.
    let counts =
        serde_json::json!({ "done": false, "deliveries": 2, "added": 1, "changed": 5, "removed": 0 });
    assert_eq!(lines.last(), Some(&counts), "{preview}");
    assert_eq!(lines[0]["columns"], serde_json::json!(["direction"]));
    assert_eq!(
        (lines[0]["before"]["direction"].as_str(), lines[5]["change"].as_str()),
        (Some("transit"), Some("added"))
    );
    assert!(wrong == (site.table(), places(&site)), "a preview changes nothing");
    cdrd(&site, &["replay", &deliveries[0]], 0);
    assert_eq!(site.table(), right);
    let after = places(&site);
    let unmoved = before.iter().filter(|place| after.contains(place)).count();
    assert_eq!(unmoved, 50 - 6, "rows that were right stay where they are");
    let moved: Vec<&str> = after
        .iter()
        .filter(|place| !before.contains(place))
        .filter_map(|place| place.split('|').next())
        .collect();
    let known = |number: &&&str| before.iter().any(|place| place.starts_with(&format!("{number}|")));
    assert_eq!(
        (moved.len(), moved.iter().filter(known).count()),
        (6, 5),
        "a row that is corrected keeps its number"
    );
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM tombstone"), ["0"]);
    assert_sums(&site, "replayed");
    let runs = "SELECT number, run, state FROM document ORDER BY id";
    assert_eq!(site.query("cdr.db", runs), ["1|1|superseded", "1|1|superseded", "1|2|done", "1|2|done"]);
    let lineage = "SELECT count(*) FROM cdr JOIN document d ON d.id = cdr.document_id WHERE d.state = 'done'";
    assert_eq!(site.query("cdr.db", lineage), ["50"]);
    import(&site, "b.csv", &rows(20..50), 0);
    let last = "SELECT state FROM delivery ORDER BY id DESC LIMIT 1";
    assert_eq!(site.query("cdr.db", last), ["repeated"], "equal bytes are known");
}

#[test]
fn a_row_that_no_longer_reads_leaves_a_tombstone_and_a_rejection() {
    let site = Site::new("UTC", "DE");
    import(&site, "a.csv", &rows(0..9), 0);
    let id = site.query("cdr.db", "SELECT id FROM delivery");
    let other = Site::new("UTC", "DE");
    import(&other, "a.csv", &(rows(1..9) + &rows(20..21).replace("2025-07-10", "2025-99-10")), 3);
    swap_original(&site, &other);
    let told = cdrd(&site, &["replay", &id[0]], 3);
    assert!(told.contains("rows: 0 added, 0 changed, 1 removed") || told.contains(", 1 removed"), "{told}");
    assert_eq!(site.table(), other.table());
    assert_eq!(site.query("cdr.db", "SELECT reason FROM tombstone"), ["replayed"]);
    assert_eq!(
        site.query("cdr.db", "SELECT state, rows_read, stored, rejected FROM delivery"),
        ["done_with_rejects|9|8|1"]
    );
    assert_sums(&site, "one less");
    import(&site, "a.csv", &rows(0..9), 0);
    let last = "SELECT state, stored FROM delivery ORDER BY id DESC LIMIT 1";
    assert_eq!(
        site.query("cdr.db", last),
        ["done|1"],
        "the first bytes are not known any more: they are read"
    );
}

#[test]
fn nothing_is_done_where_an_original_is_missing() {
    let site = Site::new("UTC", "DE");
    import(&site, "a.csv", &rows(0..30), 0);
    import(&site, "b.csv", &rows(20..50), 0);
    let before = (site.table(), places(&site));
    let missing = site.query("cdr.db", "SELECT id FROM delivery ORDER BY id DESC LIMIT 1").remove(0);
    let chosen = site.query("cdr.db", "SELECT id FROM delivery ORDER BY id LIMIT 1").remove(0);
    for file in files_below(&site.path("var/originals")) {
        if file.to_string_lossy().contains(&missing) {
            fs::remove_file(file).expect("the folder is writable");
        }
    }
    let output = site.cdrd(&["replay", &chosen]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains(&format!("the original of delivery {missing}")), "{}", said(&output));
    assert!(before == (site.table(), places(&site)));
    assert_eq!(site.query("cdr.db", "SELECT DISTINCT state FROM document"), ["done"]);
    for arguments in [&["replay"][..], &["rejected", "retry"]] {
        assert_eq!(site.cdrd(arguments).status.code(), Some(2), "everything by mistake");
    }
}

#[test]
fn rejected_rows_get_their_outcome_once_and_the_sums_stay_right() {
    let site = Site::new("UTC", "DE");
    import(&site, "a.csv", &rows(0..60), 0);
    let right = site.table();
    reject(&site, "row_number % 5 = 0");
    let open = "SELECT count(*) FROM rejected WHERE resolved_at IS NULL";
    assert_eq!(site.query("cdr.db", open), ["8"]);
    let one = site.query("cdr.db", "SELECT min(id) FROM rejected").remove(0);
    let told = cdrd(&site, &["rejected", "retry", &one], 0);
    assert!(told.contains("\t1\t1\t0\t1\t"), "{told}");
    assert_eq!(site.query("cdr.db", open), ["7"], "only the one that was named");
    assert_sums(&site, "one");
    let none = cdrd(&site, &["rejected", "retry", "--reason", "row_empty"], 0);
    assert!(none.contains("no open rejection"), "{none}");
    cdrd(&site, &["rejected", "retry", "--all"], 0);
    assert_eq!(site.table(), right);
    assert_eq!(
        site.query("cdr.db", "SELECT state, rows_read, stored, rejected FROM delivery"),
        ["done|60|60|0"]
    );
    assert_eq!(site.query("cdr.db", "SELECT run FROM document"), ["1"], "counts belong to the run");
    assert_sums(&site, "all");
    import(&site, "a.csv", &rows(0..60), 0);
    let last = "SELECT state FROM delivery ORDER BY id DESC LIMIT 1";
    assert_eq!(site.query("cdr.db", last), ["repeated"], "now it ended well");
}

/// Puts the original of the other site's one delivery in the place of this one's: it stands for a format that reads
/// otherwise today.
fn swap_original(site: &Site, other: &Site) {
    let original = files_below(&site.path("var/originals")).remove(0);
    let otherwise = files_below(&other.path("var/originals")).remove(0);
    fs::copy(otherwise, original).expect("the folder is writable");
}

#[test]
fn a_document_that_reads_otherwise_is_left_to_a_replay() {
    let site = Site::new("UTC", "DE");
    import(&site, "a.csv", &rows(0..30), 0);
    reject(&site, "row_number % 5 = 0");
    let other = Site::new("UTC", "DE");
    import(&other, "a.csv", &rows(0..31), 0);
    let original = fs::read(files_below(&site.path("var/originals")).remove(0)).expect("it is there");
    swap_original(&site, &other);
    let before = (site.table(), places(&site));
    let told = cdrd(&site, &["rejected", "retry", "--all"], 3);
    let id = site.query("cdr.db", "SELECT id FROM delivery").remove(0);
    assert!(told.contains(&format!("its other rows read otherwise too: cdrd replay {id}")), "{told}");
    assert!(before == (site.table(), places(&site)));
    assert_sums(&site, "otherwise");
    for unknown in [&["rejected", "retry", "1", "999"][..], &["replay", &id, "01JQ8Z6T5Z9M3V0X4C2B1A7K8D"]] {
        let output = site.cdrd(unknown);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains("there is no"), "{}", said(&output));
    }
    assert!(before == (site.table(), places(&site)), "one that is unknown stops all");
    fs::write(files_below(&site.path("var/originals")).remove(0), original).expect("the folder is writable");
    cdrd(&site, &["rejected", "retry", "--all"], 0);
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["30"]);
}

/// A document that was known by its bytes has no statements of its own until it is read again.
#[test]
fn replays_of_what_came_in_several_envelopes_lose_nothing() {
    let site = Site::new("UTC", "DE");
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in [("a.csv", rows(0..30)), ("b.csv", rows(20..50))] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).expect("an archive in memory");
        archive.write_all(text.as_bytes()).expect("an archive in memory");
    }
    let archive = archive.finish().expect("an archive in memory").into_inner();
    import(&site, "a.csv", &rows(0..30), 0);
    fs::write(site.path("all.zip"), archive).expect("the folder is writable");
    cdrd(&site, &["import", "all.zip"], 0);
    import(&site, "a.csv", &rows(0..30), 0);
    let right = (site.table(), places(&site));
    let states =
        "SELECT delivery_id = (SELECT min(id) FROM delivery), number, state FROM document ORDER BY id";
    assert_eq!(site.query("cdr.db", states), ["1|1|done", "0|1|repeated", "0|2|done"]);
    let ids = site.query("cdr.db", "SELECT id FROM delivery ORDER BY id");
    assert_eq!(ids.len(), 3);
    // The plain file; the archive; the plain file again, by the delivery that the door knew.
    for id in [&ids[0], &ids[1], &ids[2]] {
        let told = cdrd(&site, &["replay", id], 0);
        assert!(told.contains("rows: 0 added, 0 changed, 0 removed"), "{told}");
        assert!(right == (site.table(), places(&site)), "{id}");
        assert_sums(&site, id);
    }
    cdrd(&site, &["import", "all.zip"], 0);
    let last = "SELECT state FROM delivery ORDER BY id DESC LIMIT 1";
    assert_eq!(site.query("cdr.db", last), ["repeated"]);
}

/// Without ids only their number tells equal rows apart: the one that is retried is the further one.
#[test]
fn a_retried_row_that_equals_a_stored_one_is_a_leg_of_its_own() {
    let site = Site::new("UTC", "DE");
    // No id and no second channel.
    let row = "\"\",\"0301234567\",\"201\",\"internal\",\"0301234567\",\"PJSIP/a-1\",\"\",\"Dial\",\"x\",\
               \"2025-07-10 08:00:00\",,\"2025-07-10 08:00:09\",9,0,\"NO ANSWER\",\"DOCUMENTATION\"";
    import(&site, "a.csv", &format!("{row}\n{row}\n"), 0);
    let right = site.table();
    assert_eq!(right.len(), 2);
    // The first of the two, so that the second was the only one when it was stored.
    tamper(
        &site,
        "INSERT INTO rejected (document_id, row_number, byte_offset, byte_length, verbatim, reason, message)
             SELECT document_id, row_number, byte_offset, byte_length, x'41', 'start_invalid', 'no time'
               FROM cdr WHERE leg = 0;
         UPDATE cdr SET (row_number, byte_offset, byte_length) = (SELECT row_number, byte_offset, byte_length
             FROM cdr other WHERE other.leg = 1) WHERE leg = 0;
         DELETE FROM cdr WHERE leg = 1;
         UPDATE cdr SET call_head = 1;
         UPDATE document SET stored = stored - 1, legs_added = legs_added - 1, rejected = 1;
         UPDATE delivery SET stored = stored - 1, rejected = 1, state = 'done_with_rejects'",
    );
    cdrd(&site, &["rejected", "retry", "--all"], 0);
    assert_eq!(site.table(), right);
    assert_sums(&site, "a copy");
}

#[test]
fn a_document_that_was_read_by_the_wrong_format_is_read_in_a_new_run() {
    let site = Site::new("UTC", "DE");
    rewrite_config(&site, "settle", "format = \"grandstream-web-csv\"\nsettle");
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for part in 0..3 {
        archive
            .start_file(format!("{part}.csv"), zip::write::SimpleFileOptions::default())
            .expect("an archive in memory");
        archive.write_all(rows(part * 20..part * 20 + 30).as_bytes()).expect("an archive in memory");
    }
    site.drop_file("a.zip", &archive.finish().expect("an archive in memory").into_inner());
    site.run_to_end();
    assert_eq!(site.query("cdr.db", "SELECT state, rejected FROM delivery"), ["rejected|0"]);
    cdrd(&site, &["rejected", "retry", "--all"], 3);
    let open = "SELECT count(*), max(document_id) FROM rejected WHERE resolved_at IS NULL";
    assert_eq!(site.query("cdr.db", open), ["3|3"], "as long as it is not mended no run begins");
    rewrite_config(&site, "format = \"grandstream-web-csv\"\n", "");
    let told = cdrd(&site, &["rejected", "retry", "--source", "inbox"], 0);
    assert!(told.contains("a.zip\t1\t1\t0\t30\t"), "{told}");
    assert_eq!(
        site.query("cdr.db", "SELECT state, rows_read, stored, duplicate FROM delivery"),
        ["done|90|70|20"]
    );
    let runs = "SELECT number, run, state, rows_read FROM document ORDER BY number, run";
    assert_eq!(
        site.query("cdr.db", runs),
        [
            "1|1|superseded|0",
            "1|2|done|30",
            "2|1|superseded|0",
            "2|2|done|30",
            "3|1|superseded|0",
            "3|2|done|30"
        ]
    );
    assert_eq!(site.query("cdr.db", open), ["0|"]);
    assert_sums(&site, "mended");
}

const RETRY: &[&str] = &["rejected", "retry", "--all"];
const REPLAY: &[&str] = &["replay", "--all"];
const REDERIVE: &[&str] = &["replay", "--rederive"];

/// Crash points of the mending hands, and which hand meets them. A site goes on from one to the next.
const POINTS: &[&[(&str, &[&str])]] = &[
    &[
        ("commit-before:2", RETRY),
        ("retry-committed", RETRY),
        ("retry-read", RETRY),
        ("commit-before:2", RETRY),
    ],
    &[("commit-after:2", RETRY), ("commit-before:5", RETRY)],
    &[
        ("replay-withdrawn", REPLAY),
        ("commit-inside:1", REPLAY),
        ("commit-inside:5", REPLAY),
        ("replay-read", REPLAY),
        ("commit-before:2", REPLAY),
        ("commit-after:2", REPLAY),
        ("replay-switched", REPLAY),
        ("commit-before:2", REDERIVE),
        ("commit-after:2", REDERIVE),
    ],
];

const HANDS: [&[&str]; 3] =
    [&["rejected", "retry", "--all"], &["replay", "--all"], &["replay", "--rederive"]];

/// A site whose zone and formats were wrong, and on which an earlier version misread and rejected rows; configured
/// rightly by now.
fn wronged() -> Site {
    let site = Site::new("UTC", "DE");
    let second = "[[source]]\nname = \"second\"\nkind = \"folder\"\norigin = \"pbx\"\npath = \"second\"\nsettle = \"150ms\"\n";
    let pinned = format!("{second}format = \"grandstream-web-csv\"\n");
    let config = fs::read_to_string(site.path("config.toml")).expect("the site has one");
    fs::write(site.path("config.toml"), config + &pinned).expect("the folder is writable");
    fs::create_dir(site.path("second")).expect("the folder is writable");
    site.drop_file("a.csv", rows(0..1500).as_bytes());
    site.run_to_end();
    for part in 0..4 {
        site.drop_file(&format!("b-{part}.csv"), rows(1400 + part * 70..1500 + part * 70).as_bytes());
    }
    fs::write(site.path("second/c.csv"), rows(1650..1800)).expect("the folder is writable");
    fs::write(site.path("second/d.csv"), rows(1750..1850)).expect("the folder is writable");
    site.run_to_end();
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM delivery WHERE state = 'rejected'"), ["2"]);
    // Rows that other files state too would be theirs now.
    reject(
        &site,
        "row_number % 4 = 0 AND delivery_id = (SELECT min(id) FROM delivery) AND row_number < 1400",
    );
    tamper(&site, "UPDATE cdr SET direction = 'transit' WHERE row_number % 3 = 1");
    rewrite_config(&site, "\"UTC\"", "\"Europe/Berlin\"");
    rewrite_config(&site, "format = \"grandstream-web-csv\"\n", "");
    site
}

/// The same files on a site that was right from the start.
fn right() -> Vec<String> {
    let site = Site::new("Europe/Berlin", "DE");
    import(&site, "all.csv", &rows(0..1850), 0);
    site.table()
}

/// Gives whether the command was still at work.
fn kill(site: &Site, hand: &[&str], after: Duration) -> bool {
    let mut child = site.command(hand).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    std::thread::sleep(after);
    let _ = child.kill();
    child.wait().expect("the child is ours").signal().is_some()
}

fn assert_mended(site: &Site, right: &[String], told: &str) {
    for hand in HANDS {
        cdrd(site, hand, 0);
        assert_sums(site, told);
    }
    assert!(site.table() == right, "{told}: another table");
    assert_eq!(
        site.query("cdr.db", "SELECT count(*) FROM rejected WHERE resolved_at IS NULL"),
        ["0"],
        "{told}"
    );
    assert_eq!(site.query("cdr.db", "SELECT DISTINCT state FROM delivery"), ["done"], "{told}");
    let rows = "SELECT sum(rows_read), sum(stored + duplicate + amended) FROM delivery";
    assert_eq!(site.query("cdr.db", rows), ["2150|2150"], "{told}");
}

#[test]
fn the_mending_hands_may_be_killed_anywhere() {
    let right = right();
    let undisturbed = wronged();
    assert_sums(&undisturbed, "wronged");
    assert_mended(&undisturbed, &right, "undisturbed");
    for points in POINTS {
        let site = wronged();
        for (point, hand) in *points {
            let output = site.command(hand).env("CDRD_CRASH", point).output().expect("it runs");
            assert_eq!(output.status.signal(), Some(9), "{point}, {hand:?}: {}", said(&output));
            assert_sums(&site, point);
            let half = "SELECT count(*) FROM document WHERE state = 'reading'";
            assert_eq!(site.query("cdr.db", half), ["0"], "{point}: half of it");
        }
        assert_mended(&site, &right, "named places");
    }
}

#[test]
fn mending_hands_killed_at_random_end_in_the_same_table() {
    let rounds: u64 = std::env::var("CDRD_RANDOM_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let right = right();
    let mut seed = u64::from(std::process::id()) << 20 | 1;
    let (mut kills, mut met) = (0, 0);
    while kills < rounds {
        let site = wronged();
        for _ in 0..rounds.min(20) {
            // xorshift: any spread of instants will do, and the seed in the message repeats it.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let hand = HANDS[usize::try_from(seed >> 40).unwrap_or(0) % HANDS.len()];
            met += u64::from(kill(&site, hand, Duration::from_millis(10 + seed % 450)));
            kills += 1;
            assert_sums(&site, &format!("{hand:?}, seed {seed}"));
        }
        assert_mended(&site, &right, &format!("random kills, seed {seed}"));
    }
    assert!(met > 0, "none of {kills} kills met a command at work");
}
