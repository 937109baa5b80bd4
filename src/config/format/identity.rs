//! The identity lists of a format: which columns tell legs apart.

use super::{names, same};
use crate::config::keys;
use crate::config::stanza::{Spotted, Stanza};
use crate::formats::mapping::{ColumnConfig, IdentityConfig};
use crate::record::field::Field;

/// Fields that may name one row.
const IDS: [Field; 4] = [Field::RecordId, Field::UniqueId, Field::LinkedId, Field::SipCallId];
/// Fields that may tell the legs of one id apart.
const INSTANCES: [Field; 2] = [Field::Channel, Field::DstChannel];

pub(super) fn read(stanza: &mut Stanza<'_, '_>, columns: &[ColumnConfig]) -> IdentityConfig {
    if !stanza.has(keys::MATCH) {
        let message = "is missing; name the columns that tell calls apart, match = [\"start\", \"caller_number\", \
                       \"callee_number\"]";
        stanza.lack(keys::MATCH, message.to_owned());
    }
    let before = stanza.faults.len();
    let matched = list(stanza, keys::MATCH, columns);
    let sound = stanza.faults.len() == before;
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
    // What is wrong with a name was said; the list would only be wrong because of it.
    if sound {
        told_apart(stanza, &lists);
    }
    ids(stanza, &lists);
    once(stanza, &lists);
    lists
}

/// What is equal in `match` may be one call: other calls must not be.
fn told_apart(stanza: &mut Stanza<'_, '_>, lists: &IdentityConfig) {
    let Some(place) = stanza.place_of(keys::MATCH) else { return };
    let matched = &lists.matched;
    let further = lists.sure.is_some() || lists.instance.is_some() || !lists.exact.is_empty();
    let message = if !matched.iter().any(|field| *field == Field::Start || IDS.contains(field)) {
        "has neither start nor an id, so that a later call of the same numbers would take the place of an earlier one; add \
         \"start\""
    } else if matched[..] == [Field::Start] && !further {
        "has start alone, so that two calls of one second would be one; add the numbers, or the id of the row"
    } else {
        return;
    };
    stanza.faults.push(place.fault(message.to_owned()));
}

/// `sure` and `instance` are ids: rows with the same are the same, whatever else they say.
fn ids(stanza: &mut Stanza<'_, '_>, lists: &IdentityConfig) {
    for (key, field) in [(keys::SURE, lists.sure), (keys::INSTANCE, lists.instance)] {
        let names_leg = |field| key == keys::INSTANCE && INSTANCES.contains(&field);
        if let Some(field) = field
            && !IDS.contains(&field)
            && !names_leg(field)
            && let Some(place) = stanza.place_of(key)
        {
            let names: Vec<&str> = IDS.iter().map(|id| id.name()).collect();
            let message = format!(
                "is the one column that holds an id ({}), and {} is none: rows that are equal in it would be one call; list \
                 it under match or exact",
                names.join(", "),
                field.name()
            );
            stanza.faults.push(place.fault(message));
        }
    }
    if lists.sure.is_some()
        && lists.sure == lists.instance
        && let Some(place) = stanza.place_of(keys::INSTANCE)
    {
        stanza
            .faults
            .push(place.fault("is the column of sure too; take one of the two lines away".to_owned()));
    }
}

/// A column in two lists has no meaning in the second.
fn once(stanza: &mut Stanza<'_, '_>, lists: &IdentityConfig) {
    for (key, fields) in [(keys::EXACT, &lists.exact), (keys::NEAR, &lists.near)] {
        let Some(field) = fields.iter().find(|field| lists.matched.contains(field)) else { continue };
        if let Some(place) = stanza.place_of(key) {
            let message = format!("lists {}, which match has already; take it away here", field.name());
            stanza.faults.push(place.fault(message));
        }
    }
    if let Some(field) = lists.near.iter().find(|field| lists.exact.contains(field))
        && let Some(place) = stanza.place_of(keys::NEAR)
    {
        let message = format!("lists {}, which exact has already; take one of the two away", field.name());
        stanza.faults.push(place.fault(message));
    }
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
        let Some(field) = field(&text, columns, stanza) else { continue };
        if fields.contains(&field) {
            let message = format!("{:?} stands here twice; take one of the two away", text.value);
            stanza.faults.push(text.fault(message));
        } else {
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
