//! Edits of the mounted ConfigMap, good and bad.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_core::{config::finding::Severity, diagnosis::Verdict};
use vtep_lab::{Config, Lab};

use crate::{
    far_end::{on_bigip, tunnel},
    history,
    support::{AGENT, Agent, HEALTHY_WITHIN, LISTEN, NOTICED_WITHIN, all_healthy, eventually, in_kernel},
};

/// The documents promise 100 ms after the event of the file system.
const PROGRAMMED_WITHIN: Duration = Duration::from_secs(1);

fn edited(key: &str, value: &str) -> BTreeMap<String, String> {
    let mut keys = Config::seed_keys();
    keys.insert(key.into(), value.into());
    keys
}

#[test]
fn an_edit_reaches_the_kernel() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    let moved = vtep_lab::Vtep { endpoint: [10, 169, 72, 77].into(), ..second };
    lab.config.write(&Config::keys_for(&[first, moved]))?;
    eventually("the new endpoint is programmed", PROGRAMMED_WITHIN, || {
        Ok(in_kernel(&lab, &[first, moved])?.then_some(()))
    })?;
    lab.config.write(&Config::seed_keys())?;
    eventually("the old endpoint is back", PROGRAMMED_WITHIN, || Ok(in_kernel(&lab, &[first, second])?.then_some(())))?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    Ok(())
}

#[test]
fn a_broken_edit_changes_nothing_and_is_said_once() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let seed = lab.topology.vteps();
    let edits = [
        ("vtep-mac", "00:50:56:A0:7D    00:50:56:86:6b:28", "vtep-mac-invalid"),
        ("vtep-cidr", "10.1.6.0/24", "vtep-count-mismatch"),
        ("vtep-mask", "", "vtep-mask-empty"),
    ];
    for (round, (key, value, rule)) in (1..).zip(edits) {
        lab.config.write(&edited(key, value))?;
        let status = agent.wait_for("the finding is reported", HEALTHY_WITHIN, |status| {
            status.config.findings.iter().any(|finding| finding.rule.id() == rule)
        })?;
        ensure!(status.config.stale && !status.config.valid, "{:?}", status.config);
        // Enough passes since the edit that the agent would have made its changes in the kernel.
        let passes = status.datapath.last_pass.map(|pass| pass.at);
        // Wait for a pass with this document: one that began before the edit reports about the old one.
        let later = agent.wait_for("more passes", HEALTHY_WITHIN, |status| {
            status.datapath.last_pass.as_ref().map(|pass| pass.at) > passes && status.datapath.in_sync
        })?;
        ensure!(in_kernel(&lab, &seed)?, "{:?}", lab.cilium.vtep_entries()?);
        ensure!(later.vteps.len() == 2, "both are still in force: {:?}", later.vteps);
        ensure!(agent.code("/readyz")? == 200, "{rule}");

        lab.config.write(&Config::seed_keys())?;
        agent.wait_for("it is valid again", HEALTHY_WITHIN, |status| status.config.valid && !status.config.stale)?;
        eventually("the log says so", HEALTHY_WITHIN, || {
            Ok((agent.lines("the configuration is valid again").len() == round).then_some(()))
        })?;
        let said = agent.lines(rule);
        ensure!(said.len() == 1, "said once: {said:?}");
    }
    Ok(())
}

#[test]
fn an_error_in_one_vtep_concerns_that_one_alone() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    let mut keys = edited("vtep-endpoint", "10.169.72.77 10.169.72.36");
    keys.insert("vtep-mac".into(), "00:50:56:A0:7D:D8 00:00:00:00:00:00".into());
    lab.config.write(&keys)?;
    let moved = vtep_lab::Vtep { endpoint: [10, 169, 72, 77].into(), ..first };
    eventually("the first is moved, the second stays", PROGRAMMED_WITHIN, || {
        Ok(in_kernel(&lab, &[moved, second])?.then_some(()))
    })?;
    let status = agent.wait_for("the finding is reported", HEALTHY_WITHIN, |status| status.config.stale)?;
    ensure!(
        status.config.findings.iter().any(|finding| finding.rule.id() == "vtep-mac-zero" && finding.index == Some(1))
    );
    Ok(())
}

#[test]
fn a_removed_directory_changes_nothing() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    std::fs::rename(lab.config.dir(), "/mnt/moved")?;
    let status = agent.wait_for("it is reported", HEALTHY_WITHIN, |status| {
        status.config.findings.iter().any(|finding| finding.rule.id() == "configmap-missing")
    })?;
    ensure!(status.config.stale && in_kernel(&lab, &lab.topology.vteps())?, "{status:?}");
    std::fs::rename("/mnt/moved", lab.config.dir())?;
    agent.wait_for("it is valid again", HEALTHY_WITHIN, |status| status.config.valid)?;
    Ok(())
}

#[test]
fn a_vtep_that_is_taken_out_goes() -> Result<()> {
    let mut lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let first = lab.topology.vteps()[0];
    // While Cilium's running configuration has the other one, it remains: Cilium would write it again.
    lab.config.write(&Config::keys_for(&[first]))?;
    agent.wait_for("one VTEP is left", HEALTHY_WITHIN, |status| status.vteps.len() == 1 && status.datapath.in_sync)?;
    ensure!(in_kernel(&lab, &lab.topology.vteps())?, "{:?}", lab.cilium.vtep_entries()?);
    lab.cilium.running.vteps = vec![first];
    lab.cilium.write_running_config()?;
    eventually("the entry goes", HEALTHY_WITHIN, || Ok(in_kernel(&lab, &[first])?.then_some(())))?;
    let routes = lab.node.ip("route show table 2021")?;
    ensure!(!routes.contains("10.1.5.0/24") && routes.contains("10.1.6.0/24"), "{routes}");
    Ok(())
}

#[test]
fn the_last_good_value_outlives_a_restart() -> Result<()> {
    let lab = Lab::start()?;
    ensure!(Agent::healthy(&lab)?.terminate()?.success());
    lab.config.write(&edited("vtep-mac", "00:50:56:A0:7D    00:50:56:86:6b:28"))?;
    let agent = Agent::start(&lab)?;
    let status = agent.wait_for("both are in force", HEALTHY_WITHIN, |status| status.datapath.in_sync)?;
    ensure!(status.vteps.len() == 2 && status.config.stale && !status.config.valid, "{status:?}");
    ensure!(in_kernel(&lab, &lab.topology.vteps())?, "{:?}", lab.cilium.vtep_entries()?);
    ensure!(agent.code("/readyz")? == 200, "ready with what was good");
    Ok(())
}

#[test]
fn a_line_in_error_at_the_first_start_leaves_what_is_there() -> Result<()> {
    let lab = Lab::start()?;
    ensure!(Agent::healthy(&lab)?.terminate()?.success());
    let routes = lab.node.ip("route show table 2021")?;
    let state = Path::new(vtep_lab::STATE).join("last-good.json");
    ensure!(state.exists(), "it was saved");
    std::fs::write(&state, "{\"format\":1,\"sha256\":\"\",\"content\":{}}")?;
    lab.config.write(&edited("vtep-mac", "00:50:56:A0:7D    00:50:56:86:6b:28"))?;
    let agent = Agent::start(&lab)?;
    let status = agent.wait_for("the other VTEP is in force", HEALTHY_WITHIN, |status| status.datapath.in_sync)?;
    ensure!(status.vteps.len() == 1 && status.config.stale, "{status:?}");
    ensure!(agent.lines("last-good.json is damaged").len() == 1, "{:?}", agent.log());
    ensure!(in_kernel(&lab, &lab.topology.vteps())?, "{:?}", lab.cilium.vtep_entries()?);
    ensure!(lab.node.ip("route show table 2021")? == routes, "{}", lab.node.ip("route show table 2021")?);
    ensure!(lab.node.ip("rule show")?.contains("113:\tfrom all to 10.1.6.0/24 lookup 2021"), "the rule stays, too");
    Ok(())
}

#[test]
fn the_seeds_own_configuration_is_programmed_with_a_warning() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&edited("vtep-mac", "01:50:56:A0:7D:D8    00:50:56:86:6b:28"))?;
    let agent = Agent::start(&lab)?;
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    let first = vtep_lab::Vtep { mac: [0x01, 0x50, 0x56, 0xa0, 0x7d, 0xd8].into(), ..first };
    eventually("both are programmed", HEALTHY_WITHIN, || Ok(in_kernel(&lab, &[first, second])?.then_some(())))?;
    let status = agent.wait_for("it is in sync", HEALTHY_WITHIN, |status| status.datapath.in_sync)?;
    let doubtful = status.config.findings.iter().filter(|finding| finding.severity > Severity::Info);
    let found: Vec<_> = doubtful.map(|finding| (finding.rule.id(), finding.index)).collect();
    ensure!(found == [("vtep-mac-multicast", Some(0))] && status.config.valid, "{:?}", status.config);
    Ok(())
}

#[test]
fn what_only_a_restart_of_cilium_brings_in_line_is_told() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let is_reported = |status: &vtep_core::report::status::Status| status.cilium.restart_required;
    ensure!(agent.status()?.is_some_and(|status| !is_reported(&status)), "it runs with the same");
    lab.config.write(&edited("vtep-endpoint", "10.169.72.34 10.169.72.77"))?;
    let status = agent.wait_for("the difference is reported", HEALTHY_WITHIN, is_reported)?;
    let reason = "vtep-endpoint: Cilium runs with 10.169.72.36 for 10.1.5.0/24, the configuration says 10.169.72.77";
    ensure!(status.cilium.reasons == [reason], "{:?}", status.cilium);
    Ok(())
}

#[test]
fn switching_vtep_off_leaves_ciliums_map_alone() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    lab.config.write(&edited("enable-vtep", "false"))?;
    let status =
        agent.wait_for("it is off", HEALTHY_WITHIN, |status| status.vteps.is_empty() && status.datapath.in_sync)?;
    ensure!(status.config.enabled == Some(false) && status.config.valid, "{:?}", status.config);
    ensure!(
        in_kernel(&lab, &lab.topology.vteps())?,
        "Cilium removes its entries itself: {:?}",
        lab.cilium.vtep_entries()?
    );
    ensure!(!lab.node.ip("rule show")?.contains("113:"), "our rules go");
    ensure!(agent.code("/healthz")? == 200 && agent.code("/readyz")? == 200, "nothing to be unhealthy about");
    Ok(())
}

#[test]
fn a_plain_directory_is_watched_too() -> Result<()> {
    let lab = Lab::start()?;
    let dir = Path::new("/mnt/plain");
    std::fs::create_dir(dir)?;
    for (key, value) in Config::seed_keys() {
        std::fs::write(dir.join(key), value)?;
    }
    let mut command = lab.node.command(AGENT);
    command.args(["run", "--config-dir", "/mnt/plain", "--host-routes", "off", "--listen", &LISTEN.to_string()]);
    let agent = Agent::spawn(&lab, command)?;
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    eventually("both are programmed", HEALTHY_WITHIN, || Ok(in_kernel(&lab, &[first, second])?.then_some(())))?;
    std::fs::write(dir.join("vtep-endpoint"), "10.169.72.34 10.169.72.77")?;
    let moved = vtep_lab::Vtep { endpoint: [10, 169, 72, 77].into(), ..second };
    eventually("the edit is programmed", PROGRAMMED_WITHIN, || Ok(in_kernel(&lab, &[first, moved])?.then_some(())))?;
    agent.wait_for("it is in sync", HEALTHY_WITHIN, |status| status.datapath.in_sync)?;
    ensure!(!lab.node.ip("rule show")?.contains("113:"), "no host routes were asked for");
    Ok(())
}

/// A Cilium that discloses no lists: nothing of it needs a restart when they change.
fn lab_without_running_config() -> Result<Lab> {
    let lab = Lab::start()?;
    std::fs::remove_dir_all(Path::new(vtep_lab::CILIUM_RUN).join("state"))?;
    Ok(lab)
}

/// Another gateway takes over: its endpoint and its MAC are edited, and its tunnel works.
#[test]
fn a_failover_is_a_move_and_no_outage() -> Result<()> {
    let mut lab = lab_without_running_config()?;
    let agent = Agent::healthy(&lab)?;
    let before = history::changes(&agent)?.len();
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    let mac = vtep_lab::Mac([0x02, 0, 0, 0, 0, 0x86]);
    let moved = vtep_lab::Vtep { endpoint: [10, 169, 72, 134].into(), mac, ..first };
    lab.bigips[0].addresses.mac = mac;
    on_bigip(&lab, "address add 10.169.72.134/24 dev eth0")?;
    tunnel(&lab, 2, lab.topology.tunnel_port, moved.endpoint)?;
    lab.config.write(&Config::keys_for(&[moved, second]))?;
    let status = agent.wait_for("both are healthy, one elsewhere", HEALTHY_WITHIN, |status| {
        all_healthy(status) && status.vteps[0].endpoint == moved.endpoint
    })?;
    ensure!(
        status.vteps[0].probes.arp.observed_mac.is_some_and(|seen| seen.to_string() == mac.to_string().to_lowercase())
    );
    let changes = history::changes(&agent)?;
    ensure!(changes.len() == before + 1, "one change: {changes:#?}\n{}", agent.log().join("\n"));
    let change = &changes[0];
    let place = |vtep: vtep_lab::Vtep| json!({"endpoint": vtep.endpoint, "mac": vtep.mac.to_string().to_lowercase()});
    let healthy = json!({"verdict": "healthy", "cause": null});
    ensure!(change["moved"] == json!({"from": place(first), "to": place(moved)}), "{change:#}");
    ensure!((&change["from"], &change["to"]) == (&healthy, &healthy), "{change:#}");
    let lines = agent.lines("VTEP moved");
    ensure!(lines.len() == 1 && lines[0].contains(" INFO "), "{lines:?}");
    ensure!(agent.lines(" WARN verdict changed").is_empty(), "{:?}", agent.log());
    Ok(())
}

/// Nobody is at the new endpoint: an answer of the old one, or what was known about it, must not make it healthy.
#[test]
fn a_failover_to_nobody_keeps_no_verdict() -> Result<()> {
    let lab = lab_without_running_config()?;
    let agent = Agent::healthy(&lab)?;
    let before = history::changes(&agent)?.len();
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    let moved = vtep_lab::Vtep { endpoint: [10, 169, 72, 77].into(), ..first };
    lab.config.write(&Config::keys_for(&[moved, second]))?;
    agent.wait_for("it is unreachable", NOTICED_WITHIN, |status| {
        let vtep = &status.vteps[0];
        assert!(vtep.endpoint == first.endpoint || vtep.verdict != Verdict::Healthy, "nobody is there: {vtep:#?}");
        vtep.verdict == Verdict::Unreachable
    })?;
    let changes = history::changes(&agent)?;
    ensure!(changes.len() == before + 2, "the move and the fault: {changes:#?}");
    ensure!(changes[0]["moved"].is_null() && changes[0]["from"]["verdict"] == "unknown", "{changes:#?}");
    ensure!(changes[1]["moved"].is_object() && changes[1]["from"]["verdict"] == "healthy", "{changes:#?}");
    Ok(())
}
