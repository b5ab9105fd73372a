//! The page of one agent, through a port-forward of its own for each request.

use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;

use super::{Sources, Watching, kept};

/// The parts of an agent's page: all that may be asked of an agent.
const PARTS: [&str; 8] = ["events", "healthz", "history", "livez", "metrics", "readyz", "runbook", "status"];

pub(super) async fn page(State(sources): State<Sources>, Path(node): Path<String>) -> Response {
    forward(&sources, &node, "/").await
}

pub(super) async fn part(
    State(sources): State<Sources>,
    Path((node, part)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    if !PARTS.contains(&part.as_str()) {
        return (StatusCode::NOT_FOUND, "an agent has no such page\n").into_response();
    }
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    forward(&sources, &node, &format!("/{part}{query}")).await
}

async fn forward(sources: &Sources, node: &str, path: &str) -> Response {
    // Also if the agent cannot be reached: it may be another one after the next round.
    let watching = Watching::begin(&sources.audience);
    let found = sources.rounds.borrow().found.clone();
    let agent = found.as_ref().and_then(|found| Some((found, found.pod_of(node)?)));
    let Some((found, pod)) = agent else {
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
            (parts.status, kept(&parts.headers), Body::new(body)).into_response()
        }
        Err(reason) => {
            let text = format!("the agent's page cannot be reached: {reason}\n");
            (StatusCode::BAD_GATEWAY, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
        }
    }
}
