//! `pods/portforward` and `pods/exec` over a WebSocket, as a real server and the kubelet behind it speak them: `v4.channel.k8s.io`.
//!
//! A pod is a TCP address that a test gave ([`crate::ApiServer::run_pod`]). A port-forward leads there. An exec knows one command,
//! `vtep-agent status -o json`: it asks the address for `/status`, and prints the answer. Any other command does what the test said
//! ([`crate::ApiServer::on_exec`]).

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use crate::{connection::Body, record::Request, shared::Shared, status::Failure};

const PROTOCOL: &str = "v4.channel.k8s.io";
/// The one command that a pod knows.
const COMMAND: [&str; 4] = ["vtep-agent", "status", "-o", "json"];
/// Bytes of one message.
const CHUNK: usize = 32 << 10;

/// What a command in a pod does.
#[derive(Clone, Debug)]
pub enum Exec {
    /// It prints this, and ends.
    Ends { stdout: Vec<u8>, stderr: String, code: u8 },
    /// It prints nothing, and never ends.
    Hangs,
}

/// A WebSocket that begins when the answer with status 101 is sent.
#[derive(Debug)]
pub(crate) struct Session {
    kind: Kind,
    pod: String,
    /// `None` if nothing runs in the pod.
    address: Option<SocketAddr>,
}

#[derive(Debug)]
enum Kind {
    PortForward(u16),
    /// The command, and what the test said about this pod's commands.
    Exec(Vec<String>, Option<Exec>),
}

/// The answer 101, and the session that follows it.
pub(crate) fn open(
    shared: &Shared,
    request: &Request,
    headers: &HeaderMap,
) -> Result<(Response<Body>, Session), Failure> {
    let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let key = header(SEC_WEBSOCKET_KEY);
    let knows = header(SEC_WEBSOCKET_PROTOCOL).split(',').any(|protocol| protocol.trim() == PROTOCOL);
    if key.is_empty() || !knows {
        return Err(Failure::bad_request("Upgrade request required"));
    }
    let (address, exec) = {
        let state = shared.state();
        let address = state.pods.get(&request.name).copied().ok_or_else(|| Failure::not_found(request))?;
        (address, state.execs.get(&request.name).cloned())
    };
    let query = || form_urlencoded::parse(request.query.as_bytes());
    let kind = match request.subresource.as_str() {
        "portforward" => {
            let port = request.parameter("ports").and_then(|port| port.parse().ok());
            Kind::PortForward(port.ok_or_else(|| Failure::bad_request("ports must be one number"))?)
        }
        _ => {
            let words = query().filter(|(key, _)| key == "command").map(|(_, word)| word.into_owned());
            Kind::Exec(words.collect(), exec)
        }
    };
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    headers.extend(accept.ok().map(|accept| (SEC_WEBSOCKET_ACCEPT, accept)));
    Ok((response, Session { kind, pod: request.name.clone(), address }))
}

impl Session {
    /// Runs until either side ends it. An error means that the client is gone, so nobody could receive a report of it.
    pub(crate) async fn run(self, stream: TcpStream, read_already: Vec<u8>) {
        let mut socket = WebSocketStream::from_partially_read(stream, read_already, Role::Server, None).await;
        let Self { kind, pod, address } = self;
        let _ = match kind {
            Kind::PortForward(port) => forward(&mut socket, port, &pod, address).await,
            Kind::Exec(command, Some(does)) if command != COMMAND => other(&mut socket, does).await,
            Kind::Exec(command, _) => exec(&mut socket, &command, address).await,
        };
        let _ = socket.close(None).await;
    }
}

type Socket = WebSocketStream<TcpStream>;
type Sent = Result<(), tokio_tungstenite::tungstenite::Error>;

async fn send(socket: &mut Socket, channel: u8, bytes: &[u8]) -> Sent {
    socket.send(Message::binary([&[channel], bytes].concat())).await
}

/// Channel 0 has the data, channel 1 an error. Each begins with the port.
async fn forward(socket: &mut Socket, port: u16, pod: &str, address: Option<SocketAddr>) -> Sent {
    for channel in [0, 1] {
        send(socket, channel, &port.to_le_bytes()).await?;
    }
    let connected = match address {
        Some(address) => TcpStream::connect(address).await.ok(),
        None => None,
    };
    let Some(mut stream) = connected else {
        let reason = format!(
            "error forwarding port {port} to pod {pod}: dial tcp4 127.0.0.1:{port}: connect: connection refused"
        );
        return send(socket, 1, reason.as_bytes()).await;
    };
    let mut buffer = vec![0; CHUNK];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) if bytes.first() == Some(&0) => {
                    if stream.write_all(&bytes[1..]).await.is_err() {
                        return Ok(());
                    }
                }
                Some(Ok(message)) if !message.is_close() => {}
                Some(Ok(_) | Err(_)) | None => return Ok(()),
            },
            read = stream.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return Ok(()),
                Ok(length) => send(socket, 0, &buffer[..length]).await?,
            },
        }
    }
}

/// A command that ended with another exit status than 0.
fn failure(message: &str, code: &str) -> Value {
    let causes = json!([{ "reason": "ExitCode", "message": code }]);
    json!({ "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": message, "details": { "causes": causes } })
}

async fn other(socket: &mut Socket, exec: Exec) -> Sent {
    match exec {
        Exec::Hangs => {
            // Until the client is gone.
            while let Some(Ok(message)) = socket.next().await {
                if message.is_close() {
                    break;
                }
            }
            Ok(())
        }
        Exec::Ends { stdout, stderr, code } => {
            for chunk in stdout.chunks(CHUNK) {
                send(socket, 1, chunk).await?;
            }
            send(socket, 2, stderr.as_bytes()).await?;
            let status = match code {
                0 => json!({ "metadata": {}, "status": "Success" }),
                code => failure(&format!("command terminated with exit code {code}"), &code.to_string()),
            };
            send(socket, 3, status.to_string().as_bytes()).await
        }
    }
}

/// Channel 1 has standard output, 2 standard error, 3 the end as a `Status`.
async fn exec(socket: &mut Socket, command: &[String], address: Option<SocketAddr>) -> Sent {
    let status = if command != COMMAND {
        failure(&format!("exec: {command:?}: executable file not found in $PATH"), "127")
    } else if let Some(body) = status(address).await {
        for chunk in body.chunks(CHUNK) {
            send(socket, 1, chunk).await?;
        }
        json!({ "metadata": {}, "status": "Success" })
    } else {
        send(socket, 2, b"error: no answer from http://127.0.0.1:9808: connection refused\n").await?;
        failure("command terminated with exit code 2", "2")
    };
    send(socket, 3, status.to_string().as_bytes()).await
}

async fn status(address: Option<SocketAddr>) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address?).await.ok()?;
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(answer.split_off(body + 4))
}
