//! Follows Cilium's agent over its Unix socket: whether it runs, and its version (`GET /v1/healthz` of its REST API, Cilium 1.12 to 1.20).

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    Request, Uri,
    body::Bytes,
    client::conn::http1,
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::{net::UnixStream, sync::watch, time};
use tracing::{debug, info, warn};
use vtep_core::{
    node::{
        cilium_agent::{AgentState, Attempt, CiliumAgent},
        version::CiliumVersion,
    },
    types::error_chain::chain,
};

use crate::together;

/// The socket's name in Cilium's run directory.
const SOCKET: &str = "cilium.sock";
/// The interval of attempts to connect. Only a new socket causes a request.
const INTERVAL: Duration = Duration::from_secs(5);
/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum length of an answer. A brief one has a few hundred bytes; releases without `brief` list all controllers, some 100 KB.
const LIMIT: usize = 1 << 20;

/// The socket of Cilium's agent.
#[derive(Clone, Debug)]
pub struct AgentSocket {
    path: PathBuf,
    /// The version in `--cilium-version`, which nobody asks for then.
    configured: Option<CiliumVersion>,
}

#[derive(Debug, thiserror::Error)]
pub enum AgentApiError {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("it does not speak HTTP")]
    Http(#[from] hyper::Error),
    #[error("its answer broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("its answer has more than {LIMIT} bytes, the limit")]
    TooLong,
    #[error("its answer is not the status of a Cilium agent")]
    Shape(#[from] serde_json::Error),
    #[error("its status names no version: {0:?}")]
    NoVersion(String),
    #[error("it does not answer")]
    Timeout,
}

/// The used fields of `StatusResponse` in Cilium's `api/v1/openapi.yaml`.
#[derive(Deserialize)]
struct StatusResponse {
    cilium: Component,
}

#[derive(Deserialize)]
struct Component {
    /// The version, `1.18.3 (v1.18.3-c6a7b1f2)`, followed by Cilium's problems if it has any.
    msg: String,
}

/// Identifies a socket file: (device, inode, time of change). A restarted Cilium creates a new file at the same path.
type SocketId = (u64, u64, i64, i64);

impl AgentSocket {
    #[must_use]
    pub fn new(configured: Option<CiliumVersion>, cilium_run: &Path) -> Self {
        Self { path: cilium_run.join(SOCKET), configured }
    }

    /// Reads version and state once.
    pub async fn read(&self) -> CiliumAgent {
        let version = match self.configured {
            Some(configured) => Some(configured),
            None => ask(&self.path).await.ok(),
        };
        CiliumAgent { version, state: AgentState::default().after(attempt(&self.path).await, Timestamp::now()) }
    }

    /// Keeps `agent` current until its receivers are dropped. While Cilium's agent does not run, the last version remains, because it will
    /// probably return with it.
    pub async fn follow(self, agent: watch::Sender<CiliumAgent>) {
        let Self { path: socket, configured } = self;
        agent.send_modify(|agent| agent.version = configured);
        let (mut asked, mut warned_of) = (None, None);
        while !agent.is_closed() {
            let known = agent.borrow().state;
            let state = known.after(attempt(&socket).await, Timestamp::now());
            if state != known {
                log_change(known, state);
                agent.send_modify(|agent| agent.state = state);
            }
            let found = socket_id(&socket).filter(|_| configured.is_none() && state == AgentState::Running);
            if found.is_some() && found != asked {
                match ask(&socket).await {
                    Ok(answer) => {
                        asked = found;
                        let changed = agent.send_if_modified(|agent| agent.version.replace(answer) != Some(answer));
                        if changed {
                            info!(cilium_version = %answer, "this node's Cilium");
                        }
                    }
                    // Unlike the errors below, a starting Cilium does not explain this one: log it once for each socket, and retry.
                    Err(AgentApiError::TooLong) if warned_of != found => {
                        warned_of = found;
                        let error = AgentApiError::TooLong;
                        warn!(socket = %socket.display(), %error, "cannot ask Cilium for its version");
                    }
                    // These errors are normal while Cilium starts.
                    Err(error) => {
                        debug!(socket = %socket.display(), error = %chain(&error), "no version of Cilium yet");
                    }
                }
            }
            time::sleep_until(together::next(INTERVAL).into()).await;
        }
    }
}

/// Tries to connect, and asks nothing.
async fn attempt(socket: &Path) -> Attempt {
    match time::timeout(TIMEOUT, UnixStream::connect(socket)).await {
        Ok(Ok(_)) => Attempt::Accepted,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Attempt::Refused,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Attempt::Absent,
        // Among others, a full queue: then it runs, and does not accept.
        Ok(Err(_)) | Err(_) => Attempt::Prevented,
    }
}

fn log_change(before: AgentState, now: AgentState) {
    match (before, now) {
        (_, AgentState::NotRunning { .. }) => {
            warn!("Cilium's agent does not run on this node; its programs and maps work on, and nothing is reconciled");
        }
        (AgentState::NotRunning { since }, AgentState::Running) => info!(%since, "Cilium's agent runs again"),
        (AgentState::Unknown | AgentState::Running, AgentState::Running) | (_, AgentState::Unknown) => {}
    }
}

fn socket_id(path: &Path) -> Option<SocketId> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

fn body_error(error: Box<dyn std::error::Error + Send + Sync>) -> AgentApiError {
    if error.is::<LengthLimitError>() { AgentApiError::TooLong } else { AgentApiError::Body(error) }
}

async fn ask(socket: &Path) -> Result<CiliumVersion, AgentApiError> {
    time::timeout(TIMEOUT, get_version(socket)).await.unwrap_or(Err(AgentApiError::Timeout))
}

async fn get_version(socket: &Path) -> Result<CiliumVersion, AgentApiError> {
    let stream = UnixStream::connect(socket).await.map_err(AgentApiError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The connection ends with the request, and the request returns its errors.
    tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::from_static("/v1/healthz");
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    request.headers_mut().insert("brief", HeaderValue::from_static("true"));
    // An unhealthy Cilium answers 503 with the same body, so the status code does not matter.
    let answer = sender.send_request(request).await?;
    let body = Limited::new(answer.into_body(), LIMIT).collect().await.map_err(body_error)?.to_bytes();
    let StatusResponse { cilium: Component { msg } } = serde_json::from_slice(&body)?;
    CiliumVersion::find(&msg).ok_or(AgentApiError::NoVersion(msg))
}
