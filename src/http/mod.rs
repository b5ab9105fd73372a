//! The HTTP endpoints. GET only: nothing here changes state.
//!
//! - `health`: what the kubelet and people ask: `/livez`, `/readyz`, `/healthz`
//! - `page`: the page at `/`, from memory
//! - `live`: `/events`, the status as it changes
//! - `text`: what is written once for all who ask at once
//! - `server`: the connections, and what each may cost

mod health;
pub mod metrics;
mod page;
mod response_cache;
mod server;
mod sse;

use std::{fmt, io, net::TcpListener, sync::Arc, thread, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{sync::watch, task};
use vtep_core::report::history::History;

use self::{
    metrics::Format,
    response_cache::{Shared, Text},
};
use crate::{liveness::Progress, tasks::monitor::Board};

/// What the endpoints read.
pub struct Sources {
    board: Board,
    progress: Progress,
    history: watch::Receiver<Arc<History>>,
    live: sse::Live,
    status: Shared,
    prometheus: Shared,
    openmetrics: Shared,
}

impl Sources {
    #[must_use]
    pub fn new(board: Board, progress: Progress, history: watch::Receiver<Arc<History>>) -> Self {
        let [status, prometheus, openmetrics] = Default::default();
        Self { board, progress, history, live: sse::Live::default(), status, prometheus, openmetrics }
    }

    /// The whole status as JSON.
    fn status(&self, not_older: Duration) -> serde_json::Result<Text> {
        self.status.get(not_older, || serde_json::to_string(&self.board.status()))
    }

    fn metrics(&self, format: Format) -> Result<Text, fmt::Error> {
        let shared = match format {
            Format::Prometheus => &self.prometheus,
            Format::OpenMetrics => &self.openmetrics,
        };
        shared.get(response_cache::MOMENT, || metrics::encode(self.board.status(), format))
    }
}

/// The running server.
pub struct Server(tokio::sync::oneshot::Receiver<()>);

/// Serves a listener that does not block until `stop` is true, or its sender is gone; on a thread of its own, so that no client delays a probe or a repair.
///
/// # Errors
///
/// When the system has no thread for it.
pub fn start(listener: TcpListener, sources: Sources, stop: watch::Receiver<bool>) -> io::Result<Server> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let (done, ended) = tokio::sync::oneshot::channel();
    thread::Builder::new().name("http".into()).spawn(move || {
        runtime.block_on(server::serve(listener, router(sources), stop));
        // Nobody may wait for it any more.
        let _ = done.send(());
    })?;
    Ok(Server(ended))
}

impl Server {
    /// When every connection has had its last word.
    pub async fn ended(self) {
        // A thread that is gone has ended, too.
        let _ = self.0.await;
    }
}

fn router(sources: Sources) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/healthz", get(health::healthz))
        .route("/status", get(status))
        .route("/events", get(sse::events))
        .route("/history", get(history))
        .route("/metrics", get(metrics))
        .layer(middleware::map_response(guarded))
        .layer(middleware::map_response(in_turn))
        .with_state(Arc::new(sources))
}

/// What a browser may do with any of it: nothing but show it, unless the page says more.
///
/// The Host header is not judged: people reach an agent by a node's name, an address, a forwarded port or a proxy's path. There is
/// nothing to change here, and nothing secret to read.
async fn guarded(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 3] = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// One answer at a time: who asks a hundred times at once on one connection waits behind everybody else.
async fn in_turn(response: Response) -> Response {
    task::yield_now().await;
    response
}

async fn status(State(sources): State<Arc<Sources>>) -> Response {
    written(sources.status(response_cache::MOMENT), "application/json")
}

async fn history(State(sources): State<Arc<Sources>>) -> Json<History> {
    Json(History::clone(&sources.history.borrow()))
}

async fn metrics(State(sources): State<Arc<Sources>>, headers: HeaderMap) -> Response {
    let format = Format::asked_by(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    written(sources.metrics(format), format.content_type())
}

fn written(text: Result<Text, impl fmt::Display>, content_type: &'static str) -> Response {
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, content_type)], Body::from(text)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
