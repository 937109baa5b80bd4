//! `cdrd explain`: how a file would be read, step by step. Must never store anything.

use super::import::Choice;
use super::screen::{Screen, Tone};
use super::{Exit, Loaded, beside, envelope};
use crate::daemon;
use crate::formats::Verdict;
use crate::pipeline::{self, DocumentPreview, PreviewRow};
use crate::record::delivery::printable;
use crate::record::document::{DateOrder, Dialect, Encoding, ZoneRule};
use crate::record::outcome::{Reason, Rejection, Skip, brief};
use crate::unpack::ReadSeek;
use anyhow::Context;
use jiff::tz::TimeZone;
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
    #[arg(long, default_value_t = 3)]
    pub rows: usize,
    /// One JSON object per document
    #[arg(long)]
    pub json: bool,
}

/// Explains the file.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let choice =
        Choice::new(loaded, args.origin.as_deref(), args.format.as_deref(), args.time_zone.as_deref())?;
    let mut file =
        std::fs::File::open(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let name = printable(args.file.as_os_str().as_bytes());
    let asked = Asked {
        origin: &choice.origin,
        source: "explain",
        format: choice.format.as_deref(),
        time_zone: choice.time_zone.as_ref(),
        rows: args.rows,
        json: args.json,
    };
    explain(&mut file, &name, &asked, loaded, screen)
        .with_context(|| format!("cannot read {}", args.file.display()))
}

/// For whom a body is explained, and how much of it is shown.
pub(super) struct Asked<'a> {
    pub origin: &'a str,
    pub source: &'a str,
    pub format: Option<&'a str>,
    pub time_zone: Option<&'a TimeZone>,
    pub rows: usize,
    pub json: bool,
}

/// Explains bytes, wherever they are.
pub(super) fn explain(
    body: &mut dyn ReadSeek,
    name: &str,
    asked: &Asked<'_>,
    loaded: &Loaded,
    screen: &mut Screen,
) -> anyhow::Result<Exit> {
    let config = &loaded.config;
    // Nothing is stored: a database that cannot be read must not keep a file from being explained.
    let stored = daemon::stored_origins(config, super::runtime()?.handle()).unwrap_or_default();
    let mut origins = daemon::origins(config, &stored)?;
    if let Some(zone) = asked.time_zone {
        for origin in &mut origins {
            origin.time_zone = zone.clone();
        }
    }
    let engine = daemon::engine(config, origins, &loaded.formats);
    let reader = pipeline::Reader {
        origin: asked.origin,
        source: asked.source,
        formats: &loaded.formats,
        time_zone: asked.time_zone.and_then(TimeZone::iana_name),
        pinned: asked.format,
        rows: asked.rows,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "explain keeps nothing and may run where no state directory exists"
    )]
    let scratch = std::env::temp_dir();
    let seen = pipeline::preview(body, name, &engine, reader, &scratch)?;
    let mut exit = Exit::Done;
    if !asked.json && seen.documents.iter().any(|document| !document.path.is_empty()) {
        envelope::show(name, &seen.documents, screen)?;
    }
    for (place, document) in seen.documents.iter().enumerate() {
        if document.rejection.is_some() || document.counts.rejected > 0 {
            exit = Exit::Rejected;
        }
        if asked.json {
            screen.json_value(&as_json(document))?;
        } else {
            let shown = if document.path.is_empty() { name } else { &document.path };
            print(place + 1, shown, document, screen)?;
        }
    }
    Ok(exit)
}

fn print(number: usize, name: &str, document: &DocumentPreview, screen: &mut Screen) -> anyhow::Result<()> {
    screen.line(&screen.paint(Tone::Heading, &format!("document {number}: {name}")))?;
    if let Some((format, certainty, why)) = &document.chosen {
        let text = format!("{format} (certainty {certainty}): {}", safe(why));
        toned(Tone::Good, "format", Tone::Plain, &text, screen)?;
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
        toned(Tone::Faint, "not", Tone::Faint, &format!("{}: {}", opinion.format, safe(why)), screen)?;
    }
    if let Some(dialect) = &document.dialect {
        fact("dialect", &words(dialect), screen)?;
    }
    if let Some(rejection) = &document.rejection {
        return print_rejection(rejection, screen);
    }
    if document.chosen.is_none() {
        return Ok(fact("empty", "nothing to read", screen)?);
    }
    let counts = &document.counts;
    fact(
        "rows",
        &format!(
            "{} read: {} to store, {} duplicate within the file, {} rejected, {} skipped",
            counts.rows_read, counts.stored, counts.duplicate, counts.rejected, counts.skipped
        ),
        screen,
    )?;
    if let Some(clock) = &document.clock {
        toned(Tone::Warning, "clock", Tone::Plain, clock, screen)?;
    }
    document.rows.iter().try_for_each(|row| print_row(row, screen))
}

fn fact(name: &str, text: &str, screen: &mut Screen) -> std::io::Result<()> {
    toned(Tone::Plain, name, Tone::Plain, text, screen)
}

fn toned(of_name: Tone, name: &str, of_text: Tone, text: &str, screen: &mut Screen) -> std::io::Result<()> {
    screen.toned((of_name, &format!("  {name:<8} ")), (of_text, text))
}

/// A dialect in words.
fn words(dialect: &Dialect) -> String {
    let encoding = match dialect.encoding {
        Encoding::Utf8 => "UTF-8",
        Encoding::Utf16Le | Encoding::Utf16Be => "UTF-16",
        Encoding::Windows1252 => "Windows-1252",
    };
    let named = dialect.times.join(" or ");
    let order = match dialect.date_order {
        _ if !named.is_empty() => named.as_str(),
        DateOrder::YearFirst => "year first",
        DateOrder::DayFirst => "day first",
        DateOrder::MonthFirst => "month first",
    };
    let clock = match &dialect.zone {
        ZoneRule::Origin => "the origin's zone",
        ZoneRule::Utc => "UTC",
        ZoneRule::Format => "the zone of its [[format]]",
        ZoneRule::Named(name) => name,
    };
    let separator = dialect.separator.map(|c| format!(", separator {c:?}")).unwrap_or_default();
    let minute = if dialect.minute { " to the minute" } else { "" };
    format!("{}, {encoding}{separator}; dates {order}, times{minute} in {clock}", safe(&dialect.generation))
}

fn print_row(row: &PreviewRow, screen: &mut Screen) -> anyhow::Result<()> {
    match row {
        PreviewRow::Leg(leg) => {
            let position = leg.leg.raw.position;
            let line = format!("  row {} (byte {})", position.row, position.offset);
            screen.line(&screen.paint(Tone::Heading, &line))?;
            beside::show(&leg.leg, screen)?;
        }
        PreviewRow::Rejected(_, rejection) => print_rejection(rejection, screen)?,
        PreviewRow::Skipped(position, why) => {
            let why = match why {
                Skip::Title => "a title",
                Skip::RepeatedHeader => "the header once more",
                Skip::Summary => "a summary; its legs have rows of their own",
                Skip::Blank => "blank",
                Skip::NoCall => "no call, as its [[format]] says",
                Skip::Recorder => "the recorder's copy of a call",
                Skip::Quality => "a report on voice quality, no call; it stays in the original",
                Skip::Mark => "a mark of the system that writes the file",
            };
            let line = format!("  row {} (byte {}): skipped: {why}", position.row, position.offset);
            screen.line(&screen.paint(Tone::Faint, &line))?;
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
    // What each format missed was said line by line.
    let message = brief(&rejection.message);
    // What each format missed was said line by line.
    let unknown = rejection.reason == Reason::FormatUnknown;
    let parts = message.split_once(" (").zip(message.rsplit_once("); ")).filter(|_| unknown);
    let message =
        &parts.map_or_else(|| message.to_owned(), |((what, _), (_, mend))| format!("{what}; {mend}"));
    let message = format!("{place}{field}: {}: {}", rejection.reason.code(), safe(message));
    toned(Tone::Bad, "rejected", Tone::Plain, &message, screen)?;
    if !rejection.verbatim.is_empty() {
        let shown = &rejection.verbatim[..rejection.verbatim.len().min(400)];
        screen.hanging("    written  ", &printable(shown))?;
    }
    Ok(())
}

/// Text of a file on a terminal.
fn safe(text: &str) -> String {
    printable(text.as_bytes())
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
                    beside::columns(&leg.leg.cdr).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
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
