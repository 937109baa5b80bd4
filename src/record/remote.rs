//! Another host that is asked: where it is, and whose certificate is good.

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path, from its slash on.
    pub path: String,
}

impl Endpoint {
    /// Host and port as they stand in a URL.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Whose certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// One that a root of this host vouches for.
    Verified,
    /// The one with this SHA-256.
    Pinned([u8; 32]),
    /// Any: whoever is between sees and may change everything.
    Insecure,
}

/// SHA-256 of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// `sha256:` and 64 hex digits, with or without colons between them, as `openssl x509 -fingerprint` writes them.
pub fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: String = text.strip_prefix("sha256:")?.chars().filter(|c| *c != ':').collect();
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[place * 2..place * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, fingerprint};

    #[test]
    fn a_fingerprint_is_read_as_it_is_shown_and_as_openssl_shows_it() {
        let bytes: [u8; 32] = std::array::from_fn(|place| u8::try_from(place * 7).unwrap_or(0));
        let shown = Fingerprint(bytes).to_string();
        assert_eq!(fingerprint(&shown), Some(bytes));
        let hex = shown.trim_start_matches("sha256:").to_uppercase();
        let pairs: Vec<&str> = (0..32).map(|place| &hex[place * 2..place * 2 + 2]).collect();
        assert_eq!(fingerprint(&format!("sha256:{}", pairs.join(":"))), Some(bytes));
        for wrong in ["", "sha256:", "sha256:00", &shown[7..], &format!("{shown}0"), &shown.replace('0', "g")]
        {
            assert_eq!(fingerprint(wrong), None, "{wrong}");
        }
    }
}
