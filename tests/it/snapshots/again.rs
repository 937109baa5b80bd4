//! What is read again shows what it changes; and the bytes, scripts and pages that are made for other programs.

use super::{check, on_terminal, piped, stored};
use crate::site::Site;

const LIST: &str = "Id,When,From,Back,To,Kind,Seconds\n\
    1,2025-03-12 10:00:00,201,211,301,call,60\n\
    2,2025-03-12 10:01:00,202,202,302,probe,1\n\
    3,2025-03-12 10:02:00,203,203,303,test,5\n\
    4,12.03.2025 10:03,204,204,304,call,60\n\
    5,2025-03-12 10:04:00,205,205,305,call,60\n";

/// Takes `skip` for no call, and the number of who called from this column.
fn stanza(skip: &str, caller: &str, dates: &str) -> String {
    format!(
        "[[format]]\nid = \"list\"\nmatch = \"unique_id\"\ndates = {dates}\nskip = [{{ column = \"Kind\", equals = \"{skip}\" }}]\n\
         [format.columns]\nunique_id = \"Id\"\nstart = \"When\"\ncaller_number = \"{caller}\"\ncallee_number = \"To\"\n\
         duration = \"Seconds\"\n"
    )
}

fn configure(site: &Site, before: &str, stanza: &str) {
    std::fs::write(site.path("config.toml"), format!("{before}{stanza}")).expect("our file");
}

#[test]
fn replay_and_retry() {
    let site = Site::new("Europe/London", "GB");
    let before = std::fs::read_to_string(site.path("config.toml")).expect("our file");
    let written = "\"%Y-%m-%d %H:%M:%S\"";
    configure(&site, &before, &stanza("probe", "From", written));
    std::fs::write(site.path("list.csv"), LIST).expect("the folder is writable");
    let mut parts = vec![piped(&site, &["import", "list.csv"])];
    let id = site.query("cdr.db", "SELECT id FROM delivery").remove(0);
    for arguments in [
        ["rejected", "retry"].as_slice(),
        &["rejected", "retry", "4711"],
        &["rejected", "retry", "--all"],
        &["rejected", "retry", "1", "--json"],
        &["replay"],
        &["replay", "01JQ8Z6T5Z9M3V0X4C2B1A7K8D"],
        &["replay", &id, "--preview"],
    ] {
        parts.push(piped(&site, arguments));
    }
    parts.push("(the configuration is changed)\n\n".to_owned());
    configure(&site, &before, &stanza("test", "Back", &format!("[{written}, \"%d.%m.%Y %H:%M\"]")));
    for arguments in [
        ["replay", &id, "--preview"].as_slice(),
        &["replay", &id, "--preview", "--json"],
        &["replay", "--source", "import", "--preview", "--limit", "1"],
        &["replay", "--source", "nowhere"],
        &["replay", "--until", "2025-01-01"],
        &["rejected", "retry", "--reason", "start_invalid"],
        &["rejected", "list"],
        &["replay", "--origin", "pbx", "--since", "2025-01-01"],
        &["replay", &id],
        &["calls"],
    ] {
        parts.push(piped(&site, arguments));
    }
    parts.push("(and changed back)\n\n".to_owned());
    configure(&site, &before, &stanza("probe", "From", written));
    parts.push(on_terminal(&site, 80, &["replay", &id, "--preview"]));
    check(&site, "again", &parts);
}

#[test]
fn bytes_for_other_programs() {
    let site = stored();
    let id = site.query("cdr.db", "SELECT id FROM delivery ORDER BY id LIMIT 1 OFFSET 1").remove(0);
    let nested = site.query("cdr.db", "SELECT id FROM delivery ORDER BY id DESC LIMIT 1").remove(0);
    let head = |arguments: &[&str], lines: usize| {
        let text = piped(&site, arguments).replace(env!("CARGO_PKG_VERSION"), "0.0.0");
        text.split_inclusive('\n').take(lines + 1).collect::<String>() + "...\n\n"
    };
    let parts = [
        head(&["original", &id], 2),
        piped(&site, &["original", &nested, "--document", "2"]),
        piped(&site, &["original", &nested, "--document", "9"]),
        piped(&site, &["original", &id, "--output", "copy.csv"]),
        piped(&site, &["original", &id, "--output", "copy.csv"]),
        head(&["completions", "bash"], 24),
        head(&["man"], 12),
    ];
    assert_eq!(super::read(&site, "copy.csv"), super::read(&site, "Master.csv"));
    check(&site, "bytes", &parts);
}
