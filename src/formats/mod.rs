//! Documents to raw records: recognises who wrote a document and reads its rows as text, each exactly once.
//!
//! Must never guess, normalise a value, look at a clock, file or database, or need more memory for a larger document.

pub mod asterisk;
mod avaya_ipo;
mod cdr_custom;
mod cucm;
pub mod dates;
pub mod enclosure;
pub mod freepbx;
mod freeswitch;
pub mod grandstream;
pub mod mapping;
mod recognise;
mod sheet;
pub mod syntax;
mod teams;
#[cfg(test)]
mod tests;
mod threecx;
mod webex;

use crate::record::card::{Card, Match};
use crate::record::document::{Dialect, Layout};
use crate::record::field::Field;
use crate::record::outcome::{Reason, Rejection, Skip};
use crate::record::raw::{Position, RawRecord};
use enclosure::Enclosure;
use mapping::{Mapped, MappingConfig};
use std::io::Read;
use syntax::delimited::Delimited;
use syntax::encoding;

pub use recognise::{Opinion, Recognition};

/// The beginning of a document: all that recognition may look at.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The first bytes, up to 64 KiB.
    pub bytes: &'a [u8],
    /// The whole document is in `bytes`.
    pub complete: bool,
    /// Name as sent; a hint for people, never a reason.
    pub name: &'a str,
}

/// A format says that a document is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// 1 to 100; the highest wins, a tie is never decided.
    pub certainty: u8,
    /// The reason in words.
    pub why: String,
    /// How the document writes its values.
    pub dialect: Dialect,
}

/// What a format thinks of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is mine.
    Claimed(Claim),
    /// It is not mine.
    Refused {
        /// The reason in words.
        why: String,
    },
    /// It is mine, but cannot be read without help.
    Undecided {
        /// Stable reason.
        reason: Reason,
        /// What is wrong and what to do.
        message: String,
    },
}

impl Verdict {
    /// Not mine, because.
    pub fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into() }
    }
}

/// One vendor's layout.
pub trait Format: Sync + Send {
    /// Everything that is declared about it.
    fn card(&self) -> &'static Card;
    /// Changes when the same bytes would be read differently.
    fn version(&self) -> u64 {
        u64::from(self.card().version)
    }
    /// Whether the document is written in it.
    fn recognise(&self, head: &Head<'_>) -> Verdict;
    /// Whether each row is a line, or a few, of its own, so that a file can be read on from any of them (with the lines
    /// before its first row in front, which may name the columns).
    fn is_lines(&self, dialect: &Dialect) -> bool {
        dialect.separator.is_some() && encoding::unit(dialect.encoding) == 1
    }
    /// What encloses values that hold separators.
    fn quote(&self) -> Option<char> {
        Some('"')
    }
    /// What stands around rows that are taken out of a document.
    fn enclosure(&self, dialect: &Dialect) -> Enclosure {
        Enclosure::none(if dialect.separator.is_some() { "csv" } else { "json" })
    }
    /// The same where a person fixed this format: what only their word can tell need not be proven by the document.
    fn recognise_pinned(&self, head: &Head<'_>) -> Verdict {
        self.recognise(head)
    }
    /// A reader of the document's rows.
    fn open<'a>(&self, dialect: &Dialect, input: Box<dyn Read + 'a>) -> Box<dyn RowReader + 'a>;
}

/// One row of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A row that states something about a call.
    Record(RawRecord),
    /// A row that is no call.
    Skipped {
        /// Where.
        position: Position,
        /// Why it is no call.
        why: Skip,
    },
    /// A row that does not fit the layout.
    Fault(Rejection),
}

impl Row {
    /// Where the row stands.
    pub fn position(&self) -> Position {
        match self {
            Self::Record(record) => record.position,
            Self::Skipped { position, .. } => *position,
            Self::Fault(rejection) => rejection.position,
        }
    }

    fn fault(position: Position, reason: Reason, message: impl Into<String>, verbatim: &[u8]) -> Self {
        let (field, message, verbatim) = (None, message.into(), verbatim.to_vec());
        Self::Fault(Rejection { position, field, reason, message, verbatim })
    }

    /// The same fault, of the column with this header.
    fn in_field(mut self, header: Option<&str>) -> Self {
        if let Self::Fault(rejection) = &mut self {
            rejection.field = header.map(str::to_owned);
        }
        self
    }
}

/// Whether a record may be the first half of one: no line end follows, and what stands last tells calls apart.
///
/// The first `count` columns of the layout are those of the document.
fn may_be_cut(rows: &Delimited<'_>, layout: &Layout, count: usize) -> bool {
    if !rows.is_unended() {
        return false;
    }
    let (fields, family) = (rows.fields(), layout.family);
    let tells_apart = |field: Field| {
        let matched = family.matched.iter().map(Match::field).any(|matched| matched == field);
        matched || family.sure == Some(field) || family.exact.contains(&field)
    };
    let last = count.saturating_sub(1);
    let field = layout.columns.get(last).and_then(|column| column.field);
    fields.len() <= last + 1 && !fields.is_enclosed(last) && field.is_some_and(tells_apart)
}

const MAY_BE_CUT: &str = "no line end follows the row, and it ends in an id or number or lacks columns, so that it may be \
                          cut off; complete it, end it with a line end and send it again";

/// Reads the rows of one document.
pub trait RowReader {
    /// Rows in ascending row number, every row of the document exactly once. `Err` only when the input itself failed.
    fn next_row(&mut self) -> std::io::Result<Option<Row>>;
    /// Bytes of the row last returned, as in the document, cut at `VERBATIM_CAP`.
    fn verbatim(&self) -> &[u8];
}

/// The formats of this program. The one visible list: a new format is one line here.
const BUILT_IN: &[&dyn Format] = &[
    &grandstream::json::CdrapiJson,
    &grandstream::web_csv::WebCsv,
    &grandstream::xml::CdrapiXml,
    &grandstream::legacy_csv::LegacyCsv,
    &asterisk::CdrCsv,
    &freepbx::ReportCsv,
    &cucm::CDR,
    &cucm::CMR,
    &freeswitch::CDR_CSV,
    &cdr_custom::MASTER,
    &threecx::CDR,
    &avaya_ipo::SMDR,
    &webex::DETAILED_CALL_HISTORY,
    &teams::PSTN,
    &teams::DIRECT_ROUTING,
];

/// All formats that can be read. Built once and handed to whoever reads; formats live as long as the process, because
/// every row names its card.
#[derive(Clone)]
pub struct Formats {
    all: Vec<&'static dyn Format>,
}

impl Formats {
    /// Those of this program.
    pub fn built_in() -> Self {
        Self { all: BUILT_IN.to_vec() }
    }

    /// Those of this program and those that these stanzas describe. What is made here is never freed.
    pub fn with(mappings: impl IntoIterator<Item = MappingConfig>) -> Self {
        let mut formats = Self::built_in();
        for mapping in mappings {
            formats.all.push(Box::leak(Box::new(Mapped::new(mapping))));
        }
        formats
    }

    /// Whether this format is one of the program's own.
    pub fn is_built_in(id: &str) -> bool {
        BUILT_IN.iter().any(|format| format.card().id == id)
    }

    /// Ids and versions: what in the formats changes how bytes are read.
    pub fn versions(&self) -> Vec<(&'static str, u64)> {
        self.all.iter().map(|format| (format.card().id, format.version())).collect()
    }

    /// Every format, in the order in which they are asked.
    pub fn all(&self) -> &[&'static dyn Format] {
        &self.all
    }

    /// The format with this id.
    pub fn by_id(&self, id: &str) -> Option<&'static dyn Format> {
        self.all.iter().find(|format| format.card().id == id).copied()
    }

    /// The cards of all formats.
    pub fn cards(&self) -> impl Iterator<Item = &'static Card> {
        self.all.iter().map(|format| format.card())
    }
}

impl std::fmt::Debug for Formats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.cards().map(|card| card.id)).finish()
    }
}
