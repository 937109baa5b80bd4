//! `cdrd rejected retry`: has rejected rows and documents read again, after the configuration was mended or a version
//! was installed that reads them.

use super::asking::Asking;
use super::bar::Bar;
use super::screen::Screen;
use super::{Exit, Loaded, WrongUsage};
use crate::daemon::tasks::{Done, RetriedDocument, Task};
use crate::store::query::RejectionWish;
use anyhow::bail;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Numbers of rejections (see `cdrd rejected list --all`)
    #[arg(value_name = "ID")]
    pub ids: Vec<i64>,
    /// All open rejections
    #[arg(long)]
    pub all: bool,
    /// Those with this reason
    #[arg(long)]
    pub reason: Option<String>,
    /// Those of this source
    #[arg(long)]
    pub source: Option<String>,
    /// Those of documents in this format; an empty text: that no format claims
    #[arg(long)]
    pub format: Option<String>,
}

/// Retries.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let wish = RejectionWish {
        ids: args.ids.clone(),
        reason: args.reason.clone(),
        source: args.source.clone(),
        format: args.format.clone(),
    };
    if wish == RejectionWish::default() && !args.all {
        let text = "say which: numbers of rejections, --reason, --source, --format or --all";
        return Err(WrongUsage(text.to_owned()).into());
    }
    let asking = Asking::start(loaded)?;
    let bar = Bar::start(0);
    let done = asking.perform(Task::Retry(wish), None, &bar, 0);
    bar.finish();
    asking.close();
    let Done::Retried { documents, failed } = done? else { return Ok(Exit::Failed) };
    if documents.is_empty() && failed.is_none() {
        screen.line("no open rejection is like that; `cdrd rejected list --all` lists them")?;
        return Ok(Exit::Done);
    }
    let open = documents.iter().any(|document| document.rejected > 0 || document.otherwise);
    let rows: Vec<_> = documents.into_iter().map(row).collect();
    screen.table(&["delivery", "name", "document", "resolved", "rejected", "legs added", "note"], &rows)?;
    if let Some(failed) = failed {
        bail!(failed);
    }
    Ok(if open { Exit::Rejected } else { Exit::Done })
}

fn row(document: RetriedDocument) -> Vec<String> {
    let note = if document.otherwise {
        format!("its other rows read otherwise too: cdrd replay {}", document.delivery)
    } else {
        String::new()
    };
    let counts = [document.resolved, document.rejected, document.added];
    let mut row = vec![document.delivery, document.name, document.number.to_string()];
    row.extend(counts.iter().map(ToString::to_string));
    row.push(note);
    row
}
