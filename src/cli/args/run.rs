//! The flags of `run`, and the settings of its tasks that follow from them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use clap::error::ErrorKind;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;
use vtep_core::{
    diagnosis::RUNBOOK,
    node::fitness::Fitness,
    report::status::Identity,
    tunnel::{
        mac_learning::{LearnMacs, LearnedMacs},
        vtep_probes::ProbeTiming,
        window::Thresholds,
    },
};

use super::{choices::Mode, source};
use crate::{
    k8s, logging,
    tasks::{
        prober,
        reconcile::{self, Lifeline},
    },
};

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  vtep-agent run --config-source dir --config-dir /etc/cilium-config --probe-target 10.1.6.0/24=10.1.6.34\n\n\
                  Exit status: 0 on SIGTERM or SIGINT."
)]
pub struct Args {
    #[command(flatten)]
    pub source: source::Source,
    /// Make one pass and exit, without probes or endpoints: 0 in sync, 1 not, 2 no usable configuration, or its source does not answer.
    #[arg(long)]
    pub once: bool,
    /// Write to the kernel, or only observe: `observe` does everything except write.
    #[arg(long, value_enum, default_value = "enforce", env = "VTEP_AGENT_MODE")]
    pub mode: Mode,
    /// Address and port of the HTTP endpoints.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9808", env = "VTEP_AGENT_LISTEN")]
    pub listen: SocketAddr,
    /// How often to look whether the VTEP map has changed, 1ms to 5s.
    #[arg(long, value_name = "DURATION", default_value = "4ms", value_parser = verify_interval, env = "VTEP_AGENT_VERIFY_INTERVAL")]
    pub verify_interval: Duration,
    /// How often each BIG-IP is probed.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval, env = "VTEP_AGENT_PROBE_INTERVAL")]
    pub probe_interval: Duration,
    /// How long to wait for the answer to a probe; not longer than the interval.
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = interval, env = "VTEP_AGENT_PROBE_TIMEOUT")]
    pub probe_timeout: Duration,
    /// Probes in a row that must fail before a cause is raised.
    #[arg(long, value_name = "COUNT", default_value_t = 3, env = "VTEP_AGENT_PROBE_FAILURES")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub probe_failures: u32,
    /// Probes in a row that must be answered before a cause is cleared.
    #[arg(long, value_name = "COUNT", default_value_t = 3, env = "VTEP_AGENT_PROBE_SUCCESSES")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub probe_successes: u32,
    /// The tunnel self IP behind a VTEP CIDR, repeatable (the last one for a CIDR counts); without it, it is learned from BIG-IP's own frames.
    #[arg(long, value_name = "CIDR=IP", value_parser = probe_target, value_delimiter = ',', env = "VTEP_AGENT_PROBE_TARGET")]
    pub probe_target: Vec<(Ipv4Net, Ipv4Addr)>,
    /// A TCP port of the tunnel self IP behind a VTEP CIDR to send SYNs to, repeatable, one for each CIDR; no connection is completed, and silence alone is no verdict.
    #[arg(long, value_name = "CIDR=IP:PORT", value_parser = tcp_target, value_delimiter = ',', env = "VTEP_AGENT_PROBE_TCP")]
    pub probe_tcp: Vec<(Ipv4Net, SocketAddrV4)>,
    /// While BIG-IP's own frames show that its tunnel works, skip nine rounds of probes in ten.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL", env = "VTEP_AGENT_PASSIVE_FIRST")]
    pub passive_first: bool,
    /// How often the log summarizes each VTEP; one that stays healthy, every sixth time.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = interval, env = "VTEP_AGENT_SUMMARY_INTERVAL")]
    pub summary_interval: Duration,
    /// Report changes of a verdict as Events of the Node, and findings as Events of the ConfigMap.
    #[arg(long, value_enum, default_value = "on", env = "VTEP_AGENT_EVENTS")]
    pub events: EventsMode,
    /// Keep the Node's condition VtepTunnelsHealthy; it informs, and nothing follows from it.
    #[arg(long, env = "VTEP_AGENT_NODE_CONDITION")]
    pub node_condition: bool,
    /// Where your people find the runbook: `/status` and Events link to its section of the cause.
    #[arg(long, value_name = "URL", default_value = RUNBOOK, env = "VTEP_AGENT_RUNBOOK_URL")]
    pub runbook_url: String,
    /// How to write the log: for people, or one JSON object a line.
    #[arg(long, value_enum, default_value = "text", env = "VTEP_AGENT_LOG_FORMAT")]
    pub log_format: logging::Format,
    /// The least level that is logged, or directives such as `info,vtep_agent::tasks=debug`.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = log_level, env = "VTEP_AGENT_LOG_LEVEL")]
    pub log_level: String,
}

/// `--events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EventsMode {
    On,
    Off,
}

impl Args {
    /// Checks what clap cannot: values against each other.
    ///
    /// # Errors
    ///
    /// A CIDR has two ports to send SYNs to; one of them would have no effect.
    pub fn check(&self) -> Result<(), clap::Error> {
        let mut ports = BTreeMap::new();
        for (cidr, port) in &self.probe_tcp {
            if let Some(before) = ports.insert(cidr, port).filter(|before| *before != port) {
                let error = format!("--probe-tcp names {before} and {port} for {cidr}: give each CIDR only one port\n");
                return Err(clap::Error::raw(ErrorKind::ValueValidation, error));
            }
        }
        Ok(())
    }

    /// Settings of the reconciler.
    #[must_use]
    pub fn reconcile(
        &self,
        fitness: Arc<Fitness>,
        lifeline: Lifeline,
        recheck: watch::Sender<()>,
    ) -> reconcile::Settings {
        let (mode, look, datapath) = (self.mode.into(), self.verify_interval, self.source.datapath());
        reconcile::Settings { mode, fitness, look, datapath, lifeline, recheck }
    }

    /// Settings of the prober.
    #[must_use]
    pub fn probing(&self) -> prober::Settings {
        let thresholds = Thresholds { raise: self.probe_failures, clear: self.probe_successes };
        prober::Settings {
            // ARP replies have no sequence number. The timeout is shorter than the interval, so that a late reply does not count as the
            // answer to the next request.
            timing: ProbeTiming {
                interval: self.probe_interval,
                timeout: self.probe_timeout.min(self.probe_interval.mul_f64(0.8)),
                thresholds,
            },
            passive_first: self.passive_first,
            bpffs: self.source.node.bpffs.clone(),
            tcp_targets: self.probe_tcp.iter().copied().collect(),
            learn_macs: if self.mode == Mode::Enforce { self.source.learn_macs() } else { LearnMacs::default() },
            targets: self.probe_target.iter().copied().collect::<BTreeMap<_, _>>(),
        }
    }

    /// The MACs that entries have in the place of configured ones. An agent that only observes learns none.
    #[must_use]
    pub fn learned_macs(&self) -> LearnedMacs {
        if self.mode == Mode::Enforce { self.source.learned_macs() } else { LearnedMacs::new() }
    }

    /// The values that do not change while the agent runs.
    #[must_use]
    pub fn identity(&self, fitness: Arc<Fitness>) -> Identity {
        Identity {
            node: self.source.node_name.clone(),
            mode: self.mode.into(),
            started_at: Timestamp::now(),
            fitness,
            runbook: self.runbook_url.clone(),
            in_pod: k8s::in_pod(),
        }
    }
}

/// Checks the directives for [`logging::init`].
fn log_level(text: &str) -> Result<String, String> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// A duration such as `100ms`, `1s` or `5m`.
fn interval(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_millis(10), Duration::from_secs(24 * 60 * 60))
}

/// Limits the interval: with one of more than a few seconds, `/livez` would report that the loop hangs.
fn verify_interval(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_millis(1), Duration::from_secs(5))
}

pub(in crate::cli) fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(interval) if (least..=most).contains(&interval) => Ok(interval),
        Ok(_) => Err(format!("must be {} to {}", humantime::format_duration(least), humantime::format_duration(most))),
        Err(error) => Err(format!("{error}; write e.g. 250ms, 1s or 5m")),
    }
}

/// Parses `CIDR=IP`. The IP must lie inside the CIDR.
///
/// # Errors
///
/// The message says what is wrong with the text.
pub fn probe_target(text: &str) -> Result<(Ipv4Net, Ipv4Addr), String> {
    let (cidr, address) = text.split_once('=').ok_or("write CIDR=IP, e.g. 10.1.6.0/24=10.1.6.34")?;
    let cidr: Ipv4Net = cidr.trim().parse().map_err(|_| format!("{cidr:?} is not an IPv4 CIDR"))?;
    let address = address.trim().parse().map_err(|_| format!("{address:?} is not an IPv4 address"))?;
    if cidr.contains(&address) { Ok((cidr.trunc(), address)) } else { Err(format!("{address} is not inside {cidr}")) }
}

/// Parses `CIDR=IP:PORT`. The IP must lie inside the CIDR.
fn tcp_target(text: &str) -> Result<(Ipv4Net, SocketAddrV4), String> {
    let (target, port) = text.rsplit_once(':').ok_or("write CIDR=IP:PORT, e.g. 10.1.6.0/24=10.1.6.34:443")?;
    let (cidr, address) = probe_target(target)?;
    match port.trim().parse() {
        Ok(0) | Err(_) => Err(format!("{port:?} is not a TCP port")),
        Ok(port) => Ok((cidr, SocketAddrV4::new(address, port))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_cidr_has_one_port_to_probe() {
        for (ports, error) in [
            (&["10.1.6.0/24=10.1.6.34:443,10.1.5.0/24=10.1.5.36:443"][..], None),
            (&["10.1.6.0/24=10.1.6.34:443", "10.1.6.0/24=10.1.6.34:443"], None),
            (
                &["10.1.6.0/24=10.1.6.34:443,10.1.5.0/24=10.1.5.36:443", "10.1.6.7/24=10.1.6.34:80"],
                Some(
                    "error: --probe-tcp names 10.1.6.34:443 and 10.1.6.34:80 for 10.1.6.0/24: give each CIDR only one port\n",
                ),
            ),
        ] {
            let flags = ports.iter().flat_map(|ports| ["--probe-tcp", ports]);
            let line = Line::try_parse_from(["run"].into_iter().chain(flags)).expect("each value is valid");
            let found = line.args.check().err();
            assert_eq!(found.as_ref().map(clap::Error::exit_code), error.map(|_| 2), "{ports:?}");
            assert_eq!(found.map(|error| error.to_string()).as_deref(), error, "{ports:?}");
        }
    }
}
