//! The device's certificate: signed by itself, made by the program that everybody has.

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed by tests/run");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A new certificate and key in this folder, and a server that shows them.
pub fn certificate(folder: &Path) -> Arc<ServerConfig> {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let path = |path: &Path| path.to_str().expect("temporary folders have plain names").to_owned();
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=ucm",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        &path(&key),
        "-out",
        &path(&certificate),
    ]);
    let chain = vec![CertificateDer::from_pem_file(&certificate).expect("openssl wrote it")];
    let key = PrivateKeyDer::from_pem_file(&key).expect("openssl wrote it");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    Arc::new(config)
}

/// SHA-256 of a certificate, in small letters.
pub fn fingerprint(certificate: &Path) -> String {
    let path = certificate.to_str().expect("temporary folders have plain names");
    let said = openssl(&["x509", "-in", path, "-noout", "-fingerprint", "-sha256"]);
    let said = String::from_utf8_lossy(&said).into_owned();
    let (_, hex) = said.trim().split_once('=').expect("NAME=HEX");
    hex.replace(':', "").to_lowercase()
}
