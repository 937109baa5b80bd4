//! Wall clocks as PBXes write them: text to civil time, civil time to the instant.
//!
//! Must never guess the order of day and month (the dialect says it) and never look at the clock of this machine.

use crate::record::document::{DateOrder, Dialect};
use crate::record::raw::trimmed;
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use std::cell::Cell;

/// An answer or end that fits the lengths of time no better than this is no evidence for one of two instants.
const AGREES_WITHIN_MS: i64 = 60_000;

/// Ids are made a moment before or after the clock is read for the start; PBXes set their clock between the two.
const BEFORE_EPOCH_S: i64 = -60;

/// What a text says about a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reading {
    /// Nothing: blank, or zeros.
    Blank,
    /// Something that is no time, or an impossible one.
    Invalid,
    /// A time.
    Time(Written),
}

/// A time as written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Written {
    /// The wall clock.
    pub(super) local: DateTime,
    /// The offset that the text itself carries.
    pub(super) offset: Option<Offset>,
    /// Whether seconds were written.
    pub(super) seconds: bool,
}

impl Reading {
    pub(super) fn time(self) -> Option<Written> {
        match self {
            Self::Time(written) => Some(written),
            Self::Blank | Self::Invalid => None,
        }
    }
}

/// Reads a date and time as the dialect of its document says.
pub(super) fn written(text: &str, dialect: &Dialect) -> Reading {
    if dialect.times.is_empty() {
        return read(text, dialect.date_order);
    }
    let text = text.trim();
    if is_blank(text) || text == "0" {
        return Reading::Blank;
    }
    let written = dialect.times.iter().find_map(|layout| by_layout(text, layout));
    match written.filter(|written| (1980..=2100).contains(&written.local.year())) {
        Some(written) => Reading::Time(written),
        None => Reading::Invalid,
    }
}

/// Reads a time in one layout: `epoch`, `epoch-ms`, or directives of `strptime`.
fn by_layout(text: &str, layout: &str) -> Option<Written> {
    let at = |instant: jiff::Timestamp| Written {
        local: Offset::UTC.to_datetime(instant),
        offset: Some(Offset::UTC),
        seconds: true,
    };
    match layout {
        "epoch" => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
            let fraction = Scan(fraction.as_bytes()).fraction()?;
            jiff::Timestamp::new(whole.parse().ok()?, fraction).ok().map(at)
        }
        "epoch-ms" => jiff::Timestamp::from_millisecond(text.parse().ok()?).ok().map(at),
        _ => {
            let parsed = BrokenDownTime::parse(layout, text).ok()?;
            let seconds = parsed.second().is_some();
            Some(Written { local: parsed.to_datetime().ok()?, offset: parsed.offset(), seconds })
        }
    }
}

/// Reads a date and time.
pub(super) fn read(text: &str, order: DateOrder) -> Reading {
    if let Some(written) = plain(text.as_bytes()) {
        return Reading::Time(written);
    }
    let text = trimmed(text);
    if is_blank(text) {
        return Reading::Blank;
    }
    let mut scan = Scan(text.as_bytes());
    match scan.date_and_time(order) {
        Some(written) if (1980..=2100).contains(&written.local.year()) => Reading::Time(written),
        _ => Reading::Invalid,
    }
}

/// `YYYY-MM-DD HH:MM:SS` and nothing else, as nearly every PBX writes it, whatever the order of the others. `None`: see
/// what else it is.
fn plain(text: &[u8]) -> Option<Written> {
    const DIGITS: [usize; 14] = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18];
    let text: &[u8; 19] = text.try_into().ok()?;
    let marks = [text[4], text[7], text[10], text[13], text[16]];
    let digits = DIGITS.iter().fold(true, |all, place| all & text[*place].is_ascii_digit());
    if marks != *b"-- ::" || !digits {
        return None;
    }
    let two = |place: usize| ((text[place] - b'0') * 10 + (text[place + 1] - b'0')).cast_signed();
    let year = i16::from(two(0)) * 100 + i16::from(two(2));
    let local = DateTime::new(year, two(5), two(8), two(11), two(14), two(17), 0).ok()?;
    (1980..=2100).contains(&year).then_some(Written { local, offset: None, seconds: true })
}

/// Devices write `0000-00-00 00:00:00` for "never".
fn is_blank(text: &str) -> bool {
    let first = text.as_bytes().first().copied().unwrap_or(b'0');
    first == b'0'
        && text.bytes().all(|b| matches!(b, b'0' | b'-' | b'/' | b'.' | b':' | b' ' | b'T'))
        && (text.is_empty() || text.len() >= 8)
}

/// What is left of the text.
struct Scan<'t>(&'t [u8]);

impl Scan<'_> {
    fn peek(&self) -> u8 {
        self.0.first().copied().unwrap_or(0)
    }

    fn skip(&mut self) -> u8 {
        let byte = self.peek();
        self.0 = self.0.get(1..).unwrap_or_default();
        byte
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        if found {
            self.skip();
        }
        found
    }

    fn spaces(&mut self) {
        while self.eat(b' ') {}
    }

    /// A number of at most `most` digits, and how many it had.
    fn number(&mut self, most: usize) -> Option<(i32, usize)> {
        let mut value = 0;
        let mut digits = 0;
        while self.peek().is_ascii_digit() {
            if digits == most {
                return None;
            }
            value = value * 10 + i32::from(self.skip() - b'0');
            digits += 1;
        }
        (digits > 0).then_some((value, digits))
    }

    fn small(&mut self) -> Option<i8> {
        i8::try_from(self.number(2)?.0).ok()
    }

    fn date_and_time(&mut self, order: DateOrder) -> Option<Written> {
        let (year, month, day) = self.date(order)?;
        if !self.eat(b'T') {
            self.eat(b',');
            if self.peek() != b' ' {
                return None;
            }
            self.spaces();
        }
        let hour = self.small()?;
        if !self.eat(b':') {
            return None;
        }
        let minute = self.small()?;
        let seconds = self.eat(b':');
        let second = if seconds { self.small()? } else { 0 };
        let nanosecond = if seconds && (self.eat(b'.') || self.eat(b',')) { self.fraction()? } else { 0 };
        self.spaces();
        let hour = self.half_of_day(hour)?;
        let offset = self.offset()?;
        if !self.0.is_empty() {
            return None;
        }
        let local = DateTime::new(year, month, day, hour, minute, second, nanosecond).ok()?;
        Some(Written { local, offset, seconds })
    }

    fn date(&mut self, order: DateOrder) -> Option<(i16, i8, i8)> {
        let (first, width) = self.number(4)?;
        let separator = self.skip();
        if !matches!(separator, b'-' | b'/' | b'.') {
            return None;
        }
        let (second, _) = self.number(2)?;
        if !self.eat(separator) {
            return None;
        }
        let (third, last_width) = self.number(4)?;
        // A year of four digits in front can only be year, month, day, whatever the rest of the document does.
        let (year, month, day) = match (width, order) {
            (4, _) if last_width <= 2 => (first, second, third),
            (1 | 2, DateOrder::DayFirst) => (full_year(third, last_width)?, second, first),
            (1 | 2, DateOrder::MonthFirst) => (full_year(third, last_width)?, first, second),
            _ => return None,
        };
        Some((i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?))
    }

    /// Digits after the second, as nanoseconds; what is finer is cut.
    fn fraction(&mut self) -> Option<i32> {
        let mut value = 0;
        let mut digits = 0;
        while self.peek().is_ascii_digit() {
            let digit = i32::from(self.skip() - b'0');
            if digits < 9 {
                value = value * 10 + digit;
                digits += 1;
            }
        }
        (digits > 0).then(|| value * 10_i32.pow(9 - digits))
    }

    /// `AM` and `PM`, which spreadsheets write.
    fn half_of_day(&mut self, hour: i8) -> Option<i8> {
        let half = self.peek().to_ascii_uppercase();
        if !matches!(half, b'A' | b'P') || !matches!(self.0.get(1), Some(b'm' | b'M')) {
            return Some(hour);
        }
        self.skip();
        self.skip();
        self.spaces();
        let twelve = if hour == 12 { 0 } else { hour };
        (1..=12).contains(&hour).then_some(if half == b'P' { twelve + 12 } else { twelve })
    }

    /// `Z`, `+02:00`, `-0330` or `+02` at the end. The outer `None` means that something else is there.
    #[expect(clippy::option_option, reason = "no offset and a wrong offset are two things")]
    fn offset(&mut self) -> Option<Option<Offset>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let sign = match self.skip() {
            b'Z' | b'z' => return Some(Some(Offset::UTC)),
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let (number, width) = self.number(4)?;
        let (hours, minutes) = match width {
            4 => (number / 100, number % 100),
            _ if self.eat(b':') => (number, self.number(2)?.0),
            1 | 2 => (number, 0),
            _ => return None,
        };
        if hours > 15 || minutes > 59 {
            return None;
        }
        Some(Some(Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()?))
    }
}

/// Two-digit years are those of 1980 to 2079.
fn full_year(year: i32, width: usize) -> Option<i32> {
    match width {
        4 => Some(year),
        2 if year < 80 => Some(2000 + year),
        2 => Some(1900 + year),
        _ => None,
    }
}

/// The clock that hangs on the wall of an origin.
#[derive(Debug)]
pub(super) struct Clock {
    zone: TimeZone,
    /// Documents are of one season: most of their wall clocks stand between the same two transitions.
    season: Cell<Season>,
}

/// Wall clocks between two transitions of a zone, days away from both, so that nothing about them is ambiguous.
#[derive(Debug, Clone, Copy)]
struct Season {
    from: DateTime,
    to: DateTime,
    offset: Offset,
}

impl Clock {
    pub(super) fn new(zone: TimeZone) -> Self {
        let none = Season { from: DateTime::MAX, to: DateTime::MIN, offset: Offset::UTC };
        Self { zone, season: Cell::new(none) }
    }

    fn offset_at(&self, local: DateTime) -> AmbiguousOffset {
        let season = self.season.get();
        if season.holds(local) {
            return AmbiguousOffset::Unambiguous { offset: season.offset };
        }
        let ambiguous = self.zone.to_ambiguous_timestamp(local).offset();
        if let AmbiguousOffset::Unambiguous { offset } = ambiguous
            && let Some(season) = Season::around(local, offset, &self.zone)
        {
            self.season.set(season);
        }
        ambiguous
    }
}

impl Season {
    /// Offsets are less than this from UTC, so that a wall clock this far from the UTC of a transition is on one side.
    const APART: SignedDuration = SignedDuration::from_hours(48);

    /// `None` near a transition.
    fn around(local: DateTime, offset: Offset, zone: &TimeZone) -> Option<Self> {
        let at = Offset::UTC.to_timestamp(local).ok()?;
        let utc = |instant: Timestamp| Offset::UTC.to_datetime(instant);
        // The one at this very instant is before, too.
        let before = zone
            .preceding(at.saturating_add(SignedDuration::from_secs(1)).ok()?)
            .next()
            .map(|transition| utc(transition.timestamp()));
        let behind = zone.following(at).next().map(|transition| utc(transition.timestamp()));
        let from = before.map_or(DateTime::MIN, |before| before.saturating_add(Self::APART));
        let to = behind.map_or(DateTime::MAX, |behind| behind.saturating_sub(Self::APART));
        Some(Self { from, to, offset }).filter(|season| season.holds(local))
    }

    fn holds(&self, local: DateTime) -> bool {
        self.from <= local && local < self.to
    }
}

/// The start as an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Instant {
    /// Milliseconds since 1970, UTC.
    pub(super) ms: i64,
    /// The offset used.
    pub(super) offset: Offset,
    /// The wall clock showed this twice or never, and nothing told which.
    pub(super) ambiguous: bool,
}

/// When a start was. `epoch` is the second that the vendor's id carries; `counted_back` is the start by the other
/// evidence of the record, the end less the duration.
pub(super) fn start(
    written: &Written,
    clock: &Clock,
    epoch: Option<i64>,
    counted_back: impl Fn() -> Option<i64>,
) -> Option<Instant> {
    let offset = offset_of(written, clock);
    let at = |offset: Offset| instant(written.local, offset);
    match offset {
        AmbiguousOffset::Unambiguous { offset } => {
            Some(Instant { ms: at(offset)?, offset, ambiguous: false })
        }
        // The hour was skipped: a clock that had not jumped yet wrote it.
        AmbiguousOffset::Gap { before, .. } => {
            Some(Instant { ms: at(before)?, offset: before, ambiguous: true })
        }
        AmbiguousOffset::Fold { before, after } => {
            let (earlier, later) = (at(before)?, at(after)?);
            let by_epoch = epoch.and_then(|epoch| {
                let fits = |ms: i64| ms.div_euclid(1000) - epoch >= BEFORE_EPOCH_S;
                // A leg starts after its channel: the nearest instant from the epoch on.
                if fits(earlier) { Some(before) } else { fits(later).then_some(after) }
            });
            let by_end = || {
                let counted_back = counted_back();
                let fits = |ms: i64| counted_back.is_some_and(|back| (ms - back).abs() <= AGREES_WITHIN_MS);
                match (fits(earlier), fits(later)) {
                    (true, false) => Some(before),
                    (false, true) => Some(after),
                    _ => None,
                }
            };
            let known = by_epoch.or_else(by_end);
            let offset = known.unwrap_or(before);
            Some(Instant { ms: at(offset)?, offset, ambiguous: known.is_none() })
        }
    }
}

/// When something after the start was: of two instants the one from `floor` on that is nearest to `expected`.
pub(super) fn after(written: &Written, clock: &Clock, floor: i64, expected: Option<i64>) -> Option<i64> {
    match offset_of(written, clock) {
        AmbiguousOffset::Unambiguous { offset } => instant(written.local, offset),
        AmbiguousOffset::Gap { before, .. } => instant(written.local, before),
        AmbiguousOffset::Fold { before, after } => {
            let (earlier, later) = (instant(written.local, before)?, instant(written.local, after)?);
            let expected = expected.unwrap_or(floor);
            let farther = earlier < floor || (later - expected).abs() < (earlier - expected).abs();
            Some(if farther { later } else { earlier })
        }
    }
}

/// The instant, where the wall clock leaves no choice.
pub(super) fn certain(written: &Written, clock: &Clock) -> Option<i64> {
    match offset_of(written, clock) {
        AmbiguousOffset::Unambiguous { offset } => instant(written.local, offset),
        AmbiguousOffset::Gap { .. } | AmbiguousOffset::Fold { .. } => None,
    }
}

fn offset_of(written: &Written, clock: &Clock) -> AmbiguousOffset {
    match written.offset {
        Some(offset) => AmbiguousOffset::Unambiguous { offset },
        None => clock.offset_at(written.local),
    }
}

fn instant(local: DateTime, offset: Offset) -> Option<i64> {
    offset.to_timestamp(local).ok().map(jiff::Timestamp::as_millisecond)
}

/// The UTC second in ids of the form `[system-]epoch.n`.
pub(super) fn id_epoch(id: &str) -> Option<i64> {
    let id = trimmed(id).as_bytes();
    let system = id.iter().rposition(|byte| *byte == b'-').map_or(0, |place| place + 1);
    let id = &id[system..];
    let digits = id.iter().take_while(|byte| byte.is_ascii_digit()).count();
    // Nine digits end in 2001; ten reach to 2286.
    if !matches!(digits, 9 | 10) || !matches!(id[digits..], [b'.', b'0'..=b'9', ..]) {
        return None;
    }
    Some(id[..digits].iter().fold(0, |epoch, digit| epoch * 10 + i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::{Clock, Reading, TimeZone, id_epoch, read};
    use crate::record::document::DateOrder::{self, DayFirst, MonthFirst, YearFirst};
    use proptest::prelude::*;

    fn civil(text: &str, order: DateOrder) -> Option<String> {
        read(text, order).time().map(|written| {
            let offset = written.offset.map(|offset| format!(" {offset}")).unwrap_or_default();
            format!("{}{offset}", written.local)
        })
    }

    #[test]
    fn one_time_in_all_spellings() {
        for (text, order) in [
            ("2025-03-07 14:05:09", YearFirst),
            (" 2025-03-07T14:05:09 ", YearFirst),
            ("2025/3/7 14:5:9", YearFirst),
            ("2025-03-07 14:05:09", DayFirst),
            ("07/03/2025 14:05:09", DayFirst),
            ("7.3.25 14:05:09", DayFirst),
            ("07-03-2025, 14:05:09", DayFirst),
            ("3/7/2025 2:05:09 PM", MonthFirst),
            ("03/07/25 02:05:09pm", MonthFirst),
        ] {
            assert_eq!(civil(text, order).as_deref(), Some("2025-03-07T14:05:09"), "{text}");
        }
        assert_eq!(civil("2025-03-07 14:05:09.25", YearFirst).as_deref(), Some("2025-03-07T14:05:09.25"));
        assert_eq!(civil("1/2/99 00:00", DayFirst).as_deref(), Some("1999-02-01T00:00:00"));
        assert_eq!(civil("1/1/2025 12:30 AM", MonthFirst).as_deref(), Some("2025-01-01T00:30:00"));
    }

    #[test]
    fn an_offset_in_the_text_is_read() {
        for text in ["2025-03-07T14:05:09+02:00", "2025-03-07 14:05:09 +0200", "2025-03-07 14:05:09+02"] {
            assert_eq!(civil(text, YearFirst).as_deref(), Some("2025-03-07T14:05:09 +02"), "{text}");
        }
        assert_eq!(civil("2025-03-07T14:05:09.5Z", YearFirst).as_deref(), Some("2025-03-07T14:05:09.5 +00"));
        assert_eq!(
            civil("2025-03-07 14:05:09-03:30", YearFirst).as_deref(),
            Some("2025-03-07T14:05:09 -03:30")
        );
    }

    #[test]
    fn never_is_blank_and_nonsense_is_invalid() {
        for text in ["", "  ", "0000-00-00 00:00:00", "00/00/0000 00:00"] {
            assert_eq!(read(text, YearFirst), Reading::Blank, "{text}");
        }
        for text in [
            "0",
            "-",
            "today",
            "2025-02-30 10:00:00",
            "2025-13-01 10:00:00",
            "2025-01-01",
            "2025-01-01 25:00:00",
            "1979-12-31 23:59:59",
            "2101-01-01 00:00:00",
            "2025-01-01 10:00:00 MEZ",
            "2025-01/01 10:00:00",
            "01/02/2025 10:00:00",
            "2025-01-0110:00:00",
            "2025-01-01 10",
            "2025-01-01 10:00:00+25:00",
            "20250-01-01 10:00:00",
            "2025-01-01 10:00:00.",
            "2025-01-01 13:00:00 PM",
        ] {
            assert_eq!(read(text, YearFirst), Reading::Invalid, "{text}");
        }
    }

    #[test]
    fn ids_that_carry_a_second() {
        assert_eq!(id_epoch("1741352709.17"), Some(1_741_352_709));
        assert_eq!(id_epoch("pbx-1-1741352709.17"), Some(1_741_352_709));
        for id in ["", "1741352709", "17.3", "abc.1", "1741352709.", "17413527099.1", "a1741352709.1"] {
            assert_eq!(id_epoch(id), None, "{id}");
        }
    }

    proptest! {
        #[test]
        fn a_season_changes_no_offset(
            hours in proptest::collection::vec(0_i64..1_060_000, 1..20),
            zone in prop_oneof![
                Just("Europe/Berlin"), Just("America/St_Johns"), Just("Australia/Lord_Howe"), Just("Africa/Casablanca"),
                Just("Asia/Pyongyang"), Just("UTC"), Just("America/Sao_Paulo"),
            ],
            near in 0_i64..72,
        ) {
            let zone = TimeZone::get(zone).expect("tests need tzdata");
            let clock = Clock::new(zone.clone());
            for hour in hours {
                // A random hour from 1980 on, then the hours around the transition that follows it.
                let at = jiff::Timestamp::from_second(315_532_800 + hour * 3600).expect("in range");
                let next = zone.following(at).next().map_or(at, |transition| transition.timestamp());
                for at in [at, next - jiff::SignedDuration::from_mins(near * 65), next] {
                    let local = at.to_zoned(TimeZone::UTC).datetime();
                    prop_assert_eq!(clock.offset_at(local), zone.to_ambiguous_timestamp(local).offset());
                }
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC*|[0-9 :/.TZ+-]{0,30}") {
            for order in [YearFirst, DayFirst, MonthFirst] {
                if let Some(written) = read(&text, order).time() {
                    prop_assert!((1980..=2100).contains(&written.local.year()));
                }
            }
            id_epoch(&text);
        }

        #[test]
        fn what_is_written_is_read(s in 315_532_800_i64..4_133_980_799) {
            let local = jiff::Timestamp::from_second(s).expect("in range").to_zoned(jiff::tz::TimeZone::UTC).datetime();
            let read_back = |text: &str, order| read(text, order).time().map(|written| written.local);
            prop_assert_eq!(read_back(&local.strftime("%Y-%m-%d %H:%M:%S").to_string(), YearFirst), Some(local));
            prop_assert_eq!(read_back(&local.strftime("%d.%m.%Y %H:%M:%S").to_string(), DayFirst), Some(local));
            prop_assert_eq!(read_back(&local.strftime("%m/%d/%Y %I:%M:%S %p").to_string(), MonthFirst), Some(local));
        }
    }
}
