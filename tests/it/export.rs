//! Rejected rows are exported, mended and imported: each ends as the leg that it would have been, and nothing twice.

use crate::site::{Site, files_below};
use std::path::Path;

const GOOD: &str = "2025-03-12 09:15:40";
const BAD: &str = "2025-13-12 09:15:40";

fn fixture(path: &str) -> String {
    std::fs::read_to_string(crate::site::repository("fixtures").join(path)).expect("it is there")
}

fn wide(text: &str) -> Vec<u8> {
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

fn import(site: &Site, file: &Path) -> Option<i32> {
    site.cdrd(&["import", &file.display().to_string()]).status.code()
}

const TABLE: &str =
    "SELECT started_at, caller, callee, disposition, talk_s, extra FROM cdr ORDER BY identity, leg";

/// Spoils each start, exports what was rejected, mends it, imports it: the table is that of the whole file.
fn mend(name: &str, good: &str, encoded: impl Fn(&str) -> Vec<u8>) {
    mend_with("", name, good, encoded);
}

/// The same with more in the configuration.
fn mend_with(formats: &str, name: &str, good: &str, encoded: impl Fn(&str) -> Vec<u8>) {
    let site = || {
        let site = Site::new("UTC", "GB");
        let config = std::fs::read_to_string(site.path("config.toml")).expect("our file");
        std::fs::write(site.path("config.toml"), config + formats).expect("our file");
        site
    };
    let whole = site();
    std::fs::write(whole.path(name), encoded(good)).expect("the folder is writable");
    assert_eq!(import(&whole, &whole.path(name)), Some(0));

    let site = site();
    let spoiled = good.replace(GOOD, BAD);
    assert_ne!(spoiled, good, "{name} has rows to spoil");
    std::fs::write(site.path(name), encoded(&spoiled)).expect("the folder is writable");
    assert_eq!(import(&site, &site.path(name)), Some(3));
    let output = site.cdrd(&["rejected", "export", "--output", "to-mend"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = files_below(&site.path("to-mend"));
    assert_eq!(files.len(), 1);
    let file = &files[0];
    assert_eq!(file.extension(), Path::new(name).extension(), "{name}");
    let bytes = std::fs::read(file).expect("it was written");
    let mended = if bytes.starts_with(&[0xff, 0xfe]) {
        let units: Vec<u16> =
            bytes[2..].chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        wide(&String::from_utf16(&units).expect("it is UTF-16").replace(BAD, GOOD))
    } else {
        String::from_utf8(bytes).expect("it is UTF-8").replace(BAD, GOOD).into_bytes()
    };
    std::fs::write(file, mended).expect("the folder is writable");
    assert_eq!(import(&site, file), Some(0), "{name}");
    assert_eq!(site.query("cdr.db", TABLE), whole.query("cdr.db", TABLE), "{name}");
    // The whole file says nothing new now.
    std::fs::write(site.path(name), encoded(good)).expect("the folder is writable");
    assert_eq!(import(&site, &site.path(name)), Some(0));
    assert_eq!(site.query("cdr.db", TABLE), whole.query("cdr.db", TABLE), "{name}, once more");
}

#[test]
fn exported_rows_become_legs_when_they_are_mended() {
    let csv = fixture("tour/ucm-export.csv");
    mend("export.csv", &csv, |text| text.as_bytes().to_vec());
    mend("wide.csv", &csv, wide);
    let titled = format!("CDR Records\n{csv}");
    mend("titled.csv", &titled, |text| text.as_bytes().to_vec());
    let star =
        fixture("tour/Master.csv").replace("2025-02-30 10:40:00", GOOD).replace("2025-02-30", "2025-03-12");
    mend("Master.csv", &star, |text| text.as_bytes().to_vec());
    let api = fixture("desk/api.json").replace("2025-03-13 16:20:05", GOOD);
    mend("api.json", &api, |text| text.as_bytes().to_vec());
    mend("wide.json", &api, wide);
}

/// Rows of a document that encloses them are enclosed again.
#[test]
fn exported_elements_and_records_stand_where_they_stood() {
    let xml = fixture("formats/grandstream-cdrapi-xml/one-element-per-leg.xml");
    mend("api.xml", &xml.replace("2026-03-02 10:11:00", GOOD), |text| text.as_bytes().to_vec());
    let stanza = "[[format]]\nid = \"j\"\nsyntax = \"json\"\npath = \"answer.x\u{e9}[]\"\ndates = \"year-first\"\n\
                  match = [\"start\", \"caller_number\"]\n[format.columns]\nstart = \"a.when\"\ncaller_number = \"b\"\n";
    let record =
        |number: u32, start: &str| format!("{{\"b\": \"{number}\", \"a\": {{\"when\": \"{start}\"}}}}");
    let records = [record(1, GOOD), record(2, "2025-03-12 09:00:00"), record(3, GOOD)].join(", ");
    let json = format!("{{\"answer\": {{\"page\": 1, \"x\u{e9}\": [{records}]}}}}");
    mend_with(stanza, "records.json", &json, |text| text.as_bytes().to_vec());
    mend_with(stanza, "wide.json", &json, wide);
}

/// Exactly as sent: also the ends of their lines.
#[test]
fn exported_rows_end_as_they_were_sent() {
    for end in ["\n", "\r\n"] {
        let site = Site::new("UTC", "GB");
        let csv = fixture("tour/ucm-export.csv").replace("\r\n", "\n").replace(GOOD, BAD).replace('\n', end);
        std::fs::write(site.path("export.csv"), &csv).expect("the folder is writable");
        assert_eq!(import(&site, &site.path("export.csv")), Some(3));
        assert!(site.cdrd(&["rejected", "export", "--output", "to-mend"]).status.success());
        let exported = std::fs::read_to_string(&files_below(&site.path("to-mend"))[0]).expect("it is UTF-8");
        assert!(exported.lines().count() > 1);
        for line in exported.split_inclusive('\n') {
            assert!(csv.contains(line), "{line:?}");
        }
    }
}

/// What `rejected show` marks in the last line that it prints.
fn shown(site: &Site, id: &str) -> String {
    let output = site.cdrd(&["rejected", "show", id]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("it is text");
    text.trim_end().lines().last().unwrap_or_default().to_owned()
}

/// Also where no row of the document was stored, so that nothing is known but its own header.
#[test]
fn the_field_is_marked_where_the_document_has_it() {
    let stanza = |id: &str, more: &str, start: &str| {
        format!(
            "[[format]]\nid = \"{id}\"\n{more}dates = \"%Y-%m-%d %H:%M:%S\"\nmatch = [\"start\", \"caller_number\"]\n\
             [format.columns]\nstart = {start}\ncaller_number = \"Name\"\n"
        )
    };
    let formats = stanza("quoted", "separator = \";\"\nquote = \"'\"\n", "\"When\"")
        + &stanza("joined", "separator = \"|\"\n", "{ join = [\"Date\", \"Time\"] }")
        + &stanza("nested", "syntax = \"json\"\n", "\"a.when\"");
    let site = Site::new("UTC", "GB");
    let config = std::fs::read_to_string(site.path("config.toml")).expect("our file");
    std::fs::write(site.path("config.toml"), config + &formats).expect("our file");
    let xml = fixture("formats/grandstream-cdrapi-xml/one-element-per-leg.xml").replacen(
        "2026-03-02 10:11:00",
        "x",
        1,
    );
    for (name, text, marked) in [
        ("quoted.csv", "Name;When;X\n'a;b';bad;c\n", "'a;b';>>>bad<<<;c"),
        ("joined.csv", "Time|Name|Date\n10:00|1|2025-13-02\n", ">>>10:00<<<|1|>>>2025-13-02<<<"),
        (
            "nested.json",
            r#"{"a":{"x":"a.when","when":"y"},"Name":"1"}"#,
            r#"{"a":{"x":"a.when",>>>"when":"y"<<<},"Name":"1"}"#,
        ),
        ("legs.xml", &xml, "</lastdata>>>><start>x</start><<<<answer>"),
    ] {
        std::fs::write(site.path(name), text).expect("the folder is writable");
        assert_eq!(import(&site, &site.path(name)), Some(3), "{name}");
        let id = site.query("cdr.db", "SELECT max(id) FROM rejected");
        let line = shown(&site, &id[0]);
        assert!(line.contains(marked), "{name}: {line}");
    }
}
