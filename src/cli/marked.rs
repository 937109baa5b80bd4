//! A rejected row as a person reads it: printable, with the offending field marked. Must never mark what may be another
//! field: a wrong mark is worse than none.

use crate::formats::syntax::delimited::{Delimited, Piece};
use crate::formats::syntax::json::{Event, Json, Kind};
use crate::formats::syntax::xml::Xml;
use crate::record::card::normal_header;
use crate::record::delivery::printable;
use crate::record::document::Encoding;
use crate::store::query::KnownLayout;
use std::ops::Range;

/// Marks around the field.
const OPEN: &str = ">>>";
const CLOSE: &str = "<<<";

/// How the document of a row writes it, as far as that is known.
#[derive(Debug, Default)]
pub struct Writing<'d> {
    /// Separator of columns; `None`: it has members or elements.
    pub separator: Option<char>,
    /// What encloses values that hold separators.
    pub quote: Option<char>,
    /// Headers of the document's columns, of every line before its rows.
    pub headers: Vec<Vec<String>>,
    /// Layouts of stored rows of the same format.
    pub layouts: &'d [KnownLayout],
}

/// The row on printable lines, the field marked where it is sure where it stands; `paint` colours the mark.
pub fn marked(
    row: &[u8],
    field: Option<&str>,
    writing: &Writing<'_>,
    paint: impl Fn(&str) -> String,
) -> String {
    let places = field.and_then(|field| match (writing.separator, row.trim_ascii_start().first()) {
        (Some(separator), _) => columns(row, field, separator, writing),
        (None, Some(b'{')) => members(json(row), field),
        (None, Some(b'<')) => elements(row, field),
        (None, _) => None,
    });
    let (mut text, mut at) = (String::new(), 0);
    for place in places.unwrap_or_default() {
        text.push_str(&lines(&row[at..place.start]));
        text.push_str(&paint(&format!("{OPEN}{}{CLOSE}", lines(&row[place.clone()]))));
        at = place.end;
    }
    text + &lines(&row[at..])
}

/// Printable, but line ends stay line ends.
fn lines(bytes: &[u8]) -> String {
    bytes
        .split(|byte| *byte == b'\n')
        .map(|line| printable(line.strip_suffix(b"\r").unwrap_or(line)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What a reader of members gives, where it begins, and where the reader then stands.
struct Told {
    event: Event,
    text: String,
    start: u64,
    at: u64,
}

fn json(row: &[u8]) -> impl Iterator<Item = Told> {
    let mut json = Json::new(Box::new(row), Encoding::Utf8);
    std::iter::from_fn(move || {
        let event = json.read().ok()??;
        Some(Told { event, text: json.text().to_owned(), start: json.start(), at: json.at() })
    })
}

/// As `members`; an attribute has no place of its own.
fn elements(row: &[u8], field: &str) -> Option<Vec<Range<usize>>> {
    let mut xml = Xml::new(Box::new(row));
    let told = std::iter::from_fn(|| {
        let event = xml.read().ok()??;
        Some(Told { event, text: xml.text().to_owned(), start: xml.start(), at: xml.at() })
    });
    let name = field.rsplit('.').next().unwrap_or(field);
    let places = members(told, field)?;
    let named = |place: &Range<usize>| {
        row[place.start..].get(1..).is_some_and(|rest| rest.starts_with(name.as_bytes()))
    };
    places.iter().all(named).then_some(places)
}

/// Members of this name with their values; those of objects within are named with dots, and several that are joined with
/// a plus sign. `None` unless each stands there once.
fn members(told: impl Iterator<Item = Told>, field: &str) -> Option<Vec<Range<usize>>> {
    let wanted: Vec<&str> = parts(field);
    let mut found: Vec<Vec<Range<usize>>> = vec![Vec::new(); wanted.len()];
    // Objects and arrays that are open, with the name of the member that is read and where it begins.
    let mut open: Vec<(Kind, String, u64)> = Vec::new();
    for Told { event, text, start, at } in told {
        match event {
            Event::Begin(kind) => open.push((kind, String::new(), 0)),
            Event::Key => {
                if let Some(inner) = open.last_mut() {
                    (inner.1, inner.2) = (text, start);
                }
                continue;
            }
            Event::End(_) => {
                open.pop();
            }
            Event::Scalar | Event::Null | Event::TooLong => {}
            Event::Broken(_) => break,
        }
        let Some((_, _, begun)) = open.last() else { continue };
        if matches!(event, Event::Begin(_)) || open.iter().any(|(kind, ..)| *kind == Kind::Array) {
            continue;
        }
        let path = open.iter().map(|(_, name, _)| name.as_str()).collect::<Vec<_>>().join(".");
        if let Some(place) = wanted.iter().position(|name| *name == path) {
            found[place].push(usize::try_from(*begun).ok()?..usize::try_from(at).ok()?);
        }
    }
    alone(found)
}

/// The columns of this name in a delimited row.
fn columns(row: &[u8], field: &str, separator: char, writing: &Writing<'_>) -> Option<Vec<Range<usize>>> {
    let mut rows = Delimited::with_quote(Box::new(row), Encoding::Utf8, separator, writing.quote);
    if rows.read(&|_| true).ok()? != Some(Piece::Record) {
        return None;
    }
    let fields = rows.fields();
    // What follows the record is not of it.
    let count = fields.len();
    let by_header = writing.headers.iter().rev().find_map(|headers| {
        // Spreadsheets end every line with separators when one row was longer.
        let fits =
            headers.len() == count || headers.iter().skip(count).all(|header| header.trim().is_empty());
        let place = |part: &str| {
            let mut same = (0..count.min(headers.len()))
                .filter(|place| normal_header(&headers[*place]) == normal_header(part));
            same.next().filter(|_| same.next().is_none())
        };
        fits.then(|| parts(field).into_iter().map(place).collect::<Option<Vec<usize>>>()).flatten()
    });
    let places = by_header.or_else(|| by_layouts(field, separator, count, writing.layouts))?;
    let mut places: Vec<Range<usize>> = places.into_iter().filter_map(|place| fields.range(place)).collect();
    places.sort_by_key(|place| place.start);
    Some(places)
}

/// By the layouts of the same format that have as many columns, if they agree.
fn by_layouts(field: &str, separator: char, count: usize, layouts: &[KnownLayout]) -> Option<Vec<usize>> {
    let mut places =
        layouts.iter().filter(|layout| layout.separator == Some(separator)).filter_map(|layout| {
            let written = layout.headers.iter().filter(|header| !header.starts_with("constant "));
            let headers: Vec<&String> = written.collect();
            (headers.len() == count).then(|| headers.iter().position(|header| *header == field))
        });
    let first = places.next()??;
    places.all(|place| place == Some(first)).then(|| vec![first])
}

/// The columns or members that are joined under this name.
fn parts(field: &str) -> Vec<&str> {
    field.split(" + ").collect()
}

/// Each, if each was found once, in the order in which they stand.
fn alone(found: Vec<Vec<Range<usize>>>) -> Option<Vec<Range<usize>>> {
    let single = |mut places: Vec<Range<usize>>| places.pop().filter(|_| places.is_empty());
    let mut all = found.into_iter().map(single).collect::<Option<Vec<_>>>()?;
    all.sort_by_key(|place| place.start);
    all.windows(2).all(|pair| pair[0].end <= pair[1].start).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::Writing;
    use crate::store::query::KnownLayout;

    fn marked(row: &str, field: &str, writing: &Writing<'_>) -> String {
        super::marked(row.as_bytes(), Some(field), writing, str::to_owned)
    }

    fn layouts() -> Vec<KnownLayout> {
        let layout = |headers: &[&str]| KnownLayout {
            separator: Some(','),
            headers: headers.iter().map(ToString::to_string).collect(),
        };
        vec![layout(&["src", "start", "dst"]), layout(&["src", "dst", "x", "start", "y"])]
    }

    fn headed(header: &str, separator: char, quote: char) -> Writing<'static> {
        let headers = vec![header.split(separator).map(str::to_owned).collect()];
        Writing { separator: Some(separator), quote: Some(quote), headers, layouts: &[] }
    }

    const MEMBERS: Writing<'static> =
        Writing { separator: None, quote: None, headers: Vec::new(), layouts: &[] };

    #[test]
    fn the_column_of_a_delimited_row_is_marked() {
        let layouts = layouts();
        let known =
            Writing { separator: Some(','), quote: Some('"'), headers: Vec::new(), layouts: &layouts };
        assert_eq!(marked("\"a,b\",tomorrow,x", "start", &known), "\"a,b\",>>>tomorrow<<<,x");
        assert_eq!(marked("a,tomorrow", "start", &known), "a,tomorrow");
        let quoted = headed("Name;When;X", ';', '\'');
        assert_eq!(marked("'a;b';bad;c", "When", &quoted), "'a;b';>>>bad<<<;c");
        assert_eq!(marked("5\" pipe;bad2;c", "When", &quoted), "5\" pipe;>>>bad2<<<;c");
        assert_eq!(marked("5\" pipe,bad", "When", &headed("Who,When", ',', '"')), "5\" pipe,>>>bad<<<");
        assert_eq!(marked("a\u{fc},bad", "When", &headed("Who,When", ',', '"')), "a\u{fc},>>>bad<<<");
    }

    #[test]
    fn where_layouts_disagree_nothing_is_marked() {
        let mut layouts = layouts();
        layouts[1].headers = ["start", "src", "dst"].map(str::to_owned).to_vec();
        let known =
            Writing { separator: Some(','), quote: Some('"'), headers: Vec::new(), layouts: &layouts };
        assert_eq!(marked("a,tomorrow,x", "start", &known), "a,tomorrow,x");
    }

    #[test]
    fn columns_that_are_joined_are_both_marked() {
        let writing = headed("Name|Time|Date", '|', '"');
        assert_eq!(marked("2|10:00|2025-13-02", "Date + Time", &writing), "2|>>>10:00<<<|>>>2025-13-02<<<");
        let row = r#"{"Date":"x","Time":"y"}"#;
        assert_eq!(marked(row, "Date + Time", &MEMBERS), r#"{>>>"Date":"x"<<<,>>>"Time":"y"<<<}"#);
    }

    #[test]
    fn the_member_of_an_object_is_marked_and_no_value_that_looks_so() {
        let row = r#"{"src":"1","start":"a, \"b\"","dst":"2"}"#;
        assert_eq!(marked(row, "start", &MEMBERS), r#"{"src":"1",>>>"start":"a, \x5c"b\x5c""<<<,"dst":"2"}"#);
        let nested = r#"{"b":"2","a":{"z":"bad", "when": "bad"}}"#;
        assert_eq!(marked(nested, "a.when", &MEMBERS), r#"{"b":"2","a":{"z":"bad", >>>"when": "bad"<<<}}"#);
        for row in
            [r#"{"when":"y","b":"a.when"}"#, r#"{"a":[{"when":"y"}]}"#, r#"{"a":{"when":1},"a":{"when":2}}"#]
        {
            assert_eq!(marked(row, "a.when", &MEMBERS), row);
        }
    }

    #[test]
    fn the_element_of_an_element_is_marked() {
        let row = "<cdr><src>1</src><start>x</start><dst/></cdr>";
        assert_eq!(marked(row, "start", &MEMBERS), "<cdr><src>1</src>>>><start>x</start><<<<dst/></cdr>");
        let attribute = "<cdr start=\"x\"><src>1</src></cdr>";
        assert_eq!(marked(attribute, "start", &MEMBERS), attribute);
    }

    #[test]
    fn what_cannot_be_found_is_shown_without_a_mark_and_never_unescaped() {
        assert_eq!(marked("a\u{1b}[2J,b\r\nc", "start", &headed("a,b", ',', '"')), "a\\x1b[2J,b\nc");
        assert_eq!(marked("{\"start", "start", &MEMBERS), "{\"start");
        assert_eq!(marked("", "start", &MEMBERS), "");
    }
}
