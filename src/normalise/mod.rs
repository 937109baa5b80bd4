//! Raw records to typed legs: one engine for all formats, told by the card and the dialect what a text means.
//!
//! Must never do I/O, look at a clock or drop a text: what has no typed value stays as text.

mod clock;
mod direction;
mod disposition;
mod duration;
mod number;
mod text;
mod time;

pub use clock::{ClockFault, ClockWatch};

use crate::record::card::Card;
use crate::record::cdr::{Cdr, Direction, Disposition, Leg, Precision, TextColumn, TextColumns};
use crate::record::document::{DateOrder, Dialect, LengthUnit, ZoneRule};
use crate::record::field::Field;
use crate::record::origin::Origin;
use crate::record::outcome::{Reason, Rejection};
use crate::record::port::Derive;
use crate::record::raw::RawRecord;
use direction::Parties;
use jiff::tz::TimeZone;
use number::Numbers;
use std::collections::HashMap;
use std::sync::Arc;
use text::Fields;
use time::{Clock, Instant, Written};

/// Derives legs for all origins of the configuration.
#[derive(Debug)]
pub struct Engine {
    origins: HashMap<String, Place>,
    source_zones: HashMap<String, TimeZone>,
    utc: TimeZone,
    named: fn(&str) -> Option<TimeZone>,
    cards: Vec<&'static Card>,
    wishes: HashMap<String, Wish>,
}

/// What a person's stanza says of a format and may correct later: rows that are derived again follow it, their keys
/// stay.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Zone of its times; `None`: the source's or the origin's.
    pub zone: Option<TimeZone>,
    /// What a number in its columns of lengths counts.
    pub lengths: LengthUnit,
}

/// What an origin adds to the text of its records.
#[derive(Debug, Clone)]
struct Place {
    zone: TimeZone,
    numbers: Arc<Numbers>,
}

impl Engine {
    /// For these origins; `source_zones` are the sources with a `time_zone` of their own, `named` finds
    /// a zone by its IANA name (a person may name one for a delivery), `cards` are those of all formats.
    pub fn new(
        origins: Vec<Origin>,
        source_zones: HashMap<String, TimeZone>,
        named: fn(&str) -> Option<TimeZone>,
        cards: Vec<&'static Card>,
    ) -> Self {
        let mut countries: HashMap<Option<String>, Arc<Numbers>> = HashMap::new();
        let mut places = HashMap::new();
        for origin in origins {
            let numbers = countries
                .entry(origin.country)
                .or_insert_with_key(|country| Arc::new(Numbers::new(country.as_deref())));
            let place = Place { zone: origin.time_zone, numbers: Arc::clone(numbers) };
            // Rows stored before an origin was renamed carry its key; a name in use wins.
            places.entry(origin.key).or_insert_with(|| place.clone());
            places.insert(origin.name, place);
        }
        Self { origins: places, source_zones, utc: TimeZone::UTC, named, cards, wishes: HashMap::new() }
    }

    /// Heeds what stanzas say of formats, by id.
    #[must_use]
    pub fn heeding(self, wishes: HashMap<String, Wish>) -> Self {
        Self { wishes, ..self }
    }
}

impl Engine {
    /// A number as it would stand in the columns `caller` and `callee` of a leg of this origin; as written where the
    /// origin is not known.
    pub fn number(&self, origin: &str, written: &str) -> String {
        let mut number = String::new();
        match self.origins.get(origin) {
            Some(place) => place.numbers.write(written, &mut number),
            None => number.push_str(written.trim()),
        }
        number
    }
}

impl Derive for Engine {
    fn derive(&self, raw: RawRecord, origin: &str, source: &str) -> Result<Leg, Box<Rejection>> {
        self.derivation(origin, source).derive(raw)
    }

    fn card(&self, format: &str) -> Option<&'static Card> {
        self.cards.iter().find(|card| card.id == format).copied()
    }
}

/// Derives the legs of many records of one origin and source: what they share is found once.
#[derive(Debug)]
pub struct Derivation<'e> {
    engine: &'e Engine,
    place: Option<&'e Place>,
    source_zone: Option<&'e TimeZone>,
    reading: Option<Reading>,
}

/// How the times of rows of one format and dialect are read.
#[derive(Debug)]
struct Reading {
    card: &'static Card,
    rule: ZoneRule,
    clock: Clock,
    /// `None`: as the dialect says.
    lengths: Option<LengthUnit>,
}

impl Engine {
    /// For the records of this origin, received by this source.
    pub fn derivation(&self, origin: &str, source: &str) -> Derivation<'_> {
        let (place, source_zone) = (self.origins.get(origin), self.source_zones.get(source));
        Derivation { engine: self, place, source_zone, reading: None }
    }
}

impl Derivation<'_> {
    /// The leg that a record states.
    pub fn derive(&mut self, raw: RawRecord) -> Result<Leg, Box<Rejection>> {
        let Some(place) = self.place else { return Err(Box::new(no_origin(&raw))) };
        let reading = match self.reading.take().filter(|reading| reading.fits(&raw)) {
            Some(reading) => reading,
            None => self.reading_of(&raw, place)?,
        };
        let reading = self.reading.insert(reading);
        let lengths = reading.lengths.unwrap_or(raw.layout.dialect.lengths);
        let times = Times::read(&raw, &reading.clock, lengths)?;
        let cdr = columns(&raw, &times, &reading.clock, &place.numbers);
        let local = |written: &Option<Written>| written.as_ref().map(|written| written.local);
        let (answer_local, end_local) = (local(&times.answer), local(&times.end));
        Ok(Leg {
            raw,
            cdr,
            start_local: times.written.local,
            answer_local,
            end_local,
            id_epoch_s: times.epoch,
        })
    }

    fn reading_of(&self, raw: &RawRecord, place: &Place) -> Result<Reading, Box<Rejection>> {
        let card = raw.layout.card;
        let wish = self.engine.wishes.get(card.id);
        let origins = || self.source_zone.unwrap_or(&place.zone);
        let zone = match &raw.layout.dialect.zone {
            ZoneRule::Utc => self.engine.utc.clone(),
            ZoneRule::Named(name) => (self.engine.named)(name).ok_or_else(|| Box::new(no_zone(raw, name)))?,
            // Also for rows of a stanza that named no zone when they were read: it may have been forgotten then.
            ZoneRule::Format | ZoneRule::Origin => {
                wish.and_then(|wish| wish.zone.as_ref()).unwrap_or_else(origins).clone()
            }
        };
        let (rule, clock) = (raw.layout.dialect.zone.clone(), Clock::new(zone));
        Ok(Reading { card, rule, clock, lengths: wish.map(|wish| wish.lengths) })
    }
}

impl Reading {
    fn fits(&self, raw: &RawRecord) -> bool {
        std::ptr::eq(self.card, raw.layout.card) && self.rule == raw.layout.dialect.zone
    }
}

/// The times and lengths of a record, read but not yet checked against each other.
struct Times {
    written: Written,
    start: Instant,
    epoch: Option<i64>,
    answer: Option<Written>,
    end: Option<Written>,
    duration: Option<i64>,
    talk: Option<i64>,
    ring: Option<i64>,
    /// Fields whose text gave no value.
    failed: Fields,
}

impl Times {
    fn read(raw: &RawRecord, clock: &Clock, lengths: LengthUnit) -> Result<Self, Box<Rejection>> {
        let dialect = &raw.layout.dialect;
        let written = match time::written(raw.get(Field::Start), dialect) {
            time::Reading::Time(written) => written,
            time::Reading::Blank => return Err(Box::new(start_missing(raw))),
            time::Reading::Invalid => return Err(Box::new(start_invalid(raw))),
        };
        let mut failed = Fields::default();
        let answer = later_time(raw, Field::Answer, dialect, &mut failed);
        let end = later_time(raw, Field::End, dialect, &mut failed);
        let duration = length(raw, Field::Duration, lengths, &mut failed);
        let talk = length(raw, Field::Talk, lengths, &mut failed);
        let ring = length(raw, Field::Ring, lengths, &mut failed);
        let epoch = raw.layout.card.epoch_in.and_then(|field| time::id_epoch(raw.get(field)));
        let counted_back =
            || Some(end.as_ref().and_then(|end| time::certain(end, clock))?.saturating_sub(duration?));
        let start =
            time::start(&written, clock, epoch, counted_back).ok_or_else(|| Box::new(start_invalid(raw)))?;
        Ok(Self { written, start, epoch, answer, end, duration, talk, ring, failed })
    }
}

fn later_time(raw: &RawRecord, field: Field, dialect: &Dialect, failed: &mut Fields) -> Option<Written> {
    let reading = time::written(raw.get(field), dialect);
    if reading == time::Reading::Invalid {
        failed.add(field);
    }
    reading.time()
}

fn length(raw: &RawRecord, field: Field, unit: LengthUnit, failed: &mut Fields) -> Option<i64> {
    let text = raw.trimmed(field);
    if text.is_empty() {
        return None;
    }
    let length = duration::read_as(text, unit);
    if length.is_none() {
        failed.add(field);
    }
    length
}

/// All columns.
fn columns(raw: &RawRecord, times: &Times, clock: &Clock, numbers: &Numbers) -> Cdr {
    let card = raw.layout.card;
    let mut failed = times.failed;
    let answered = match raw.layout.column_of(Field::Answer) {
        Some(_) => times.answer.is_some(),
        None => times.talk.is_some_and(|talk| talk > 0),
    };
    let disposition = disposition::read(raw, card, answered).unwrap_or_else(|| {
        failed.add(Field::Disposition);
        Disposition::Unknown
    });
    let parties = parties(raw);
    let (direction, strange) = direction::read(raw, card, parties);
    if strange {
        failed.add(Field::CallType);
    }
    let cause = raw.trimmed(Field::HangupCause);
    let hangup_cause_q850 =
        if cause.is_empty() { None } else { cause.parse().ok().filter(|cause| (0..=127).contains(cause)) };
    if !cause.is_empty() && hangup_cause_q850.is_none() {
        failed.add(Field::HangupCause);
    }
    let precise = times.written.seconds && !raw.layout.dialect.minute;
    let spans = spans(times, clock, disposition);
    Cdr {
        started_at: times.start.ms,
        answered_at: spans.answered_at,
        ended_at: spans.ended_at,
        utc_offset_min: Some(times.start.offset.seconds().div_euclid(60)),
        time_precision: if precise { Precision::Second } else { Precision::Minute },
        time_ambiguous: times.start.ambiguous,
        duration_ms: spans.duration_ms,
        talk_ms: spans.talk_ms,
        ring_ms: spans.ring_ms,
        direction,
        disposition,
        hangup_cause_q850,
        text: texts(raw, direction, parties, numbers, failed),
    }
}

fn parties(raw: &RawRecord) -> Parties<'_> {
    let caller = match raw.trimmed(Field::CallerNumber) {
        "" => text::caller_id(raw.get(Field::CallerId)).1,
        number => number,
    };
    Parties { caller, callee: raw.get(Field::CalleeNumber) }
}

/// Instants and lengths of a leg, milliseconds.
struct Spans {
    answered_at: Option<i64>,
    ended_at: Option<i64>,
    duration_ms: Option<i64>,
    talk_ms: Option<i64>,
    ring_ms: Option<i64>,
}

/// Answer, end and lengths: as stated, else computed from what is.
fn spans(times: &Times, clock: &Clock, disposition: Disposition) -> Spans {
    let start = times.start.ms;
    let stated_end = times.end.as_ref().and_then(|end| {
        time::after(end, clock, start, times.duration.map(|duration| start.saturating_add(duration)))
    });
    let not_negative = |ms: i64| (ms >= 0).then_some(ms);
    let duration_ms = times.duration.or_else(|| stated_end.and_then(|end| not_negative(end - start)));
    let ended_at = stated_end.or_else(|| times.duration.map(|duration| start.saturating_add(duration)));
    if !disposition.talked() {
        // Devices fill the answer of unanswered legs, too (Grandstream: with the end).
        let rang = if disposition.unanswered() { duration_ms } else { None };
        let ring_ms = times.ring.or(rang);
        return Spans { answered_at: None, ended_at, duration_ms, talk_ms: Some(0), ring_ms };
    }
    let by_talk = ended_at.zip(times.talk).map(|(end, talk)| end.saturating_sub(talk));
    let answered_at = times.answer.as_ref().and_then(|answer| time::after(answer, clock, start, by_talk));
    let talked = ended_at.zip(answered_at).and_then(|(end, answer)| not_negative(end - answer));
    let talk_ms = times.talk.or(talked);
    let ring_ms = times.ring.or_else(|| answered_at.and_then(|answer| not_negative(answer - start)));
    Spans { answered_at, ended_at, duration_ms, talk_ms, ring_ms }
}

fn texts(
    raw: &RawRecord,
    direction: Direction,
    parties: Parties<'_>,
    numbers: &Numbers,
    failed: Fields,
) -> TextColumns {
    let mut text = text::as_written(raw);
    text.append(TextColumn::Caller, |out| numbers.write(parties.caller, out));
    text.append(TextColumn::Callee, |out| numbers.write(parties.callee, out));
    text::derived(raw, raw.layout.card, direction, &mut text);
    text.append(TextColumn::Extra, |out| text::extra(raw, failed, out));
    text
}

fn rejection(raw: &RawRecord, reason: Reason, message: String) -> Rejection {
    let header = raw.layout.column_of(Field::Start).and_then(|place| raw.layout.columns.get(place));
    let field = header.map(|column| column.header.clone());
    Rejection { position: raw.position, field, reason, message, verbatim: Vec::new() }
}

fn start_missing(raw: &RawRecord) -> Rejection {
    let message =
        "the row has no start time, without which a call cannot be placed: have the PBX export the column \
                   and send the file again"
            .to_owned();
    rejection(raw, Reason::StartMissing, message)
}

fn start_invalid(raw: &RawRecord) -> Rejection {
    let named;
    let expected = match raw.layout.dialect.date_order {
        _ if !raw.layout.dialect.times.is_empty() => {
            named = raw.layout.dialect.times.join(" or ");
            named.as_str()
        }
        DateOrder::YearFirst => "YYYY-MM-DD HH:MM:SS",
        DateOrder::DayFirst => "DD/MM/YYYY HH:MM:SS",
        DateOrder::MonthFirst => "MM/DD/YYYY HH:MM:SS",
    };
    let shape = shape(raw.get(Field::Start));
    let mend = if raw.layout.dialect.times.is_empty() {
        "if the document mixes orders of day and month, send it as the PBX wrote it or with dates as YYYY-MM-DD, else \
         correct the row and send it again"
    } else {
        "if the system writes it so, add its layout to dates in the [[format]], then `cdrd rejected retry`, else correct \
         the row and send it again"
    };
    let message = format!(
        "the start, of the shape {shape}, is no possible time written {expected} between 1980 and 2100: {mend}"
    );
    rejection(raw, Reason::StartInvalid, message)
}

fn no_zone(raw: &RawRecord, name: &str) -> Rejection {
    let message = format!(
        "this host knows no time zone {name:?}, which was named for the file: install tzdata, then `cdrd rejected retry`"
    );
    rejection(raw, Reason::StartInvalid, message)
}

fn no_origin(raw: &RawRecord) -> Rejection {
    let message =
        "the origin of this row is not in the configuration, so that its wall clock means nothing: add its \
                   [[origin]] again, then `cdrd rejected retry`"
            .to_owned();
    rejection(raw, Reason::StartInvalid, message)
}

/// A text with its digits as 9 and its letters as a: enough to see what is wrong, without what it said.
fn shape(text: &str) -> String {
    let mut shape: String = text
        .trim()
        .chars()
        .take(40)
        .map(|c| match c {
            '0'..='9' => '9',
            '-' | '/' | '.' | ':' | ' ' | '+' | ',' => c,
            c if c.is_alphanumeric() => 'a',
            _ => '?',
        })
        .collect();
    if text.trim().chars().count() > 40 {
        shape.push('…');
    }
    shape
}

#[cfg(test)]
mod tests;
