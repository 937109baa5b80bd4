//! The watch over the disks: what a fault left undone is done when the fault is over.
//!
//! Must never hold up receiving or storing: it looks, and removes what nobody needs.

use crate::intake::Intake;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(2);

/// Watches until told to stop.
pub fn watch(intake: &Intake, stop: &AtomicBool) {
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        crate::pulse::beat();
        if Instant::now() >= next {
            next = Instant::now() + EVERY;
            intake.remove_stuck();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
