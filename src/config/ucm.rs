//! A source of kind "ucm": a Grandstream UCM or CloudUCM that is asked for its calls. Must never hold its password.

use super::keys;
use super::secret::{self, SecretConfig};
use super::stanza::{Spotted, Stanza};
use crate::record::remote::{Endpoint, Trust, fingerprint};
use jiff::SignedDuration;
use std::path::Path;
use std::time::Duration;

const EVERY: Duration = Duration::from_mins(2);
const OVERLAP: Duration = Duration::from_mins(10);
const TIMEOUT: Duration = Duration::from_mins(2);
const DAYS_BACK: usize = 30;
const PAGE_SIZE: usize = 1000;
/// Devices lock out who asks more often.
const SHORTEST: Duration = Duration::from_secs(1);
const PORT: u16 = 8089;

/// A UCM that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UcmConfig {
    /// Where its API is.
    pub endpoint: Endpoint,
    /// The API user.
    pub user: String,
    /// Where its password is.
    pub password: SecretConfig,
    /// Whose certificate is good.
    pub trust: Trust,
    /// Rest between two cycles.
    pub every: Duration,
    /// How far back the first run reads.
    pub back: SignedDuration,
    /// How much is asked for again each time.
    pub overlap: SignedDuration,
    /// How long one request may take.
    pub timeout: Duration,
    /// Elements of a page.
    pub page_size: usize,
}

/// What a stanza says; `None` if something that is needed is missing or wrong.
pub(super) fn read(stanza: &mut Stanza<'_, '_>, base: &Path) -> Option<UcmConfig> {
    let endpoint = url(stanza);
    let user = stanza.text(keys::USER).map(|text| text.value);
    if user.is_none() && !stanza.has(keys::USER) {
        stanza.lack(
            keys::USER,
            "is missing; write the user of the device's API page, user = \"cdrapi\"".to_owned(),
        );
    }
    let password = secret::read(stanza, keys::PASSWORD, base);
    if password.is_none() && !stanza.has(keys::PASSWORD) {
        let message = "is missing; write where it is, password = { file = \"/etc/cdrd/ucm-password\" }";
        stanza.lack(keys::PASSWORD, message.to_owned());
    }
    let trust = trust(stanza);
    let every = stanza.duration(keys::EVERY, EVERY);
    let overlap = stanza.duration(keys::OVERLAP, OVERLAP);
    let timeout = stanza.duration(keys::TIMEOUT, TIMEOUT);
    for (key, long) in [(keys::EVERY, every), (keys::TIMEOUT, timeout)] {
        if long < SHORTEST
            && let Some(place) = stanza.place_of(key)
        {
            stanza.faults.push(place.fault("must be at least \"1s\"".to_owned()));
        }
    }
    let days = number(stanza, keys::DAYS_BACK, DAYS_BACK, 10_000);
    let page_size = number(stanza, keys::PAGE_SIZE, PAGE_SIZE, 1000);
    stanza.unknown_keys();
    let hours = i64::try_from(days).unwrap_or(0) * 24;
    Some(UcmConfig {
        endpoint: endpoint?,
        user: user?,
        password: password?,
        trust: trust?,
        every,
        back: SignedDuration::from_hours(hours),
        overlap: SignedDuration::try_from(overlap).ok()?,
        timeout,
        page_size,
    })
}

fn number(stanza: &mut Stanza<'_, '_>, key: &'static str, default: usize, most: usize) -> usize {
    let Some(numbers) = stanza.numbers(key) else { return default };
    match numbers.as_slice() {
        [one] if (1..=most).contains(&one.value) => one.value,
        [first, ..] => {
            stanza.faults.push(first.fault(format!("must be one number from 1 to {most}")));
            default
        }
        [] => default,
    }
}

fn url(stanza: &mut Stanza<'_, '_>) -> Option<Endpoint> {
    let Some(text) = stanza.text(keys::URL) else {
        if !stanza.has(keys::URL) {
            let message = "is missing; write where its web page is, url = \"https://ucm.example.org:8089\"";
            stanza.lack(keys::URL, message.to_owned());
        }
        return None;
    };
    match endpoint(&text) {
        Ok(endpoint) => Some(endpoint),
        // A URL may hold a password: it is not repeated.
        Err(message) => {
            stanza.faults.push(text.fault(message.to_owned()));
            None
        }
    }
}

fn endpoint(text: &Spotted<String>) -> Result<Endpoint, &'static str> {
    const LIKE: &str = "must be like \"https://ucm.example.org:8089\"";
    let rest = text
        .value
        .trim()
        .strip_prefix("https://")
        .ok_or("must begin with https://: the device asks for TLS")?;
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    if authority.contains('@') {
        return Err("holds a user or password; write those into user and password");
    }
    if !matches!(path, "" | "/" | "/api") {
        return Err("must end after the port, or in /api");
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').or((rest.is_empty()).then_some(""))),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        },
    };
    let port = match port {
        Some("") => PORT,
        Some(port) => port.parse().map_err(|_| LIKE)?,
        None => return Err(LIKE),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
    if host.is_empty() || !host.chars().all(named) || port == 0 {
        return Err(LIKE);
    }
    Ok(Endpoint { host: host.to_owned(), port, path: "/api".to_owned() })
}

fn trust(stanza: &mut Stanza<'_, '_>) -> Option<Trust> {
    let Some(text) = stanza.text(keys::TLS) else {
        return (!stanza.has(keys::TLS)).then_some(Trust::Verified);
    };
    let pin = text.value.strip_prefix("pin:").and_then(fingerprint);
    match (text.value.as_str(), pin) {
        ("verify", _) => Some(Trust::Verified),
        ("insecure", _) => Some(Trust::Insecure),
        (_, Some(pin)) => Some(Trust::Pinned(pin)),
        _ => {
            let message = "must be \"verify\", \"pin:sha256:\" with the 64 hex digits of its certificate's fingerprint \
                           (`cdrd poll test` shows it), or \"insecure\"";
            stanza.faults.push(text.fault(message.to_owned()));
            None
        }
    }
}
