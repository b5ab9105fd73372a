//! Handles one HTTP request: records it, applies a fault if there is one, checks the credentials, and answers a GET.

use std::{io, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Response,
    body::{Frame, Incoming},
    header::{
        AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
    },
};
use serde_json::{Value, json};

use crate::{
    answers,
    fault::Fault,
    server::{PASSWORD, Shared, TOKEN, USER},
};

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// In the order of their arrival, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    fn of(request: &hyper::Request<Incoming>) -> Self {
        let headers = request.headers().iter();
        Self {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
        }
    }

    /// The value of a header; empty if the request does not have it.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

pub(crate) async fn handle(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> io::Result<Response<Body>> {
    let headers = request.headers().clone();
    let request = Request::of(&request);
    let fault = shared.record(&request);
    if fault == Some(Fault::Hang) {
        shared.released().await;
    }
    if fault == Some(Fault::Close) {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    if let Some(refusal) = fault.as_ref().and_then(|fault| refusal(fault, &request)) {
        return Ok(refusal);
    }
    if let Some(refusal) = unauthorized(&headers) {
        return Ok(refusal);
    }
    if request.method != "GET" {
        return Ok(json_of(405, &json!({ "code": 405, "message": "Method not allowed.", "errorStack": [] })));
    }
    let (code, mut value) = shared.with_device(|device| answers::answer(device, &request.path, &request.query));
    if let Some(Fault::NextLink(link)) = &fault {
        value["nextLink"] = link.as_str().into();
    }
    Ok(delivered(shared, fault, code, &value))
}

/// A correct answer, which a fault may cut in the middle.
fn delivered(shared: Arc<Shared>, fault: Option<Fault>, code: u16, value: &Value) -> Response<Body> {
    let whole = Bytes::from(value.to_string());
    let length = whole.len();
    let half = whole.slice(..length / 2);
    match fault {
        Some(Fault::CutJson) => full(200, "application/json; charset=UTF-8", half),
        Some(Fault::CutConnection) => {
            let end = stream::once(async {
                // hyper sends what it has when the body pauses.
                tokio::task::yield_now().await;
                Err(io::ErrorKind::ConnectionReset.into())
            });
            with_length(length, StreamBody::new(stream::iter([Ok(Frame::data(half))]).chain(end)).boxed_unsync())
        }
        Some(Fault::HangInBody) => {
            let rest = stream::once(async move {
                shared.released().await;
                Ok(Frame::data(whole.slice(length / 2..)))
            });
            with_length(length, StreamBody::new(stream::iter([Ok(Frame::data(half))]).chain(rest)).boxed_unsync())
        }
        Some(_) | None => json_of(code, value),
    }
}

/// The answer of a fault that needs no correct answer.
fn refusal(fault: &Fault, request: &Request) -> Option<Response<Body>> {
    let Request { method, path, .. } = request;
    Some(match fault {
        Fault::NotAuthorized => {
            let message = format!(
                "Authorization failed: user=https://localhost/mgmt/shared/authz/users/{USER} resource={path} verb={method} \
                 uri:http://localhost:8100{path} referrer:192.0.2.1 sender:192.0.2.1"
            );
            error(401, &message)
        }
        Fault::Forbidden => error(403, "Operation is not permitted."),
        Fault::Absent => error(404, "Found unexpected URI tmapi_mapper."),
        Fault::NotRegistered => soon(error(404, &format!("Public URI path not registered: {path}")), 0),
        Fault::McpdLost => soon(error(500, "The connection to mcpd has been lost, try again."), 0),
        Fault::Echo => {
            let [basic, token] = ["authorization", "x-f5-auth-token"].map(|name| request.header(name));
            error(400, &format!("I will not have {basic}{token}"))
        }
        Fault::OtherJson => json_of(200, &json!({ "status": "ok" })),
        Fault::LoginPage => {
            full(200, "text/html; charset=utf-8", "<!DOCTYPE html>\n<html><title>BIG-IP</title></html>")
        }
        Fault::Loading(retry_after) => {
            let page = "<html><head><title>Configuration Utility restarting...</title></head></html>";
            let response = full(503, "text/html; charset=utf-8", page);
            match retry_after {
                Some(seconds) => soon(response, *seconds),
                None => response,
            }
        }
        Fault::Redirect(location) => {
            let mut response = full(302, "text/html; charset=utf-8", "");
            response.headers_mut().insert(LOCATION, HeaderValue::from_str(location).ok()?);
            response
        }
        Fault::Endless => {
            let spaces = Bytes::from(vec![b' '; 1 << 16]);
            let body = stream::repeat_with(move || Ok(Frame::data(spaces.clone())));
            response(200, "application/json; charset=UTF-8", StreamBody::new(body).boxed_unsync())
        }
        Fault::Close | Fault::CutJson | Fault::CutConnection | Fault::NextLink(_) | Fault::Hang | Fault::HangInBody => {
            return None;
        }
    })
}

/// Apache checks passwords, and the workers behind it check tokens: each answers in its own way.
fn unauthorized(headers: &HeaderMap) -> Option<Response<Body>> {
    let is = |name: &str, expected: &str| headers.get(name).map(|value| value.as_bytes() == expected.as_bytes());
    if let Some(is_known) = is("x-f5-auth-token", TOKEN) {
        return (!is_known).then(|| error(401, "X-F5-Auth-Token does not exist."));
    }
    let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")));
    if is(AUTHORIZATION.as_str(), &expected) == Some(true) {
        return None;
    }
    let page =
        "<html><head><title>401 Unauthorized</title></head><body><h1>F5 Authorization Required</h1></body></html>";
    let mut response = full(401, "text/html; charset=iso-8859-1", page);
    let realm = HeaderValue::from_static("Basic realm=\"Enterprise Manager\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, realm);
    Some(response)
}

fn error(code: u16, message: &str) -> Response<Body> {
    let value = json!({
        "code": code, "message": message, "referer": "192.0.2.1", "restOperationId": 7_945_916,
        "kind": ":resterrorresponse",
    });
    json_of(code, &value)
}

/// Asks the client to come again after so many seconds.
fn soon(mut response: Response<Body>, seconds: u32) -> Response<Body> {
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}

fn json_of(code: u16, value: &Value) -> Response<Body> {
    full(code, "application/json; charset=UTF-8", value.to_string())
}

fn with_length(length: usize, body: Body) -> Response<Body> {
    let mut response = response(200, "application/json; charset=UTF-8", body);
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

fn full(code: u16, media: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    response(code, media, Full::new(body.into()).map_err(|never| match never {}).boxed_unsync())
}

fn response(code: u16, media: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = hyper::StatusCode::from_u16(code).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
