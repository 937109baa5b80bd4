//! One SSH connection: who it is, and the one thing that it may ask for, SFTP. Everything else is refused with an answer:
//! clients wait for ever for one that does not come.

use super::account::Account;
use super::defence::Defence;
use super::password::PasswordHash;
use super::requests::Requests;
use super::serve::serve;
use crate::telemetry;
use russh::keys::{Algorithm, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, MethodKind, MethodSet, Pty, Sig};
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// Passwords that are verified at once: a hash costs memory and time on purpose.
const VERIFIED_AT_ONCE: usize = 2;
/// SFTP sessions in one connection.
const MOST_CHANNELS: usize = 8;

/// What all connections of a source share.
#[derive(Debug)]
pub(super) struct Site {
    pub source: String,
    pub accounts: HashMap<String, Arc<Account>>,
    pub defence: Arc<Defence>,
    /// How long a client may ask for nothing.
    pub idle: Duration,
    verifying: Semaphore,
    /// Verified where there is no such account: nobody learns by the time it takes.
    nobody: PasswordHash,
    /// Sessions that have files to let go of.
    pub sessions: AtomicUsize,
}

impl Site {
    pub fn new(source: &str, accounts: Vec<Account>, defence: Arc<Defence>, idle: Duration) -> Self {
        let accounts = accounts.into_iter().map(|one| (one.settings.user.clone(), Arc::new(one))).collect();
        let nobody = PasswordHash::of("nobody logs in with this").expect("it is short");
        let verifying = Semaphore::new(VERIFIED_AT_ONCE);
        Self {
            source: source.to_owned(),
            accounts,
            defence,
            idle,
            verifying,
            nobody,
            sessions: AtomicUsize::new(0),
        }
    }

    /// The account with this name and password, if it may come from there.
    async fn verified(&self, user: &str, password: &str, peer: IpAddr) -> Option<Arc<Account>> {
        let account = self.accounts.get(user).filter(|account| account.lets_in(peer)).cloned();
        let hash = account.as_ref().and_then(|account| account.settings.password.clone());
        let known = hash.is_some();
        let (hash, password) = (hash.unwrap_or_else(|| self.nobody.clone()), password.to_owned());
        let _turn = self.verifying.acquire().await.ok()?;
        let verified = tokio::task::spawn_blocking(move || hash.is_of(&password)).await.unwrap_or(false);
        account.filter(|_| verified && known)
    }

    /// Says in the journal who failed, in words that a ban list can find.
    fn refuse(&self, user: &str, peer: IpAddr) {
        let (message_id, source) = (telemetry::LOGIN_REFUSED, &self.source);
        // What was typed as a name may be the password.
        let name = if self.accounts.contains_key(user) { user } else { "(unknown)" };
        tracing::warn!(
            message_id,
            cdrd_source = source,
            cdrd_peer = %peer,
            "SFTP log-in refused for account {name} from {peer}"
        );
        if let Some(wait) = self.defence.failed(peer, Instant::now()) {
            tracing::warn!(
                message_id,
                cdrd_source = source,
                cdrd_peer = %peer,
                "SFTP: {peer} failed too often and is turned away for {} minutes",
                wait.as_secs() / 60
            );
        }
    }
}

/// One connection.
pub(super) struct Connection {
    site: Arc<Site>,
    peer: IpAddr,
    account: Option<Arc<Account>>,
    logged_in: watch::Sender<bool>,
    channels: HashMap<ChannelId, Channel<Msg>>,
}

impl Connection {
    pub fn new(site: Arc<Site>, peer: IpAddr, logged_in: watch::Sender<bool>) -> Self {
        Self { site, peer, account: None, logged_in, channels: HashMap::new() }
    }

    /// The account that may log in with this key.
    fn owner_of(&self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> Option<Arc<Account>> {
        let account = self.site.accounts.get(user).filter(|account| account.lets_in(self.peer))?;
        let settings = &account.settings;
        let weak = matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa);
        if weak && !settings.sha1_signatures {
            return None;
        }
        settings.keys.iter().any(|known| known.key_data() == key.key_data()).then(|| account.clone())
    }

    async fn by_password(&mut self, user: &str, password: &str) -> Auth {
        if let Some(account) = self.site.verified(user, password, self.peer).await {
            self.let_in(&account, "password")
        } else {
            self.site.refuse(user, self.peer);
            refused()
        }
    }

    fn let_in(&mut self, account: &Arc<Account>, how: &str) -> Auth {
        self.site.defence.succeeded(self.peer);
        tracing::debug!(cdrd_source = self.site.source, "{} is in by {how}", account.settings.user);
        self.account = Some(account.clone());
        Auth::Accept
    }
}

fn refused() -> Auth {
    Auth::reject()
}

/// How somebody may log in.
pub(super) fn methods() -> MethodSet {
    let mut methods = MethodSet::empty();
    for method in [MethodKind::PublicKey, MethodKind::Password, MethodKind::KeyboardInteractive] {
        methods.push(method);
    }
    methods
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        Ok(self.by_password(user, password).await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let Some(mut response) = response else {
            return Ok(Auth::Partial {
                name: Cow::Borrowed(""),
                instructions: Cow::Borrowed(""),
                prompts: Cow::Borrowed(&[(Cow::Borrowed("Password: "), false)]),
            });
        };
        let password = response.next().unwrap_or_default();
        let password = String::from_utf8_lossy(&password).into_owned();
        Ok(self.by_password(user, &password).await)
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let owner = self.owner_of(user, offer.public_key, offer.algorithm);
        Ok(if owner.is_some() { Auth::Accept } else { refused() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let Some(account) = self.owner_of(user, key.public_key, key.algorithm) else {
            self.site.refuse(user, self.peer);
            return Ok(refused());
        };
        if matches!(key.algorithm, Algorithm::Rsa { hash: None }) {
            tracing::warn!(
                cdrd_source = self.site.source,
                "account {} signs with SHA-1, as sha1_signatures allows; give its PBX a newer key when it can",
                account.settings.user
            );
        }
        Ok(self.let_in(&account, "key"))
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), Self::Error> {
        let _ = self.logged_in.send(true);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        // Not accepting refuses it.
        if self.channels.len() < MOST_CHANNELS {
            self.channels.insert(channel.id(), channel);
            reply.accept().await;
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.channels.remove(&channel);
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let account = self.account.clone().filter(|_| name == "sftp");
        let (Some(account), Some(channel)) = (account, self.channels.remove(&id)) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let (site, peer, handle) = (self.site.clone(), self.peer, session.handle());
        site.sessions.fetch_add(1, Ordering::AcqRel);
        tokio::spawn(async move {
            let mut stream = channel.into_stream();
            let requests = serve(&mut stream, Requests::new(account, peer), site.idle).await;
            if let Some(requests) = requests {
                let _ = tokio::task::spawn_blocking(move || requests.end()).await;
            }
            site.sessions.fetch_sub(1, Ordering::AcqRel);
            // Clients want to hear how it ended, and that it did not is what they take its absence for.
            let _ = handle.exit_status_request(id, 0).await;
            let _ = handle.eof(id).await;
            drop(stream);
            let _ = handle.close(id).await;
        });
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        _data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _term: &str,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn signal(
        &mut self,
        _id: ChannelId,
        _signal: Sig,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }
}
