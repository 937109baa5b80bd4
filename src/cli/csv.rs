//! Rows as comma-separated text (RFC 4180) that a spreadsheet may open: what a caller wrote must never become a formula.

use super::screen::Screen;
use crate::store::query::{Table, Value};

/// What a spreadsheet takes for the beginning of a formula, or skips to find one; the wide ones are what some turn into the
/// others.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];
/// Columns of decimal numbers, which are kept as text so that no cent is lost.
const DECIMAL: [&str; 1] = ["cost"];

/// Writes all rows below their header. `raw` leaves every text as it is.
pub fn write(table: &Table, raw: bool, screen: &mut Screen) -> std::io::Result<()> {
    let header: Vec<String> = table.columns.iter().map(|name| quoted(name)).collect();
    screen.bytes(format!("{}\r\n", header.join(",")).as_bytes())?;
    for row in &table.rows {
        let named = table.columns.iter().zip(row);
        let cells: Vec<String> = named.map(|(column, value)| cell(column, value, raw)).collect();
        screen.bytes(format!("{}\r\n", cells.join(",")).as_bytes())?;
    }
    Ok(())
}

/// A number is never guarded: it can only be a number. Telephone numbers are text.
fn cell(column: &str, value: &Value, raw: bool) -> String {
    match value {
        Value::Text(text) if DECIMAL.contains(&column) && is_number(text) => text.clone(),
        Value::Text(text) if !raw && text.starts_with(FORMULA) => quoted(&format!("'{text}")),
        Value::Text(text) => quoted(text),
        other => super::screen::cell(other),
    }
}

/// Digits, a point among them or none, a minus before them or none.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    [whole, part].iter().all(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{FORMULA, cell};
    use crate::store::query::Value;
    use proptest::prelude::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn what_a_spreadsheet_would_calculate_is_guarded_unless_wished_raw() {
        for (written, safe) in [
            ("=1+1", "'=1+1"),
            ("+441632960123", "'+441632960123"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\n=1", "\"'\n=1\""),
            ("\r=1", "\"'\r=1\""),
            ("＝1", "'＝1"),
            ("＋1", "'＋1"),
            ("－1", "'－1"),
            ("＠SUM(A1)", "'＠SUM(A1)"),
            ("Smith, \"Jo\"", "\"Smith, \"\"Jo\"\"\""),
            ("=A1,\"x\"", "\"'=A1,\"\"x\"\"\""),
            ("201", "201"),
        ] {
            assert_eq!(cell("caller", &text(written), false), safe);
        }
        assert_eq!(cell("caller", &text("+441632960123"), true), "+441632960123");
        assert_eq!(cell("caller", &Value::Integer(-300), false), "-300");
        assert_eq!(cell("caller", &Value::Null, false), "");
    }

    #[test]
    fn a_cost_below_nothing_is_a_number() {
        for (written, safe) in [
            ("-0.12", "-0.12"),
            ("-3", "-3"),
            ("-", "'-"),
            ("-1+2", "'-1+2"),
            ("-.5", "'-.5"),
            ("-1e5", "'-1e5"),
            ("+1", "'+1"),
            ("=1", "'=1"),
        ] {
            assert_eq!(cell("cost", &text(written), false), safe);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_one_cell_that_reads_back_and_is_no_formula(written in "\\PC{0,12}|[=+@\t\r\n\",＝－-]{0,6}") {
            let safe = cell("caller", &text(&written), false);
            let inner = if let Some(inner) = safe.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
                inner.replace("\"\"", "\"")
            } else {
                prop_assert!(!safe.contains([',', '\r', '\n', '"']));
                safe
            };
            prop_assert!(!inner.starts_with(FORMULA));
            prop_assert_eq!(inner.strip_prefix('\'').filter(|_| written.starts_with(FORMULA)).unwrap_or(&inner), written);
        }
    }
}
