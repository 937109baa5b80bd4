//! `cdrd formats`: what can be read, and what that rests on.

use super::Exit;
use super::screen::Screen;
use crate::formats::Formats;
use crate::record::card::{Card, Evidence};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

const fn evidence(card: &Card) -> &'static str {
    match card.evidence {
        Evidence::Documented => "vendor's documents",
        Evidence::Seen => "real data",
        Evidence::Configured => "your configuration",
    }
}

/// Lists the formats.
pub fn run(args: &Args, formats: &Formats, screen: &mut Screen) -> anyhow::Result<Exit> {
    let cards: Vec<&Card> = formats.cards().collect();
    if args.json {
        for card in &cards {
            screen.json_value(&serde_json::json!({
                "id": card.id,
                "system": card.system,
                "title": card.title,
                "evidence": evidence(card),
                "version": card.version,
            }))?;
        }
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = cards
        .iter()
        .map(|card| {
            let version = card.version.to_string();
            vec![card.id.into(), card.system.into(), card.title.into(), evidence(card).into(), version]
        })
        .collect();
    screen.table(&["id", "system", "title", "rests on", "version"], &rows)?;
    Ok(Exit::Done)
}
