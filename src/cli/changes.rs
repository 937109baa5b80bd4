//! What a replay changes, as a person reads it: counts, then rows with what was and what is.

use super::screen::{Screen, cell};
use crate::store::query::Value;
use crate::store::{RowChange, Switched};
use serde_json::{Map, json};

/// Columns that tell a person which leg it is.
const NAMED: [&str; 6] = ["started_at", "direction", "disposition", "caller", "callee", "duration_s"];

/// Shows the changes; `done` says whether they were made.
pub(super) fn show(switched: &Switched, done: bool, screen: &mut Screen) -> std::io::Result<()> {
    let would = if done { "" } else { " would be" };
    let Switched { added, changed, removed, .. } = switched;
    screen.line(&format!("rows{would}: {added} added, {changed} changed, {removed} removed"))?;
    for change in &switched.rows {
        match (&change.before, &change.after) {
            (Some(before), None) => screen.line(&format!("- {}", named(switched, before)))?,
            (None, Some(after)) => screen.line(&format!("+ {}", named(switched, after)))?,
            _ => {
                let Some(before) = &change.before else { continue };
                screen.line(&format!("~ {}", named(switched, before)))?;
                for (name, was, is) in differing(switched, change) {
                    screen.line(&format!("    {name}: {} -> {}", quoted(was), quoted(is)))?;
                }
            }
        }
    }
    let told = u64::try_from(switched.rows.len()).unwrap_or(u64::MAX);
    let more = (added + changed + removed).saturating_sub(told);
    if more > 0 && told > 0 {
        screen.line(&format!("and {more} more; --limit shows more of each kind"))?;
    }
    Ok(())
}

/// The same as JSON lines, the counts last.
pub(super) fn show_json(
    switched: &Switched,
    deliveries: usize,
    done: bool,
    screen: &mut Screen,
) -> std::io::Result<()> {
    for change in &switched.rows {
        let object = |row: &Option<Vec<Value>>| {
            row.as_ref().map(|row| super::screen::json_object(&switched.columns, row))
        };
        let kind = match (&change.before, &change.after) {
            (Some(_), None) => "removed",
            (None, _) => "added",
            _ => "changed",
        };
        let columns: Vec<&str> = differing(switched, change).map(|(name, ..)| name).collect();
        let mut line = Map::new();
        line.insert("change".to_owned(), kind.into());
        if kind == "changed" {
            line.insert("columns".to_owned(), columns.into());
        }
        line.insert("before".to_owned(), object(&change.before).into());
        line.insert("after".to_owned(), object(&change.after).into());
        screen.json_value(&line.into())?;
    }
    let Switched { added, changed, removed, .. } = switched;
    screen.json_value(&json!({
        "done": done, "deliveries": deliveries, "added": added, "changed": changed, "removed": removed
    }))
}

fn named(switched: &Switched, row: &[Value]) -> String {
    let cells = NAMED.iter().filter_map(|name| {
        let place = switched.columns.iter().position(|column| column == name)?;
        Some(cell(row.get(place)?)).filter(|cell| !cell.is_empty())
    });
    cells.collect::<Vec<_>>().join("  ")
}

fn differing<'s>(
    switched: &'s Switched,
    change: &'s RowChange,
) -> impl Iterator<Item = (&'s str, &'s Value, &'s Value)> {
    let pair = change.before.as_ref().zip(change.after.as_ref());
    let values = pair.into_iter().flat_map(|(before, after)| before.iter().zip(after));
    let named = switched.columns.iter().map(String::as_str).zip(values);
    named.filter(|(_, (was, is))| was != is).map(|(name, (was, is))| (name, was, is))
}

fn quoted(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Text(_) => format!("\"{}\"", cell(value)),
        _ => cell(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::io::Write;
    use std::rc::Rc;

    #[derive(Clone, Default)]
    struct Sink(Rc<RefCell<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn changed_columns_are_named_with_what_was_and_what_is() -> std::io::Result<()> {
        let row =
            |caller: &str, talk: i64| vec![Value::Text(caller.to_owned()), Value::Integer(talk), Value::Null];
        let switched = Switched {
            added: 1,
            changed: 1,
            removed: 3,
            columns: ["caller", "talk_s", "queue"].map(str::to_owned).to_vec(),
            rows: vec![
                RowChange { before: Some(row("201", 4)), after: None },
                RowChange { before: Some(row("202", 4)), after: Some(row("20\u{1b}2", 4)) },
                RowChange { before: None, after: Some(row("203", 4)) },
            ],
        };
        let sink = Sink::default();
        let mut screen = Screen::plain(Box::new(sink.clone()));
        show(&switched, false, &mut screen)?;
        show_json(&switched, 2, false, &mut screen)?;
        screen.finish()?;
        let text = String::from_utf8_lossy(&sink.0.borrow()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..6],
            [
                "rows would be: 1 added, 1 changed, 3 removed",
                "- 201",
                "~ 202",
                "    caller: \"202\" -> \"20\\x1b2\"",
                "+ 203",
                "and 2 more; --limit shows more of each kind",
            ]
        );
        assert!(
            lines[7].starts_with(r#"{"after":{"caller":"20\u001b2","#)
                || lines[7].contains(r#""columns":["caller"]"#)
        );
        assert!(lines[9].contains(r#""removed":3"#) && lines[9].contains(r#""done":false"#));
        Ok(())
    }
}
