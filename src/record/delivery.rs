//! One thing that arrived from a source, from the outside world to its receipt.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::str::FromStr;

/// Id of a delivery: a ULID, so that ids sort by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeliveryId(ulid::Ulid);

impl DeliveryId {
    /// A new id for something received at `received_at`; `random` makes it unique.
    pub fn new(received_at: Timestamp, random: u128) -> Self {
        let millis = u64::try_from(received_at.as_millisecond()).unwrap_or(0);
        Self(ulid::Ulid::from_parts(millis, random))
    }
}

impl std::fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DeliveryId {
    type Err = ulid::DecodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ulid::Ulid::from_string(text).map(Self)
    }
}

impl TryFrom<String> for DeliveryId {
    type Error = ulid::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeliveryId> for String {
    fn from(id: DeliveryId) -> Self {
        id.to_string()
    }
}

/// What a source hands to the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Origin whose records these are.
    pub origin: String,
    /// Source that received it.
    pub source: String,
    /// Account within the source, where it has accounts.
    pub account: Option<String>,
    /// Address of the sender, where there is one.
    pub peer: Option<String>,
    /// Name as sent, made printable by [`printable`].
    pub name: String,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Format that the configuration or a person fixes for it.
    pub pinned_format: Option<String>,
    /// IANA zone that a person named for this one delivery (`import --time-zone`).
    pub time_zone: Option<String>,
    /// Hash of everything in the configuration that changes how these bytes are read.
    pub reading: [u8; 16],
    /// The bytes.
    pub body: Body,
}

/// Where the bytes of a delivery are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// In memory (up to 256 KiB: they are kept in `spool.db`).
    Bytes(Vec<u8>),
    /// A file that stays where it is; intake copies it into the spool.
    Copied(PathBuf),
    /// A file that intake takes over by renaming it into `claim_dir` on the same file system: the renamed file is the
    /// durable copy.
    Claimed {
        /// The file as the sender named it.
        path: PathBuf,
        /// Folder beside it into which it is renamed.
        claim_dir: PathBuf,
    },
}

/// The door's answer: the delivery is durable and may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Id of the delivery.
    pub id: DeliveryId,
    /// The same bytes ended well before, under the same configuration; nothing will be read.
    pub seen_before: bool,
}

/// A delivery that the pipeline has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// Id.
    pub id: DeliveryId,
    /// Origin.
    pub origin: String,
    /// Source.
    pub source: String,
    /// Account within the source.
    pub account: Option<String>,
    /// Sender.
    pub peer: Option<String>,
    /// Name as sent, printable.
    pub name: String,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Format that the configuration or a person fixes.
    pub pinned_format: Option<String>,
    /// IANA zone that a person named for this one delivery.
    pub time_zone: Option<String>,
    /// Hash of what the configuration says about reading it.
    pub reading: [u8; 16],
    /// Size at the door in bytes.
    pub bytes: u64,
    /// BLAKE3 of the body where it was already computed.
    pub content_hash: Option<[u8; 32]>,
    /// The bytes.
    pub body: SpooledBody,
    /// Set where the body grows with a file that is followed.
    pub growth: Option<Growth>,
}

/// How far a body that grows has come. Its bytes never change once they are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// Nothing follows: a last row without line end is all that there will ever be of it.
    pub ended: bool,
    /// The delivery of the file's life before, where it is proven that nothing lies between the two: rows that no id
    /// tells apart are counted on.
    pub continues: Option<DeliveryId>,
}

/// The durable copy of a delivery's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpooledBody {
    /// Held in `spool.db`.
    Bytes(Vec<u8>),
    /// A file of the spool, or one claimed beside its folder. A claimed file may still be written by a sender that
    /// kept it open, so it is looked at again before its last chunk commits.
    File {
        /// Path.
        path: PathBuf,
        /// Whether another process may still hold it open for writing.
        claimed: bool,
    },
}

/// A name or path from outside as text that is safe in a log line, a terminal and a table: control characters,
/// backslashes, invalid UTF-8 and invisible direction marks become `\xNN` or `\u{NNNN}`.
pub fn printable(bytes: &[u8]) -> String {
    escaped(bytes, true)
}

/// Text that may be shown as it is but for what a terminal would obey: a backslash stays, so that a name which was made
/// [`printable`] when it arrived reads the same everywhere.
pub fn shown(text: &str) -> String {
    escaped(text.as_bytes(), false)
}

fn escaped(bytes: &[u8], backslash: bool) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if (backslash && c == '\\') || (c.is_ascii() && c.is_ascii_control()) {
                let _ = write!(text, "\\x{:02x}", u32::from(c));
            } else if c.is_control() || is_invisible(c) {
                let _ = write!(text, "{}", c.escape_unicode());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Marks that reorder or hide text on a terminal.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn names_from_outside_become_printable_and_stay_distinct() {
        assert_eq!(printable(b"Master.csv"), "Master.csv");
        assert_eq!(printable("Gespräche.csv".as_bytes()), "Gespräche.csv");
        assert_eq!(printable(b"a\nb\x1b[2J"), "a\\x0ab\\x1b[2J");
        assert_eq!(printable(b"\xff.csv"), "\\xff.csv");
        assert_eq!(printable(b"a\\xff"), "a\\x5cxff");
        assert_eq!(printable("a\u{202e}vsc".as_bytes()), "a\\u{202e}vsc");
    }
}
