//! The folder looked at for once, for `run --once`: what is finished is taken, what may still be written is given the
//! time that tells.

use super::append::Follower;
use super::{Folder, FolderError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How much longer than `settle` a file may keep changing before it is left for the next time.
const GRACE: Duration = Duration::from_secs(1);

impl Folder {
    /// Takes what is finished now or comes to rest within `settle`; gives the number of files taken.
    pub fn take_once(&mut self, stop: &AtomicBool) -> Result<usize, FolderError> {
        let deadline = Instant::now() + self.config.settle + GRACE;
        let mut accepted = 0;
        loop {
            let now = Instant::now();
            let look = self.look(now)?;
            accepted += look.accepted;
            if look.waiting == 0 || now >= deadline || stop.load(Ordering::Relaxed) {
                return Ok(accepted);
            }
            let next = look.next_look.min(deadline);
            rest_until(next, stop);
        }
    }
}

impl Follower {
    /// Hands over what is new in each file; a file that was rotated away is given the time that tells whether its writer
    /// is done with it.
    pub fn take_once(&mut self, stop: &AtomicBool) -> Result<(), FolderError> {
        let deadline = Instant::now() + self.settle() + GRACE;
        loop {
            let next = self.look(Instant::now())?;
            if next >= deadline || stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            rest_until(next, stop);
        }
    }
}

fn rest_until(next: Instant, stop: &AtomicBool) {
    while Instant::now() < next && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(next.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
    }
}
