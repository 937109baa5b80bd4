//! Counts equal rows of one document. Few distinct ones are counted in memory, many in a temporary file, so that a
//! document of any size needs the memory of a small one.
//!
//! The file is a hash table of pages: a row is in the page that the leading bits of its hash name. When a page is full,
//! the table is written anew with twice the pages, each split by the next bit.

use crate::record::port::{Scratch, ScratchFile};
use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result, SeekFrom};

/// Distinct rows that are counted in memory. Tests spill early.
const IN_MEMORY: usize = if cfg!(test) { 500 } else { 100_000 };
/// Bytes of a page: what a file system reads at once.
const PAGE: usize = 4096;
/// Bytes of an entry: a hash and how often it was seen, 0 where the entry is free.
const ENTRY: usize = 20;
/// Pages at first, as a power of two: twice what the rows from memory need.
const DEPTH: u32 = if cfg!(test) { 2 } else { 10 };

/// The counters of one document.
pub(super) struct Ordinals {
    seen: HashMap<[u8; 16], u32>,
    scratch: Option<Box<dyn Scratch>>,
    table: Option<Table>,
}

impl Ordinals {
    /// None counted yet; without `scratch` all stay in memory.
    pub(super) fn new(scratch: Option<Box<dyn Scratch>>) -> Self {
        Self { seen: HashMap::new(), scratch, table: None }
    }

    /// How often this row was seen before.
    pub(super) fn next(&mut self, row: [u8; 16]) -> Result<u32> {
        self.add(row, 1)
    }

    /// Adds to a row's count; gives what it was.
    pub(super) fn add(&mut self, row: [u8; 16], more: u32) -> Result<u32> {
        if let (None, Some(scratch)) = (&self.table, &self.scratch)
            && self.seen.len() >= IN_MEMORY
        {
            let mut table = Table { file: scratch.file()?, depth: DEPTH };
            for (row, count) in std::mem::take(&mut self.seen) {
                table.add(row, count, scratch.as_ref())?;
            }
            self.table = Some(table);
        }
        if let (Some(table), Some(scratch)) = (&mut self.table, &self.scratch) {
            return table.add(row, more, scratch.as_ref());
        }
        let count = self.seen.entry(row).or_insert(0);
        let before = *count;
        *count = before.saturating_add(more);
        Ok(before)
    }
}

struct Table {
    file: Box<dyn ScratchFile>,
    depth: u32,
}

impl Table {
    /// Adds to a row's count; gives what it was.
    fn add(&mut self, row: [u8; 16], more: u32, scratch: &dyn Scratch) -> Result<u32> {
        loop {
            let place = page_of(&row, self.depth) * PAGE as u64;
            let mut page = read_page(self.file.as_mut(), place)?;
            for entry in page.chunks_exact_mut(ENTRY) {
                let count = count_of(entry);
                if count == 0 || entry[..16] == row {
                    entry[..16].copy_from_slice(&row);
                    entry[16..].copy_from_slice(&count.saturating_add(more).to_le_bytes());
                    write_page(self.file.as_mut(), place, &page)?;
                    return Ok(count);
                }
            }
            self.grow(scratch)?;
        }
    }

    fn grow(&mut self, scratch: &dyn Scratch) -> Result<()> {
        let depth = self.depth + 1;
        if depth > 40 {
            return Err(Error::new(ErrorKind::FileTooLarge, "too many equal hashes in one document"));
        }
        let mut file = scratch.file()?;
        for number in 0..1_u64 << self.depth {
            let page = read_page(self.file.as_mut(), number * PAGE as u64)?;
            let mut halves = [[0; PAGE]; 2];
            let mut filled = [0; 2];
            for entry in page.chunks_exact(ENTRY).take_while(|entry| count_of(entry) > 0) {
                let half = usize::from(page_of(entry, depth) & 1 == 1);
                halves[half][filled[half]..filled[half] + ENTRY].copy_from_slice(entry);
                filled[half] += ENTRY;
            }
            for (half, place) in halves.iter().zip(number * 2..) {
                write_page(file.as_mut(), place * PAGE as u64, half)?;
            }
        }
        *self = Self { file, depth };
        Ok(())
    }
}

/// The page of a row: the leading bits of its hash.
fn page_of(row: &[u8], depth: u32) -> u64 {
    let leading = row.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    leading >> (64 - depth)
}

fn count_of(entry: &[u8]) -> u32 {
    entry[16..].try_into().map_or(0, u32::from_le_bytes)
}

/// A page; blank where the file does not reach it yet.
fn read_page(file: &mut dyn ScratchFile, place: u64) -> Result<[u8; PAGE]> {
    let mut page = [0; PAGE];
    file.seek(SeekFrom::Start(place))?;
    let mut filled = 0;
    while filled < PAGE {
        match file.read(&mut page[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(page)
}

fn write_page(file: &mut dyn ScratchFile, place: u64, page: &[u8; PAGE]) -> Result<()> {
    file.seek(SeekFrom::Start(place))?;
    file.write_all(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    struct Memory;

    impl Scratch for Memory {
        fn file(&self) -> Result<Box<dyn ScratchFile>> {
            Ok(Box::new(Cursor::new(Vec::new())))
        }
    }

    #[test]
    fn counts_are_the_same_in_memory_and_in_the_file() -> Result<()> {
        let (mut memory, mut spilled) = (Ordinals::new(None), Ordinals::new(Some(Box::new(Memory))));
        for round in 0..3_u32 {
            for number in 0..5000_u32 {
                // The last rounds repeat only some.
                if number % (round + 1) != 0 {
                    continue;
                }
                let mut row = [0; 16];
                row.copy_from_slice(&blake3::hash(&number.to_le_bytes()).as_bytes()[..16]);
                assert_eq!(spilled.next(row)?, memory.next(row)?, "row {number}, round {round}");
            }
        }
        let table = spilled.table.expect("5000 are more than fit in memory");
        assert!(table.depth > DEPTH, "the table grew");
        assert!(spilled.seen.is_empty(), "nothing is left in memory");
        Ok(())
    }
}
