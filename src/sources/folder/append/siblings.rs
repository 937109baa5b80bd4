//! Rotated files beside a followed one: which there are, in which order they were written, and what is in them.
//!
//! Names and times only order and exclude; that a file is the one that was read before is proven by its bytes.

use super::mark::{Mark, Tail, nanoseconds};
use crate::sources::folder::names;
use crate::sources::folder::walk::State;
use rustix::fs::{Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes read at a time.
const STEP: usize = 1024 * 1024;
/// Endings of packed files that can be looked into.
const GZIP: &[u8] = b".gz";
const ZSTD: &[u8] = b".zst";
/// Endings of packed files that cannot.
const OTHERS: [&[u8]; 5] = [b".xz", b".bz2", b".lzma", b".Z", b".lz4"];

/// What its name says about when it was rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// `.1` is younger than `.2`.
    Number(u64),
    /// `-20260102` is younger than `-20260101`.
    Date(Vec<u8>),
    /// `.old`: nothing that orders it.
    Other,
}

/// A rotated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sibling {
    pub path: PathBuf,
    pub name: OsString,
    pub state: State,
    pub turn: Turn,
}

/// The rotated files of `followed`, oldest first, and how many are packed in a way that cannot be looked into. `None`
/// while somebody renames them: a list that is made meanwhile may lack one.
pub(super) fn list(
    folder: &Path,
    followed: &OsStr,
    others: &[OsString],
) -> io::Result<Option<(Vec<Sibling>, usize)>> {
    let first = list_once(folder, followed, others)?;
    Ok((list_once(folder, followed, others)? == first).then_some(first))
}

fn list_once(folder: &Path, followed: &OsStr, others: &[OsString]) -> io::Result<(Vec<Sibling>, usize)> {
    let mut found: Vec<(Vec<u8>, Sibling)> = Vec::new();
    let mut closed = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if others.contains(&name) || names::is_unfinished(name.as_bytes()) {
            continue;
        }
        let plain = unpacked_name(name.as_bytes());
        let Some(turn) = turn_of(plain, followed.as_bytes()) else { continue };
        let metadata = match entry.metadata() {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if OTHERS.iter().any(|ending| name.as_bytes().ends_with(ending)) {
            closed += 1;
            continue;
        }
        let plain = plain.to_vec();
        found.push((plain, Sibling { path: entry.path(), name, state: State::of(&metadata), turn }));
    }
    // While a file is being packed both lie there: the plain one is the whole one.
    let plain: Vec<Vec<u8>> = found
        .iter()
        .filter(|(plain, s)| *plain == s.name.as_bytes())
        .map(|(plain, _)| plain.clone())
        .collect();
    found.retain(|(name, sibling)| *name == sibling.name.as_bytes() || !plain.contains(name));
    let mut siblings: Vec<Sibling> = found.into_iter().map(|(_, sibling)| sibling).collect();
    order(&mut siblings);
    Ok((siblings, closed))
}

/// Oldest first: by what the names say where all say the same, else by time.
fn order(siblings: &mut [Sibling]) {
    let numbered = siblings.iter().all(|sibling| matches!(sibling.turn, Turn::Number(_)));
    let dated = siblings.iter().all(|sibling| matches!(sibling.turn, Turn::Date(_)));
    siblings.sort_by(|a, b| {
        let by_time = nanoseconds(&a.state).cmp(&nanoseconds(&b.state));
        match (&a.turn, &b.turn) {
            (Turn::Number(a), Turn::Number(b)) if numbered => b.cmp(a),
            (Turn::Date(a), Turn::Date(b)) if dated => a.cmp(b),
            (Turn::Number(x), Turn::Number(y)) => by_time.then(y.cmp(x)),
            _ => by_time.then_with(|| a.name.cmp(&b.name)),
        }
    });
}

fn unpacked_name(name: &[u8]) -> &[u8] {
    let endings = [GZIP, ZSTD].into_iter().chain(OTHERS);
    endings.into_iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// What a name says, if it is one that rotation makes of the followed name: `Master.csv.1`, `Master.csv-20260101`,
/// `Master-20260101.csv`.
fn turn_of(name: &[u8], followed: &[u8]) -> Option<Turn> {
    let between = |before: &[u8], after: &[u8]| -> Option<Vec<u8>> {
        let middle = name.strip_prefix(before)?.strip_suffix(after)?;
        let (first, rest) = middle.split_first()?;
        (b".-_".contains(first) && !rest.is_empty()).then(|| rest.to_vec())
    };
    let dot = followed.iter().rposition(|byte| *byte == b'.').filter(|place| *place > 0);
    let (stem, ending) = followed.split_at(dot.unwrap_or(followed.len()));
    let middle = between(followed, b"").or_else(|| between(stem, ending))?;
    let digits = middle.iter().filter(|byte| byte.is_ascii_digit()).count();
    let number = || std::str::from_utf8(&middle).ok()?.parse().ok();
    Some(if digits == middle.len() && digits <= 5 {
        number().map_or(Turn::Other, Turn::Number)
    } else if digits >= 6 {
        Turn::Date(middle)
    } else {
        Turn::Other
    })
}

/// A file to read on from some place.
pub(super) struct Entered {
    pub state: State,
    /// The bytes before the place.
    pub tail: Tail,
    stream: Stream,
}

enum Stream {
    Plain { file: File, next: u64 },
    Packed(Box<dyn Read>),
}

/// Opens a regular file; nothing that a link points at, and no pipe that would block.
fn open(path: &Path) -> io::Result<(File, State)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Err(io::Error::other("it is a link; name the file itself")),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let state = State::of(&metadata);
    Ok((file, state))
}

/// Opens a file at its beginning.
pub(super) fn enter(path: &Path) -> io::Result<Entered> {
    let (file, state) = open(path)?;
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let stream = if name.ends_with(GZIP) {
        Stream::Packed(Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))))
    } else if name.ends_with(ZSTD) {
        Stream::Packed(Box::new(zstd::stream::read::Decoder::new(file)?))
    } else {
        Stream::Plain { file, next: 0 }
    };
    Ok(Entered { state, tail: Tail::default(), stream })
}

/// Opens a file where it was left, if it is the one that was read before.
pub(super) fn enter_at(path: &Path, mark: &Mark) -> io::Result<Option<Entered>> {
    let mut entered = enter(path)?;
    let length = mark.anchor_length();
    let start = mark.offset - length as u64;
    let mut anchor = vec![0; length];
    match &mut entered.stream {
        Stream::Plain { file, next } => {
            if entered.state.bytes < mark.offset {
                return Ok(None);
            }
            match file.read_exact_at(&mut anchor, start) {
                Ok(()) => *next = mark.offset,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Stream::Packed(stream) => {
            let skipped = io::copy(&mut stream.take(start), &mut io::sink());
            match skipped.and_then(|_| stream.read_exact(&mut anchor)) {
                Ok(()) => {}
                // Shorter, still being packed, or no such file at all.
                Err(_) => return Ok(None),
            }
        }
    }
    entered.tail = Tail::of(anchor);
    Ok((entered.tail.hash() == mark.anchor).then_some(entered))
}

/// The place behind the last byte of a file; `None` where there is none.
pub(super) fn end_of(path: &Path) -> io::Result<Option<Mark>> {
    let mut entered = enter(path)?;
    let mut end: Option<Mark> = None;
    loop {
        let bytes = entered.read(STEP)?;
        if bytes.is_empty() {
            return Ok(end);
        }
        entered.tail = entered.tail.followed_by(&bytes);
        end = Some(match end {
            Some(end) => end.moved(&entered.state, &entered.tail, bytes.len()),
            None => Mark::new(&entered.state, &bytes),
        });
    }
}

impl Entered {
    /// The next bytes; none at the end.
    pub fn read(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match &mut self.stream {
            Stream::Plain { file, next } => {
                let left = file.metadata()?.len().saturating_sub(*next);
                bytes.resize(usize::try_from(left).unwrap_or(usize::MAX).min(most), 0);
                let mut filled = 0;
                while filled < bytes.len() {
                    match file.read_at(&mut bytes[filled..], *next + filled as u64)? {
                        // Truncated meanwhile.
                        0 => break,
                        read => filled += read,
                    }
                }
                bytes.truncate(filled);
                *next += filled as u64;
            }
            Stream::Packed(stream) => {
                stream.take(most as u64).read_to_end(&mut bytes)?;
            }
        }
        Ok(bytes)
    }

    /// Whether the bytes before those just read are still what they were: a file that is truncated and filled again
    /// under the reader must not be taken for its continuation.
    pub fn still_holds(&self, mark: &Mark) -> io::Result<bool> {
        let Stream::Plain { file, .. } = &self.stream else { return Ok(true) };
        let mut anchor = vec![0; mark.anchor_length()];
        let start = mark.offset - anchor.len() as u64;
        match file.read_exact_at(&mut anchor, start) {
            Ok(()) => Ok(Tail::of(anchor).hash() == mark.anchor),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether it is this file, and not another that took its name.
    pub fn is_of(&self, sibling: &Sibling) -> bool {
        (self.state.device, self.state.inode) == (sibling.state.device, sibling.state.inode)
    }

    /// Whether it is packed: such a file is whole when it could be unpacked.
    pub const fn is_packed(&self) -> bool {
        matches!(self.stream, Stream::Packed(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_rotation_makes() {
        let turn = |name: &str| turn_of(unpacked_name(name.as_bytes()), b"Master.csv");
        assert_eq!(turn("Master.csv.1"), Some(Turn::Number(1)));
        assert_eq!(turn("Master.csv.12.gz"), Some(Turn::Number(12)));
        assert_eq!(turn("Master.csv-20260101"), Some(Turn::Date(b"20260101".to_vec())));
        assert_eq!(turn("Master-2026-01-01.csv.zst"), Some(Turn::Date(b"2026-01-01".to_vec())));
        assert_eq!(turn("Master.csv.2026-01-01-03-00-00"), Some(Turn::Date(b"2026-01-01-03-00-00".to_vec())));
        assert_eq!(turn("Master.csv.old"), Some(Turn::Other));
        assert_eq!(turn("Master.csv"), None);
        assert_eq!(turn("Master.csv."), None);
        assert_eq!(turn("Masters.csv"), None);
        assert_eq!(turn("Other.csv.1"), None);
    }

    #[test]
    fn oldest_first_and_a_file_that_is_being_packed_once() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        for name in
            ["Master.csv", "Master.csv.1", "Master.csv.2", "Master.csv.2.gz", "Master.csv.10.gz", "x.1"]
        {
            std::fs::write(folder.path().join(name), name)?;
        }
        std::fs::write(folder.path().join("Master.csv.11.xz"), "")?;
        let listed = list(folder.path(), OsStr::new("Master.csv"), &[])?;
        let (siblings, closed) = listed.expect("nobody renames them");
        let names: Vec<_> = siblings.iter().map(|sibling| sibling.name.clone()).collect();
        assert_eq!(names, ["Master.csv.10.gz", "Master.csv.2", "Master.csv.1"]);
        assert_eq!(closed, 1);
        Ok(())
    }
}
