//! A number as a person asks for it: the forms in which rows may hold it, and whether a text is one of them. Must never
//! reach the log.

use super::Loaded;
use crate::daemon;
use crate::normalise::Engine;
use crate::store::digits;
use crate::store::query::{Query as _, StoredOrigin};
use crate::store::sqlite::query::SqliteQuery;
use std::collections::BTreeSet;

/// The number that is asked for.
pub struct Wished {
    written: String,
    engine: Engine,
    /// As each origin's country makes it.
    normal: BTreeSet<String>,
}

impl Wished {
    /// Reads the number as every origin would.
    pub fn new(written: &str, loaded: &Loaded, query: &SqliteQuery) -> anyhow::Result<Self> {
        let stored = query.origins()?;
        let engine = engine(loaded, &stored)?;
        let configured = loaded.config.origins.iter().map(|origin| origin.name.as_str());
        let stored = stored.iter().map(|origin| origin.name.as_str());
        let normal = configured.chain(stored).map(|origin| engine.number(origin, written)).collect();
        Ok(Self { written: written.trim().to_owned(), engine, normal })
    }

    /// What the columns `caller` and `callee` may hold; empty where nothing was written.
    pub fn parties(&self) -> Vec<String> {
        let mut forms = self.normal.clone();
        forms.insert(self.written.clone());
        // A person groups digits, a PBX does not.
        let plain = |c: &char| c.is_ascii_digit() || *c == '+';
        if self.written.chars().all(|c| plain(&c) || " -./()".contains(c)) {
            forms.insert(self.written.chars().filter(plain).collect());
        }
        forms.into_iter().filter(|form| !form.is_empty()).collect()
    }

    /// Whether a text of this origin is the number.
    pub fn is(&self, origin: &str, text: &str) -> bool {
        let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).collect::<Vec<_>>();
        let text = text.trim();
        if text.is_empty() || digits(text).is_empty() != digits(&self.written).is_empty() {
            return false;
        }
        text == self.written
            || self.normal.contains(&self.engine.number(origin, text))
            || (!digits(text).is_empty() && digits(text) == digits(&self.written))
    }

    /// Whether the number stands in a row whose columns nobody knows.
    pub fn stands_in(&self, origin: &str, row: &[u8]) -> bool {
        let tail = self.tail();
        !tail.is_empty()
            && digits::numbers(row).any(|text| digits::tail(&text) == tail && self.is(origin, &text))
    }

    /// What rejected rows are looked up by; empty for a text without digits.
    pub fn tail(&self) -> String {
        digits::tail(&self.written)
    }

    /// The last two characters, however the rest is grouped.
    pub fn ending(&self) -> Option<String> {
        let mut last: Vec<char> = self.written.chars().rev().take(2).collect();
        last.reverse();
        (!last.is_empty()).then(|| last.into_iter().collect())
    }

    /// What reads rows of all origins.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// What reads rows as the configuration is now.
pub fn engine(loaded: &Loaded, stored: &[StoredOrigin]) -> anyhow::Result<Engine> {
    let config = &loaded.config;
    let origins = daemon::origins(config, stored)?;
    Ok(daemon::engine(config, origins, &loaded.formats))
}
