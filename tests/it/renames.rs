//! What was accepted under an origin's former name belongs to the origin as it is called now.

use crate::site::{Site, asterisk_rows};
use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Renames the origin, as docs/operating.md says.
fn rename(site: &Site) {
    let path = site.path("config.toml");
    let config = fs::read_to_string(&path).expect("the site has one");
    let config = config
        .replace("name = \"pbx\"\n", "name = \"hq\"\nformerly = \"pbx\"\n")
        .replace("origin = \"pbx\"", "origin = \"hq\"");
    fs::write(path, config).expect("the folder is writable");
}

fn origins(site: &Site) -> Vec<String> {
    site.query("cdr.db", "SELECT origin, count(*) FROM cdr GROUP BY origin")
}

#[test]
fn what_waits_while_its_origin_is_renamed_is_stored_once_under_the_new_name() {
    let site = Site::new("UTC", "DE");
    site.drop_file("a.csv", asterisk_rows(0..5).as_bytes());
    site.run_to_end();
    site.drop_file("b.csv", asterisk_rows(3..9).as_bytes());
    let mut daemon = site.start(Some("accept-durable"));
    daemon.0.wait().expect("the child is ours");
    rename(&site);
    site.run_to_end();
    assert_eq!(origins(&site), ["hq|9"]);
    assert_eq!(site.query("cdr.db", "SELECT DISTINCT origin FROM delivery"), ["hq"]);
    site.drop_file("c.csv", asterisk_rows(0..10).as_bytes());
    site.run_to_end();
    assert_eq!(origins(&site), ["hq|10"]);
}

#[test]
fn a_file_that_grows_goes_on_under_the_new_name_of_its_origin() {
    let site = Site::new("UTC", "DE");
    let path = site.path("config.toml");
    let config = fs::read_to_string(&path).expect("the site has one");
    let growing = "mode = \"append\"\nfiles = [\"Master.csv\"]\nsettle = \"150ms\"";
    fs::write(path, config.replace("settle = \"150ms\"", growing)).expect("the folder is writable");
    let file = site.path("inbox/Master.csv");
    fs::write(&file, asterisk_rows(0..5)).expect("the folder is writable");
    let until = |rows: &str| {
        let daemon = site.start(None);
        let deadline = Instant::now() + Duration::from_mins(1);
        while site.query_now("cdr.db", "SELECT count(*) FROM cdr").as_deref() != Some(rows) {
            assert!(Instant::now() < deadline, "not {rows} rows in a minute:\n{}", site.log());
            std::thread::sleep(Duration::from_millis(30));
        }
        site.stop(daemon);
    };
    until("5");
    rename(&site);
    let mut appended = fs::OpenOptions::new().append(true).open(file).expect("it is there");
    appended.write_all(asterisk_rows(5..9).as_bytes()).expect("the folder is writable");
    until("9");
    assert_eq!(origins(&site), ["hq|9"]);
    site.drop_file("again.csv.moved", asterisk_rows(0..9).as_bytes());
    fs::rename(site.path("inbox/again.csv.moved"), site.path("again.csv")).expect("it is there");
    assert!(site.cdrd(&["import", "again.csv"]).status.success(), "{}", site.log());
    assert_eq!(origins(&site), ["hq|9"]);
}
