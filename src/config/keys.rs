//! Every key that a configuration file may hold, with its default and meaning: the shipped `config.toml`, the hints in
//! messages and the reader all go by this list.

/// The tables of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Before the first header.
    Top,
    /// `[store]`.
    Store,
    /// `[[origin]]`.
    Origin,
    /// `[[source]]`.
    Source,
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Where it stands.
    pub table: Table,
    /// Name.
    pub name: &'static str,
    /// The value that applies where the key is absent, as TOML. `None`: nothing applies, or the key is required.
    pub default: Option<&'static str>,
}

const fn key(table: Table, name: &'static str, default: Option<&'static str>) -> Key {
    Key { table, name, default }
}

/// Header of the store's table.
pub const STORE: &str = "store";
/// Header of an origin.
pub const ORIGIN: &str = "origin";
/// Header of a source.
pub const SOURCE: &str = "source";

pub(super) const STATE_DIR: &str = "state_dir";
pub(super) const URL: &str = "url";
pub(super) const NAME: &str = "name";
pub(super) const TIME_ZONE: &str = "time_zone";
pub(super) const COUNTRY: &str = "country";
pub(super) const TENANT: &str = "tenant";
pub(super) const FORMERLY: &str = "formerly";
pub(super) const KIND: &str = "kind";
pub(super) const FORMAT: &str = "format";
pub(super) const PATH: &str = "path";
pub(super) const MODE: &str = "mode";
pub(super) const FILES: &str = "files";
pub(super) const KEEP: &str = "keep";
pub(super) const RECURSIVE: &str = "recursive";
pub(super) const MARKER: &str = "marker";
pub(super) const SETTLE: &str = "settle";
pub(super) const RESCAN: &str = "rescan";

/// All keys, in the order in which the shipped file explains them.
pub const KEYS: &[Key] = &[
    key(Table::Top, STATE_DIR, Some("\"var\"")),
    key(Table::Store, URL, Some("\"sqlite:cdr.db\"")),
    key(Table::Origin, NAME, None),
    key(Table::Origin, TIME_ZONE, Some("\"auto\"")),
    key(Table::Origin, COUNTRY, None),
    key(Table::Origin, TENANT, None),
    key(Table::Origin, FORMERLY, None),
    key(Table::Source, NAME, None),
    key(Table::Source, KIND, None),
    // Absent, the only origin serves.
    key(Table::Source, ORIGIN, None),
    key(Table::Source, PATH, None),
    key(Table::Source, MODE, Some("\"whole\"")),
    key(Table::Source, FILES, Some("[\"Master.csv\"]")),
    key(Table::Source, KEEP, Some("false")),
    key(Table::Source, RECURSIVE, Some("true")),
    key(Table::Source, MARKER, None),
    key(Table::Source, SETTLE, Some("\"5s\"")),
    key(Table::Source, RESCAN, Some("\"60s\"")),
    key(Table::Source, TIME_ZONE, None),
    key(Table::Source, FORMAT, None),
];

/// Headers that may stand in the file.
pub const HEADERS: &[&str] = &[STORE, ORIGIN, SOURCE];

/// The kinds of sources that this version knows.
pub const SOURCE_KINDS: &[&str] = &["folder"];

/// How a folder's files are read.
pub const FOLDER_MODES: &[&str] = &["whole", "append"];

/// What may stand in a table.
pub fn names(table: Table) -> Vec<&'static str> {
    let keys = KEYS.iter().filter(|key| key.table == table).map(|key| key.name);
    let headers = HEADERS.iter().copied().filter(|_| table == Table::Top);
    keys.chain(headers).collect()
}

/// The known word that a person probably meant.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|word| (strsim::jaro_winkler(&written, &word.to_lowercase().replace('-', "_")), word))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::{Table, names, nearest};

    #[test]
    fn a_slip_of_the_finger_finds_its_key_and_nonsense_finds_none() {
        assert_eq!(nearest("timezone", names(Table::Origin)), Some("time_zone"));
        assert_eq!(nearest("recursiv", names(Table::Source)), Some("recursive"));
        assert_eq!(nearest("time-zone", names(Table::Source)), Some("time_zone"));
        assert_eq!(nearest("xyzzy", names(Table::Source)), None);
    }
}
