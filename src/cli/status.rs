//! `vtep-agent status`: a table from the running agent.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use axum::body::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use super::Format;
use crate::{
    config::finding::Severity,
    probe::lane::ProbeState,
    status::{Probe, Status, VtepStatus},
};

/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of the largest answer taken.
const LIMIT: usize = 4 << 20;

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  vtep-agent status --url http://127.0.0.1:9808\n\nExit status: 0 healthy, 1 not healthy, 2 no answer."
)]
pub struct Args {
    /// Where the agent listens.
    #[arg(long, default_value = "http://127.0.0.1:9808", env = "VTEP_AGENT_URL")]
    url: String,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

/// # Errors
///
/// When the answer cannot be printed. An agent that does not answer is exit status 2.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let fetched = tokio::time::timeout(PATIENCE, fetch(&args.url)).await;
    let status = match fetched.context("it took too long").and_then(|fetched| fetched) {
        Ok(status) => status,
        Err(error) => {
            writeln!(std::io::stderr(), "error: no answer from {}: {error:#}", args.url)?;
            return Ok(ExitCode::from(2));
        }
    };
    let text = match args.output {
        Format::Text => table(&status)?,
        Format::Json => serde_json::to_string_pretty(&status)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if status.healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn fetch(url: &str) -> anyhow::Result<Status> {
    let uri = format!("{}/status", url.trim_end_matches('/'))
        .parse()
        .context("not a URL; write e.g. http://127.0.0.1:9808")?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = client.get(uri).await.context("failed to connect; is the agent running?")?;
    if !answer.status().is_success() {
        bail!("it answered {}", answer.status());
    }
    let body = Limited::new(answer.into_body(), LIMIT).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
    serde_json::from_slice(&body).context("the answer is not the status of a vtep-agent")
}

/// The status for a person: at most 80 columns, but for hints.
fn table(status: &Status) -> Result<String, fmt::Error> {
    let mut out = String::new();
    header(&mut out, status)?;
    if !status.vteps.is_empty() {
        writeln!(
            out,
            "\n{:<18} {:<15} {:<13} {:>6} {:>6} {:>5} MAP",
            "VTEP", "ENDPOINT", "VERDICT", "ARP", "PING", "LOSS"
        )?;
    }
    for vtep in &status.vteps {
        row(&mut out, vtep)?;
    }
    for finding in status.config.findings.iter().filter(|finding| finding.severity > Severity::Info) {
        let position = finding.index.map(|index| format!("[{index}]")).unwrap_or_default();
        write!(out, "\n{}{position}: {} ({})", finding.key, finding.message, finding.rule)?;
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    Ok(out)
}

fn header(out: &mut String, status: &Status) -> fmt::Result {
    let Status { node, version, mode, config, kernel, cilium, datapath, .. } = status;
    let config_state = match (config.enabled, config.valid, config.stale) {
        (Some(false), ..) => "VTEP disabled",
        (Some(true), true, _) => "valid",
        (Some(true), false, true) => "in error: last good values in force",
        (Some(true), false, false) => "in error",
        (None, ..) => "none yet",
    };
    let tunnel = match (&cilium.tunnel_protocol, cilium.tunnel_port) {
        (Some(protocol), Some(port)) => format!("{protocol} port {port}"),
        (None, _) | (_, None) => "unknown tunnel".into(),
    };
    let cilium_version = cilium.version.map(|version| format!("{version}, ")).unwrap_or_default();
    let running = if cilium.running { "" } else { " (not running)" };
    let mode = match mode {
        crate::reconcile::Mode::Observe => "observe",
        crate::reconcile::Mode::Enforce => "enforce",
    };
    writeln!(out, "node      {node}, vtep-agent {version}, {mode}")?;
    writeln!(out, "config    {config_state}, {}", config.source)?;
    writeln!(out, "kernel    {}{}", kernel.release, if kernel.supported { "" } else { " (not supported)" })?;
    writeln!(out, "cilium    {cilium_version}{tunnel}{running}")?;
    cilium.reasons.iter().try_for_each(|reason| writeln!(out, "          restart it for {reason}"))?;
    let sync = if datapath.in_sync { "in sync" } else { "not in sync" };
    writeln!(out, "datapath  {sync}, {} repairs", datapath.repairs_total)?;
    datapath.problems.iter().try_for_each(|problem| writeln!(out, "          {problem}"))
}

fn row(out: &mut String, vtep: &VtepStatus) -> fmt::Result {
    writeln!(
        out,
        "{:<18} {:<15} {:<13} {:>6} {:>6} {:>4.0}% {}",
        vtep.cidr.to_string(),
        vtep.endpoint.to_string(),
        vtep.verdict.to_string(),
        rtt(&vtep.probes.arp),
        rtt(&vtep.probes.icmp),
        vtep.probes.icmp.loss * 100.0,
        vtep.datapath.state,
    )?;
    match (&vtep.cause, &vtep.hint) {
        (Some(cause), Some(hint)) => writeln!(out, "  {cause}: {hint}"),
        (None, _) | (_, None) => Ok(()),
    }
}

/// The round-trip time where the probe is answered, the state where it is not: six columns.
fn rtt(probe: &Probe) -> String {
    match (probe.state, probe.rtt_us) {
        (ProbeState::Ok, Some(rtt_us)) => milliseconds(rtt_us),
        (ProbeState::Ok, None) => "ok".into(),
        (ProbeState::Pending, _) => "…".into(),
        (ProbeState::Failed, _) => "failed".into(),
        (ProbeState::NoTarget, _) => "-".into(),
        (ProbeState::Unsupported, _) => "n/a".into(),
    }
}

/// Three digits that matter.
fn milliseconds(us: u64) -> String {
    let ms = us as f64 / 1e3;
    let digits = if ms < 10.0 { 2 } else { usize::from(ms < 100.0) };
    format!("{ms:.digits$}ms")
}
