//! The page of one agent, through a port-forward of its own for each request.
//!
//! An agent may be somebody else's: whoever took a node over, or may start pods with its labels. So each answer gets a policy of this page,
//! beside the agent's own, and a browser obeys both. In a sandbox without popups and frames, a script of that answer runs, but it reads from
//! nowhere but its own node: not the report, not the other nodes.

use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, uri::Authority},
    response::{IntoResponse, Redirect, Response},
};
use http_body_util::BodyExt;

use super::{Sources, Watching};

/// The parts of an agent's page: all that may be asked of an agent.
const PARTS: [&str; 8] = ["events", "healthz", "history", "livez", "metrics", "readyz", "runbook", "status"];

pub(super) async fn page(State(sources): State<Sources>, Path(node): Path<String>, headers: HeaderMap) -> Response {
    let Some(host) = host(&headers) else { return no_host() };
    // A policy cannot name an IPv6 address.
    if host.host().starts_with('[') {
        let port = host.port().map(|port| format!(":{port}")).unwrap_or_default();
        return Redirect::temporary(&format!("http://localhost{port}/nodes/{node}/")).into_response();
    }
    forward(&sources, &node, "/", &host).await
}

pub(super) async fn part(
    State(sources): State<Sources>,
    Path((node, part)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if !PARTS.contains(&part.as_str()) {
        return (StatusCode::NOT_FOUND, "an agent has no such page\n").into_response();
    }
    let Some(host) = host(&headers) else { return no_host() };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    forward(&sources, &node, &format!("/{part}{query}"), &host).await
}

async fn forward(sources: &Sources, node: &str, path: &str, host: &Authority) -> Response {
    // Also if the agent cannot be reached: it may be another one after the next round.
    let watching = Watching::begin(&sources.audience);
    let found = sources.rounds.borrow().found.clone();
    let agent = found.as_ref().and_then(|found| Some((found, found.pod_of(node)?)));
    let (Some((found, pod)), Some(policy)) = (agent, policy(host, node)) else {
        return (StatusCode::NOT_FOUND, "there is no agent on such a node\n").into_response();
    };
    match found.asker().page(pod, path).await {
        Ok((answer, connection)) => {
            let (parts, body) = answer.into_parts();
            // The connection lives as long as its answer.
            let body = body.map_frame(move |frame| {
                let _alive = (&connection, &watching);
                frame
            });
            let mut headers = kept(&parts.headers);
            headers.append(header::CONTENT_SECURITY_POLICY, policy);
            (parts.status, headers, Body::new(body)).into_response()
        }
        Err(reason) => {
            let text = format!("the agent's page cannot be reached: {reason}\n");
            (StatusCode::BAD_GATEWAY, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
        }
    }
}

/// The headers of an agent's answer that a browser needs. No `Location`: a policy does not look at the path that a redirection leads to.
fn kept(headers: &HeaderMap) -> HeaderMap {
    const KEPT: [header::HeaderName; 4] =
        [header::CONTENT_TYPE, header::CONTENT_SECURITY_POLICY, header::ETAG, header::CACHE_CONTROL];
    KEPT.into_iter().filter_map(|name| headers.get(&name).cloned().map(|value| (name, value))).collect()
}

/// What a browser lets the answer of this node's agent do. It keeps its origin, because the agent's page reads its own status.
fn policy(host: &Authority, node: &str) -> Option<HeaderValue> {
    // The name of a Node is a DNS name; anything else could end the path or the policy.
    let is_name = node.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')) && !node.starts_with('.');
    let port = host.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    let own = format!("http://{}{port}/nodes/{node}/", host.host());
    let policy = format!(
        "sandbox allow-scripts allow-same-origin; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
         img-src data:; connect-src {own}; worker-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).ok().filter(|_| is_name)
}

/// The name and port under which the browser knows this page: behind an SSH tunnel, the port is another one than the server's.
fn host(headers: &HeaderMap) -> Option<Authority> {
    let host: Authority = headers.get(header::HOST)?.to_str().ok()?.parse().ok()?;
    // Nothing but a name and a number: neither a user nor a port that is none.
    let plain = host.port_u16().map_or_else(|| host.host().to_owned(), |port| format!("{}:{port}", host.host()));
    Some(host).filter(|host| host.as_str() == plain)
}

fn no_host() -> Response {
    (StatusCode::BAD_REQUEST, "the request has no Host\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_from_its_own_node_only() {
        let of = |host: &'static str, node: &str| {
            let headers = [(header::HOST, HeaderValue::from_static(host))].into_iter().collect();
            policy(&super::host(&headers)?, node)
        };
        let policy = of("localhost:9809", "worker-1.example.com").expect("a policy");
        let policy = policy.to_str().expect("text");
        assert!(policy.contains("; connect-src http://localhost:9809/nodes/worker-1.example.com/; "), "{policy}");
        assert!(of("127.0.0.1", "worker-1").is_some());
        for node in ["x; script-src *", "x,y", "x y", "..", "x/../y", "x\n"] {
            assert_eq!(of("localhost", node), None, "{node}");
        }
        for host in ["localhost:9; script-src *", "localhost:x", "a@localhost:9809", "localhost:99999"] {
            assert_eq!(of(host, "worker-1"), None, "{host}");
        }
    }
}
