//! `POST /api/sources/NAME/sync` and `POST /api/admin/sync-cdrs`: programs that may say when a poller is to look.
//!
//! Must never do anything without a token that is known, and never tell one without from the other.

use super::Watched;
use crate::intake::{IntakeError, SourceHealth};
use crate::record::delivery::printable;
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// What a program sends: nothing, or the time that is to be fetched again.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    /// Calls that began at or after; RFC 3339.
    from: Option<Timestamp>,
    /// Calls that began before.
    to: Option<Timestamp>,
}

/// A question as it came.
pub(super) struct Asked {
    /// One source; absent: all that are polled.
    pub source: Option<String>,
    /// The header.
    pub authorization: Option<String>,
    pub body: Vec<u8>,
}

/// 202 once the wish is durable; what comes of it is seen in health.
pub(super) fn answer(watched: &Watched, asked: &Asked) -> Result<Response, IntakeError> {
    let token = asked.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
    let known = match token {
        Some(token) => watched.intake.token_named(blake3::hash(token.trim().as_bytes()))?,
        None => None,
    };
    let Some(name) = known else {
        let refusal =
            refused(StatusCode::UNAUTHORIZED, "send Authorization: Bearer with a token of `cdrd token add`");
        return Ok(([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response());
    };
    let window = if asked.body.iter().all(u8::is_ascii_whitespace) {
        Ok(Window::default())
    } else {
        serde_json::from_slice::<Window>(&asked.body)
    };
    let like = "the body must be empty or like {\"from\": \"2025-03-01T00:00:00Z\", \"to\": \"2025-03-08T00:00:00Z\"}";
    let window = match window {
        Ok(Window { from: Some(from), to: Some(to) }) if from >= to => None,
        Ok(window) => Some(window),
        Err(_) => None,
    };
    let Some(window) = window else { return Ok(refused(StatusCode::BAD_REQUEST, like)) };
    let mut sources = (watched.pollers)();
    if let Some(source) = &asked.source {
        sources.retain(|known| known == source);
        if sources.is_empty() {
            return Ok(refused(StatusCode::NOT_FOUND, "no source of this name is polled"));
        }
    }
    // A program may ask again and again: what only a person may try again stays as it is.
    let mut stopped: Vec<Value> = Vec::new();
    for state in watched.intake.source_states()? {
        if state.health == SourceHealth::Stopped && sources.contains(&state.source) {
            sources.retain(|source| *source != state.source);
            stopped.push(json!({"source": state.source, "message": state.message}));
        }
    }
    let mut accepted: Vec<Value> = Vec::new();
    for source in sources {
        let wish = watched.intake.wish_sync(&source, window.from, window.to)?;
        tracing::info!(
            cdrd_source = source,
            "sync of source {source} asked for over HTTP by token {}",
            printable(name.as_bytes())
        );
        accepted.push(json!({"source": source, "wish": wish}));
    }
    let code =
        if accepted.is_empty() && !stopped.is_empty() { StatusCode::CONFLICT } else { StatusCode::ACCEPTED };
    Ok((code, Json(json!({"accepted": accepted, "stopped": stopped}))).into_response())
}

fn refused(code: StatusCode, message: &str) -> Response {
    (code, Json(json!({"message": message}))).into_response()
}
