//! What is known of a time of which no call with a number is known: who brought calls of it, who did not, and what could
//! still hide the number. For `find`.

use super::Loaded;
use super::deliveries::second;
use super::find::{Around, written};
use super::screen::{Screen, Tone, cell, json_object};
use crate::record::delivery::DeliveryId;
use crate::store::query::{Query as _, Table, Value};
use crate::store::sqlite::query::SqliteQuery;
use jiff::Timestamp;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// What is known where nothing was found.
pub struct Missing {
    /// What each source brought of that time; nothing where no time was given.
    coverage: Table,
    /// Deliveries that are not read yet.
    waiting: i64,
    /// Open rejections of whole documents.
    documents: i64,
}

impl Missing {
    /// Looks.
    pub fn look(around: Option<Around>, query: &SqliteQuery) -> anyhow::Result<Self> {
        let coverage = around.map(|around| query.coverage(around.at)).transpose()?.unwrap_or_default();
        let overview = query.overview(DeliveryId::new(Timestamp::MAX, 0))?;
        let waiting = overview.waiting.rows.first();
        let waiting = waiting.map_or(0, |row| overview.waiting.value(row, "deliveries").integer());
        let whole = "SELECT count(*) FROM rejected r JOIN document d ON d.id = r.document_id
                      WHERE r.row_number = 0 AND r.resolved_at IS NULL AND d.state <> 'superseded'";
        let mut documents = 0;
        query.each(whole, &mut |_, row| {
            documents = row.first().map_or(0, Value::integer);
            ControlFlow::Break(())
        })?;
        Ok(Self { coverage, waiting, documents })
    }

    /// Who brought calls of that time, who did not, and what could still hide the number.
    pub fn print(&self, around: Option<Around>, loaded: &Loaded, screen: &mut Screen) -> std::io::Result<()> {
        let mut say = |tone: Tone, start: &str, text: &str| {
            screen.toned((tone, &format!("{start:<12}")), (Tone::Plain, text))
        };
        say(Tone::Warning, "nothing", "no leg and no rejected row has this number")?;
        if around.is_none() {
            let hint = "--around TIME says which sources brought calls of that time, and which did not";
            say(Tone::Plain, "hint", hint)?;
        }
        if let Some(Around { at, .. }) = around {
            for (source, origin) in sources(loaded, &self.coverage) {
                let (tone, start, text) = covered(&self.coverage, &source, &origin, at);
                say(tone, start, &text)?;
            }
        }
        if self.waiting > 0 {
            let text = format!("deliveries not read yet: {}; look again when they are", self.waiting);
            say(Tone::Warning, "waiting", &text)?;
        }
        if self.documents > 0 {
            let text = format!(
                "documents rejected as a whole, which may hold it: {}; `cdrd rejected list --all` names them",
                self.documents
            );
            say(Tone::Warning, "rejected", &text)?;
        }
        Ok(())
    }

    /// The same for a program.
    pub fn as_json(
        &self,
        around: Option<Around>,
        loaded: &Loaded,
        screen: &mut Screen,
    ) -> std::io::Result<()> {
        screen.json_value(&json!({
            "kind": "nothing", "waiting_deliveries": self.waiting, "rejected_documents": self.documents,
        }))?;
        let text = |row: &[Value], column| self.coverage.value(row, column).text().to_owned();
        for (source, origin) in sources(loaded, &self.coverage).into_iter().filter(|_| around.is_some()) {
            let mine = |row: &&Vec<Value>| text(row, "source") == source && text(row, "origin") == origin;
            let documents: Vec<_> = self.coverage.rows.iter().filter(mine).collect();
            let has = |relation: &str| documents.iter().any(|row| text(row, "relation") == relation);
            let covered = has("covers");
            let between = !covered && has("before") && has("after");
            let documents: Vec<_> =
                documents.iter().map(|row| json_object(&self.coverage.columns, row)).collect();
            screen.json_value(&json!({
                "kind": "source", "source": source, "origin": origin, "covered": covered, "between": between,
                "documents": documents,
            }))?;
        }
        Ok(())
    }
}

/// Sources with the origin of their calls: the configured ones, and those that ever brought any.
fn sources(loaded: &Loaded, coverage: &Table) -> BTreeSet<(String, String)> {
    let configured = loaded.config.sources.iter().map(|source| (source.name.clone(), source.origin.clone()));
    let text = |row: &[Value], column| coverage.value(row, column).text().to_owned();
    let known = coverage.rows.iter().map(|row| (text(row, "source"), text(row, "origin")));
    configured.chain(known).collect()
}

/// What one source brought of a time.
fn covered(coverage: &Table, source: &str, origin: &str, at: Timestamp) -> (Tone, &'static str, String) {
    let text = |row: &[Value], column| cell(coverage.value(row, column));
    let mine = |row: &&Vec<Value>| {
        coverage.value(row, "source").text() == source && coverage.value(row, "origin").text() == origin
    };
    let mut parts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in coverage.rows.iter().filter(mine) {
        let relation = text(row, "relation");
        let (first, last) = (second(&text(row, "first_start")), second(&text(row, "last_start")));
        let delivery = format!("delivery {} {}", text(row, "delivery_id"), text(row, "name"));
        let part = match relation.as_str() {
            "covers" => format!("{delivery} with calls from {first} to {last}"),
            "before" => format!("the last before began {last} ({delivery})"),
            _ => format!("the first after began {first} ({delivery})"),
        };
        parts.entry(relation).or_default().push(part);
    }
    let who = format!("source {source} of origin {origin}");
    if let Some(covers) = parts.get("covers") {
        let more = if covers.len() > 3 { format!(" and {} more", covers.len() - 3) } else { String::new() };
        let text = format!(
            "{who} brought calls of {}: {}{more}",
            written(at),
            covers[..covers.len().min(3)].join("; ")
        );
        return (Tone::Good, "covered", text);
    }
    // A PBX that sends a file for each call covers single moments: it was heard before and after, and had no such call
    // or lost it. That is another fault than a sender that fell silent.
    let between = parts.contains_key("before") && parts.contains_key("after");
    let near: Vec<String> = parts.into_values().rev().flatten().collect();
    let near = if near.is_empty() { "it brought no call at all".to_owned() } else { near.join("; ") };
    let start = if between { "between" } else { "not covered" };
    (Tone::Warning, start, format!("{who} brought no call about {}: {near}", written(at)))
}
