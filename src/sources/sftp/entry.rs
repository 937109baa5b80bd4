//! What an account sees at one path, and how that is remembered across restarts.

use super::upload::Upload;
use crate::record::delivery::DeliveryId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What lies at a path.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub kind: Kind,
    /// Size in bytes.
    pub bytes: u64,
    /// When its content changed, as its sender says; seconds since 1970.
    pub modified: u32,
    /// When it became what it is; seconds since 1970.
    pub since: i64,
}

/// Which kind of thing.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A folder that somebody made.
    Folder,
    /// A file that was received. Forgetting it takes nothing back.
    Received(DeliveryId),
    /// A note of ours to the sender.
    Note(String),
    /// An upload that broke off, in this file; never read, may be resumed.
    Partial(String),
    /// An upload that ended well under a name that says it is not finished, in this file. Its sender was told that it is
    /// safe.
    Unfinished(String),
    /// An upload under way.
    Uploading(Arc<Upload>),
}

/// The same as it is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    kind: Word,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivery: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The start of the host in which a file was written that nobody flushed: a power cut leaves anything of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    bytes: u64,
    modified: u32,
    since: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Folder,
    Received,
    Note,
    Partial,
    Unfinished,
}

/// An entry as it was found written down.
#[derive(Debug)]
pub(super) struct Remembered {
    pub entry: Entry,
    /// Set where the file is only as good as the host's memory was: the start of the host in which it was written.
    pub boot: Option<String>,
}

/// Now, in seconds since 1970.
pub(super) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// A moment as the protocol has it.
pub(super) fn seconds(moment: i64) -> u32 {
    u32::try_from(moment.max(0)).unwrap_or(u32::MAX)
}

impl Entry {
    pub fn new(kind: Kind, bytes: u64, modified: Option<u32>) -> Self {
        let since = now();
        Self { kind, bytes, modified: modified.unwrap_or(seconds(since)), since }
    }

    pub const fn is_folder(&self) -> bool {
        matches!(self.kind, Kind::Folder)
    }

    /// The file of its bytes, where it has one of its own.
    pub fn file(&self) -> Option<&str> {
        match &self.kind {
            Kind::Partial(file) | Kind::Unfinished(file) => Some(file),
            Kind::Folder | Kind::Received(_) | Kind::Note(_) | Kind::Uploading(_) => None,
        }
    }

    /// Bytes that it holds here beside what was received.
    pub fn held(&self) -> u64 {
        if self.file().is_some() { self.bytes } else { 0 }
    }

    /// Size now: an upload grows.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::Uploading(upload) => upload.size(),
            _ => self.bytes,
        }
    }

    /// As it is written down; `delivery` stands for the one that is received with it. Uploads under way are not.
    pub fn to_text(&self, boot: Option<&str>) -> Option<String> {
        let (word, delivery, text, file) = match &self.kind {
            Kind::Folder => (Word::Folder, None, None, None),
            Kind::Received(id) => (Word::Received, Some(id.to_string()), None, None),
            Kind::Note(text) => (Word::Note, None, Some(text.clone()), None),
            Kind::Partial(file) => (Word::Partial, None, None, Some(file.clone())),
            Kind::Unfinished(file) => (Word::Unfinished, None, None, Some(file.clone())),
            Kind::Uploading(_) => return None,
        };
        self.written(word, delivery, text, file, boot)
    }

    /// As it is written down with the delivery that the door is about to receive.
    pub fn to_text_received(bytes: u64, modified: Option<u32>) -> Option<String> {
        let entry = Self::new(Kind::Folder, bytes, modified);
        entry.written(Word::Received, Some(crate::intake::DELIVERY.to_owned()), None, None, None)
    }

    fn written(
        &self,
        kind: Word,
        delivery: Option<String>,
        text: Option<String>,
        file: Option<String>,
        boot: Option<&str>,
    ) -> Option<String> {
        let (bytes, modified, since) = (self.bytes, self.modified, self.since);
        let boot = boot.map(str::to_owned);
        serde_json::to_string(&Written { kind, delivery, text, file, boot, bytes, modified, since }).ok()
    }

    /// Reads it back.
    pub fn from_text(text: &str) -> Option<Remembered> {
        let written: Written = serde_json::from_str(text).ok()?;
        let kind = match written.kind {
            Word::Folder => Kind::Folder,
            Word::Received => Kind::Received(written.delivery?.parse().ok()?),
            Word::Note => Kind::Note(written.text?),
            Word::Partial => Kind::Partial(file_name(written.file?)?),
            Word::Unfinished => Kind::Unfinished(file_name(written.file?)?),
        };
        let entry = Self { kind, bytes: written.bytes, modified: written.modified, since: written.since };
        Some(Remembered { entry, boot: written.boot })
    }
}

/// Our files are called by a ULID.
fn file_name(name: String) -> Option<String> {
    name.parse::<ulid::Ulid>().is_ok().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::{Entry, Kind};

    #[test]
    fn what_is_written_down_reads_back() {
        let file = ulid::Ulid::new().to_string();
        let id = ulid::Ulid::new().to_string();
        for kind in [
            Kind::Folder,
            Kind::Received(id.parse().expect("an id")),
            Kind::Note("all is well\n".to_owned()),
            Kind::Partial(file.clone()),
            Kind::Unfinished(file),
        ] {
            let entry = Entry::new(kind, 42, Some(7));
            let read =
                Entry::from_text(&entry.to_text(Some("boot")).expect("it is written")).expect("it is read");
            assert_eq!(format!("{:?}", read.entry), format!("{entry:?}"));
            assert_eq!(read.boot.as_deref(), Some("boot"));
        }
    }

    #[test]
    fn a_file_of_another_name_is_none_of_ours() {
        let text = r#"{"kind":"partial","file":"../../etc/passwd","bytes":1,"modified":1,"since":1}"#;
        assert!(Entry::from_text(text).is_none());
        assert!(Entry::from_text("nonsense").is_none());
    }
}
