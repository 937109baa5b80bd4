//! The sources of a running daemon: each on a thread of its own, from its first look until it is told to go.

use super::{DaemonError, spawn_watched};
use crate::config::secret::{Given, SecretConfig};
use crate::config::{
    AccountConfig, Config, FolderConfig, PasswordConfig, SftpConfig, SourceConfig, SourceKind, UcmConfig,
    ZoneWish, reading_hash,
};
use crate::formats::Formats;
use crate::intake::{self, Intake, SourceHealth};
use crate::pulse;
use crate::record::remote::Fingerprint;
use crate::sources::folder::append::{self, Follower};
use crate::sources::folder::{self, Folder};
use crate::sources::poll::ucm::{self, Keeper, Password, Ucm};
use crate::sources::polling::http::HttpError;
use crate::sources::polling::{self, Poller, System as _, Trouble};
use crate::sources::sftp::{self, PasswordHash, Server};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

/// What a source does, as far as its configuration says: two that are equal need not be restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Settings {
    Folder(folder::Config),
    Followed(append::Config),
    Sftp(sftp::Config),
    Ucm(Box<AskedUcm>),
}

/// A UCM that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AskedUcm {
    pub polling: polling::Config,
    pub device: ucm::Config,
    pub password: SecretConfig,
}

/// A source at work.
pub(super) struct Source {
    pub name: String,
    pub settings: Settings,
    pub thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    /// Held for its life: a closed channel is its sign to go.
    waker: Sender<()>,
}

impl Settings {
    /// As this stanza describes it.
    pub(super) fn of(config: &Config, source: &SourceConfig, formats: &Formats) -> Self {
        let folder = match &source.kind {
            SourceKind::Folder(folder) => folder,
            SourceKind::Sftp(server) => return Self::Sftp(served(config, source, server, formats)),
            SourceKind::Ucm(ucm) => return Self::Ucm(Box::new(asked_ucm(config, source, ucm, formats))),
        };
        if folder.append.is_empty() {
            Self::Folder(watched(config, source, folder, formats))
        } else {
            Self::Followed(followed(config, source, folder, formats))
        }
    }
}

impl Source {
    /// Starts all of a configuration.
    pub(super) fn start_all(
        config: &Config,
        formats: &Formats,
        intake: &Intake,
    ) -> Result<Vec<Self>, DaemonError> {
        let start = |source: &SourceConfig| {
            Self::start(&source.name, Settings::of(config, source, formats), intake.clone(), None)
        };
        config.sources.iter().map(start).collect()
    }

    /// Starts it, once the one that it takes the place of has ended.
    pub(super) fn start(
        name: &str,
        settings: Settings,
        intake: Intake,
        before: Option<JoinHandle<()>>,
    ) -> Result<Self, DaemonError> {
        let (waker, wake) = std::sync::mpsc::channel();
        if matches!(settings, Settings::Ucm(_)) {
            intake.set_sync_bell(name, waker.clone());
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (told, wished) = (stop.clone(), settings.clone());
        let body = move || {
            if let Some(before) = before {
                let _waiting = pulse::waiting();
                let _ = before.join();
            }
            match wished {
                Settings::Folder(settings) => {
                    make(&settings);
                    Folder::new(settings, intake).run(told, wake);
                }
                Settings::Followed(settings) => Follower::new(settings, intake).run(told, wake),
                Settings::Sftp(settings) => Server::new(settings, intake).run(&told, wake),
                Settings::Ucm(settings) => match settings.device() {
                    Ok(device) => Poller::new(settings.polling, intake, device).run(&told, &wake),
                    Err(error) => {
                        let name = &settings.polling.name;
                        let _ = intake.set_source_state(name, SourceHealth::Stopped, &error.to_string());
                        // It is told to go, or woken when the configuration is read again.
                        let _waiting = pulse::waiting();
                        while !told.load(Ordering::Relaxed) && wake.recv().is_ok() {}
                    }
                },
            }
        };
        let thread = spawn_watched(&format!("source {name}"), body)?;
        Ok(Self { name: name.to_owned(), settings, thread, stop, waker })
    }

    /// Has it look again: what refused it may be mended.
    pub(super) fn wake(&self) {
        let _ = self.waker.send(());
    }

    /// Tells it to go; its thread ends soon after.
    pub(super) fn send_away(&self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.waker.send(());
    }
}

impl AskedUcm {
    /// The device, which nobody has asked yet.
    pub(super) fn device(&self) -> Result<Ucm, HttpError> {
        Ucm::new(self.device.clone(), keeper(self.password.clone()))
    }
}

/// Whether a source asks a far side.
pub(super) const fn is_polled(source: &SourceConfig) -> bool {
    matches!(source.kind, SourceKind::Ucm(_))
}

/// What came of asking once.
pub struct Tried {
    /// The first page of the last day.
    pub page: Result<polling::Page, Trouble>,
    /// Requests that it took.
    pub requests: u64,
    /// The certificate that was shown.
    pub certificate: Option<Fingerprint>,
}

/// Asks a far side once. `None` if the source is not one that is polled.
pub fn try_source(config: &Config, source: &SourceConfig, formats: &Formats) -> Option<Tried> {
    let Settings::Ucm(settings) = Settings::of(config, source, formats) else { return None };
    let mut requests = 0;
    let mut device = match settings.device() {
        Ok(device) => device,
        Err(error) => {
            return Some(Tried {
                page: Err(Trouble::person(error.to_string())),
                requests,
                certificate: None,
            });
        }
    };
    let ask = ucm::last_day(Timestamp::now(), settings.polling.page_size);
    let page = device.page(&ask, &mut requests, &AtomicBool::new(false));
    device.leave();
    Some(Tried { page, requests, certificate: device.certificate() })
}

/// Whether a secret can be had here; else what to do.
pub fn password(secret: &SecretConfig) -> Result<(), String> {
    keeper(secret.clone())().map(|_| ())
}

/// Reads the secret each time it is asked for.
fn keeper(secret: SecretConfig) -> Keeper {
    Arc::new(move || {
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(std::path::PathBuf::from);
        let env = |name: &str| std::env::var(name).ok();
        let value = secret.value(Given { credentials: folder.as_deref(), env: &env });
        value.map(|value| Password(value.reveal().to_owned())).map_err(|error| error.to_string())
    })
}

/// The zone in which a device shows its times. Windows begin and end well beyond what a wrong one could do.
fn zone(config: &Config, source: &SourceConfig) -> TimeZone {
    let named = source.time_zone.clone().or_else(|| match &config.origin(&source.origin)?.time_zone {
        ZoneWish::Named(zone) => Some(zone.clone()),
        ZoneWish::Auto => None,
    });
    // An origin's zone that is not written is recorded in the database, which may be down.
    named.unwrap_or(TimeZone::UTC)
}

fn asked_ucm(config: &Config, source: &SourceConfig, ucm: &UcmConfig, formats: &Formats) -> AskedUcm {
    let zone = zone(config, source);
    AskedUcm {
        polling: polling::Config {
            name: source.name.clone(),
            origin: source.origin.clone(),
            peer: ucm.endpoint.authority(),
            every: ucm.every,
            back: ucm.back,
            overlap: ucm.overlap,
            page_size: ucm.page_size,
            zone: zone.clone(),
            pinned_format: source.pinned_format.clone(),
            reading: config.reading(source, &formats.versions()),
        },
        device: ucm::Config {
            endpoint: ucm.endpoint.clone(),
            trust: ucm.trust,
            user: ucm.user.clone(),
            within: ucm.timeout,
            zone,
        },
        password: ucm.password.clone(),
    }
}

fn followed(
    config: &Config,
    source: &SourceConfig,
    folder: &FolderConfig,
    formats: &Formats,
) -> append::Config {
    append::Config {
        name: source.name.clone(),
        origin: source.origin.clone(),
        path: folder.path.clone(),
        files: folder.append.clone(),
        settle: folder.settle,
        rescan: folder.rescan,
        pinned_format: source.pinned_format.clone(),
        reading: config.reading(source, &formats.versions()),
    }
}

fn watched(
    config: &Config,
    source: &SourceConfig,
    folder: &FolderConfig,
    formats: &Formats,
) -> folder::Config {
    folder::Config {
        name: source.name.clone(),
        origin: source.origin.clone(),
        path: folder.path.clone(),
        settle: folder.settle,
        recursive: folder.recursive,
        marker: folder.marker.clone(),
        keep: folder.keep,
        rescan: folder.rescan,
        pinned_format: source.pinned_format.clone(),
        reading: config.reading(source, &formats.versions()),
    }
}

fn served(config: &Config, source: &SourceConfig, server: &SftpConfig, formats: &Formats) -> sftp::Config {
    sftp::Config {
        name: source.name.clone(),
        state_dir: config.state_dir.clone(),
        listen: server.listen.clone(),
        accounts: server.accounts.iter().map(|one| account(config, source, one, formats)).collect(),
        feedback: server.feedback,
        marker: server.marker.clone(),
        shown_for: server.shown_for,
        partial_for: server.partial_for,
        idle: server.idle,
        connections: server.connections,
        connections_per_address: server.connections_per_address,
        legacy_algorithms: server.legacy_algorithms,
        pinned_format: source.pinned_format.clone(),
    }
}

/// An account with its secrets. What cannot be had keeps the others from nothing.
fn account(
    config: &Config,
    source: &SourceConfig,
    account: &AccountConfig,
    formats: &Formats,
) -> sftp::AccountSettings {
    let mut trouble = Vec::new();
    let (password, keys) = credentials(account, &mut trouble);
    let origin = config.origin(&account.origin);
    let (zone, pinned) = (source.time_zone.as_ref(), source.pinned_format.as_deref());
    let network = |(address, bits): &(std::net::IpAddr, u8)| sftp::Network { address: *address, bits: *bits };
    sftp::AccountSettings {
        user: account.user.clone(),
        origin: account.origin.clone(),
        password,
        keys,
        networks: account.networks.iter().map(network).collect(),
        quota: account.quota,
        max_file: account.max_file,
        sha1_signatures: account.sha1_signatures,
        reading: reading_hash(origin, zone, pinned, &formats.versions()),
        trouble: (!trouble.is_empty()).then(|| trouble.join("; ")),
    }
}

/// The hash of an account's password and its keys; what cannot be had is said with key and line.
pub fn credentials(
    account: &AccountConfig,
    trouble: &mut Vec<String>,
) -> (Option<PasswordHash>, Vec<russh::keys::PublicKey>) {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let env = |name: &str| std::env::var(name).ok();
    let given = Given { credentials: folder.as_deref(), env: &env };
    let text = match &account.password {
        None => None,
        Some(PasswordConfig::Hash(text)) => Some(text.clone()),
        Some(PasswordConfig::Kept(secret)) => match secret.value(given) {
            Ok(secret) => Some(secret.reveal().to_owned()),
            Err(error) => {
                trouble.push(error.to_string());
                None
            }
        },
    };
    let password = text.and_then(|text| match PasswordHash::new(&text) {
        Ok(hash) => Some(hash),
        Err(error) => {
            trouble.push(format!("{}: source.account.password_hash: {error}", account.place));
            None
        }
    });
    let mut keys: Vec<_> = account.keys.iter().filter_map(|line| sftp::public_key(line)).collect();
    for path in &account.key_files {
        match std::fs::read_to_string(path) {
            Ok(text) => keys.extend(text.lines().filter_map(sftp::public_key)),
            Err(error) => trouble.push(format!(
                "{}: source.account.authorized_keys: {} cannot be read: {error}; let the user that runs cdrd read it",
                account.place,
                path.display()
            )),
        }
    }
    if password.is_none() && keys.is_empty() && trouble.is_empty() {
        trouble.push(format!(
            "{}: source.account.authorized_keys: no public key in it: {} cannot log in",
            account.place, account.user
        ));
    }
    (password, keys)
}

/// For the very first start. A folder that goes missing later is the source's to report, and a disk that is not mounted
/// shows as a folder whose parent is missing too.
pub(super) fn make(settings: &folder::Config) {
    if settings.path.parent().is_some_and(std::path::Path::is_dir) {
        let _ = intake::make_folder(&settings.path, 0o755);
    }
}
