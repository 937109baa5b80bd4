//! The part of a document that is in memory, addressed by offsets in the document.
//!
//! Must never keep bytes that its reader has released: memory stays the same whatever the size of the document.

use std::io::{ErrorKind, Read, Result};

const CHUNK: usize = 64 * 1024;
/// What is loaded first: most documents that a format looks at are shorter, and it refuses most.
const FIRST: usize = 4 * 1024;

/// A window that slides over the bytes of a document.
pub struct Window<'a> {
    input: Box<dyn Read + 'a>,
    buffer: Vec<u8>,
    filled: usize,
    base: u64,
    ended: bool,
}

impl<'a> Window<'a> {
    /// A window at the beginning of a document.
    pub fn new(input: Box<dyn Read + 'a>) -> Self {
        Self { input, buffer: Vec::new(), filled: 0, base: 0, ended: false }
    }

    /// Offset behind the last byte in memory.
    pub fn end(&self) -> u64 {
        self.base + self.filled as u64
    }

    /// Bytes in memory from an offset on.
    pub fn from(&self, offset: u64) -> &[u8] {
        &self.buffer[self.place(offset).min(self.filled)..self.filled]
    }

    /// Bytes between two offsets, both in memory.
    pub fn between(&self, start: u64, end: u64) -> &[u8] {
        &self.buffer[self.place(start)..self.place(end)]
    }

    /// Loads more of the document; bytes before `keep` are released. False at the end of the document.
    pub fn more(&mut self, keep: u64) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let room = self.buffer.len() - self.filled;
        if room == 0 || room < (self.buffer.len() / 4).min(CHUNK / 4) {
            let released = self.place(keep.min(self.end()));
            self.buffer.copy_within(released..self.filled, 0);
            self.filled -= released;
            self.base += released as u64;
            let step = if self.end() == 0 { FIRST } else { CHUNK };
            let wanted = (self.filled + step).next_power_of_two();
            if self.buffer.len() < wanted {
                let mut grown = vec![0; wanted];
                grown[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
                self.buffer = grown;
            }
        }
        loop {
            match self.input.read(&mut self.buffer[self.filled..]) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(false);
                }
                Ok(count) => {
                    self.filled += count;
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn place(&self, offset: u64) -> usize {
        usize::try_from(offset.saturating_sub(self.base)).expect("a window is smaller than the address space")
    }
}
