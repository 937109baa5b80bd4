//! A rejected row as a person reads it: printable, with the offending field marked.

use crate::record::delivery::printable;
use crate::store::query::KnownLayout;
use std::ops::Range;

/// Marks around the field.
const OPEN: &str = ">>>";
const CLOSE: &str = "<<<";

/// The row on printable lines, the field marked where it can be found; `paint` colours the mark.
pub fn marked(
    verbatim: &[u8],
    field: Option<&str>,
    layouts: &[KnownLayout],
    paint: impl Fn(&str) -> String,
) -> String {
    let place = field.and_then(|field| member(verbatim, field).or_else(|| column(verbatim, field, layouts)));
    let Some(place) = place else { return lines(verbatim) };
    let mut text = lines(&verbatim[..place.start]);
    text.push_str(&paint(&format!("{OPEN}{}{CLOSE}", lines(&verbatim[place.clone()]))));
    text.push_str(&lines(&verbatim[place.end..]));
    text
}

/// Printable, but line ends stay line ends.
fn lines(bytes: &[u8]) -> String {
    bytes
        .split(|byte| *byte == b'\n')
        .map(|line| printable(line.strip_suffix(b"\r").unwrap_or(line)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `"field": value` of a JSON object.
fn member(row: &[u8], field: &str) -> Option<Range<usize>> {
    if !row.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let key = format!("\"{field}\"");
    let start = memchr::memmem::find(row, key.as_bytes())?;
    let mut end = start + key.len();
    let mut quoted = false;
    while let Some(byte) = row.get(end) {
        match byte {
            b'\\' if quoted => end += 1,
            b'"' => quoted = !quoted,
            b',' | b'}' | b'\n' if !quoted => break,
            _ => {}
        }
        end += 1;
    }
    Some(start..end.min(row.len()))
}

/// The column of a delimited row, by a layout of the same format that has as many columns.
fn column(row: &[u8], field: &str, layouts: &[KnownLayout]) -> Option<Range<usize>> {
    layouts.iter().find_map(|layout| {
        let separator = u8::try_from(layout.separator?).ok()?;
        let place = layout.headers.iter().position(|header| header == field)?;
        let columns = split(row, separator);
        (columns.len() == layout.headers.len()).then(|| columns[place].clone())
    })
}

/// The columns of a row; separators inside quotes do not count.
fn split(row: &[u8], separator: u8) -> Vec<Range<usize>> {
    let mut columns = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (place, byte) in row.iter().enumerate() {
        if *byte == b'"' {
            quoted = !quoted;
        } else if *byte == separator && !quoted {
            columns.push(start..place);
            start = place + 1;
        }
    }
    columns.push(start..row.len());
    columns
}

#[cfg(test)]
mod tests {
    use crate::store::query::KnownLayout;

    fn marked(verbatim: &[u8], field: Option<&str>, layouts: &[KnownLayout]) -> String {
        super::marked(verbatim, field, layouts, str::to_owned)
    }

    fn layouts() -> Vec<KnownLayout> {
        let headers = ["src", "start", "dst"].map(str::to_owned).to_vec();
        vec![KnownLayout { separator: Some(','), headers }]
    }

    #[test]
    fn the_column_of_a_delimited_row_is_marked() {
        assert_eq!(marked(b"\"a,b\",tomorrow,x", Some("start"), &layouts()), "\"a,b\",>>>tomorrow<<<,x");
    }

    #[test]
    fn the_member_of_an_object_is_marked() {
        let row = br#"{"src":"1","start":"a, \"b\"","dst":"2"}"#;
        assert_eq!(
            marked(row, Some("start"), &[]),
            r#"{"src":"1",>>>"start":"a, \x5c"b\x5c""<<<,"dst":"2"}"#
        );
    }

    #[test]
    fn what_cannot_be_found_is_shown_without_a_mark_and_never_unescaped() {
        assert_eq!(marked(b"a\x1b[2J,b\r\nc", Some("start"), &layouts()), "a\\x1b[2J,b\nc");
        assert_eq!(marked(b"{\"start", Some("start"), &[]), "{\"start");
    }
}
