//! GET requests to one BIG-IP, with limits: for one answer and for all, in time, in bytes and in number.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Request, StatusCode, Uri,
    body::{Bytes, Incoming},
    header::{ACCEPT, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use tokio::time::{self, Instant};

use super::{
    Credentials, Failure, Server, Trust,
    page::Page,
    tls::{self, FirstShown, Shown, Verdict},
};
use crate::k8s::words;

/// The maximum number of requests, repetitions and pages included. An ordinary BIG-IP needs eight.
pub const MAX_REQUESTS: u32 = 12;
/// The maximum length of an answer, in bytes: 20,000 FDB records have about 5 MB.
pub(super) const MAX_BYTES: usize = 8 << 20;
/// The maximum length of an answer that is an error.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// The pause before a BIG-IP that starts is asked again, unless it says another.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The connection to one BIG-IP, and what is left of its limits.
pub(super) struct Session {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    server: Server,
    credentials: Credentials,
    header: (HeaderName, HeaderValue),
    shown: FirstShown,
    requests_left: u32,
    /// For one answer.
    timeout: Duration,
    /// For all answers.
    total: Duration,
    deadline: Instant,
}

/// An error of iControl REST: `{"code": 404, "message": "…", …}`.
#[derive(Deserialize)]
struct ErrorBody {
    message: String,
}

impl Session {
    /// Connects at the first request.
    pub(super) fn new(
        server: Server,
        credentials: Credentials,
        trust: Trust,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let (config, shown) = tls::config(trust).map_err(|error| Failure::Unreachable(format!("TLS: {error}")))?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector);
        let header = credentials.header().ok_or(Failure::Password)?;
        let total = timeout * 3;
        let deadline = Instant::now() + total;
        let requests_left = MAX_REQUESTS;
        Ok(Self { client, server, credentials, header, shown, requests_left, timeout, total, deadline })
    }

    /// The fingerprint of the certificate that was accepted without a check.
    pub(super) fn unverified(&self) -> Option<&str> {
        self.shown_if(Verdict::Unverified).map(|shown| shown.fingerprint.as_str())
    }

    fn shown_if(&self, verdict: Verdict) -> Option<&Shown> {
        self.shown.get().filter(|shown| shown.verdict == verdict)
    }

    /// The answer to a GET. A BIG-IP that still loads its configuration is asked once more.
    pub(super) async fn get(&mut self, path: &str) -> Result<Page, Failure> {
        let mut answer = self.ask(path).await;
        if let Err(Failure::Loading { retry_after, .. }) = answer
            && Instant::now() + retry_after < self.deadline
        {
            time::sleep(retry_after).await;
            answer = self.ask(path).await;
        }
        Page::parse(path, answer?)
    }

    /// The body of the answer to one request.
    async fn ask(&mut self, path: &str) -> Result<Vec<u8>, Failure> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::OutOfTime(self.total));
        }
        self.requests_left = self.requests_left.checked_sub(1).ok_or(Failure::OutOfRequests)?;
        let uri = self.server.uri(path).map_err(|_| Failure::BadLink)?;
        match time::timeout(self.timeout.min(left), self.exchange(uri)).await {
            Ok(answer) => answer,
            Err(_) if left < self.timeout => Err(Failure::OutOfTime(self.total)),
            Err(_) => Err(Failure::Slow(self.timeout)),
        }
    }

    async fn exchange(&self, uri: Uri) -> Result<Vec<u8>, Failure> {
        let (name, value) = self.header.clone();
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(name, value);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("vtep-agent/", env!("CARGO_PKG_VERSION"))));
        let answer = self.client.request(request).await.map_err(|error| self.no_answer(&error))?;
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            return collect(body, MAX_BYTES).await;
        }
        let body = collect(body, MAX_ERROR_BYTES).await.unwrap_or_default();
        Err(self.refusal(head.status, &head.headers, &body))
    }

    fn no_answer(&self, error: &legacy::Error) -> Failure {
        let reason = words::cause(error);
        match self.shown_if(Verdict::Refused) {
            Some(shown) => Failure::Certificate {
                reason: reason.strip_prefix("TLS: ").unwrap_or(&reason).to_owned(),
                fingerprint: shown.fingerprint.clone(),
            },
            None if error.is_connect() => Failure::Unreachable(reason),
            None => Failure::Broken(reason),
        }
    }

    /// The meaning of an answer that is an error.
    fn refusal(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
        let message = serde_json::from_slice(body).map(|ErrorBody { message }| message).unwrap_or_default();
        let message = words::line(&self.credentials.mask(&message));
        let says = |words: &str| message.contains(words);
        match status.as_u16() {
            code @ 300..=399 if headers.contains_key(LOCATION) => Failure::Redirect(target(code, headers)),
            // BIG-IP refuses a single path with 401, too; then it names the user whom it has recognised.
            401 if message.starts_with("Authorization failed: user=") => Failure::Refused(401),
            401 => match self.credentials {
                Credentials::Password { .. } => Failure::Password,
                Credentials::Token(_) => Failure::Token,
            },
            403 => Failure::Refused(403),
            // A BIG-IP that starts registers its paths one after the other.
            404 if !says("not registered") => Failure::Absent,
            code @ (404 | 503) => Failure::Loading { status: code, retry_after: retry_after(headers) },
            500 if says("mcpd") => Failure::Loading { status: 500, retry_after: retry_after(headers) },
            _ if message.is_empty() => Failure::Status(status, String::new()),
            _ => Failure::Status(status, format!(": {message}")),
        }
    }
}

async fn collect(body: Incoming, limit: usize) -> Result<Vec<u8>, Failure> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::TooLong),
        // With or without an error of TLS: the connection ended.
        Err(_) => Err(Failure::Truncated),
    }
}

/// The host that a redirect leads to, or the path on the same host. The rest of the URL says nothing to a person.
fn target(code: u16, headers: &HeaderMap) -> String {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let uri: Option<Uri> = location.parse().ok();
    let named =
        uri.and_then(|uri| uri.host().map_or_else(|| Some(uri.path().to_owned()), |host| Some(host.to_owned())));
    named.map_or_else(|| code.to_string(), |named| words::line(&named))
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    seconds.map_or(RETRY_PAUSE, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_what_the_server_says_or_a_second() {
        let of = |value: Option<&'static str>| {
            let headers = value.map(|value| (RETRY_AFTER, HeaderValue::from_static(value)));
            retry_after(&headers.into_iter().collect())
        };
        assert_eq!([of(Some("0")), of(Some(" 5 "))], [Duration::ZERO, Duration::from_secs(5)]);
        for unreadable in [None, Some("-1"), Some("Fri, 27 Nov 2026 05:00:00 GMT")] {
            assert_eq!(of(unreadable), RETRY_PAUSE);
        }
    }
}
