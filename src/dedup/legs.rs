//! The legs of a group: a pure function of its statements, whatever the order in which they came.

use super::carried;
use super::crowd::Apart;
use super::identity::Identified;
use crate::record::document::RowKind;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// One statement (layout, core, copy) and its versions, as places in the group's list.
#[derive(Debug)]
pub(super) struct Statement {
    pub layout: [u8; 16],
    pub versions: Vec<usize>,
    sure: Option<String>,
}

/// Canonical order: leg rows before summaries, with a channel column first, more columns first, then by name.
type Order = (RowKind, bool, Reverse<usize>, &'static str, [u8; 16], [u8; 16], u32);

/// The statements of a group in canonical order.
pub(super) fn statements(group: &[&Identified]) -> Vec<Statement> {
    let mut by_order: BTreeMap<Order, Statement> = BTreeMap::new();
    for (place, version) in group.iter().enumerate() {
        let layout = &version.leg.raw.layout;
        let no_instance = layout.family.instance.is_none_or(|field| layout.column_of(field).is_none());
        let core = carried::core(&version.leg);
        let columns = Reverse(layout.columns.len());
        let order = (layout.kind, no_instance, columns, layout.card.id, layout.hash, core, version.copy);
        let sure = || carried::sure(&version.leg).map(str::to_owned);
        by_order
            .entry(order)
            .or_insert_with(|| Statement { layout: layout.hash, versions: Vec::new(), sure: sure() })
            .versions
            .push(place);
    }
    by_order.into_values().collect()
}

/// The legs, each a list of places in `statements`, in an order that depends on nothing but the statements.
pub(super) fn legs(group: &[&Identified], statements: &[Statement]) -> Vec<Vec<usize>> {
    let mut by_id: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut others: Vec<usize> = Vec::new();
    for (place, statement) in statements.iter().enumerate() {
        match &statement.sure {
            Some(id) => by_id.entry(id).or_default().push(place),
            None => others.push(place),
        }
    }
    let mut legs: Vec<Vec<usize>> = by_id.into_values().collect();
    // Statements stand in canonical order, so those of one layout are neighbours.
    for layout in others.chunk_by(|a, b| statements[*a].layout == statements[*b].layout) {
        add_layout(group, statements, layout, &mut legs);
    }
    legs
}

/// Matches the statements of one layout one to one to the legs so far; the unmatched become legs.
fn add_layout(group: &[&Identified], statements: &[Statement], layout: &[usize], legs: &mut Vec<Vec<usize>>) {
    let mut pairs: Vec<(Reverse<usize>, usize, usize)> = Vec::new();
    for (row, statement) in layout.iter().enumerate() {
        for (leg, members) in legs.iter().enumerate() {
            let free = members.iter().all(|member| {
                statements[*member].layout != statements[*statement].layout
                    && !conflict(group, &statements[*member], &statements[*statement])
            });
            if free {
                let equal = members
                    .iter()
                    .map(|member| equal_fields(group, &statements[*member], &statements[*statement]))
                    .max();
                pairs.push((Reverse(equal.unwrap_or(0)), row, leg));
            }
        }
    }
    pairs.sort_unstable();
    let chosen = match_most(&pairs, layout.len(), legs.len());
    for (row, statement) in layout.iter().enumerate() {
        match chosen[row] {
            Some(leg) => legs[leg].push(*statement),
            None => legs.push(vec![*statement]),
        }
    }
}

/// As many pairs as possible, the best pairs first: greedy in order of the pairs, then augmenting paths.
fn match_most(pairs: &[(Reverse<usize>, usize, usize)], rows: usize, legs: usize) -> Vec<Option<usize>> {
    let mut of_row: Vec<Option<usize>> = vec![None; rows];
    let mut of_leg: Vec<Option<usize>> = vec![None; legs];
    let mut choices: Vec<Vec<usize>> = vec![Vec::new(); rows];
    for (_, row, leg) in pairs {
        choices[*row].push(*leg);
        if of_row[*row].is_none() && of_leg[*leg].is_none() {
            of_row[*row] = Some(*leg);
            of_leg[*leg] = Some(*row);
        }
    }
    for row in 0..rows {
        if of_row[row].is_none() {
            let mut tried = vec![false; legs];
            augment(row, &choices, &mut of_row, &mut of_leg, &mut tried);
        }
    }
    of_row
}

fn augment(
    row: usize,
    choices: &[Vec<usize>],
    of_row: &mut [Option<usize>],
    of_leg: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    for leg in &choices[row] {
        if std::mem::replace(&mut tried[*leg], true) {
            continue;
        }
        if of_leg[*leg].is_none_or(|holder| augment(holder, choices, of_row, of_leg, tried)) {
            of_leg[*leg] = Some(row);
            of_row[row] = Some(*leg);
            return true;
        }
    }
    false
}

/// Statements conflict if every pair of their versions does.
fn conflict(group: &[&Identified], a: &Statement, b: &Statement) -> bool {
    a.versions
        .iter()
        .all(|left| b.versions.iter().all(|right| carried::conflict(&group[*left].leg, &group[*right].leg)))
}

fn equal_fields(group: &[&Identified], a: &Statement, b: &Statement) -> usize {
    let pairs = a.versions.iter().flat_map(|left| b.versions.iter().map(move |right| (*left, *right)));
    pairs.map(|(left, right)| carried::equal_fields(&group[left].leg, &group[right].leg)).max().unwrap_or(0)
}

/// Whether two legs are told apart by nothing better than exact or near fields or copies.
pub(super) fn collide(group: &[&Identified], statements: &[Statement], legs: &[Vec<usize>]) -> bool {
    let mut apart = Apart::default();
    for leg in legs {
        let members: Vec<&Statement> = leg.iter().map(|place| &statements[*place]).collect();
        apart.add(group, &members);
    }
    apart.collides
}
