//! `cdrd rejected retry`: has rejected rows and documents read again, after the configuration was mended or a version
//! was installed that reads them.

use super::again::{finish_leftovers, spooled, works};
use super::bar::Bar;
use super::screen::Screen;
use super::{Exit, Loaded, WrongUsage};
use crate::pipeline::Retried;
use crate::record::delivery::shown;
use crate::store::query::{OpenRejection, Query as _, RejectionWish};
use anyhow::bail;
use std::sync::atomic::AtomicBool;

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
    let works = works(loaded)?;
    finish_leftovers(&works)?;
    let runtime = super::runtime()?;
    let query = loaded.query(&runtime)?;
    let documents = query.rejected_documents(&wish)?;
    drop(query);
    for id in &args.ids {
        let is = |open: &OpenRejection| open.id == *id && open.chosen;
        if !documents.iter().any(|document| document.rejections.iter().any(is)) {
            bail!(
                "there is no open rejection {id} like that; `cdrd rejected list --all` lists them; nothing was changed"
            );
        }
    }
    if documents.is_empty() {
        screen.line("no open rejection is like that; `cdrd rejected list --all` lists them")?;
        return Ok(Exit::Done);
    }
    // Read once to count equal rows, once for what was rejected.
    let bytes = documents.iter().map(|document| document.delivery.bytes * 2).sum();
    let bar = Bar::start(works.pipeline.progress(), bytes);
    let mut rows = Vec::new();
    let mut exit = Exit::Done;
    let mut failed = None;
    for document in documents {
        let name = shown(&document.delivery.name);
        let delivery = document.delivery.id.to_string();
        let read = spooled(loaded, document.delivery.clone());
        let told = match works.pipeline.retry(&document, &read, &AtomicBool::new(false)) {
            Ok(Retried::Read { resolved, rejected, added }) => {
                if rejected > 0 {
                    exit = Exit::Rejected;
                }
                [resolved.to_string(), rejected.to_string(), added.to_string(), String::new()]
            }
            Ok(Retried::Otherwise) => {
                exit = Exit::Rejected;
                let open = document.rejections.iter().filter(|rejection| rejection.chosen).count();
                let mend = format!("its other rows read otherwise too: cdrd replay {delivery}");
                ["0".to_owned(), open.to_string(), "0".to_owned(), mend]
            }
            // What was done so far stays and is told.
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        let mut row = vec![delivery, name, document.number.to_string()];
        row.extend(told);
        rows.push(row);
    }
    bar.finish();
    works.store.close();
    screen.table(&["delivery", "name", "document", "resolved", "rejected", "legs added", "note"], &rows)?;
    failed.map_or(Ok(exit), |error| Err(error.into()))
}
