//! The same sixty legs by every route, in halves, zipped, in any order: sixty rows, each column as an independent
//! reader (Python, in `fixtures/sixty/expected.py`) expects.

use crate::site::Site;
use serde_json::{Map, Value};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

fn fixture(name: &str) -> PathBuf {
    crate::site::repository("fixtures/sixty").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What the independent reader says about a file, sorted.
fn expected(file: &str) -> Vec<Map<String, Value>> {
    let output = Command::new("python3")
        .arg(fixture("expected.py"))
        .arg(fixture(file))
        .output()
        .expect("python3 is installed by tests/run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(object).collect()
}

fn object(line: &str) -> Map<String, Value> {
    match serde_json::from_str(line) {
        Ok(Value::Object(members)) => members,
        other => panic!("not an object: {other:?}"),
    }
}

/// The table as `sqlite3` prints it, with JSON columns parsed.
fn table(site: &Site, columns: &[String]) -> Vec<Map<String, Value>> {
    let members: Vec<String> = columns
        .iter()
        .map(|name| match name.as_str() {
            "extra" | "recordings" => format!("'{name}', json({name})"),
            _ => format!("'{name}', {name}"),
        })
        .collect();
    let sql = format!("SELECT json_object({}) FROM cdr", members.join(", "));
    site.query("cdr.db", &sql).iter().map(|line| object(line)).collect()
}

fn sorted(rows: &[Map<String, Value>], without: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            // Member order must not matter, so the members are sorted too.
            let mut members: Vec<String> = row
                .iter()
                .filter(|(name, _)| !without.contains(&name.as_str()))
                .map(|(name, value)| format!("{name}={}", canonical(value)))
                .collect();
            members.sort_unstable();
            members.join("\n  ")
        })
        .collect();
    lines.sort_unstable();
    lines
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<String> =
                members.iter().map(|(name, value)| format!("{name}:{}", canonical(value))).collect();
            members.sort_unstable();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

fn zipped(names: &[&str]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in names {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).expect("an archive in memory");
        archive.write_all(&bytes(name)).expect("an archive in memory");
    }
    archive.finish().expect("an archive in memory").into_inner()
}

/// Imports files one after another and compares the table with what `truth` says. Where several routes state a leg,
/// `extra` is a union and is compared member by member.
fn assert_sixty(files: &[(&str, Vec<u8>)], truth: &str, one_route: bool) {
    let told: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    let site = Site::new("Europe/Berlin", "DE");
    for (name, bytes) in files {
        let path = site.path(name);
        fs::write(&path, bytes).expect("the folder is writable");
        let output = site.cdrd(&["import", name]);
        assert!(output.status.success(), "{told:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let expected = expected(truth);
    assert_eq!(expected.len(), 60, "{truth}");
    let columns: Vec<String> = expected[0].keys().cloned().collect();
    let table = table(&site, &columns);
    let without: &[&str] = if one_route { &[] } else { &["extra"] };
    let (is, should) = (sorted(&table, without), sorted(&expected, without));
    for (is, should) in is.iter().zip(&should) {
        assert_eq!(is, should, "{told:?}");
    }
    assert_eq!(is.len(), 60, "{told:?}");
    assert_rest(&site, &columns);
    for row in &expected {
        // Every member of the best route's extra stands, under whichever row.
        let Some(Value::Object(members)) = row.get("extra") else { continue };
        let id = row["started_at"].as_str().zip(row["dst_channel"].as_str().or(Some("")));
        let found = table.iter().any(|other| {
            let same = other["started_at"].as_str().zip(other["dst_channel"].as_str().or(Some(""))) == id;
            same && members.iter().all(|(name, value)| other["extra"].get(name) == Some(value))
        });
        assert!(found, "{told:?}: extra of {id:?}");
    }
}

/// Columns of which the independent reader says nothing: labels, lineage and hashes, which differ from route to route, and
/// those that are checked here. A new column belongs to one of the two.
fn assert_rest(site: &Site, expected: &[String]) {
    let rest = "SELECT name FROM pragma_table_info('cdr') ORDER BY name";
    let rest: Vec<String> =
        site.query("cdr.db", rest).into_iter().filter(|name| !expected.contains(name)).collect();
    let known = "byte_length byte_offset call_head change_seq delivery_id document_id format id identity leg origin \
                 row_number source stated stored_at system tenant version_hash versions";
    assert_eq!(rest.join(" "), known);
    let same = "SELECT DISTINCT origin, tenant IS NULL, system, format LIKE 'grandstream-%' FROM cdr";
    assert_eq!(site.query("cdr.db", same), ["pbx|1|grandstream-ucm|1"]);
    let heads = "SELECT call_group FROM cdr AS leg GROUP BY call_group HAVING sum(call_head) <> 1 \
                 OR min(started_at) <> min(CASE call_head WHEN 1 THEN started_at END)";
    assert!(site.query("cdr.db", heads).is_empty(), "each call has one head, its earliest leg");
}

#[test]
fn each_route_alone_gives_what_the_independent_reader_expects() {
    for name in ["api.json", "api-flat.json", "api-response-envelope.json"] {
        assert_sixty(&[(name, bytes(name))], "api-flat.json", true);
    }
    for name in
        ["api.xml", "web-c.csv", "web-c-without-unique-id.csv", "web-b.csv", "web-d.csv", "legacy.csv"]
    {
        assert_sixty(&[(name, bytes(name))], name, true);
    }
}

#[test]
fn zipped_files_give_the_same_rows() {
    assert_sixty(&[("a.zip", zipped(&["api.json"]))], "api-flat.json", true);
    assert_sixty(
        &[("b.zip", zipped(&["web-b.csv", "legacy.csv", "api.json", "web-c.csv"]))],
        "api-flat.json",
        false,
    );
}

#[test]
fn overlapping_halves_in_both_orders_give_sixty_rows() {
    for (stem, ending, truth) in [
        ("api", "json", "api-flat.json"),
        ("api-flat", "json", "api-flat.json"),
        ("api", "xml", "api.xml"),
        ("web-c", "csv", "web-c.csv"),
        ("web-c-without-unique-id", "csv", "web-c-without-unique-id.csv"),
        ("web-b", "csv", "web-b.csv"),
        ("legacy", "csv", "legacy.csv"),
    ] {
        let first = format!("{stem}.first-half.{ending}");
        let second = format!("{stem}.second-half.{ending}");
        let (one, two) = ((first.as_str(), bytes(&first)), (second.as_str(), bytes(&second)));
        assert_sixty(&[one.clone(), two.clone()], truth, true);
        assert_sixty(&[two.clone(), one.clone(), two], truth, true);
    }
}

#[test]
fn all_routes_in_any_order_give_sixty_rows() {
    let names = [
        "api.json",
        "api.xml",
        "web-b.csv",
        "web-c.csv",
        "web-c-without-unique-id.csv",
        "web-d.csv",
        "legacy.csv",
    ];
    for turn in 0..names.len() {
        let mut order: Vec<&str> = names.to_vec();
        order.rotate_left(turn);
        if turn % 2 == 1 {
            order.reverse();
        }
        let files: Vec<(&str, Vec<u8>)> = order.iter().map(|name| (*name, bytes(name))).collect();
        assert_sixty(&files, "api-flat.json", false);
    }
    let halves = [
        "web-d.second-half.csv",
        "legacy.first-half.csv",
        "api.second-half.json",
        "web-b.csv",
        "api.first-half.json",
        "api.second-half.xml",
    ];
    let files: Vec<(&str, Vec<u8>)> = halves.iter().map(|name| (*name, bytes(name))).collect();
    assert_sixty(&files, "api-flat.json", false);
}

#[test]
fn the_newest_web_export_alone_gives_sixty_rows() {
    let site = Site::new("Europe/Berlin", "DE");
    fs::write(site.path("web-d.csv"), bytes("web-d.csv")).expect("the folder is writable");
    assert!(site.cdrd(&["import", "web-d.csv"]).status.success());
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["60"]);
    for order in
        [["web-d.first-half.csv", "web-d.second-half.csv"], ["web-d.second-half.csv", "web-d.first-half.csv"]]
    {
        let site = Site::new("Europe/Berlin", "DE");
        for name in order {
            fs::write(site.path(name), bytes(name)).expect("the folder is writable");
            assert!(site.cdrd(&["import", name]).status.success(), "{name}");
        }
        assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["60"], "{order:?}");
    }
}

#[test]
fn a_corrected_zone_corrects_the_rows_and_never_their_number() {
    let right = Site::new("Europe/Berlin", "DE");
    let site = Site::new("America/New_York", "DE");
    for name in ["api.json", "web-b.csv"] {
        for site in [&right, &site] {
            fs::write(site.path(name), bytes(name)).expect("the folder is writable");
            assert!(site.cdrd(&["import", name]).status.success());
        }
    }
    assert_ne!(site.table(), right.table());
    let faults = "SELECT count(*) FROM origin WHERE clock_fault LIKE '%+01:00%'";
    assert_eq!(site.query("cdr.db", faults), ["1"], "the ids tell that the zone is wrong");
    let config = fs::read_to_string(site.path("config.toml")).expect("our file");
    fs::write(site.path("config.toml"), config.replace("America/New_York", "Europe/Berlin"))
        .expect("our file");
    let output = site.cdrd(&["replay", "--rederive"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().nth(1), Some("pbx\tEurope/Berlin\t60"));
    assert_eq!(site.query("cdr.db", faults), ["0"], "the mended zone is no fault any more");
    assert_eq!(site.table(), right.table());
    // The same file under the corrected zone is read again and says nothing new.
    assert!(site.cdrd(&["import", "api.json"]).status.success());
    assert_eq!(site.table(), right.table());
}
