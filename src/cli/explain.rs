//! `cdrd explain`: how a file would be read, step by step. Must never store anything.

use super::import::Choice;
use super::screen::Screen;
use super::{Exit, Loaded};
use crate::daemon;
use crate::formats::{self, Verdict};
use crate::normalise::Engine;
use crate::pipeline::{self, DocumentPreview, PreviewRow};
use crate::record::cdr::{Cdr, TextColumn};
use crate::record::delivery::printable;
use crate::record::outcome::Rejection;
use anyhow::Context;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to explain
    pub file: PathBuf,
    /// Origin whose calls these are [default: the only one configured]
    #[arg(long)]
    pub origin: Option<String>,
    /// Let only this format read it (see `cdrd formats`)
    #[arg(long)]
    pub format: Option<String>,
    /// Zone in which its times are written, like Europe/Berlin [default: the origin's]
    #[arg(long)]
    pub time_zone: Option<String>,
    /// Rows to show of each document
    #[arg(long, default_value_t = 5)]
    pub rows: usize,
    /// One JSON object per document
    #[arg(long)]
    pub json: bool,
}

/// Explains the file.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let config = &loaded.config;
    let choice =
        Choice::new(config, args.origin.as_deref(), args.format.as_deref(), args.time_zone.as_deref())?;
    // Nothing is stored: a database that cannot be read must not keep a file from being explained.
    let stored = daemon::stored_origins(config, super::runtime()?.handle()).unwrap_or_default();
    let mut origins = daemon::origins(config, &stored)?;
    if let Some(zone) = &choice.time_zone {
        for origin in &mut origins {
            origin.time_zone = zone.clone();
        }
    }
    let engine = Engine::new(origins, daemon::source_zones(config), daemon::zone_named, formats::card);
    let mut file =
        std::fs::File::open(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let name = printable(args.file.as_os_str().as_bytes());
    let reader = pipeline::Reader {
        origin: &choice.origin,
        source: "explain",
        pinned: choice.format.as_deref(),
        rows: args.rows,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "explain keeps nothing and may run where no state directory exists"
    )]
    let scratch = std::env::temp_dir();
    let seen = pipeline::preview(&mut file, &name, &engine, reader, &scratch)
        .with_context(|| format!("cannot read {}", args.file.display()))?;
    let mut exit = Exit::Done;
    for (place, document) in seen.documents.iter().enumerate() {
        if document.rejection.is_some() || document.counts.rejected > 0 {
            exit = Exit::Rejected;
        }
        if args.json {
            screen.json_value(&as_json(document))?;
        } else {
            let shown = if document.path.is_empty() { &name } else { &document.path };
            print(place + 1, shown, document, screen)?;
        }
    }
    Ok(exit)
}

fn print(number: usize, name: &str, document: &DocumentPreview, screen: &mut Screen) -> anyhow::Result<()> {
    screen.line(&format!("document {number}: {name}"))?;
    if let Some((format, certainty, why)) = &document.chosen {
        screen.line(&format!("  format   {format} (certainty {certainty}): {}", safe(why)))?;
    }
    for opinion in &document.opinions {
        let why = match &opinion.verdict {
            Verdict::Refused { why } => why,
            Verdict::Undecided { message, .. } => message,
            Verdict::Claimed(claim)
                if document.chosen.as_ref().is_none_or(|(id, ..)| *id != opinion.format) =>
            {
                &format!("claims it too, with certainty {}: {}", claim.certainty, claim.why)
            }
            Verdict::Claimed(_) => continue,
        };
        screen.line(&format!("  not      {}: {}", opinion.format, safe(why)))?;
    }
    if let Some(dialect) = &document.dialect {
        let separator = dialect.separator.map(|c| format!(", separator {c:?}")).unwrap_or_default();
        screen.line(&format!(
            "  dialect  {:?}{separator}, {:?}, {}; times by the clock of: {:?}",
            dialect.encoding, dialect.date_order, dialect.generation, dialect.zone
        ))?;
    }
    if let Some(rejection) = &document.rejection {
        return print_rejection(rejection, screen);
    }
    if document.chosen.is_none() {
        screen.line("  empty: nothing to read")?;
        return Ok(());
    }
    let counts = &document.counts;
    screen.line(&format!(
        "  rows     {} read: {} to store, {} duplicate within the file, {} rejected, {} skipped",
        counts.rows_read, counts.stored, counts.duplicate, counts.rejected, counts.skipped
    ))?;
    if let Some(clock) = &document.clock {
        screen.line(&format!("  clock    {clock}"))?;
    }
    for row in &document.rows {
        print_row(row, screen)?;
    }
    Ok(())
}

fn print_row(row: &PreviewRow, screen: &mut Screen) -> anyhow::Result<()> {
    match row {
        PreviewRow::Leg(leg) => {
            let record = &leg.leg.raw;
            screen.line(&format!("  row {} (byte {})", record.position.row, record.position.offset))?;
            let written = record.columns().filter(|(_, _, value)| !value.is_empty());
            let written: Vec<String> = written.map(|(name, _, value)| format!("{name}={value}")).collect();
            screen.line(&format!("    written  {}", safe(&written.join(" | "))))?;
            let columns = columns(&leg.leg.cdr);
            let columns: Vec<String> =
                columns.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
            screen.line(&format!("    leg      {}", safe(&columns.join(" | "))))?;
        }
        PreviewRow::Rejected(_, rejection) => print_rejection(rejection, screen)?,
        PreviewRow::Skipped(position, why) => {
            screen.line(&format!("  row {} (byte {}): skipped, {why:?}", position.row, position.offset))?;
        }
    }
    Ok(())
}

fn print_rejection(rejection: &Rejection, screen: &mut Screen) -> anyhow::Result<()> {
    let place = match rejection.position.row {
        0 => "the document".to_owned(),
        row => format!("row {row} (byte {})", rejection.position.offset),
    };
    let field = rejection.field.as_ref().map(|field| format!(", field {field:?}")).unwrap_or_default();
    screen.line(&format!(
        "  rejected {place}{field}: {}: {}",
        rejection.reason.code(),
        safe(&rejection.message)
    ))?;
    if !rejection.verbatim.is_empty() {
        let shown = &rejection.verbatim[..rejection.verbatim.len().min(400)];
        screen.line(&format!("    written  {}", printable(shown)))?;
    }
    Ok(())
}

/// Text of a file on a terminal.
fn safe(text: &str) -> String {
    printable(text.as_bytes())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The columns that a record alone gives, in the public layouts, blank ones left out.
fn columns(cdr: &Cdr) -> Vec<(&'static str, Value)> {
    let time = |ms: i64| {
        let moment = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        json!(moment.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string())
    };
    #[expect(clippy::cast_precision_loss, reason = "lengths of calls are far below 2^53 ms")]
    let seconds = |ms: i64| if ms % 1000 == 0 { json!(ms / 1000) } else { json!(ms as f64 / 1000.0) };
    let mut columns = vec![("started_at", time(cdr.started_at))];
    columns.extend(cdr.answered_at.map(|ms| ("answered_at", time(ms))));
    columns.extend(cdr.ended_at.map(|ms| ("ended_at", time(ms))));
    columns.extend(cdr.duration_ms.map(|ms| ("duration_s", seconds(ms))));
    columns.extend(cdr.talk_ms.map(|ms| ("talk_s", seconds(ms))));
    columns.extend(cdr.ring_ms.map(|ms| ("ring_s", seconds(ms))));
    columns.extend(cdr.utc_offset_min.map(|minutes| ("utc_offset_min", json!(minutes))));
    if cdr.time_ambiguous {
        columns.push(("time_ambiguous", json!(1)));
    }
    columns.push(("direction", json!(cdr.direction.word())));
    columns.push(("disposition", json!(cdr.disposition.word())));
    for column in TextColumn::ALL {
        let text = cdr.text.get(*column);
        if !text.is_empty() {
            columns.push((column.name(), json!(text)));
        }
    }
    columns
}

fn as_json(document: &DocumentPreview) -> Value {
    let rejection = |rejection: &Rejection| {
        json!({
            "row": rejection.position.row, "byte_offset": rejection.position.offset, "field": rejection.field,
            "reason": rejection.reason.code(), "message": rejection.message,
            "verbatim": printable(&rejection.verbatim),
        })
    };
    let opinions: Vec<Value> = document
        .opinions
        .iter()
        .map(|opinion| match &opinion.verdict {
            Verdict::Claimed(claim) => {
                json!({"format": opinion.format, "certainty": claim.certainty, "why": claim.why})
            }
            Verdict::Refused { why } => json!({"format": opinion.format, "certainty": 0, "why": why}),
            Verdict::Undecided { message, .. } => {
                json!({"format": opinion.format, "certainty": 0, "why": message})
            }
        })
        .collect();
    let rows: Vec<Value> = document
        .rows
        .iter()
        .map(|row| match row {
            PreviewRow::Leg(leg) => {
                let record = &leg.leg.raw;
                let written: serde_json::Map<String, Value> =
                    record.columns().map(|(name, _, value)| (name.to_owned(), json!(value))).collect();
                let columns: serde_json::Map<String, Value> =
                    columns(&leg.leg.cdr).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                json!({"row": record.position.row, "byte_offset": record.position.offset, "written": written, "leg": columns})
            }
            PreviewRow::Rejected(_, why) => json!({"rejected": rejection(why)}),
            PreviewRow::Skipped(position, why) => {
                json!({"row": position.row, "byte_offset": position.offset, "skipped": format!("{why:?}")})
            }
        })
        .collect();
    json!({
        "path": document.path,
        "format": document.chosen.as_ref().map(|(format, ..)| *format),
        "certainty": document.chosen.as_ref().map(|(_, certainty, _)| *certainty),
        "why": document.chosen.as_ref().map(|(.., why)| why.clone()),
        "dialect": document.dialect,
        "opinions": opinions,
        "rejection": document.rejection.as_ref().map(rejection),
        "counts": document.counts,
        "clock": document.clock,
        "rows": rows,
    })
}
