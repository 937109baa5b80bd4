//! Bytes to text: the encoding of a document from its head, and of one value.
//!
//! Must never fail or drop a byte that carries text: a value that is no UTF-8 is read as Windows-1252.

use crate::record::document::Encoding;
use std::borrow::Cow;

/// The encoding of the document that begins with these bytes.
pub fn detect(head: &[u8]) -> Encoding {
    if head.starts_with(&[0xFF, 0xFE]) {
        return Encoding::Utf16Le;
    }
    if head.starts_with(&[0xFE, 0xFF]) {
        return Encoding::Utf16Be;
    }
    // Text of a PBX is mostly ASCII, so that without a byte order mark one byte of nearly every pair is NUL.
    let pairs = head[..head.len().min(1024)].chunks_exact(2);
    let (count, mut first, mut second) = (pairs.len(), 0, 0);
    for pair in pairs {
        first += usize::from(pair[0] == 0);
        second += usize::from(pair[1] == 0);
    }
    if count >= 4 && second * 10 >= count * 8 && first * 10 <= count {
        Encoding::Utf16Le
    } else if count >= 4 && first * 10 >= count * 8 && second * 10 <= count {
        Encoding::Utf16Be
    } else {
        Encoding::Utf8
    }
}

/// Bytes of one code unit.
pub const fn unit(encoding: Encoding) -> u64 {
    match encoding {
        Encoding::Utf16Le | Encoding::Utf16Be => 2,
        Encoding::Utf8 | Encoding::Windows1252 => 1,
    }
}

/// Length of the byte order mark at the beginning of a document.
pub fn mark(encoding: Encoding, head: &[u8]) -> u64 {
    let mark: &[u8] = match encoding {
        Encoding::Utf16Le => &[0xFF, 0xFE],
        Encoding::Utf16Be => &[0xFE, 0xFF],
        Encoding::Utf8 | Encoding::Windows1252 => &[0xEF, 0xBB, 0xBF],
    };
    if head.starts_with(mark) { mark.len() as u64 } else { 0 }
}

/// The text of a value in an 8-bit document.
pub fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

/// The text of a value in a document that is known to be Windows-1252.
pub fn windows(bytes: &[u8]) -> Cow<'_, str> {
    encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0
}

/// Text of a UTF-16 document as UTF-8; 8-bit text is left as it is.
pub fn transcode(encoding: Encoding, bytes: &[u8]) -> Cow<'_, [u8]> {
    let coding = match encoding {
        Encoding::Utf16Le => encoding_rs::UTF_16LE,
        Encoding::Utf16Be => encoding_rs::UTF_16BE,
        Encoding::Utf8 | Encoding::Windows1252 => return Cow::Borrowed(bytes),
    };
    Cow::Owned(coding.decode_without_bom_handling(bytes).0.into_owned().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf16_is_found_without_a_mark() {
        let little: Vec<u8> = "AcctId,src".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = "AcctId,src".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(detect(&little), Encoding::Utf16Le);
        assert_eq!(detect(&big), Encoding::Utf16Be);
        assert_eq!(detect(b"AcctId,src"), Encoding::Utf8);
        assert_eq!(detect(&[0; 64]), Encoding::Utf8);
    }

    #[test]
    fn a_value_that_is_no_utf8_is_windows_1252() {
        assert_eq!(decode(b"M\xFCller \x80"), "M\u{fc}ller \u{20ac}");
        assert_eq!(decode("Müller".as_bytes()), "Müller");
    }
}
