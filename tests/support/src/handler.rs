//! Handles one HTTP request: records it, applies a fault if there is one, and otherwise executes the verb.

use std::{
    convert::Infallible,
    future,
    net::SocketAddr,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;
use futures_util::{StreamExt, future::Either, stream};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    Response, StatusCode,
    body::{Frame, Incoming},
    header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
use serde_json::Value;
use tokio::{sync::mpsc, time::sleep};

use crate::{
    connection::{Abort, Body, Upgrade},
    discovery,
    fault::{After, Fault},
    objects, proxy, query,
    record::{Request, Verb},
    resource::Resource,
    routes,
    shared::{Real, Shared},
    status::Failure,
    streams,
    verbs::{self, Reply},
    watch::{GARBAGE, Watch},
};

/// Answers one request; with the fault `Hang`, never.
pub(crate) async fn handle(
    shared: Arc<Shared>,
    peer: SocketAddr,
    abort: mpsc::UnboundedSender<Abort>,
    upgrade: Upgrade,
    request: hyper::Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    // A body that ends early is answered like one that is not JSON, if the client still reads.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let request = shared.record(routes::resolve(&parts, peer, &body));
    let fault = request.fault.as_ref();
    match fault {
        Some(Fault::Hang) => future::pending().await,
        Some(Fault::Delay(time)) => sleep(*time).await,
        Some(Fault::Reset) => Abort::Reset.now(&abort).await,
        Some(Fault::Close) => Abort::Close.now(&abort).await,
        Some(Fault::NotHttp) => Abort::Raw(GARBAGE).now(&abort).await,
        Some(_) | None => {}
    }
    if let Some(failure) = fault.and_then(|fault| Failure::of(fault, &request)) {
        return Ok(refusal(&failure));
    }
    if let Some(Real(client)) = shared.real.get() {
        return Ok(proxy::forward(client, &shared, &request, body, &abort).await);
    }
    if request.resource == "pods" && ["portforward", "exec"].contains(&request.subresource.as_str()) {
        return Ok(match streams::open(&shared, &request, &parts.headers) {
            Ok((response, session)) => {
                *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
                response
            }
            Err(failure) => refusal(&failure),
        });
    }
    let answer = answer(&shared, &request, &parts.headers, &abort);
    Ok(match answer {
        Err(failure) => refusal(&failure),
        Ok(Reply::NoPage) => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        Ok(Reply::Watch(watch)) => watching(*watch, fault),
        Ok(Reply::Json(code, value)) => json(code, value, fault, &abort),
    })
}

/// The correct answer.
fn answer(
    shared: &Arc<Shared>,
    request: &Request,
    headers: &HeaderMap,
    abort: &mpsc::UnboundedSender<Abort>,
) -> Result<Reply, Failure> {
    let (token, served) = {
        let state = shared.state();
        (state.token.clone(), state.served)
    };
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if token.is_some_and(|token| header(AUTHORIZATION) != format!("Bearer {token}")) {
        return Err(Failure::unauthorized());
    }
    if !acceptable(header(ACCEPT)) {
        return Err(Failure::plain(406, "NotAcceptable", "this server speaks plain application/json only"));
    }
    if request.resource.is_empty() {
        return Ok(match discovery::answer(&request.path, served) {
            Some(page) => Reply::Json(StatusCode::OK, page),
            None if ["/livez", "/readyz", "/healthz"].contains(&request.path.as_str()) => {
                Reply::Json(StatusCode::OK, Value::from("ok"))
            }
            None => Reply::NoPage,
        });
    }
    let Some(resource) = Resource::find(&request.group, &request.version, &request.resource, served) else {
        return Ok(Reply::NoPage);
    };
    if request.verb == Verb::Watch {
        let selection = query::selection(request, resource)?;
        let watch = Watch::open(shared, request, selection, abort.clone())?;
        return Ok(Reply::Watch(Box::new(watch)));
    }
    verbs::answer(shared, request, resource)
}

/// Whether the client accepts plain JSON, without a conversion into tables or bare metadata.
fn acceptable(accept: &str) -> bool {
    let plain = |part: &str| {
        let mut parameters = part.split(';').map(str::trim);
        let media = parameters.next().unwrap_or_default();
        ["", "*/*", "application/*", "application/json"].contains(&media) && parameters.all(|one| one.starts_with("q="))
    };
    accept.split(',').any(plain)
}

fn watching(mut watch: Watch, fault: Option<&Fault>) -> Response<Body> {
    // The delay has already passed.
    if let Some(fault) = fault.filter(|fault| !matches!(fault, Fault::Delay(_))) {
        watch.disturb(fault);
    }
    let lines = watch.into_stream().map(|line| Ok(Frame::data(line)));
    response(StatusCode::OK, "application/json", StreamBody::new(lines).boxed_unsync())
}

pub(crate) fn json(
    code: StatusCode,
    mut value: Value,
    fault: Option<&Fault>,
    abort: &mpsc::UnboundedSender<Abort>,
) -> Response<Body> {
    match fault {
        Some(Fault::WrongShape) => spoil(&mut value),
        Some(Fault::HalfLine(after)) => return half(&Bytes::from(value.to_string()), *after, abort),
        Some(Fault::Garbage) => return full(StatusCode::OK, "application/json", GARBAGE),
        Some(Fault::End) => return full(StatusCode::OK, "application/json", ""),
        Some(_) | None => {}
    }
    full(code, "application/json", value.to_string())
}

fn spoil(value: &mut Value) {
    match value["items"].as_array_mut() {
        None => objects::spoil(value),
        Some(items) if items.is_empty() => value["items"] = serde_json::json!({ "this": "should be a list" }),
        Some(items) => items.iter_mut().for_each(objects::spoil),
    }
}

/// The first half of a body, with its full length in the header.
fn half(body: &Bytes, after: After, abort: &mpsc::UnboundedSender<Abort>) -> Response<Body> {
    let first = stream::iter([Ok(Frame::data(body.slice(..body.len() / 2)))]);
    let abort = abort.clone();
    let rest = match after {
        After::Silence => Either::Left(stream::pending()),
        After::Close | After::End => {
            Either::Right(stream::once(async move { Abort::Close.now(&abort).await }).filter_map(future::ready))
        }
    };
    let mut response = response(StatusCode::OK, "application/json", StreamBody::new(first.chain(rest)).boxed_unsync());
    response.headers_mut().insert(CONTENT_LENGTH, body.len().into());
    response
}

fn refusal(failure: &Failure) -> Response<Body> {
    let code = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = full(code, "application/json", failure.to_json().to_string());
    if let Some(seconds) = failure.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn text(code: StatusCode, body: &'static str) -> Response<Body> {
    full(code, "text/plain; charset=utf-8", body)
}

pub(crate) fn full(code: StatusCode, media: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    response(code, media, Full::new(body.into()).boxed_unsync())
}

pub(crate) fn response(code: StatusCode, media: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(media));
    response
}
