//! Loads `config.toml` and `config.d/*.toml` and says in one go everything that is wrong with them, each fault with
//! file, line, key and mend. Must never guess, and never be imported by a module that it configures.

mod expectation;
mod fault;
mod format;
mod http;
mod keep;
pub mod keys;
mod origin;
mod place;
mod reading;
pub mod secret;
mod sftp;
mod source;
mod stanza;
mod ucm;

pub use fault::{ConfigError, Fault};
pub use keep::KeepConfig;
pub use reading::reading_hash;
pub use sftp::{AccountConfig, PasswordConfig, SftpConfig};
pub use ucm::UcmConfig;

use crate::formats::mapping::MappingConfig;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use keys::Table;
use place::Parsed;
use stanza::{Stanza, Stanzas};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The configuration, checked: every name resolves, every path is absolute.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Where the daemon keeps what it must not lose.
    pub state_dir: PathBuf,
    /// Where legs are stored.
    pub store: StoreConfig,
    /// The PBXes, in the order of the files.
    pub origins: Vec<OriginConfig>,
    /// The ways in, in the order of the files.
    pub sources: Vec<SourceConfig>,
    /// Where health and metrics can be asked for; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// Formats that are described here, in the order of the files.
    pub formats: Vec<FormatConfig>,
    /// What stays free, and what is kept how long.
    pub keep: KeepConfig,
    /// Hash of the files as they are written: two that differ may mean the same.
    pub written: [u8; 32],
}

/// A format that is described in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatConfig {
    /// What it says.
    pub mapping: MappingConfig,
    /// File and line of its stanza, for messages.
    pub place: String,
}

/// Where legs are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The SQLite file.
    pub sqlite: PathBuf,
}

/// A PBX or a tenant of one.
#[derive(Debug, Clone, PartialEq)]
pub struct OriginConfig {
    /// Name.
    pub name: String,
    /// Zone of its wall clock.
    pub time_zone: ZoneWish,
    /// ISO 3166 country of numbers written nationally.
    pub country: Option<String>,
    /// Tenant, kept with every row.
    pub tenant: Option<String>,
    /// The name under which it stored its first rows.
    pub formerly: Option<String>,
    /// File and line of its stanza, for messages.
    pub place: String,
}

/// Which zone an origin asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum ZoneWish {
    /// This host's zone at first start.
    Auto,
    /// A zone by its IANA name.
    Named(TimeZone),
}

/// A way in.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Name.
    pub name: String,
    /// Name of the origin that it serves.
    pub origin: String,
    /// Zone of its times where it differs from the origin's.
    pub time_zone: Option<TimeZone>,
    /// The one format that may read what it brings.
    pub pinned_format: Option<String>,
    /// How often rows should come.
    pub expect: Option<Expectation>,
    /// What kind of way in.
    pub kind: SourceKind,
    /// File and line of its stanza, for messages.
    pub place: String,
}

/// How often rows of a source should come.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// The longest silence, counted in the window alone.
    pub every: SignedDuration,
    /// Days of the window, from Monday.
    pub days: [bool; 7],
    /// Hours of the window; an end at midnight is the end of the day.
    pub hours: (jiff::civil::Time, jiff::civil::Time),
    /// Zone of the window; `None`: all time counts.
    pub window_zone: Option<TimeZone>,
    /// The same as a person wrote it.
    pub words: String,
}

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A watched folder.
    Folder(FolderConfig),
    /// An SFTP server of our own.
    Sftp(SftpConfig),
    /// A Grandstream UCM or CloudUCM that is asked.
    Ucm(UcmConfig),
}

/// A watched folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderConfig {
    /// The folder.
    pub path: PathBuf,
    /// Leave files where they are and copy them.
    pub keep: bool,
    /// Look into folders inside it.
    pub recursive: bool,
    /// Ending of the empty file that says that its neighbour is complete.
    pub marker: Option<String>,
    /// How long a file must rest unless its writer was seen closing it.
    pub settle: Duration,
    /// How often the whole folder is walked even if nothing was heard of it.
    pub rescan: Duration,
    /// Names of the files that are followed while they grow; none where whole files are taken.
    pub append: Vec<String>,
}

/// What a configuration is checked against besides itself.
#[derive(Debug, Clone, Default)]
pub struct Surroundings<'a> {
    /// `$STATE_DIRECTORY` as systemd sets it.
    pub state_directory: Option<PathBuf>,
    /// Ids of the formats that this program reads without being told how.
    pub formats: &'a [&'a str],
}

/// The configuration file to read: the wished one, else the first that exists.
pub fn find(wished: Option<&Path>) -> Result<PathBuf, ConfigError> {
    const PLACES: [&str; 2] = ["config.toml", "/etc/cdrd/config.toml"];
    if let Some(wished) = wished {
        return Ok(wished.to_owned());
    }
    PLACES
        .iter()
        .map(PathBuf::from)
        // A file that may not be looked at exists as far as the operator is concerned: reading it tells why.
        .find(|path| path.try_exists().unwrap_or(true))
        .ok_or(ConfigError::Missing)
}

/// Reads a configuration file and the `config.d/*.toml` beside it, in the order of their names. Stanzas add up; of a
/// single key the last statement wins, so that a file in `config.d` can override the main one.
pub fn load(file: &Path, surroundings: &Surroundings<'_>) -> Result<Config, ConfigError> {
    let mut faults = Vec::new();
    let texts = place::read_all(file)?;
    let parsed: Vec<Parsed<'_>> = texts.iter().filter_map(|text| Parsed::new(text, &mut faults)).collect();
    // What a file that cannot be parsed was going to say would only add faults that are none.
    if !faults.is_empty() {
        return Err(ConfigError::wrong(faults));
    }
    let base = place::folder_of(file);
    let mut config = assemble(file, &base, &parsed, surroundings, &mut faults);
    config.written = place::hash(&texts);
    source::check_together(&config, &mut faults);
    if faults.is_empty() { Ok(config) } else { Err(ConfigError::wrong(faults)) }
}

fn assemble(
    file: &Path,
    base: &Path,
    parsed: &[Parsed<'_>],
    surroundings: &Surroundings<'_>,
    faults: &mut Vec<Fault>,
) -> Config {
    let mut state_dir = None;
    let mut url = None;
    let mut http = Some(http::usual());
    let mut kept = keep::usual();
    let mut origins = Stanzas::default();
    let mut sources = Stanzas::default();
    let mut formats = Stanzas::default();
    for parsed in parsed {
        let mut top = Stanza::top(parsed, faults);
        state_dir = top.path(keys::STATE_DIR, base).or(state_dir);
        if let Some(mut store) = top.table(keys::STORE, Table::Store) {
            url = store.text(keys::URL).or(url);
            store.unknown_keys();
        }
        if let Some(mut stanza) = top.table(keys::HTTP, Table::Http) {
            http = http::read(&mut stanza, http);
            stanza.unknown_keys();
        }
        if let Some(mut stanza) = top.table(keys::KEEP, Table::Keep) {
            kept = keep::read(&mut stanza, &kept);
            stanza.unknown_keys();
        }
        origins.extend(top.list(keys::ORIGIN));
        sources.extend(top.list(keys::SOURCE));
        formats.extend(top.list(keys::FORMAT));
        top.unknown_keys();
    }
    let state_dir = surroundings
        .state_directory
        .clone()
        .or_else(|| state_dir.map(|spotted| spotted.value))
        .unwrap_or_else(|| base.join("var"));
    let sqlite = match url {
        Some(url) => place::sqlite_path(&url, faults),
        None => PathBuf::from("cdr.db"),
    };
    let origins = origin::read_all(&origins, faults);
    let (formats, described) = format::read_all(&formats, surroundings.formats, faults);
    let mut known = surroundings.formats.to_vec();
    known.extend(described.iter().map(String::as_str));
    let sources = source::read_all(&sources, &origins, base, &known, faults);
    let store = StoreConfig { sqlite: state_dir.join(sqlite) };
    Config {
        file: file.to_owned(),
        state_dir,
        store,
        origins,
        sources,
        formats,
        http,
        keep: kept,
        written: [0; 32],
    }
}

impl Config {
    /// The origin of this name.
    pub fn origin(&self, name: &str) -> Option<&OriginConfig> {
        self.origins.iter().find(|origin| origin.name == name)
    }

    /// How the door behaves.
    pub fn door(&self) -> crate::intake::Config {
        let usual = crate::intake::Config::default();
        match self.keep.reserve {
            Some(reserve_bytes) => crate::intake::Config { reserve_bytes, reserve_percent: 0, ..usual },
            None => usual,
        }
    }

    /// The local database of the door.
    pub fn spool_db(&self) -> PathBuf {
        self.state_dir.join("spool.db")
    }

    /// The file whose lock says that a daemon works on this state directory.
    pub fn lock_file(&self) -> PathBuf {
        self.state_dir.join("cdrd.lock")
    }
}

impl OriginConfig {
    /// Whether this name is, or was, its own.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.formerly.as_deref() == Some(name)
    }
}

impl ZoneWish {
    /// The word or IANA name as the configuration writes it.
    pub fn name(&self) -> &str {
        match self {
            Self::Auto => "auto",
            Self::Named(zone) => zone.iana_name().unwrap_or("UTC"),
        }
    }
}
