//! The server in front of a real one: it forwards every request, and the faults happen on the way.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::{Response, StatusCode, body::Frame, header::CONTENT_TYPE};
use kube::{
    Client, Config,
    client::Body as Sent,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    connection::{Abort, Body},
    fault::{After, Fault},
    handler::{full, json, response},
    record::{Request, Verb},
    resource::Resource,
    shared::{Command, OpenWatch, Shared},
    status::Failure,
    watch::{GARBAGE, line},
};

/// A client of the real server.
pub(crate) async fn client(kubeconfig: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Applies an object at the real server, as the owner of all of its fields.
pub(crate) async fn apply(client: &Client, resource: Resource, object: Value) -> Result<u64> {
    let text = |field: &str| object["metadata"][field].as_str();
    let group = match resource.group() {
        "" => "/api/v1".to_owned(),
        group => format!("/apis/{group}/v1"),
    };
    let namespace = text("namespace").map(|name| format!("/namespaces/{name}")).unwrap_or_default();
    let name = text("name").context("the object has no metadata.name")?;
    let path = format!("{group}{namespace}/{}/{name}?fieldManager=tests&force=true", resource.plural());
    let request = hyper::Request::patch(path).header(CONTENT_TYPE, "application/apply-patch+yaml");
    let answer = client.send(request.body(Sent::from(object.to_string().into_bytes()))?).await?;
    let (code, body) = (answer.status(), answer.into_body().collect_bytes().await?);
    ensure!(code.is_success(), "{code}: {}", String::from_utf8_lossy(&body));
    let stored: Value = serde_json::from_slice(&body)?;
    stored["metadata"]["resourceVersion"].as_str().context("no resourceVersion")?.parse().context("a number")
}

/// The real server's answer, changed as the fault says.
pub(crate) async fn forward(
    client: &Client,
    shared: &Arc<Shared>,
    request: &Request,
    body: Bytes,
    abort: &mpsc::UnboundedSender<Abort>,
) -> Response<Body> {
    let uri =
        if request.query.is_empty() { request.path.clone() } else { format!("{}?{}", request.path, request.query) };
    let sent = hyper::Request::builder().method(request.method.as_str()).uri(uri);
    let sent = sent.header(CONTENT_TYPE, request.content_type.as_str()).body(Sent::from(body.to_vec()));
    let answer = match sent {
        Ok(sent) => client.send(sent).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return full(StatusCode::BAD_GATEWAY, "text/plain", error),
    };
    let code = answer.status();
    if request.verb == Verb::Watch && code.is_success() {
        return watching(shared, request, answer, abort);
    }
    let Ok(bytes) = answer.into_body().collect_bytes().await else {
        return full(StatusCode::BAD_GATEWAY, "text/plain", "the real server's answer has no end");
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => json(code, value, request.fault.as_ref(), abort),
        Err(_) => full(code, "text/plain; charset=utf-8", bytes),
    }
}

/// An open watch of the real server.
struct Watch {
    shared: Arc<Shared>,
    id: u64,
    request: Request,
    events: stream::BoxStream<'static, Bytes>,
    commands: mpsc::UnboundedReceiver<Command>,
    abort: mpsc::UnboundedSender<Abort>,
    /// The end after the next line.
    ending: Option<After>,
    is_silent: bool,
    paused_until: Option<Instant>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.forget(self.id);
    }
}

fn watching(
    shared: &Arc<Shared>,
    request: &Request,
    answer: Response<Sent>,
    abort: &mpsc::UnboundedSender<Abort>,
) -> Response<Body> {
    let (sender, commands) = mpsc::unbounded_channel();
    if let Some(fault) = request.fault.clone().filter(|fault| !matches!(fault, Fault::Delay(_))) {
        // The receiver is in this function.
        let _ = sender.send(Command::Fault(fault));
    }
    let resource = Resource::named(&request.resource).unwrap_or(Resource::ConfigMaps);
    let id = {
        let mut state = shared.state();
        let id = state.register(OpenWatch { request: request.clone(), resource, commands: sender });
        shared.watching.send_replace(state.watches.len());
        id
    };
    let events = BodyStream::new(answer.into_body()).filter_map(async |frame| frame.ok()?.into_data().ok()).boxed();
    let watch = Watch {
        shared: Arc::clone(shared),
        id,
        request: request.clone(),
        events,
        commands,
        abort: abort.clone(),
        ending: None,
        is_silent: false,
        paused_until: None,
    };
    let lines = stream::unfold(watch, |mut watch| async move { watch.next().await.map(|bytes| (bytes, watch)) });
    let body = StreamBody::new(lines.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync();
    response(StatusCode::OK, "application/json", body)
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.ending.take() {
                Some(After::End) => return None,
                Some(After::Close) => Abort::Close.now(&self.abort).await,
                Some(After::Silence) => self.is_silent = true,
                None => {}
            }
            let paused = self.paused_until;
            let bytes = tokio::select! {
                biased;
                Some(Command::Fault(fault)) = self.commands.recv() => self.disturb(&fault).await,
                () = async { if let Some(at) = paused { sleep_until(at).await } }, if paused.is_some() => {
                    self.paused_until = None;
                    None
                }
                bytes = self.events.next(), if paused.is_none() && !self.is_silent => match bytes {
                    Some(bytes) => Some(bytes),
                    None => return None,
                },
            };
            if bytes.is_some() {
                return bytes;
            }
        }
    }

    /// Begins a fault; the result is what the client gets at once.
    async fn disturb(&mut self, fault: &Fault) -> Option<Bytes> {
        match fault {
            Fault::Hang => self.is_silent = true,
            Fault::Delay(time) => self.paused_until = Some(Instant::now() + *time),
            Fault::Reset => Abort::Reset.now(&self.abort).await,
            Fault::Close => Abort::Close.now(&self.abort).await,
            Fault::NotHttp => Abort::Raw(GARBAGE).now(&self.abort).await,
            Fault::End => self.ending = Some(After::End),
            Fault::Garbage => return Some(Bytes::from_static(GARBAGE)),
            Fault::HalfLine(after) => {
                self.ending = Some(*after);
                return Some(Bytes::from_static(b"{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"Con"));
            }
            Fault::WrongShape => {
                let metadata = serde_json::json!({ "name": self.request.name, "resourceVersion": "1" });
                let object = serde_json::json!({ "kind": "ConfigMap", "metadata": metadata, "data": ["x"] });
                return Some(line("MODIFIED", &object));
            }
            Fault::Unauthorized
            | Fault::Forbidden
            | Fault::NotFound
            | Fault::Gone
            | Fault::TooManyRequests(_)
            | Fault::InternalError
            | Fault::Unavailable => {
                self.ending = Some(After::End);
                return Failure::of(fault, &self.request).map(|failure| line("ERROR", &failure.to_json()));
            }
            // Only the real server knows its versions.
            Fault::Bookmarks(_) => {}
        }
        None
    }
}
