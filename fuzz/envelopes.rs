//! Archives: nothing passes the limits, and memory never fails like a disk.

use cdrd::record::port::{Scratch, ScratchFile};
use cdrd::unpack::{self, Broken, Found, Limits, UnpackError};
use std::convert::Infallible;
use std::io::{Cursor, Read, Result};

/// Room in memory.
#[derive(Debug)]
struct Memory;

impl Scratch for Memory {
    fn file(&self) -> Result<Box<dyn ScratchFile>> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }
}

const LIMITS: Limits = Limits { depth: 3, entries: 40, bytes: 1 << 20, ratio: 200 };

/// What an archive gives, document by document.
pub fn unpack(bytes: &[u8]) {
    let first = found(bytes);
    assert_eq!(first, found(bytes), "the same bytes give the same documents");
}

fn found(bytes: &[u8]) -> Vec<(String, u64, Option<String>)> {
    let mut all = Vec::new();
    let mut total = 0;
    let mut visit = |found: Found<'_>| -> std::result::Result<(), Infallible> {
        match found {
            Found::Document { path, reader, .. } => {
                let (length, fault) = drained(reader);
                total += length;
                all.push((path.to_owned(), length, fault));
            }
            Found::Rejected(path, rejection) => {
                all.push((path.to_owned(), 0, Some(rejection.message)));
            }
        }
        Ok(())
    };
    match unpack::unpack(&mut Cursor::new(bytes), "fuzz", &LIMITS, &Memory, &mut visit) {
        Ok(()) => {}
        Err(UnpackError::Visit(never)) => match never {},
        Err(UnpackError::Io(error)) => panic!("memory failed: {error}"),
    }
    // A plain body is no envelope and may be of any size.
    if unpack::is_archive(bytes) {
        assert!(total <= LIMITS.bytes + bytes.len() as u64, "{total} bytes came out");
    }
    all
}

fn drained(reader: &mut dyn Read) -> (u64, Option<String>) {
    let mut buffer = [0; 8192];
    let mut length = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return (length, None),
            Ok(read) => length += read as u64,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                let broken = Broken::of(&error).expect("only the archive is at fault");
                return (length, Some(broken.message.clone()));
            }
        }
    }
}
