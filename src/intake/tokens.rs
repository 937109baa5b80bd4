//! Tokens of programs that may ask for something over HTTP. Only a hash of each is kept: whoever reads the spool can
//! ask for nothing.

use super::spool::moment;
use super::{Intake, IntakeError};
use crate::sqlite::raw::Value;
use jiff::Timestamp;

/// A token that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownToken {
    /// What it is called.
    pub name: String,
    /// When it was made, UTC.
    pub made_at: String,
}

impl Intake {
    /// Lets a token in from now on. `false` if another one has its name.
    pub fn add_token(&self, name: &str, hash: [u8; 32]) -> Result<bool, IntakeError> {
        let (name, now) = (name.to_owned(), moment(Timestamp::now()));
        let added = self.write(move |db| {
            db.run(
                "INSERT INTO token (name, hash, made_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                &[Value::Text(&name), Value::Blob(&hash), Value::Text(&now)],
            )
        })?;
        Ok(added > 0)
    }

    /// Lets it in no more. `false` if there is none of this name.
    pub fn revoke_token(&self, name: &str) -> Result<bool, IntakeError> {
        let name = name.to_owned();
        let removed =
            self.write(move |db| db.run("DELETE FROM token WHERE name = ?", &[Value::Text(&name)]))?;
        Ok(removed > 0)
    }

    /// All that are good, by name.
    pub fn tokens(&self) -> Result<Vec<KnownToken>, IntakeError> {
        self.read(|db| {
            db.all("SELECT name, made_at FROM token ORDER BY name", &[], |row| KnownToken {
                name: row.string(0),
                made_at: row.string(1),
            })
        })
    }

    /// The name of the token that hashes to this. Each is compared to its end, so that the time tells nothing.
    pub fn token_named(&self, hash: blake3::Hash) -> Result<Option<String>, IntakeError> {
        let known = self.read(|db| {
            db.all("SELECT name, hash FROM token", &[], |row| (row.string(0), row.blob(1).to_vec()))
        })?;
        let mut found = None;
        for (name, kept) in known {
            // Compares in constant time.
            if <[u8; 32]>::try_from(kept).is_ok_and(|kept| blake3::Hash::from_bytes(kept) == hash) {
                found = Some(name);
            }
        }
        Ok(found)
    }
}
