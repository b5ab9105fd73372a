//! Cilium's own agent, asked for its version over its Unix socket (`GET /v1/healthz` of its REST API, Cilium 1.12 to 1.20).

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
use serde::Deserialize;
use tokio::{net::UnixStream, sync::watch, time};
use tracing::{debug, info, warn};
use vtep_core::{node::version::CiliumVersion, types::error_chain::chain};

/// Below Cilium's run directory.
const SOCKET: &str = "cilium.sock";
/// How often the socket is looked at; Cilium is asked only when it is another one.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long Cilium may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The brief answer has a few hundred bytes; releases that do not know `brief` list all their controllers, in some 100 KB.
const LIMIT: usize = 1 << 20;

/// Where Cilium's version is known from.
#[derive(Clone, Debug)]
pub enum VersionSource {
    /// `--cilium-version`.
    Told(CiliumVersion),
    /// Cilium's socket.
    Asked(PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub enum AgentApiError {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("it does not speak HTTP")]
    Http(#[from] hyper::Error),
    #[error("its answer broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("its answer has more than {LIMIT} bytes, the most that is read")]
    TooLong,
    #[error("its answer is not the status of a Cilium agent")]
    Shape(#[from] serde_json::Error),
    #[error("its status names no version: {0:?}")]
    NoVersion(String),
    #[error("it does not answer")]
    Timeout,
}

/// `StatusResponse` of Cilium's `api/v1/openapi.yaml`, as far as it matters here.
#[derive(Deserialize)]
struct StatusResponse {
    cilium: Component,
}

#[derive(Deserialize)]
struct Component {
    /// Begins with the version: `1.18.3 (v1.18.3-c6a7b1f2)`, and what is wrong behind it.
    msg: String,
}

/// A socket that Cilium made anew is another one, even at the same path: (device, inode, changed at).
type SocketId = (u64, u64, i64, i64);

impl VersionSource {
    #[must_use]
    pub fn new(told: Option<CiliumVersion>, cilium_run: &Path) -> Self {
        told.map_or_else(|| Self::Asked(cilium_run.join(SOCKET)), Self::Told)
    }

    /// One look; `None` where Cilium is not there or does not tell.
    pub async fn read(&self) -> Option<CiliumVersion> {
        match self {
            Self::Told(version) => Some(*version),
            Self::Asked(socket) => ask(socket).await.ok(),
        }
    }

    /// Keeps `version` current until its receivers are gone. What is known stays while Cilium is away: it may come back as it was.
    pub async fn follow(self, version: watch::Sender<Option<CiliumVersion>>) {
        let socket = match self {
            Self::Told(told) => {
                version.send_replace(Some(told));
                return;
            }
            Self::Asked(socket) => socket,
        };
        let (mut asked, mut told_of) = (None, None);
        while !version.is_closed() {
            let found = socket_id(&socket);
            if found.is_some() && found != asked {
                match ask(&socket).await {
                    Ok(told) => {
                        asked = found;
                        let changed = version.send_if_modified(|known| known.replace(told) != Some(told));
                        if changed {
                            info!(cilium_version = %told, "this node's Cilium");
                        }
                    }
                    // No start explains it. It is told once for each socket, and read again all the same.
                    Err(AgentApiError::TooLong) if told_of != found => {
                        told_of = found;
                        let error = AgentApiError::TooLong;
                        warn!(socket = %socket.display(), %error, "cannot ask Cilium for its version");
                    }
                    // While it starts, that is nothing to tell of.
                    Err(error) => {
                        debug!(socket = %socket.display(), error = %chain(&error), "no version of Cilium yet");
                    }
                }
            }
            time::sleep(INTERVAL).await;
        }
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
    time::timeout(PATIENCE, get_version(socket)).await.unwrap_or(Err(AgentApiError::Timeout))
}

async fn get_version(socket: &Path) -> Result<CiliumVersion, AgentApiError> {
    let stream = UnixStream::connect(socket).await.map_err(AgentApiError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the exchange; how it ended is the exchange's to tell.
    tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::from_static("/v1/healthz");
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    request.headers_mut().insert("brief", HeaderValue::from_static("true"));
    // While something ails Cilium it answers 503, with the same body.
    let answer = sender.send_request(request).await?;
    let body = Limited::new(answer.into_body(), LIMIT).collect().await.map_err(body_error)?.to_bytes();
    let StatusResponse { cilium: Component { msg } } = serde_json::from_slice(&body)?;
    CiliumVersion::find(&msg).ok_or(AgentApiError::NoVersion(msg))
}
