//! Starts: the main task from end to end, and everything that may not exist yet.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use vtep_core::{datapath::layout::Layout, diagnosis::Cause, report::status::Status, tunnel::vtep_probes::ProbeState};
use vtep_lab::{CILIUM_RUN, CONFIG, Config, Lab, STATE, ping};

use crate::support::{
    AGENT, Agent, HEALTHY_WITHIN, LISTEN, NOTICED_WITHIN, REPAIRED_WITHIN, all_healthy, bpftool, eventually, in_kernel,
};

#[test]
fn the_seed_configuration_becomes_healthy() -> Result<()> {
    let lab = Lab::start()?;
    let mut agent = Agent::healthy(&lab)?;
    let status = agent.wait_for("every probe is answered, and seen by the tap", HEALTHY_WITHIN, |status| {
        status.vteps.iter().filter(|vtep| vtep.seen.packets > 0).count() == 2
            && status.vteps.iter().all(|vtep| {
                let probes = [&vtep.probes.underlay, &vtep.probes.arp, &vtep.probes.icmp];
                probes.iter().all(|probe| probe.state == ProbeState::Ok && probe.rtt_us.is_some())
            })
    })?;
    ensure!(in_kernel(&lab, &lab.topology.vteps())?, "the map holds {:?}", lab.cilium.vtep_entries()?);
    for (vtep, bigip) in status.vteps.iter().zip(&lab.bigips) {
        ensure!(vtep.mac.octets() == bigip.addresses.vtep().mac.0, "{vtep:?}");
        ensure!(vtep.probes.arp.observed_mac == Some(vtep.mac), "ARP is answered with the real MAC: {vtep:?}");
        ensure!(vtep.seen.packets > 0 && vtep.seen.vnis == [2] && vtep.seen.ports == [8472], "{:?}", vtep.seen);
        let self_ip = bigip.addresses.self_ip.addr();
        ensure!(ping(&lab.pod, None, self_ip, 3, Duration::from_millis(100))?.is_complete(), "pod to {self_ip}");
        // An ordinary socket with the node's routing: the host route works.
        ensure!(ping(&lab.node, None, self_ip, 3, Duration::from_millis(100))?.is_complete(), "node to {self_ip}");
    }
    ensure!(status.config.valid && !status.config.stale && status.datapath.in_sync, "{status:?}");
    let record = status.bigip.fdb_record.context("the node's address is known")?;
    ensure!(
        record.mac.to_string() == "0a:0a:0a:a9:48:ef" && record.endpoint.to_string() == "10.169.72.239",
        "{record:?}"
    );
    for path in ["/livez", "/readyz", "/healthz"] {
        ensure!(agent.code(path)? == 200, "{path}");
    }
    let (_, metrics) = agent.get("/metrics")?.context("an answer")?;
    for line in [
        "vtep_agent_vtep_healthy{cidr=\"10.1.6.0/24\",endpoint=\"10.169.72.34\"} 1",
        "vtep_agent_config_valid 1",
        "vtep_agent_vtep_cause{cidr=\"10.1.5.0/24\",endpoint=\"10.169.72.36\",cause=\"tunnel-silent\"} 0",
    ] {
        ensure!(metrics.lines().any(|seen| seen == line), "no line {line} in\n{metrics}");
    }
    let summaries = agent.lines("vtep cidr=10.1.6.0/24 endpoint=10.169.72.34 verdict=healthy arp=");
    ensure!(!summaries.is_empty(), "{}", agent.log().join("\n"));

    let before = lab.cilium.vtep_entries()?;
    ensure!(agent.terminate()?.success(), "SIGTERM is a clean end");
    ensure!(lab.cilium.vtep_entries()? == before, "the map stays as it is");
    Ok(())
}

#[test]
fn waits_for_cilium_to_create_its_map() -> Result<()> {
    let mut lab = Lab::builder().cilium_running(false).start()?;
    lab.config.write(&Config::seed_keys())?;
    let agent = Agent::start(&lab)?;
    agent.wait_for("the missing pin is named", HEALTHY_WITHIN, |status| {
        status.datapath.model == Layout::None
            && status.datapath.problems.iter().any(|problem| problem.contains("cilium_vtep_map"))
    })?;
    let (code, body) = agent.get("/readyz")?.context("an answer")?;
    ensure!(code == 503 && body.contains("no map is pinned at /sys/fs/bpf/tc/globals/cilium_vtep_map"), "{body}");
    ensure!(agent.code("/livez")? == 200, "waiting is no reason to be restarted");

    lab.cilium.start()?;
    let status = agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    ensure!(agent.code("/readyz")? == 200, "ready");
    ensure!(status.datapath.repairs_total == 0, "filling a new map is no repair: {:?}", status.datapath);
    Ok(())
}

#[test]
fn an_unknown_layout_is_not_written() -> Result<()> {
    let lab = Lab::start()?;
    lab.cilium.pin_foreign_layout()?;
    lab.config.write(&Config::seed_keys())?;
    let agent = Agent::start(&lab)?;
    let status =
        agent.wait_for("the layout is named", HEALTHY_WITHIN, |status| status.datapath.model == Layout::Unsupported)?;
    let problem = status.datapath.problems.join("\n");
    ensure!(problem.contains("hash with 4-byte keys and") && problem.contains("does not know"), "{problem}");
    ensure!(agent.code("/readyz")? == 503 && agent.code("/livez")? == 200, "not ready, and alive");
    let dump = bpftool(&lab, "-j map dump pinned /sys/fs/bpf/tc/globals/cilium_vtep_map")?;
    ensure!(dump.trim() == "[]", "nothing is written: {dump}");
    Ok(())
}

#[test]
fn an_unreadable_directory_is_waited_for() -> Result<()> {
    let lab = Lab::start()?;
    let missing = Path::new("/mnt/not-mounted-yet");
    let mut command = lab.node.command(AGENT);
    command.args(["run", "--config-dir", "/mnt/not-mounted-yet", "--listen", &LISTEN.to_string()]);
    command.args(["--probe-target", "10.1.6.0/24=10.1.6.34,10.1.5.0/24=10.1.5.36"]);
    let agent = Agent::spawn(&lab, command)?;
    let (code, body) = eventually("it says why it is not ready", HEALTHY_WITHIN, || {
        Ok(agent.get("/readyz")?.filter(|(_, body)| body.contains("not-mounted-yet")))
    })?;
    ensure!(code == 503 && body.contains("mount the ConfigMap cilium-config"), "{body}");
    ensure!(lab.cilium.vtep_entries()?.is_empty(), "nothing is written");

    lab.config.write(&Config::seed_keys())?;
    std::os::unix::fs::symlink(lab.config.dir(), missing)?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    Ok(())
}

#[test]
fn a_taken_port_ends_it_with_advice() -> Result<()> {
    let lab = Lab::start()?;
    let mut first = Agent::healthy(&lab)?;
    let output = lab.agent_command(Path::new(AGENT), LISTEN).output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{words}");
    ensure!(words.contains("failed to listen on 127.0.0.1:9808") && words.contains("--listen"), "{words}");
    ensure!(first.terminate()?.success(), "the first one runs until it is stopped");
    Ok(())
}

#[test]
fn observing_writes_nothing() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let mut command = lab.agent_command(Path::new(AGENT), LISTEN);
    command.args(["--mode", "observe"]);
    let agent = Agent::spawn(&lab, command)?;
    agent.wait_for("the changes it would make are listed", HEALTHY_WITHIN, |status| {
        status.datapath.pending.len() >= 4
    })?;
    // As long as several of the passes that would have repaired it.
    std::thread::sleep(REPAIRED_WITHIN);
    ensure!(lab.cilium.vtep_entries()?.is_empty(), "nothing is written");
    ensure!(!lab.node.ip("rule show")?.contains("113:"), "no rule is written");
    Ok(())
}

#[test]
fn a_long_interval_is_no_reason_to_be_restarted() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let mut command = lab.agent_command(Path::new(AGENT), LISTEN);
    command.args(["--probe-interval", "1h"]);
    let agent = Agent::spawn(&lab, command)?;
    // Its loops still run every second: the status has the next read of the tap.
    let seen = |status: &Status| status.vteps.iter().map(|vtep| vtep.seen.packets).sum::<u64>();
    agent.wait_for("the first answers", HEALTHY_WITHIN, |status| seen(status) > 0)?;
    let (code, body) = agent.get("/livez?verbose")?.context("an answer")?;
    ensure!(code == 200 && body.contains("[+] probe ok") && body.contains("[+] node ok"), "{body}");
    let output = lab.agent_command(Path::new(AGENT), LISTEN).args(["--verify-interval", "1m"]).output()?;
    ensure!(output.status.code() == Some(2), "an interval that would look like a hang is refused");
    Ok(())
}

/// Nobody knows the self IP of a BIG-IP that is not there yet. That its endpoint is dead needs no self IP to see; when it comes up, the search
/// for the self IP begins anew, and not with the next one of the hour.
#[test]
fn a_bigip_that_comes_later_is_dead_until_then_and_found_soon() -> Result<()> {
    let lab = Lab::start()?;
    lab.bigips[0].down()?;
    lab.config.write(&Config::seed_keys())?;
    let mut command = lab.node.command(AGENT);
    command.args(["run", "--config-source", "dir", "--config-dir", CONFIG, "--cilium-run", CILIUM_RUN]);
    command.args(["--state-dir", STATE, "--node-name", "worker-1", "--listen", &LISTEN.to_string()]);
    let agent = Agent::spawn(&lab, command)?;
    let causes = |status: &Status| status.vteps.iter().map(|vtep| vtep.cause).collect::<Vec<_>>();
    let status = agent.wait_for("nobody answers ARP for its endpoint", NOTICED_WITHIN, |status| {
        causes(status) == [Some(Cause::EndpointNoRoute), None]
    })?;
    ensure!(status.vteps[0].probes.icmp.target.is_none(), "{:?}", status.vteps[0].probes.icmp);
    lab.bigips[0].up()?;
    agent.wait_for("its self IP is found", NOTICED_WITHIN, all_healthy)?;
    let changes = agent.lines("verdict changed cidr=10.1.6.0/24");
    ensure!(changes.len() == 2, "it is dead, and then healthy: {changes:#?}");
    Ok(())
}
