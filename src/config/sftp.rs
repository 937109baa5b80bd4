//! A source of kind "sftp": where the server listens, and who may log in. Must never take a password in plain text.

use super::keys::{self, Table};
use super::secret::{self, SecretConfig};
use super::stanza::{Spotted, Stanza};
use super::{OriginConfig, SourceConfig, SourceKind, keep, source};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);
const IDLE: Duration = Duration::from_mins(10);

/// An SFTP server of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpConfig {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Who may log in.
    pub accounts: Vec<AccountConfig>,
    /// Whether senders find a `NAME.ok` or `NAME.err` beside what they sent.
    pub feedback: bool,
    /// Ending of the empty file that says that its neighbour is complete.
    pub marker: Option<String>,
    /// How long senders see what they sent.
    pub shown_for: Duration,
    /// How long half an upload waits to be resumed.
    pub partial_for: Duration,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address.
    pub connections_per_address: usize,
    /// Whether ciphers and key exchanges of old PBXes are offered too.
    pub legacy_algorithms: bool,
}

/// Who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountConfig {
    /// Name to log in with.
    pub user: String,
    /// Origin of what it sends.
    pub origin: String,
    /// Hash of its password.
    pub password: Option<PasswordConfig>,
    /// Its public keys, lines of `authorized_keys`, and files of such lines.
    pub keys: Vec<String>,
    /// See [`AccountConfig::keys`].
    pub key_files: Vec<PathBuf>,
    /// Networks that it may come from, address and length of prefix; none: any.
    pub networks: Vec<(IpAddr, u8)>,
    /// Bytes of unfinished files that it may keep here.
    pub quota: u64,
    /// Bytes of one file.
    pub max_file: u64,
    /// Whether its RSA key may sign with SHA-1.
    pub sha1_signatures: bool,
    /// File and line of its stanza, for messages.
    pub place: String,
}

/// Where the hash of a password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordConfig {
    /// Here.
    Hash(String),
    /// Elsewhere.
    Kept(SecretConfig),
}

/// The accounts of a server, all that are right.
pub fn accounts(stanza: &mut Stanza<'_, '_>, origins: &[OriginConfig], base: &Path) -> Vec<AccountConfig> {
    let usual = stanza.text(keys::ORIGIN).map(|origin| origin.value);
    let mut accounts: Vec<AccountConfig> = Vec::new();
    for one in stanza.list(keys::ACCOUNT) {
        let Some(mut stanza) = Stanza::of(one, Table::Account, stanza.faults) else { continue };
        let account = account(&mut stanza, usual.as_deref(), origins, base, &accounts);
        stanza.unknown_keys();
        accounts.extend(account);
    }
    accounts
}

fn account(
    stanza: &mut Stanza<'_, '_>,
    usual: Option<&str>,
    origins: &[OriginConfig],
    base: &Path,
    before: &[AccountConfig],
) -> Option<AccountConfig> {
    let user = user(stanza, before);
    let origin = match usual {
        Some(usual) if !stanza.has(keys::ORIGIN) => Some(usual.to_owned()),
        _ => source::origin(stanza, origins),
    };
    let password = password(stanza, base);
    let (keys, key_files) = public_keys(stanza, base);
    if password.is_none() && !stanza.has(keys::PASSWORD_HASH) && !stanza.has(keys::AUTHORIZED_KEYS) {
        stanza.lack(
            keys::PASSWORD_HASH,
            "is missing, and so is authorized_keys: nobody could log in; `cdrd sftp hash-password` makes a hash".to_owned(),
        );
    }
    let networks = networks(stanza);
    let account = AccountConfig {
        user: user?,
        origin: origin?,
        password,
        keys,
        key_files,
        networks,
        quota: keep::size(stanza, keys::QUOTA).unwrap_or(10 << 30),
        max_file: keep::size(stanza, keys::MAX_FILE).unwrap_or(4 << 30),
        sha1_signatures: stanza.flag(keys::SHA1_SIGNATURES, false),
        place: stanza.place(),
    };
    Some(account)
}

/// The name goes into rows, log fields and messages, so that its letters are few.
fn user(stanza: &mut Stanza<'_, '_>, before: &[AccountConfig]) -> Option<String> {
    let Some(text) = stanza.text(keys::USER) else {
        if !stanza.has(keys::USER) {
            stanza.lack(keys::USER, "is missing; name the account, user = \"pbx-hq\"".to_owned());
        }
        return None;
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.value.chars().all(plain) || text.value.len() > 64 || text.value.starts_with('.') {
        stanza.faults.push(
            text.fault(
                "may hold letters from a to z, digits, '-', '_' and '.' only, 64 at most; choose such a name"
                    .to_owned(),
            ),
        );
        return None;
    }
    if let Some(other) = before.iter().find(|other| other.user == text.value) {
        let message =
            format!("\"{}\" is taken by the account at {}; choose another name", text.value, other.place);
        stanza.faults.push(text.fault(message));
        return None;
    }
    Some(text.value)
}

fn password(stanza: &mut Stanza<'_, '_>, base: &Path) -> Option<PasswordConfig> {
    if stanza.is_table(keys::PASSWORD_HASH) {
        return secret::read(stanza, keys::PASSWORD_HASH, base).map(PasswordConfig::Kept);
    }
    let text = stanza.text(keys::PASSWORD_HASH)?;
    if text.value.starts_with("$argon2") {
        return Some(PasswordConfig::Hash(text.value));
    }
    // What stands there may be the password itself: it is not repeated.
    stanza.faults.push(text.fault(
        "is no argon2 hash; never write the password itself: `cdrd sftp hash-password` makes the hash of it".to_owned(),
    ));
    None
}

/// Keys as they stand, and files of keys.
fn public_keys(stanza: &mut Stanza<'_, '_>, base: &Path) -> (Vec<String>, Vec<PathBuf>) {
    let (mut keys, mut files) = (Vec::new(), Vec::new());
    for text in stanza.texts(keys::AUTHORIZED_KEYS).unwrap_or_default() {
        let kinds = ["ssh-", "ecdsa-", "sk-"];
        if !kinds.iter().any(|kind| text.value.starts_with(kind)) {
            files.push(base.join(&text.value));
        } else if russh::keys::PublicKey::from_openssh(text.value.trim()).is_ok() {
            keys.push(text.value);
        } else {
            stanza.faults.push(
                text.fault(
                    "is no public key; copy the one line of the .pub file, or name a file of such lines"
                        .to_owned(),
                ),
            );
        }
    }
    (keys, files)
}

fn networks(stanza: &mut Stanza<'_, '_>) -> Vec<(IpAddr, u8)> {
    let mut networks = Vec::new();
    for text in stanza.texts(keys::NETWORKS).unwrap_or_default() {
        if let Some(network) = network(&text.value) {
            networks.push(network);
        } else {
            let message =
                format!("{:?} is no network; write it like \"192.0.2.0/24\" or \"192.0.2.7\"", text.value);
            stanza.faults.push(text.fault(message));
        }
    }
    networks
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(most), |length| length.parse().ok())?;
    (length <= most).then_some((address, length))
}

/// What is said of the server itself.
pub fn read(stanza: &mut Stanza<'_, '_>, accounts: Vec<AccountConfig>) -> Option<SftpConfig> {
    stanza.becomes(Table::Sftp);
    if accounts.is_empty() && !stanza.has(keys::ACCOUNT) {
        stanza.lack(
            keys::ACCOUNT,
            "is missing: nobody could log in; `cdrd sftp add-account` writes a [[source.account]] stanza"
                .to_owned(),
        );
    }
    let listen = listeners(stanza);
    let marker = source::marker(stanza);
    let server = SftpConfig {
        listen,
        accounts,
        feedback: stanza.flag(keys::FEEDBACK, false),
        marker,
        shown_for: days(stanza, keys::SHOW_DAYS, 1),
        partial_for: days(stanza, keys::PARTIAL_DAYS, 7),
        idle: stanza.duration(keys::IDLE, IDLE),
        connections: count(stanza, keys::CONNECTIONS, 500),
        connections_per_address: count(stanza, keys::CONNECTIONS_PER_ADDRESS, 64),
        legacy_algorithms: stanza.flag(keys::LEGACY_ALGORITHMS, false),
    };
    stanza.unknown_keys();
    (!server.listen.is_empty()).then_some(server)
}

fn listeners(stanza: &mut Stanza<'_, '_>) -> Vec<SocketAddr> {
    if !stanza.has(keys::LISTEN) {
        let message = "is missing; say where the server listens, listen = \"0.0.0.0:2022\"".to_owned();
        stanza.lack(keys::LISTEN, message);
    }
    let mut addresses = Vec::new();
    for text in stanza.texts(keys::LISTEN).unwrap_or_default() {
        match text.value.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => stanza.faults.push(text.fault(format!(
                "{:?} is no address with a port; write it like \"0.0.0.0:2022\" or \"[::]:2022\"",
                text.value
            ))),
        }
    }
    addresses
}

fn days(stanza: &mut Stanza<'_, '_>, key: &str, usual: u32) -> Duration {
    DAY * u32::try_from(count(stanza, key, usual as usize)).unwrap_or(usual)
}

/// A number from 1 on.
fn count(stanza: &mut Stanza<'_, '_>, key: &str, usual: usize) -> usize {
    let numbers: Option<Vec<Spotted<usize>>> = stanza.numbers(key);
    match numbers.as_deref() {
        Some([number]) if number.value > 0 => number.value,
        Some(numbers) => {
            let fault = numbers[0].fault(format!("is no single number from 1 on; write {key} = {usual}"));
            stanza.faults.push(fault);
            usual
        }
        None => usual,
    }
}

/// An address serves one source.
pub fn check_listeners(
    server: &SftpConfig,
    source: &SourceConfig,
    before: &[SourceConfig],
    wrong: &mut dyn FnMut(String),
) {
    for other in before {
        let SourceKind::Sftp(earlier) = &other.kind else { continue };
        for address in server.listen.iter().filter(|address| earlier.listen.contains(address)) {
            wrong(format!(
                "sources {:?} and {:?} would both listen on {address}; put the accounts into one of them, or name another port",
                other.name, source.name
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::network;

    #[test]
    fn networks_have_an_address_and_perhaps_a_length() {
        let is = |text: &str| network(text).map(|(address, length)| format!("{address}/{length}"));
        assert_eq!(is("192.0.2.0/24").as_deref(), Some("192.0.2.0/24"));
        assert_eq!(is("192.0.2.7").as_deref(), Some("192.0.2.7/32"));
        assert_eq!(is("2001:db8::/32").as_deref(), Some("2001:db8::/32"));
        for wrong in ["192.0.2.0/33", "192.0.2", "pbx.example", "192.0.2.0/", ""] {
            assert_eq!(is(wrong), None, "{wrong}");
        }
    }
}
