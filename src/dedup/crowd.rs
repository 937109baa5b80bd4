//! Large groups whose versions all have one layout: a thousand equal rows without ids, say. Each statement is a leg of
//! its own there, so that another row need not plan all of them anew.
//!
//! Must say nothing that `legs` would not say of the whole group.

use super::carried;
use super::identity::Identified;
use super::legs::{self, Statement};
use std::collections::{BTreeSet, HashMap, HashSet};

/// A group of one layout.
#[derive(Debug)]
pub struct Crowd {
    layout: [u8; 16],
    statements: HashSet<([u8; 16], u32)>,
    apart: Apart,
    highest: u32,
}

impl Crowd {
    /// The group as it stands; `highest` is the highest leg number it ever gave. `None` where it has several layouts.
    pub fn of(group: &[&Identified], highest: u32) -> Option<Self> {
        let layout = group.first()?.leg.raw.layout.hash;
        if group.iter().any(|version| version.leg.raw.layout.hash != layout) {
            return None;
        }
        let mut apart = Apart::default();
        let statements = legs::statements(group);
        let ids = statements.iter().filter_map(|statement| {
            let first = group.get(*statement.versions.first()?)?;
            apart.add(group, &[statement]);
            Some((carried::core(&first.leg), first.copy))
        });
        Some(Self { layout, statements: ids.collect(), apart, highest })
    }

    /// The number of the leg that this new version makes, where it makes one and leaves all others as they are.
    pub fn add(&mut self, row: &Identified) -> Option<u32> {
        let known = row.leg.raw.layout.hash != self.layout
            || !self.statements.insert((carried::core(&row.leg), row.copy));
        if known {
            return None;
        }
        self.apart
            .add_leg(carried::sure(&row.leg).is_some(), &carried::instance(&row.leg).into_iter().collect());
        self.highest += 1;
        Some(self.highest)
    }

    /// Whether legs are told apart by nothing better than exact or near fields or copies.
    pub const fn collides(&self) -> bool {
        self.apart.collides
    }
}

/// Notices legs that neither an id nor a channel tells apart, without comparing each with each.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// Two such legs were met.
    pub collides: bool,
    legs: usize,
    without_id: usize,
    without_channel: usize,
    without_both: usize,
    /// Legs of one channel alone, by it: all of them, and those without an id.
    channels: HashMap<String, (usize, usize)>,
}

impl Apart {
    /// Adds a leg by its statements.
    pub(super) fn add(&mut self, group: &[&Identified], statements: &[&Statement]) {
        let versions =
            || statements.iter().flat_map(|statement| &statement.versions).map(|place| &group[*place].leg);
        let channels = versions().filter_map(carried::instance).collect();
        self.add_leg(versions().any(|leg| carried::sure(leg).is_some()), &channels);
    }

    fn add_leg(&mut self, id: bool, channels: &BTreeSet<&str>) {
        // Each id is one leg, so that two ids are two. A leg of several channels differs from any leg that has one.
        let only = if channels.len() == 1 { channels.first() } else { None };
        let (same, same_without_id) =
            only.and_then(|channel| self.channels.get(*channel)).copied().unwrap_or_default();
        self.collides |= match (id, channels.is_empty()) {
            (false, true) => self.legs > 0,
            (false, false) => self.without_channel > 0 || same > 0,
            (true, true) => self.without_id > 0,
            (true, false) => self.without_both > 0 || same_without_id > 0,
        };
        self.legs += 1;
        self.without_id += usize::from(!id);
        self.without_channel += usize::from(channels.is_empty());
        self.without_both += usize::from(!id && channels.is_empty());
        if let Some(channel) = only {
            let (all, without_id) = self.channels.entry((*channel).to_owned()).or_default();
            *all += 1;
            *without_id += usize::from(!id);
        }
    }
}
