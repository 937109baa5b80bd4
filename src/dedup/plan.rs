//! What a store must do to a group after its versions changed: the legs with their numbers and rows.

use super::fold::{fold, ranked};
use super::identity::Identified;
use super::{labels, legs};
use crate::record::cdr::{Cdr, Leg};

/// A version of a group and the row that holds it now.
#[derive(Debug, Clone)]
pub struct Held {
    /// The version.
    pub version: Identified,
    /// Number of the leg whose row holds it; `None` for a version that is being added.
    pub label: Option<u32>,
    /// Order of storing, for lineage: a row names the first of its versions that was stored.
    pub order: u64,
}

/// The legs of a group.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// Every leg, each version in exactly one.
    pub legs: Vec<PlannedLeg>,
    /// Numbers of rows that lost all their statements: to be deleted, with a tombstone.
    pub withdrawn: Vec<u32>,
    /// A row that gives up its number (first) to be leg 0 (second), with a tombstone for the first.
    pub renumbered: Option<(u32, u32)>,
    /// Legs are told apart by nothing better than exact or near fields or copies.
    pub collision: bool,
}

/// One leg of a plan.
#[derive(Debug, PartialEq)]
pub struct PlannedLeg {
    /// Its number.
    pub label: u32,
    /// Its versions, as places in the list that was planned.
    pub versions: Vec<usize>,
    /// The version that ranks highest: it names the row's format and system.
    pub top: usize,
    /// The version that was stored first: the row's lineage.
    pub first: usize,
    /// The row.
    pub cdr: Cdr,
}

/// Plans a group. `highest` is the highest leg number that the group ever gave (rows and tombstones).
pub fn plan(group: &[Held], highest: Option<u32>) -> Plan {
    let versions: Vec<&Identified> = group.iter().map(|held| &held.version).collect();
    let statements = legs::statements(&versions);
    let legs = legs::legs(&versions, &statements);
    let holders: Vec<Vec<Option<u32>>> =
        legs.iter().map(|leg| leg.iter().map(|place| holder(group, &statements[*place])).collect()).collect();
    let mut live: Vec<u32> = group.iter().filter_map(|held| held.label).collect();
    live.sort_unstable();
    live.dedup();
    let labels = labels::assign(&holders, &live, highest);
    let collision = legs::collide(&versions, &statements, &legs);
    let legs = legs
        .iter()
        .zip(&labels.of_leg)
        .map(|(leg, label)| {
            let mut members: Vec<usize> =
                leg.iter().flat_map(|place| statements[*place].versions.iter().copied()).collect();
            members.sort_unstable();
            planned(group, members, *label)
        })
        .collect();
    Plan { legs, withdrawn: labels.withdrawn, renumbered: labels.renumbered, collision }
}

/// The row that holds a statement: all its versions are in one row, a new version follows the others.
fn holder(group: &[Held], statement: &legs::Statement) -> Option<u32> {
    statement.versions.iter().find_map(|place| group[*place].label)
}

fn planned(group: &[Held], members: Vec<usize>, label: u32) -> PlannedLeg {
    let folded: Vec<(&Leg, [u8; 16])> = members
        .iter()
        .map(|place| (&group[*place].version.leg, group[*place].version.version_hash))
        .collect();
    let top = ranked(&folded).first().map_or(0, |place| members[*place]);
    let first = members.iter().copied().min_by_key(|place| group[*place].order).unwrap_or(top);
    PlannedLeg { label, cdr: fold(&folded), top, first, versions: members }
}
