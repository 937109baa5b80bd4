//! HTTP, for programs that watch: `/api/health` and `/metrics`, on this host alone; and for those that may ask a poller to
//! look. Reads what intake knows, so that it answers while the database is down.
//!
//! Must never change anything but what a known token asks for, and never name a person, a telephone number or a file.

mod health;
mod metrics;
mod sync;

use crate::intake::{Intake, IntakeError};
use crate::record::disk::Trouble;
use crate::record::outcome::SourceTally;
use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// What answers are made of.
pub struct Watched {
    /// The door.
    pub intake: Intake,
    /// The configured sources.
    pub sources: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Those of them that are polled.
    pub pollers: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// What came of each source's deliveries since the start.
    pub tallies: Box<dyn Fn() -> Vec<SourceTally> + Send + Sync>,
    /// What ails the disks and the database.
    pub troubles: Box<dyn Fn() -> Vec<Trouble> + Send + Sync>,
}

/// Somebody listens.
pub struct Served {
    /// Where; it tells the port where 0 was asked for.
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    /// Listens no more.
    pub fn stop(self) {
        self.task.abort();
    }
}

/// Why nobody can ask.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for health and metrics: {cause}; free the port, or set listen in [http]")]
pub struct ApiError {
    address: SocketAddr,
    cause: std::io::Error,
}

/// Listens and answers until it is stopped or the runtime ends.
pub fn start(address: SocketAddr, watched: Watched, runtime: &Handle) -> Result<Served, ApiError> {
    let failed = |cause| ApiError { address, cause };
    let listener = runtime.block_on(TcpListener::bind(address)).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let watched = Arc::new(watched);
    let router = Router::new()
        .route(
            "/api/health",
            get({
                let watched = watched.clone();
                move || answer(watched, health::answer)
            }),
        )
        .route(
            "/api/sources/{name}/sync",
            post({
                let watched = watched.clone();
                move |Path(name): Path<String>, headers: HeaderMap, body: Bytes| {
                    asked(watched, Some(name), headers, body)
                }
            }),
        )
        .route(
            "/api/admin/sync-cdrs",
            post({
                let watched = watched.clone();
                move |headers: HeaderMap, body: Bytes| asked(watched, None, headers, body)
            }),
        )
        .route("/metrics", get(move || answer(watched, metrics::answer)));
    let task = runtime.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "nobody can ask for health and metrics any more; collecting goes on");
        }
    });
    Ok(Served { address: bound, task })
}

/// Intake blocks, hence a thread of its own for each question.
async fn answer(
    watched: Arc<Watched>,
    make: fn(&Watched, Timestamp) -> Result<Response, IntakeError>,
) -> Response {
    told(tokio::task::spawn_blocking(move || make(&watched, Timestamp::now())).await)
}

async fn asked(watched: Arc<Watched>, source: Option<String>, headers: HeaderMap, body: Bytes) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let asked = sync::Asked { source, authorization: authorization.map(str::to_owned), body: body.into() };
    told(tokio::task::spawn_blocking(move || sync::answer(&watched, &asked)).await)
}

fn told(answered: Result<Result<Response, IntakeError>, tokio::task::JoinError>) -> Response {
    match answered {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => failed(&error.to_string()),
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(message: &str) -> Response {
    let text = serde_json::json!({"status": "red", "message": message}).to_string();
    (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
