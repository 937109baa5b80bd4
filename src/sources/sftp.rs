//! An SFTP server of our own: PBXes push to it, and it knows when a file is finished, because it is the server.
//!
//! Must never answer a close before the door has its receipt, never read what was not finished, and never give anybody
//! anything but the files of its own account. Async code stays in here; the door is called on threads that may block.

mod account;
mod defence;
mod ending;
mod entry;
mod feedback;
mod host_keys;
mod listener;
mod naming;
pub mod packets;
mod password;
mod path;
mod place;
mod refusal;
mod requests;
mod serve;
mod session;
#[cfg(test)]
mod tests;
mod tree;
mod upload;

pub use host_keys::{HostKeyError, fingerprints, folder as host_key_folder};
pub use password::{PasswordHash, PasswordHashError};

use crate::intake::{Intake, IntakeError, SourceHealth};
use crate::pulse;
use account::{Account, ago};
use defence::Defence;
use entry::{Entry, Kind};
use place::{Memory, Place};
use russh::keys::{PrivateKey, PublicKey};
use session::Site;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// How often the source looks after itself.
const ROUND: Duration = Duration::from_secs(1);
/// How often what is old goes.
const TIDY: Duration = Duration::from_mins(1);
/// How often what could not be had is tried again: an address, a folder.
const AGAIN: Duration = Duration::from_secs(5);
/// From this age on a file under an unfinished name is listed.
const OVERDUE: Duration = Duration::from_hours(1);
/// How long sessions may take to let go when the source stops.
const LEAVE: Duration = Duration::from_secs(4);
/// Threads that may wait for the door at once: each waits for the flush of the others.
const BLOCKING: usize = 24;

/// An SFTP server as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the source.
    pub name: String,
    /// The state directory; host keys and unfinished uploads lie below `sftp/` in it.
    pub state_dir: PathBuf,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Who may log in.
    pub accounts: Vec<AccountSettings>,
    /// Whether senders find a note beside what they sent.
    pub feedback: bool,
    /// Ending of the empty file that says that its neighbour is complete.
    pub marker: Option<String>,
    /// How long senders see what they sent.
    pub shown_for: Duration,
    /// How long an upload that broke off waits to be resumed.
    pub partial_for: Duration,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address.
    pub connections_per_address: usize,
    /// Whether ciphers and key exchanges of old PBXes are offered too.
    pub legacy_algorithms: bool,
    /// Format that the configuration fixes.
    pub pinned_format: Option<String>,
}

/// Who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSettings {
    /// Name to log in with.
    pub user: String,
    /// Origin of what it sends.
    pub origin: String,
    /// Hash of its password; none: by key alone.
    pub password: Option<PasswordHash>,
    /// Its public keys.
    pub keys: Vec<PublicKey>,
    /// Networks that it may come from; none: any.
    pub networks: Vec<Network>,
    /// Bytes of unfinished files that it may keep here.
    pub quota: u64,
    /// Bytes of one file.
    pub max_file: u64,
    /// Whether its RSA key may sign with SHA-1.
    pub sha1_signatures: bool,
    /// Hash of everything in the configuration that changes how its files are read.
    pub reading: [u8; 16],
    /// What of it cannot be used, in words: a file that cannot be read.
    pub trouble: Option<String>,
}

/// Addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// One of them.
    pub address: IpAddr,
    /// Bits that are alike.
    pub bits: u8,
}

impl Network {
    /// Whether the address is one of them.
    pub fn holds(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let apart = own.to_bits() ^ other.to_bits();
                apart.checked_shr(32 - bits.min(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let apart = own.to_bits() ^ other.to_bits();
                apart.checked_shr(128 - bits.min(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// The public key in a line as in `authorized_keys` or a `.pub` file.
pub fn public_key(line: &str) -> Option<PublicKey> {
    PublicKey::from_openssh(line.trim()).ok()
}

/// Why the server cannot work.
#[derive(Debug, thiserror::Error)]
enum SftpError {
    #[error(transparent)]
    Door(#[from] IntakeError),
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    #[error("the SFTP server cannot be started: {0}; raise the limits on threads and descriptors")]
    Runtime(#[from] io::Error),
}

/// An SFTP server.
pub struct Server {
    config: Config,
    intake: Intake,
    /// What was said last, so that it is said once.
    said: String,
}

/// A server at work.
struct Open {
    site: Arc<Site>,
    offer: Arc<russh::server::Config>,
    stop: watch::Sender<bool>,
    /// Addresses on which it listens.
    listening: HashSet<SocketAddr>,
    /// Why it does not on others.
    refused: Vec<String>,
    runtime: Runtime,
}

impl Server {
    /// A server that hands what it receives to this door.
    pub fn new(config: Config, intake: Intake) -> Self {
        Self { config, intake, said: String::new() }
    }

    /// Serves until `stop` is set. Send a wake after setting `stop` to end it at once.
    pub fn run(mut self, stop: &AtomicBool, wake: Receiver<()>) {
        // Outcomes ring the same bell.
        let (bell, rung) = std::sync::mpsc::channel();
        if self.config.feedback {
            self.intake.ring_for_outcomes(&self.config.name, bell.clone());
        }
        std::thread::spawn(move || wake.into_iter().all(|()| bell.send(()).is_ok()));
        let stopped = || stop.load(Ordering::Acquire);
        let mut open = None;
        let mut tidied: Option<Instant> = None;
        let mut tried: Option<Instant> = None;
        while !stopped() {
            pulse::beat();
            if tried.is_none_or(|tried| tried.elapsed() >= AGAIN) {
                tried = Some(Instant::now());
                let waiting = pulse::waiting();
                self.try_open(&mut open);
                drop(waiting);
            }
            if let Some(open) = &open {
                self.tell(open);
                if tidied.is_none_or(|tidied| tidied.elapsed() >= TIDY) {
                    tidied = Some(Instant::now());
                    self.tidy(open);
                    self.report(open);
                }
            }
            let heard = {
                let _waiting = pulse::waiting();
                rung.recv_timeout(ROUND)
            };
            match heard {
                // What rang meanwhile is answered together.
                Ok(()) => while rung.try_recv().is_ok() {},
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Some(open) = open {
            let _waiting = pulse::waiting();
            leave(open);
        }
    }

    /// Opens what is not open yet.
    fn try_open(&mut self, open: &mut Option<Open>) {
        if open.is_none() {
            match self.open() {
                Ok(opened) => *open = Some(opened),
                Err(error) => {
                    self.set_state(SourceHealth::Stopped, &error.to_string());
                    return;
                }
            }
        }
        let Some(open) = open else { return };
        if open.listening.len() < self.config.listen.len() {
            self.listen(open);
            self.report(open);
        }
    }

    /// Host keys, accounts with what is remembered of them, and the threads that serve.
    fn open(&self) -> Result<Open, SftpError> {
        let keys_folder = host_keys::folder(&self.config.state_dir);
        crate::intake::make_folder(&keys_folder, 0o700)?;
        let keys: Vec<PrivateKey> = host_keys::load_or_make(&keys_folder)?;
        for key in &keys {
            tracing::info!(cdrd_source = self.config.name, "host key {}", host_keys::fingerprint(key));
        }
        if self.config.legacy_algorithms {
            tracing::warn!(
                cdrd_source = self.config.name,
                "legacy_algorithms: SHA-1 and CBC are offered, which others can break; only for PBXes that know nothing newer"
            );
        }
        let accounts = self.accounts()?;
        let defence = Defence::new(self.config.connections, self.config.connections_per_address);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(BLOCKING)
            .thread_name("sftp")
            .enable_all()
            .build()?;
        Ok(Open {
            site: Arc::new(Site::new(&self.config.name, accounts, defence, self.config.idle)),
            offer: listener::offer(keys, self.config.legacy_algorithms, self.config.idle),
            stop: watch::channel(false).0,
            listening: HashSet::new(),
            refused: Vec::new(),
            runtime,
        })
    }

    fn accounts(&self) -> Result<Vec<Account>, IntakeError> {
        let folder = self.config.state_dir.join("sftp").join(format!("source-{}", self.config.name));
        // A service that may not read it trusts nothing unflushed of an earlier process.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot = boot.unwrap_or_else(|_| ulid::Ulid::new().to_string());
        let source = account::Source {
            name: self.config.name.clone(),
            pinned_format: self.config.pinned_format.clone(),
            marker: self.config.marker.clone(),
            feedback: self.config.feedback,
            boot: boot.trim().to_owned(),
        };
        let mut remembered = self.remembered()?;
        let memory = Arc::new(Memory::default());
        let mut accounts = Vec::new();
        for settings in &self.config.accounts {
            if let Some(trouble) = &settings.trouble {
                tracing::error!(cdrd_source = self.config.name, "{trouble}");
            }
            let place =
                Place::make(&self.intake, &self.config.name, &folder, &settings.user, memory.clone())?;
            let known = remembered.remove(&settings.user).unwrap_or_default();
            let entries = self.restored(&settings.user, &place, known, &source.boot);
            let account = Account::new(settings.clone(), source.clone(), place, self.intake.clone(), entries);
            account.adopt()?;
            accounts.push(account);
        }
        Ok(accounts)
    }

    /// What was written down, by account.
    fn remembered(&self) -> Result<HashMap<String, Vec<(String, entry::Remembered)>>, IntakeError> {
        let read = |key: &str, value: &str| {
            let (user, path) = key.split_once(':')?;
            Some((user.to_owned(), path.to_owned(), Entry::from_text(value)?))
        };
        let mut by_user: HashMap<String, Vec<_>> = HashMap::new();
        for (user, path, remembered) in self.intake.bookmarks(&self.config.name, read)? {
            by_user.entry(user).or_default().push((path, remembered));
        }
        Ok(by_user)
    }

    /// The entries that still are what they were, and nothing else in the folder of unfinished files.
    fn restored(
        &self,
        user: &str,
        place: &Place,
        known: Vec<(String, entry::Remembered)>,
        boot: &str,
    ) -> Vec<(String, Entry)> {
        let mut entries = Vec::new();
        let mut gone = Vec::new();
        for (path, remembered) in known {
            match restore(place, remembered, boot) {
                Some(entry) => entries.push((path, entry)),
                None => gone.push(format!("{user}:{path}")),
            }
        }
        if !gone.is_empty()
            && let Err(error) = self.intake.forget_bookmarks(&self.config.name, gone)
        {
            tracing::warn!(cdrd_source = self.config.name, %error, "files that are gone cannot be forgotten");
        }
        let files: HashSet<&str> = entries.iter().filter_map(|(_, entry)| entry.file()).collect();
        for file in std::fs::read_dir(&place.partial).into_iter().flatten().flatten() {
            let name = file.file_name();
            if name.to_str().is_some_and(|name| !files.contains(name)) {
                place.remove(&name.to_string_lossy());
            }
        }
        entries
    }

    fn listen(&self, open: &mut Open) {
        open.refused.clear();
        for address in &self.config.listen {
            if open.listening.contains(address) {
                continue;
            }
            let bound = open.runtime.block_on(TcpListener::bind(address));
            match bound {
                Ok(listener) => {
                    let (site, offer, stop) = (open.site.clone(), open.offer.clone(), open.stop.subscribe());
                    open.runtime.spawn(listener::accept(listener, site, offer, stop));
                    open.listening.insert(*address);
                    tracing::info!(cdrd_source = self.config.name, "SFTP listens on {address}");
                }
                Err(error) => open.refused.push(format!(
                    "source.listen: cannot listen on {address}: {error}; free the port, or name another; it is tried again"
                )),
            }
        }
    }

    /// Tells senders how what they sent ended.
    fn tell(&self, open: &Open) {
        if !self.config.feedback {
            return;
        }
        let mut notes = feedback::Notes(&open.site.accounts);
        match self.intake.tell_outcomes(&self.config.name, &mut notes) {
            Ok(told) => {
                if let Some(failure) = told.failure {
                    tracing::warn!(cdrd_source = self.config.name, "senders cannot be told: {failure}");
                }
            }
            Err(error) => tracing::warn!(cdrd_source = self.config.name, %error, "senders cannot be told"),
        }
    }

    fn tidy(&self, open: &Open) {
        for account in open.site.accounts.values() {
            account.expire(ago(self.config.shown_for), ago(self.config.partial_for));
        }
    }

    /// Writes the state of the source.
    fn report(&mut self, open: &Open) {
        let mut words = open.refused.clone();
        words.extend(self.config.accounts.iter().filter_map(|account| account.trouble.clone()));
        let mut waiting: Vec<String> = (open.site.accounts.values())
            .flat_map(|account| {
                let user = &account.settings.user;
                account.unfinished(ago(OVERDUE)).into_iter().map(move |name| format!("{name} of {user}"))
            })
            .collect();
        waiting.sort();
        if let Some(first) = waiting.first() {
            words.push(format!(
                "{} unfinished for more than an hour, for example {first}; its sender has to rename it (or send its marker)",
                waiting.len()
            ));
        }
        let health = match open.listening.len() {
            0 => SourceHealth::Stopped,
            listening if listening < self.config.listen.len() => SourceHealth::Retrying,
            _ if self.config.accounts.iter().any(|account| account.trouble.is_some()) => {
                SourceHealth::Retrying
            }
            _ => SourceHealth::Ok,
        };
        self.set_state(health, &words.join("; "));
    }

    fn set_state(&mut self, health: SourceHealth, message: &str) {
        if let Err(error) = self.intake.set_source_state(&self.config.name, health, message) {
            let text = error.to_string();
            if self.said != text {
                tracing::warn!(
                    cdrd_source = self.config.name,
                    "the state of the source could not be noted: {text}"
                );
                self.said = text;
            }
        }
    }
}

/// An entry whose file is still there, with what of it is certain.
fn restore(place: &Place, remembered: entry::Remembered, boot: &str) -> Option<Entry> {
    let mut entry = remembered.entry;
    let Some(name) = entry.file() else { return Some(entry) };
    let path = place.partial.join(name);
    let size = std::fs::metadata(&path).ok()?.len();
    if let Kind::Partial(name) = &entry.kind {
        if remembered.boot.as_deref().is_some_and(|written| written != boot) {
            tracing::info!("an upload that a power cut may have torn is not resumed; its sender begins anew");
            place.remove(name);
            return None;
        }
        if entry.bytes > size {
            // The process died while it was written. One of the right size would look finished.
            entry.bytes = size.saturating_sub(1);
            cut(&path, entry.bytes)?;
        }
        if entry.bytes == 0 {
            place.remove(name);
            return None;
        }
    }
    Some(entry)
}

fn cut(path: &Path, bytes: u64) -> Option<()> {
    std::fs::OpenOptions::new().write(true).open(path).ok()?.set_len(bytes).ok()
}

/// Ends everything: connections are cut, and what they had open is put away.
fn leave(open: Open) {
    let Open { site, stop, runtime, .. } = open;
    let _ = stop.send(true);
    let until = Instant::now() + LEAVE;
    while site.sessions.load(Ordering::Acquire) > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    runtime.shutdown_timeout(Duration::from_secs(2));
}
