//! Fifty files that are no CDRs: no format may claim one, and each is kept as a rejected document with its reason.

use crate::site::{Site, files_below};
use std::fs;

fn strangers() -> Vec<std::path::PathBuf> {
    let mut files = files_below(&crate::site::repository("fixtures/not-cdr"));
    files.sort();
    files
}

#[test]
fn explain_claims_none_of_them() {
    let site = Site::new("Europe/Berlin", "DE");
    let files = strangers();
    assert!(files.len() >= 50, "only {} files", files.len());
    for file in files {
        let path = file.to_str().expect("fixture names are UTF-8");
        let output = site.cdrd(&["explain", path, "--json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        let empty = fs::metadata(&file).is_ok_and(|data| data.len() == 0);
        let code = output.status.code();
        assert_eq!(
            code,
            Some(if empty { 0 } else { 3 }),
            "{path}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for line in text.lines() {
            let document: serde_json::Value = serde_json::from_str(line).expect("one JSON object a document");
            assert!(document["format"].is_null(), "{path} is claimed: {line}");
        }
    }
}

#[test]
fn the_daemon_keeps_each_as_a_rejected_document() {
    let site = Site::new("Europe/Berlin", "DE");
    let files = strangers();
    for file in &files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("fixture names are UTF-8");
        site.drop_file(name, &fs::read(file).expect("a fixture"));
    }
    site.run_to_end();
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["0"]);
    let states = "SELECT count(*) FROM delivery WHERE state NOT IN ('rejected', 'empty')";
    assert_eq!(
        site.query("cdr.db", states),
        ["0"],
        "{:?}",
        site.query("cdr.db", "SELECT name, state FROM delivery")
    );
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM delivery"), [files.len().to_string()]);
    let list = site.cdrd(&["rejected", "list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("format_unknown"));
}
