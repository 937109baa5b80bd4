//! The keys by which clients know this server: made once, and never again, because every PBX would have to be told.

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::RsaKeypair;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Bits of the RSA key: for PBXes that know nothing newer.
const RSA_BITS: usize = 3072;

/// Kinds of keys, and their files.
const KINDS: [(&str, Kind); 3] = [("ed25519", Kind::Ed25519), ("ecdsa", Kind::Ecdsa), ("rsa", Kind::Rsa)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ed25519,
    Ecdsa,
    Rsa,
}

/// Why a key cannot be used or made.
#[derive(Debug, thiserror::Error)]
#[error("the host key {} cannot be {action}: {cause}; {mend}", path.display())]
pub struct HostKeyError {
    path: PathBuf,
    action: &'static str,
    cause: String,
    mend: &'static str,
}

/// The folder of the keys below the state directory.
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("sftp").join("host_keys")
}

/// Reads the keys; makes those that are missing.
pub(super) fn load_or_make(folder: &Path) -> Result<Vec<PrivateKey>, HostKeyError> {
    let mut keys = Vec::new();
    for (name, kind) in KINDS {
        let path = folder.join(name);
        keys.push(match load(&path)? {
            Some(key) => key,
            None => make(&path, kind)?,
        });
    }
    Ok(keys)
}

/// Kind and fingerprint of each key that there is, as clients show them.
pub fn fingerprints(state_dir: &Path) -> Result<Vec<String>, HostKeyError> {
    let mut found = Vec::new();
    for (name, _) in KINDS {
        if let Some(key) = load(&folder(state_dir).join(name))? {
            found.push(fingerprint(&key));
        }
    }
    Ok(found)
}

/// Kind and fingerprint of a key.
pub(super) fn fingerprint(key: &PrivateKey) -> String {
    format!("{} {}", key.algorithm().as_str(), key.fingerprint(HashAlg::Sha256))
}

fn load(path: &Path) -> Result<Option<PrivateKey>, HostKeyError> {
    let wrong = |cause: String| HostKeyError {
        path: path.to_owned(),
        action: "read",
        cause,
        mend: "let cdrd read it, or put the key back from a backup: with another key every PBX has to be told",
    };
    match std::fs::read(path) {
        Ok(text) => PrivateKey::from_openssh(&text).map(Some).map_err(|error| wrong(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn make(path: &Path, kind: Kind) -> Result<PrivateKey, HostKeyError> {
    let wrong = |cause: String| HostKeyError {
        path: path.to_owned(),
        action: "made",
        cause,
        mend: "let cdrd write its state directory",
    };
    let mut random = rand::rng();
    let key = match kind {
        Kind::Ed25519 => PrivateKey::random(&mut random, Algorithm::Ed25519),
        Kind::Ecdsa => PrivateKey::random(&mut random, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
        Kind::Rsa => RsaKeypair::random(&mut random, RSA_BITS).map(PrivateKey::from),
    };
    let key = key.map_err(|error| wrong(error.to_string()))?;
    let text = key.to_openssh(LineEnding::LF).map_err(|error| wrong(error.to_string()))?;
    // One that could not be read at the next start must not become known to anybody.
    PrivateKey::from_openssh(text.as_bytes())
        .map_err(|error| wrong(format!("it does not read back: {error}")))?;
    write(path, text.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    Ok(key)
}

/// Whole or not at all, and safe before a client hears of it.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::{Kind, load, make};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        for (name, kind) in [("ed25519", Kind::Ed25519), ("ecdsa", Kind::Ecdsa)] {
            let path = folder.path().join(name);
            assert!(load(&path)?.is_none());
            let made = make(&path, kind)?;
            assert_eq!(load(&path)?.map(|key| key.public_key().clone()), Some(made.public_key().clone()));
            assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        }
        std::fs::write(folder.path().join("rsa"), "nonsense")?;
        assert!(load(&folder.path().join("rsa")).is_err(), "one that is damaged is never replaced");
        Ok(())
    }
}
