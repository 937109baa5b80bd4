//! What stands around rows that are taken out of a document, so that they are a document of the same format again.
//!
//! Must never change a row: it only stands before, between and behind.

use super::mapping::StepConfig;
use super::syntax::encoding::unit;
use crate::record::document::Encoding;
use std::fmt::Write as _;

/// The surroundings of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enclosure {
    /// How the name of such a file ends.
    pub extension: &'static str,
    /// Before the first row, ASCII.
    pub before: String,
    /// Between two rows, before the line end, ASCII.
    pub between: &'static str,
    /// Behind the last row, ASCII.
    pub after: String,
}

impl Enclosure {
    /// Of rows that are lines, or values one after another.
    pub fn none(extension: &'static str) -> Self {
        Self { extension, before: String::new(), between: "", after: String::new() }
    }

    /// Of elements.
    pub fn element(name: &str) -> Self {
        let (before, after) = (format!("<{name}>\n"), format!("</{name}>\n"));
        Self { extension: "xml", before, between: "", after }
    }

    /// Of the records of a JSON document at the end of these steps.
    pub(super) fn path(steps: &[StepConfig]) -> Self {
        let (mut before, mut after) = (String::new(), String::new());
        for step in steps {
            let (open, close) = match step {
                StepConfig::Member(name) => (format!("{{{}:", ascii(name)), '}'),
                StepConfig::Each => ("[".to_owned(), ']'),
            };
            before.push_str(&open);
            after.insert(0, close);
        }
        // Several records need an array also where the document had a single one.
        if steps.last() != Some(&StepConfig::Each) {
            before.push('[');
            after.insert(0, ']');
        }
        Self { extension: "json", before: before + "\n", between: ",", after: after + "\n" }
    }
}

/// A name as JSON writes it, in ASCII whatever the encoding of the document.
fn ascii(name: &str) -> String {
    let mut out = String::from("\"");
    for unit in name.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte @ b' '..=b'~') if !matches!(byte, b'"' | b'\\') => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out.push('"');
    out
}

/// ASCII text in an encoding.
pub fn encoded(text: &str, encoding: Encoding) -> Vec<u8> {
    match encoding {
        _ if unit(encoding) == 1 => text.as_bytes().to_vec(),
        Encoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        _ => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_out_around_the_records() {
        let member = |name: &str| StepConfig::Member(name.to_owned());
        let around = |steps: &[StepConfig]| {
            let Enclosure { before, after, .. } = Enclosure::path(steps);
            before.trim_end().to_owned() + "*" + after.trim_end()
        };
        assert_eq!(around(&[StepConfig::Each]), "[*]");
        assert_eq!(
            around(&[member("result"), member("c\"é"), StepConfig::Each]),
            r#"{"result":{"c\u0022\u00e9":[*]}}"#
        );
        assert_eq!(around(&[member("a"), StepConfig::Each, member("b")]), r#"{"a":[{"b":[*]}]}"#);
    }

    #[test]
    fn surroundings_are_written_in_the_encoding_of_the_document() {
        assert_eq!(encoded("\r\n", Encoding::Utf8), b"\r\n");
        assert_eq!(encoded("\n", Encoding::Utf16Le), b"\n\0");
        assert_eq!(encoded("\r\n", Encoding::Utf16Be), b"\0\r\0\n");
    }
}
