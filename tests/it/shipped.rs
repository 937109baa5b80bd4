//! Mappings that are shipped beside the program: each loads as it stands and reads the file beside it to the rows beside it.

use crate::site::Site;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

const SHOWN: &str = "started_at, ended_at, duration_s, talk_s, direction, disposition, caller, callee, caller_name, did, \
                     unique_id, linked_id, trunk_in, trunk_out, hangup_text, released_by, cost, currency";

fn mappings() -> Vec<PathBuf> {
    let folder = crate::site::repository("mappings");
    let files =
        fs::read_dir(&folder).expect("the folder is there").map(|file| file.expect("an entry").path());
    let mut stanzas: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    stanzas.sort();
    assert!(stanzas.len() >= 3, "mappings are missing");
    stanzas
}

#[test]
fn each_shipped_mapping_reads_its_sample() {
    for stanza in mappings() {
        let site = Site::new("Europe/London", "GB");
        let config = fs::read_to_string(site.path("config.toml")).expect("our file");
        let mapping = fs::read_to_string(&stanza).expect("our file");
        fs::write(site.path("config.toml"), format!("{config}{mapping}")).expect("our file");
        let sample =
            ["csv", "json"].map(|end| stanza.with_extension(end)).into_iter().find(|path| path.exists());
        let sample = sample.unwrap_or_else(|| panic!("{} has no sample", stanza.display()));
        let name = sample.file_name().and_then(|name| name.to_str()).expect("our name");
        fs::copy(&sample, site.path(name)).expect("the folder is writable");
        let output = site.cdrd(&["import", name]);
        assert_eq!(output.status.code(), Some(0), "{}: {output:?}", stanza.display());
        let members: Vec<String> = SHOWN.split(", ").map(|column| format!("'{column}', {column}")).collect();
        let sql = format!("SELECT json_object({}) FROM cdr ORDER BY row_number", members.join(", "));
        let rows = site.query("cdr.db", &sql);
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| {
                let mut row: Value = serde_json::from_str(row).expect("sqlite writes JSON");
                row.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
                row
            })
            .collect();
        let beside = stanza.with_extension("rows.json");
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            let text = serde_json::to_string_pretty(&rows).expect("values are JSON") + "\n";
            fs::write(&beside, text).expect("the folder is writable");
        }
        let expected: Vec<Value> =
            serde_json::from_slice(&fs::read(&beside).expect("rows beside it")).expect("JSON");
        assert_eq!(rows, expected, "{}", stanza.display());
    }
}
