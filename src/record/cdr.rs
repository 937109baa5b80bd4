//! A call leg as the table `cdr` shows it, and the words it uses.
//!
//! Times are milliseconds since 1970-01-01 UTC, lengths of time are milliseconds too; the store writes the public
//! layouts (`YYYY-MM-DD HH:MM:SS.SSS`, seconds).

use super::raw::{RawRecord, Span};
use jiff::civil::DateTime;
use std::sync::Arc;

/// A normalised leg: the record as written and what it means. Made by `normalise`, identified by `dedup`.
#[derive(Debug, Clone, PartialEq)]
pub struct Leg {
    /// The record as written.
    pub raw: RawRecord,
    /// The columns that this record alone gives.
    pub cdr: Cdr,
    /// Wall clock of the start as written, parsed; identity is built from it, never from UTC.
    pub start_local: DateTime,
    /// Wall clock of the answer as written. `None` when blank or not a time.
    pub answer_local: Option<DateTime>,
    /// Wall clock of the end as written.
    pub end_local: Option<DateTime>,
    /// Seconds since 1970 that the vendor's id of the channel carries, if it carries one (Asterisk, Grandstream).
    pub id_epoch_s: Option<i64>,
}

/// The public columns of a leg that are made from records (lineage and labels are the store's).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cdr {
    /// Start, milliseconds UTC.
    pub started_at: i64,
    /// Answer, milliseconds UTC; `None` unless answered or voicemail.
    pub answered_at: Option<i64>,
    /// End, milliseconds UTC.
    pub ended_at: Option<i64>,
    /// Offset of the wall clock from UTC at the start, minutes.
    pub utc_offset_min: Option<i32>,
    /// How exact the start is.
    pub time_precision: Precision,
    /// The wall clock of the start happened twice or never, and nothing in the record decided which instant it was.
    pub time_ambiguous: bool,
    /// Start to end, milliseconds.
    pub duration_ms: Option<i64>,
    /// Talk, milliseconds; 0 unless answered or voicemail.
    pub talk_ms: Option<i64>,
    /// Ringing, milliseconds.
    pub ring_ms: Option<i64>,
    /// Direction.
    pub direction: Direction,
    /// Outcome.
    pub disposition: Disposition,
    /// Q.850 cause.
    pub hangup_cause_q850: Option<i32>,
    /// All text columns.
    pub text: TextColumns,
}

/// Exactness of the start as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[expect(missing_docs, reason = "the names are the public words")]
pub enum Precision {
    #[default]
    Second,
    Minute,
}

/// Direction of the leg as seen from the PBX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[expect(missing_docs, reason = "the names are the public words")]
pub enum Direction {
    #[default]
    Unknown,
    Inbound,
    Outbound,
    Internal,
    Transit,
}

/// Outcome of the leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[expect(missing_docs, reason = "the names are the public words")]
pub enum Disposition {
    #[default]
    Unknown,
    Answered,
    NoAnswer,
    Busy,
    Failed,
    Cancelled,
    Voicemail,
}

impl Precision {
    /// The word in the table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
        }
    }
}

impl Direction {
    /// All directions.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Inbound, Self::Outbound, Self::Internal, Self::Transit];

    /// The word in the table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Internal => "internal",
            Self::Transit => "transit",
        }
    }
}

impl Disposition {
    /// All outcomes.
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::Answered,
        Self::NoAnswer,
        Self::Busy,
        Self::Failed,
        Self::Cancelled,
        Self::Voicemail,
    ];

    /// The word in the table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Answered => "answered",
            Self::NoAnswer => "no_answer",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Voicemail => "voicemail",
        }
    }

    /// Whether somebody or something took the call, so that talk time counts.
    pub const fn talked(self) -> bool {
        matches!(self, Self::Answered | Self::Voicemail)
    }

    /// Whether the record says that nobody took the call (an unknown outcome does not say so).
    pub const fn unanswered(self) -> bool {
        !self.talked() && !matches!(self, Self::Unknown)
    }
}

macro_rules! text_columns {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// The text columns of table `cdr`, in table order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the public table documents its columns")]
        pub enum TextColumn { $($variant,)* }

        impl TextColumn {
            /// All text columns, in table order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The column's name in the public table.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

text_columns! {
    UniqueId => "unique_id",
    LinkedId => "linked_id",
    SipCallId => "sip_call_id",
    StartedLocal => "started_local",
    Caller => "caller",
    CallerNumber => "caller_number",
    CallerName => "caller_name",
    Callee => "callee",
    CalleeNumber => "callee_number",
    CalleeName => "callee_name",
    DialledNumber => "dialled_number",
    Did => "did",
    RedirectingNumber => "redirecting_number",
    AnsweredBy => "answered_by",
    Extension => "extension",
    UserName => "user_name",
    Location => "location",
    TrunkIn => "trunk_in",
    TrunkOut => "trunk_out",
    Queue => "queue",
    Agent => "agent",
    AccountCode => "account_code",
    Channel => "channel",
    DstChannel => "dst_channel",
    Context => "context",
    HangupText => "hangup_text",
    ReleasedBy => "released_by",
    Cost => "cost",
    Currency => "currency",
    Codec => "codec",
    Recordings => "recordings",
    Extra => "extra",
}

/// The text columns of one leg; a blank column is absent. What stands in the record as it is points into its text, and
/// only what is made of it has room of its own.
#[derive(Clone, Default)]
pub struct TextColumns {
    written: Option<Arc<str>>,
    made: String,
    /// Places in `written` followed by `made`.
    spans: [Span; TextColumn::ALL.len()],
}

impl TextColumns {
    /// No column yet, of a record with this text, and room for so many bytes that are made.
    pub fn beside(written: &Arc<str>, room: usize) -> Self {
        Self { written: Some(Arc::clone(written)), made: String::with_capacity(room), ..Self::default() }
    }

    #[inline]
    fn written(&self) -> &str {
        self.written.as_deref().unwrap_or_default()
    }

    /// Sets a column to what stands at this place of the record's text.
    #[inline]
    pub fn point(&mut self, column: TextColumn, span: Span) {
        self.spans[column as usize] = span;
    }

    /// Sets a column to what `write` appends, without a string of its own in between.
    pub fn append(&mut self, column: TextColumn, write: impl FnOnce(&mut String)) {
        let before = self.written().len();
        let start = self.made.len();
        write(&mut self.made);
        self.spans[column as usize] = Span::new(before + start, before + self.made.len());
    }

    /// Sets a column. A record is capped at 1 MiB, so that offsets fit.
    pub fn set(&mut self, column: TextColumn, text: &str) {
        self.append(column, |made| made.push_str(text));
    }

    /// The text of a column; empty when blank.
    #[inline]
    pub fn get(&self, column: TextColumn) -> &str {
        let span = self.spans[column as usize];
        let written = self.written();
        match (span.start as usize).checked_sub(written.len()) {
            None => span.of(written),
            Some(start) => {
                let end = (span.end as usize).saturating_sub(written.len());
                self.made.get(start..end).unwrap_or_default()
            }
        }
    }
}

/// Equal when every column is equal; the order in which columns were set does not matter.
impl PartialEq for TextColumns {
    fn eq(&self, other: &Self) -> bool {
        TextColumn::ALL.iter().all(|column| self.get(*column) == other.get(*column))
    }
}

impl Eq for TextColumns {}

impl std::fmt::Debug for TextColumns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut map = f.debug_map();
        for column in TextColumn::ALL {
            if !self.get(*column).is_empty() {
                map.entry(&column.name(), &self.get(*column));
            }
        }
        map.finish()
    }
}
