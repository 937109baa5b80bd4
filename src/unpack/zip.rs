//! Zip: entries by the list at the archive's end; without one, as far as the entries themselves lead.
//!
//! Must never keep the list in memory, and never fold entries of one name into one.

use super::entry::{Content, DEFLATED, LocalHeader, STORED, Stated};
use super::limits::{Broken, Counted, Metered};
use super::{File, Place, UnpackError, Walk};
use crate::record::delivery::printable;
use crate::record::outcome::Reason;
use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use zip::CompressionMethod;
use zip::read::{Config, ZipFileEntry};
// `ZipArchive` keys entries by name, so that the second of two vanishes, and holds the whole list.
use zip::unstable::read::ZipIterable;

pub(super) fn walk<E>(
    walk: &mut Walk<'_, E>,
    file: &mut File<'_>,
    place: &Place,
) -> Result<(), UnpackError<E>> {
    let mut list = match ZipIterable::try_new(&mut *file, Config::default()) {
        Ok(list) => list,
        Err(error) => {
            walk.disk()?;
            let why = printable(error.to_string().as_bytes());
            return salvage(walk, file, place, &why);
        }
    };
    if list.is_empty() {
        return without_list(walk, file, place);
    }
    let one_document = is_one_document(&mut list, walk.meter.limits().entries);
    walk.disk()?;
    if one_document {
        let size = file.seek(SeekFrom::End(0)).map_err(UnpackError::Io)?;
        file.rewind().map_err(UnpackError::Io)?;
        return walk.document(&place.path, Some(size), file);
    }
    let entries = match list.files() {
        Ok(entries) => entries,
        Err(error) => {
            walk.disk()?;
            return walk.rejected(&place.path, Broken::archive(printable(error.to_string().as_bytes())));
        }
    };
    while let Some(entry) = entries.next() {
        walk.disk()?;
        let listed = match entry {
            Ok(entry) => Listed::of(&entry),
            Err(error) => {
                let why =
                    format!("its list of entries breaks off: {}", printable(error.to_string().as_bytes()));
                return walk.rejected(&place.path, Broken::archive(why));
            }
        };
        if let Err(broken) = walk.meter.entry() {
            return walk.rejected(&place.path, broken);
        }
        by_list(walk, entries.reader_mut(), &listed, place)?;
    }
    walk.disk()
}

/// An archive whose list is empty is an empty archive, unless entries stand in it all the same.
fn without_list<E>(walk: &mut Walk<'_, E>, file: &mut File<'_>, place: &Place) -> Result<(), UnpackError<E>> {
    let first = file.rewind().and_then(|()| LocalHeader::read(file));
    walk.disk()?;
    if matches!(first, Ok(Some(_))) {
        salvage(walk, file, place, "its list names no entries")
    } else {
        Ok(())
    }
}

/// Office documents and program archives are zips, but not of files of call records.
fn is_one_document<R: Read + Seek>(list: &mut ZipIterable<R>, most: u32) -> bool {
    let names = list.files().into_iter().flatten().take(most as usize).map_while(Result::ok);
    let marks = |name: &[u8]| name == b"[Content_Types].xml" || name.starts_with(b"META-INF/");
    names.into_iter().any(|entry| marks(entry.name_raw()))
}

/// An entry as the archive's list has it.
struct Listed {
    name: Vec<u8>,
    start: u64,
    packed: u64,
    stated: Stated,
    encrypted: bool,
    /// `None`: one that only its number names.
    method: Option<u16>,
}

impl Listed {
    fn of(entry: &ZipFileEntry<'_>) -> Self {
        let method = match entry.compression() {
            CompressionMethod::Stored => Some(STORED),
            CompressionMethod::Deflated => Some(DEFLATED),
            _ => None,
        };
        Self {
            name: entry.name_raw().to_vec(),
            start: entry.header_start(),
            packed: entry.compressed_size(),
            stated: Stated { size: entry.size(), crc: entry.crc32() },
            encrypted: entry.encrypted(),
            method,
        }
    }
}

/// Only shown, and no longer than a person reads.
fn shown(name: &[u8]) -> String {
    const MOST: usize = 300;
    let name = printable(name);
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}

fn is_folder(name: &[u8], size: u64) -> bool {
    name.ends_with(b"/") && size == 0
}

fn by_list<E>(
    walk: &mut Walk<'_, E>,
    file: &mut File<'_>,
    listed: &Listed,
    place: &Place,
) -> Result<(), UnpackError<E>> {
    if is_folder(&listed.name, listed.stated.size) {
        return Ok(());
    }
    let inside = place.inside(&shown(&listed.name));
    let header = file.seek(SeekFrom::Start(listed.start)).and_then(|_| LocalHeader::read(file));
    let broken = match header {
        Ok(Some(header)) if listed.encrypted || header.encrypted() => encrypted(),
        Ok(Some(header)) => {
            let method = listed.method.unwrap_or(header.method);
            let size = listed.stated.size;
            return content(walk, file, method, listed.packed, Some(listed.stated), &inside, Some(size))
                .map(drop);
        }
        Ok(None) => Broken::archive("an entry is not where its list says"),
        Err(_) => {
            walk.disk()?;
            Broken::archive("an entry lies beyond its end")
        }
    };
    walk.rejected(&inside.path, broken)
}

fn encrypted() -> Broken {
    let message =
        "the entry is encrypted, and there is nobody to ask for the password: send it without one".to_owned();
    Broken { reason: Reason::ArchiveEncrypted, message }
}

/// Hands out an entry whose data begins here. Gives the packed length if the data was read to its end.
fn content<E>(
    walk: &mut Walk<'_, E>,
    file: &mut File<'_>,
    method: u16,
    packed: u64,
    stated: Option<Stated>,
    inside: &Place,
    size_hint: Option<u64>,
) -> Result<Option<u64>, UnpackError<E>> {
    let count = Cell::new(0);
    let Some(content) = Content::new(Counted { inner: file.take(packed), count: &count }, method, stated)
    else {
        let message =
            format!("the entry is packed with method {method}, which is not supported: pack it with deflate");
        walk.rejected(&inside.path, Broken { reason: Reason::ArchiveBroken, message })?;
        return Ok(None);
    };
    let mut metered = Metered::new(content, walk.meter, &count);
    walk.stream(&mut metered, inside, size_hint)?;
    if stated.is_some() {
        return Ok(None);
    }
    // Where a streamed entry ends only its data tells.
    let ended = io::copy(&mut metered, &mut io::sink()).is_ok();
    walk.disk()?;
    Ok(ended.then(|| count.get()))
}

/// An archive without its end (an upload that broke off): what the entries' own headers lead to. Always ends in a
/// rejection of the archive, because nobody knows what is missing.
fn salvage<E>(
    walk: &mut Walk<'_, E>,
    file: &mut File<'_>,
    place: &Place,
    why: &str,
) -> Result<(), UnpackError<E>> {
    let mut next = Some(0);
    while let Some(at) = next {
        let header = file.seek(SeekFrom::Start(at)).and_then(|_| LocalHeader::read(file));
        walk.disk()?;
        let Ok(Some(header)) = header else { break };
        if let Err(broken) = walk.meter.entry() {
            return walk.rejected(&place.path, broken);
        }
        let data = file.stream_position().map_err(UnpackError::Io)?;
        next = by_header(walk, file, &header, data, place)?;
    }
    walk.rejected(&place.path, Broken::archive(why))
}

/// Hands out an entry without the help of a list. Gives the place behind it, if that is known.
fn by_header<E>(
    walk: &mut Walk<'_, E>,
    file: &mut File<'_>,
    header: &LocalHeader,
    data: u64,
    place: &Place,
) -> Result<Option<u64>, UnpackError<E>> {
    let inside = place.inside(&shown(&header.name));
    let huge = header.packed == u32::MAX;
    let behind = (!header.streamed() && !huge).then(|| data + u64::from(header.packed));
    if is_folder(&header.name, u64::from(header.size)) && behind.is_some() {
        return Ok(behind);
    }
    if header.encrypted() {
        walk.rejected(&inside.path, encrypted())?;
        return Ok(behind);
    }
    if behind.is_some() {
        let stated = Stated { size: u64::from(header.size), crc: header.crc };
        let packed = u64::from(header.packed);
        content(walk, file, header.method, packed, Some(stated), &inside, Some(stated.size))?;
        return Ok(behind);
    }
    if header.method != DEFLATED {
        // Stored data does not tell where it ends.
        let why = "the length of an entry was in the part that is missing";
        walk.rejected(&inside.path, Broken::archive(why))?;
        return Ok(None);
    }
    let Some(packed) = content(walk, file, header.method, u64::MAX, None, &inside, None)? else {
        return Ok(None);
    };
    let end = data + packed;
    if header.streamed() {
        descriptor_end(file, end).map(Some).map_err(UnpackError::Io)
    } else {
        Ok(Some(end))
    }
}

/// The place behind the lengths and checksum that follow streamed data, in any of the four forms they take.
fn descriptor_end(file: &mut File<'_>, end: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(end))?;
    let mut bytes = Vec::with_capacity(28);
    file.take(28).read_to_end(&mut bytes)?;
    let form = [12, 16, 20, 24]
        .into_iter()
        .find(|length| bytes.get(*length..).is_some_and(|b| b.starts_with(b"PK")));
    Ok(end + form.unwrap_or(bytes.len()) as u64)
}
