//! Asterisk `cdr_csv` (`Master.csv` and its copies per account): 16 to 21 columns, no header.
//!
//! Must never claim `cdr_custom`, whose columns are whatever its administrator wrote.

use super::dates::{Survey, epoch_of, is_time};
use super::syntax::delimited::{Delimited, Piece};
use super::syntax::{Fields, encoding};
use super::{Claim, Format, Head, MAY_BE_CUT, Row, RowReader, Verdict, may_be_cut};
use crate::record::card::{Card, Evidence, Family, Link, Match, Told};
use crate::record::cdr::{Direction, Disposition, TextColumn};
use crate::record::document::{Dialect, Encoding, Layout, RowKind};
use crate::record::field::Field;
use crate::record::outcome::{Reason, Skip};
use crate::record::raw::{RawRecord, Values};
use std::io::{Read, Result};
use std::sync::Arc;

/// The format.
pub struct CdrCsv;

const BY_ID: &[Match] =
    &[Match::Text(Field::UniqueId), Match::TimeModuloQuarter(Field::Start), Match::Text(Field::DstChannel)];
// Without the epoch in the id nothing else would tell two quarters of an hour apart.
const BY_CHANNEL: &[Match] =
    &[Match::Text(Field::Channel), Match::Time(Field::Start), Match::Text(Field::DstChannel)];

const fn family(name: &'static str, matched: &'static [Match], minute: bool) -> Family {
    Family {
        name,
        matched,
        sure: Some(Field::RecordId),
        instance: Some(Field::DstChannel),
        exact: &[
            Field::Channel,
            Field::CallerNumber,
            Field::CalleeNumber,
            Field::Context,
            Field::LastApp,
            Field::LastData,
            Field::Disposition,
        ],
        near: &[Field::Duration, Field::Talk],
        minute,
        events: &[],
    }
}

/// Identity of Asterisk's legs, also where another format writes them.
pub(super) const FAMILIES: &[Family] = &[
    family("asterisk", BY_ID, false),
    family("asterisk-without-uniqueid", BY_CHANNEL, false),
    family("asterisk-minute", BY_ID, true),
    family("asterisk-without-uniqueid-minute", BY_CHANNEL, true),
];

/// A linked id is the unique id of the first channel.
pub(super) const LINKS: &[Link] =
    &[Link { kind: "id", column: TextColumn::UniqueId }, Link { kind: "id", column: TextColumn::LinkedId }];

/// Asterisk's outcomes.
pub(super) const DISPOSITIONS: &[(&str, Disposition)] = &[
    ("ANSWERED", Disposition::Answered),
    ("NO ANSWER", Disposition::NoAnswer),
    ("BUSY", Disposition::Busy),
    ("FAILED", Disposition::Failed),
    ("CONGESTION", Disposition::Failed),
];

/// Beginnings of contexts that tell the direction.
pub(super) const CONTEXTS: &[(&str, Direction)] = &[
    ("from-pstn", Direction::Inbound),
    ("from-trunk", Direction::Inbound),
    ("from-did", Direction::Inbound),
    ("from-external", Direction::Inbound),
    ("from-internal", Direction::Internal),
];

static CARD: Card = Card {
    id: "asterisk-cdr-csv",
    system: "asterisk",
    title: "Asterisk cdr_csv (Master.csv)",
    version: 1,
    evidence: Evidence::Seen,
    versions: &[],
    notes: &[],
    outcome: Told::Word,
    fidelity: 80,
    headers: &[
        ("accountcode", Field::AccountCode),
        ("src", Field::CallerNumber),
        ("dst", Field::CalleeNumber),
        ("dcontext", Field::Context),
        ("clid", Field::CallerId),
        ("channel", Field::Channel),
        ("dstchannel", Field::DstChannel),
        ("lastapp", Field::LastApp),
        ("lastdata", Field::LastData),
        ("start", Field::Start),
        ("answer", Field::Answer),
        ("end", Field::End),
        ("duration", Field::Duration),
        ("billsec", Field::Talk),
        ("disposition", Field::Disposition),
        ("uniqueid", Field::UniqueId),
        ("linkedid", Field::LinkedId),
        ("sequence", Field::RecordId),
    ],
    families: FAMILIES,
    links: LINKS,
    dispositions: DISPOSITIONS,
    directions: &[],
    contexts: CONTEXTS,
    voicemail: &[(Field::LastApp, "VOICEMAIL")],
    bracketed: &[],
    recording_separator: ',',
    epoch_in: Some(Field::UniqueId),
};

const BASE: [&str; 16] = [
    "accountcode",
    "src",
    "dst",
    "dcontext",
    "clid",
    "channel",
    "dstchannel",
    "lastapp",
    "lastdata",
    "start",
    "answer",
    "end",
    "duration",
    "billsec",
    "disposition",
    "amaflags",
];
const CHANNEL: usize = 5;
const START: usize = 9;
const DISPOSITION: usize = 14;
const AMA_FLAGS: usize = 15;
/// What Asterisk writes into `amaflags`: the words of `ast_channel_amaflags2string`, or the number from a database.
pub(super) const AMA_WORDS: [&str; 9] =
    ["DOCUMENTATION", "BILLING", "OMIT", "IGNORE", "DEFAULT", "UNKNOWN", "1", "2", "3"];

/// The columns of a row of this many fields; `id_at_16` decides what the one optional column of 17 or 20 is.
/// Per row, not per file: settings change while a file grows, and a row must read the same in every copy of it.
fn columns(count: usize, id_at_16: bool) -> Option<Vec<&'static str>> {
    let id: &[&str] = match (count, id_at_16) {
        (16 | 19, _) => &[],
        (17 | 20, true) => &["uniqueid"],
        (17 | 20, false) => &["userfield"],
        (18 | 21, _) => &["uniqueid", "userfield"],
        _ => return None,
    };
    let new: &[&str] = if count >= 19 { &["peeraccount", "linkedid", "sequence"] } else { &[] };
    Some([BASE.as_slice(), id, new].concat())
}

fn fits(fields: &Fields<'_>) -> bool {
    (16..=21).contains(&fields.len()) && is_time(&fields.get(START))
}

/// Whether everything stands in its place in a row as Asterisk itself writes it, nearly every one, looked at as bytes.
fn is_plainly_in_place(fields: &Fields<'_>) -> bool {
    let seconds = |place| {
        let bytes = fields.bytes(place);
        (1..10).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_digit)
    };
    let ama = fields.bytes(AMA_FLAGS);
    let tail = match fields.len() {
        16 => true,
        18 => plain_id(fields.bytes(16)),
        19..=21 => {
            let last = fields.len() - 1;
            let sequence = fields.bytes(last);
            (fields.len() == 19 || plain_id(fields.bytes(16)))
                && fields.bytes(last - 2).is_empty()
                && plain_id(fields.bytes(last - 1))
                && !sequence.is_empty()
                && sequence.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    tail && (10..=11).all(|place| fields.bytes(place).is_empty() || is_plain_time(fields.bytes(place)))
        && (12..=13).all(seconds)
        && fields.bytes(DISPOSITION).iter().all(|byte| byte.is_ascii_uppercase() || *byte == b' ')
        && AMA_WORDS.iter().any(|word| word.as_bytes() == ama)
}

/// `epoch.number` without anything else.
fn plain_id(bytes: &[u8]) -> bool {
    let point = bytes.iter().position(|byte| *byte == b'.');
    point.is_some_and(|point| {
        let (epoch, number) = (&bytes[..point], &bytes[point + 1..]);
        (9..=10).contains(&epoch.len())
            && !number.is_empty()
            && epoch.iter().chain(number).all(u8::is_ascii_digit)
    })
}

/// `YYYY-MM-DD HH:MM:SS` with a month, a day and a time of day that exist in some year.
fn is_plain_time(bytes: &[u8]) -> bool {
    let digits = |places: std::ops::Range<usize>| bytes[places].iter().all(u8::is_ascii_digit);
    let number = |place: usize| (bytes[place] - b'0') * 10 + (bytes[place + 1] - b'0');
    bytes.len() == 19
        && (bytes[4], bytes[7], bytes[10], bytes[13], bytes[16]) == (b'-', b'-', b' ', b':', b':')
        && [0..4, 5..7, 8..10, 11..13, 14..16, 17..19].into_iter().all(digits)
        && (1..=12).contains(&number(5))
        && (1..=31).contains(&number(8))
        && number(11) < 24
        && number(14) < 60
        && number(17) < 60
}

/// The first column in which something else stands than there should: a torn quote or a comma too many moves the columns
/// behind it, and 16 to 21 columns are all possible, so that their number alone does not tell.
fn misplaced(fields: &Fields<'_>) -> Option<usize> {
    if is_plainly_in_place(fields) {
        return None;
    }
    let blank = |place| fields.get(place).trim().is_empty();
    let time = |place| is_time(&fields.get(place)) || fields.get(place).starts_with("0000-00-00");
    let seconds = |place| fields.get(place).trim().parse::<f64>().is_ok();
    let word_alone = |place| fields.get(place).chars().all(|c| c.is_alphabetic() || c == ' ');
    let fits = |place: &usize| match *place {
        10 | 11 => blank(*place) || time(*place),
        12 | 13 => blank(*place) || seconds(*place),
        DISPOSITION => word_alone(DISPOSITION),
        _ => AMA_WORDS.contains(&word(fields, AMA_FLAGS).as_str()),
    };
    (10..=AMA_FLAGS).find(|place| !fits(place)).or_else(|| misplaced_in_tail(fields))
}

/// The same of the columns behind the 16th, all of them optional. Unique id, linked id and sequence are never blank.
fn misplaced_in_tail(fields: &Fields<'_>) -> Option<usize> {
    let count = fields.len();
    let blank = |place| fields.get(place).trim().is_empty();
    let quoted = |place| fields.get(place).contains('"');
    let id = |place| epoch_of(&fields.get(place)).is_some();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let optional = match count {
        // Something that begins as an id and goes on has swallowed its neighbour.
        17 | 20 => id(16) || !begins_as_id(&fields.get(16)),
        18 | 21 => !blank(16) && !quoted(16),
        _ => true,
    };
    if !optional {
        return Some(16);
    }
    if count < 19 {
        return None;
    }
    let [peer, linked, sequence] = [count - 3, count - 2, count - 1];
    [
        (peer, !id(peer) && !quoted(peer)),
        (linked, !quoted(linked) && !blank(linked)),
        (sequence, digits(fields.get(sequence).trim())),
    ]
    .iter()
    .find(|(_, fits)| !fits)
    .map(|(place, _)| *place)
}

fn begins_as_id(text: &str) -> bool {
    let before = text.split_once('.').map_or("", |(before, _)| before);
    (9..=10).contains(&before.bytes().rev().take_while(u8::is_ascii_digit).count())
}

fn word(fields: &Fields<'_>, place: usize) -> String {
    fields.get(place).trim().to_ascii_uppercase()
}

fn is_call(fields: &Fields<'_>) -> bool {
    let disposition = word(fields, DISPOSITION);
    fits(fields)
        && misplaced(fields).is_none()
        // Every channel is named TECHNOLOGY/resource.
        && fields.get(CHANNEL).contains('/')
        && CARD.dispositions.iter().any(|(word, _)| *word == disposition)
        // `cdr_custom` as shipped begins with the caller id.
        && !fields.get(0).contains('<')
}

/// What the head of a document shows, read with one separator.
struct Seen {
    separator: char,
    rows: usize,
    calls: usize,
    counts: Vec<usize>,
    survey: Survey,
    /// The first row is the header of another system.
    headed: bool,
}

/// Whether a row names columns, and not those of `cdr_csv`, which writes no header. A file of another system may have
/// one row so far, cut where it looks like a row of ours.
fn names_columns(fields: &Fields<'_>) -> bool {
    let named = fields.iter().filter(|name| !name.trim().is_empty()).count();
    let digits = fields.iter().any(|name| name.bytes().any(|byte| byte.is_ascii_digit()));
    let ours = fields.iter().zip(BASE).all(|(name, own)| name.trim().eq_ignore_ascii_case(own));
    named > BASE.len() / 2 && !digits && !ours
}

fn look(head: &Head<'_>, encoding: Encoding, separator: char) -> Seen {
    let mut rows = Delimited::new(Box::new(head.bytes), encoding, separator);
    let mut seen =
        Seen { separator, rows: 0, calls: 0, counts: Vec::new(), survey: Survey::default(), headed: false };
    while let Ok(Some(piece)) = rows.read(&fits) {
        let at = rows.position(0);
        let cut_off = !head.complete && at.offset + at.length >= head.bytes.len() as u64;
        if piece == Piece::Blank || cut_off {
            continue;
        }
        seen.rows += 1;
        if piece != Piece::Record {
            continue;
        }
        let fields = rows.fields();
        seen.headed |= seen.rows == 1 && names_columns(&fields);
        if is_call(&fields) {
            seen.calls += 1;
            if !seen.counts.contains(&fields.len()) {
                seen.counts.push(fields.len());
            }
            seen.survey.add(&fields.get(START), epoch_of(&fields.get(16)));
        }
    }
    seen
}

impl Format for CdrCsv {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn recognise(&self, head: &Head<'_>) -> Verdict {
        Self::look_at(head, false)
    }

    fn recognise_pinned(&self, head: &Head<'_>) -> Verdict {
        Self::look_at(head, true)
    }

    fn open<'a>(&self, dialect: &Dialect, input: Box<dyn Read + 'a>) -> Box<dyn RowReader + 'a> {
        let rows = Delimited::new(input, dialect.encoding, dialect.separator.unwrap_or(','));
        Box::new(Reader {
            rows,
            dialect: dialect.clone(),
            row: 0,
            count: None,
            layouts: Vec::new(),
            values: Values::default(),
        })
    }
}

impl CdrCsv {
    fn look_at(head: &Head<'_>, pinned: bool) -> Verdict {
        let encoding = encoding::detect(head.bytes);
        let best = [',', ';', '\t']
            .into_iter()
            .map(|separator| look(head, encoding, separator))
            .max_by_key(|seen| (seen.calls, seen.separator == ','));
        let Some(seen) = best.filter(|seen| seen.calls > 0 && seen.calls * 2 >= seen.rows) else {
            return Verdict::refused(
                "rows are not 16 to 21 columns with start in the 10th, seconds in the 13th and an outcome in the 15th",
            );
        };
        // One row that looks like ours may be a longer one, cut; several are no accident.
        if seen.headed && seen.calls == 1 && !pinned {
            return Verdict::refused("the first line names columns of another system; cdr_csv has no header");
        }
        let date_order = match seen.survey.order() {
            Ok(order) => order,
            Err(message) => return Verdict::Undecided { reason: Reason::DateOrderUnknown, message },
        };
        let counts: Vec<String> = seen.counts.iter().map(ToString::to_string).collect();
        let generation = format!("{} columns", counts.join(", "));
        let why = format!("{} of {} rows have the columns of cdr_csv: {generation}", seen.calls, seen.rows);
        let separator = Some(seen.separator);
        let minute = seen.survey.minute();
        let dialect = Dialect { encoding, separator, date_order, minute, generation, ..Dialect::default() };
        let certainty = if seen.calls == seen.rows { 90 } else { 70 };
        Verdict::Claimed(Claim { certainty, why, dialect })
    }
}

struct Reader<'a> {
    rows: Delimited<'a>,
    dialect: Dialect,
    row: u64,
    /// Columns of the row before.
    count: Option<usize>,
    layouts: Vec<((usize, bool), Arc<Layout>)>,
    values: Values,
}

impl Reader<'_> {
    fn record(&mut self) -> Row {
        let position = self.rows.position(self.row);
        let fields = self.rows.fields();
        let count = fields.len();
        let shape = (count, matches!(count, 17 | 20) && epoch_of(&fields.get(16)).is_some());
        let known =
            self.layouts.iter().find(|(known, _)| *known == shape).map(|(_, layout)| Arc::clone(layout));
        let Some(layout) = known.or_else(|| layout_of(shape, &self.dialect)) else {
            let message =
                format!("{count} columns, cdr_csv writes 16 to 21; correct the row and send it again");
            return Row::fault(position, Reason::ColumnsMismatch, message, self.rows.verbatim());
        };
        if self.layouts.iter().all(|(known, _)| *known != shape) {
            self.layouts.push((shape, Arc::clone(&layout)));
        }
        if let Some(place) = misplaced(&fields) {
            let header = layout.columns.get(place).map(|column| column.header.as_str());
            let message = format!(
                "what stands in column {} is no {}, as if columns were shifted by a torn quote or a comma without quotes; \
                 correct the row and send it again",
                place + 1,
                header.unwrap_or("value of it")
            );
            return Row::fault(position, Reason::ColumnsMismatch, message, self.rows.verbatim())
                .in_field(header);
        }
        let other_count = self.count.replace(count).is_some_and(|before| before != count);
        if may_be_cut(&self.rows, &layout, layout.columns.len()) || (other_count && self.rows.is_unended()) {
            return Row::fault(position, Reason::ColumnsMismatch, MAY_BE_CUT, self.rows.verbatim());
        }
        self.values.clear();
        fields.write(count, &mut self.values);
        Row::Record(RawRecord::new(layout, position, &self.values))
    }
}

fn layout_of((count, id_at_16): (usize, bool), dialect: &Dialect) -> Option<Arc<Layout>> {
    let headers = columns(count, id_at_16)?.into_iter().map(str::to_owned);
    Layout::new(&CARD, RowKind::Leg, headers, dialect.clone()).ok().map(Arc::new)
}

impl RowReader for Reader<'_> {
    fn next_row(&mut self) -> Result<Option<Row>> {
        let Some(piece) = self.rows.read(&fits)? else { return Ok(None) };
        self.row += 1;
        let position = self.rows.position(self.row);
        Ok(Some(match piece {
            Piece::Record => self.record(),
            Piece::Blank => Row::Skipped { position, why: Skip::Blank },
            Piece::Fault(reason) => Row::fault(position, reason, Piece::advice(reason), self.rows.verbatim()),
        }))
    }

    fn verbatim(&self) -> &[u8] {
        self.rows.verbatim()
    }
}
