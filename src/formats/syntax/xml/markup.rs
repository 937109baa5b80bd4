//! What stands inside a tag, and references in texts.
//!
//! Must never resolve an entity that a document defines itself.

/// Whether a name begins here.
pub(super) fn is_name(bytes: &[u8], place: usize) -> bool {
    bytes.get(place).is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_' || *byte >= 0x80)
}

/// `name="value"` pairs; false for anything else.
pub(super) fn attributes(text: &str, into: &mut Vec<(String, String)>) -> bool {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((name, tail)) = rest.split_once('=') else { return false };
        let tail = tail.trim_start();
        let Some(quote) = tail.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return false };
        let Some((value, tail)) = tail[1..].split_once(quote) else { return false };
        let mut plain = String::new();
        unescape(value, &mut plain);
        into.push((name.trim().to_owned(), plain));
        rest = tail.trim_start();
    }
    true
}

/// Resolves the five entities of XML and characters by their number; every other reference stays as it is written.
pub(super) fn unescape(text: &str, into: &mut String) {
    let mut rest = text;
    while let Some(place) = rest.find('&') {
        into.push_str(&rest[..place]);
        rest = &rest[place..];
        let end = rest.bytes().take(12).position(|byte| byte == b';');
        let known = end.and_then(|end| Some((reference(&rest[1..end])?, end)));
        if let Some((character, end)) = known {
            into.push(character);
            rest = &rest[end + 1..];
        } else {
            into.push('&');
            rest = &rest[1..];
        }
    }
    into.push_str(rest);
}

fn reference(name: &str) -> Option<char> {
    let number = |text: &str, radix| u32::from_str_radix(text, radix).ok().and_then(char::from_u32);
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => match name.strip_prefix('#')?.strip_prefix(['x', 'X']) {
            Some(digits) => number(digits, 16),
            None => number(&name[1..], 10),
        },
    }
}
