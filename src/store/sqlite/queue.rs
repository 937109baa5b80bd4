//! The way to the writer: a lane for what is small and one for bulk work, which gives way.
//!
//! What one thread hands over is taken in that order. Must never let one lane stand still because the other is full, and
//! must never keep what nobody will take any more: whoever waits for it would wait for ever.

use super::writer::Command;
use crate::pulse;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Commands of a lane on their way: enough to keep the writer busy, few enough to bound memory.
const LENGTH: usize = 8;
/// Commands that may pass waiting bulk work, one after another: a flood of small files must not stop a large one.
const PASS: u32 = 64;

/// Both lanes.
#[derive(Debug, Default)]
pub struct Queue {
    lanes: Mutex<Lanes>,
    filled: Condvar,
    taken: Condvar,
}

#[derive(Debug, Default)]
struct Lanes {
    small: VecDeque<Command>,
    bulk: VecDeque<Command>,
    passed: u32,
    closing: bool,
    gone: bool,
}

/// A lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits for a little.
    Small,
    /// Rows by the hundred thousand.
    Bulk,
}

/// What the writer is to do next.
#[derive(Debug)]
pub enum Next {
    /// This.
    Command(Lane, Command),
    /// Nothing came in time.
    Nothing,
    /// The queue was closed, and everything in it was taken.
    Closed,
}

impl Queue {
    /// Hands a command over; waits while the lane is full. When the writer has ended it is dropped, which tells whoever
    /// waits for its answer.
    pub fn push(&self, lane: Lane, command: Command) {
        let _waiting = pulse::waiting();
        let mut lanes = self.lanes();
        while !lanes.gone && lanes.of(lane).len() >= LENGTH {
            lanes = self.taken.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
        if !lanes.gone {
            lanes.of(lane).push_back(command);
            drop(lanes);
            self.filled.notify_one();
        }
    }

    /// Nothing more will come; what is in the queue is still taken.
    pub fn close(&self) {
        self.lanes().closing = true;
        self.filled.notify_one();
    }

    /// The end of the queue that the one writer holds.
    pub const fn taker(&self) -> Taker<'_> {
        Taker(self)
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    const fn of(&mut self, lane: Lane) -> &mut VecDeque<Command> {
        match lane {
            Lane::Small => &mut self.small,
            Lane::Bulk => &mut self.bulk,
        }
    }

    fn take(&mut self) -> Option<(Lane, Command)> {
        let first = if self.passed >= PASS { Lane::Bulk } else { Lane::Small };
        let lane = if self.of(first).is_empty() { first.other() } else { first };
        let command = self.of(lane).pop_front()?;
        let passes = lane == Lane::Small && !self.bulk.is_empty();
        self.passed = if passes { self.passed + 1 } else { 0 };
        Some((lane, command))
    }
}

impl Lane {
    const fn other(self) -> Self {
        match self {
            Self::Small => Self::Bulk,
            Self::Bulk => Self::Small,
        }
    }
}

/// Takes commands. When it goes, whoever waits is told so.
pub struct Taker<'q>(&'q Queue);

impl Taker<'_> {
    /// The next command; waits for it at most this long.
    pub fn take(&self, patience: Duration) -> Next {
        let mut lanes = self.0.lanes();
        let until = Instant::now() + patience;
        loop {
            if let Some((lane, command)) = lanes.take() {
                drop(lanes);
                // Threads may wait for room in either lane.
                self.0.taken.notify_all();
                return Next::Command(lane, command);
            }
            if lanes.closing {
                return Next::Closed;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Nothing;
            }
            let _waiting = pulse::waiting();
            lanes = self.0.filled.wait_timeout(lanes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Taker<'_> {
    fn drop(&mut self) {
        let mut lanes = self.0.lanes();
        lanes.gone = true;
        let left = (std::mem::take(&mut lanes.small), std::mem::take(&mut lanes.bulk));
        drop(lanes);
        self.0.taken.notify_all();
        // Dropping a command answers it, which must not happen under the lock.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(queue: &Queue, many: usize) -> Vec<Lane> {
        let taker = queue.taker();
        let lane = |next| match next {
            Next::Command(lane, _) => Some(lane),
            Next::Nothing | Next::Closed => None,
        };
        (0..many).filter_map(|_| lane(taker.take(Duration::ZERO))).collect()
    }

    #[test]
    fn small_work_passes_bulk_work() {
        let queue = Queue::default();
        (0..3).for_each(|_| queue.push(Lane::Bulk, Command::Hurry));
        queue.push(Lane::Small, Command::Hurry);
        assert_eq!(places(&queue, 9), [Lane::Small, Lane::Bulk, Lane::Bulk, Lane::Bulk]);
    }

    #[test]
    fn a_flood_of_small_work_leaves_bulk_work_its_turns() {
        let queue = Queue::default();
        queue.push(Lane::Bulk, Command::Hurry);
        let taker = queue.taker();
        let mut before = 0;
        loop {
            queue.push(Lane::Small, Command::Hurry);
            match taker.take(Duration::ZERO) {
                Next::Command(Lane::Small, _) => before += 1,
                _ => break,
            }
        }
        assert_eq!(before, PASS);
    }

    #[test]
    fn what_waits_is_taken_before_the_end() {
        let queue = Queue::default();
        queue.push(Lane::Bulk, Command::Hurry);
        queue.close();
        let taker = queue.taker();
        assert!(matches!(taker.take(Duration::ZERO), Next::Command(Lane::Bulk, Command::Hurry)));
        assert!(matches!(taker.take(Duration::from_hours(1)), Next::Closed));
    }

    #[test]
    fn a_full_lane_stops_its_own_senders_alone_and_an_end_frees_them() {
        let queue = Queue::default();
        let taker = queue.taker();
        (0..LENGTH).for_each(|_| queue.push(Lane::Bulk, Command::Hurry));
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| queue.push(Lane::Bulk, Command::Hurry));
            queue.push(Lane::Small, Command::Hurry);
            assert!(!blocked.is_finished(), "the lane is full");
            drop(taker);
        });
    }
}
