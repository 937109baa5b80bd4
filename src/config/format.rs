//! The `[[format]]` stanzas: formats that a person describes.

mod columns;
mod identity;
mod syntax;

use super::FormatConfig;
use super::fault::Fault;
use super::keys::{self, Table};
use super::stanza::{Spotted, Stanza, Stanzas};
use crate::formats::mapping::{
    LayoutConfig, MappingConfig, NamesConfig, PatternConfig, SkipConfig, SyntaxConfig, TestConfig,
};
use crate::record::card::normal_header;
use crate::record::cdr::{Direction, Disposition};
use crate::record::document::{DateOrder, LengthUnit};

/// All formats that are right, and the ids of the wrong ones too, so that whoever fixes one is not told that it is missing.
pub fn read_all(
    stanzas: &Stanzas<'_>,
    built_in: &[&str],
    faults: &mut Vec<Fault>,
) -> (Vec<FormatConfig>, Vec<String>) {
    let mut formats = Vec::new();
    let mut taken: Vec<(String, String)> = Vec::new();
    for stanza in stanzas {
        let before = faults.len();
        let Some(mut stanza) = Stanza::of(*stanza, Table::Format, faults) else { continue };
        let id = id(&mut stanza, built_in, &taken);
        let place = stanza.place();
        taken.extend(id.clone().map(|id| (id, place.clone())));
        let mapping = read(&mut stanza, id.unwrap_or_default());
        stanza.unknown_keys();
        if faults.len() == before {
            formats.extend(mapping.map(|mapping| FormatConfig { mapping, place }));
        }
    }
    (formats, taken.into_iter().map(|(id, _)| id).collect())
}

fn id(stanza: &mut Stanza<'_, '_>, built_in: &[&str], taken: &[(String, String)]) -> Option<String> {
    let Some(text) = stanza.text(keys::ID) else {
        if !stanza.has(keys::ID) {
            stanza.lack(keys::ID, "is missing; give the format an id, id = \"carrier-x\"".to_owned());
        }
        return None;
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fault = if !text.value.chars().all(plain) || text.value.len() > 64 {
        Some("may hold lower-case letters, digits and '-' only, 64 at most; choose such an id".to_owned())
    } else if built_in.contains(&text.value.as_str()) {
        Some(format!("{:?} is a format of this program; choose another id", text.value))
    } else {
        let other = taken.iter().find(|(id, _)| *id == text.value);
        other.map(|(id, place)| format!("{id:?} is taken by the stanza at {place}; choose another id"))
    };
    match fault {
        Some(message) => {
            stanza.faults.push(text.fault(message));
            None
        }
        None => Some(text.value),
    }
}

fn read(stanza: &mut Stanza<'_, '_>, id: String) -> Option<MappingConfig> {
    let title = stanza.text(keys::TITLE).map_or_else(|| id.clone(), |text| text.value);
    let system = stanza.text(keys::SYSTEM).map_or_else(|| id.clone(), |text| text.value);
    let syntax = syntax::read(stanza);
    let numbered = matches!(&syntax, Some(SyntaxConfig::Delimited(delimited)) if delimited.widths.is_some());
    let widest = match &syntax {
        Some(SyntaxConfig::Delimited(delimited)) => delimited.widths.iter().flatten().copied().max(),
        _ => None,
    };
    let columns = columns::read(stanza, numbered, widest);
    let constants = columns::constants(stanza, &columns);
    let (times, date_order) = dates(stanza);
    let identity = identity::read(stanza, &columns);
    let links = identity::links(stanza, &columns);
    let mapping = MappingConfig {
        id,
        title,
        system,
        columns,
        constants,
        encoding: syntax::encoding(stanza),
        times,
        date_order,
        time_zone: zone(stanza),
        lengths: lengths(stanza),
        identity,
        links,
        dispositions: words(stanza, keys::DISPOSITIONS, Table::Dispositions, &outcomes()),
        directions: words(stanza, keys::DIRECTIONS, Table::Directions, &directions()),
        skip: skip(stanza),
        recording_separator: syntax::character(stanza, keys::RECORDING_SEPARATOR, ',').unwrap_or(','),
        syntax: syntax?,
    };
    Some(mapping)
}

fn outcomes() -> Vec<(&'static str, Disposition)> {
    Disposition::ALL.map(|known| (known.word(), known)).to_vec()
}

fn directions() -> Vec<(&'static str, Direction)> {
    Direction::ALL.map(|known| (known.word(), known)).to_vec()
}

/// Layouts of times, and the order of dates where that is all that is said.
fn dates(stanza: &mut Stanza<'_, '_>) -> (Vec<LayoutConfig>, Option<DateOrder>) {
    let written = stanza.texts(keys::DATES).unwrap_or_default();
    let order = |text: &str| match text {
        "year-first" => Some(DateOrder::YearFirst),
        "day-first" => Some(DateOrder::DayFirst),
        "month-first" => Some(DateOrder::MonthFirst),
        _ => None,
    };
    if let [only] = written.as_slice()
        && let Some(order) = order(&only.value)
    {
        return (Vec::new(), Some(order));
    }
    let mut layouts = Vec::new();
    for text in written {
        if order(&text.value).is_some() {
            let message =
                format!("{:?} stands alone or not at all; write layouts only, or this only", text.value);
            stanza.faults.push(text.fault(message));
            continue;
        }
        match LayoutConfig::new(&text.value) {
            Ok(layout) => layouts.push(layout),
            Err(_) if !text.value.contains('%') => {
                let named = ["day-first", "month-first", "year-first", "epoch", "epoch-ms"];
                one_of(&text, &named.map(|word| (word, ())), stanza);
            }
            Err(cause) => stanza.faults.push(text.fault(format!(
                "{:?} is no layout of a date with a time ({cause}); write one like \"%d.%m.%Y %H:%M:%S\"",
                text.value
            ))),
        }
    }
    (layouts, None)
}

fn zone(stanza: &mut Stanza<'_, '_>) -> Option<String> {
    let text = stanza.text(keys::TIME_ZONE)?;
    if text.value == "utc" {
        return Some("UTC".to_owned());
    }
    let zone = super::origin::zone(&text, false, stanza.faults)?;
    zone.iana_name().map(str::to_owned)
}

fn lengths(stanza: &mut Stanza<'_, '_>) -> LengthUnit {
    let units = [
        ("s", LengthUnit::Seconds),
        ("ms", LengthUnit::Milliseconds),
        ("min", LengthUnit::Minutes),
        ("hh:mm:ss", LengthUnit::Clock),
        ("hh:mm", LengthUnit::HoursMinutes),
    ];
    stanza.text(keys::DURATION_UNIT).and_then(|text| one_of(&text, &units, stanza)).unwrap_or_default()
}

/// The value that a word means; a wrong word is said with those that there are.
fn one_of<T: Copy>(text: &Spotted<String>, known: &[(&str, T)], stanza: &mut Stanza<'_, '_>) -> Option<T> {
    if let Some((_, value)) = known.iter().find(|(word, _)| *word == text.value) {
        return Some(*value);
    }
    let meant = keys::nearest(&text.value, known.iter().map(|(word, _)| *word)).map_or_else(
        || {
            let words: Vec<String> = known.iter().map(|(word, _)| format!("{word:?}")).collect();
            format!("write one of {}", words.join(", "))
        },
        |nearest| format!("did you mean {nearest:?}?"),
    );
    stanza.faults.push(text.fault(format!("{:?} is not known here; {meant}", text.value)));
    None
}

/// A table of a vendor's words and what they mean.
fn words<T: Copy>(
    stanza: &mut Stanza<'_, '_>,
    key: &str,
    table: Table,
    known: &[(&str, T)],
) -> Vec<(String, T)> {
    let Some(mut table) = stanza.table(key, table) else { return Vec::new() };
    let mut words = Vec::new();
    for entry in table.entries() {
        if let Some(text) = table.text(&entry.value)
            && let Some(value) = one_of(&text, known, &mut table)
        {
            words.push((entry.value, value));
        }
    }
    words
}

/// Rules for rows that are no calls.
fn skip(stanza: &mut Stanza<'_, '_>) -> Vec<SkipConfig> {
    let mut rules = Vec::new();
    for rule in stanza.list(keys::SKIP) {
        let Some(mut rule) = Stanza::of(rule, Table::Skip, stanza.faults) else { continue };
        let column = rule.words(keys::COLUMN).and_then(|words| words.into_iter().next());
        let mut tests = Vec::new();
        let equals = rule.words(keys::EQUALS);
        if equals.as_ref().is_some_and(Vec::is_empty)
            && let Some(place) = rule.place_of(keys::EQUALS)
        {
            let message =
                "names no text, so that it would skip nothing; write the texts, or take the rule away";
            rule.faults.push(place.fault(message.to_owned()));
        }
        tests.extend(equals.map(TestConfig::Equals));
        tests.extend(
            rule.text(keys::MATCHES).map(|text| TestConfig::Matches(PatternConfig::new(&text.value))),
        );
        if rule.flag(keys::BLANK, false) {
            tests.push(TestConfig::Blank);
        }
        tests.extend(
            rule.texts(keys::BEGINS)
                .map(|texts| TestConfig::Begins(texts.into_iter().map(|text| text.value).collect())),
        );
        rule.unknown_keys();
        let begins = matches!(tests.first(), Some(TestConfig::Begins(_)));
        match (<[TestConfig; 1]>::try_from(tests), &column) {
            (Ok(_), None) if !begins => {
                let message = "is missing; name the column that is looked at, column = \"...\"";
                rule.lack(keys::COLUMN, message.to_owned());
            }
            (Ok([test]), _) => rules.push(SkipConfig { column, test }),
            (Err(_), _) => {
                let message =
                    "needs exactly one of equals, matches, blank and begins; write one rule for each";
                rule.lack(keys::EQUALS, message.to_owned());
            }
        }
    }
    rules
}

/// Whether two names mean the same column.
fn same(one: &str, other: &str) -> bool {
    normal_header(one) == normal_header(other)
}

/// The names of a column, as written.
fn names(names: &NamesConfig) -> &[String] {
    match names {
        NamesConfig::Any(names) | NamesConfig::Joined(names) => names,
    }
}
