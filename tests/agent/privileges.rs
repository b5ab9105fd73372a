//! The rights in the manifest: they suffice for all of the agent's work, and none is superfluous.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use serde_json::Value;
use vtep_core::{
    report::status::{Probes, VtepStatus},
    tunnel::vtep_probes::ProbeState,
};
use vtep_lab::{Config, Lab};

use crate::{
    fitness::lives_and_writes_nothing,
    support::{AGENT, Agent, HEALTHY_WITHIN, LISTEN, REPAIRED_WITHIN, all_healthy, eventually, in_kernel},
};

/// The objects that `kubectl apply` gets, as of the build of the tests.
const MANIFEST: &str = include_str!("../../deploy/vtep-agent.yaml");

/// The purpose of each capability, in the agent's words.
const FEATURES: [(&str, &str); 3] = [
    ("BPF", "reading and writing Cilium's BPF maps, and the tap on the underlay"),
    ("NET_ADMIN", "host routes and their rules"),
    ("NET_RAW", "probing through the tunnel, and the tap on the underlay"),
];

/// Numbers of `linux/capability.h`.
const NUMBERS: [(&str, u8); 4] = [("NET_ADMIN", 12), ("NET_RAW", 13), ("SYS_ADMIN", 21), ("BPF", 39)];

/// The pod of the manifest's DaemonSet.
pub(crate) fn pod() -> Result<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(MANIFEST).context("the manifest is YAML")?;
    let daemon_set = documents.into_iter().find(|document| document["kind"] == "DaemonSet").context("a DaemonSet")?;
    Ok(daemon_set["spec"]["template"]["spec"].clone())
}

/// The capabilities of its container. All other rights in its `securityContext` must be those that the tests give the agent; otherwise
/// this is an error.
pub(crate) fn granted() -> Result<BTreeSet<String>> {
    let context = &pod()?["containers"][0]["securityContext"];
    let expected =
        [("runAsUser", Value::from(0)), ("allowPrivilegeEscalation", false.into()), ("privileged", false.into())];
    for (key, value) in expected {
        ensure!(context[key] == value, "{key} is {}", context[key]);
    }
    let capabilities = &context["capabilities"];
    ensure!(capabilities["drop"] == serde_json::json!(["ALL"]), "{capabilities}");
    let added = capabilities["add"].as_array().context("capabilities.add is a list")?;
    added.iter().map(|name| Ok(name.as_str().context("a capability is a string")?.to_owned())).collect()
}

/// `setpriv`, which removes everything except these capabilities from the program after it, like a container runtime.
pub(crate) fn confined<'a>(capabilities: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let kept =
        capabilities.into_iter().fold("-all".to_owned(), |kept, name| format!("{kept},+{}", name.to_lowercase()));
    let words = ["setpriv", "--no-new-privs", "--ambient-caps=-all", "--inh-caps=-all"];
    words.into_iter().map(str::to_owned).chain([format!("--bounding-set={kept}"), "--".into()]).collect()
}

/// Starts the agent behind the command of [`confined`].
fn start(lab: &Lab, confined: &[String]) -> Result<Agent> {
    let (setpriv, words) = confined.split_first().context("a program")?;
    let agent = lab.agent_command(Path::new(AGENT), LISTEN);
    let mut command = lab.node.command(setpriv);
    command.args(words).arg(agent.get_program()).args(agent.get_args());
    Agent::spawn(lab, command)
}

/// It has these capabilities, and cannot gain others.
pub(crate) fn is_confined_to(pid: Pid, capabilities: &BTreeSet<String>) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mask =
        NUMBERS.iter().filter(|(name, _)| capabilities.contains(*name)).fold(0_u64, |mask, (_, n)| mask | 1 << n);
    ensure!(mask.count_ones() as usize == capabilities.len(), "a capability without a number: {capabilities:?}");
    for (set, expected) in [("CapPrm", mask), ("CapEff", mask), ("CapBnd", mask), ("CapInh", 0), ("CapAmb", 0)] {
        ensure!(status.contains(&format!("{set}:\t{expected:016x}\n")), "{set} is not {expected:016x}: {status}");
    }
    ensure!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    Ok(())
}

/// All tasks of the agent.
pub(crate) fn does_its_work(lab: &Lab, agent: &Agent) -> Result<()> {
    let vteps = lab.topology.vteps();
    let status = agent.wait_for("each probe is answered, and the tap sees it", HEALTHY_WITHIN, |status| {
        all_healthy(status) && status.vteps.iter().all(|vtep| vtep.seen.packets > 0 && is_probed(vtep))
    })?;
    ensure!(status.tap.loaded && status.tap.error.is_none(), "{:?}", status.tap);
    ensure!(status.kernel.supported && status.datapath.problems.is_empty(), "{status:#?}");
    eventually("host routes are there", REPAIRED_WITHIN, || Ok(has_routes(lab)?.then_some(())))?;
    lab.cilium.delete_vtep(vteps[0].key())?;
    eventually("a deleted entry is back", REPAIRED_WITHIN, || Ok(in_kernel(lab, &vteps)?.then_some(())))?;
    lab.node.ip("route del 10.1.6.0/24 table 2021\nrule del priority 113 to 10.1.5.0/24")?;
    eventually("a deleted route and rule are back", REPAIRED_WITHIN, || Ok(has_routes(lab)?.then_some(())))
}

fn is_probed(vtep: &VtepStatus) -> bool {
    let Probes { underlay, arp, icmp, tcp: _, path_mtu, echo_every: _, skipped: _ } = &vtep.probes;
    [underlay, arp, icmp].iter().all(|probe| probe.state == ProbeState::Ok) && path_mtu.state == ProbeState::Ok
}

fn has_routes(lab: &Lab) -> Result<bool> {
    let rules = lab.node.ip("rule show")?;
    Ok(lab.node.ip("route show table 2021")?.lines().count() == 2 && rules.matches("113:").count() == 2)
}

#[test]
fn what_the_manifest_grants_is_enough() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let granted = granted()?;
    let mut agent = start(&lab, &confined(&granted))?;
    does_its_work(&lab, &agent)?;
    is_confined_to(agent.pid()?, &granted)?;
    ensure!(agent.terminate()?.success(), "a clean end");
    Ok(())
}

/// The capabilities of the chart's `legacyKernel`: Linux before 5.8 does not have `CAP_BPF`.
#[test]
fn sys_admin_stands_in_for_bpf() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let mut granted = granted()?;
    ensure!(granted.remove("BPF") && granted.insert("SYS_ADMIN".into()), "{granted:?}");
    let agent = start(&lab, &confined(&granted))?;
    does_its_work(&lab, &agent)?;
    is_confined_to(agent.pid()?, &granted)
}

#[test]
fn without_any_of_it_the_lack_is_named_and_nothing_is_written() -> Result<()> {
    let granted = granted()?;
    ensure!(granted.iter().eq(FEATURES.iter().map(|(name, _)| name)), "{granted:?}: say here what each is for");
    for (capability, feature) in FEATURES {
        let lab = Lab::start()?;
        lab.config.write(&Config::seed_keys())?;
        let words = confined(granted.iter().filter(|name| *name != capability));
        let reason = format!("missing CAP_{capability} ({feature}");

        let agent = start(&lab, &words)?;
        lives_and_writes_nothing(&lab, &agent, &reason).with_context(|| format!("without {capability}"))?;
        fails_in_the_kernel(capability, &agent)?;

        let (setpriv, words) = words.split_first().context("a program")?;
        for command in [&["preflight"][..], &["run", "--once", "--config-dir", vtep_lab::CONFIG]] {
            let output = lab.node.command(setpriv).args(words).arg(AGENT).args(command).output()?;
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(output.status.code() == Some(1) && said.contains(&reason), "{command:?}: {output:?}");
        }
    }
    Ok(())
}

/// The kernel refuses the tap without either of the two capabilities that the documents name, and accepts it without the third.
fn fails_in_the_kernel(capability: &str, agent: &Agent) -> Result<()> {
    agent.wait_for("the tap has been tried", HEALTHY_WITHIN, |status| {
        // Without NET_RAW the agent can send no probe, and does not try.
        status.tap.loaded == (capability == "NET_ADMIN") && status.tap.error.is_some() == (capability == "BPF")
    })?;
    Ok(())
}
