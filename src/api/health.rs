//! `/api/health`: one word for all, and for each source its state, when rows last came, and how far storing is behind.

use super::Watched;
use crate::intake::{IntakeError, SourceHealth, SourceState};
use crate::record::disk::Trouble;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};

/// How bad it is; the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Ok,
    /// It may pass by itself.
    Yellow,
    /// A person must act.
    Red,
}

impl Status {
    const fn of(health: SourceHealth) -> Self {
        match health {
            SourceHealth::Ok => Self::Ok,
            SourceHealth::Retrying | SourceHealth::Off => Self::Yellow,
            SourceHealth::Late | SourceHealth::Stopped => Self::Red,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Yellow => "yellow",
            Self::Red => "red",
        }
    }
}

/// 200 unless it is red: then 503, so that a probe that reads nothing notices too.
pub fn answer(watched: &Watched, now: Timestamp) -> Result<Response, IntakeError> {
    let (states, waiting) = (watched.intake.source_states()?, watched.intake.waiting()?);
    let (free, reserve) = watched.intake.room()?;
    let troubles = (watched.troubles)();
    let level = |trouble: &Trouble| if trouble.red { Status::Red } else { Status::Yellow };
    let mut worst = troubles.iter().map(level).max().unwrap_or(Status::Ok);
    let tallies = (watched.tallies)();
    let stuck = |name: &str| tallies.iter().find(|tally| tally.source == name).map_or(0, |tally| tally.stuck);
    let configured = (watched.sources)();
    let mut sources = Vec::new();
    for name in &configured {
        let state = states.iter().find(|state| state.source == *name);
        let backlog = waiting.iter().find(|backlog| backlog.source == *name);
        // A source that has not looked yet is about to.
        let health = state.map_or(SourceHealth::Ok, crate::intake::SourceState::seen_whole);
        worst = worst.max(Status::of(health));
        sources.push(json!({
            "source": name,
            "state": health.word(),
            "message": state.map(|state| state.message.clone()).unwrap_or_default(),
            "since": state.map(|state| written(state.silent_since.unwrap_or(state.since))),
            "last_rows_at": state.map(|state| written(state.heard_at)),
            "waiting": backlog.map_or(0, |backlog| backlog.deliveries),
            "lag_s": backlog.map_or(0, |backlog| seconds_since(backlog.oldest, now)),
            "stuck": stuck(name),
        }));
    }
    // What an import or a source of an earlier configuration brought is stored like all else.
    for backlog in waiting.iter().filter(|backlog| !configured.contains(&backlog.source)) {
        sources.push(json!({
            "source": backlog.source,
            "state": SourceHealth::Off.word(),
            "message": "not in the configuration; what it brought before waits to be stored",
            "since": null,
            "last_rows_at": null,
            "waiting": backlog.deliveries,
            "lag_s": seconds_since(backlog.oldest, now),
            "stuck": stuck(&backlog.source),
        }));
    }
    let body: Value = json!({
        "status": worst.word(),
        "version": env!("CARGO_PKG_VERSION"),
        "cdr_poller": poller(&(watched.pollers)(), &states),
        "sources": sources,
        "troubles": troubles.iter().map(|trouble| json!({
            "status": level(trouble).word(),
            "message": trouble.message,
        })).collect::<Vec<_>>(),
        "disk": {"free_bytes": free, "reserve_bytes": reserve, "refusing": free < reserve},
    });
    let code = if worst == Status::Red { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    Ok((code, Json(body)).into_response())
}

/// Whether anything is polled: "active" while one of them is not stopped.
fn poller(pollers: &[String], states: &[SourceState]) -> &'static str {
    let stopped = |name: &String| {
        states.iter().any(|state| {
            state.source == *name && matches!(state.health, SourceHealth::Stopped | SourceHealth::Off)
        })
    };
    match pollers {
        [] => "none",
        pollers if pollers.iter().all(stopped) => "stopped",
        _ => "active",
    }
}

/// UTC, as RFC 3339 to the second.
fn written(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whole seconds; none if the clock was set back.
pub(super) fn seconds_since(at: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0)
}
