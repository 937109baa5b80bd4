//! Says how far the writer has come with something that may take minutes: nobody else can, because nothing of it can be
//! seen before it ends.

use std::time::{Duration, Instant};

/// How often a line is said.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Steps after which the clock is looked at.
const STEPS: u64 = 256;

/// Counts steps.
#[derive(Debug)]
pub struct Pace {
    what: &'static str,
    done: u64,
    said: Instant,
}

impl Pace {
    /// Begins to count what is done.
    pub fn new(what: &'static str) -> Self {
        Self { what, done: 0, said: Instant::now() }
    }

    /// Another one is done; says a line every few seconds.
    pub fn step(&mut self) {
        self.done += 1;
        crate::pulse::beat();
        if self.done.is_multiple_of(STEPS) && self.due(Instant::now()) {
            tracing::info!("{}: {} so far; readers see the table as it was", self.what, self.done);
        }
    }

    fn due(&mut self, now: Instant) -> bool {
        let due = now.duration_since(self.said) >= LINE_EVERY;
        if due {
            self.said = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_every_few_seconds() {
        let mut pace = Pace::new("anything");
        let began = pace.said;
        let due: Vec<bool> =
            [4, 5, 9, 10, 30, 31].map(|second| pace.due(began + Duration::from_secs(second))).into();
        assert_eq!(due, [false, true, false, true, true, false]);
    }
}
