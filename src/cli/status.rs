//! `vtep-agent status`: prints the status of the running agent as a table.

use std::{
    cmp::Reverse,
    fmt::{self, Write as _},
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use anstyle::Style;
use anyhow::{Context, anyhow, bail};
use axum::{
    body::Bytes,
    http::{StatusCode, Uri},
};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use jiff::SignedDuration;
use vtep_core::{
    config::{finding::Severity, truth::Truth},
    diagnosis::Verdict,
    report::status::{Probe, Status, VtepStatus},
    tunnel::vtep_probes::ProbeState,
};

use super::{
    Format, json,
    style::{BAD, BOLD, CLEAR, GOOD, SOFT, WARNING, fold, paint},
};

/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum length of an answer, in bytes.
const LIMIT: usize = 4 << 20;
/// A monitor of BIG-IP connects to a pod at least this often.
const PODS: SignedDuration = SignedDuration::from_secs(60);
/// The interval of `--watch`.
const WATCH: Duration = Duration::from_secs(1);
/// The JSON Schema of `/status` and `-o json`.
const SCHEMA: &str = include_str!("../../docs/status.schema.json");

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  vtep-agent status --url http://127.0.0.1:9808\n\nExit status: 0 healthy, 1 not healthy, 2 no answer."
)]
pub struct Args {
    /// Where the agent listens.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9808", env = "VTEP_AGENT_URL")]
    url: String,
    /// Text for people, or JSON for programs.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
    /// Ask again every second, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    /// Print the JSON Schema of the status instead.
    #[arg(long)]
    schema: bool,
}

/// # Errors
///
/// The answer cannot be printed. If the agent does not answer, the exit status is 2.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.schema {
        io::stdout().write_all(SCHEMA.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        let fetched = tokio::time::timeout(TIMEOUT, fetch(&args.url)).await;
        let fetched = fetched.context("it took too long").and_then(|fetched| fetched);
        let code = match &fetched {
            Ok(status) if status.healthy() => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(_) => ExitCode::from(2),
        };
        match print(args, fetched) {
            // The reader, such as `head`, has enough: that is the end of `--watch`.
            Err(error) if is_closed(&error) => return Ok(if args.watch { ExitCode::SUCCESS } else { code }),
            printed => printed?,
        }
        if !args.watch {
            return Ok(code);
        }
        tokio::time::sleep(WATCH).await;
    }
}

fn print(args: &Args, fetched: anyhow::Result<Status>) -> anyhow::Result<()> {
    let mut out = anstream::stdout();
    if args.watch {
        out.write_all(CLEAR.as_bytes())?;
    }
    match fetched {
        Ok(status) => {
            let text = match args.output {
                Format::Text => table(&status)?,
                Format::Json => json::pretty(&status)?,
            };
            out.write_all(text.as_bytes())?;
        }
        Err(error) => writeln!(io::stderr(), "error: no answer from {}: {error:#}", args.url)?,
    }
    Ok(())
}

/// Nobody reads the output any more.
fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The agent speaks plain HTTP and nothing else.
fn endpoint(url: &str, path: &str) -> anyhow::Result<Uri> {
    const EXAMPLE: &str = "http://127.0.0.1:9808";
    let uri: Uri = format!("{}{path}", url.trim_end_matches('/'))
        .parse()
        .with_context(|| format!("not a URL; write e.g. {EXAMPLE}"))?;
    match uri.scheme_str() {
        Some("http") => Ok(uri),
        Some("https") => bail!("the agent speaks plain HTTP: use http:// in place of https://"),
        Some(_) | None => bail!("not an http:// URL; write e.g. {EXAMPLE}"),
    }
}

async fn fetch(url: &str) -> anyhow::Result<Status> {
    let (code, body) = get(url, "/status").await?;
    if !code.is_success() {
        bail!("it answered {code}");
    }
    serde_json::from_slice(&body).context("the answer is not the status of a vtep-agent")
}

/// The running agent's answer.
pub(super) async fn get(url: &str, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let uri = endpoint(url, path)?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = client.get(uri).await.context("failed to connect; is the agent running?")?;
    let code = answer.status();
    let body = Limited::new(answer.into_body(), LIMIT).collect().await;
    Ok((code, body.map_err(broken_off)?.to_bytes()))
}

fn broken_off(error: Box<dyn std::error::Error + Send + Sync>) -> anyhow::Error {
    if error.is::<LengthLimitError>() {
        return anyhow!("the answer has more than {LIMIT} bytes, the limit");
    }
    anyhow!("the answer broke off: {error}")
}

/// The status for a person, in 80 columns.
pub(super) fn table(status: &Status) -> Result<String, fmt::Error> {
    let mut out = String::new();
    header(&mut out, status)?;
    if !status.vteps.is_empty() {
        let names = ["VTEP", "ENDPOINT", "VERDICT", "ARP", "PING", "LOST"];
        let [vtep, endpoint, verdict, arp, ping, lost] = names;
        let head = format!("{vtep:<18} {endpoint:<15} {verdict:<13} {arp:>6} {ping:>6} {lost:>7} MAP");
        writeln!(out, "\n{}", paint(SOFT, head))?;
    }
    // Trouble first; otherwise the order of the configuration.
    let mut vteps: Vec<_> = status.vteps.iter().collect();
    vteps.sort_by_key(|vtep| Reverse(vtep.verdict.severity()));
    vteps.iter().try_for_each(|vtep| row(&mut out, vtep))?;
    if !vteps.is_empty() {
        writeln!(out, "{}", paint(SOFT, fold(&tested(status), "")))?;
    }
    for finding in status.config.findings.iter().filter(|finding| finding.severity > Severity::Info) {
        let (label, style) = match finding.severity {
            Severity::Error => ("error", BAD),
            Severity::Warning | Severity::Info => ("warning", WARNING),
        };
        let text = fold(&format!("{label}[{}]: {}", finding.rule, finding.message), "  ");
        writeln!(out, "\n{}{}", paint(style, label), &text[label.len()..])?;
    }
    Ok(out)
}

fn header(out: &mut String, status: &Status) -> fmt::Result {
    let Status { node, version, mode, config, kernel, cilium, datapath, .. } = status;
    let config_state = match (config.enabled, config.valid, config.stale) {
        _ if config.truth == Truth::None => "decided elsewhere: nothing is written",
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
    let running = match cilium.agent_stopped_at {
        Some(at) => format!(" (its agent does not run since {at:.0})"),
        None if cilium.running => String::new(),
        None => " (not running)".into(),
    };
    let mode = match mode {
        vtep_core::datapath::report::Mode::Observe => "observe",
        vtep_core::datapath::report::Mode::Enforce => "enforce",
    };
    let flawed = if config.valid || config.enabled == Some(false) { Style::new() } else { BAD };
    writeln!(out, "node      {}, vtep-agent {version}, {mode}", paint(BOLD, node))?;
    writeln!(out, "config    {}, {}", paint(flawed, config_state), config.source)?;
    let from_objects = format!("VTEPs from custom resources: {}", config.truth_reason);
    below(out, if config.truth == Truth::Crd { std::slice::from_ref(&from_objects) } else { &[] })?;
    writeln!(out, "kernel    {}{}", kernel.release, if kernel.supported { "" } else { " (not supported)" })?;
    below(out, &kernel.reasons)?;
    writeln!(out, "cilium    {cilium_version}{tunnel}{running}")?;
    below(out, cilium.config_error.as_slice())?;
    below(out, &cilium.reasons.iter().map(|reason| format!("restart it for {reason}")).collect::<Vec<_>>())?;
    let sync = if datapath.in_sync { paint(Style::new(), "in sync") } else { paint(BAD, "not in sync") };
    let repairs = match datapath.repairs_total {
        1 => "1 repair".to_owned(),
        repairs => format!("{repairs} repairs"),
    };
    writeln!(out, "datapath  {sync}, {repairs}")?;
    below(out, &datapath.problems)
}

/// What the columns rest on. No probe tests a pod's own packets, which also need a policy and a route that no probe uses. BIG-IP's own
/// connections to pods do.
fn tested(status: &Status) -> String {
    let as_of = status.datapath.last_pass.as_ref().map(|pass| pass.at);
    let answers = |vtep: &&VtepStatus| {
        let recent = vtep.seen.pods.answered_at.zip(as_of).map(|(at, as_of)| as_of.duration_since(at) < PODS);
        recent.unwrap_or(false)
    };
    let answering: Vec<_> = status.vteps.iter().filter(answers).map(|vtep| vtep.cidr.to_string()).collect();
    let pods = match answering.len() {
        0 => "not tested from a pod".into(),
        all if all == status.vteps.len() => "pods answer".into(),
        _ => format!("pods answer {}, the others are not tested from a pod", answering.join(", ")),
    };
    format!("tested from the node through each tunnel; {pods}")
}

/// Indented sentences below a line of the header.
fn below(out: &mut String, sentences: &[String]) -> fmt::Result {
    const INDENT: &str = "          ";
    sentences.iter().try_for_each(|sentence| writeln!(out, "{}", fold(&format!("{INDENT}{sentence}"), INDENT)))
}

fn row(out: &mut String, vtep: &VtepStatus) -> fmt::Result {
    let style = match vtep.verdict {
        Verdict::Healthy => GOOD,
        Verdict::Degraded | Verdict::Unknown => WARNING,
        Verdict::Unreachable | Verdict::Misconfigured => BAD,
    };
    writeln!(
        out,
        "{:<18} {:<15} {} {:>6} {:>6} {:>7} {}",
        vtep.cidr.to_string(),
        vtep.endpoint.to_string(),
        paint(style, format!("{:<13}", vtep.verdict.to_string())),
        rtt(&vtep.probes.arp),
        rtt(&vtep.probes.icmp),
        lost(&vtep.probes.icmp),
        vtep.datapath.state,
    )?;
    vtep.name.iter().try_for_each(|name| writeln!(out, "{}", paint(SOFT, fold(&format!("  {name}"), "  "))))?;
    if let (Some(cause), Some(hint)) = (&vtep.cause, &vtep.hint) {
        writeln!(out, "{}", fold(&format!("  {cause}: {hint}"), "  "))?;
        // The link is not folded, so that a terminal can open it.
        vtep.runbook.iter().try_for_each(|runbook| writeln!(out, "  {}", paint(SOFT, runbook)))?;
    }
    learned_mac(vtep).iter().try_for_each(|line| writeln!(out, "{}", fold(&format!("  {line}"), "  ")))?;
    if let Some(failover) = vtep.failovers.last() {
        writeln!(out, "{}", fold(&format!("  failover at {:.0}: {}", failover.at, failover.words()), "  "))?;
    }
    let also: Vec<_> = vtep.also.iter().map(ToString::to_string).collect();
    if also.is_empty() { Ok(()) } else { writeln!(out, "{}", fold(&format!("  also {}", also.join(", ")), "  ")) }
}

/// The MAC that the entry has in the place of the configured one, and what to do about it.
fn learned_mac(vtep: &VtepStatus) -> Option<String> {
    let mac = vtep.mac_learned?;
    let learning = vtep.mac_learning.as_ref();
    let since = learning.and_then(|of| of.since).map(|since| format!(" since {since:.0}")).unwrap_or_default();
    let remedy =
        learning.and_then(|of| of.config_line.as_ref()).map(|line| format!("; write {line} into cilium-config"));
    let configured = vtep.mac_configured;
    Some(format!("the entry has the learned MAC {mac}{since}, not {configured}{}", remedy.unwrap_or_default()))
}

/// Lost pings of the last ones; a share would not say of how many.
fn lost(probe: &Probe) -> String {
    let Probe { recent, recent_lost, .. } = probe;
    if *recent > 0 { format!("{recent_lost}/{recent}") } else { "-".into() }
}

/// The round-trip time of an answered probe, or else its state; at most six columns.
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

/// Three significant digits.
fn milliseconds(us: u64) -> String {
    let ms = us as f64 / 1e3;
    let digits = if ms < 10.0 { 2 } else { usize::from(ms < 100.0) };
    format!("{ms:.digits$}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_as_a_person_sees_it() -> fmt::Result {
        insta::assert_snapshot!(crate::cli::style::plain(&table(&Status::sample())?));
        Ok(())
    }

    #[test]
    fn trouble_comes_first_and_the_rest_in_order() -> fmt::Result {
        let mut status = Status::sample();
        let more = |n: u8, verdict| {
            let cidr = format!("10.1.{n}.0/24").parse().expect("a CIDR");
            VtepStatus { cidr, verdict, cause: None, ..Status::sample().vteps[0].clone() }
        };
        status.vteps.extend([more(4, Verdict::Healthy), more(3, Verdict::Degraded)]);
        let text = crate::cli::style::plain(&table(&status)?);
        let rows = text.lines().filter(|line| line.starts_with("10.1.")).filter_map(|line| line.split(' ').next());
        assert_eq!(rows.collect::<Vec<_>>(), ["10.1.5.0/24", "10.1.3.0/24", "10.1.6.0/24", "10.1.4.0/24"], "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80 || line.contains("https://")), "{text}");
        Ok(())
    }

    #[test]
    fn a_name_is_below_its_network() -> fmt::Result {
        let mut status = Status::sample();
        status.vteps[0].name = Some("vpc-gateway".into());
        let text = crate::cli::style::plain(&table(&status)?);
        let row = text.lines().position(|line| line.starts_with("10.1.6.0/24 "));
        assert_eq!(row.and_then(|row| text.lines().nth(row + 1)), Some("  vpc-gateway"), "{text}");
        Ok(())
    }

    #[test]
    fn custom_resources_are_named_with_the_reason() -> fmt::Result {
        let mut status = Status::sample();
        status.config.truth = Truth::Crd;
        status.config.truth_reason = "cilium-config has no lists".into();
        let text = crate::cli::style::plain(&table(&status)?);
        assert!(text.contains("\n          VTEPs from custom resources: cilium-config has no lists\n"), "{text}");
        Ok(())
    }

    /// An empty table alone would look like a failure.
    #[test]
    fn vteps_that_are_decided_elsewhere_are_said_to_be() -> fmt::Result {
        let mut status = Status::sample();
        status.config.truth = Truth::None;
        status.vteps.clear();
        let text = crate::cli::style::plain(&table(&status)?);
        let line = text.lines().find(|line| line.starts_with("config"));
        let expected = "config    decided elsewhere: nothing is written, ";
        assert!(line.is_some_and(|line| line.starts_with(expected)), "{text}");
        assert!(!text.contains("ENDPOINT"), "{text}");
        Ok(())
    }
}
