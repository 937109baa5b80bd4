//! `cdrd calls ID --lineage`: every statement that a leg was made of, what each one changed, and which one each column
//! comes from. Folds the statements as the store does and shows where the row differs from that.

use super::deliveries::second;
use super::screen::{Screen, Tone, cell, json_object};
use super::{Exit, Loaded, beside, calls, numbers};
use crate::dedup;
use crate::record::cdr::{Cdr, Leg, TextColumn};
use crate::record::delivery::{printable, shown};
use crate::record::port::Derive as _;
use crate::store::query::{Query as _, Statement, Table, Value};
use crate::store::sqlite::query::SqliteQuery;
use anyhow::bail;
use serde_json::json;
use std::collections::BTreeMap;

/// Name and value of each column that a record gives; members of `extra` are columns of their own.
type Columns = Vec<(String, serde_json::Value)>;

/// One leg taken apart.
struct Lineage {
    statements: Vec<Statement>,
    /// What each statement changed of the row made by those before: column, before, after.
    changes: Vec<Vec<(String, serde_json::Value, serde_json::Value)>>,
    /// The row's columns with the place of the statement that each comes from, if it is from one alone.
    columns: Vec<(String, serde_json::Value, Option<usize>)>,
    /// Columns that the row has otherwise: name and what the row has.
    stored_otherwise: Vec<(String, String)>,
}

/// Shows the lineage of each leg that was found.
pub fn show(
    legs: &Table,
    loaded: &Loaded,
    query: &SqliteQuery,
    as_json: bool,
    screen: &mut Screen,
) -> anyhow::Result<Exit> {
    let engine = numbers::engine(loaded, &query.origins()?)?;
    for row in &legs.rows {
        let card = |id: &str| Some(loaded.formats.by_id(id)?.card());
        let statements = query.statements(legs.value(row, "id").integer(), &card)?;
        let mut derived = Vec::new();
        for statement in &statements {
            match engine.derive(statement.raw.clone(), &statement.origin, &statement.source) {
                Ok(leg) => derived.push((leg, statement.version_hash)),
                Err(rejection) => bail!(
                    "row {} of delivery {} is stored and can no longer be read: {}",
                    statement.raw.position.row,
                    statement.delivery,
                    rejection.message
                ),
            }
        }
        let lineage = Lineage::new(statements, &derived, legs, row);
        if as_json {
            screen.json_value(&lineage.as_json(legs, row))?;
        } else {
            lineage.print(legs, row, screen)?;
        }
    }
    Ok(Exit::Done)
}

fn columns(cdr: &Cdr) -> Columns {
    let mut columns = Columns::new();
    for (name, value) in beside::columns(cdr) {
        match value.as_str().filter(|_| name == TextColumn::Extra.name()).map(serde_json::from_str) {
            Some(Ok(serde_json::Value::Object(members))) => {
                columns.extend(members.into_iter().map(|(member, value)| (format!("extra.{member}"), value)));
            }
            _ => columns.push((name.to_owned(), value)),
        }
    }
    columns
}

fn value_of<'c>(columns: &'c Columns, name: &str) -> Option<&'c serde_json::Value> {
    columns.iter().find(|(other, _)| other == name).map(|(_, value)| value)
}

impl Lineage {
    fn new(statements: Vec<Statement>, derived: &[(Leg, [u8; 16])], legs: &Table, row: &[Value]) -> Self {
        let versions: Vec<(&Leg, [u8; 16])> = derived.iter().map(|(leg, hash)| (leg, *hash)).collect();
        let mut before = Columns::new();
        let mut changes = Vec::new();
        for count in 1..=versions.len() {
            let after = columns(&dedup::fold(&versions[..count]));
            changes.push(difference(&before, &after));
            before = after;
        }
        let own: Vec<Columns> = derived.iter().map(|(leg, _)| columns(&leg.cdr)).collect();
        let order = dedup::ranked(&versions);
        let from = |name: &str, value: &serde_json::Value| {
            order.iter().copied().find(|place| value_of(&own[*place], name) == Some(value))
        };
        let stored_otherwise = stored_otherwise(&dedup::fold(&versions), legs, row);
        let columns = before.into_iter().map(|(name, value)| {
            let place = from(&name, &value);
            (name, value, place)
        });
        Self { statements, changes, columns: columns.collect(), stored_otherwise }
    }

    fn print(&self, legs: &Table, row: &[Value], screen: &mut Screen) -> std::io::Result<()> {
        let cells = calls::shown(legs, row);
        let id = legs.value(row, "id").integer();
        let title = match cells.as_slice() {
            [started, direction, disposition, from, to, ..] => {
                format!("{started}  {direction} {disposition}  {from} to {to}")
            }
            _ => String::new(),
        };
        screen.toned((Tone::Heading, &format!("leg {id}  ")), (Tone::Plain, &title))?;
        for (place, (statement, changes)) in self.statements.iter().zip(&self.changes).enumerate() {
            screen.line("")?;
            print_statement(place, statement, screen)?;
            let what = if place == 0 { "gave" } else { "changed" };
            screen.hanging(&format!("  {what:<9} "), &said(place, changes))?;
        }
        screen.line("")?;
        screen.line(&screen.paint(Tone::Heading, "columns"))?;
        let longest = self.columns.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
        for (name, value, from) in &self.columns {
            let from = match from {
                _ if self.statements.len() < 2 => String::new(),
                Some(place) => format!("  (statement {})", place + 1),
                None => "  (from all together)".to_owned(),
            };
            screen.hanging(&format!("  {:<longest$}  ", shown(name)), &format!("{}{from}", plain(value)))?;
        }
        for (name, stored) in &self.stored_otherwise {
            let text = format!(
                "{name} is stored as {}: the configuration has changed since; `cdrd replay --rederive` corrects rows",
                printable(stored.as_bytes())
            );
            screen.toned((Tone::Warning, "  differs  "), (Tone::Plain, &text))?;
        }
        Ok(())
    }

    fn as_json(&self, legs: &Table, row: &[Value]) -> serde_json::Value {
        let statements = self.statements.iter().zip(&self.changes).map(|(statement, changes)| {
            let written: serde_json::Map<String, serde_json::Value> =
                statement.raw.columns().map(|(name, _, value)| (name.to_owned(), json!(value))).collect();
            let changed: Vec<_> = changes
                .iter()
                .map(|(name, from, to)| json!({"column": name, "from": from, "to": to}))
                .collect();
            json!({
                "origin": statement.origin, "source": statement.source, "format": statement.raw.layout.card.id,
                "delivery_id": statement.delivery, "delivery": statement.delivery_name,
                "received_at": statement.received_at, "document": statement.document_number,
                "path": statement.document_path, "row": statement.raw.position.row,
                "byte_offset": statement.raw.position.offset, "byte_length": statement.raw.position.length,
                "stored_at": statement.stored_at, "written": written, "changed": changed,
            })
        });
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|(name, value, from)| json!({"column": name, "value": value, "statement": from.map(|place| place + 1)}))
            .collect();
        let differs: BTreeMap<&String, &String> =
            self.stored_otherwise.iter().map(|(name, stored)| (name, stored)).collect();
        json!({
            "leg": json_object(&legs.columns, row), "statements": statements.collect::<Vec<_>>(), "columns": columns,
            "stored_otherwise": differs,
        })
    }
}

fn print_statement(place: usize, statement: &Statement, screen: &mut Screen) -> std::io::Result<()> {
    let position = statement.raw.position;
    let number = place + 1;
    let title =
        format!("{} from source {}", statement.raw.layout.card.id, printable(statement.source.as_bytes()));
    screen.toned((Tone::Heading, &format!("statement {number}  ")), (Tone::Plain, &title))?;
    let mut fact = |name: &str, text: &str| screen.hanging(&format!("  {name:<9} "), text);
    fact("delivery", &format!("{} {}", statement.delivery, shown(&statement.delivery_name)))?;
    fact("received", &second(&statement.received_at))?;
    let path = match statement.document_path.as_str() {
        "" => String::new(),
        path => format!(" ({})", shown(path)),
    };
    let place = format!(
        "document {}{path}, row {}, bytes {} to {}",
        statement.document_number,
        position.row,
        position.offset,
        position.offset + position.length
    );
    fact("place", &place)
}

fn said(place: usize, changes: &[(String, serde_json::Value, serde_json::Value)]) -> String {
    if place == 0 {
        let names: Vec<String> = changes.iter().map(|(name, ..)| shown(name)).collect();
        return names.join(", ");
    }
    if changes.is_empty() {
        return "nothing: every column stayed".to_owned();
    }
    let said = changes.iter().map(|(name, from, to)| match from {
        serde_json::Value::Null => format!("{} {} (was blank)", shown(name), plain(to)),
        from => format!("{} {} (was {})", shown(name), plain(to), plain(from)),
    });
    said.collect::<Vec<_>>().join(", ")
}

/// A value on one line, safe for a terminal.
fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "blank".to_owned(),
        serde_json::Value::String(text) => printable(text.as_bytes()),
        other => printable(other.to_string().as_bytes()),
    }
}

/// Columns that changed, in the order of the later row, then those that went.
fn difference(before: &Columns, after: &Columns) -> Vec<(String, serde_json::Value, serde_json::Value)> {
    let null = serde_json::Value::Null;
    let mut changes = Vec::new();
    for (name, value) in after {
        let old = value_of(before, name).unwrap_or(&null);
        if old != value {
            changes.push((name.clone(), old.clone(), value.clone()));
        }
    }
    for (name, value) in before.iter().filter(|(name, _)| value_of(after, name).is_none()) {
        changes.push((name.clone(), value.clone(), null.clone()));
    }
    changes
}

/// Columns of the stored row that are not what its statements make now.
fn stored_otherwise(folded: &Cdr, legs: &Table, row: &[Value]) -> Vec<(String, String)> {
    let made = beside::columns(folded);
    let made = |name: &str| made.iter().find(|(other, _)| *other == name).map(|(_, value)| value);
    let names =
        legs.columns.iter().map(String::as_str).filter(|name| {
            made(name).is_some() || TextColumn::ALL.iter().any(|column| column.name() == *name)
        });
    let differs = names.filter_map(|name| {
        let stored = legs.value(row, name);
        let same = match (made(name), stored) {
            (None, Value::Null) => true,
            (Some(serde_json::Value::String(text)), Value::Text(stored)) => text == stored,
            (Some(number), Value::Integer(stored)) => number.as_i64() == Some(*stored),
            (Some(number), Value::Real(stored)) => number.as_f64() == Some(*stored),
            _ => false,
        };
        (!same).then(|| (name.to_owned(), cell(stored)))
    });
    differs.collect()
}

#[cfg(test)]
mod tests {
    use super::{difference, said};
    use serde_json::{Value, json};

    #[test]
    fn a_change_names_what_was_before() {
        let columns = |pairs: &[(&str, Value)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Vec<_>>()
        };
        let before = columns(&[("talk_s", json!(9)), ("did", json!("1")), ("answered_at", json!("x"))]);
        let after = columns(&[("talk_s", json!(10)), ("did", json!("1")), ("user_name", json!("Ada"))]);
        let changes = difference(&before, &after);
        assert_eq!(
            said(1, &changes),
            "talk_s 10 (was 9), user_name Ada (was blank), answered_at blank (was x)"
        );
        assert_eq!(said(0, &changes), "talk_s, user_name, answered_at");
        assert_eq!(said(1, &[]), "nothing: every column stayed");
    }
}
