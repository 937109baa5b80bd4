//! Formats that a person describes in the configuration: any separated values or JSON, without code.
//!
//! Must never guess what the stanza does not say, and never change an identity list of rows that exist: `run` and
//! `check` compare the lists with those under which rows are stored.

mod delimited;
mod json;
mod pattern;
mod shape;
#[cfg(test)]
mod tests;

pub use pattern::PatternConfig;

use super::enclosure::Enclosure;
use super::{Format, Head, RowReader, Verdict};
use crate::record::card::{Card, Evidence, Family, Link, Match, Told, normal_header};
use crate::record::cdr::{Direction, Disposition};
use crate::record::document::{DateOrder, Dialect, Encoding, LengthUnit, ZoneRule};
use crate::record::field::Field;
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use std::io::Read;

/// One `[[format]]` stanza, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingConfig {
    /// Id of the format; also the name of its family, so part of every identity.
    pub id: String,
    /// A line for people.
    pub title: String,
    /// The system that writes it.
    pub system: String,
    /// How rows and columns are found.
    pub syntax: SyntaxConfig,
    /// What the columns mean, each field once.
    pub columns: Vec<ColumnConfig>,
    /// Fields that have the same text in every row.
    pub constants: Vec<(Field, String)>,
    /// Encoding; `None`: as the document shows.
    pub encoding: Option<Encoding>,
    /// Layouts of times, see [`LayoutConfig`]; none: as PBXes write them.
    pub times: Vec<LayoutConfig>,
    /// Order of dates where no layouts are named; `None`: as the document proves.
    pub date_order: Option<DateOrder>,
    /// IANA name of the zone of its times; `None`: the source's or the origin's.
    pub time_zone: Option<String>,
    /// What a number in a column of lengths counts.
    pub lengths: LengthUnit,
    /// What tells legs apart.
    pub identity: IdentityConfig,
    /// Fields that join legs to calls.
    pub links: Vec<Field>,
    /// Told words.
    pub dispositions: Vec<(String, Disposition)>,
    /// Direction words.
    pub directions: Vec<(String, Direction)>,
    /// Rows that are no calls.
    pub skip: Vec<SkipConfig>,
    /// Separator of a list of recordings.
    pub recording_separator: char,
}

/// How rows and columns are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyntaxConfig {
    /// Separated values.
    Delimited(DelimitedConfig),
    /// JSON: the steps to the records; `None`: one object after another, or one array of them.
    Json(Option<Vec<StepConfig>>),
}

/// Separated values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelimitedConfig {
    /// An ASCII character.
    pub separator: char,
    /// An ASCII character; `None`: quotes are text.
    pub quote: Option<char>,
    /// Numbers of columns that a row may have, where no header names them.
    pub widths: Option<Vec<usize>>,
    /// Lines before the first row or header.
    pub skip_lines: u64,
    /// What the first line behind those looks like.
    pub recognise: Option<PatternConfig>,
}

/// A step into a JSON document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepConfig {
    /// The member of this name.
    Member(String),
    /// Each element of an array.
    Each,
}

/// What one or several columns mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnConfig {
    /// The field.
    pub field: Field,
    /// Where its text is.
    pub names: NamesConfig,
}

/// Where the text of a field is: headers, members (`from.number`), or numbers of columns from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamesConfig {
    /// The first of these that the document has.
    Any(Vec<String>),
    /// All of these, joined by a blank.
    Joined(Vec<String>),
}

/// The identity lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names of the lists")]
pub struct IdentityConfig {
    pub matched: Vec<Field>,
    pub sure: Option<Field>,
    pub instance: Option<Field>,
    pub exact: Vec<Field>,
    pub near: Vec<Field>,
    pub events: Vec<String>,
}

/// A rule for rows that are no calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkipConfig {
    /// Header, member or number of the column that is looked at; `None`: the first.
    pub column: Option<String>,
    /// What is asked of its text, without blanks around it.
    pub test: TestConfig,
}

/// What is asked of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestConfig {
    /// It is one of these, whatever the case.
    Equals(Vec<String>),
    /// It looks like this.
    Matches(PatternConfig),
    /// It is blank.
    Blank,
    /// It begins with one of these.
    Begins(Vec<String>),
}

/// A layout of times: `epoch` (seconds), `epoch-ms`, or directives of `strptime` like `%d.%m.%Y %H:%M:%S`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutConfig(String);

impl LayoutConfig {
    /// Takes a layout that gives back a date and a time of day; says what is wrong with any other.
    pub fn new(text: &str) -> Result<Self, String> {
        if matches!(text, "epoch" | "epoch-ms") {
            return Ok(Self(text.to_owned()));
        }
        if text.contains("%s") || text.contains("%Z") || text.contains("%Q") {
            return Err("seconds since 1970 are \"epoch\", and names of zones cannot be read".to_owned());
        }
        let sample = DateTime::constant(2025, 11, 23, 21, 5, 9, 0);
        let zoned = jiff::tz::TimeZone::UTC.to_zoned(sample).map_err(|error| error.to_string())?;
        let written = BrokenDownTime::from(&zoned).to_string(text).map_err(|error| error.to_string())?;
        let back = BrokenDownTime::parse(text, &written).and_then(|parsed| parsed.to_datetime());
        let back = back.map_err(|error| error.to_string())?;
        let same = back.date() == sample.date() && (back.hour(), back.minute()) == (21, 5);
        if same {
            Ok(Self(text.to_owned()))
        } else {
            Err("it does not give a date and a time of day".to_owned())
        }
    }

    fn has_seconds(&self) -> bool {
        let told = ["epoch", "%S", "%T", "%c", "%r", "%X", "%-S", "%_S"];
        told.iter().any(|told| self.0.contains(told))
    }
}

impl MappingConfig {
    /// Changes whenever the same bytes could be read differently.
    pub fn version(&self) -> u64 {
        let hash = blake3::hash(format!("{self:?}").as_bytes());
        hash.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn card(&self) -> Card {
        let lists = &self.identity;
        let matched: &'static [Match] =
            lists.matched.iter().map(|field| rule(*field)).collect::<Vec<_>>().leak();
        let (exact, near): (&'static [Field], &'static [Field]) =
            (lists.exact.clone().leak(), lists.near.clone().leak());
        let events: Vec<&'static str> =
            lists.events.iter().map(|word| leaked(&word.to_uppercase())).collect();
        let events: &'static [&'static str] = events.leak();
        let family = |name: String, minute: bool| Family {
            name: name.leak(),
            matched,
            sure: lists.sure,
            instance: lists.instance,
            exact,
            near,
            minute,
            events,
        };
        let families = vec![family(self.id.clone(), false), family(format!("{}-minute", self.id), true)];
        let links =
            self.links.iter().filter_map(|field| Some(Link { kind: field.name(), column: field.home()? }));
        Card {
            id: leaked(&self.id),
            system: leaked(&self.system),
            title: leaked(&self.title),
            version: 1,
            evidence: Evidence::Configured,
            versions: &[],
            notes: &[],
            outcome: Told::Word,
            fidelity: 50,
            headers: self.headers().leak(),
            families: families.leak(),
            links: links.collect::<Vec<_>>().leak(),
            dispositions: words(&self.dispositions, &Disposition::ALL.map(|known| (known.word(), known))),
            directions: words(&self.directions, &Direction::ALL.map(|known| (known.word(), known))),
            contexts: &[],
            voicemail: &[],
            bracketed: &[],
            recording_separator: self.recording_separator,
            epoch_in: None,
        }
    }

    /// Headers of layouts, also of stored ones, and what they mean.
    fn headers(&self) -> Vec<(&'static str, Field)> {
        let mut headers: Vec<(&'static str, Field)> = Vec::new();
        let mut add = |header: &str, field| headers.push((leaked(&normal_header(header)), field));
        for column in &self.columns {
            match &column.names {
                _ if self.is_numbered() => add(column.field.name(), column.field),
                NamesConfig::Any(names) => names.iter().for_each(|name| add(name, column.field)),
                NamesConfig::Joined(parts) => add(&shape::joined(parts), column.field),
            }
        }
        for (field, _) in &self.constants {
            add(&shape::constant(*field), *field);
        }
        headers
    }

    fn is_numbered(&self) -> bool {
        matches!(&self.syntax, SyntaxConfig::Delimited(delimited) if delimited.widths.is_some())
    }

    /// How a document in this encoding writes its values, as far as the stanza says.
    fn dialect(&self, encoding: Encoding) -> Dialect {
        let separator = match &self.syntax {
            SyntaxConfig::Delimited(delimited) => Some(delimited.separator),
            SyntaxConfig::Json(_) => None,
        };
        Dialect {
            encoding,
            separator,
            date_order: self.date_order.unwrap_or_default(),
            minute: !self.times.is_empty() && !self.times.iter().any(LayoutConfig::has_seconds),
            zone: if self.time_zone.is_some() { ZoneRule::Format } else { ZoneRule::Origin },
            times: self.times.iter().map(|layout| layout.0.clone()).collect(),
            lengths: self.lengths,
            generation: String::new(),
        }
    }

    /// Certainty of a claim. A stanza that happens to fit a document of a built-in format must not take it away: whoever
    /// wants that fixes the format for the source.
    fn certainty(found: usize) -> u8 {
        u8::try_from(30 + found.min(10) * 5).unwrap_or(80)
    }
}

fn rule(field: Field) -> Match {
    match field {
        Field::Start | Field::Answer | Field::End => Match::Time(field),
        other => Match::Text(other),
    }
}

/// Cards live as long as the process, those of the configuration too.
fn leaked(text: &str) -> &'static str {
    text.to_owned().leak()
}

/// The stanza's words and, where it does not use them otherwise, our own.
fn words<T: Copy>(stanza: &[(String, T)], own: &[(&str, T)]) -> &'static [(&'static str, T)] {
    let mut all: Vec<(&'static str, T)> =
        stanza.iter().map(|(word, means)| (leaked(&word.trim().to_uppercase()), *means)).collect();
    for (word, means) in own {
        let word = word.to_uppercase();
        if all.iter().all(|(known, _)| *known != word) {
            all.push((word.leak(), *means));
        }
    }
    all.leak()
}

/// The format that a stanza describes.
#[derive(Debug, Clone, Copy)]
pub struct Mapped {
    card: &'static Card,
    config: &'static MappingConfig,
}

impl Mapped {
    /// Makes it; what it declares is never freed.
    pub fn new(config: MappingConfig) -> Self {
        Self { card: Box::leak(Box::new(config.card())), config: Box::leak(Box::new(config)) }
    }

    fn look(self, head: &Head<'_>, pinned: bool) -> Verdict {
        match &self.config.syntax {
            SyntaxConfig::Delimited(syntax) => delimited::recognise(self, syntax, head, pinned),
            SyntaxConfig::Json(path) => json::recognise(self, path.as_deref(), head, pinned),
        }
    }
}

impl Format for Mapped {
    fn card(&self) -> &'static Card {
        self.card
    }

    fn version(&self) -> u64 {
        self.config.version()
    }

    fn recognise(&self, head: &Head<'_>) -> Verdict {
        self.look(head, false)
    }

    fn recognise_pinned(&self, head: &Head<'_>) -> Verdict {
        self.look(head, true)
    }

    fn quote(&self) -> Option<char> {
        match &self.config.syntax {
            SyntaxConfig::Delimited(syntax) => syntax.quote,
            SyntaxConfig::Json(_) => Some('"'),
        }
    }

    fn enclosure(&self, _: &Dialect) -> Enclosure {
        match &self.config.syntax {
            SyntaxConfig::Delimited(_) => Enclosure::none("csv"),
            SyntaxConfig::Json(None) => Enclosure::none("json"),
            SyntaxConfig::Json(Some(path)) => Enclosure::path(path),
        }
    }

    fn open<'a>(&self, dialect: &Dialect, input: Box<dyn Read + 'a>) -> Box<dyn RowReader + 'a> {
        match &self.config.syntax {
            SyntaxConfig::Delimited(syntax) => {
                Box::new(delimited::Reader::new(*self, syntax, input, dialect))
            }
            SyntaxConfig::Json(path) => Box::new(json::Reader::new(*self, path.as_deref(), input, dialect)),
        }
    }
}
