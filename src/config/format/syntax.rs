//! How a format's rows and columns are found: separators, quotes, header, path, encoding.

use crate::config::keys;
use crate::config::stanza::Stanza;
use crate::formats::mapping::{DelimitedConfig, PatternConfig, StepConfig, SyntaxConfig};
use crate::record::document::Encoding;

const DELIMITED_ONLY: [&str; 6] =
    [keys::SEPARATOR, keys::QUOTE, keys::HEADER, keys::WIDTH, keys::SKIP_LINES, keys::RECOGNISE];

pub(super) fn read(stanza: &mut Stanza<'_, '_>) -> Option<SyntaxConfig> {
    let json = match stanza.text(keys::SYNTAX) {
        Some(text) => super::one_of(&text, &[("delimited", false), ("json", true)], stanza)?,
        None => false,
    };
    let strangers: &[&str] = if json { &DELIMITED_ONLY } else { &[keys::PATH] };
    for key in strangers {
        if let Some(place) = stanza.place_of(key) {
            let syntax = if json { "delimited" } else { "json" };
            let message =
                format!("belongs to syntax = \"{syntax}\" only; take the line away, or write that syntax");
            stanza.faults.push(place.fault(message));
        }
    }
    if json { path(stanza).map(SyntaxConfig::Json) } else { delimited(stanza).map(SyntaxConfig::Delimited) }
}

fn delimited(stanza: &mut Stanza<'_, '_>) -> Option<DelimitedConfig> {
    let separator = character(stanza, keys::SEPARATOR, ',');
    let quote = match stanza.blank_text(keys::QUOTE) {
        Some(text) if text.value == "none" => Some(None),
        None if stanza.has(keys::QUOTE) => None,
        _ => character(stanza, keys::QUOTE, '"').map(Some),
    };
    let place = stanza.place_of(keys::QUOTE).or_else(|| stanza.place_of(keys::SEPARATOR));
    if let (Some(separator), Some(Some(quote)), Some(place)) = (separator, quote, place)
        && separator == quote
    {
        let message = "is separator and quote at once; write another, or quote = \"none\"".to_owned();
        stanza.faults.push(place.fault(message));
    }
    let header = stanza.flag(keys::HEADER, true);
    let widths = widths(stanza, header);
    let skip_lines =
        stanza.numbers(keys::SKIP_LINES).and_then(|numbers| numbers.first().map(|text| text.value));
    let recognise = stanza.text(keys::RECOGNISE).map(|text| PatternConfig::new(&text.value));
    Some(DelimitedConfig {
        separator: separator?,
        quote: quote?,
        widths,
        skip_lines: skip_lines.unwrap_or(0) as u64,
        recognise,
    })
}

/// Numbers of columns, which must be known where no header counts them.
fn widths(stanza: &mut Stanza<'_, '_>, header: bool) -> Option<Vec<usize>> {
    let place = stanza.place_of(keys::WIDTH);
    if let (true, Some(place)) = (header, &place) {
        let message = "is only for header = false; the header says how many columns there are";
        stanza.faults.push(place.fault(message.to_owned()));
        return None;
    }
    if header {
        return None;
    }
    if place.is_none() {
        let message =
            "is missing; without a header, say how many columns a row has, width = 12 or width = [12, 13]";
        stanza.lack(keys::WIDTH, message.to_owned());
    }
    let numbers = stanza.numbers(keys::WIDTH).unwrap_or_default();
    if let Some(zero) = numbers.iter().find(|number| !(1..=1000).contains(&number.value)) {
        stanza.faults.push(zero.fault("rows have 1 to 1000 columns; write how many".to_owned()));
    }
    Some(numbers.into_iter().map(|number| number.value).collect())
}

/// One ASCII character that is no letter, digit or line end; `None` after a fault.
pub(super) fn character(stanza: &mut Stanza<'_, '_>, key: &str, default: char) -> Option<char> {
    let Some(written) = stanza.blank_text(key) else { return (!stanza.has(key)).then_some(default) };
    let mut characters = written.value.chars();
    match (characters.next(), characters.next()) {
        (Some(one), None)
            if one.is_ascii() && !one.is_ascii_alphanumeric() && !matches!(one, '\r' | '\n' | '\0') =>
        {
            Some(one)
        }
        _ if written.value == "tab" => Some('\t'),
        _ => {
            let message = format!(
                "{:?} is not one ASCII character that is no letter or digit; write one like \";\" or \"tab\"",
                written.value
            );
            stanza.faults.push(written.fault(message));
            None
        }
    }
}

/// `data.calls[]`: members, and `[]` for each element of an array.
#[expect(clippy::option_option, reason = "no path and a wrong path are two things")]
fn path(stanza: &mut Stanza<'_, '_>) -> Option<Option<Vec<StepConfig>>> {
    let Some(text) = stanza.text(keys::PATH) else { return (!stanza.has(keys::PATH)).then_some(None) };
    let mut steps = Vec::new();
    let mut sound = true;
    for (place, part) in text.value.split('.').enumerate() {
        let name = part.trim_end_matches("[]");
        let each = (part.len() - name.len()) / 2;
        sound &= !name.contains(['[', ']']) && (!name.is_empty() || (place == 0 && each > 0));
        if !name.is_empty() {
            steps.push(StepConfig::Member(name.to_owned()));
        }
        steps.extend(std::iter::repeat_n(StepConfig::Each, each));
    }
    if sound {
        return Some(Some(steps));
    }
    let message = format!(
        "{:?} is no path; write names with dots between them and [] behind an array, like \"data.calls[]\"",
        text.value
    );
    stanza.faults.push(text.fault(message));
    None
}

pub(super) fn encoding(stanza: &mut Stanza<'_, '_>) -> Option<Encoding> {
    let text = stanza.text(keys::ENCODING)?;
    let known = [
        ("auto", None),
        ("utf-8", Some(Encoding::Utf8)),
        ("utf-16le", Some(Encoding::Utf16Le)),
        ("utf-16be", Some(Encoding::Utf16Be)),
        ("windows-1252", Some(Encoding::Windows1252)),
        ("iso-8859-1", Some(Encoding::Windows1252)),
    ];
    super::one_of(&text, &known, stanza).flatten()
}
