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
    let whole = Site::new("UTC", "GB");
    std::fs::write(whole.path(name), encoded(good)).expect("the folder is writable");
    assert_eq!(import(&whole, &whole.path(name)), Some(0));

    let site = Site::new("UTC", "GB");
    let spoiled = good.replace(GOOD, BAD);
    assert_ne!(spoiled, good, "{name} has rows to spoil");
    std::fs::write(site.path(name), encoded(&spoiled)).expect("the folder is writable");
    assert_eq!(import(&site, &site.path(name)), Some(3));
    let output = site.cdrd(&["rejected", "export", "--output", "to-mend"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = files_below(&site.path("to-mend"));
    assert_eq!(files.len(), 1);
    let file = &files[0];
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
