//! Leg numbers: labels that rows keep while legs merge and split. They carry no meaning; nothing may depend on them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The number of each leg, the numbers of rows that lost all their statements, and the number that was given up so
/// that the group has a leg 0.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Labels {
    pub of_leg: Vec<u32>,
    pub withdrawn: Vec<u32>,
    pub renumbered: Option<(u32, u32)>,
}

/// `holders[leg]` lists, per statement of the leg, the number of the row that holds it now (`None`: it is new).
/// `highest` is the highest number the group ever gave while it had a leg.
pub(super) fn assign(holders: &[Vec<Option<u32>>], live: &[u32], highest: Option<u32>) -> Labels {
    let mut claims: Vec<(Reverse<usize>, u32, usize)> = Vec::new();
    for (leg, statements) in holders.iter().enumerate() {
        let mut shared: BTreeMap<u32, usize> = BTreeMap::new();
        for label in statements.iter().flatten() {
            *shared.entry(*label).or_default() += 1;
        }
        claims.extend(shared.into_iter().map(|(label, shared)| (Reverse(shared), label, leg)));
    }
    claims.sort_unstable();
    let mut of_leg: Vec<Option<u32>> = vec![None; holders.len()];
    let mut kept: BTreeSet<u32> = BTreeSet::new();
    for (_, label, leg) in claims {
        if of_leg[leg].is_none() && kept.insert(label) {
            of_leg[leg] = Some(label);
        }
    }
    let mut next = highest.filter(|_| !live.is_empty()).map_or(0, |label| label + 1);
    let mut of_leg: Vec<u32> = of_leg
        .into_iter()
        .map(|label| {
            label.unwrap_or_else(|| {
                next += 1;
                next - 1
            })
        })
        .collect();
    let mut withdrawn: Vec<u32> = live.iter().copied().filter(|label| !kept.contains(label)).collect();
    withdrawn.sort_unstable();
    let lowest = of_leg.iter().copied().enumerate().min_by_key(|(_, label)| *label);
    let mut renumbered = None;
    if let Some((leg, label)) = lowest.filter(|(_, label)| *label != 0) {
        of_leg[leg] = 0;
        renumbered = Some((label, 0));
    }
    Labels { of_leg, withdrawn, renumbered }
}
