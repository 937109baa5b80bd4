//! How a document writes its times: the order of dates and whether there are seconds.
//!
//! Must never settle an order that the document itself does not prove: 03/04 read the wrong way is a wrong call.

use crate::record::document::DateOrder;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A time as written, as far as its shape goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    order: Order,
    parts: [i16; 3],
    seconds: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Proven(DateOrder),
    DayOrMonthFirst,
}

/// Whether this text is a date and a time of day in any order that PBXes and spreadsheets write.
pub fn is_time(text: &str) -> bool {
    shape(text).is_some()
}

/// What the starts in the head of a document prove.
#[derive(Debug, Default)]
pub struct Survey {
    seconds: bool,
    times: usize,
    day_first: usize,
    month_first: usize,
    either: usize,
}

impl Survey {
    /// Looks at a start; `epoch` is the UTC second that the same row's channel id carries, if it carries one.
    pub fn add(&mut self, text: &str, epoch: Option<i64>) {
        let Some(shape) = shape(text) else { return };
        self.times += 1;
        self.seconds |= shape.seconds;
        let order = match shape.order {
            Order::Proven(order) => Some(order),
            Order::DayOrMonthFirst => epoch.and_then(|epoch| order_by_epoch(shape.parts, epoch)),
        };
        match order {
            Some(DateOrder::YearFirst) => {}
            Some(DateOrder::DayFirst) => self.day_first += 1,
            Some(DateOrder::MonthFirst) => self.month_first += 1,
            None => self.either += 1,
        }
    }

    /// How many times were seen.
    pub fn times(&self) -> usize {
        self.times
    }

    /// Whether no time had seconds.
    pub fn minute(&self) -> bool {
        self.times > 0 && !self.seconds
    }

    /// The order of dates, or why it cannot be known.
    pub fn order(&self) -> Result<DateOrder, String> {
        match (self.day_first, self.month_first, self.either) {
            (0, 0, 0) => Ok(DateOrder::YearFirst),
            (1.., 0, _) => Ok(DateOrder::DayFirst),
            (0, 1.., _) => Ok(DateOrder::MonthFirst),
            (0, 0, _) => Err(mend("its dates may be day or month first, and none of them decides it")),
            _ => Err(mend("some of its dates are day first, others month first")),
        }
    }
}

fn mend(what: &str) -> String {
    format!(
        "{what}; send the file as the PBX wrote it, not saved by a spreadsheet, or with dates as YYYY-MM-DD"
    )
}

/// The UTC second in a channel id of Asterisk or Grandstream: `[system-]epoch.sequence`.
pub fn epoch_of(id: &str) -> Option<i64> {
    let (before, sequence) = id.trim().rsplit_once('.')?;
    let epoch = before.rsplit_once('-').map_or(before, |(_, epoch)| epoch);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    ((9..=10).contains(&epoch.len()) && digits(epoch) && digits(sequence)).then(|| epoch.parse().ok())?
}

/// A channel lives for hours, zones differ by less than a day: the order that lies within two days of the id's epoch.
fn order_by_epoch([first, second, year]: [i16; 3], epoch: i64) -> Option<DateOrder> {
    let began = jiff::Timestamp::from_second(epoch).ok()?.to_zoned(TimeZone::UTC).date();
    let near = |day: i16, month: i16| {
        let (Ok(day), Ok(month)) = (i8::try_from(day), i8::try_from(month)) else { return false };
        let year = if year < 100 { year + 2000 } else { year };
        Date::new(year, month, day)
            .ok()
            .and_then(|date| date.since(began).ok())
            .is_some_and(|span| span.get_days().abs() <= 2)
    };
    match (near(first, second), near(second, first)) {
        (true, false) => Some(DateOrder::DayFirst),
        (false, true) => Some(DateOrder::MonthFirst),
        _ => None,
    }
}

fn shape(text: &str) -> Option<Shape> {
    let text = text.trim();
    let (date, time) = text.split_once([' ', 'T'])?;
    let mark =
        date.chars().find(char::is_ascii_punctuation).filter(|mark| matches!(mark, '-' | '/' | '.'))?;
    let mut written = date.split(mark);
    let (first, second, third) = (written.next()?, written.next()?, written.next()?);
    if written.next().is_some() {
        return None;
    }
    let parts = [number(first, 4)?, number(second, 2)?, number(third, 4)?];
    let order = if first.len() == 4 {
        ((1..=12).contains(&parts[1]) && (1..=31).contains(&parts[2]) && third.len() <= 2)
            .then_some(Order::Proven(DateOrder::YearFirst))?
    } else {
        order_of(parts, (first.len(), third.len()), mark)?
    };
    Some(Shape { order, parts, seconds: clock(time.trim())? })
}

fn order_of(parts: [i16; 3], (first_digits, year_digits): (usize, usize), mark: char) -> Option<Order> {
    let [first, second, _] = parts;
    if !matches!((first_digits, year_digits), (1 | 2, 2 | 4))
        || !(1..=31).contains(&first)
        || !(1..=31).contains(&second)
    {
        return None;
    }
    match (first > 12, second > 12) {
        (true, true) => None,
        (true, false) => Some(Order::Proven(DateOrder::DayFirst)),
        (false, true) => Some(Order::Proven(DateOrder::MonthFirst)),
        // Nobody writes a month first before a dot.
        (false, false) if mark == '.' => Some(Order::Proven(DateOrder::DayFirst)),
        (false, false) => Some(Order::DayOrMonthFirst),
    }
}

/// Whether a time of day has seconds; `None` when it is none.
fn clock(text: &str) -> Option<bool> {
    let upper = text.to_ascii_uppercase();
    let (upper, offset) = upper.split_at(upper.find(['+', '-', 'Z']).unwrap_or(upper.len()));
    let is_offset = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    if !matches!(offset, "" | "Z") && !offset.get(1..).is_some_and(is_offset) {
        return None;
    }
    let upper = upper.trim_end();
    let text = upper.strip_suffix("AM").or_else(|| upper.strip_suffix("PM")).unwrap_or(upper).trim_end();
    let mut parts = text.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next());
    let whole = second.map(|second| second.split_once('.').map_or(second, |(whole, _)| whole));
    let fits = number(hour, 2)? < 24
        && minute.len() == 2
        && number(minute, 2)? < 60
        && whole.is_none_or(|whole| number(whole, 2).is_some_and(|second| second <= 60))
        && parts.next().is_none();
    fits.then_some(second.is_some())
}

fn number(text: &str, digits: usize) -> Option<i16> {
    let fits = (1..=digits).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(texts: &[&str]) -> Result<DateOrder, String> {
        let mut survey = Survey::default();
        for text in texts {
            survey.add(text, None);
        }
        survey.order()
    }

    #[test]
    fn only_a_part_above_twelve_decides() {
        assert_eq!(order(&["2026-03-02 09:43:58"]), Ok(DateOrder::YearFirst));
        assert_eq!(order(&["3/4/2026 9:43", "13/4/2026 9:43"]), Ok(DateOrder::DayFirst));
        assert_eq!(order(&["3/4/26 9:43 PM", "4/13/26 9:43 PM"]), Ok(DateOrder::MonthFirst));
        assert_eq!(order(&["3.4.2026 9:43"]), Ok(DateOrder::DayFirst));
        assert!(order(&["3/4/2026 9:43"]).is_err());
        assert!(order(&["13/4/2026 9:43", "4/13/2026 9:43"]).is_err());
    }

    #[test]
    fn an_epoch_in_the_row_decides_too() {
        let mut survey = Survey::default();
        survey.add("2/3/2026 10:44", epoch_of("host-1772444638.26"));
        assert_eq!(survey.order(), Ok(DateOrder::DayFirst));
        assert!(survey.minute());
    }

    #[test]
    fn an_offset_belongs_to_a_time() {
        for text in [
            "2026-03-02T09:15:08Z",
            "2026-03-02T09:15:08.25Z",
            "2026-03-02 09:15:08+02:00",
            "2026-03-02 09:15:08 -0530",
        ] {
            assert!(is_time(text), "{text}");
        }
        assert!(!is_time("2026-03-02 09:15:08Zulu"));
        assert!(!is_time("2026-03-02 09:15:08-x"));
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "2026-03-02",
            "0000-00-00 00:00:00",
            "2026-13-02 10:00:00",
            "12:30",
            "1/2 10:00",
            "026-03-02 10:00:00",
            "a/b/c 1:00",
        ] {
            assert!(!is_time(text), "{text}");
        }
        assert_eq!(epoch_of("3.14"), None);
    }
}
