//! The VTEPs come from another source than `cilium-config`: the agent writes and deletes nothing.

use anyhow::{Context, Result, ensure};
use vtep_core::config::truth::Truth;
use vtep_lab::{Config, Lab};

use crate::support::{Agent, HEALTHY_WITHIN, NOTICED_WITHIN, all_healthy, bpftool, eventually, in_kernel};

const PIN: &str = "/sys/fs/bpf/tc/globals/cilium_vtep_map";

/// The lists disappear, and another controller takes the map over: it changes one of the agent's entries, removes the other, and adds one
/// of its own.
#[test]
fn lists_that_are_gone_leave_the_map_to_another_controller() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut keys = Config::seed_keys();
    keys.retain(|key, _| !["vtep-endpoint", "vtep-cidr", "vtep-mac"].contains(&key.as_str()));
    lab.config.write(&keys)?;
    let elsewhere = |status: &vtep_core::report::status::Status| status.config.truth == Truth::None;
    agent.wait_for("the truth is elsewhere", HEALTHY_WITHIN, elsewhere)?;

    bpftool(&lab, &format!("map update pinned {PIN} key 10 1 6 0 value 0 80 86 1 2 3 0 0 10 9 9 9 0 0 0 0"))?;
    bpftool(&lab, &format!("map delete pinned {PIN} key 10 1 5 0"))?;
    bpftool(&lab, &format!("map update pinned {PIN} key 10 9 9 0 value 0 80 86 1 2 3 0 0 10 9 9 9 0 0 0 0"))?;
    let theirs = lab.cilium.vtep_entries()?;
    let (routes, rules) = (lab.node.ip("route show table 2021")?, lab.node.ip("rule show")?);
    let passes = |status: &vtep_core::report::status::Status| {
        status.datapath.last_pass.as_ref().map(|pass| pass.at.as_millisecond() / 1000)
    };
    let now = agent.wait_for("a pass", HEALTHY_WITHIN, |status| passes(status).is_some())?;
    let later = agent
        .wait_for("ten passes and more", HEALTHY_WITHIN, |status| passes(status) > passes(&now).map(|at| at + 1))?;
    ensure!(later.vteps.is_empty() && later.datapath.pending.is_empty(), "{later:?}");
    ensure!(lab.cilium.vtep_entries()? == theirs, "the map is theirs: {:?}", lab.cilium.vtep_entries()?);
    ensure!(lab.node.ip("route show table 2021")? == routes && lab.node.ip("rule show")? == rules, "routes stay");
    ensure!(later.config.findings.iter().all(|finding| finding.rule.id() != "vtep-list-empty"), "{later:?}");
    ensure!(agent.lines("no VTEP lists in cilium-config").len() == 1, "{}", agent.log().join("\n"));
    let metrics = agent.get("/metrics")?.map(|(_, text)| text).unwrap_or_default();
    ensure!(metrics.contains("vtep_agent_config_truth{truth=\"none\"} 1"), "{metrics}");

    lab.config.write(&Config::seed_keys())?;
    eventually("the lists are in force again", HEALTHY_WITHIN, || {
        Ok(in_kernel(&lab, &lab.topology.vteps())?.then_some(()))
    })?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    ensure!(agent.lines("VTEP lists are in cilium-config again").len() == 1, "{}", agent.log().join("\n"));
    Ok(())
}

/// The agent's remaining routes must still not cover a network that the node needs. The map entry belongs to the other controller.
#[test]
fn a_network_that_becomes_connected_is_no_longer_routed() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut keys = Config::seed_keys();
    keys.retain(|key, _| !["vtep-endpoint", "vtep-cidr", "vtep-mac"].contains(&key.as_str()));
    lab.config.write(&keys)?;
    agent.wait_for("the truth is elsewhere", HEALTHY_WITHIN, |status| status.config.truth == Truth::None)?;
    let ours = || lab.node.ip("rule show\nroute show table 2021");
    ensure!(ours()?.matches("10.1.5.0/24").count() == 2, "route and rule are still there: {}", ours()?);

    lab.node.ip("address add 10.1.5.77/24 dev eth0")?;
    let withdrawn = || Ok((!ours()?.contains("10.1.5.0/24")).then_some(()));
    eventually("route and rule are withdrawn", NOTICED_WITHIN, withdrawn).with_context(|| agent.log().join("\n"))?;
    ensure!(ours()?.matches("10.1.6.0/24").count() == 2, "those of the other stay: {}", ours()?);
    ensure!(in_kernel(&lab, &lab.topology.vteps())?, "the map stays: {:?}", lab.cilium.vtep_entries()?);
    Ok(())
}

/// Empty keys are an error, so the last good lists remain in effect.
#[test]
fn lists_that_are_empty_are_a_mistake() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut keys = Config::seed_keys();
    for key in ["vtep-endpoint", "vtep-cidr", "vtep-mac"] {
        keys.insert(key.into(), String::new());
    }
    lab.config.write(&keys)?;
    let status = agent.wait_for("the finding is there", HEALTHY_WITHIN, |status| !status.config.valid)?;
    ensure!(status.config.truth == Truth::Configmap, "{status:?}");
    ensure!(status.config.findings.iter().any(|finding| finding.rule.id() == "vtep-list-empty"), "{status:?}");
    ensure!(in_kernel(&lab, &lab.topology.vteps())?, "the last good lists stay");
    Ok(())
}
