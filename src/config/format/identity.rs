//! The identity lists of a format: which columns tell legs apart.

use super::{names, same};
use crate::config::keys;
use crate::config::stanza::{Spotted, Stanza};
use crate::formats::mapping::{ColumnConfig, IdentityConfig};
use crate::record::field::Field;

pub(super) fn read(stanza: &mut Stanza<'_, '_>, columns: &[ColumnConfig]) -> IdentityConfig {
    if !stanza.has(keys::MATCH) {
        let message = "is missing; name the columns that tell calls apart, match = [\"start\", \"caller_number\", \
                       \"callee_number\"]";
        stanza.lack(keys::MATCH, message.to_owned());
    }
    let matched = list(stanza, keys::MATCH, columns);
    let lists = IdentityConfig {
        matched,
        sure: one(stanza, keys::SURE, columns),
        instance: one(stanza, keys::INSTANCE, columns),
        exact: list(stanza, keys::EXACT, columns),
        near: list(stanza, keys::NEAR, columns),
        events: stanza.texts(keys::EVENTS).unwrap_or_default().into_iter().map(|text| text.value).collect(),
    };
    let lengths = [Field::Duration, Field::Talk];
    if let Some(place) = stanza.place_of(keys::NEAR)
        && lists.near.iter().any(|field| !lengths.contains(field))
    {
        let message = "lists lengths that may differ by a second: duration and talk; put others under exact";
        stanza.faults.push(place.fault(message.to_owned()));
    }
    events(stanza, &lists, columns);
    lists
}

/// Events of a leg are one leg, so that nothing else may tell them apart.
fn events(stanza: &mut Stanza<'_, '_>, lists: &IdentityConfig, columns: &[ColumnConfig]) {
    let Some(place) = stanza.place_of(keys::EVENTS) else { return };
    if columns.iter().all(|column| column.field != Field::RowKind) {
        let message =
            "needs the column that names the event; write row_kind = \"...\" under [format.columns]";
        stanza.faults.push(place.fault(message.to_owned()));
    }
    for key in [keys::SURE, keys::INSTANCE, keys::EXACT, keys::NEAR] {
        if let Some(place) = stanza.place_of(key) {
            let message =
                "has no meaning beside events, whose rows are one leg by match alone; take the line away";
            stanza.faults.push(place.fault(message.to_owned()));
        }
    }
    if lists.events.len() == 1 {
        let message = "names one event; write all in the order in which they happen, [\"START\", \"END\"]";
        stanza.faults.push(place.fault(message.to_owned()));
    }
}

/// Fields that join legs to calls: the linked id where nothing is said.
pub(super) fn links(stanza: &mut Stanza<'_, '_>, columns: &[ColumnConfig]) -> Vec<Field> {
    if !stanza.has(keys::LINKS) {
        let linked = columns.iter().map(|column| column.field).filter(|field| *field == Field::LinkedId);
        return linked.collect();
    }
    let fields = list(stanza, keys::LINKS, columns);
    if let Some(place) = stanza.place_of(keys::LINKS)
        && fields.iter().any(|field| field.home().is_none())
    {
        let message =
            "may name columns that table cdr has, like unique_id and linked_id; map the id to one of those";
        stanza.faults.push(place.fault(message.to_owned()));
    }
    fields
}

fn list(stanza: &mut Stanza<'_, '_>, key: &str, columns: &[ColumnConfig]) -> Vec<Field> {
    let mut fields = Vec::new();
    for text in stanza.texts(key).unwrap_or_default() {
        if let Some(field) = field(&text, columns, stanza)
            && !fields.contains(&field)
        {
            fields.push(field);
        }
    }
    fields
}

fn one(stanza: &mut Stanza<'_, '_>, key: &str, columns: &[ColumnConfig]) -> Option<Field> {
    let text = stanza.text(key)?;
    field(&text, columns, stanza)
}

/// A mapped field by its own name or by that of its column.
fn field(text: &Spotted<String>, columns: &[ColumnConfig], stanza: &mut Stanza<'_, '_>) -> Option<Field> {
    let named = |column: &&ColumnConfig| {
        column.field.name() == text.value || names(&column.names).iter().any(|name| same(name, &text.value))
    };
    if let Some(column) = columns.iter().find(named) {
        return Some(column.field);
    }
    let known: Vec<&str> = columns.iter().map(|column| column.field.name()).collect();
    let mend = match keys::nearest(&text.value, known.iter().copied()) {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => "map it under [format.columns] first; an id without a better name is record_id".to_owned(),
    };
    stanza.faults.push(text.fault(format!("{:?} is no column of this format; {mend}", text.value)));
    None
}
