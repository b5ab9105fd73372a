//! Routes and rules: the agent owns them by protocol and record, and touches no others in the same table.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use vtep_lab::{CILIUM_RUN, Config, Lab, STATE};

use crate::support::{AGENT, Agent, HEALTHY_WITHIN, LISTEN, REPAIRED_WITHIN, all_healthy, eventually, run};

/// Objects of another owner: routes in the agent's table with another device, and rules for other networks at its priority, in the
/// agent's places.
const FOREIGN_ROUTES: [&str; 3] = [
    "10.50.0.0/24 dev eth0 scope link proto static",
    "10.51.0.0/24 dev cilium_host scope link proto static mtu 1450",
    // With the agent's protocol number, but without a record.
    "10.52.0.0/24 dev cilium_host scope link proto 113 mtu 1450",
];
const FOREIGN_RULES: [&str; 2] =
    ["to 192.0.2.0/24 priority 113 lookup 2021", "to 198.51.100.0/24 priority 113 lookup 2021 protocol 113"];

fn add_foreign(lab: &Lab) -> Result<()> {
    for route in FOREIGN_ROUTES {
        lab.node.ip(&format!("route add {route} table 2021"))?;
    }
    FOREIGN_RULES.iter().try_for_each(|rule| lab.node.ip(&format!("rule add {rule}")).map(drop))
}

fn foreign_is_there(lab: &Lab) -> Result<()> {
    let (routes, rules) = kernel(lab, 2021)?;
    for network in ["10.50.0.0/24 dev eth0", "10.51.0.0/24 dev cilium_host", "10.52.0.0/24 dev cilium_host"] {
        ensure!(routes.contains(network), "no {network}:\n{routes}");
    }
    for network in ["192.0.2.0/24", "198.51.100.0/24"] {
        ensure!(rules.contains(&format!("113:\tfrom all to {network} lookup 2021")), "no {network}:\n{rules}");
    }
    Ok(())
}

fn kernel(lab: &Lab, table: u32) -> Result<(String, String)> {
    // A table without a route does not exist.
    let routes = lab.node.ip(&format!("route show table {table}")).unwrap_or_default();
    Ok((routes, lab.node.ip("rule show")?))
}

/// The agent's route to this CIDR, and the rule for its table.
fn has_ours(lab: &Lab, cidr: &str, table: u32) -> Result<bool> {
    let (routes, rules) = kernel(lab, table)?;
    let route = format!("{cidr} dev cilium_host proto 113 scope link mtu 1450");
    Ok(routes.contains(&route) && rules.contains(&format!("113:\tfrom all to {cidr} lookup {table}")))
}

/// There is no trace of the CIDR.
fn mentions(lab: &Lab, cidr: &str, table: u32) -> Result<bool> {
    let (routes, rules) = kernel(lab, table)?;
    Ok(routes.contains(cidr) || rules.contains(cidr))
}

#[test]
fn somebody_elses_stay_at_every_edit_and_at_cleanup() -> Result<()> {
    let lab = Lab::start()?;
    add_foreign(&lab)?;
    let mut agent = Agent::healthy(&lab)?;
    foreign_is_there(&lab)?;
    ensure!(agent.lines("route table is shared").len() == 1, "{}", agent.log().join("\n"));

    // With a removed VTEP, only its own route and rule disappear; also after a restart.
    ensure!(agent.terminate()?.success(), "a clean end");
    lab.config.write(&Config::keys_for(&lab.topology.vteps()[..1]))?;
    let mut agent = Agent::start(&lab)?;
    eventually("the second is gone", HEALTHY_WITHIN, || Ok((!mentions(&lab, "10.1.5.0/24", 2021)?).then_some(())))?;
    ensure!(has_ours(&lab, "10.1.6.0/24", 2021)?, "{:?}", kernel(&lab, 2021)?);
    foreign_is_there(&lab)?;

    ensure!(agent.terminate()?.success(), "a clean end");
    // Objects with the agent's protocol are listed, and none of them is touched.
    let (code, words) = cleanup(&lab, &[])?;
    ensure!(code == Some(1), "something is left: {words}");
    ensure!(words.lines().any(|line| line == "delete route 10.1.6.0/24 table 2021"), "{words}");
    let left: Vec<_> = words.lines().filter(|line| line.starts_with("left: ")).collect();
    ensure!(left.len() == 2 && left[0].contains("198.51.100.0/24") && left[1].contains("10.52.0.0/24"), "{words}");
    ensure!(!mentions(&lab, "10.1.6.0/24", 2021)?, "{:?}", kernel(&lab, 2021)?);
    foreign_is_there(&lab)
}

fn cleanup(lab: &Lab, args: &[&str]) -> Result<(Option<i32>, String)> {
    let output = run(lab, &[&["cleanup", "--state-dir", STATE, "--cilium-run", CILIUM_RUN], args].concat())?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?))
}

/// Cleanup must not call a node clean that still has routes of the agent.
#[test]
fn what_is_left_without_a_record_is_named_by_cleanup_with_its_command() -> Result<()> {
    let lab = Lab::start()?;
    let mut agent = Agent::healthy(&lab)?;
    ensure!(agent.terminate()?.success(), "a clean end");
    std::fs::remove_file(Path::new(STATE).join("routes.json"))?;
    let before = kernel(&lab, 2021)?;

    let (code, words) = cleanup(&lab, &[])?;
    ensure!(code == Some(1) && words.lines().count() == 4, "two routes and two rules are left: {words}");
    for (what, command) in [
        ("rule priority 113 to 10.1.6.0/24 lookup 2021", "ip rule del priority 113 to 10.1.6.0/24 lookup 2021"),
        ("route 10.1.6.0/24 dev #", "ip route del 10.1.6.0/24 proto 113 table 2021"),
    ] {
        let named = |line: &str| line.starts_with(&format!("left: {what}")) && line.contains(command);
        ensure!(words.lines().any(named), "no {what:?} with {command:?} in\n{words}");
    }
    ensure!(kernel(&lab, 2021)? == before, "nothing is touched: {:?}", kernel(&lab, 2021)?);

    let (code, json) = cleanup(&lab, &["--output", "json"])?;
    let report: serde_json::Value = serde_json::from_str(&json)?;
    let left: Vec<_> = report["left"].as_array().into_iter().flatten().filter_map(|line| line.as_str()).collect();
    ensure!(code == Some(1) && left.len() == 4, "{json}");
    // The listed commands work.
    for line in left {
        let command = line.split('`').nth(1).and_then(|command| command.strip_prefix("ip "));
        lab.node.ip(command.context("a command")?)?;
    }
    ensure!(cleanup(&lab, &[])? == (Some(0), "nothing to clean up\n".to_owned()), "{:?}", kernel(&lab, 2021)?);
    Ok(())
}

/// The same network over another device: the route has another owner, so the agent adds none and reports that.
#[test]
fn a_route_of_somebody_else_in_the_place_of_ours_is_named_and_stays() -> Result<()> {
    let lab = Lab::start()?;
    lab.node.ip("route add 10.1.6.0/24 dev eth0 scope link proto static table 2021")?;
    let agent = Agent::start_with_seed(&lab)?;
    let status = agent.wait_for("the conflict is reported", HEALTHY_WITHIN, |status| {
        status.datapath.problems.iter().any(|problem| problem.contains("--route-table"))
    })?;
    ensure!(status.datapath.problems.iter().any(|problem| problem.contains("10.1.6.0/24 dev #")), "{status:?}");
    eventually("the other has its route", HEALTHY_WITHIN, || Ok(has_ours(&lab, "10.1.5.0/24", 2021)?.then_some(())))?;
    let (routes, rules) = kernel(&lab, 2021)?;
    ensure!(routes.contains("10.1.6.0/24 dev eth0 proto static"), "{routes}");
    ensure!(!rules.contains("10.1.6.0/24"), "no rule leads to somebody else's route:\n{rules}");

    lab.node.ip("route del 10.1.6.0/24 dev eth0 table 2021")?;
    eventually("ours is there", REPAIRED_WITHIN, || Ok(has_ours(&lab, "10.1.6.0/24", 2021)?.then_some(())))?;
    agent.wait_for("all is well", HEALTHY_WITHIN, |status| status.datapath.problems.is_empty())?;
    Ok(())
}

#[test]
fn another_table_takes_over_from_the_first() -> Result<()> {
    let lab = Lab::start()?;
    add_foreign(&lab)?;
    let mut agent = Agent::healthy(&lab)?;
    ensure!(has_ours(&lab, "10.1.6.0/24", 2021)?, "{:?}", kernel(&lab, 2021)?);
    ensure!(agent.terminate()?.success(), "a clean end");

    let mut command = lab.agent_command(Path::new(AGENT), LISTEN);
    command.args(["--route-table", "2099"]);
    let agent = Agent::spawn(&lab, command)?;
    for cidr in ["10.1.5.0/24", "10.1.6.0/24"] {
        eventually("it is in the new table alone", HEALTHY_WITHIN, || {
            Ok((has_ours(&lab, cidr, 2099)? && !kernel(&lab, 2021)?.0.contains(cidr)).then_some(()))
        })?;
    }
    let rules = kernel(&lab, 2021)?.1;
    ensure!(!rules.contains("10.1.6.0/24 lookup 2021"), "{rules}");
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    foreign_is_there(&lab)
}

/// Each loop has its own netlink socket. With a shared one, six of fourteen edits got their routes five seconds late.
#[test]
fn each_edit_has_its_routes_at_once() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut edited = lab.topology.vteps();
    for n in 0..20 {
        // Each edit wakes the loops that read routes, links and addresses at the same time.
        edited[1].cidr = format!("10.1.{}.0/24", 20 + n).parse()?;
        lab.config.write(&Config::keys_for(&edited))?;
        let cidr = edited[1].cidr.to_string();
        eventually("route and rule are there", REPAIRED_WITHIN, || Ok(has_ours(&lab, &cidr, 2021)?.then_some(())))?;
    }
    let (routes, rules) = kernel(&lab, 2021)?;
    ensure!(routes.lines().count() == 2, "{routes}");
    ensure!(rules.matches("lookup 2021").count() == 2, "{rules}");
    ensure!(agent.lines("busy").is_empty(), "{}", agent.log().join("\n"));
    Ok(())
}

/// After the state directory was deleted, the agent owns objects with its protocol and exactly its values again, so that it can remove
/// them.
#[test]
fn a_journal_that_was_lost_is_written_anew() -> Result<()> {
    let lab = Lab::start()?;
    let mut agent = Agent::healthy(&lab)?;
    ensure!(agent.terminate()?.success(), "a clean end");
    std::fs::remove_file(Path::new(STATE).join("routes.json"))?;
    std::fs::remove_file(Path::new(STATE).join("last-good.json"))?;
    add_foreign(&lab)?;

    let agent = Agent::healthy(&lab)?;
    ensure!(agent.lines("recorded again").len() == 4, "two routes and two rules:\n{}", agent.log().join("\n"));
    lab.config.write(&Config::keys_for(&lab.topology.vteps()[..1]))?;
    eventually("the second is gone", HEALTHY_WITHIN, || Ok((!mentions(&lab, "10.1.5.0/24", 2021)?).then_some(())))?;
    ensure!(has_ours(&lab, "10.1.6.0/24", 2021)?, "{:?}", kernel(&lab, 2021)?);
    foreign_is_there(&lab)
}

/// Version 0.1.0 wrote `proto static` and kept no record; its state directory shows the VTEPs that it had.
#[test]
fn what_0_1_0_left_is_taken_over() -> Result<()> {
    let lab = Lab::start()?;
    let mut agent = Agent::healthy(&lab)?;
    ensure!(agent.terminate()?.success(), "a clean end");
    std::fs::remove_file(Path::new(STATE).join("routes.json"))?;
    for cidr in ["10.1.5.0/24", "10.1.6.0/24"] {
        lab.node.ip(&format!("route replace {cidr} dev cilium_host scope link proto static mtu 1450 table 2021"))?;
        lab.node.ip(&format!("rule del to {cidr} priority 113 lookup 2021"))?;
        lab.node.ip(&format!("rule add to {cidr} priority 113 lookup 2021 protocol 0"))?;
    }
    lab.config.write(&Config::keys_for(&lab.topology.vteps()[..1]))?;
    let _agent = Agent::start(&lab)?;
    eventually("the second is gone", HEALTHY_WITHIN, || Ok((!mentions(&lab, "10.1.5.0/24", 2021)?).then_some(())))?;
    ensure!(mentions(&lab, "10.1.6.0/24", 2021)?, "{:?}", kernel(&lab, 2021)?);
    Ok(())
}
