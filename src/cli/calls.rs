//! `cdrd calls`: recent call legs.

use super::screen::{Screen, cell};
use super::{Exit, Loaded};
use crate::store::query::{LegWish, Query as _, Table, Value};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// At most so many, the latest first
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// Started at or after: "2h" ago, a day, or a time in this host's zone ("2025-03-04 10:00") or with its own offset
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Started before; written like --since
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// One JSON object per line, with the columns of table cdr
    #[arg(long)]
    json: bool,
}

/// Lists legs.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let runtime = super::runtime()?;
    let wish = LegWish { since: args.since, until: args.until, limit: args.limit };
    let legs = loaded.query(&runtime)?.legs(&wish)?;
    if args.json {
        screen.json_table(&legs)?;
        return Ok(Exit::Done);
    }
    let mut header = vec!["started", "direction", "disposition", "caller", "callee", "talk", "origin"];
    let mut rows: Vec<Vec<String>> = legs.rows.iter().map(|row| shown(&legs, row)).collect();
    if screen.is_terminal() {
        shorten(&mut header, &mut rows);
    }
    screen.table(&header, &rows)?;
    Ok(Exit::Done)
}

fn shown(legs: &Table, row: &[Value]) -> Vec<String> {
    let text = |column: &str| cell(legs.value(row, column));
    let number = |column: &str, name: &str| match text(name) {
        name if name.is_empty() => text(column),
        name => format!("{} ({name})", text(column)),
    };
    vec![
        local(legs.value(row, "started_at").text(), legs.value(row, "utc_offset_min").integer()),
        text("direction"),
        text("disposition"),
        number("caller", "caller_name"),
        number("callee", "callee_name"),
        talk(legs.value(row, "talk_s")),
        text("origin"),
    ]
}

/// Takes away what is the same in every row and goes without saying, so that a row fits a line of 80 columns.
fn shorten(header: &mut Vec<&str>, rows: &mut [Vec<String>]) {
    let same = |rows: &[Vec<String>], part: fn(&[String]) -> &str| {
        rows.windows(2).all(|pair| part(&pair[0]) == part(&pair[1]))
    };
    if same(rows, |row| row[0].rsplit(' ').next().unwrap_or_default()) {
        for row in rows.iter_mut() {
            row[0] = row[0].rsplit_once(' ').map_or("", |(clock, _)| clock).to_owned();
        }
    }
    if same(rows, |row| &row[6]) {
        header.pop();
        for row in rows.iter_mut() {
            row.pop();
        }
    }
}

/// The wall clock of the PBX with its offset: legs of several zones stand in one list.
fn local(utc: &str, offset_min: i64) -> String {
    let Ok(utc_time) = DateTime::strptime("%Y-%m-%d %H:%M:%S%.f", utc) else { return utc.to_owned() };
    let offset = SignedDuration::from_mins(offset_min);
    let Ok(local) = utc_time.checked_add(offset) else { return utc.to_owned() };
    let sign = if offset_min < 0 { '-' } else { '+' };
    let minutes = offset_min.unsigned_abs();
    format!("{} {sign}{:02}:{:02}", local.strftime("%Y-%m-%d %H:%M:%S"), minutes / 60, minutes % 60)
}

/// Seconds as `h:mm:ss` or `m:ss`.
fn talk(seconds: &Value) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole seconds are shown, and a talk of 2^63 s is none"
    )]
    let seconds = match seconds {
        Value::Integer(seconds) => *seconds,
        Value::Real(seconds) => *seconds as i64,
        _ => return String::new(),
    };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours == 0 { format!("{minutes}:{seconds:02}") } else { format!("{hours}:{minutes:02}:{seconds:02}") }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    // A bare day is a civil date-time at midnight.
    if let Ok(time) = text.parse::<DateTime>() {
        return time.to_zoned(zone).map(|zoned| zoned.timestamp()).map_err(|error| error.to_string());
    }
    let ago: Option<Timestamp> =
        text.parse::<SignedDuration>().ok().and_then(|ago| Timestamp::now().checked_sub(ago.abs()).ok());
    ago.or_else(|| days(text)).ok_or_else(|| {
        "is no time; write \"2h\", \"3d\", \"2025-03-04\", \"2025-03-04 10:00\" or \"2025-03-04T10:00:00Z\"".to_owned()
    })
}

/// `3d` is three times 24 hours ago: good enough for a list.
fn days(text: &str) -> Option<Timestamp> {
    let days: i64 = text.strip_suffix('d')?.trim().parse().ok()?;
    Timestamp::now().checked_sub(SignedDuration::from_hours(days.checked_mul(24)?).abs()).ok()
}

#[cfg(test)]
mod tests {
    use super::{local, moment, shorten, talk};
    use crate::store::query::Value;

    #[test]
    fn starts_are_shown_on_the_clock_of_the_pbx() {
        assert_eq!(local("2025-03-04 23:30:00.000", 60), "2025-03-05 00:30:00 +01:00");
        assert_eq!(local("2025-03-04 23:30:00.000", -210), "2025-03-04 20:00:00 -03:30");
        assert_eq!(local("never", 60), "never");
    }

    #[test]
    fn offset_and_origin_are_named_where_they_differ() {
        let row = |started: &str, origin: &str| {
            [started, "inbound", "busy", "1", "2", "0:00", origin].map(str::to_owned).to_vec()
        };
        let mut header = vec!["started", "direction", "disposition", "caller", "callee", "talk", "origin"];
        let mut rows =
            vec![row("2025-03-30 03:30:00 +02:00", "hq"), row("2025-03-30 01:30:00 +01:00", "branch")];
        let before = rows.clone();
        shorten(&mut header, &mut rows);
        assert_eq!((header.len(), &rows), (7, &before));
        rows.pop();
        shorten(&mut header, &mut rows);
        assert_eq!(header.len(), 6);
        assert_eq!(rows, [["2025-03-30 03:30:00", "inbound", "busy", "1", "2", "0:00"]]);
    }

    #[test]
    fn talk_is_shown_like_a_stop_watch() {
        assert_eq!(talk(&Value::Integer(0)), "0:00");
        assert_eq!(talk(&Value::Real(75.9)), "1:15");
        assert_eq!(talk(&Value::Integer(3725)), "1:02:05");
        assert_eq!(talk(&Value::Null), "");
    }

    #[test]
    fn moments_are_days_times_and_lengths_of_time() {
        for good in ["2h", "90m", "3d", "2025-03-04", "2025-03-04 10:00", "2025-03-04T10:00:00Z"] {
            assert!(moment(good).is_ok(), "{good}");
        }
        let order: Vec<_> = ["3d", "2d", "2h"].iter().filter_map(|text| moment(text).ok()).collect();
        assert!(order.is_sorted());
        assert!(moment("yesterday").is_err());
    }
}
