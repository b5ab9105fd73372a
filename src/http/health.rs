//! `/livez`, `/readyz` and `/healthz`: three separate checks. A BIG-IP that is down must not make the kubelet restart this agent.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use vtep_core::{
    datapath::layout::Layout,
    diagnosis::{Cause, Verdict},
    report::status::Status,
};

use super::Sources;

/// A check, and the reason if it fails.
type Check = (&'static str, Result<(), String>);

pub(super) async fn livez(State(sources): State<Arc<Sources>>, RawQuery(query): RawQuery) -> Response {
    report(&sources.liveness.check(Instant::now()), query.as_deref())
}

pub(super) async fn readyz(State(sources): State<Arc<Sources>>, RawQuery(query): RawQuery) -> Response {
    report(&readiness(&sources.state.status()), query.as_deref())
}

fn readiness(status: &Status) -> Vec<Check> {
    let config = match (status.config.observed_at, status.config.enabled) {
        (None, _) => Err("no configuration seen yet".to_owned()),
        (Some(_), None) => Err(first_error(status)),
        (Some(_), Some(_)) => Ok(()),
    };
    let model = status.datapath.model;
    // With VTEP off, Cilium has no map to wait for.
    let supported = if model.is_known() || (model == Layout::None && status.config.enabled == Some(false)) {
        Ok(())
    } else {
        let problem = status.datapath.problems.first().cloned();
        Err(problem.unwrap_or_else(|| "the datapath has not been observed yet".into()))
    };
    let pass = match status.datapath.last_pass {
        Some(_) => Ok(()),
        None => Err("the first pass is not done".to_owned()),
    };
    let node = if status.kernel.supported { Ok(()) } else { Err(status.kernel.reasons.join("; ")) };
    vec![("node", node), ("config", config), ("first-pass", pass), ("datapath", supported)]
}

fn first_error(status: &Status) -> String {
    let error =
        status.config.findings.iter().find(|finding| finding.severity == vtep_core::config::finding::Severity::Error);
    let why = status.config.source_error.as_deref().or(error.map(|finding| finding.message.as_str()));
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("no valid configuration yet{why}")
}

/// `ok`, or one line per reason; with `?verbose`, one line per check.
fn report(checks: &[Check], query: Option<&str>) -> Response {
    let failed = checks.iter().any(|(_, result)| result.is_err());
    let code = if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let verbose = query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose")));
    let line = |(name, result): &Check| match result {
        Ok(()) if verbose => format!("[+] {name} ok\n"),
        Err(reason) if verbose => format!("[-] {name} failed: {reason}\n"),
        Ok(()) => String::new(),
        Err(reason) => format!("{reason}\n"),
    };
    let mut body: String = checks.iter().map(line).collect();
    if !failed {
        body.push_str("ok\n");
    }
    (code, body).into_response()
}

#[derive(serde::Serialize)]
struct Healthz {
    healthy: bool,
    vteps: Vec<VtepVerdict>,
}

#[derive(serde::Serialize)]
struct VtepVerdict {
    cidr: ipnet::Ipv4Net,
    endpoint: std::net::Ipv4Addr,
    verdict: Verdict,
    cause: Option<Cause>,
    hint: Option<String>,
}

pub(super) async fn healthz(State(sources): State<Arc<Sources>>) -> Response {
    let status = sources.state.status();
    let healthy = status.healthy();
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let vteps = status.vteps.into_iter().map(|vtep| VtepVerdict {
        cidr: vtep.cidr,
        endpoint: vtep.endpoint,
        verdict: vtep.verdict,
        cause: vtep.cause,
        hint: vtep.hint,
    });
    (code, Json(Healthz { healthy, vteps: vteps.collect() })).into_response()
}
