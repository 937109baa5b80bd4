//! Reads one table of a file: typed values with their places, and a fault for whatever is not as it should be.

use super::fault::Fault;
use super::keys::{self, Table};
use super::place::{Parsed, Text};
use jiff::SignedDuration;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Spotted<T> {
    /// The value.
    pub value: T,
    file: PathBuf,
    line: usize,
    key: String,
}

impl<T> Spotted<T> {
    /// A fault at this place.
    pub fn fault(&self, message: String) -> Fault {
        Fault { file: self.file.clone(), line: self.line, key: self.key.clone(), message }
    }

    /// File, line and key.
    pub fn shown(&self) -> String {
        format!("{}:{}: {}", self.file.display(), self.line, self.key)
    }

    /// Another value at the same place.
    pub fn with<U>(&self, value: U) -> Spotted<U> {
        Spotted { value, file: self.file.clone(), line: self.line, key: self.key.clone() }
    }
}

/// Stanzas of one kind, from all files.
pub type Stanzas<'a> = Vec<(&'a Text, &'a Spanned<DeValue<'a>>)>;

/// One table of a file.
pub struct Stanza<'a, 'f> {
    text: &'a Text,
    table: &'a DeTable<'a>,
    line: usize,
    kind: Table,
    /// Where faults go.
    pub faults: &'f mut Vec<Fault>,
}

impl<'a, 'f> Stanza<'a, 'f> {
    /// A file as a whole.
    pub fn top(parsed: &'a Parsed<'a>, faults: &'f mut Vec<Fault>) -> Self {
        Self { text: parsed.text, table: parsed.table.get_ref(), line: 1, kind: Table::Top, faults }
    }

    /// One stanza of a list.
    pub fn of(
        (text, value): (&'a Text, &'a Spanned<DeValue<'a>>),
        kind: Table,
        faults: &'f mut Vec<Fault>,
    ) -> Option<Self> {
        let line = text.line(&value.span());
        let DeValue::Table(table) = value.get_ref() else { return None };
        Some(Self { text, table, line, kind, faults })
    }

    /// Has unknown keys judged by another list: what may stand here depends on what stands here.
    pub fn becomes(&mut self, kind: Table) {
        self.kind = kind;
    }

    /// File and line of the stanza.
    pub fn place(&self) -> String {
        format!("{}:{}", self.text.path.display(), self.line)
    }

    /// A fault about something that this stanza lacks.
    pub fn lack(&mut self, key: &str, message: String) {
        let fault = Fault { file: self.text.path.clone(), line: self.line, key: self.named(key), message };
        self.faults.push(fault);
    }

    /// Whether the key stands here, right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A text.
    pub fn text(&mut self, key: &str) -> Option<Spotted<String>> {
        let value = self.get(key)?;
        let DeValue::String(text) = value.get_ref() else {
            self.wrong_type(key, value, "text in quotes", "\"...\"");
            return None;
        };
        let spotted = self.spot(key, value, text.clone().into_owned());
        if text.trim().is_empty() {
            self.faults.push(spotted.fault("is empty; give it a value or take the line away".to_owned()));
            return None;
        }
        Some(spotted)
    }

    /// A text that may consist of blanks.
    pub fn blank_text(&mut self, key: &str) -> Option<Spotted<String>> {
        let value = self.get(key)?;
        if let DeValue::String(text) = value.get_ref() {
            return Some(self.spot(key, value, text.clone().into_owned()));
        }
        self.wrong_type(key, value, "text in quotes", "\"...\"");
        None
    }

    /// A text or a list of texts.
    pub fn texts(&mut self, key: &str) -> Option<Vec<Spotted<String>>> {
        let value = self.get(key)?;
        let DeValue::Array(entries) = value.get_ref() else { return self.text(key).map(|text| vec![text]) };
        let mut texts = Vec::new();
        for entry in entries {
            match entry.get_ref() {
                DeValue::String(text) if !text.trim().is_empty() => {
                    texts.push(self.spot(key, entry, text.clone().into_owned()));
                }
                DeValue::String(_) => {
                    let fault = self
                        .spot(key, entry, ())
                        .fault("is empty; give it a value or take it away".to_owned());
                    self.faults.push(fault);
                }
                _ => self.wrong_type(key, entry, "a list of texts in quotes", "[\"...\"]"),
            }
        }
        if entries.is_empty() {
            let fault =
                self.spot(key, value, ()).fault("is empty; give it a value or take the line away".to_owned());
            self.faults.push(fault);
            return None;
        }
        (texts.len() == entries.len()).then_some(texts)
    }

    /// A text that may be blank, or a list of such texts.
    pub fn words(&mut self, key: &str) -> Option<Vec<String>> {
        let value = self.get(key)?;
        let of = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::String(text) => Some(text.trim().to_owned()),
            DeValue::Integer(number) => Some(number.as_str().to_owned()),
            _ => None,
        };
        let words: Option<Vec<String>> = match value.get_ref() {
            DeValue::Array(entries) => entries.iter().map(of).collect(),
            _ => of(value).map(|word| vec![word]),
        };
        if words.is_none() {
            self.wrong_type(key, value, "text in quotes, or a list of such", "\"...\"");
        }
        words
    }

    /// Whole numbers from 0 to 10,000: one, or a list of them.
    pub fn numbers(&mut self, key: &str) -> Option<Vec<Spotted<usize>>> {
        let value = self.get(key)?;
        let of = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::Integer(number) => {
                number.as_str().parse().ok().filter(|number: &usize| *number <= 10_000)
            }
            _ => None,
        };
        let numbers: Option<Vec<usize>> = match value.get_ref() {
            DeValue::Array(entries) => entries.iter().map(of).collect(),
            _ => of(value).map(|number| vec![number]),
        };
        match numbers {
            Some(numbers) if !numbers.is_empty() => {
                Some(numbers.into_iter().map(|number| self.spot(key, value, number)).collect())
            }
            _ => {
                let message = format!("must be a whole number between 0 and 10000; write {key} = 12");
                let fault = self.spot(key, value, ()).fault(message);
                self.faults.push(fault);
                None
            }
        }
    }

    /// The keys that stand here, right or wrong, each with its place, in the order in which they are written.
    pub fn entries(&self) -> Vec<Spotted<String>> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let entry = |(name, value): (&Spanned<std::borrow::Cow<'a, str>>, &Spanned<DeValue<'a>>)| {
            let name = name.get_ref().as_ref();
            self.spot(name, value, name.to_owned())
        };
        entries.into_iter().map(entry).collect()
    }

    /// Whether a number, or a list with one, stands under this key.
    pub fn is_number(&self, key: &str) -> bool {
        match self.get(key).map(Spanned::get_ref) {
            Some(DeValue::Integer(_)) => true,
            Some(DeValue::Array(entries)) => {
                entries.iter().any(|entry| matches!(entry.get_ref(), DeValue::Integer(_)))
            }
            _ => false,
        }
    }

    /// Whether a table stands under this key.
    pub fn is_table(&self, key: &str) -> bool {
        matches!(self.get(key).map(Spanned::get_ref), Some(DeValue::Table(_)))
    }

    /// Where a key stands.
    pub fn place_of(&self, key: &str) -> Option<Spotted<()>> {
        self.get(key).map(|value| self.spot(key, value, ()))
    }

    /// A path, relative to `base`.
    pub fn path(&mut self, key: &str, base: &Path) -> Option<Spotted<PathBuf>> {
        let text = self.text(key)?;
        Some(text.with(tidy(&base.join(&text.value))))
    }

    /// Yes or no.
    pub fn flag(&mut self, key: &str, default: bool) -> bool {
        let Some(value) = self.get(key) else { return default };
        if let DeValue::Boolean(flag) = value.get_ref() {
            return *flag;
        }
        self.wrong_type(key, value, "true or false", "true");
        default
    }

    /// A length of time above zero, `"5s"`.
    pub fn duration(&mut self, key: &str, default: Duration) -> Duration {
        let Some(value) = self.get(key) else { return default };
        let DeValue::String(text) = value.get_ref() else {
            self.wrong_type(key, value, "a length of time in quotes", "\"5s\"");
            return default;
        };
        let parsed: Option<Duration> =
            text.parse::<SignedDuration>().ok().and_then(|length| Duration::try_from(length).ok());
        match parsed {
            Some(length) if !length.is_zero() && length <= Duration::from_hours(24) => length,
            _ => {
                let message = format!(
                    "{text:?} is no length of time between \"1ms\" and \"24h\"; write it like \"5s\" or \"1m 30s\""
                );
                let fault = self.spot(key, value, ()).fault(message);
                self.faults.push(fault);
                default
            }
        }
    }

    /// A table inside this one.
    pub fn table(&mut self, key: &str, kind: Table) -> Option<Stanza<'a, '_>> {
        let value = self.get(key)?;
        if !matches!(value.get_ref(), DeValue::Table(_)) {
            self.wrong_type(key, value, "a table", &format!("[{}{key}]", self.kind.prefix()));
            return None;
        }
        Stanza::of((self.text, value), kind, self.faults)
    }

    /// A list of tables inside this one.
    pub fn list(&mut self, key: &str) -> Stanzas<'a> {
        let Some(value) = self.get(key) else { return Vec::new() };
        if let DeValue::Array(entries) = value.get_ref()
            && entries.iter().all(|entry| matches!(entry.get_ref(), DeValue::Table(_)))
        {
            return entries.iter().map(|entry| (self.text, entry)).collect();
        }
        self.wrong_type(key, value, "a list of stanzas", &format!("[[{}{key}]]", self.kind.prefix()));
        Vec::new()
    }

    /// Notes every key that is none, with the one that was probably meant.
    pub fn unknown_keys(&mut self) {
        let known = keys::names(self.kind);
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let meant = keys::nearest(name, known.iter().copied()).map_or_else(
                || format!("known here: {}", known.join(", ")),
                |nearest| format!("did you mean {nearest}?"),
            );
            self.faults.push(Fault {
                file: self.text.path.clone(),
                line: self.text.line(&key.span()),
                key: self.named(name),
                message: format!("there is no such key; {meant}"),
            });
        }
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn spot<T>(&self, key: &str, value: &Spanned<DeValue<'a>>, spotted: T) -> Spotted<T> {
        Spotted {
            value: spotted,
            file: self.text.path.clone(),
            line: self.text.line(&value.span()),
            key: self.named(key),
        }
    }

    fn named(&self, key: &str) -> String {
        let key = crate::record::delivery::printable(key.as_bytes());
        format!("{}{key}", self.kind.prefix())
    }

    fn wrong_type(&mut self, key: &str, value: &Spanned<DeValue<'a>>, wanted: &str, example: &str) {
        let is = match value.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let header = example.starts_with('[') && !example.contains('"');
        let written = if header { example.to_owned() } else { format!("{key} = {example}") };
        let fault = self.spot(key, value, ()).fault(format!("must be {wanted}, not {is}; write {written}"));
        self.faults.push(fault);
    }
}

/// Takes `.` and `..` out of a path by its letters alone: paths are compared with each other before they exist.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                tidy.pop();
            }
            other => tidy.push(other),
        }
    }
    tidy
}
