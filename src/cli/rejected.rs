//! `cdrd rejected`: rows and documents that could not be stored, with their exact place and what to do.

use super::deliveries::second;
use super::marked::{Writing, marked};
use super::screen::{Screen, Tone, cell};
use super::{Exit, Loaded, export, retry};
use crate::formats::syntax::delimited::Delimited;
use crate::formats::syntax::encoding::transcode;
use crate::record::delivery::printable;
use crate::record::outcome::{VERBATIM_CAP, brief};
use crate::store::query::{Query as _, RejectedRow, RejectedWish, Table, Value};
use crate::store::sqlite::query::SqliteQuery;
use anyhow::Context as _;
use std::borrow::Cow;
use std::path::PathBuf;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Count them by reason, format and source
    #[command(after_help = "Example: cdrd rejected list --all --limit 20")]
    List {
        /// Each row instead of counts
        #[arg(long)]
        all: bool,
        /// With --all, at most so many, the latest first
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u32,
        #[command(flatten)]
        filter: Filter,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Write the rows as they were sent, to be mended and imported: a file for each document, with its header
    #[command(after_help = "Example: cdrd rejected export --reason start_invalid --output to-mend")]
    Export {
        #[command(flatten)]
        filter: Filter,
        /// Folder for the files
        #[arg(long, short, value_name = "DIR", required_unless_present = "json")]
        output: Option<PathBuf>,
        /// One JSON object per line instead, with everything that is known of the row
        #[arg(long, conflicts_with = "output")]
        json: bool,
    },
    /// Show one: where it stands, what is wrong, what to do, and the row as sent
    #[command(after_help = "Example: cdrd rejected show 17")]
    Show {
        /// Number of the rejection (see `cdrd rejected list --all`)
        id: i64,
    },
    /// Read them again after the configuration was mended; what reads now is stored
    #[command(after_help = "Example: cdrd rejected retry --reason format_unknown")]
    Retry(retry::Args),
}

/// Which of them.
#[derive(Debug, clap::Args)]
struct Filter {
    /// Only with this reason (see docs/reasons.md)
    #[arg(long)]
    reason: Option<String>,
    /// Only of this format; an empty text: of documents that no format claims
    #[arg(long)]
    format: Option<String>,
    /// Only from this source
    #[arg(long)]
    source: Option<String>,
}

impl Filter {
    fn wish(&self, limit: u32) -> RejectedWish {
        let (reason, format, source) = (self.reason.clone(), self.format.clone(), self.source.clone());
        RejectedWish { reason, format, source, limit, ..RejectedWish::default() }
    }

    /// Whether a row has what is asked for.
    fn takes(&self, table: &Table, row: &[Value]) -> bool {
        let wishes = [("reason", &self.reason), ("format", &self.format), ("source", &self.source)];
        wishes
            .iter()
            .all(|(column, wish)| wish.as_ref().is_none_or(|wish| table.value(row, column).text() == wish))
    }
}

/// Lists, shows, exports or retries.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    if let Command::Retry(args) = &args.command {
        return retry::run(args, loaded, screen);
    }
    let runtime = super::runtime()?;
    let query = loaded.query(&runtime)?;
    match &args.command {
        Command::Retry(_) => {}
        Command::List { all, limit, filter, json } => {
            let table = if *all {
                query.rejected(&filter.wish(*limit))?
            } else {
                let Table { columns, rows } = query.rejected_groups()?;
                let groups = Table { columns, rows: Vec::new() };
                let rows = rows.into_iter().filter(|row| filter.takes(&groups, row)).collect();
                Table { rows, ..groups }
            };
            if *json {
                screen.json_table(&table)?;
            } else if *all {
                rows(&table, screen)?;
            } else {
                groups(&table, screen)?;
            }
        }
        Command::Export { filter, output, json: _ } => {
            let table = query.rejected(&filter.wish(u32::MAX))?;
            match output {
                Some(folder) => {
                    let runtime = crate::daemon::runtime()?;
                    export::as_files(&table, folder, loaded, &query, &runtime, screen)?;
                }
                None => export::as_json(&table, &query, screen)?,
            }
        }
        Command::Show { id } => {
            let row = query.rejection(*id)?.with_context(|| {
                format!("there is no rejection {id}; `cdrd rejected list --all` lists their numbers")
            })?;
            show(&row, query.dropped_at(&row.delivery), screen)?;
            if !row.verbatim.is_empty() {
                verbatim(&row, loaded, &query, screen)?;
            }
        }
    }
    Ok(Exit::Done)
}

fn groups(table: &Table, screen: &mut Screen) -> std::io::Result<()> {
    let shown = |row: &Vec<Value>| {
        let text = |column| cell(table.value(row, column));
        vec![
            text("count"),
            text("reason"),
            text("format"),
            text("source"),
            second(&text("latest_at")),
            text("latest_id"),
        ]
    };
    let rows: Vec<_> = table.rows.iter().map(shown).collect();
    screen.table(&["count", "reason", "format", "source", "latest", "latest id"], &rows)?;
    hint(table, screen)
}

fn rows(table: &Table, screen: &mut Screen) -> std::io::Result<()> {
    let shown = |row: &Vec<Value>| {
        let text = |column| cell(table.value(row, column));
        let place = match table.value(row, "row_number").integer() {
            0 => "document".to_owned(),
            number => format!("row {number}"),
        };
        let name = match text("path") {
            path if path.is_empty() => text("name"),
            path => format!("{} / {path}", text("name")),
        };
        vec![text("id"), text("reason"), text("source"), name, place, brief(&text("message")).to_owned()]
    };
    let mut rows: Vec<_> = table.rows.iter().map(shown).collect();
    let mut header = vec!["id", "reason", "source", "name", "place", "message"];
    if screen.is_terminal() {
        // A paragraph in a narrow column: `show` has room for it.
        header.pop();
        for row in &mut rows {
            row.truncate(header.len());
        }
    }
    screen.table(&header, &rows)?;
    hint(table, screen)
}

/// Tells a person where the mend is said.
fn hint(table: &Table, screen: &mut Screen) -> std::io::Result<()> {
    if table.rows.is_empty() || !screen.is_terminal() {
        return Ok(());
    }
    screen.line("`cdrd rejected show ID` shows the row and says what to do.")
}

/// `dropped`: when its original was.
fn show(row: &RejectedRow, dropped: Option<String>, screen: &mut Screen) -> std::io::Result<()> {
    let safe = |text: &str| printable(text.as_bytes());
    let mut fact = |name: &str, text: &str| screen.hanging(&format!("{name:<9} "), text);
    fact("delivery", &format!("{} {} from {}", row.delivery, safe(&row.delivery_name), safe(&row.source)))?;
    let path = if row.document_path.is_empty() { "the whole body" } else { &safe(&row.document_path) };
    fact("document", &format!("{} ({path})", row.document_number))?;
    fact("format", row.format.as_deref().unwrap_or("none"))?;
    if row.row_number == 0 {
        fact("place", "the document as a whole")?;
    } else {
        let place = format!(
            "row {}, bytes {} to {}",
            row.row_number,
            row.byte_offset,
            row.byte_offset + row.byte_length
        );
        fact("place", &place)?;
    }
    fact("reason", &row.reason)?;
    if let Some(field) = &row.field {
        fact("field", &safe(field))?;
    }
    fact("message", &safe(&row.message))?;
    match (&row.resolved_at, &dropped) {
        (Some(resolved), _) => fact("resolved", &second(resolved))?,
        (None, None) => fact("retry", &format!("cdrd rejected retry {} (once the cause is mended)", row.id))?,
        (None, Some(_)) => fact("retry", "its bytes are gone: let its sender send it again")?,
    }
    let original = match dropped {
        Some(at) => format!("dropped {} (keep.rejected_max, keep.rejected_days)", second(&at)),
        None => format!("cdrd original {} --document {}", row.delivery, row.document_number),
    };
    fact("original", &original)?;
    Ok(())
}

/// The row as it was sent.
fn verbatim(
    row: &RejectedRow,
    loaded: &Loaded,
    query: &SqliteQuery,
    screen: &mut Screen,
) -> std::io::Result<()> {
    screen.line("")?;
    let mut writing = Writing { layouts: &row.layouts, ..Writing::default() };
    let mut bytes = Cow::Borrowed(row.verbatim.as_slice());
    if let Some((format, dialect, head)) = export::surroundings(row, loaded, query) {
        bytes = transcode(dialect.encoding, &row.verbatim);
        (writing.separator, writing.quote) = (dialect.separator, format.quote());
        if let Some(separator) = dialect.separator {
            let mut lines =
                Delimited::with_quote(Box::new(&*head), dialect.encoding, separator, writing.quote);
            while let Ok(Some(_)) = lines.read(&|_| true) {
                writing.headers.push(lines.fields().iter().map(Cow::into_owned).collect());
            }
        }
    } else {
        // A document of which nothing more is known: columns as in the layouts of its format.
        (writing.separator, writing.quote) =
            (row.layouts.first().and_then(|layout| layout.separator), Some('"'));
    }
    let shown = marked(&bytes, row.field.as_deref(), &writing, |text| screen.paint(Tone::Bad, text));
    screen.line(&shown)?;
    if row.verbatim.len() >= VERBATIM_CAP {
        screen.line(&format!("(only the first {} KiB are kept here)", VERBATIM_CAP / 1024))?;
    }
    Ok(())
}
