//! `cdrd calls`: recent call legs, one of them with everything that it was made of, or all of a time as CSV.

use super::numbers::Wished;
use super::screen::{Screen, cell};
use super::times::{local, moment};
use super::{Exit, Loaded, WrongUsage, csv, lineage};
use crate::record::cdr::{Direction, Disposition};
use crate::store::query::{LegWish, Query as _, QueryError, Table, Value};
use crate::store::sqlite::query::SqliteQuery;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use jiff::Timestamp;
use std::ops::ControlFlow;

/// Arguments.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option that a person gives or leaves")]
pub struct Args {
    /// Only this leg: its row number, or the vendor's unique id; or the legs of a call by its linked id
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Every statement that the leg was made of, with its place, and which one each column comes from
    #[arg(long, requires = "id", conflicts_with = "csv")]
    lineage: bool,
    /// At most so many, the latest first
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// Started at or after: "2h" ago, a day, or a time in this host's zone ("2025-03-04 10:00") or with its own offset
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Started before; written like --since
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Caller or callee is this number, written as the PBX or as people do
    #[arg(long, value_name = "NUMBER")]
    number: Option<String>,
    /// Only this direction
    #[arg(long, value_parser = PossibleValuesParser::new(Direction::ALL.map(Direction::word)).map(|word| direction(&word)))]
    direction: Option<Direction>,
    /// Only this outcome
    #[arg(long, value_parser = PossibleValuesParser::new(Disposition::ALL.map(Disposition::word)).map(|word| disposition(&word)))]
    disposition: Option<Disposition>,
    /// Only of this origin
    #[arg(long)]
    origin: Option<String>,
    /// One JSON object per line, with the columns of table cdr
    #[arg(long)]
    json: bool,
    /// Comma-separated, with the columns of table cdr; text that a spreadsheet would take for a formula (it begins with
    /// = + - @) gets an apostrophe in front, telephone numbers with + too
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// With --csv, no apostrophes: for programs, not for spreadsheets
    #[arg(long, requires = "csv")]
    raw: bool,
}

fn direction(word: &str) -> Direction {
    Direction::ALL.into_iter().find(|known| known.word() == word).unwrap_or_default()
}

fn disposition(word: &str) -> Disposition {
    Disposition::ALL.into_iter().find(|known| known.word() == word).unwrap_or_default()
}

/// Lists legs.
pub fn run(args: &Args, loaded: &Loaded, screen: &mut Screen) -> anyhow::Result<Exit> {
    let runtime = super::runtime()?;
    let query = loaded.query(&runtime)?;
    let mut wish = LegWish {
        since: args.since,
        until: args.until,
        name: args.id.clone(),
        direction: args.direction,
        disposition: args.disposition,
        origin: args.origin.clone(),
        // One more, to know whether there are more.
        limit: args.limit.saturating_add(1),
        ..LegWish::default()
    };
    if let Some(number) = &args.number {
        wish.parties = Wished::new(number, loaded, &query)?.parties();
        if wish.parties.is_empty() {
            return Err(WrongUsage(
                "--number is empty; write the number that called or was called".to_owned(),
            )
            .into());
        }
    }
    let mut legs = query.legs(&wish)?;
    if let Some(id) = args.id.as_ref().filter(|_| legs.rows.is_empty()) {
        legs = linked(id, &wish, &query)?;
        if legs.rows.is_empty() {
            let all = LegWish { name: Some(id.clone()), limit: 1, ..LegWish::default() };
            let filtered = !query.legs(&all)?.rows.is_empty() || !linked(id, &all, &query)?.rows.is_empty();
            anyhow::bail!(if filtered {
                format!("the leg {id:?} is there, but the other options leave it out; give its ID alone")
            } else {
                format!(
                    "there is no such leg {id:?}; name a row number (`cdrd calls --json` shows `id`) or the PBX's unique \
                     or linked id"
                )
            });
        }
    }
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let more = legs.rows.len() > most;
    legs.rows.truncate(most);
    if args.lineage {
        return lineage::show(&legs, loaded, &query, args.json, screen);
    }
    if args.json {
        screen.json_table(&legs)?;
    } else if args.csv {
        csv::write(&legs, args.raw, screen)?;
    } else {
        list(&legs, screen)?;
    }
    if more {
        super::screen::note(&format!("only the latest {most} legs; --limit N gives more"));
    }
    Ok(Exit::Done)
}

/// The legs of the call with this linked id, the latest first.
fn linked(id: &str, wish: &LegWish, query: &SqliteQuery) -> Result<Table, QueryError> {
    // A text of SQL holds no NUL, and no id does.
    let text = format!("'{}'", id.replace('\0', "").replace('\'', "''"));
    let sql = format!(
        "SELECT l.id FROM origin o CROSS JOIN cdr l ON l.origin = o.name AND l.call_group = {text} WHERE l.linked_id = {text} \
         UNION SELECT l.id FROM origin o CROSS JOIN call_link k ON k.origin = o.name AND k.value = {text} \
         CROSS JOIN cdr l ON l.origin = o.name AND l.call_group = k.call_group WHERE l.linked_id = {text}"
    );
    let mut numbers = Vec::new();
    query.each(&sql, &mut |_, row| {
        numbers.extend(row.first().map(Value::integer));
        ControlFlow::Continue(())
    })?;
    let mut legs = Table::default();
    for number in numbers {
        let found = query.legs(&LegWish { name: Some(number.to_string()), ..wish.clone() })?;
        // A unique id may look like a row number.
        let rows = found.rows.iter().filter(|row| found.value(row, "id").integer() == number);
        legs.rows.extend(rows.cloned());
        legs.columns = found.columns;
    }
    let started = |row: &[Value], columns: &Table| columns.value(row, "started_at").text().to_owned();
    let columns = Table { columns: legs.columns.clone(), rows: Vec::new() };
    legs.rows.sort_by_key(|row| std::cmp::Reverse(started(row, &columns)));
    Ok(legs)
}

fn list(legs: &Table, screen: &mut Screen) -> std::io::Result<()> {
    let mut header = HEADER.to_vec();
    let mut rows: Vec<Vec<String>> = legs.rows.iter().map(|row| shown(legs, row)).collect();
    if screen.is_terminal() {
        shorten(&mut header, &mut rows);
    }
    screen.table(&header, &rows)
}

/// What a list of legs shows.
pub(super) const HEADER: [&str; 7] =
    ["started", "direction", "disposition", "caller", "callee", "talk", "origin"];

/// A leg below [`HEADER`].
pub(super) fn shown(legs: &Table, row: &[Value]) -> Vec<String> {
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
pub(super) fn shorten(header: &mut Vec<&str>, rows: &mut [Vec<String>]) {
    // The name of the column is longer than what stands in it.
    header[2] = "outcome";
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

#[cfg(test)]
mod tests {
    use super::{shorten, talk};
    use crate::store::query::Value;

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
}
