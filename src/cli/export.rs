//! `cdrd rejected export`: rejected rows as they were sent, in files that can be mended and imported. Must never change a
//! byte of them, nor write over a file.

use super::Loaded;
use super::original;
use super::screen::Screen;
use crate::formats::enclosure::encoded;
use crate::formats::syntax::encoding::transcode;
use crate::formats::{Format, Row};
use crate::intake::{Intake, IntakeError, OriginalRead};
use crate::pipeline::ScratchFolder;
use crate::record::delivery::{DeliveryId, printable};
use crate::record::document::{Dialect, Encoding};
use crate::record::outcome::Skip;
use crate::record::port::{Scratch as _, ScratchFile};
use crate::store::query::{Query as _, RejectedRow, Table, Value};
use crate::store::sqlite::query::SqliteQuery;
use anyhow::{Context as _, anyhow};
use serde_json::json;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Rejected rows of one document, in its order.
struct Part<'r> {
    delivery: DeliveryId,
    number: u32,
    document: i64,
    format: &'r str,
    /// Rejection, row, offset and length.
    rows: Vec<[u64; 4]>,
}

/// One JSON object for each rejection, its bytes and all.
pub fn as_json(table: &Table, query: &SqliteQuery, screen: &mut Screen) -> anyhow::Result<()> {
    for row in &table.rows {
        // One at a time: the bytes of all may be more than fit in memory.
        let Some(row) = query.rejection(table.value(row, "id").integer())? else { continue };
        let mut object = json!({
            "id": row.id, "delivery_id": row.delivery, "delivery": row.delivery_name, "source": row.source,
            "origin": row.origin, "document": row.document_number, "path": row.document_path, "format": row.format,
            "row": row.row_number, "byte_offset": row.byte_offset, "byte_length": row.byte_length,
            "field": row.field, "reason": row.reason, "message": row.message,
        });
        verbatim_into(&mut object, &row);
        screen.json_value(&object)?;
    }
    Ok(())
}

/// As text where it is text, so that nothing is lost either way.
fn verbatim_into(object: &mut serde_json::Value, row: &RejectedRow) {
    match std::str::from_utf8(&row.verbatim) {
        Ok(text) => object["verbatim"] = text.into(),
        Err(_) => object["verbatim_hex"] = super::screen::hex(&row.verbatim).into(),
    }
}

/// A file for each document, below the folder.
pub fn as_files(
    table: &Table,
    folder: &Path,
    loaded: &Loaded,
    query: &SqliteQuery,
    runtime: &tokio::runtime::Runtime,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    let shown = printable(folder.as_os_str().as_bytes());
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {shown}; name another folder"))?;
    let intake = original::open(loaded, runtime)?;
    let mut lines = Vec::new();
    for part in by_document(table)? {
        let place = format!("document {} of delivery {}", part.number, part.delivery);
        let (path, count) =
            part.write(folder, loaded, &intake, query).with_context(|| format!("cannot export {place}"))?;
        let path = path.map_or_else(|| "-".to_owned(), |path| printable(path.as_os_str().as_bytes()));
        lines.push(vec![path, count, part.format.to_owned(), place]);
    }
    screen.table(&["file", "rows", "format", "from"], &lines)?;
    if !lines.is_empty() && screen.is_terminal() {
        screen.line("Mend the files, then `cdrd import FILE`: what was stored stays single.")?;
    }
    Ok(())
}

fn by_document(table: &Table) -> anyhow::Result<Vec<Part<'_>>> {
    let mut all: Vec<Part<'_>> = Vec::new();
    let unsigned = |row: &[Value], column| u64::try_from(table.value(row, column).integer()).unwrap_or(0);
    for row in &table.rows {
        let document = table.value(row, "document_id").integer();
        let one = ["id", "row_number", "byte_offset", "byte_length"].map(|column| unsigned(row, column));
        // The latest come first, so that the rows of a document stand together.
        match all.iter_mut().rev().find(|part| part.document == document) {
            Some(part) => part.rows.push(one),
            None => all.push(Part {
                delivery: table.value(row, "delivery_id").text().parse()?,
                number: u32::try_from(unsigned(row, "document_number"))?,
                document,
                format: table.value(row, "format").text(),
                rows: vec![one],
            }),
        }
    }
    for part in &mut all {
        part.rows.sort_by_key(|[_, row, ..]| *row);
    }
    Ok(all)
}

impl Part<'_> {
    /// Writes the file, if there is anything left to write; gives its path, and how many rows it holds in words.
    fn write(
        &self,
        folder: &Path,
        loaded: &Loaded,
        intake: &Intake,
        query: &SqliteQuery,
    ) -> anyhow::Result<(Option<PathBuf>, String)> {
        let state_dir = &loaded.config.state_dir;
        let mut body = match intake.open_original(self.delivery) {
            Ok(body) => body,
            Err(IntakeError::OriginalDropped { at, .. }) if self.is_whole() => {
                let at = at.strftime("%Y-%m-%d");
                let words =
                    format!("none: the original was dropped on {at} (keep.rejected_max, keep.rejected_days)");
                return Ok((None, words));
            }
            Err(
                IntakeError::UnknownDelivery { .. }
                | IntakeError::OriginalDropped { .. }
                | IntakeError::BodyGone { .. },
            ) => {
                return self.write_kept(folder, query).map(|(path, count)| (Some(path), count));
            }
            Err(error) => return Err(error.into()),
        };
        // A document that was rejected whole, or broke off, has no row to take out.
        if self.is_whole() {
            let (path, mut file) = self.create(folder, "whole")?;
            original::write_document(&mut *body, self.number, state_dir, &mut file)?;
            file.flush()?;
            return Ok((Some(path), "all".to_owned()));
        }
        let dialect = dialect(query, &format!("id = {}", self.document))?;
        let mut document = self.unpacked(&mut *body, state_dir)?;
        let format = loaded.formats.by_id(self.format);
        let format =
            format.ok_or_else(|| anyhow!("this version does not know the format {}", self.format))?;
        let enclosure = format.enclosure(&dialect);
        let (path, mut file) = self.create(folder, enclosure.extension)?;
        let head = head(&mut *document, format, &dialect)?;
        file.write_all(&head)?;
        let write = |file: &mut dyn Write, text: &str| file.write_all(&encoded(text, dialect.encoding));
        write(&mut file, &enclosure.before)?;
        let mut end = line_end_in(&head, dialect.encoding).unwrap_or("\n");
        let mut count = 0_usize;
        for [_, row, offset, length] in self.rows.iter().copied() {
            if row == 0 {
                continue;
            }
            if count > 0 {
                write(&mut file, enclosure.between)?;
                write(&mut file, end)?;
            }
            document.seek(SeekFrom::Start(offset))?;
            let copied = io::copy(&mut (&mut *document).take(length), &mut file)?;
            if copied != length {
                return Err(anyhow!("the original ends before row {row}"));
            }
            let mut behind = Vec::new();
            (&mut *document).take(4).read_to_end(&mut behind)?;
            end = line_end_in(&behind, dialect.encoding).unwrap_or(end);
            count += 1;
        }
        write(&mut file, end)?;
        write(&mut file, &enclosure.after)?;
        file.flush()?;
        Ok((Some(path), count.to_string()))
    }

    /// No row of it was rejected for itself.
    fn is_whole(&self) -> bool {
        self.rows.iter().all(|[_, row, ..]| *row == 0)
    }

    /// The original was taken away: what the table keeps of the rows, without a header.
    fn write_kept(&self, folder: &Path, query: &SqliteQuery) -> anyhow::Result<(PathBuf, String)> {
        let (path, mut file) = self.create(folder, "rows")?;
        for [id, ..] in &self.rows {
            if let Some(row) = query.rejection(i64::try_from(*id)?)? {
                file.write_all(&row.verbatim)?;
                file.write_all(b"\n")?;
            }
        }
        file.flush()?;
        Ok((path, format!("{} without header: the original is gone", self.rows.len())))
    }

    fn create(&self, folder: &Path, extension: &str) -> anyhow::Result<(PathBuf, io::BufWriter<File>)> {
        let path = folder.join(format!("{}-{}.{extension}", self.delivery, self.number));
        let failed = || {
            format!(
                "cannot create {}; move it away or name another folder",
                printable(path.as_os_str().as_bytes())
            )
        };
        // Calls are private, wherever the files end up.
        let file =
            File::options().write(true).create_new(true).mode(0o600).open(&path).with_context(failed)?;
        Ok((path, io::BufWriter::new(file)))
    }

    /// The document in a file without a name, to be read from any place.
    fn unpacked(
        &self,
        body: &mut dyn OriginalRead,
        state_dir: &Path,
    ) -> anyhow::Result<Box<dyn ScratchFile>> {
        let mut file = ScratchFolder(state_dir.join("spool")).file()?;
        original::write_document(body, self.number, state_dir, &mut Plain(&mut *file))?;
        Ok(file)
    }
}

/// How the last document of which this holds writes its values. `which` is our own text, of numbers and ids.
fn dialect(query: &SqliteQuery, which: &str) -> anyhow::Result<Dialect> {
    let mut found = String::new();
    let sql = format!("SELECT dialect FROM document WHERE {which} ORDER BY id DESC LIMIT 1");
    query.each(&sql, &mut |_, row| {
        row.first().map_or("", Value::text).clone_into(&mut found);
        ControlFlow::Break(())
    })?;
    Ok(serde_json::from_str(&found)?)
}

/// How the document of a rejected row writes its values, and the lines before its rows, without those where the original
/// is gone.
pub(super) fn surroundings(
    row: &RejectedRow,
    loaded: &Loaded,
    query: &SqliteQuery,
) -> Option<(&'static dyn Format, Dialect, Vec<u8>)> {
    let format = loaded.formats.by_id(row.format.as_deref()?)?;
    let delivery: DeliveryId = row.delivery.parse().ok()?;
    let number = u32::try_from(row.document_number).ok()?;
    let dialect = dialect(query, &format!("delivery_id = '{delivery}' AND number = {number}")).ok()?;
    let read_head = || -> anyhow::Result<Vec<u8>> {
        let runtime = crate::daemon::runtime()?;
        let mut body = original::open(loaded, &runtime)?.open_original(delivery)?;
        let mut begins = Beginning(Vec::new());
        let read = original::write_document(&mut *body, number, &loaded.config.state_dir, &mut begins);
        if begins.0.is_empty() {
            read?;
        }
        head(&mut io::Cursor::new(begins.0), format, &dialect)
    };
    let head = if dialect.separator.is_some() { read_head().unwrap_or_default() } else { Vec::new() };
    Some((format, dialect, head))
}

/// Takes the first bytes and fails then: header and titles stand there.
struct Beginning(Vec<u8>);

impl Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const ENOUGH: usize = 64 * 1024;
        let room = ENOUGH.saturating_sub(self.0.len()).min(bytes.len());
        self.0.extend_from_slice(&bytes[..room]);
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A scratch file as a plain sink.
struct Plain<'f>(&'f mut dyn ScratchFile);

impl Write for Plain<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What must stand before the rows: titles and header of a delimited document, the mark of an encoding of any other.
fn head<D: Read + io::Seek + ?Sized>(
    document: &mut D,
    format: &dyn Format,
    dialect: &Dialect,
) -> anyhow::Result<Vec<u8>> {
    document.seek(SeekFrom::Start(0))?;
    if dialect.separator.is_none() {
        return Ok(match dialect.encoding {
            Encoding::Utf16Le => vec![0xff, 0xfe],
            Encoding::Utf16Be => vec![0xfe, 0xff],
            Encoding::Utf8 | Encoding::Windows1252 => Vec::new(),
        });
    }
    let mut rows = format.open(dialect, Box::new(BufReader::new(&mut *document)));
    let length = loop {
        match rows.next_row()? {
            Some(Row::Skipped { why: Skip::Title, .. }) => {}
            Some(row) => break row.position().offset,
            None => break 0,
        }
    };
    drop(rows);
    document.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    (&mut *document).take(length).read_to_end(&mut head)?;
    Ok(head)
}

/// The first end of a line in bytes of this encoding.
fn line_end_in(bytes: &[u8], encoding: Encoding) -> Option<&'static str> {
    let text = transcode(encoding, bytes);
    let place = text.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    Some(match &text[place..] {
        [b'\r', b'\n', ..] => "\r\n",
        [b'\r', ..] => "\r",
        _ => "\n",
    })
}

#[cfg(test)]
mod tests {
    use super::line_end_in;
    use crate::record::document::Encoding;

    #[test]
    fn lines_end_as_in_their_document() {
        assert_eq!(line_end_in(b"a\r\nb\n", Encoding::Utf8), Some("\r\n"));
        assert_eq!(line_end_in(b"\r", Encoding::Windows1252), Some("\r"));
        assert_eq!(line_end_in(b"a\0\n\0", Encoding::Utf16Le), Some("\n"));
        assert_eq!(line_end_in(b"\0a\0\r\0\n", Encoding::Utf16Be), Some("\r\n"));
        assert_eq!(line_end_in(b"", Encoding::Utf8), None);
    }
}
