//! `cdrd formats`: what can be read, and what that rests on.

use super::Exit;
use super::screen::Screen;
use crate::formats::Formats;
use crate::record::card::{Card, Family, Match};
use crate::record::field::Field;
use serde_json::{Value, json};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show everything about this format
    id: Option<String>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// Lists the formats, or shows one.
pub fn run(args: &Args, formats: &Formats, screen: &mut Screen) -> anyhow::Result<Exit> {
    if let Some(id) = &args.id {
        let Some(card) = formats.cards().find(|card| card.id == id) else {
            let known: Vec<&str> = formats.cards().map(|card| card.id).collect();
            anyhow::bail!("no format has the id {id:?}; `cdrd formats` lists them: {}", known.join(", "));
        };
        if args.json {
            screen.json_value(&told(card))?;
        } else {
            show(card, screen)?;
        }
        return Ok(Exit::Done);
    }
    let cards: Vec<&Card> = formats.cards().collect();
    if args.json {
        for card in &cards {
            screen.json_value(&told(card))?;
        }
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = cards
        .iter()
        .map(|card| {
            let version = card.version.to_string();
            vec![card.id.into(), card.system.into(), card.title.into(), card.evidence.words().into(), version]
        })
        .collect();
    screen.table(&["id", "system", "title", "rests on", "version"], &rows)?;
    Ok(Exit::Done)
}

/// Layouts with what each rests on; a card that tells none apart rests on one thing as a whole.
fn versions(card: &Card) -> Vec<(&'static str, &'static str)> {
    let told: Vec<_> = card.versions.iter().map(|(version, rests)| (*version, rests.words())).collect();
    if told.is_empty() { vec![("all", card.evidence.words())] } else { told }
}

fn told(card: &Card) -> Value {
    let versions: Vec<Value> =
        versions(card).iter().map(|(name, rests)| json!({ "layout": name, "rests_on": rests })).collect();
    let notes: Vec<Value> =
        card.notes.iter().map(|(topic, note)| json!({ "topic": topic.word(), "note": note })).collect();
    json!({
        "id": card.id,
        "system": card.system,
        "title": card.title,
        "evidence": card.evidence.words(),
        "version": card.version,
        "layouts": versions,
        "notes": notes,
    })
}

fn show(card: &Card, screen: &mut Screen) -> anyhow::Result<()> {
    screen.line(&format!("{} ({})", card.title, card.id))?;
    screen.line(&format!("system: {}", card.system))?;
    for (name, rests) in versions(card) {
        screen.line(&format!("layout: {name}, rests on {rests}"))?;
    }
    for (header, field) in card.headers {
        screen.line(&format!("column: {header} -> {}", field.name()))?;
    }
    if let Some(family) = card.families.first() {
        screen.line(&format!("tells legs apart by: {}", identity(family)))?;
    }
    for (topic, note) in card.notes {
        screen.line(&format!("{}: {note}", topic.word()))?;
    }
    Ok(())
}

fn identity(family: &Family) -> String {
    let names =
        |fields: &mut dyn Iterator<Item = Field>| fields.map(Field::name).collect::<Vec<_>>().join(", ");
    let lists = [
        ("match", names(&mut family.matched.iter().map(Match::field))),
        ("sure", names(&mut family.sure.into_iter())),
        ("instance", names(&mut family.instance.into_iter())),
        ("exact", names(&mut family.exact.iter().copied())),
        ("near", names(&mut family.near.iter().copied())),
        ("events", family.events.join(", ")),
    ];
    let told = lists.iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| format!("{name} {list}"));
    told.collect::<Vec<_>>().join("; ")
}
