//! The HTTP endpoints. GET only: nothing here changes state.
//!
//! - `health`: `/livez` and `/readyz` for the kubelet, `/healthz` for people
//! - `page`: the page at `/`, from memory
//! - `runbook`: the runbook at `/runbook`, from memory
//! - `metrics`: `/metrics`, in the format that the scraper asks for
//! - `/log`, the last lines of the log: from `crate::logging`
//! - `sse`: `/events`, the status as server-sent events
//! - `response_cache`: a cache for rendered responses
//! - `server`: the accept loop, and the limits of each connection

mod health;
pub mod metrics;
mod page;
mod response_cache;
mod runbook;
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
    response_cache::{Cache, Text},
};
use crate::{liveness::Liveness, logging::Recent, tasks::monitor::AgentState};

/// The state that the endpoints read.
pub struct Sources {
    state: AgentState,
    liveness: Liveness,
    history: watch::Receiver<Arc<History>>,
    log: Recent,
    live: sse::Live,
    status: Cache,
    prometheus: Cache,
    openmetrics: Cache,
}

impl Sources {
    #[must_use]
    pub fn new(state: AgentState, liveness: Liveness, history: watch::Receiver<Arc<History>>, log: Recent) -> Self {
        let [status, prometheus, openmetrics] = Default::default();
        Self { state, liveness, history, log, live: sse::Live::default(), status, prometheus, openmetrics }
    }

    /// The whole status as JSON.
    fn status(&self, max_age: Duration) -> serde_json::Result<Text> {
        self.status.get(max_age, || serde_json::to_string(&self.state.status()))
    }

    fn metrics(&self, format: Format) -> Result<Text, fmt::Error> {
        let cache = match format {
            Format::Prometheus => &self.prometheus,
            Format::OpenMetrics => &self.openmetrics,
        };
        cache.get(response_cache::MAX_AGE, || metrics::encode(self.state.status(), format))
    }
}

/// The running server.
pub struct Server(tokio::sync::oneshot::Receiver<()>);

/// Serves on a non-blocking listener until `stop` is true, or its sender is gone. The server has a thread of its own, so that no client
/// delays a probe or a repair.
///
/// # Errors
///
/// The thread cannot be started.
pub fn start(listener: TcpListener, sources: Sources, stop: watch::Receiver<bool>) -> io::Result<Server> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let (done, ended) = tokio::sync::oneshot::channel();
    thread::Builder::new().name("http".into()).spawn(move || {
        runtime.block_on(server::serve(listener, router(sources), stop));
        // The receiver may be gone already.
        let _ = done.send(());
    })?;
    Ok(Server(ended))
}

impl Server {
    /// Waits until every connection is closed.
    pub async fn ended(self) {
        // An error means that the thread is gone, which is an end, too.
        let _ = self.0.await;
    }
}

fn router(sources: Sources) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/runbook", get(runbook::runbook))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/healthz", get(health::healthz))
        .route("/status", get(status))
        .route("/events", get(sse::events))
        .route("/history", get(history))
        .route("/metrics", get(metrics))
        .route("/log", get(log))
        .layer(middleware::map_response(add_security_headers))
        .layer(middleware::map_response(yield_once))
        .with_state(Arc::new(sources))
}

/// A browser may only show a response, unless the page's own headers allow more.
///
/// The Host header is not checked: people reach an agent by a node's name, an address, a forwarded port or a proxy's path. Clients can
/// change nothing here, and read no secret.
async fn add_security_headers(mut response: Response) -> Response {
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

/// Lets the other connections run after each response, so that one with a hundred pipelined requests does not delay them.
async fn yield_once(response: Response) -> Response {
    task::yield_now().await;
    response
}

async fn status(State(sources): State<Arc<Sources>>) -> Response {
    rendered(sources.status(response_cache::MAX_AGE), "application/json")
}

async fn history(State(sources): State<Arc<Sources>>) -> Json<History> {
    Json(History::clone(&sources.history.borrow()))
}

async fn log(State(sources): State<Arc<Sources>>) -> String {
    sources.log.text()
}

async fn metrics(State(sources): State<Arc<Sources>>, headers: HeaderMap) -> Response {
    let format = Format::asked_by(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    rendered(sources.metrics(format), format.content_type())
}

fn rendered(text: Result<Text, impl fmt::Display>, content_type: &'static str) -> Response {
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, content_type)], Body::from(text)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
