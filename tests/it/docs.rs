//! The documentation names what the program has: reason codes, tables, columns, message ids, keys of the log.

use cdrd::record::outcome::Reason;
use cdrd::store::DeliveryState;
use cdrd::telemetry;

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
