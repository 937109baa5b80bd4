//! The in-memory reference store: what every real store must end in, said in the fewest words. It recomputes whole
//! groups and all calls; it is for tests and must never be fast.

use super::calls::{call_groups, links};
use super::identity::{Identified, Identifier, Key};
use super::plan::{Held, PlannedLeg, plan};
use crate::record::cdr::{Cdr, TextColumn};
use crate::record::document::RowKind;
use crate::record::port::Derive;
use std::collections::{BTreeMap, BTreeSet};

/// How a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It added at least one leg.
    Stored,
    /// Known, or says nothing new.
    Duplicate,
    /// Says something new about a known leg.
    Amended,
    /// A summary whose call has a leg.
    Skipped,
}

/// A visible row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of table cdr")]
pub struct OracleRow {
    pub origin: String,
    pub format: &'static str,
    pub system: &'static str,
    pub call_group: String,
    pub call_head: bool,
    pub key: Key,
    pub leg: u32,
    pub version_hash: [u8; 16],
    pub cdr: Cdr,
}

/// Where a version was stated first.
#[derive(Debug)]
struct About {
    source: String,
    document: usize,
}

#[derive(Debug, Default)]
struct Group {
    held: Vec<Held>,
    about: Vec<About>,
    legs: Vec<PlannedLeg>,
    highest: Option<u32>,
}

/// The reference store.
#[derive(Debug, Default)]
pub struct Oracle {
    groups: BTreeMap<(String, Key), Group>,
    stored: u64,
    document: usize,
    /// Rows ever added minus rows ever withdrawn; equals the rows visible.
    balance: i64,
}

impl Oracle {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says of which document the rows are that are stored from now on.
    pub const fn open(&mut self, document: usize) {
        self.document = document;
    }

    /// Stores one row. The origin's key is its name.
    pub fn store(&mut self, origin: &str, source: &str, row: Identified) -> Outcome {
        let kind = row.leg.raw.layout.kind;
        let session = row.leg.cdr.text.get(TextColumn::LinkedId).trim().to_owned();
        if kind == RowKind::Summary && self.has_leg_of(origin, &session) {
            return Outcome::Skipped;
        }
        self.stored += 1;
        let order = self.stored;
        let group = self.groups.entry((origin.to_owned(), row.key)).or_default();
        if group.held.iter().any(|held| held.version.version_hash == row.version_hash) {
            return Outcome::Duplicate;
        }
        let before = group.contents();
        group.held.push(Held { version: row, label: None, order });
        group.about.push(About { source: source.to_owned(), document: self.document });
        let added = group.replan(&mut self.balance);
        let changed = added > 0 || group.contents() != before;
        if kind == RowKind::Leg && !session.is_empty() {
            self.drop_summaries(origin, &session);
        }
        match (added > 0, changed) {
            (true, _) => Outcome::Stored,
            (false, true) => Outcome::Amended,
            (false, false) => Outcome::Duplicate,
        }
    }

    fn has_leg_of(&self, origin: &str, session: &str) -> bool {
        let mut versions =
            self.groups.iter().filter(|((name, _), _)| name == origin).flat_map(|(_, g)| &g.held);
        !session.is_empty()
            && versions.any(|held| {
                let leg = &held.version.leg;
                leg.raw.layout.kind == RowKind::Leg
                    && leg.cdr.text.get(TextColumn::LinkedId).trim() == session
            })
    }

    fn drop_summaries(&mut self, origin: &str, session: &str) {
        for ((name, _), group) in &mut self.groups {
            let is_summary = |held: &Held| {
                let leg = &held.version.leg;
                leg.raw.layout.kind == RowKind::Summary
                    && leg.cdr.text.get(TextColumn::LinkedId).trim() == session
            };
            if name != origin || !group.held.iter().any(is_summary) {
                continue;
            }
            group.keep(&mut self.balance, |held, _| !is_summary(held));
        }
        self.groups.retain(|_, group| !group.held.is_empty());
    }

    /// Withdraws what was first stated by these documents. Whoever else stated it too must be read again, and what was
    /// skipped or gave way because of it: see [`super::reach`].
    pub fn withdraw(&mut self, documents: &BTreeSet<usize>) {
        for group in self.groups.values_mut() {
            if group.about.iter().any(|about| documents.contains(&about.document)) {
                group.keep(&mut self.balance, |_, about| !documents.contains(&about.document));
            }
        }
        self.groups.retain(|_, group| !group.held.is_empty());
    }

    /// Derives every version of an origin again; keys and rows stay.
    pub fn rederive(&mut self, origin: &str, derive: &dyn Derive) {
        for ((name, _), group) in self.groups.iter_mut().filter(|((name, _), _)| name == origin) {
            for (held, about) in group.held.iter_mut().zip(&group.about) {
                let copy = held.version.copy;
                if let Ok(leg) = derive.derive(held.version.leg.raw.clone(), name, &about.source) {
                    held.version = Identifier::identify_again(name, leg, copy);
                }
            }
            group.replan(&mut self.balance);
        }
    }

    /// All rows, in the order of their keys.
    pub fn rows(&self) -> Vec<OracleRow> {
        let mut rows = Vec::new();
        for ((origin, key), group) in &self.groups {
            for leg in &group.legs {
                let top = &group.held[leg.top].version;
                let card = top.leg.raw.layout.card;
                let identity = format!("{:032x}", u128::from_be_bytes(key.identity));
                rows.push((
                    card,
                    OracleRow {
                        origin: origin.clone(),
                        format: card.id,
                        system: card.system,
                        call_group: identity,
                        call_head: false,
                        key: *key,
                        leg: leg.label,
                        version_hash: top.version_hash,
                        cdr: leg.cdr.clone(),
                    },
                ));
            }
        }
        let origins: BTreeSet<String> = rows.iter().map(|(_, row)| row.origin.clone()).collect();
        for origin in origins {
            let of_origin: Vec<usize> =
                (0..rows.len()).filter(|place| rows[*place].1.origin == origin).collect();
            let groups = call_groups(
                &of_origin.iter().map(|place| links(rows[*place].0, &rows[*place].1.cdr)).collect::<Vec<_>>(),
            );
            for (place, group) in of_origin.into_iter().zip(groups) {
                if let Some(group) = group {
                    rows[place].1.call_group = group;
                }
            }
        }
        let mut rows: Vec<OracleRow> = rows.into_iter().map(|(_, row)| row).collect();
        let mut heads: BTreeMap<(String, String), usize> = BTreeMap::new();
        for (place, row) in rows.iter().enumerate() {
            let head = heads.entry((row.origin.clone(), row.call_group.clone())).or_insert(place);
            if row.precedence() < rows[*head].precedence() {
                *head = place;
            }
        }
        for head in heads.into_values() {
            rows[head].call_head = true;
        }
        rows
    }

    /// Invariants that hold after any history.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        let visible: usize = self.groups.values().map(|group| group.legs.len()).sum();
        assert_eq!(i64::try_from(visible).ok(), Some(self.balance), "legs added minus legs withdrawn");
        for group in self.groups.values() {
            let mut places: Vec<usize> = group.legs.iter().flat_map(|leg| leg.versions.clone()).collect();
            places.sort_unstable();
            assert_eq!(
                places,
                (0..group.held.len()).collect::<Vec<_>>(),
                "each version is in exactly one leg"
            );
            let labels = group.labels();
            assert_eq!(
                labels.iter().collect::<BTreeSet<_>>().len(),
                labels.len(),
                "leg numbers are distinct"
            );
            assert!(labels.contains(&0), "a group that has a leg has leg 0");
        }
    }
}

impl OracleRow {
    /// Order in which the legs of a call are looked at for its head.
    fn precedence(&self) -> (i64, Key, [u8; 16]) {
        (self.cdr.started_at, self.key, self.version_hash)
    }
}

impl Group {
    fn labels(&self) -> Vec<u32> {
        self.legs.iter().map(|leg| leg.label).collect()
    }

    /// What each row of the group says, whatever its format.
    fn contents(&self) -> BTreeMap<u32, Cdr> {
        self.legs.iter().map(|leg| (leg.label, leg.cdr.clone())).collect()
    }

    /// Drops the other versions.
    fn keep(&mut self, balance: &mut i64, keep: impl Fn(&Held, &About) -> bool) {
        let live = self.labels();
        let pairs = std::mem::take(&mut self.held).into_iter().zip(std::mem::take(&mut self.about));
        (self.held, self.about) = pairs.filter(|(held, about)| keep(held, about)).unzip();
        self.replan_from(&live, balance);
    }

    fn replan(&mut self, balance: &mut i64) -> usize {
        let live = self.labels();
        self.replan_from(&live, balance)
    }

    /// Plans again; gives the number of legs added.
    fn replan_from(&mut self, live: &[u32], balance: &mut i64) -> usize {
        let planned = plan(&self.held, self.highest);
        let before = live.len();
        let withdrawn = live
            .iter()
            .filter(|label| {
                planned.withdrawn.contains(label) || !self.held.iter().any(|h| h.label == Some(**label))
            })
            .count();
        let added = planned.legs.len() + withdrawn - before;
        *balance += i64::try_from(planned.legs.len()).unwrap_or(0) - i64::try_from(before).unwrap_or(0);
        for leg in &planned.legs {
            self.highest = self.highest.max(Some(leg.label));
            for place in &leg.versions {
                self.held[*place].label = Some(leg.label);
            }
        }
        self.legs = planned.legs;
        if self.legs.is_empty() {
            self.highest = None;
        }
        added
    }
}
