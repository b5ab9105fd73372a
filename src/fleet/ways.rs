//! The ways to an agent: a port-forward or an exec (`exec`) over a WebSocket of the API server, or a connection to the node's address.

use std::{io, net::SocketAddr, time::Duration};

use axum::body::Bytes;
use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::Portforwarder};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
    time,
};

use super::{ANSWER_LIMIT, pods::AgentPod};
use crate::k8s::words;

/// The timeout of a connection to a node's address. In a network that drops such packets, it is all that the attempt costs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Direct,
    PortForward,
    Exec,
}

impl Way {
    /// The subresource whose right the API server checks.
    #[must_use]
    pub const fn resource(self) -> Option<&'static str> {
        match self {
            Self::Direct => None,
            Self::PortForward => Some("pods/portforward"),
            Self::Exec => Some("pods/exec"),
        }
    }
}

/// Why a way did not lead to an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The API server refuses the way, so also for every other agent; with its words.
    Refused(String),
    /// There is no connection to this node's address, so perhaps to none.
    Unreachable(String),
    /// This agent cannot be asked on this way; another way may work.
    Failed(String),
    /// The agent answered, and the answer is of no use. Another way would bring the same.
    Answer(String),
}

/// A connection to one agent.
pub struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    /// They end with the connection.
    _driver: Driver,
    _forward: Option<Forward>,
    /// Why the port cannot be used, from the kubelet.
    refusal: Option<BoxFuture<'static, Option<String>>>,
}

/// The task of HTTP, which ends when this is dropped.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The task of a port-forward, which ends when this is dropped: otherwise it would wait for an agent that hangs.
struct Forward(Portforwarder);

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// # Errors
    ///
    /// There is no connection.
    pub async fn direct(pod: &AgentPod) -> Result<Self, Failure> {
        let Some(ip) = &pod.host_ip else { return Err(Failure::Failed("its pod has no address yet".into())) };
        let ip = ip.parse().map_err(|_| Failure::Failed(format!("{ip:?} is not an address")))?;
        let address = SocketAddr::new(ip, pod.port);
        let connected = time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|error| {
            let reason = format!("the node's address does not answer: {}", words::cause(&error));
            // The node itself refuses: it is there.
            let is_refused = error.kind() == io::ErrorKind::ConnectionRefused;
            if is_refused { Failure::Failed(reason) } else { Failure::Unreachable(reason) }
        })?;
        Self::over(stream).await
    }

    /// # Errors
    ///
    /// The API server refuses, or the agent's port does not answer.
    pub async fn port_forward(api: &Api<Pod>, pod: &AgentPod) -> Result<Self, Failure> {
        let forwarder = api.portforward(&pod.name, &[pod.port]).await.map_err(|error| of_error(&error))?;
        let mut forward = Forward(forwarder);
        let (Some(stream), Some(refusal)) = (forward.0.take_stream(pod.port), forward.0.take_error(pod.port)) else {
            return Err(Failure::Failed("the port-forward has no stream".into()));
        };
        let connection = Self::over(stream).await?;
        Ok(Self { _forward: Some(forward), refusal: Some(refusal.boxed()), ..connection })
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, Failure> {
        let failed = |error: hyper::Error| Failure::Failed(words::cause(&error));
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // The error of the connection is also that of the request.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { sender, _driver: Driver(driver), _forward: None, refusal: None })
    }

    /// The answer, with a body that is still to be read.
    ///
    /// # Errors
    ///
    /// The agent does not answer.
    pub async fn get(&mut self, path: &str) -> Result<Response<Incoming>, Failure> {
        let request = Request::get(path).header("host", "localhost").body(Empty::new());
        let request = request.map_err(|error| Failure::Answer(error.to_string()))?;
        let answer = self.sender.send_request(request).map_err(|error| Failure::Failed(words::cause(&error)));
        let Some(refusal) = self.refusal.take() else { return answer.await };
        tokio::select! {
            biased;
            // The kubelet sends the reason before it closes the stream.
            Some(reason) = refusal => Err(Failure::Failed(port_forward_failed(&reason))),
            answer = answer => answer,
        }
    }

    /// The body of a successful answer.
    ///
    /// # Errors
    ///
    /// The agent does not answer, or with an error, or with too much.
    pub async fn read(&mut self, path: &str) -> Result<Bytes, Failure> {
        let response = self.get(path).await?;
        if !response.status().is_success() {
            return Err(Failure::Answer(format!("it answers {path} with {}", response.status())));
        }
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        Ok(body.map_err(|error| broken_off(&*error))?.to_bytes())
    }
}

/// The kubelet's sentence ends with the reason: `… dial tcp4 127.0.0.1:9808: connect: connection refused`. What comes before names the pod.
fn port_forward_failed(text: &str) -> String {
    let reason = text.trim().rsplit(": ").next().unwrap_or_default();
    format!("a port-forward does not reach it: {reason}")
}

fn broken_off(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Failure {
    if error.is::<LengthLimitError>() {
        return Failure::Answer(format!("its answer has more than {} MB", ANSWER_LIMIT >> 20));
    }
    Failure::Failed(format!("its answer broke off: {}", words::cause(error)))
}

/// The pods of a namespace.
#[must_use]
pub fn pods(client: &Client, namespace: &str) -> Api<Pod> {
    Api::namespaced(client.clone(), namespace)
}

/// The failure of a way that the API server leads to.
pub(super) fn of_error(error: &kube::Error) -> Failure {
    if let kube::Error::UpgradeConnection(_) = error {
        return Failure::Failed("something between here and the API server does not let a WebSocket through".into());
    }
    let kube::Error::Api(status) = error else { return Failure::Failed(words::cause(error)) };
    let message = words::message(status);
    if status.is_forbidden() { Failure::Refused(message) } else { Failure::Failed(message) }
}
