//! `cdrd poll test`: asks a far side once and shows what would be stored. Stores nothing, and moves no bookmark.

use super::explain::{self, Asked};
use super::screen::{Screen, Tone};
use super::{Exit, Loaded, WrongUsage};
use crate::daemon;
use std::io::Cursor;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Log in, fetch one page of the last day, show what would be stored; stores nothing
    #[command(after_help = "Example: cdrd poll test ucm")]
    Test(TestArgs),
}

/// Arguments of a test.
#[derive(Debug, clap::Args)]
struct TestArgs {
    /// The source to ask
    source: String,
    /// Rows to show
    #[arg(long, default_value_t = 3)]
    rows: usize,
    /// One JSON object per document
    #[arg(long)]
    json: bool,
}

/// Asks.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let What::Test(args) = &args.what;
    let config = &loaded.config;
    let source = config
        .sources
        .iter()
        .find(|source| source.name == args.source)
        .ok_or_else(|| WrongUsage(format!("no [[source]] is named {:?}", args.source)))?;
    let tried = daemon::try_source(config, source, &loaded.formats)
        .ok_or_else(|| WrongUsage(format!("source {:?} is not one that is polled", args.source)))?;
    let certificate = tried.certificate.map(|certificate| certificate.to_string());
    let page = match tried.page {
        Ok(page) => page,
        Err(trouble) => {
            screen.toned((Tone::Bad, "failed      "), (Tone::Plain, &trouble.to_string()))?;
            return Ok(Exit::Failed);
        }
    };
    if !args.json {
        let text = format!(
            "logged in after {} requests; {} calls on the first page of the last day",
            tried.requests,
            page.legs.len()
        );
        screen.toned((Tone::Good, "ok          "), (Tone::Plain, &text))?;
        screen.line(&format!("certificate {}", certificate.unwrap_or_default()))?;
        if let Some(clock) = page.clock {
            screen.line(&format!("its clock   {clock:.0}"))?;
        }
    }
    let asked = Asked {
        origin: &source.origin,
        source: &source.name,
        format: source.pinned_format.as_deref(),
        time_zone: None,
        rows: args.rows,
        json: args.json,
    };
    explain::explain(&mut Cursor::new(page.body), "the first page", &asked, loaded, screen)
}
