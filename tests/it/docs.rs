//! The documentation names what the program has: reason codes, tables, columns, message ids, keys of the log.

use super::site::{CDRD, files_below};
use cdrd::formats::Formats;
use cdrd::record::outcome::Reason;
use cdrd::store::DeliveryState;
use cdrd::telemetry;
use std::path::{Path, PathBuf};
use std::process::Command;

const LEGS: &str = include_str!("../../migrations/sqlite/0001_legs.sql");

#[test]
fn each_reason_code_is_explained_once_and_none_is_invented() {
    let page = include_str!("../../docs/reasons.md");
    let listed: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut known: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    let mut sorted = listed.clone();
    sorted.sort_unstable();
    known.sort_unstable();
    assert_eq!(sorted, known);
}

#[test]
fn each_format_is_fuzzed() {
    let script = include_str!("../../fuzz/run");
    let targets: Vec<&str> = script.split_whitespace().map(|word| word.trim_end_matches(')')).collect();
    for card in Formats::with([]).cards() {
        assert!(targets.contains(&card.id), "fuzz/run does not name {}", card.id);
    }
}

/// Every text file below a folder.
fn texts(folder: &Path) -> std::io::Result<Vec<(PathBuf, String)>> {
    let mut texts = Vec::new();
    for path in files_below(folder) {
        texts.push((path.clone(), std::fs::read_to_string(path)?));
    }
    Ok(texts)
}

#[test]
fn messages_and_documents_name_only_commands_that_exist() -> Result<(), Box<dyn std::error::Error>> {
    let help = Command::new(CDRD).arg("--help").output()?;
    let help = String::from_utf8(help.stdout)?;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"import"), "{help}");
    let repository = crate::site::repository("");
    let mut all = vec![(PathBuf::from("README.md"), include_str!("../../README.md").to_owned())];
    for folder in ["src", "docs", "systemd"] {
        all.extend(texts(&repository.join(folder))?);
    }
    for (path, text) in all {
        for named in text.split("`cdrd ").skip(1) {
            let word: String = named.chars().take_while(char::is_ascii_lowercase).collect();
            // An upper-case or dashed word is a placeholder or an option.
            assert!(word.is_empty() || commands.contains(&word.as_str()), "{}: `cdrd {word}", path.display());
        }
    }
    Ok(())
}

/// Tables of a migration and their columns.
fn tables(sql: &str) -> Vec<(&str, Vec<&str>)> {
    sql.split("CREATE TABLE ")
        .skip(1)
        .filter_map(|rest| {
            let (name, body) = rest.split_once(" (")?;
            let body = body.split("\n)").next()?;
            let columns = body
                .lines()
                .map(str::trim)
                .filter_map(|line| line.split_whitespace().next())
                .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit()))
                .collect();
            Some((name, columns))
        })
        .collect()
}

#[test]
fn each_table_is_described_and_of_the_public_ones_each_column() {
    let page = include_str!("../../docs/tables.md");
    let tables = tables(LEGS);
    assert!(
        tables.iter().any(|(name, columns)| *name == "cdr" && columns.len() > 60),
        "the migration was read"
    );
    // Columns of these are nobody's business.
    let internal = ["version", "layout", "summary", "call_link", "origin", "sequence", "hidden_session"];
    for (name, columns) in tables {
        assert!(page.contains(&format!("`{name}`")), "docs/tables.md lacks table {name}");
        if internal.contains(&name) {
            continue;
        }
        for column in columns {
            assert!(page.contains(&format!("`{column}`")), "docs/tables.md lacks {name}.{column}");
        }
    }
}

#[test]
fn the_operators_page_has_each_state_and_each_message_id() {
    let page = include_str!("../../docs/operating.md");
    for (kind, id) in telemetry::KINDS {
        assert!(page.contains(&format!("| {kind} | `{id}` |")), "{kind}");
    }
    for state in DeliveryState::ALL {
        assert!(page.contains(&format!("| {} |", state.word())), "{}", state.word());
    }
}
