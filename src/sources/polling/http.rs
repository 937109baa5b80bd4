//! Asking over HTTPS: one request, one answer, one connection, and one time for all of it. Devices keep few connections and
//! forget them; a new one for each request costs a handshake and never the answer to another question.
//!
//! Must never repeat what the far side says in a message (it may echo a secret), and never wait longer than it was told.

use super::tls::Doorman;
use crate::pulse;
use crate::record::remote::{Endpoint, Fingerprint, Trust};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::ServerName;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

/// Longest answer: a page of a thousand groups with dozens of legs each is far shorter.
const LONGEST: usize = 64 * 1024 * 1024;
/// How often a request looks whether it is to stop.
const SLICE: Duration = Duration::from_millis(100);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The far side's clock, where it says it.
    pub date: Option<Timestamp>,
    /// Body.
    pub body: Vec<u8>,
}

/// Why there is no answer. Says nothing that the far side said.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody can be reached there.
    #[error("{authority} cannot be reached: {cause}; look at its network and at the port in url")]
    Unreachable {
        /// Where.
        authority: String,
        /// Why.
        cause: io::Error,
    },
    /// Its certificate is not trusted.
    #[error(
        "the certificate of {authority} is not trusted ({why}); it is {fingerprint}: compare that with what the device shows, \
         then write tls = \"pin:{fingerprint}\""
    )]
    Untrusted {
        /// Where.
        authority: String,
        /// What rustls says.
        why: String,
        /// SHA-256 of what it showed.
        fingerprint: Fingerprint,
    },
    /// It speaks no TLS that is still spoken.
    #[error(
        "{authority} does not speak TLS 1.2 or 1.3 as it is spoken today ({cause}); update its firmware, and see that url has \
         the port of its web page"
    )]
    NoTls {
        /// Where.
        authority: String,
        /// What rustls says.
        cause: String,
    },
    /// It took too long.
    #[error("{authority} did not answer within {} s; it is asked again", within.as_secs())]
    TimedOut {
        /// Where.
        authority: String,
        /// How long it had.
        within: Duration,
    },
    /// The connection broke.
    #[error("{authority} broke off its answer; it is asked again")]
    BrokenOff {
        /// Where.
        authority: String,
    },
    /// The answer does not end.
    #[error("the answer of {authority} is longer than 64 MiB, which no page of calls is; lower page_size")]
    TooLong {
        /// Where.
        authority: String,
    },
    /// What every request needs is missing here.
    #[error("nothing can be asked from here: {0}; check the limits on threads and open files")]
    Here(io::Error),
    /// Told to stop.
    #[error("stopped")]
    Stopped,
}

impl HttpError {
    /// Whether waiting alone does not help.
    pub const fn needs_a_person(&self) -> bool {
        matches!(self, Self::Untrusted { .. } | Self::NoTls { .. } | Self::TooLong { .. })
    }
}

/// The runtime that all pollers share: they wait on it, their threads do the rest.
fn runtime() -> io::Result<Arc<Runtime>> {
    static SHARED: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*shared {
        return Ok(runtime.clone());
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = Arc::new(builder.worker_threads(1).thread_name("polling").enable_all().build()?);
    *shared = Some(runtime.clone());
    Ok(runtime)
}

/// Asks one far side.
#[derive(Debug)]
pub struct Client {
    runtime: Arc<Runtime>,
    endpoint: Endpoint,
    within: Duration,
    doorman: Arc<Doorman>,
    tls: Arc<rustls::ClientConfig>,
}

impl Client {
    /// A client of this far side; a request takes at most so long.
    pub fn new(endpoint: Endpoint, trust: Trust, within: Duration) -> Result<Self, HttpError> {
        let (doorman, tls) = Doorman::new(trust).map_err(|error| HttpError::Here(io::Error::other(error)))?;
        let runtime = runtime().map_err(HttpError::Here)?;
        Ok(Self { runtime, endpoint, within, doorman, tls: Arc::new(tls) })
    }

    /// The certificate that it last showed.
    pub fn certificate(&self) -> Option<Fingerprint> {
        self.doorman.shown()
    }

    /// Sends JSON and waits for the answer.
    pub fn post(&self, body: String, stop: &AtomicBool) -> Result<Answer, HttpError> {
        let _waiting = pulse::waiting();
        let (within, authority) = (self.within, self.endpoint.authority());
        self.runtime.block_on(async {
            let stopped = async {
                while !stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(SLICE).await;
                }
            };
            tokio::select! {
                answered = tokio::time::timeout(within, self.asked(body)) => {
                    answered.unwrap_or(Err(HttpError::TimedOut { authority, within }))
                }
                () = stopped => Err(HttpError::Stopped),
            }
        })
    }

    async fn asked(&self, body: String) -> Result<Answer, HttpError> {
        let authority = self.endpoint.authority();
        let broken = |_| HttpError::BrokenOff { authority: authority.clone() };
        let stream = self.connected().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the connection, which ends with the answer.
        let driven = tokio::spawn(connection);
        let request = Request::post(&self.endpoint.path)
            .header(header::HOST, &authority)
            .header(header::CONTENT_TYPE, "application/json;charset=UTF-8")
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| HttpError::Here(io::Error::other(error)))?;
        let answered = sender.send_request(request).await;
        let read = async {
            let answer = answered.map_err(broken)?;
            let status = answer.status().as_u16();
            let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
            let date =
                date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
            let body = Limited::new(answer.into_body(), LONGEST).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    HttpError::TooLong { authority: authority.clone() }
                } else {
                    HttpError::BrokenOff { authority: authority.clone() }
                }
            })?;
            Ok(Answer { status, date, body: body.to_bytes().into() })
        };
        let answer = read.await;
        driven.abort();
        answer
    }

    async fn connected(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, HttpError> {
        let (host, port) = (self.endpoint.host.as_str(), self.endpoint.port);
        let authority = self.endpoint.authority();
        let unreachable = |cause| HttpError::Unreachable { authority: authority.clone(), cause };
        let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| unreachable(io::Error::new(ErrorKind::InvalidInput, "this is no host name")))?;
        let connected = TlsConnector::from(self.tls.clone()).connect(name, stream).await;
        connected.map_err(|cause| self.not_let_in(&cause, authority.clone()))
    }

    fn not_let_in(&self, cause: &io::Error, authority: String) -> HttpError {
        let said = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (said, self.doorman.shown()) {
            (Some(rustls::Error::InvalidCertificate(why)), Some(fingerprint)) => {
                use rustls::CertificateError as Wrong;
                let why = match why {
                    Wrong::ApplicationVerificationFailure => "it is another one than is pinned",
                    Wrong::UnknownIssuer => "nobody whom this host trusts signed it",
                    Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => "it is for another name",
                    Wrong::Expired | Wrong::ExpiredContext { .. } => "it has expired",
                    Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
                        "it is not valid yet: look at the clocks"
                    }
                    _ => "it is not valid",
                };
                let why = why.to_owned();
                HttpError::Untrusted { authority, why, fingerprint }
            }
            (Some(error @ (rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_))), _) => {
                HttpError::NoTls { authority, cause: format!("{error:?}") }
            }
            (Some(rustls::Error::InvalidMessage(_)), _) => {
                HttpError::NoTls { authority, cause: "what it says is no TLS".to_owned() }
            }
            _ => HttpError::BrokenOff { authority },
        }
    }
}
