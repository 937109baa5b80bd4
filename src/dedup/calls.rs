//! Which legs are one call: connected components over the link values of the rows, named by their smallest value.

use crate::record::card::Card;
use crate::record::cdr::Cdr;
use std::collections::HashMap;

/// The link values of a row: (kind, value), blank ones left out.
pub type Links<'r> = Vec<(&'static str, &'r str)>;

/// The link values of a row that this card's format made.
pub fn links<'r>(card: &Card, cdr: &'r Cdr) -> Links<'r> {
    card.links
        .iter()
        .map(|link| (link.kind, cdr.text.get(link.column).trim()))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// The name of each row's call; `None` for a row without link values.
pub fn call_groups(rows: &[Links<'_>]) -> Vec<Option<String>> {
    let mut parent: Vec<usize> = (0..rows.len()).collect();
    let mut holder: HashMap<(&str, &str), usize> = HashMap::new();
    for (row, links) in rows.iter().enumerate() {
        for link in links {
            let other = *holder.entry(*link).or_insert(row);
            let (a, b) = (root(&mut parent, row), root(&mut parent, other));
            parent[a] = b;
        }
    }
    let mut smallest: HashMap<usize, &str> = HashMap::new();
    for (row, links) in rows.iter().enumerate() {
        let root = root(&mut parent, row);
        for (_, value) in links {
            let name = smallest.entry(root).or_insert(value);
            *name = (*name).min(value);
        }
    }
    (0..rows.len()).map(|row| smallest.get(&root(&mut parent, row)).map(|name| (*name).to_owned())).collect()
}

fn root(parent: &mut [usize], mut row: usize) -> usize {
    while parent[row] != row {
        parent[row] = parent[parent[row]];
        row = parent[row];
    }
    row
}
