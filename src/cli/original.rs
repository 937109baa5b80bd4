//! `cdrd original`: the bytes of a delivery exactly as they arrived.

use super::screen::Screen;
use super::{Exit, Loaded};
use crate::daemon;
use crate::intake::{self, Intake, OriginalRead};
use crate::record::delivery::DeliveryId;
use crate::store::query::{Query, Value};
use crate::unpack::{self, Found, Limits, UnpackError};
use anyhow::{Context, bail};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the delivery (see `cdrd deliveries`)
    pub delivery: DeliveryId,
    /// Only this document of it, unpacked; numbers start at 1
    #[arg(long, value_name = "N")]
    pub document: Option<u32>,
    /// Write to a file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Writes the bytes.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let runtime = daemon::runtime()?;
    let state_dir = &loaded.config.state_dir;
    let intake = open(loaded, &runtime)?;
    let id = first_of(args.delivery, loaded, &runtime)?;
    let mut original = intake.open_original(id)?;
    let mut file;
    let mut standard;
    let out: &mut dyn Write = if let Some(path) = &args.output {
        file = File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
        &mut file
    } else {
        standard = Bytes(screen);
        &mut standard
    };
    let Some(wanted) = args.document else {
        std::io::copy(&mut original, out)?;
        return Ok(Exit::Done);
    };
    write_document(&mut *original, wanted, state_dir, out)?;
    Ok(Exit::Done)
}

/// The door, to read bodies through. Fails where nothing was received yet.
pub(super) fn open(loaded: &Loaded, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Intake> {
    let state_dir = &loaded.config.state_dir;
    if !state_dir.join("spool.db").exists() {
        bail!("{} holds no deliveries yet; start `cdrd run` or use `cdrd import`", state_dir.display());
    }
    Ok(Intake::open(state_dir, intake::Config::default(), runtime.handle().clone())?)
}

/// Writes one document of a body, unpacked.
pub(super) fn write_document(
    mut original: &mut dyn OriginalRead,
    wanted: u32,
    state_dir: &Path,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut number = 0;
    let scratch = crate::pipeline::ScratchFolder(state_dir.join("spool"));
    let mut visit = |found: Found<'_>| -> anyhow::Result<()> {
        number += 1;
        match found {
            _ if number != wanted => Ok(()),
            Found::Document { reader, .. } => copy_whole(reader, out),
            Found::Rejected(_, rejection) => {
                bail!("document {wanted} cannot be unpacked: {}", rejection.message)
            }
        }
    };
    match unpack::unpack(&mut original, "", &Limits::default(), &scratch, &mut visit) {
        Ok(()) if number < wanted || wanted == 0 => bail!("the delivery has {number} documents"),
        Ok(()) => Ok(()),
        Err(UnpackError::Io(error)) => Err(error.into()),
        Err(UnpackError::Visit(error)) => Err(error),
    }
}

/// The delivery whose original holds the bytes: a delivery that the door knew again kept none of its own, and has no
/// documents. One of which only every document was known has both.
fn first_of(
    id: DeliveryId,
    loaded: &Loaded,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<DeliveryId> {
    let Ok(query) = loaded.query(runtime) else { return Ok(id) };
    // The id is a parsed ULID and holds nothing but letters and digits.
    let sql = format!(
        "SELECT first.id FROM delivery again JOIN delivery first ON first.content_hash = again.content_hash \
         AND (first.state <> 'repeated' OR EXISTS (SELECT 1 FROM document WHERE delivery_id = first.id)) \
         WHERE again.id = '{id}' AND again.state = 'repeated' \
         AND NOT EXISTS (SELECT 1 FROM document WHERE delivery_id = again.id) ORDER BY first.id LIMIT 1"
    );
    let mut found = id;
    query.each(&sql, &mut |_, row| {
        if let Some(Value::Text(text)) = row.first() {
            found = text.parse().unwrap_or(id);
        }
        std::ops::ControlFlow::Break(())
    })?;
    Ok(found)
}

fn copy_whole(reader: &mut dyn Read, out: &mut dyn Write) -> anyhow::Result<()> {
    std::io::copy(reader, out)?;
    Ok(())
}

/// The screen as a sink of bytes.
struct Bytes<'s>(&'s mut Screen);

impl Write for Bytes<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.bytes(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
