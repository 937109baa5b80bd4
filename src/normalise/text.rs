//! Text columns that are made from several fields or from parts of one: caller id, extension, recordings, `extra`.
//!
//! Must never change a column that keeps a field's text as written: versions are given back from it.

use super::disposition::begins;
use crate::record::card::Card;
use crate::record::cdr::{Direction, TextColumn, TextColumns};
use crate::record::extra::quoted;
use crate::record::field::Field;
use crate::record::raw::{RawRecord, trimmed};
use serde_json::Value as Json;

/// Name and number of a `"Name" <number>`; either may be empty.
pub(super) fn caller_id(text: &str) -> (&str, &str) {
    let text = trimmed(text);
    let bracketed = text.strip_suffix('>').and_then(|front| {
        let place = front.bytes().rposition(|byte| byte == b'<')?;
        Some((&front[..place], trimmed(&front[place + 1..])))
    });
    match bracketed {
        Some((name, number)) => (unquoted(name), number),
        None if text.bytes().all(|b| b.is_ascii_digit() || b == b'+') => ("", text),
        None => (unquoted(text), ""),
    }
}

/// Without the quotes around it. A single quote mark inside belongs to the name.
fn unquoted(text: &str) -> &str {
    // Before `<number>` stands one space.
    let text = trimmed(text.strip_suffix(' ').unwrap_or(text));
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map_or(text, trimmed)
}

/// Extension or group number behind a leg: the one that the record names, else the phone on our side of it.
pub(super) fn extension(raw: &RawRecord, direction: Direction) -> &str {
    let ours = match direction {
        Direction::Outbound | Direction::Internal => Field::ChannelExtension,
        Direction::Inbound => Field::DstChannelExtension,
        Direction::Unknown | Direction::Transit => return "",
    };
    let value = raw.trimmed(ours);
    // Grandstream writes the trunk there when no phone is behind the channel.
    if begins(value, "trunk_") { "" } else { value }
}

/// The number of a `WORD[number]`.
pub(super) fn bracketed<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let text = text.trim();
    if !begins(text, word) {
        return None;
    }
    let number = text[word.len()..].strip_prefix('[')?.strip_suffix(']')?.trim();
    (!number.is_empty()).then_some(number)
}

/// The names in a list of recordings as a JSON list; nothing when there is none. A list that is one of JSON already has its
/// own separators.
pub(super) fn recordings(text: &str, separator: char, out: &mut String) {
    let listed = text.trim_start().starts_with('[').then(|| serde_json::from_str::<Vec<Json>>(text).ok());
    match listed.flatten() {
        Some(listed) => {
            let names: Vec<String> = listed.into_iter().map(recording).collect();
            list(names.iter().map(String::as_str), out);
        }
        None => list(text.split(separator), out),
    }
}

/// An element of a JSON list: a text as it is, anything else as it would be written.
fn recording(element: Json) -> String {
    match element {
        Json::String(name) => name,
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

fn list<'t>(names: impl Iterator<Item = &'t str>, out: &mut String) {
    let mut open = false;
    for name in names.map(str::trim).filter(|name| !name.is_empty()) {
        out.push_str(if open { "," } else { "[" });
        open = true;
        quoted(name, out);
    }
    if open {
        out.push(']');
    }
}

/// Sets of fields, one bit each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fields(u64);

const _: () = assert!(Field::COUNT <= 64, "a bit per field");

impl Fields {
    pub(super) fn add(&mut self, field: Field) {
        self.0 |= 1 << (field as u32);
    }

    fn has(self, field: Field) -> bool {
        self.0 & (1 << (field as u32)) != 0
    }
}

/// What no column takes, under its canonical name or else its source header: a JSON object in column order, nothing
/// when there is nothing.
/// `failed` are fields whose typed column stayed blank although they have text.
pub(super) fn extra(raw: &RawRecord, failed: Fields, out: &mut String) {
    let mut before = '{';
    for (place, column) in raw.layout.columns.iter().enumerate() {
        let kept = column.in_extra || column.field.is_some_and(|field| failed.has(field));
        let value = if kept { raw.value(place) } else { "" };
        if is_blank(value) {
            continue;
        }
        out.push(before);
        before = ',';
        out.push_str(&column.member);
        quoted(value, out);
    }
    if before == ',' {
        out.push('}');
    }
}

fn is_blank(value: &str) -> bool {
    trimmed(value).is_empty()
}

/// All columns that keep a field's text exactly as written.
pub(super) fn as_written(raw: &RawRecord) -> TextColumns {
    // For both numbers, names and `extra` with its headers: about as long as the record.
    let mut text = TextColumns::beside(raw.text(), raw.text().len().max(64));
    for (place, home) in &raw.layout.homes {
        text.point(*home, raw.span(*place));
    }
    text
}

/// Columns made from parts of fields; none of them takes the place of something written.
pub(super) fn derived(raw: &RawRecord, card: &Card, direction: Direction, text: &mut TextColumns) {
    fill(text, TextColumn::CallerName, caller_id(raw.get(Field::CallerId)).0);
    fill(text, TextColumn::Extension, extension(raw, direction));
    fill(text, TextColumn::ReleasedBy, raw.trimmed(Field::ReleasedBy));
    for (field, word, column) in card.bracketed {
        if let Some(number) = bracketed(raw.get(*field), word) {
            fill(text, *column, number);
        }
    }
    let list = raw.get(Field::Recordings);
    if !list.is_empty() {
        text.append(TextColumn::Recordings, |out| recordings(list, card.recording_separator, out));
    }
}

fn fill(text: &mut TextColumns, column: TextColumn, value: &str) {
    if !value.is_empty() && trimmed(text.get(column)).is_empty() {
        text.set(column, value);
    }
}

#[cfg(test)]
mod tests {
    use super::{bracketed, caller_id, recordings};

    #[test]
    fn caller_ids_in_all_shapes() {
        assert_eq!(caller_id("\"Ada Byron\" <204>"), ("Ada Byron", "204"));
        assert_eq!(caller_id("\"\" <204>"), ("", "204"));
        assert_eq!(caller_id("Ada <204>"), ("Ada", "204"));
        assert_eq!(caller_id("\"A \"the\" B\" <1>"), ("A \"the\" B", "1"));
        assert_eq!(caller_id("<204>"), ("", "204"));
        assert_eq!(caller_id("204"), ("", "204"));
        assert_eq!(caller_id("Ada"), ("Ada", ""));
        assert_eq!(caller_id("a > b"), ("a > b", ""));
        assert_eq!(caller_id("a>"), ("a>", ""));
        assert_eq!(caller_id(""), ("", ""));
    }

    #[test]
    fn the_number_in_brackets() {
        assert_eq!(bracketed("QUEUE[6500]", "QUEUE"), Some("6500"));
        assert_eq!(bracketed("queue[6500] ", "QUEUE"), Some("6500"));
        assert_eq!(bracketed("QUEUE[]", "QUEUE"), None);
        assert_eq!(bracketed("QUEUES[1]", "QUEUE"), None);
        assert_eq!(bracketed("DIAL", "QUEUE"), None);
    }

    #[test]
    fn a_list_that_ends_in_its_separator_has_no_blank_name() {
        let list = |text| {
            let mut out = String::new();
            recordings(text, '@', &mut out);
            out
        };
        assert_eq!(list("a.wav@b.wav@"), r#"["a.wav","b.wav"]"#);
        assert_eq!(list("@"), "");
        assert_eq!(list(""), "");
    }

    #[test]
    fn a_list_of_json_is_a_list_of_names() {
        let list = |text| {
            let mut out = String::new();
            recordings(text, ',', &mut out);
            out
        };
        assert_eq!(list(r#"["x, y", "z\u00e9"]"#), "[\"x, y\",\"z\u{e9}\"]");
        assert_eq!(list(r#" [null, "", 5, {"u":"a,b"}]"#), r#"["5","{\"u\":\"a,b\"}"]"#);
        assert_eq!(list("[null]"), "");
        assert_eq!(list("[a].wav,b.wav"), r#"["[a].wav","b.wav"]"#);
    }
}
