//! How far a followed file was read, and how to find that place again whatever became of the file's name.

use super::super::walk::State;
use crate::intake::Bookmark;
use crate::record::delivery::DeliveryId;
use serde::{Deserialize, Serialize};

/// Bytes before the place that are compared.
pub(super) const ANCHOR: usize = 1024;

/// How far a file was read in the life that it is in, or was in last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The delivery of this life.
    pub delivery: String,
    /// That life is over and read to its end.
    pub ended: bool,
    /// The end was seen in a rotated file, so that whatever is newer follows it without a gap.
    pub proven: bool,
    /// Where the file was last seen: hints, never proofs.
    pub device: u64,
    pub inode: u64,
    /// Its modification time when it was last read, nanoseconds.
    pub modified_ns: i64,
    /// Bytes that are durable.
    pub offset: u64,
    /// BLAKE3 of the bytes before the offset.
    pub anchor: String,
}

impl Mark {
    /// The beginning of a life.
    pub fn new(state: &State, read: &[u8]) -> Self {
        let mark = Self {
            delivery: String::new(),
            ended: false,
            proven: false,
            device: 0,
            inode: 0,
            modified_ns: 0,
            offset: 0,
            anchor: String::new(),
        };
        mark.moved(state, &Tail::default().followed_by(read), read.len())
    }

    /// The same life, read this much further.
    pub fn moved(&self, state: &State, tail: &Tail, bytes: usize) -> Self {
        Self {
            device: state.device,
            inode: state.inode,
            modified_ns: nanoseconds(state),
            offset: self.offset + bytes as u64,
            anchor: tail.hash(),
            ..self.clone()
        }
    }

    /// The delivery's id, if it is one.
    pub fn id(&self) -> Option<DeliveryId> {
        self.delivery.parse().ok()
    }

    /// Bytes that are compared.
    pub fn anchor_length(&self) -> usize {
        usize::try_from(self.offset).unwrap_or(usize::MAX).min(ANCHOR)
    }

    /// As it is kept in the spool.
    pub fn bookmark(&self, source: &str, key: &str) -> Bookmark {
        let value = serde_json::to_string(self).unwrap_or_default();
        Bookmark { source: source.to_owned(), key: key.to_owned(), value }
    }

    /// Reads it back.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// The modification time of a file.
pub(super) fn nanoseconds(state: &State) -> i64 {
    i64::try_from(state.mtime_ns).unwrap_or(i64::MAX)
}

/// The last bytes that were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// From the bytes before a place.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The tail after further bytes.
    pub fn followed_by(&self, bytes: &[u8]) -> Self {
        let mut all = Vec::with_capacity(2 * ANCHOR);
        all.extend_from_slice(&self.0);
        all.extend_from_slice(&bytes[bytes.len().saturating_sub(ANCHOR)..]);
        all.drain(..all.len().saturating_sub(ANCHOR));
        Self(all)
    }

    /// Hash of it.
    pub fn hash(&self) -> String {
        blake3::hash(&self.0).to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_its_anchor_does_not_depend_on_how_the_bytes_came() {
        let state = State { bytes: 3000, device: 1, inode: 2, mtime_ns: 3 };
        let bytes: Vec<u8> = (0..3000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let whole = Mark::new(&state, &bytes);
        for cut in [1, 500, 1023, 1024, 1025, 2999] {
            let first = Mark::new(&state, &bytes[..cut]);
            let tail = Tail::default().followed_by(&bytes[..cut]).followed_by(&bytes[cut..]);
            assert_eq!(first.moved(&state, &tail, bytes.len() - cut), whole, "{cut}");
        }
        assert_eq!(Mark::parse(&whole.bookmark("s", "k").value), Some(whole));
        assert_eq!(Mark::parse("7:8"), None);
    }
}
