//! The page of one agent, through a port-forward of its own for each request.

use axum::{
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;

use super::{Sources, kept};
use crate::fleet::ways::Failure;

/// The parts of an agent's page: all that may be asked of an agent.
const PARTS: [&str; 8] = ["events", "healthz", "history", "livez", "metrics", "readyz", "runbook", "status"];

pub(super) async fn page(State(sources): State<Sources>, Path(node): Path<String>) -> Response {
    forward(&sources, &node, "").await
}

pub(super) async fn part(State(sources): State<Sources>, Path((node, path)): Path<(String, String)>) -> Response {
    if !PARTS.contains(&path.as_str()) {
        return (StatusCode::NOT_FOUND, "an agent has no such page\n").into_response();
    }
    forward(&sources, &node, &path).await
}

async fn forward(sources: &Sources, node: &str, path: &str) -> Response {
    let found = sources.rounds.borrow().found.clone();
    let Some(pod) = found.as_ref().and_then(|found| found.pod_of(node)) else {
        return (StatusCode::NOT_FOUND, "there is no agent on such a node\n").into_response();
    };
    let Some(found) = &found else { return StatusCode::NOT_FOUND.into_response() };
    let mut connection = match found.asker().connect(pod).await {
        Ok(connection) => connection,
        Err(reason) => return bad_gateway(&reason),
    };
    match connection.get(&format!("/{path}")).await {
        Ok(answer) => {
            let (parts, body) = answer.into_parts();
            // The connection lives as long as its answer.
            let body = body.map_frame(move |frame| {
                let _connection = &connection;
                frame
            });
            (parts.status, kept(&parts.headers), Body::new(body)).into_response()
        }
        Err(
            Failure::Refused(reason) | Failure::Unreachable(reason) | Failure::Failed(reason) | Failure::Answer(reason),
        ) => bad_gateway(&reason),
    }
}

fn bad_gateway(reason: &str) -> Response {
    let text = format!("the agent's page cannot be reached: {reason}\n");
    (StatusCode::BAD_GATEWAY, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
