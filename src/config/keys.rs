//! Every key that a configuration file may hold, with its default and meaning: the shipped `config.toml`, the hints in
//! messages and the reader all go by this list.

use crate::record::field::Field;

/// The tables of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Before the first header.
    Top,
    /// `[store]`.
    Store,
    /// `[http]`.
    Http,
    /// `[keep]`.
    Keep,
    /// `[[origin]]`.
    Origin,
    /// `[[source]]`: the keys of all kinds, and of a folder.
    Source,
    /// `[[source]]` of kind "ucm", without the keys of all kinds.
    Ucm,
    /// `[[source]]` of kind "sftp", without the keys of all kinds.
    Sftp,
    /// `[[source.account]]`.
    Account,
    /// `[[format]]`.
    Format,
    /// `[format.columns]`: fields and where their text is.
    Columns,
    /// One column that is made of several, `{ join = [...] }`.
    Join,
    /// `[format.constants]`: fields and their text.
    Constants,
    /// `[format.dispositions]`: outcome words.
    Dispositions,
    /// `[format.directions]`: direction words.
    Directions,
    /// One rule under `skip`.
    Skip,
    /// Where a password or token is.
    Secret,
}

impl Table {
    /// How messages call the table, with the dot before a key.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Top | Self::Secret => "",
            Self::Store => "store.",
            Self::Http => "http.",
            Self::Keep => "keep.",
            Self::Origin => "origin.",
            Self::Source | Self::Sftp | Self::Ucm => "source.",
            Self::Account => "source.account.",
            Self::Format => "format.",
            Self::Columns | Self::Join => "format.columns.",
            Self::Constants => "format.constants.",
            Self::Dispositions => "format.dispositions.",
            Self::Directions => "format.directions.",
            Self::Skip => "format.skip.",
        }
    }
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
/// Header of the table of health and metrics.
pub const HTTP: &str = "http";
/// Header of an origin.
pub const ORIGIN: &str = "origin";
/// Header of a source.
pub const SOURCE: &str = "source";
/// Header of a format; a source's key of the same name fixes one.
pub const FORMAT: &str = "format";

pub(super) const STATE_DIR: &str = "state_dir";
pub(super) const URL: &str = "url";
pub(super) const NAME: &str = "name";
pub(super) const TIME_ZONE: &str = "time_zone";
pub(super) const COUNTRY: &str = "country";
pub(super) const TENANT: &str = "tenant";
pub(super) const FORMERLY: &str = "formerly";
pub(super) const KIND: &str = "kind";
pub(super) const PATH: &str = "path";
pub(super) const MODE: &str = "mode";
pub(super) const FILES: &str = "files";
/// Header of what is kept; a folder's key of the same name leaves its files where they are.
pub const KEEP: &str = "keep";
pub(super) const RECURSIVE: &str = "recursive";
pub(super) const MARKER: &str = "marker";
pub(super) const SETTLE: &str = "settle";
pub(super) const RESCAN: &str = "rescan";
pub(super) const EXPECT_EVERY: &str = "expect_every";
pub(super) const USER: &str = "user";
pub(super) const PASSWORD: &str = "password";
pub(super) const TLS: &str = "tls";
pub(super) const EVERY: &str = "every";
pub(super) const DAYS_BACK: &str = "days_back";
pub(super) const OVERLAP: &str = "overlap";
pub(super) const TIMEOUT: &str = "timeout";
pub(super) const PAGE_SIZE: &str = "page_size";
pub(super) const ACCOUNT: &str = "account";
pub(super) const PARTIAL_DAYS: &str = "partial_days";
pub(super) const SHOW_DAYS: &str = "show_days";
pub(super) const IDLE: &str = "idle";
pub(super) const CONNECTIONS: &str = "connections";
pub(super) const CONNECTIONS_PER_ADDRESS: &str = "connections_per_address";
pub(super) const FEEDBACK: &str = "feedback";
pub(super) const LEGACY_ALGORITHMS: &str = "legacy_algorithms";
pub(super) const PASSWORD_HASH: &str = "password_hash";
pub(super) const AUTHORIZED_KEYS: &str = "authorized_keys";
pub(super) const NETWORKS: &str = "networks";
pub(super) const QUOTA: &str = "quota";
pub(super) const MAX_FILE: &str = "max_file";
pub(super) const SHA1_SIGNATURES: &str = "sha1_signatures";
pub(super) const LISTEN: &str = "listen";
pub(super) const RESERVE: &str = "reserve";
pub(super) const REJECTED_MAX: &str = "rejected_max";
pub(super) const REJECTED_DAYS: &str = "rejected_days";
pub(super) const ID: &str = "id";
pub(super) const TITLE: &str = "title";
pub(super) const SYSTEM: &str = "system";
pub(super) const SYNTAX: &str = "syntax";
pub(super) const SEPARATOR: &str = "separator";
pub(super) const QUOTE: &str = "quote";
pub(super) const ENCODING: &str = "encoding";
pub(super) const HEADER: &str = "header";
pub(super) const WIDTH: &str = "width";
pub(super) const SKIP_LINES: &str = "skip_lines";
pub(super) const RECOGNISE: &str = "recognise";
pub(super) const DATES: &str = "dates";
pub(super) const DURATION_UNIT: &str = "duration_unit";
pub(super) const MATCH: &str = "match";
pub(super) const SURE: &str = "sure";
pub(super) const INSTANCE: &str = "instance";
pub(super) const EXACT: &str = "exact";
pub(super) const NEAR: &str = "near";
pub(super) const EVENTS: &str = "events";
pub(super) const LINKS: &str = "links";
pub(super) const SKIP: &str = "skip";
pub(super) const RECORDING_SEPARATOR: &str = "recording_separator";
pub(super) const COLUMNS: &str = "columns";
pub(super) const CONSTANTS: &str = "constants";
pub(super) const DISPOSITIONS: &str = "dispositions";
pub(super) const DIRECTIONS: &str = "directions";
pub(super) const JOIN: &str = "join";
pub(super) const COLUMN: &str = "column";
pub(super) const EQUALS: &str = "equals";
pub(super) const MATCHES: &str = "matches";
pub(super) const BLANK: &str = "blank";
pub(super) const BEGINS: &str = "begins";
pub(super) const CREDENTIAL: &str = "credential";
pub(super) const FILE: &str = "file";
pub(super) const ENV: &str = "env";

/// All keys, in the order in which the shipped file explains them.
pub const KEYS: &[Key] = &[
    key(Table::Top, STATE_DIR, Some("\"var\"")),
    key(Table::Store, URL, Some("\"sqlite:cdr.db\"")),
    key(Table::Http, LISTEN, Some("\"127.0.0.1:8380\"")),
    key(Table::Keep, RESERVE, None),
    key(Table::Keep, REJECTED_MAX, Some("\"1GiB\"")),
    key(Table::Keep, REJECTED_DAYS, Some("90")),
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
    key(Table::Source, EXPECT_EVERY, None),
    key(Table::Ucm, URL, None),
    key(Table::Ucm, USER, None),
    key(Table::Ucm, PASSWORD, None),
    key(Table::Ucm, TLS, Some("\"verify\"")),
    key(Table::Ucm, EVERY, Some("\"2m\"")),
    key(Table::Ucm, DAYS_BACK, Some("30")),
    key(Table::Ucm, OVERLAP, Some("\"10m\"")),
    key(Table::Ucm, TIMEOUT, Some("\"2m\"")),
    key(Table::Ucm, PAGE_SIZE, Some("1000")),
    key(Table::Sftp, LISTEN, None),
    key(Table::Sftp, FEEDBACK, Some("false")),
    key(Table::Sftp, MARKER, None),
    key(Table::Sftp, SHOW_DAYS, Some("1")),
    key(Table::Sftp, PARTIAL_DAYS, Some("7")),
    key(Table::Sftp, IDLE, Some("\"10m\"")),
    key(Table::Sftp, CONNECTIONS, Some("500")),
    key(Table::Sftp, CONNECTIONS_PER_ADDRESS, Some("64")),
    key(Table::Sftp, LEGACY_ALGORITHMS, Some("false")),
    key(Table::Account, USER, None),
    key(Table::Account, ORIGIN, None),
    key(Table::Account, PASSWORD_HASH, None),
    key(Table::Account, AUTHORIZED_KEYS, None),
    key(Table::Account, NETWORKS, None),
    key(Table::Account, QUOTA, Some("\"10GiB\"")),
    key(Table::Account, MAX_FILE, Some("\"4GiB\"")),
    key(Table::Account, SHA1_SIGNATURES, Some("false")),
    key(Table::Format, ID, None),
    key(Table::Format, TITLE, None),
    key(Table::Format, SYSTEM, None),
    key(Table::Format, SYNTAX, Some("\"delimited\"")),
    key(Table::Format, SEPARATOR, Some("\",\"")),
    key(Table::Format, QUOTE, Some("'\"'")),
    key(Table::Format, HEADER, Some("true")),
    key(Table::Format, WIDTH, None),
    key(Table::Format, SKIP_LINES, Some("0")),
    key(Table::Format, RECOGNISE, None),
    key(Table::Format, PATH, None),
    key(Table::Format, ENCODING, Some("\"auto\"")),
    key(Table::Format, DATES, None),
    key(Table::Format, TIME_ZONE, None),
    key(Table::Format, DURATION_UNIT, Some("\"s\"")),
    key(Table::Format, RECORDING_SEPARATOR, Some("\",\"")),
    key(Table::Format, MATCH, None),
    key(Table::Format, SURE, None),
    key(Table::Format, INSTANCE, None),
    key(Table::Format, EXACT, None),
    key(Table::Format, NEAR, None),
    key(Table::Format, EVENTS, None),
    key(Table::Format, LINKS, None),
    key(Table::Format, SKIP, None),
];

/// Headers that may stand in the file.
pub const HEADERS: &[&str] = &[STORE, HTTP, KEEP, ORIGIN, SOURCE, FORMAT];

/// Tables of a format.
pub const FORMAT_TABLES: &[&str] = &[COLUMNS, CONSTANTS, DISPOSITIONS, DIRECTIONS];

/// The kinds of sources that this version knows.
pub const SOURCE_KINDS: &[&str] = &["folder", "sftp", "ucm"];

/// Keys of a source whatever its kind.
const OF_ALL_KINDS: [&str; 6] = [NAME, KIND, ORIGIN, TIME_ZONE, FORMAT, EXPECT_EVERY];

/// How a folder's files are read.
pub const FOLDER_MODES: &[&str] = &["whole", "append"];

/// What may stand in a table.
pub fn names(table: Table) -> Vec<&'static str> {
    let keys = KEYS.iter().filter(|key| key.table == table).map(|key| key.name);
    let others: Vec<&'static str> = match table {
        Table::Top => HEADERS.to_vec(),
        Table::Format => FORMAT_TABLES.to_vec(),
        Table::Columns | Table::Constants => Field::ALL.iter().map(|field| field.name()).collect(),
        Table::Join => vec![JOIN],
        Table::Skip => vec![COLUMN, EQUALS, MATCHES, BLANK, BEGINS],
        Table::Secret => vec![CREDENTIAL, FILE, ENV],
        Table::Ucm => OF_ALL_KINDS.to_vec(),
        Table::Sftp => OF_ALL_KINDS.into_iter().chain([ACCOUNT]).collect(),
        Table::Store
        | Table::Http
        | Table::Keep
        | Table::Origin
        | Table::Source
        | Table::Account
        | Table::Dispositions
        | Table::Directions => Vec::new(),
    };
    keys.chain(others).collect()
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
