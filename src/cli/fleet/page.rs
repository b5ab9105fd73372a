//! `vtep-agent fleet --listen`: the report as a page on this machine, and through it the page of each agent. Nothing of it runs in the
//! cluster; the requests have the rights of the person who started it.

mod proxy;

use std::{
    convert::Infallible,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, ensure};
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response, sse},
    routing::get,
};
use futures_util::{Stream, stream};
use jiff::Timestamp;
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    time,
};
use vtep_core::{
    fleet::{report::Report, selection::Selection},
    types::digest,
};

use super::PAUSE;
use crate::fleet::collect::{Fleet, Found};

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

static PAGE: LazyLock<String> = LazyLock::new(|| HTML.replace("/*style*/", STYLE).replace("/*script*/", SCRIPT));
/// Only the page's own script and style, and only its own server.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digest::base64(SCRIPT),
        digest::base64(STYLE)
    )
});

/// The last round.
#[derive(Default)]
struct Round {
    /// The report, or `{"error": …}`.
    json: Arc<str>,
    /// The agents, once they were found.
    found: Option<Arc<Found>>,
}

#[derive(Clone)]
struct Sources {
    rounds: watch::Receiver<Arc<Round>>,
    audience: Arc<Audience>,
}

/// Who looks at this page or at that of a node. While there is nobody, no agent is asked.
#[derive(Default)]
struct Audience {
    open: AtomicUsize,
    /// Somebody came.
    arrival: Notify,
}

impl Audience {
    /// Returns at once while somebody looks, or has looked since the last time.
    async fn wait(&self) {
        if self.open.load(Ordering::Relaxed) == 0 {
            self.arrival.notified().await;
        }
    }
}

/// Serves until Ctrl-C.
///
/// # Errors
///
/// The address is not this machine's loopback, or is in use.
pub(super) async fn serve(fleet: Fleet, selection: Selection, listen: SocketAddr) -> anyhow::Result<ExitCode> {
    ensure!(
        listen.ip().is_loopback(),
        "--listen {listen}: only a loopback address, such as 127.0.0.1:{}: whoever reaches the page has your rights",
        listen.port()
    );
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen at {listen}"))?;
    writeln!(io::stdout(), "http://{}/", listener.local_addr()?)?;
    let (sender, rounds) = watch::channel(Arc::new(Round { json: "null".into(), found: None }));
    let audience = Arc::new(Audience::default());
    let sources = Sources { rounds, audience: Arc::clone(&audience) };
    let server = axum::serve(listener, router(sources));
    tokio::select! {
        served = async { server.await } => served?,
        () = ask_again_and_again(&fleet, &selection, &sender, &audience) => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A round every five seconds while a page is open, and the first one at once.
async fn ask_again_and_again(
    fleet: &Fleet,
    selection: &Selection,
    sender: &watch::Sender<Arc<Round>>,
    audience: &Audience,
) {
    loop {
        let before = sender.borrow().found.clone();
        sender.send_replace(Arc::new(round(fleet, selection, before).await));
        time::sleep(PAUSE).await;
        audience.wait().await;
    }
}

/// If the agents are not found, they are where they were before: the page of a node may still be there.
async fn round(fleet: &Fleet, selection: &Selection, before: Option<Arc<Found>>) -> Round {
    let (report, found) = match fleet.find().await {
        Err(error) => (Err(error.to_string()), before),
        Ok(found) => {
            let collected = fleet.collect(&found, selection, |_, _| {}).await;
            (Ok(Report::new(&collected, Timestamp::now())), Some(Arc::new(found)))
        }
    };
    let json = report.and_then(|report| serde_json::to_string(&report).map_err(|error| error.to_string()));
    let json = json.unwrap_or_else(|error| serde_json::json!({ "error": error }).to_string());
    Round { json: json.into(), found }
}

fn router(sources: Sources) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/fleet", get(fleet))
        .route("/events", get(events))
        .route("/nodes/{node}/", get(proxy::page))
        .route("/nodes/{node}/{*path}", get(proxy::part))
        .layer(middleware::from_fn(only_by_a_local_name))
        .with_state(sources)
}

/// A page of somebody else must not read this one under a name of its own that leads to 127.0.0.1.
async fn only_by_a_local_name(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let is_local = name == "localhost"
        || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if !is_local {
        return (StatusCode::MISDIRECTED_REQUEST, "this page is only for localhost\n").into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    response
}

async fn page() -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY.as_str())];
    (headers, PAGE.as_str()).into_response()
}

/// The report as JSON, `null` before the first round.
async fn fleet(State(sources): State<Sources>) -> Response {
    let json = Arc::clone(&sources.rounds.borrow().json);
    ([(header::CONTENT_TYPE, "application/json")], json.to_string()).into_response()
}

/// One of the audience, while its answer is open.
struct Watching(Arc<Audience>);

impl Watching {
    fn begin(audience: &Arc<Audience>) -> Self {
        audience.open.fetch_add(1, Ordering::Relaxed);
        audience.arrival.notify_one();
        Self(Arc::clone(audience))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The report after each round, as server-sent events.
async fn events(State(sources): State<Sources>) -> sse::Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let mut rounds = sources.rounds;
    rounds.mark_changed();
    let stream = stream::unfold((rounds, Watching::begin(&sources.audience)), |(mut rounds, watching)| async move {
        rounds.changed().await.ok()?;
        let json = Arc::clone(&rounds.borrow_and_update().json);
        Some((Ok(sse::Event::default().data(json)), (rounds, watching)))
    });
    sse::Sse::new(stream).keep_alive(sse::KeepAlive::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_its_policy_allows_its_script() {
        let (_, script) = PAGE.split_once("<script>").expect("a script");
        let (script, _) = script.split_once("</script>").expect("its end");
        assert!(POLICY.contains(&digest::base64(script)) && script.contains("function draw("));
        assert!(PAGE.contains(STYLE) && !PAGE.contains("/*style*/") && !PAGE.contains("/*script*/"));
    }
}
