//! What must be read again together. A statement remembers only the document that made it first; when that one is
//! withdrawn, whoever repeated it must be read again, or the statement would be lost.
//!
//! Must rather name a document too many than one too few.

use std::collections::{BTreeMap, BTreeSet};

/// Two documents may have read the same wall clock under zones that differ by so much, in seconds.
const ZONES_APART: i64 = 26 * 3600;

/// What a delivery was read to span; a delivery of several documents has several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span<D> {
    /// The delivery.
    pub delivery: D,
    /// Earliest start among its rows, seconds since 1970.
    pub first: i64,
    /// Latest start.
    pub last: i64,
    /// It made statements that are remembered of another document, or of none: duplicates, and summaries, which give
    /// way to legs.
    pub hides: bool,
}

/// The chosen deliveries with all that must be read again when they are: whoever hides statements and overlaps one that
/// is read again, until nothing is added.
pub fn reach<D: Clone + Ord>(chosen: &BTreeSet<D>, spans: &[Span<D>]) -> BTreeSet<D> {
    let mut of_delivery: BTreeMap<&D, Vec<&Span<D>>> = BTreeMap::new();
    for span in spans {
        of_delivery.entry(&span.delivery).or_default().push(span);
    }
    let mut reached: BTreeSet<D> = BTreeSet::new();
    let mut covered = Covered::default();
    let mut add = |delivery: &D, covered: &mut Covered| {
        let new = reached.insert(delivery.clone());
        if new {
            for span in of_delivery.get(delivery).into_iter().flatten() {
                covered.add(span.first - ZONES_APART, span.last + ZONES_APART);
            }
        }
        new
    };
    for delivery in chosen {
        add(delivery, &mut covered);
    }
    let mut hiding: Vec<&Span<D>> = spans.iter().filter(|span| span.hides).collect();
    hiding.sort_by_key(|span| span.first);
    // To and fro, so that a chain of overlaps is followed in one go either way.
    loop {
        let mut grown = false;
        for span in hiding.iter().chain(hiding.iter().rev()) {
            grown |= covered.meets(span.first, span.last) && add(&span.delivery, &mut covered);
        }
        if !grown {
            return reached;
        }
    }
}

/// Stretches of time that do not touch, in order.
#[derive(Debug, Default)]
struct Covered(Vec<(i64, i64)>);

impl Covered {
    fn add(&mut self, mut first: i64, mut last: i64) {
        let from = self.0.partition_point(|(_, end)| *end < first);
        let to = self.0.partition_point(|(begin, _)| *begin <= last);
        if let Some(met) = self.0.get(from..to).filter(|met| !met.is_empty()) {
            first = first.min(met[0].0);
            last = last.max(met[met.len() - 1].1);
        }
        self.0.splice(from..to.max(from), [(first, last)]);
    }

    fn meets(&self, first: i64, last: i64) -> bool {
        let place = self.0.partition_point(|(_, end)| *end < first);
        self.0.get(place).is_some_and(|(begin, _)| *begin <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;

    fn span(delivery: u8, first: i64, last: i64, hides: bool) -> Span<u8> {
        Span { delivery, first: first * DAY, last: last * DAY, hides }
    }

    #[test]
    fn only_who_hides_and_overlaps_is_reached_and_whoever_overlaps_that() {
        let spans = [
            span(1, 0, 1, false),
            span(2, 1, 5, true),
            span(3, 6, 9, true),
            span(4, 3, 4, false),
            span(5, 12, 13, true),
            // A delivery of two documents reaches on from the other one.
            span(6, 2, 2, true),
            span(6, 20, 21, false),
            span(7, 21, 30, true),
        ];
        assert_eq!(reach(&BTreeSet::from([1]), &spans), BTreeSet::from([1, 2, 3, 6, 7]));
        assert_eq!(reach(&BTreeSet::from([5]), &spans), BTreeSet::from([5]));
        assert_eq!(reach(&BTreeSet::from([8]), &spans), BTreeSet::from([8]), "without a row");
    }

    proptest! {
        #[test]
        fn stretches_cover_what_was_added(
            added in prop::collection::vec((0..60i64, 0..8i64), 0..12),
            asked in (0..70i64, 0..8i64),
        ) {
            let mut covered = Covered::default();
            for (first, length) in &added {
                covered.add(*first, first + length);
            }
            let (first, last) = (asked.0, asked.0 + asked.1);
            let met = added.iter().any(|(begin, length)| *begin <= last && begin + length >= first);
            prop_assert_eq!(covered.meets(first, last), met);
            prop_assert!(covered.0.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
