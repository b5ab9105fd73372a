//! Collects the parts. None of them can prevent another one.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, anyhow};
use serde::Serialize;
use serde_json::json;
use tokio::time;
use vtep_core::{
    bundle::{
        allowed,
        part::{Outcome, Part, admit},
        redact::Redactor,
    },
    capture::{Known, explain::explain, pcapng},
    config::view::SourceState,
};

use super::{Args, agent, cilium, maps, redacted::redacted, secret};
use crate::{
    cli::{
        capture::APPLICATION,
        plan::Plan,
        preflight, probe,
        snapshot::{Sighting, Snapshot},
    },
    kernel::{
        capture::{Limits, record},
        listing, netlink,
    },
};

/// The deadline for what must ask the API server, or read the kernel.
const DEADLINE: Duration = Duration::from_secs(10);
/// The most frames of the capture, and the bytes of each, as in `capture`.
const FRAMES: usize = 1000;
const SNAP: u32 = 128;

/// All parts, and the node's name: another one, if addresses are replaced.
///
/// # Errors
///
/// The kernel has no random bytes for the replacement of addresses.
pub(super) async fn parts(args: &Args) -> anyhow::Result<(BTreeMap<Part, Outcome>, String)> {
    let secret = args.redact.then(secret).transpose()?;
    let node = &args.source.node_name;
    let mut parts = Parts::default();
    of_agent(&mut parts, &args.url).await;
    let sighting = within(DEADLINE, Sighting::read(&args.source)).await;
    let snapshot = of_configuration(&mut parts, args, sighting).await;
    of_node(&mut parts, args, &snapshot).await;
    of_maps(&mut parts, args, &snapshot);
    let tunnel = snapshot.as_ref().map(|snapshot| snapshot.facts.tunnel).unwrap_or_default();
    of_tunnels(&mut parts, args, snapshot).await;
    let Some(secret) = secret else { return Ok((parts.outcomes, node.clone())) };
    let mut redactor = Redactor::new(secret, node);
    Ok((redacted(parts.outcomes, tunnel, &mut redactor), redactor.text(node)))
}

#[derive(Default)]
struct Parts {
    outcomes: BTreeMap<Part, Outcome>,
    /// The bytes of all of them.
    size: usize,
}

impl Parts {
    fn add(&mut self, part: Part, found: anyhow::Result<Vec<u8>>) {
        self.insert(
            part,
            match found {
                Ok(bytes) => Outcome::Collected(bytes),
                Err(error) => Outcome::Missing(format!("{error:#}")),
            },
        );
    }

    fn insert(&mut self, part: Part, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Collected(bytes) => match admit(self.size, bytes.len()) {
                Ok(()) => {
                    self.size += bytes.len();
                    Outcome::Collected(bytes)
                }
                Err(why) => Outcome::Missing(why),
            },
            Outcome::Missing(_) | Outcome::LeftOut(_) => outcome,
        };
        self.outcomes.insert(part, outcome);
    }

    fn add_json(&mut self, part: Part, found: anyhow::Result<impl Serialize>) {
        self.add(part, found.and_then(|value| Ok(serde_json::to_vec_pretty(&value)?)));
    }
}

async fn within<T>(deadline: Duration, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    time::timeout(deadline, work).await.unwrap_or_else(|_| Err(anyhow!("it took more than {} s", deadline.as_secs())))
}

async fn of_agent(parts: &mut Parts, url: &str) {
    // At once, so that an agent that hangs costs one deadline.
    let ((status, table), history, health, metrics, log) = tokio::join!(
        agent::status(url),
        agent::body(url, "/history"),
        agent::health(url),
        agent::body(url, "/metrics"),
        agent::body(url, "/log"),
    );
    parts.add(Part::Status, status);
    parts.add(Part::Table, table);
    parts.add(Part::History, history);
    parts.add(Part::Health, health);
    parts.add(Part::Metrics, metrics);
    parts.add(Part::Log, log);
}

/// What `plan`, `probe` and the capture rest on; otherwise why there is none.
type Found = Result<Snapshot, String>;

async fn of_configuration(parts: &mut Parts, args: &Args, sighting: anyhow::Result<Sighting>) -> Found {
    let sighting = match sighting {
        Ok(sighting) => sighting,
        Err(error) => {
            let why = format!("{error:#}");
            parts.add(Part::Configuration, Err(anyhow!("{why}")));
            parts.add(Part::Findings, Err(anyhow!("{why}")));
            return Err(why);
        }
    };
    let view = &sighting.view;
    let keys = match &sighting.observed.state {
        SourceState::Document(document) => allowed::keys(&document.keys),
        SourceState::Missing(_) | SourceState::Nothing => BTreeMap::new(),
    };
    let configuration = json!({
        "source": view.source,
        "source_error": view.source_error,
        "hash": view.hash,
        "truth": view.truth,
        "truth_reason": view.truth_reason,
        "stale": view.stale,
        "keys": keys,
        "set_by": view.overrides.iter().filter(|(key, _)| keys.contains_key(*key)).collect::<BTreeMap<_, _>>(),
        "objects": view.objects,
        "names": view.names,
        "effective": view.effective,
        "vetoed": view.vetoed,
    });
    parts.add_json(Part::Configuration, Ok(configuration));
    parts.add_json(Part::Findings, Ok(&view.findings));
    if let Some(problem) = sighting.problem() {
        return Err(problem);
    }
    within(DEADLINE, sighting.snapshot(&args.source)).await.map_err(|error| format!("{error:#}"))
}

async fn of_node(parts: &mut Parts, args: &Args, snapshot: &Found) {
    let node = &args.source.node;
    parts.add_json(Part::Preflight, within(DEADLINE, preflight::Report::read(node, preflight::Trial::None)).await);
    let plan = async { Plan::read(&args.source, usable(snapshot)?).await };
    parts.add_json(Part::Plan, within(DEADLINE, plan).await);
    parts.add(Part::Cilium, within(DEADLINE, cilium::version(node)).await);
    parts.insert(Part::RunningConfig, cilium::running_config(&node.cilium_run));
    parts.insert(Part::Header, cilium::header(&node.cilium_run));
    match netlink::connect().context("failed to open a netlink socket") {
        Ok(netlink) => of_network(parts, &netlink, snapshot).await,
        Err(error) => {
            for part in [Part::Links, Part::Routes, Part::Rules, Part::Neighbours] {
                parts.add(part, Err(anyhow!("{error:#}")));
            }
        }
    }
}

async fn of_network(parts: &mut Parts, netlink: &rtnetlink::Handle, snapshot: &Found) {
    let links = within(DEADLINE, async { Ok(listing::links(netlink).await?) }).await;
    // Without their names, devices have numbers.
    let (names, links) = links.map_or_else(|error| (BTreeMap::new(), Err(error)), |(names, links)| (names, Ok(links)));
    parts.add_json(Part::Links, links);
    parts.add_json(Part::Routes, within(DEADLINE, async { Ok(listing::routes(netlink, &names).await?) }).await);
    parts.add_json(Part::Rules, within(DEADLINE, async { Ok(listing::rules(netlink).await?) }).await);
    let neighbours = async {
        let Snapshot { view, facts, .. } = usable(snapshot)?;
        let known = Known::new(view, facts);
        let wanted = known.endpoints.into_keys().chain(known.next_hops).collect();
        Ok(listing::neighbours(netlink, &wanted, &names).await?)
    };
    parts.add_json(Part::Neighbours, within(DEADLINE, neighbours).await);
}

fn of_maps(parts: &mut Parts, args: &Args, snapshot: &Found) {
    let (bpffs, view) = (&args.source.node.bpffs, snapshot.as_ref().ok().map(|snapshot| &snapshot.view));
    parts.add(Part::VtepMap, maps::vtep(bpffs, view.and_then(|view| view.effective.as_ref())));
    parts.add(Part::VtepMapRaw, maps::vtep_raw(bpffs));
    parts.add(Part::Ipcache, maps::ipcache(bpffs, view));
    parts.add(Part::IpcacheRaw, maps::ipcache_raw(bpffs));
}

/// Captures while the probes run, so that there is something to see.
async fn of_tunnels(parts: &mut Parts, args: &Args, snapshot: Found) {
    let snapshot = match usable(&snapshot) {
        Ok(snapshot) => snapshot.clone(),
        Err(error) => {
            for part in [Part::Probe, Part::Capture, Part::Words] {
                parts.add(part, Err(anyhow!("{error:#}")));
            }
            return;
        }
    };
    let known = Known::new(&snapshot.view, &snapshot.facts);
    let limits = Limits { time: Duration::from_secs(args.seconds), frames: FRAMES, snap: SNAP as usize };
    let facts = snapshot.facts.clone();
    let targets = args.probe_target.iter().copied().collect();
    let probe = probe::round(&args.source, &targets, snapshot, |_| Ok(()));
    let (captured, probed) = tokio::join!(record(&known, &facts, limits), within(DEADLINE, probe));
    parts.add_json(Part::Probe, probed.map(|status| status.vteps));
    match captured {
        Ok(capture) => {
            let lines = explain(&capture, &known).into_iter().chain(capture.left_out_words());
            let words = lines.map(|line| format!("{line}\n")).collect::<String>();
            parts.add(Part::Words, Ok(words.into_bytes()));
            parts.add(Part::Capture, Ok(pcapng::write(&capture, &known, APPLICATION, SNAP)));
        }
        Err(error) => {
            let error = anyhow::Error::from(error);
            parts.add(Part::Words, Err(anyhow!("{error:#}")));
            parts.add(Part::Capture, Err(error));
        }
    }
}

fn usable(snapshot: &Found) -> anyhow::Result<&Snapshot> {
    snapshot.as_ref().map_err(|why| anyhow!("{why}"))
}
