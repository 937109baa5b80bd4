//! Who is let in: how many at once, and nobody who keeps guessing passwords.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures after which an address has to wait.
const MOST_FAILURES: u32 = 10;
/// Failures count together within this time.
const TOGETHER: Duration = Duration::from_mins(10);
/// How long it waits the first time; each time twice as long.
const FIRST_WAIT: Duration = Duration::from_mins(5);
const LONGEST_WAIT: Duration = Duration::from_hours(12);
/// Addresses that are remembered; more come only from somebody who has many.
const MOST_ADDRESSES: usize = 10_000;

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    /// Too many connections.
    Full,
    /// Too many from this address.
    Crowded,
    /// It failed too often.
    Waits,
}

/// Who is here and who failed.
#[derive(Debug)]
pub(super) struct Defence {
    most: usize,
    most_per_address: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Debug, Default)]
struct Address {
    open: usize,
    failures: u32,
    failed: Option<Instant>,
    waits: u32,
    until: Option<Instant>,
}

/// A connection that was let in, until it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    defence: Arc<Defence>,
    address: IpAddr,
}

impl Defence {
    pub fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_address, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in.
    pub fn admit(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Result<Admitted, Turned> {
        let address = network_of(peer);
        let mut state = self.state();
        if state.open >= self.most {
            return Err(Turned::Full);
        }
        if state.addresses.len() >= MOST_ADDRESSES {
            let idle = |known: &Address| known.open == 0 && known.until.is_none_or(|until| until <= now);
            state.addresses.retain(|_, known| !idle(known));
        }
        let known = state.addresses.entry(address).or_default();
        if known.until.is_some_and(|until| now < until) {
            return Err(Turned::Waits);
        }
        if known.open >= self.most_per_address {
            return Err(Turned::Crowded);
        }
        known.open += 1;
        state.open += 1;
        Ok(Admitted { defence: self.clone(), address })
    }

    /// Notes a log-in that failed. How long the address has to wait now, if it does.
    pub fn failed(&self, peer: IpAddr, now: Instant) -> Option<Duration> {
        let mut state = self.state();
        let known = state.addresses.entry(network_of(peer)).or_default();
        let together = known.failed.is_some_and(|failed| now.duration_since(failed) < TOGETHER);
        known.failures = if together { known.failures + 1 } else { 1 };
        known.failed = Some(now);
        if known.failures < MOST_FAILURES {
            return None;
        }
        let wait = FIRST_WAIT.saturating_mul(1 << known.waits.min(16)).min(LONGEST_WAIT);
        known.waits += 1;
        known.failures = 0;
        known.until = Some(now + wait);
        Some(wait)
    }

    /// Notes a log-in that succeeded: a person who mistyped is no enemy.
    pub fn succeeded(&self, peer: IpAddr) {
        if let Some(known) = self.state().addresses.get_mut(&network_of(peer)) {
            known.failures = 0;
            known.waits = 0;
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut state = self.defence.state();
        state.open -= 1;
        if let Some(known) = state.addresses.get_mut(&self.address) {
            known.open -= 1;
            if known.open == 0 && known.failed.is_none() {
                state.addresses.remove(&self.address);
            }
        }
    }
}

/// Who has one address of IPv6 has the other 2^64 beside it.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::{Defence, FIRST_WAIT, LONGEST_WAIT, MOST_FAILURES, TOGETHER, Turned};
    use std::net::IpAddr;
    use std::time::{Duration, Instant};

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn so_many_at_once_and_so_many_from_one_address() {
        let (defence, now) = (Defence::new(3, 2), Instant::now());
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let first = defence.admit(one, now).expect("there is room");
        let _second = defence.admit(one, now).expect("there is room");
        assert_eq!(defence.admit(one, now).err(), Some(Turned::Crowded));
        let _third = defence.admit(other, now).expect("there is room");
        assert_eq!(defence.admit(other, now).err(), Some(Turned::Full));
        drop(first);
        assert!(defence.admit(one, now).is_ok());
    }

    #[test]
    fn who_keeps_failing_waits_longer_and_longer_and_is_forgiven_when_it_succeeds() {
        let (defence, mut now) = (Defence::new(9, 9), Instant::now());
        let peer = address("2001:db8::1");
        let fail = |now| (0..MOST_FAILURES).filter_map(|_| defence.failed(peer, now)).collect::<Vec<_>>();
        assert_eq!(fail(now), [FIRST_WAIT]);
        assert_eq!(defence.admit(address("2001:db8::2"), now).err(), Some(Turned::Waits), "its neighbour");
        assert!(defence.admit(address("192.0.2.1"), now).is_ok());
        now += FIRST_WAIT;
        assert!(defence.admit(peer, now).is_ok());
        assert_eq!(fail(now), [FIRST_WAIT * 2]);
        for _ in 0..20 {
            now += LONGEST_WAIT;
            fail(now);
        }
        now += LONGEST_WAIT;
        assert_eq!(fail(now), [LONGEST_WAIT]);
        defence.succeeded(peer);
        assert_eq!(fail(now), [FIRST_WAIT]);
    }

    #[test]
    fn failures_far_apart_do_not_add_up() {
        let (defence, mut now) = (Defence::new(9, 9), Instant::now());
        for _ in 0..100 {
            assert_eq!(defence.failed(address("192.0.2.1"), now), None);
            now += TOGETHER + Duration::from_secs(1);
        }
    }
}
