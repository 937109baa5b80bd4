//! How column `extra` writes its texts: members of a flat JSON object of strings.
//!
//! Must always write the same text the same way: versions are given back from it by comparing bytes.

/// Appends a text as a JSON string.
pub fn quoted(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    out.push('"');
    let mut rest = text;
    if is_plain(text.as_bytes()) {
        out.push_str(text);
        return out.push('"');
    }
    while let Some(place) = rest.bytes().position(|b| b < b' ' || b == b'"' || b == b'\\') {
        out.push_str(&rest[..place]);
        match rest.as_bytes()[place] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{control:04x}");
            }
        }
        rest = &rest[place + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// Whether nothing needs an escape, eight bytes at a time.
fn is_plain(text: &[u8]) -> bool {
    const EACH: u64 = u64::MAX / 255;
    let (eights, rest) = text.as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    let found = eights.iter().chain([&last]).fold(0, |found, eight| {
        let eight = u64::from_le_bytes(*eight);
        // A byte below `limit` borrows from the next one and has its highest bit set; so have bytes beyond ASCII, which
        // are no escapes.
        let below = |eight: u64, limit: u64| eight.wrapping_sub(EACH * limit) & !eight;
        let is = |byte: u8| below(eight ^ (EACH * u64::from(byte)), 1);
        found | below(eight, 0x20) | is(b'"') | is(b'\\')
    });
    found & (EACH * 0x80) == 0
}

#[cfg(test)]
mod tests {
    use super::{is_plain, quoted};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_needs_no_escape(text in "[ -~]{0,20}[\\x00-\\x7f]?[äß€ -~]{0,10}") {
            let escaped = text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\');
            prop_assert_eq!(is_plain(text.as_bytes()), !escaped);
        }

        #[test]
        fn quoted_text_is_json_and_comes_back(text in any::<String>()) {
            let mut out = String::new();
            quoted(&text, &mut out);
            prop_assert_eq!(serde_json::from_str::<String>(&out).ok(), Some(text));
        }
    }
}
