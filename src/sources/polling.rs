//! The frame of every poller: which window to ask for next, how to page through it, what to do when it goes wrong.
//!
//! Rests on the bookmark alone, which moves in the transaction that makes the last page of a window durable: whatever was
//! in hand when the process died is asked for again, and is known or stored then. Must never move a bookmark past what was
//! not read, never try again by itself what may lock an account out, and never go by our own clock where the far side's
//! rows tell the time.

mod cycle;
pub mod http;
mod pages;
mod place;
mod tls;

use crate::intake::{Intake, SourceHealth};
use crate::pulse;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// First rest after a failure; it doubles with each further one.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_mins(5);
/// How often a source that is stopped looks whether its credentials have changed.
const STOPPED_REST: Duration = Duration::from_secs(10);
/// A far side's clock that differs by more is worth saying.
const CLOCK_FAULT: SignedDuration = SignedDuration::from_mins(2);

/// A poller as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the source.
    pub name: String,
    /// Origin of what it brings.
    pub origin: String,
    /// Where it asks, as deliveries show it.
    pub peer: String,
    /// Rest between two cycles.
    pub every: Duration,
    /// How far back the first run reads.
    pub back: SignedDuration,
    /// How much of what was read is asked for again each time: rows may be written late.
    pub overlap: SignedDuration,
    /// Elements that one page may have.
    pub page_size: usize,
    /// Zone of the far side's wall clock, as far as is known.
    pub zone: TimeZone,
    /// Format that the configuration fixes.
    pub pinned_format: Option<String>,
    /// Hash of everything in the configuration that changes how its pages are read.
    pub reading: [u8; 16],
}

/// Which of a call's times must lie in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Its start.
    Start,
    /// Its end.
    End,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// From when on.
    pub from: Timestamp,
    /// Until when; both bounds count.
    pub to: Timestamp,
    /// Of which time.
    pub by: By,
    /// Elements to pass over.
    pub offset: usize,
    /// Elements at most.
    pub count: usize,
}

/// A leg, as far as asking goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// Its id.
    pub id: String,
    /// When it began; of two times that its wall clock may mean the earlier.
    pub start: Option<Timestamp>,
    /// When it ended, likewise.
    pub end: Option<Timestamp>,
    /// Hash of all that it says.
    pub content: [u8; 16],
}

/// What came.
#[derive(Debug)]
pub struct Page {
    /// As it came.
    pub body: Vec<u8>,
    /// What `offset` and `count` count.
    pub elements: usize,
    /// Its legs.
    pub legs: Vec<Leg>,
    /// The far side's clock, where it says it.
    pub clock: Option<Timestamp>,
}

/// Why nothing came. The words are ours: what a far side says may echo a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Passes by itself; not to be tried again before so long.
    #[error("{message}")]
    Passing {
        /// What it is.
        message: String,
        /// How long to wait at least.
        wait: Duration,
    },
    /// A person must act; trying again harms nobody.
    #[error("{message}")]
    Person {
        /// What it is and what to do.
        message: String,
    },
    /// Trying again by itself might lock the account out.
    #[error("{message}")]
    Refused {
        /// What it is and what to do.
        message: String,
        /// Log-ins that the far side still allows, where it says so.
        tries_left: Option<u64>,
    },
    /// Told to stop.
    #[error("stopped")]
    Stopping,
}

impl Trouble {
    /// One that passes.
    pub fn passing(message: impl Into<String>) -> Self {
        Self::Passing { message: message.into(), wait: Duration::ZERO }
    }

    /// One that a person mends.
    pub fn person(message: impl Into<String>) -> Self {
        Self::Person { message: message.into() }
    }
}

/// A kind of far side.
pub trait System {
    /// Fetches one page, logging in where that is needed. Counts each request.
    fn page(&mut self, ask: &Ask, requests: &mut u64, stop: &AtomicBool) -> Result<Page, Trouble>;

    /// A mark of the credentials as they are now, too short to find them from it; absent where they cannot be had.
    fn credentials(&self) -> Option<u16>;

    /// Ends its session, if that is quick.
    fn leave(&mut self);

    /// What is unsafe about it, for as long as it is so.
    fn warning(&self) -> Option<String> {
        None
    }
}

/// A poller.
pub struct Poller<S> {
    config: Config,
    intake: Intake,
    system: S,
    /// Legs that were handed to the door since the start: a page of nothing else need not be handed over again. Losing
    /// this costs reading them once more.
    delivered: HashSet<[u8; 16]>,
    /// Length of the windows in which a long time is caught up.
    slice: SignedDuration,
    /// How often in a row the far side has not shown what it had shown before.
    missing: u32,
    /// How far the far side's clock is ahead of ours.
    ahead: SignedDuration,
    failures: u32,
    wish_failures: u32,
}

impl<S: System> Poller<S> {
    /// One that hands its pages to this door.
    pub fn new(config: Config, intake: Intake, system: S) -> Self {
        Self {
            config,
            intake,
            system,
            delivered: HashSet::new(),
            slice: SignedDuration::from_hours(24),
            missing: 0,
            ahead: SignedDuration::ZERO,
            failures: 0,
            wish_failures: 0,
        }
    }

    /// Asks until `stop` is set: when the time has come, and when woken. A wake also starts a source again that was
    /// refused. Send one after setting `stop` to end it at once.
    pub fn run(mut self, stop: &Arc<AtomicBool>, wake: &Receiver<()>) {
        if let Some(warning) = self.system.warning() {
            tracing::warn!(cdrd_source = self.config.name, "{warning}");
        }
        let mut woken = false;
        while !stop.load(Ordering::Relaxed) {
            pulse::beat();
            let ended = self.cycle(woken, stop);
            let rest = self.tell(&ended);
            woken = !stop.load(Ordering::Relaxed) && Self::rest(rest, wake);
        }
        self.system.leave();
    }

    /// One cycle, for a process that ends after it.
    pub fn poll_once(mut self, stop: &AtomicBool) -> Result<(), Trouble> {
        let ended = self.cycle(false, stop);
        self.tell(&ended);
        self.system.leave();
        ended
    }

    /// The same because somebody asked for it: what was refused is tried again.
    pub fn poll_asked(mut self, stop: &AtomicBool) -> Result<(), Trouble> {
        let ended = self.cycle(true, stop);
        self.tell(&ended);
        self.system.leave();
        ended
    }

    /// Rests; whether it was woken.
    fn rest(long: Duration, wake: &Receiver<()>) -> bool {
        let _waiting = pulse::waiting();
        let woken = match wake.recv_timeout(long) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(long.min(FIRST_REST));
                false
            }
        };
        // One look answers all who woke it.
        while wake.try_recv().is_ok() {}
        woken
    }

    /// Says how it is, and gives how long to rest.
    fn tell(&mut self, ended: &Result<(), Trouble>) -> Duration {
        let (health, message, rest) = match ended {
            Err(Trouble::Stopping) => return Duration::ZERO,
            Ok(()) => {
                self.failures = 0;
                (SourceHealth::Ok, self.remarks(), between(self.config.every, 90, 110))
            }
            Err(trouble @ Trouble::Passing { wait, .. }) => {
                (SourceHealth::Retrying, trouble.to_string(), self.longer_rest().max(*wait))
            }
            Err(trouble @ Trouble::Person { .. }) => {
                (SourceHealth::Stopped, trouble.to_string(), self.longer_rest())
            }
            Err(trouble @ Trouble::Refused { tries_left, .. }) => {
                let left =
                    tries_left.map(|left| format!("; the device allows {left} more before it locks out"));
                (SourceHealth::Stopped, format!("{trouble}{}", left.unwrap_or_default()), STOPPED_REST)
            }
        };
        self.say(health, &message);
        rest
    }

    fn say(&self, health: SourceHealth, message: &str) {
        if let Err(error) = self.intake.set_source_state(&self.config.name, health, message) {
            tracing::warn!(cdrd_source = self.config.name, %error, "the state of the source could not be noted");
        }
    }

    fn longer_rest(&mut self) -> Duration {
        let doubled = FIRST_REST * 2_u32.pow(self.failures.min(10));
        self.failures += 1;
        between(doubled.min(LONGEST_REST), 50, 100)
    }

    /// What a person should know although all is well.
    fn remarks(&self) -> String {
        let mut remarks: Vec<String> = self.system.warning().into_iter().collect();
        if self.ahead.abs() > CLOCK_FAULT {
            let minutes = self.ahead.abs().as_mins();
            let way = if self.ahead.is_positive() { "ahead" } else { "behind" };
            remarks.push(format!("its clock is {minutes} min {way} of this host's: set NTP on the device"));
        }
        if let Ok(Some((from, to))) = self.intake.last_gap(&self.config.name) {
            remarks.push(format!(
                "calls between {from:.0} and {to:.0} may be missing, the device has deleted what it had shown: import its \
                 CSV of that time if there is one"
            ));
        }
        remarks.join("; ")
    }
}

/// A time between so many hundredths of this one: sources that failed together do not come back together.
fn between(long: Duration, least: u32, most: u32) -> Duration {
    let chance = u32::try_from(ulid::Ulid::new().random() % u128::from(most - least + 1)).unwrap_or(0);
    long * (least + chance) / 100
}

#[cfg(test)]
mod tests {
    use super::between;
    use std::time::Duration;

    #[test]
    fn a_rest_is_never_longer_or_shorter_than_its_bounds() {
        for _ in 0..1000 {
            let rest = between(Duration::from_secs(100), 50, 100);
            assert!((Duration::from_secs(50)..=Duration::from_secs(100)).contains(&rest), "{rest:?}");
        }
    }
}
