//! Whose turn it is: deliveries are brought to their end side by side, and whatever reads stored rows again is alone,
//! because until its switch ends everything that is committed belongs to it.
//!
//! Must never keep the door shut: receiving takes no turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often somebody who waits looks whether to stop.
const SLICE: Duration = Duration::from_millis(100);

/// Turns.
#[derive(Debug, Default)]
pub struct Turns {
    taken: Mutex<Taken>,
    free: Condvar,
}

#[derive(Debug, Default)]
struct Taken {
    together: usize,
    alone: bool,
    /// Those who want to be alone go first: work comes all the time.
    wish: usize,
}

/// A turn, given back when dropped.
#[derive(Debug)]
pub struct Turn<'t> {
    turns: &'t Turns,
    alone: bool,
}

impl Turns {
    /// Waits for a turn beside others; `None` when told to stop.
    pub fn together(&self, stop: &AtomicBool) -> Option<Turn<'_>> {
        let mut taken = self.wait(stop, None, |taken| !taken.alone && taken.wish == 0)?;
        taken.together += 1;
        Some(Turn { turns: self, alone: false })
    }

    /// Waits until everything in hand has come to its end, and keeps the others waiting; `None` when told to stop.
    pub fn alone(&self, stop: &AtomicBool) -> Option<Turn<'_>> {
        self.alone_until(stop, None)
    }

    /// The same, waiting at most so long.
    pub fn alone_within(&self, stop: &AtomicBool, patience: Duration) -> Option<Turn<'_>> {
        self.alone_until(stop, Some(Instant::now() + patience))
    }

    fn alone_until(&self, stop: &AtomicBool, until: Option<Instant>) -> Option<Turn<'_>> {
        self.lock().wish += 1;
        let taken = self.wait(stop, until, |taken| !taken.alone && taken.together == 0);
        let turn = taken.map(|mut taken| {
            taken.alone = true;
            Turn { turns: self, alone: true }
        });
        // The guard went with the closure.
        self.lock().wish -= 1;
        if turn.is_none() {
            self.free.notify_all();
        }
        turn
    }

    fn wait(
        &self,
        stop: &AtomicBool,
        until: Option<Instant>,
        free: impl Fn(&Taken) -> bool,
    ) -> Option<MutexGuard<'_, Taken>> {
        let _waiting = crate::pulse::waiting();
        let mut taken = self.lock();
        loop {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            if free(&taken) {
                return Some(taken);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return None;
            }
            taken = self.free.wait_timeout(taken, SLICE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = self.turns.lock();
        if self.alone {
            taken.alone = false;
        } else {
            taken.together -= 1;
        }
        self.turns.free.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn who_is_alone_is_alone() {
        let (turns, go, stop) = (Turns::default(), AtomicBool::new(false), AtomicBool::new(true));
        let one = turns.together(&go);
        let two = turns.together(&go);
        assert!(one.is_some() && two.is_some(), "side by side");
        assert!(turns.alone(&stop).is_none(), "not while others work");
        drop((one, two));
        let alone = turns.alone(&go);
        assert!(alone.is_some() && turns.together(&stop).is_none());
        std::thread::scope(|scope| {
            let next = scope.spawn(|| turns.together(&go).is_some());
            drop(alone);
            assert!(next.join().expect("it does not panic"));
        });
    }
}
