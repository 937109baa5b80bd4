//! A row as written beside the leg that it becomes, one field to a line: where each value comes from is what a person
//! asks.

use super::screen::Screen;
use crate::record::cdr::{Cdr, Leg, TextColumn};
use crate::record::delivery::printable;
use crate::record::field::Field;
use serde_json::{Value, json};

/// Longer values push what stands beside them onto a line of its own.
const VALUE: usize = 28;

/// Shows a leg beside its row.
pub fn show(leg: &Leg, screen: &mut Screen) -> std::io::Result<()> {
    let mut columns = columns(&leg.cdr);
    let mut lines: Vec<[String; 3]> = Vec::new();
    let mut kept: Vec<String> = Vec::new();
    for (header, field, written) in leg.raw.columns().filter(|(_, _, value)| !value.trim().is_empty()) {
        let made = field.map(made_of).unwrap_or_default();
        let mut beside = Vec::new();
        columns.retain(|(name, value)| {
            let mine = made.contains(name);
            if mine {
                let same = text(value) == written;
                beside.push(if same { (*name).to_owned() } else { format!("{name} {}", safe(&text(value))) });
            }
            !mine
        });
        if beside.is_empty() {
            kept.push(format!("{} {}", safe(header), safe(written)));
        } else {
            lines.push([safe(header), safe(written), beside.join(", ")]);
        }
    }
    let name = lines.iter().map(|[name, ..]| name.chars().count()).max().unwrap_or(0);
    let value = lines.iter().map(|[_, value, _]| value.chars().count()).max().unwrap_or(0).min(VALUE);
    for [header, written, beside] in &lines {
        screen.hanging(&format!("    {header:<name$}  {written:<value$}  "), beside)?;
    }
    // `extra` holds what stands under "kept" and would only repeat it.
    let rest = columns.iter().filter(|(name, _)| *name != TextColumn::Extra.name());
    let rest: Vec<String> = rest.map(|(name, value)| format!("{name} {}", safe(&text(value)))).collect();
    screen.hanging("    computed  ", &rest.join(", "))?;
    screen.hanging("    kept      ", &kept.join(", "))
}

/// The columns that a field's text ends in.
fn made_of(field: Field) -> Vec<&'static str> {
    let made: &[&str] = match field {
        Field::Start => &["started_at", "utc_offset_min", "time_ambiguous"],
        Field::Answer => &["answered_at"],
        Field::End => &["ended_at"],
        Field::Duration => &["duration_s"],
        Field::Talk => &["talk_s"],
        Field::Ring => &["ring_s"],
        Field::Disposition => &["disposition"],
        Field::CallType => &["direction"],
        Field::CallerNumber => &["caller"],
        Field::CallerId => &["caller", "caller_name"],
        Field::CalleeNumber => &["callee"],
        Field::HangupCause => &["hangup_cause_q850"],
        Field::ReleasedBy => &["released_by"],
        Field::Recordings => &["recordings"],
        _ => &[],
    };
    made.iter().copied().chain(field.home().map(TextColumn::name)).collect()
}

/// Text of a file on a terminal.
fn safe(text: &str) -> String {
    printable(text.as_bytes())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The columns that a record alone gives, in the public layouts, blank ones left out.
pub fn columns(cdr: &Cdr) -> Vec<(&'static str, Value)> {
    let time = |ms: i64| {
        let moment = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        json!(moment.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string())
    };
    #[expect(clippy::cast_precision_loss, reason = "lengths of calls are far below 2^53 ms")]
    let seconds = |ms: i64| if ms % 1000 == 0 { json!(ms / 1000) } else { json!(ms as f64 / 1000.0) };
    let mut columns = vec![("started_at", time(cdr.started_at))];
    columns.extend(cdr.answered_at.map(|ms| ("answered_at", time(ms))));
    columns.extend(cdr.ended_at.map(|ms| ("ended_at", time(ms))));
    columns.extend(cdr.duration_ms.map(|ms| ("duration_s", seconds(ms))));
    columns.extend(cdr.talk_ms.map(|ms| ("talk_s", seconds(ms))));
    columns.extend(cdr.ring_ms.map(|ms| ("ring_s", seconds(ms))));
    columns.extend(cdr.utc_offset_min.map(|minutes| ("utc_offset_min", json!(minutes))));
    if cdr.time_ambiguous {
        columns.push(("time_ambiguous", json!(1)));
    }
    columns.push(("direction", json!(cdr.direction.word())));
    columns.push(("disposition", json!(cdr.disposition.word())));
    columns.extend(cdr.hangup_cause_q850.map(|cause| ("hangup_cause_q850", json!(cause))));
    for column in TextColumn::ALL {
        let text = cdr.text.get(*column);
        if !text.is_empty() {
            columns.push((column.name(), json!(text)));
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::made_of;
    use crate::record::field::Field;

    #[test]
    fn a_field_stands_beside_each_column_that_it_ends_in() {
        assert_eq!(made_of(Field::CallerNumber), ["caller", "caller_number"]);
        assert_eq!(
            made_of(Field::Start),
            ["started_at", "utc_offset_min", "time_ambiguous", "started_local"]
        );
        assert!(made_of(Field::LastApp).is_empty());
    }
}
