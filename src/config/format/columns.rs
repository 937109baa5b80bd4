//! What a format's columns mean: fields, and the headers, members or numbers where their text is.

use super::{names, same};
use crate::config::keys::{self, Table};
use crate::config::stanza::{Spotted, Stanza};
use crate::formats::mapping::{ColumnConfig, NamesConfig};
use crate::record::card::normal_header;
use crate::record::field::Field;

/// All columns that are right. `numbered`: they go by their number, of which rows have at most `widest`.
pub(super) fn read(stanza: &mut Stanza<'_, '_>, numbered: bool, widest: Option<usize>) -> Vec<ColumnConfig> {
    let present = stanza.has(keys::COLUMNS);
    let Some(mut table) = stanza.table(keys::COLUMNS, Table::Columns) else {
        if !present {
            let message =
                "is missing; say what the columns mean, [format.columns] start = \"...\"".to_owned();
            stanza.lack(keys::COLUMNS, message);
        }
        return Vec::new();
    };
    table.unknown_keys();
    let mut columns: Vec<ColumnConfig> = Vec::new();
    for entry in table.entries() {
        let Some(field) = Field::by_name(&entry.value) else { continue };
        let Some((names_of, place)) = column(&mut table, &entry, field) else { continue };
        if let Some(message) =
            wrong(names(&names_of), &columns, numbered, widest, table.is_number(&entry.value))
        {
            table.faults.push(place.fault(message));
            continue;
        }
        columns.push(ColumnConfig { field, names: names_of });
    }
    if !table.has(Field::Start.name()) {
        let message = "is missing; without its start no call can be placed, start = \"...\"".to_owned();
        table.lack(Field::Start.name(), message);
    }
    columns.sort_by_key(|column| column.field);
    columns
}

fn column(
    table: &mut Stanza<'_, '_>,
    entry: &Spotted<String>,
    field: Field,
) -> Option<(NamesConfig, Spotted<()>)> {
    let key = entry.value.as_str();
    let place = entry.with(());
    if !table.is_table(key) {
        let names = if table.is_number(key) {
            table.numbers(key)?.into_iter().map(|number| number.value.to_string()).collect()
        } else {
            table.texts(key)?.into_iter().map(|text| text.value).collect()
        };
        return Some((NamesConfig::Any(names), place));
    }
    let mut inner = table.table(key, Table::Join)?;
    inner.unknown_keys();
    let parts = inner.words(keys::JOIN)?;
    if parts.len() < 2 || !matches!(field, Field::Start | Field::Answer | Field::End) {
        let message = "joins the date and the time of start, answer or end; write start = { join = [\"Date\", \"Time\"] }";
        table.faults.push(place.fault(message.to_owned()));
        return None;
    }
    Some((NamesConfig::Joined(parts), place))
}

/// What is wrong with the names of a column beside those before it.
fn wrong(
    written: &[String],
    before: &[ColumnConfig],
    numbered: bool,
    widest: Option<usize>,
    is_number: bool,
) -> Option<String> {
    let number = |name: &String| name.parse::<usize>().ok();
    if numbered && !written.iter().all(|name| number(name).is_some()) {
        return Some(
            "without a header columns go by their number from 1; write it without quotes, like 3".to_owned(),
        );
    }
    if !numbered && is_number {
        return Some("must be the name in the header, in quotes; numbers are for header = false".to_owned());
    }
    if numbered {
        let far = written
            .iter()
            .filter_map(number)
            .find(|number| *number == 0 || widest.is_some_and(|w| *number > w));
        if let Some(far) = far {
            return Some(format!(
                "there is no column {far}: rows have {} by width",
                widest.unwrap_or_default()
            ));
        }
    }
    for (place, name) in written.iter().enumerate() {
        if normal_header(name).is_empty() {
            return Some(format!("{name:?} has no letter or digit by which to know the column"));
        }
        let other = before.iter().find(|column| names(&column.names).iter().any(|known| same(known, name)));
        if let Some(other) = other {
            return Some(format!(
                "column {name:?} is {} already; one column has one meaning, take one of the two away",
                other.field.name()
            ));
        }
        if written[..place].iter().any(|known| same(known, name)) {
            return Some(format!("{name:?} stands here twice; dots, blanks and capitals make no difference"));
        }
    }
    None
}

/// Fields with the same text in every row.
pub(super) fn constants(stanza: &mut Stanza<'_, '_>, columns: &[ColumnConfig]) -> Vec<(Field, String)> {
    let Some(mut table) = stanza.table(keys::CONSTANTS, Table::Constants) else { return Vec::new() };
    table.unknown_keys();
    let mut constants = Vec::new();
    for entry in table.entries() {
        let Some(field) = Field::by_name(&entry.value) else { continue };
        let Some(text) = table.text(&entry.value) else { continue };
        if columns.iter().any(|column| column.field == field) {
            let message = "is a column already; take one of the two away".to_owned();
            table.faults.push(text.fault(message));
        } else if matches!(field, Field::Start | Field::Answer | Field::End) {
            let message =
                "cannot be the same in every row; name its column under [format.columns]".to_owned();
            table.faults.push(text.fault(message));
        } else {
            constants.push((field, text.value));
        }
    }
    constants.sort_by_key(|(field, _)| *field);
    constants
}
