//! Whom a poller trusts: roots of this host, one pinned certificate, or anybody if the operator says so.
//!
//! Must never let a connection through that the configuration does not trust, and never stop looking at signatures.

use crate::record::remote::{Fingerprint, Trust};
use ::aws_lc_rs::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What is looked at in each handshake, and what the last one showed.
#[derive(Debug)]
pub(super) struct Doorman {
    trust: Trust,
    provider: Arc<CryptoProvider>,
    /// Absent where this host trusts no root at all.
    roots: Option<Arc<WebPkiServerVerifier>>,
    shown: Mutex<Option<Fingerprint>>,
}

/// The roots of this host, read once: they are many.
fn roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    };
    ROOTS.get_or_init(read).clone()
}

impl Doorman {
    /// One that trusts so, and the settings of connections at which it stands.
    pub fn new(trust: Trust) -> Result<(Arc<Self>, ClientConfig), Error> {
        let provider = Arc::new(default_provider());
        let verifier = || WebPkiServerVerifier::builder_with_provider(roots(), provider.clone()).build().ok();
        let roots = if trust == Trust::Verified { verifier() } else { None };
        let doorman = Arc::new(Self { trust, provider: provider.clone(), roots, shown: Mutex::new(None) });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(doorman.clone())
            .with_no_client_auth();
        Ok((doorman, config))
    }

    /// The certificate of the last handshake.
    pub fn shown(&self) -> Option<Fingerprint> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCertVerifier for Doorman {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut found = [0; 32];
        found.copy_from_slice(digest(&SHA256, certificate).as_ref());
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(Fingerprint(found));
        match (self.trust, &self.roots) {
            (Trust::Insecure, _) => Ok(ServerCertVerified::assertion()),
            (Trust::Pinned(pin), _) if pin == found => Ok(ServerCertVerified::assertion()),
            (Trust::Pinned(_), _) => Err(CertificateError::ApplicationVerificationFailure.into()),
            (Trust::Verified, Some(roots)) => {
                roots.verify_server_cert(certificate, others, name, stapled, now)
            }
            (Trust::Verified, None) => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
