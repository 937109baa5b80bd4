//! Paging through one window: until a page is not full. A far side that gives the same page again is asked once more, and
//! then for half of the time: what cannot be paged through is cut until it fits on one page.

use super::cycle::door;
use super::place::{Found, Window};
use super::{Ask, By, Page, Poller, System, Trouble};
use crate::crash_point;
use crate::intake::{Bookmark, RunTally};
use crate::pulse;
use crate::record::delivery::{Body, Delivery};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// A window is not cut further.
const SHORTEST: SignedDuration = SignedDuration::from_secs(2);
/// Pages of a window; more are not believed.
const MOST_PAGES: usize = 1000;
/// Legs that are remembered as handed over: 10 MiB at most.
const REMEMBERED: usize = 200_000;

/// How the paging of one stretch of time ended.
enum Paged {
    /// All of it is read.
    Whole,
    /// It must be cut.
    TooMany,
}

impl<S: System> Poller<S> {
    /// Reads a window. `behind` gives the bookmark that moves with its last page.
    #[expect(
        clippy::too_many_arguments,
        reason = "a window, how it is read, what it showed and what moves with it"
    )]
    pub(super) fn read(
        &mut self,
        window: &Window,
        by: By,
        again: bool,
        read_to: Option<Timestamp>,
        tally: &mut RunTally,
        found: &mut Found,
        behind: &mut dyn FnMut(&Self, &Found) -> Option<Bookmark>,
        stop: &AtomicBool,
    ) -> Result<(), Trouble> {
        // The oldest on top.
        let mut stretches = vec![(window.from, window.to)];
        while let Some((from, to)) = stretches.pop() {
            let last = stretches.is_empty();
            let mut moves = |poller: &Self, found: &Found| if last { behind(poller, found) } else { None };
            let ask = Ask { from, to, by, offset: 0, count: self.config.page_size };
            match self.page_through(ask, again, read_to, tally, found, &mut moves, stop)? {
                Paged::Whole => {}
                Paged::TooMany => {
                    let half = to.duration_since(from) / 2;
                    if half < SHORTEST {
                        return Err(Trouble::person(format!(
                            "the device gives the same page of calls again and again, also for the two seconds from {from:.0} \
                             on; its firmware cannot be paged through there: export that time as CSV and import it"
                        )));
                    }
                    let middle = from.checked_add(half).unwrap_or(to);
                    stretches.push((middle, to));
                    stretches.push((from, middle));
                }
            }
        }
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a window, how it is read, what it showed and what moves with it"
    )]
    fn page_through(
        &mut self,
        mut ask: Ask,
        again: bool,
        read_to: Option<Timestamp>,
        tally: &mut RunTally,
        found: &mut Found,
        moves: &mut dyn FnMut(&Self, &Found) -> Option<Bookmark>,
        stop: &AtomicBool,
    ) -> Result<Paged, Trouble> {
        let mut seen: HashSet<[u8; 16]> = HashSet::new();
        let mut repeated = false;
        for _ in 0..MOST_PAGES {
            if stop.load(Ordering::Relaxed) {
                return Err(Trouble::Stopping);
            }
            pulse::beat();
            let page = self.system.page(&ask, &mut tally.requests, stop)?;
            crash_point::reached("poll-answered");
            if let Some(clock) = page.clock {
                self.ahead = clock.duration_since(Timestamp::now());
            }
            let fresh = page.legs.iter().filter(|leg| seen.insert(leg.content)).count();
            // Behind a full page: the same page again, or nothing. Both are asked for once more; nothing twice is the end.
            if ask.offset > 0 && fresh == 0 && !(repeated && page.elements == 0) {
                if repeated {
                    return Ok(Paged::TooMany);
                }
                repeated = true;
                continue;
            }
            repeated = false;
            tally.pages += u64::from(page.elements > 0);
            found.pages += u64::from(page.elements > 0);
            page.legs.iter().for_each(|leg| found.see(leg, read_to));
            let (elements, full) = (page.elements, page.elements >= ask.count);
            let bookmark = if full { None } else { moves(self, found) };
            self.hand_over(page, &ask, again, bookmark, tally)?;
            if !full {
                return Ok(Paged::Whole);
            }
            ask.offset += elements;
        }
        Ok(Paged::TooMany)
    }

    /// Hands a page to the door, unless all of it went there before; and the bookmark in the same step.
    fn hand_over(
        &mut self,
        page: Page,
        ask: &Ask,
        again: bool,
        bookmark: Option<Bookmark>,
        tally: &mut RunTally,
    ) -> Result<(), Trouble> {
        let known = !again && page.legs.iter().all(|leg| self.delivered.contains(&leg.content));
        // Elements without a leg may be legs that this version does not know.
        let nothing = page.elements == 0 || (known && !page.legs.is_empty());
        if nothing && bookmark.is_none() {
            return Ok(());
        }
        let by = if ask.by == By::Start { "begun" } else { "ended" };
        let name = format!("calls {by} from {:.0}, {} on.json", ask.from, ask.offset);
        let delivery = (!nothing).then(|| Delivery {
            origin: self.config.origin.clone(),
            source: self.config.name.clone(),
            account: None,
            peer: Some(self.config.peer.clone()),
            name,
            received_at: Timestamp::now(),
            pinned_format: self.config.pinned_format.clone(),
            time_zone: None,
            reading: self.config.reading,
            body: Body::Bytes(page.body),
        });
        let receipts = self.intake.accept(delivery.into_iter().collect(), bookmark).map_err(door)?;
        receipts.into_iter().try_for_each(|receipt| receipt.map(|_| ()).map_err(door))?;
        crash_point::reached("poll-accepted");
        if !nothing {
            tally.records += u64::try_from(page.legs.len()).unwrap_or(0);
            if self.delivered.len() > REMEMBERED {
                self.delivered.clear();
            }
            self.delivered.extend(page.legs.iter().map(|leg| leg.content));
        }
        Ok(())
    }
}
