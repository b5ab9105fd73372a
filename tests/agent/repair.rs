//! Changes of the kernel by other programs, and the time until the agent repairs them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vtep_core::report::status::Status;
use vtep_lab::{Lab, Vtep};

use crate::{
    configured_lab::{ConfiguredLab, Source, with_each_source},
    support::{Agent, HEALTHY_WITHIN, NOTICED_WITHIN, REPAIRED_WITHIN, all_healthy, bpftool, eventually, in_kernel},
};

const PIN: &str = "/sys/fs/bpf/tc/globals/cilium_vtep_map";
/// 10.1.6.0 in bpftool's form of a key.
const KEY: &str = "10 1 6 0";

with_each_source!(entries_are_mended, a_new_empty_map_is_filled);

fn repaired(lab: &ConfiguredLab) -> Result<()> {
    let vteps = lab.topology.vteps();
    eventually("the map is as configured", lab.repaired_within(), || Ok(lab.has_in_kernel(&vteps)?.then_some(())))
}

fn entries_are_mended(source: Source) -> Result<()> {
    let lab = ConfiguredLab::start(source)?;
    // A map of another owner, of the same shape.
    let other = "/sys/fs/bpf/tc/globals/somebody_elses_map";
    bpftool(&lab, &format!("map create {other} type hash key 4 value 16 entries 8 name other flags 1"))?;
    bpftool(&lab, &format!("map update pinned {other} key 10 9 9 0 value 0 1 2 3 4 5 0 0 10 9 9 9 0 0 0 0"))?;
    let others = bpftool(&lab, &format!("-j map dump pinned {other}"))?;
    let agent = lab.healthy_agent()?;

    let vtep = lab.topology.vteps()[0];
    lab.delete_by_hand(&vtep)?;
    repaired(&lab)?;
    // Another endpoint, another MAC, padding that is not zero.
    for value in [
        "0 80 86 160 125 216 0 0 10 169 72 99 0 0 0 0",
        "0 80 86 1 2 3 0 0 10 169 72 34 0 0 0 0",
        "0 80 86 160 125 216 1 0 10 169 72 34 0 0 0 0",
    ] {
        lab.write_by_hand(&vtep, value)?;
        repaired(&lab)?;
    }
    let status =
        agent.wait_for("the repairs are counted", HEALTHY_WITHIN, |status| status.datapath.repairs_total >= 4)?;
    ensure!(status.vteps.iter().any(|vtep| vtep.datapath.repairs >= 4), "{status:?}");
    ensure!(bpftool(&lab, &format!("-j map dump pinned {other}"))? == others, "somebody else's map is as it was");
    Ok(())
}

/// Nothing tells the agent of a change of the map, and it makes a pass only once a second: the sentinel calls for one.
#[test]
fn a_change_of_the_map_calls_for_a_pass() -> Result<()> {
    const TIMES: usize = 5;
    let lab = ConfiguredLab::start(Source::Lists)?;
    let agent = lab.healthy_agent()?;
    let vtep = lab.topology.vteps()[0];
    for _ in 0..TIMES {
        lab.delete_by_hand(&vtep)?;
        repaired(&lab)?;
    }
    // A pass that was due anyway may have come first, but not each time.
    let called = || Ok((!agent.lines("map-changed").is_empty()).then_some(()));
    eventually("the log names the reason", HEALTHY_WITHIN, called)
}

#[test]
fn an_entry_that_is_in_no_list_is_deleted() -> Result<()> {
    let lab = ConfiguredLab::start(Source::Lists)?;
    let agent = lab.healthy_agent()?;
    let stale = Vtep { cidr: "10.9.9.0/24".parse()?, ..lab.topology.vteps()[0] };
    lab.write_by_hand(&stale, "0 1 2 3 4 5 0 0 10 9 9 9 0 0 0 0")?;
    repaired(&lab)?;
    let said = || Ok((!agent.lines("delete stale vtep entry 10.9.9.0/24").is_empty()).then_some(()));
    eventually("the log has it", HEALTHY_WITHIN, said)
}

#[test]
fn what_cilium_was_started_with_is_not_stale() -> Result<()> {
    let mut lab = Lab::start()?;
    let mut named = lab.topology.vteps();
    let mut third = named.remove(0);
    third.cidr = "10.1.7.0/24".parse()?;
    named.push(third);
    lab.cilium.running.vteps = named;
    lab.cilium.write_running_config()?;
    lab.cilium.put_vtep(third.key(), third.value())?;
    let _agent = Agent::healthy(&lab)?;
    bpftool(&lab, &format!("map delete pinned {PIN} key {KEY}"))?;
    let mut expected = lab.topology.vteps();
    expected.push(third);
    eventually("the entry is back", REPAIRED_WITHIN, || Ok(in_kernel(&lab, &expected)?.then_some(())))
}

fn a_new_empty_map_is_filled(source: Source) -> Result<()> {
    let mut lab = ConfiguredLab::start(source)?;
    let agent = lab.healthy_agent()?;
    for _ in 0..if source.is_lists() { 3 } else { 1 } {
        lab.cilium.replace_pin()?;
        repaired(&lab)?;
    }
    // With objects, probes are lost while Cilium comes first, and it takes half a minute of answers until that is no loss any more.
    agent.wait_for("both VTEPs are healthy", Duration::from_secs(100), all_healthy)?;
    Ok(())
}

#[test]
fn host_routes_are_mended() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let route = "10.1.6.0/24 dev cilium_host scope link mtu 1450";
    let routes = || lab.node.ip("route show table 2021");
    ensure!(routes()?.contains("10.1.6.0/24") && routes()?.contains("mtu 1450"), "{}", routes()?);
    lab.node.ip("route del 10.1.6.0/24 table 2021")?;
    lab.node.ip("rule del priority 113 to 10.1.6.0/24 lookup 2021")?;
    eventually("route and rule are back", REPAIRED_WITHIN, || {
        let there = routes()?.contains(route)
            || routes()?.contains("10.1.6.0/24 dev cilium_host proto 113 scope link mtu 1450");
        Ok((there && lab.node.ip("rule show")?.contains("113:\tfrom all to 10.1.6.0/24 lookup 2021")).then_some(()))
    })?;
    // Both repairs are news of this VTEP, and not of its entry in the map.
    let counted = |status: &Status| {
        let [first, second] = [0, 1].map(|n| &status.vteps[n].datapath);
        (first.repairs, first.route_repairs, second.route_repairs) == (0, 2, 0)
    };
    agent.wait_for("both are counted", NOTICED_WITHIN, counted)?;
    eventually("both are among the changes", NOTICED_WITHIN, || {
        let (_, history) = agent.get("/history")?.context("an answer")?;
        let history: Value = serde_json::from_str(&history)?;
        let changes = history["changes"].as_array().context("changes")?.clone();
        let repaired = |change: &Value| change["route_repairs"].as_u64().filter(|_| change["cidr"] == "10.1.6.0/24");
        Ok((changes.iter().filter_map(repaired).sum::<u64>() == 2).then_some(()))
    })
}

#[test]
fn ciliums_missing_rule_is_restored_and_nothing_is_added() -> Result<()> {
    let lab = Lab::builder().l7_proxy(true).start()?;
    let agent = Agent::healthy(&lab)?;
    let rule = "112:\tfrom all to 10.1.6.0/24 lookup 202";
    ensure!(lab.node.ip("rule show")?.contains(rule), "{}", lab.node.ip("rule show")?);
    lab.node.ip("rule del priority 112 to 10.1.6.0/24 lookup 202")?;
    eventually("Cilium's rule is back", REPAIRED_WITHIN, || {
        Ok(lab.node.ip("rule show")?.contains(rule).then_some(()))
    })?;
    ensure!(!lab.node.ip("rule show")?.contains("113:"), "Cilium routes them: {}", lab.node.ip("rule show")?);
    let counted = |status: &Status| status.vteps.iter().map(|vtep| vtep.datapath.route_repairs).eq([1, 0]);
    agent.wait_for("the repair is counted", NOTICED_WITHIN, counted)?;
    Ok(())
}

#[test]
fn somebody_elses_routes_and_rules_stay_and_are_not_fought_over() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let foreign = ["192.168.5.0/24 dev eth0 scope link", "10.1.6.0/24 dev cilium_host scope link metric 100"];
    for route in foreign {
        lab.node.ip(&format!("route add {route} table 2021"))?;
    }
    lab.node.ip("rule add from 192.168.5.0/24 to 10.1.7.0/24 lookup 2021 priority 113")?;
    let status = agent.wait_for("a pass after that", HEALTHY_WITHIN, |status| status.datapath.in_sync)?;
    let at = status.datapath.last_pass.map(|pass| pass.at);
    let later = agent.wait_for("later passes", HEALTHY_WITHIN, |status| {
        status.datapath.last_pass.as_ref().map(|pass| pass.at.as_millisecond() / 1000)
            > at.map(|at| at.as_millisecond() / 1000 + 1)
    })?;
    ensure!(later.datapath.in_sync && later.datapath.repairs_total == 0, "{:?}", later.datapath);
    let routes = lab.node.ip("route show table 2021")?;
    ensure!(routes.contains("192.168.5.0/24") && routes.contains("metric 100"), "{routes}");
    ensure!(lab.node.ip("rule show")?.contains("from 192.168.5.0/24 to 10.1.7.0/24"), "{}", lab.node.ip("rule show")?);
    Ok(())
}
