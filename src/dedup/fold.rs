//! The visible row: a pure fold over the versions of a leg, column by column. A blank never overwrites.
//!
//! Versions are folded as columns, each derived from its own record, and not as text: two routes may write the same
//! start in different zones, dates and words, and only the derived values are comparable.

use crate::record::cdr::{Cdr, Direction, Disposition, Leg, TextColumn};
use crate::record::document::RowKind;
use crate::record::field::Field;
use serde_json::{Map, Value};

/// Places in `versions`, the one that wins first: the later event, fidelity of the format, then the hash. Summaries lend fields only
/// where there is nothing else.
pub fn ranked(versions: &[(&Leg, [u8; 16])]) -> Vec<usize> {
    let has_leg = versions.iter().any(|(leg, _)| leg.raw.layout.kind == RowKind::Leg);
    let mut places: Vec<usize> = (0..versions.len())
        .filter(|place| !has_leg || versions[*place].0.raw.layout.kind == RowKind::Leg)
        .collect();
    places.sort_by(|a, b| {
        let rank = |place: usize| {
            let (leg, hash) = versions[place];
            let layout = &leg.raw.layout;
            (layout.family.event_rank(leg.raw.get(Field::RowKind)), layout.card.fidelity, hash)
        };
        rank(*b).cmp(&rank(*a))
    });
    places
}

/// Folds the versions of a leg (with their hashes) into its row. Empty only for no versions.
pub fn fold(versions: &[(&Leg, [u8; 16])]) -> Cdr {
    let order = ranked(versions);
    let ranked: Vec<&Cdr> = order.iter().map(|place| &versions[*place].0.cdr).collect();
    let Some(top) = ranked.first() else { return Cdr::default() };
    if ranked.len() == 1 {
        return (*top).clone();
    }
    // The start is one statement in four columns; a version that knew which of two instants it was wins.
    let start = ranked.iter().find(|cdr| !cdr.time_ambiguous).unwrap_or(top);
    let mut row = Cdr {
        started_at: start.started_at,
        utc_offset_min: start.utc_offset_min,
        time_precision: start.time_precision,
        time_ambiguous: start.time_ambiguous,
        answered_at: ranked.iter().find_map(|cdr| cdr.answered_at),
        ended_at: ranked.iter().find_map(|cdr| cdr.ended_at),
        duration_ms: ranked.iter().find_map(|cdr| cdr.duration_ms),
        talk_ms: ranked.iter().filter(|cdr| cdr.disposition.talked()).find_map(|cdr| cdr.talk_ms),
        ring_ms: ranked.iter().find_map(|cdr| cdr.ring_ms),
        hangup_cause_q850: ranked.iter().find_map(|cdr| cdr.hangup_cause_q850),
        direction: ranked
            .iter()
            .map(|cdr| cdr.direction)
            .find(|direction| *direction != Direction::Unknown)
            .unwrap_or_default(),
        disposition: ranked
            .iter()
            .map(|cdr| cdr.disposition)
            .find(|disposition| *disposition != Disposition::Unknown)
            .unwrap_or_default(),
        ..Cdr::default()
    };
    if !row.disposition.talked() {
        row.answered_at = None;
        row.talk_ms = ranked.iter().find_map(|cdr| cdr.talk_ms).map(|_| 0);
    }
    for column in TextColumn::ALL {
        let text = match column {
            TextColumn::StartedLocal => start.text.get(*column).to_owned(),
            TextColumn::Extra => merged_extra(&ranked),
            _ => first_text(&ranked, *column).to_owned(),
        };
        if !text.is_empty() {
            row.text.set(*column, &text);
        }
    }
    row
}

fn first_text<'c>(ranked: &[&'c Cdr], column: TextColumn) -> &'c str {
    ranked.iter().map(|cdr| cdr.text.get(column)).find(|text| !text.is_empty()).unwrap_or_default()
}

/// Members of all `extra` objects; the winning version's member stands.
fn merged_extra(ranked: &[&Cdr]) -> String {
    let mut merged = Map::new();
    for cdr in ranked {
        if let Ok(Value::Object(members)) = serde_json::from_str(cdr.text.get(TextColumn::Extra)) {
            for (name, value) in members {
                merged.entry(name).or_insert(value);
            }
        }
    }
    if merged.is_empty() { String::new() } else { Value::Object(merged).to_string() }
}
