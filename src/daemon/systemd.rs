//! What systemd is told: ready, reloading, stopping, and a line for `systemctl status`. Outside a unit nobody listens.

use super::control::{Current, current};
use super::works::Storing;
use crate::intake::SourceHealth;
use crate::pulse;
use sd_notify::NotifyState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the line is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// How often the thread looks whether to stop.
const SLICE: Duration = Duration::from_millis(500);

/// What the line says besides what the door knows.
#[derive(Debug, Default)]
pub(super) struct Said {
    refusal: Mutex<Option<String>>,
    /// It has to be said now.
    news: AtomicBool,
}

impl Said {
    /// Why the configuration as it is written does not run; `None`: it does.
    pub(super) fn set_refusal(&self, refusal: Option<String>) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        self.news.store(true, Ordering::Release);
    }
}

/// Tells systemd, if it listens.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

/// Says that the configuration is being read again.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// Keeps the text of `systemctl status` true: what is red, and what waits.
pub(super) fn tell_status(storing: &Current, said: &Said, stop: &AtomicBool) {
    let mut last = String::new();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        pulse::beat();
        if Instant::now() >= next || said.news.swap(false, Ordering::AcqRel) {
            next = Instant::now() + EVERY;
            let text = text(&current(storing), said);
            if text != last {
                notify(&[NotifyState::Status(&text)]);
                last = text;
            }
        }
        super::rest(next.saturating_duration_since(Instant::now()));
    }
}

/// Feeds the watchdog, which bites after `within`, while every thread comes round. Says once which does not.
pub(super) fn feed_watchdog(within: Duration, stop: &AtomicBool) {
    let mut listener = pulse::Listener::default();
    let mut said = false;
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            next = Instant::now() + within / 4;
            let late = listener.late(within / 4 * 3);
            if late.is_empty() {
                notify(&[NotifyState::Watchdog]);
            } else if !said {
                tracing::error!(
                    "{} does not come round any more; the watchdog is fed no longer and ends the process (nothing \
                     acknowledged is lost)",
                    late.join(", ")
                );
            }
            said = !late.is_empty();
        }
        std::thread::sleep(SLICE);
    }
}

fn text(storing: &Storing, said: &Said) -> String {
    let intake = &storing.intake;
    let mut parts = Vec::new();
    if let Some(refusal) = said.refusal.lock().unwrap_or_else(PoisonError::into_inner).as_deref() {
        let first = refusal.lines().next().unwrap_or_default();
        parts.push(format!("the configuration was not read again: {first}"));
    }
    parts.extend(super::disk::troubles(storing).into_iter().map(|trouble| trouble.message));
    let states = intake.source_states().unwrap_or_default();
    let red =
        states.iter().filter(|state| !matches!(state.seen_whole(), SourceHealth::Ok | SourceHealth::Off));
    parts.extend(
        red.map(|state| format!("{} is {}: {}", state.source, state.seen_whole().word(), state.message)),
    );
    if parts.is_empty() {
        parts.push("collecting".to_owned());
    }
    let waiting: u64 = intake.waiting().unwrap_or_default().iter().map(|backlog| backlog.deliveries).sum();
    if waiting > 0 {
        parts.push(format!("{waiting} deliveries wait to be stored"));
    }
    parts.join("; ")
}
