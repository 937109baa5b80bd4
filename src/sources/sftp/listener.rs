//! Accepting connections: one that fails never ends the listener, and none stays that does not log in.

use super::session::{Connection, Site, methods};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::server::{Config, run_stream};
use russh::{Preferred, SshId, cipher, compression, kex, mac};
use std::borrow::Cow;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long a client may take to log in.
const LOGIN: Duration = Duration::from_secs(30);
/// How long the listener rests after an error that is not the client's: the host has no descriptors left.
const REST: Duration = Duration::from_millis(200);
/// How long a connection that was cut may take to notice.
const CUT: Duration = Duration::from_secs(3);

/// What SSH offers here.
pub(super) fn offer(keys: Vec<PrivateKey>, legacy: bool, idle: Duration) -> Arc<Config> {
    Arc::new(Config {
        // Says nothing of versions.
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-cdrd")),
        methods: methods(),
        auth_rejection_time: Duration::from_secs(1),
        // Every client asks first what there is.
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: 10,
        keys,
        preferred: preferred(legacy),
        inactivity_timeout: Some(idle),
        // Their answers would count as activity.
        keepalive_interval: None,
        ..Config::default()
    })
}

fn preferred(legacy: bool) -> Preferred {
    let mut exchanges = vec![
        kex::MLKEM768X25519_SHA256,
        kex::CURVE25519,
        kex::CURVE25519_PRE_RFC_8731,
        // Common in PBXes.
        kex::ECDH_SHA2_NISTP256,
        kex::ECDH_SHA2_NISTP384,
        kex::ECDH_SHA2_NISTP521,
        kex::DH_GEX_SHA256,
        kex::DH_G18_SHA512,
        kex::DH_G16_SHA512,
        kex::DH_G14_SHA256,
    ];
    let mut keys = vec![
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ];
    let mut ciphers = vec![
        cipher::AES_256_GCM,
        cipher::AES_128_GCM,
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ];
    let mut macs = vec![mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM, mac::HMAC_SHA512, mac::HMAC_SHA256];
    if legacy {
        exchanges.extend([kex::DH_G14_SHA1, kex::DH_GEX_SHA1, kex::DH_G1_SHA1]);
        keys.push(Algorithm::Rsa { hash: None });
        ciphers.extend([cipher::AES_256_CBC, cipher::AES_192_CBC, cipher::AES_128_CBC]);
        macs.extend([mac::HMAC_SHA1_ETM, mac::HMAC_SHA1]);
    }
    exchanges.extend([
        kex::EXTENSION_SUPPORT_AS_CLIENT,
        kex::EXTENSION_SUPPORT_AS_SERVER,
        kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
        kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
    ]);
    Preferred {
        kex: exchanges.into(),
        key: keys.into(),
        cipher: ciphers.into(),
        mac: macs.into(),
        // Before somebody has logged in nothing is unpacked.
        compression: Cow::Borrowed(&[compression::NONE, compression::ZLIB_LEGACY]),
        ..Preferred::DEFAULT
    }
}

/// Accepts until `stop` says so.
pub(super) async fn accept(
    listener: TcpListener,
    site: Arc<Site>,
    config: Arc<Config>,
    mut stop: watch::Receiver<bool>,
) {
    let mut said = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                said = false;
                admit(stream, peer, &site, &config, &stop);
            }
            Err(error) => {
                // One client's end is not ours.
                if !said && error.kind() != std::io::ErrorKind::ConnectionAborted {
                    tracing::warn!(
                        cdrd_source = site.source,
                        %error,
                        "connections cannot be accepted now; raise LimitNOFILE= if this stays; it is tried again"
                    );
                    said = true;
                }
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    site: &Arc<Site>,
    config: &Arc<Config>,
    stop: &watch::Receiver<bool>,
) {
    let address = peer.ip().to_canonical();
    let admitted = match site.defence.admit(address, Instant::now()) {
        Ok(admitted) => admitted,
        Err(turned) => {
            // Whoever is turned away may come a thousand times a second.
            tracing::debug!(cdrd_source = site.source, "{address} is turned away: {turned:?}");
            return;
        }
    };
    let (site, config, stop) = (site.clone(), config.clone(), stop.clone());
    tokio::spawn(async move {
        if let Err(error) = converse(stream, address, site.clone(), config, stop).await {
            // Most clients end without a word.
            tracing::debug!(cdrd_source = site.source, %error, "a connection from {address} ended");
        }
        drop(admitted);
    });
}

/// One connection from its first byte to its last.
async fn converse(
    stream: TcpStream,
    peer: std::net::IpAddr,
    site: Arc<Site>,
    config: Arc<Config>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), russh::Error> {
    let _ = stream.set_nodelay(true);
    let socket = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
    let (tell, mut told) = watch::channel(false);
    let connection = Connection::new(site, peer, tell);
    let began = tokio::time::Instant::now();
    let running = tokio::time::timeout_at(began + LOGIN, run_stream(config, stream, connection)).await;
    let Ok(running) = running else {
        return Err(russh::Error::ConnectionTimeout);
    };
    let mut running = running?;
    let late = async {
        let logged_in = told.wait_for(|logged_in| *logged_in);
        if tokio::time::timeout_at(began + LOGIN, logged_in).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = &mut running => return ended,
        () = late => Err(russh::Error::ConnectionTimeout),
        _ = stop.changed() => Ok(()),
    };
    // The one way that no client can hold up.
    let _ = socket.shutdown(Shutdown::Both);
    let _ = tokio::time::timeout(CUT, running).await;
    ended
}
