//! A format's card: everything about a vendor's rows that is declared and not computed.
//!
//! Cards are constants of `formats`; `normalise` and `dedup` read them, so that neither knows a vendor's name.
//! Identity lists must never change once rows exist: keys would change with them.

use super::cdr::{Direction, Disposition, TextColumn};
use super::field::Field;

/// What is declared about one format.
#[derive(Debug)]
pub struct Card {
    /// Stable id of the format, kept with every row (`grandstream-web-csv`).
    pub id: &'static str,
    /// The system that writes it (`grandstream-ucm`).
    pub system: &'static str,
    /// A line for people.
    pub title: &'static str,
    /// Raised when the same bytes would be read differently, so that rejected files run again.
    pub version: u32,
    /// What the card rests on.
    pub evidence: Evidence,
    /// Versions of the layout in words, and what each rests on.
    pub versions: &'static [(&'static str, Evidence)],
    /// What a person should know of it, by topic.
    pub notes: &'static [(Topic, &'static str)],
    /// Which format wins where two state the same field differently; the higher.
    pub fidelity: u8,
    /// Source headers, normalised by [`normal_header`], and what they mean.
    pub headers: &'static [(&'static str, Field)],
    /// Identity lists, the most exact first.
    pub families: &'static [Family],
    /// Fields that join legs to calls.
    pub links: &'static [Link],
    /// Where the outcome of a leg is told.
    pub outcome: Told,
    /// Told words, upper case.
    pub dispositions: &'static [(&'static str, Disposition)],
    /// Direction words, upper case.
    pub directions: &'static [(&'static str, Direction)],
    /// Beginnings of dial-plan contexts that tell the direction where no word does.
    pub contexts: &'static [(&'static str, Direction)],
    /// Beginnings of values, upper case, that make an answered leg a voicemail.
    pub voicemail: &'static [(Field, &'static str)],
    /// `WORD[number]` values whose number is a queue, group or such: field, word (upper case), column.
    pub bracketed: &'static [(Field, &'static str, TextColumn)],
    /// Separator of the list of recordings.
    pub recording_separator: char,
    /// The field whose leading digits (after an optional `system-`) are the UTC second at which the channel began.
    pub epoch_in: Option<Field>,
}

/// Where the outcome of a leg is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// By the word of the disposition alone.
    Word,
    /// A leg is answered where its answer time is stated or, in layouts without that column, some talk. Of others the word
    /// says why not, or the hang-up cause in words, and where both are blank the Q.850 cause.
    Answer,
}

/// What a card rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Vendor documentation only.
    Documented,
    /// Seen in real data.
    Seen,
    /// A stanza of the configuration.
    Configured,
}

impl Evidence {
    /// In words. Nothing is ever called supported that was not seen.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Documented => "vendor's documents",
            Self::Seen => "real data",
            Self::Configured => "your configuration",
        }
    }
}

/// What a note of a card is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Who describes the layout.
    Specification,
    /// Whose clock its times show.
    Zone,
    /// Why these fields tell legs apart.
    Identity,
    /// How legs, transfers and forwards show.
    Legs,
    /// Something to know about what it writes.
    Quirk,
    /// How the system is made to send it.
    Sending,
}

impl Topic {
    /// The word before the note.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Specification => "specification",
            Self::Zone => "time zone",
            Self::Identity => "identity",
            Self::Legs => "legs",
            Self::Quirk => "quirk",
            Self::Sending => "sending",
        }
    }
}

/// A field that joins legs to calls. Values of one kind are compared with each other only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Name space of the values.
    pub kind: &'static str,
    /// The text column that holds the value.
    pub column: TextColumn,
}

/// The identity lists of a family of formats.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Stable name, part of every identity.
    pub name: &'static str,
    /// Fields whose canonical text is the identity of the group.
    pub matched: &'static [Match],
    /// An id unique per leg.
    pub sure: Option<Field>,
    /// A field that names one channel.
    pub instance: Option<Field>,
    /// Fields in which two statements of one leg cannot differ.
    pub exact: &'static [Field],
    /// Lengths of time that may differ by a second.
    pub near: &'static [Field],
    /// The family of layouts that write starts to the minute.
    pub minute: bool,
    /// Words of the row kind, upper case and in the order in which they happen, where a row is an event of a leg
    /// (`START`, `TALK`, `END`): all rows of a group are one leg, and what a later event says wins. Empty: a row is a leg.
    pub events: &'static [&'static str],
}

impl Family {
    /// Place of a row among the events of its leg; 0 where it names none.
    pub fn event_rank(&self, word: &str) -> usize {
        self.events
            .iter()
            .position(|event| event.eq_ignore_ascii_case(word.trim()))
            .map_or(0, |place| place + 1)
    }
}

/// How a field enters the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// Trimmed text.
    Text(Field),
    /// Wall clock in canonical text.
    Time(Field),
    /// Wall clock modulo 15 minutes, because sources may write it in different zones and zones differ by multiples of
    /// 15 minutes. Whole wall clock where the vendor's id carries no epoch.
    TimeModuloQuarter(Field),
}

impl Match {
    /// The field.
    pub const fn field(&self) -> Field {
        match self {
            Self::Text(field) | Self::Time(field) | Self::TimeModuloQuarter(field) => *field,
        }
    }
}

impl Card {
    /// What a source header means in this format.
    pub fn field_of(&self, header: &str) -> Option<Field> {
        let normal = normal_header(header);
        self.headers.iter().find(|(name, _)| *name == normal).map(|(_, field)| *field)
    }
}

/// Lower case without `.`, `_`, `-` and spaces: firmware and users vary those (`Dest. Channel`, `Dest Channel`).
pub fn normal_header(header: &str) -> String {
    if header.is_ascii() {
        let kept = header.bytes().filter(|byte| !matches!(byte, b'.' | b'_' | b'-' | b' '));
        return kept.map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    }
    normal(header).collect()
}

/// Whether a header is this one in its normal form. Nothing is made for it: every field of every document's first rows is
/// compared with what formats look for.
pub fn is_named(header: &str, normal_form: &str) -> bool {
    normal(header).eq(normal_form.chars())
}

fn normal(header: &str) -> impl Iterator<Item = char> {
    let kept = header.chars().filter(|c| !matches!(c, '.' | '_' | '-' | ' ' | '\u{feff}' | '\u{a0}'));
    kept.flat_map(char::to_lowercase)
}
