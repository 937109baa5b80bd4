//! Hashes of passwords. Must never show a password or a hash, and never cost more than a log-in may.

use argon2::password_hash::PasswordHasher as _;
use argon2::password_hash::phc::{Output, PasswordHash as Phc};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use std::sync::{Mutex, PoisonError};

/// Memory of our hashes, in KiB: as hard to guess as OWASP's other choices, and ten log-ins at once take little.
const MEMORY: u32 = 7 * 1024;
const PASSES: u32 = 5;
/// What a hash made elsewhere may cost: more would let log-ins stop the host.
const MOST_MEMORY: u32 = 128 * 1024;
const MOST_PASSES: u32 = 16;

/// The hash of a password. Shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

/// Why a hash cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// Perhaps the password itself.
    #[error(
        "is no argon2 hash; never write the password itself: `cdrd sftp hash-password` makes the hash of it"
    )]
    NoHash,
    /// Log-ins would take all of this host.
    #[error(
        "is a hash that costs more than 128 MiB or 16 passes; `cdrd sftp hash-password` makes a cheaper one"
    )]
    TooCostly,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(...)")
    }
}

impl PasswordHash {
    /// A hash as it is written, `$argon2id$...`.
    pub fn new(text: &str) -> Result<Self, PasswordHashError> {
        let text = text.trim();
        let hash = Phc::new(text).map_err(|_| PasswordHashError::NoHash)?;
        if !hash.algorithm.as_str().starts_with("argon2") || hash.hash.is_none() {
            return Err(PasswordHashError::NoHash);
        }
        let params = Params::try_from(&hash).map_err(|_| PasswordHashError::NoHash)?;
        if params.m_cost() > MOST_MEMORY || params.t_cost() > MOST_PASSES {
            return Err(PasswordHashError::TooCostly);
        }
        Ok(Self(text.to_owned()))
    }

    /// The hash of a password, with a salt of its own; `None` where the password is too long for any.
    pub fn of(password: &str) -> Option<Self> {
        let hash = hasher().hash_password(password.as_bytes()).ok()?;
        Some(Self(hash.to_string()))
    }

    /// Whether this is the password. Takes its time.
    pub fn is_of(&self, password: &str) -> bool {
        let mut memory = ROOM.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let verified = verified(&self.0, password, &mut memory).unwrap_or(false);
        ROOM.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        verified
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Memory in which hashes are computed, one for each that is verified at once: allocated anew for each log-in, it would
/// stay with every thread that ever verified one.
static ROOM: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());

fn verified(hash: &str, password: &str, memory: &mut Vec<Block>) -> Option<bool> {
    let hash = Phc::new(hash).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let algorithm = Algorithm::new(hash.algorithm.as_str()).ok()?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    memory.resize(usize::try_from(params.m_cost()).ok()?.max(memory.len()), Block::new());
    let (salt, known) = (hash.salt.as_ref()?, hash.hash.as_ref()?);
    let mut output = vec![0; known.len()];
    let hasher = Argon2::new(algorithm, version, params);
    hasher.hash_password_into_with_memory(password.as_bytes(), salt, &mut output, &mut memory[..]).ok()?;
    // Compares in constant time.
    Some(Output::new(&output).ok()? == *known)
}

fn hasher() -> Argon2<'static> {
    let params = Params::new(MEMORY, PASSES, 1, None).expect("these are parameters that argon2 takes");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use super::{PasswordHash, PasswordHashError};

    #[test]
    fn a_hash_is_of_its_password_alone_and_shows_nothing() {
        let hash = PasswordHash::of("correct horse").expect("it is short");
        assert!(hash.text().starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{}", hash.text());
        assert!(hash.is_of("correct horse") && !hash.is_of("correct horse ") && !hash.is_of(""));
        assert_ne!(PasswordHash::of("correct horse").expect("it is short"), hash, "another salt");
        assert_eq!(PasswordHash::new(hash.text()), Ok(hash.clone()));
        assert_eq!(format!("{hash:?}"), "PasswordHash(...)");
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_refused() {
        for text in [
            "hunter2",
            "",
            "$argon2id$",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$argon2id$v=19$m=7168,t=5,p=1$c2FsdHNhbHQ",
        ] {
            assert_eq!(PasswordHash::new(text), Err(PasswordHashError::NoHash), "{text}");
        }
        let costly =
            "$argon2id$v=19$m=4194304,t=5,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(PasswordHash::new(costly), Err(PasswordHashError::TooCostly));
    }
}
