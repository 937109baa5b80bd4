//! The hash of everything that changes how bytes are read. Equal bytes are skipped only under an equal hash, so that
//! a file that ended badly is read again once its cause in the configuration is mended.

use super::{Config, OriginConfig, SourceConfig};
use jiff::tz::TimeZone;

impl Config {
    /// The hash for what a source brings. `formats` are the ids and versions of the formats in this program.
    pub fn reading(&self, source: &SourceConfig, formats: &[(&str, u64)]) -> [u8; 16] {
        let origin = self.origin(&source.origin);
        reading_hash(origin, source.time_zone.as_ref(), source.pinned_format.as_deref(), formats)
    }
}

/// The hash for bytes of this origin that are read in this zone, if the source has its own, by this pinned format.
pub fn reading_hash(
    origin: Option<&OriginConfig>,
    time_zone: Option<&TimeZone>,
    pinned_format: Option<&str>,
    formats: &[(&str, u64)],
) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    let mut say = |text: Option<&str>| {
        // Lengths keep neighbours apart; an absent value is no empty one.
        let text = text.map(str::as_bytes);
        hasher.update(&text.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
        hasher.update(text.unwrap_or_default());
    };
    say(origin.map(|origin| origin.time_zone.name()));
    say(origin.and_then(|origin| origin.country.as_deref()));
    say(origin.and_then(|origin| origin.tenant.as_deref()));
    say(time_zone.and_then(TimeZone::iana_name));
    say(pinned_format);
    let mut formats: Vec<_> =
        formats.iter().filter(|(id, _)| pinned_format.is_none_or(|pinned| pinned == *id)).collect();
    formats.sort_unstable();
    for (id, version) in formats {
        say(Some(id));
        say(Some(&version.to_string()));
    }
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}

#[cfg(test)]
mod tests {
    use super::reading_hash as reading;
    use crate::config::{OriginConfig, ZoneWish};
    use jiff::tz::TimeZone;
    use std::collections::HashSet;

    fn origin(country: Option<&str>, tenant: Option<&str>) -> OriginConfig {
        OriginConfig {
            name: "pbx".to_owned(),
            time_zone: ZoneWish::Auto,
            country: country.map(str::to_owned),
            tenant: tenant.map(str::to_owned),
            formerly: None,
            place: "config.toml:1".to_owned(),
        }
    }

    #[test]
    fn whatever_changes_the_reading_changes_the_hash() {
        let plain = origin(None, None);
        let named = OriginConfig { time_zone: ZoneWish::Named(TimeZone::UTC), ..plain.clone() };
        let formats = [("a", 1), ("b", 1)];
        let hashes = [
            reading(Some(&plain), None, None, &formats),
            reading(Some(&named), None, None, &formats),
            reading(Some(&origin(Some("DE"), None)), None, None, &formats),
            reading(Some(&origin(None, Some("DE"))), None, None, &formats),
            reading(Some(&plain), Some(&TimeZone::UTC), None, &formats),
            reading(Some(&plain), None, Some("a"), &formats),
            reading(Some(&plain), None, None, &[("a", 1), ("b", 2)]),
        ];
        assert_eq!(HashSet::from(hashes).len(), hashes.len());
    }

    #[test]
    fn a_pinned_source_is_not_read_again_when_another_format_changes() {
        let plain = origin(None, None);
        assert_eq!(
            reading(Some(&plain), None, Some("a"), &[("a", 1), ("b", 1)]),
            reading(Some(&plain), None, Some("a"), &[("b", 2), ("a", 1)])
        );
    }
}
