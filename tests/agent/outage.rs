//! A BIG-IP that is unreachable, or differs from the configuration.

use std::{
    net::UdpSocket,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use vtep_core::{
    diagnosis::{Cause, Verdict},
    tunnel::vtep_probes::{Origin, ProbeState},
};
use vtep_lab::{Config, Lab};

use crate::support::{Agent, HEALTHY_WITHIN, NOTICED_WITHIN, all_healthy, eventually, timeout_factor};

#[test]
fn a_bigip_that_is_down_is_unreachable_and_nothing_else() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    lab.bigips[0].down()?;
    let status = agent.wait_for("it is unreachable", NOTICED_WITHIN, |status| {
        status.vteps[0].verdict == Verdict::Unreachable && status.vteps[0].cause == Some(Cause::EndpointUnreachable)
    })?;
    ensure!(status.vteps[1].verdict == Verdict::Healthy, "{:?}", status.vteps[1]);
    let hint = status.vteps[0].hint.as_deref().context("a hint")?;
    ensure!(hint.contains("10.169.72.34"), "{hint}");
    let (code, body) = agent.get("/healthz")?.context("an answer")?;
    ensure!(code == 503 && body.contains("endpoint-unreachable"), "{code} {body}");
    ensure!(agent.code("/livez")? == 200 && agent.code("/readyz")? == 200, "a dead peer is no reason to restart us");
    ensure!(status.datapath.in_sync && status.datapath.repairs_total == 0, "{:?}", status.datapath);
    let (before, begin) = (agent.cpu_time()?, Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let share = (agent.cpu_time()? - before).as_secs_f64() / begin.elapsed().as_secs_f64();
    ensure!(share < 0.3, "waiting for a dead peer takes {share} of a core");

    lab.bigips[0].up()?;
    agent.wait_for("it is healthy again", NOTICED_WITHIN, all_healthy)?;
    ensure!(agent.code("/healthz")? == 200, "healthy");
    let changes = agent.lines("verdict changed cidr=10.1.6.0/24");
    ensure!(changes.len() <= 4, "one line per change: {changes:?}");
    let other = agent.lines("tunnel-silent");
    ensure!(other.is_empty(), "the first answers after an outage are no other cause: {other:?}");
    Ok(())
}

#[test]
fn a_self_ip_that_nobody_told_is_found() -> Result<()> {
    let lab = Lab::start()?;
    let agent = untold(&lab)?;
    let status = agent.wait_for("both are found and healthy", NOTICED_WITHIN, all_healthy)?;
    for (vtep, self_ip) in status.vteps.iter().zip(["10.1.6.34", "10.1.5.36"]) {
        ensure!(vtep.probes.arp.target.map(|target| target.to_string()).as_deref() == Some(self_ip), "{vtep:?}");
        ensure!(vtep.probes.arp.target_origin == Some(Origin::Swept), "{vtep:?}");
    }
    let warned = agent.lines("self-ip-unknown");
    ensure!(warned.is_empty(), "a fact that was not read yet makes no warning: {warned:?}");
    Ok(())
}

/// An agent without a configured tunnel self IP.
pub(crate) fn untold(lab: &Lab) -> Result<Agent> {
    lab.config.write(&Config::seed_keys())?;
    let mut command = lab.node.command(crate::support::AGENT);
    command.args(["run", "--config-dir", vtep_lab::CONFIG, "--cilium-run", vtep_lab::CILIUM_RUN]);
    Agent::spawn(lab, command)
}

#[test]
fn what_was_learned_outlives_a_restart() -> Result<()> {
    let lab = Lab::start()?;
    let mut agent = untold(&lab)?;
    agent.wait_for("both are found and healthy", NOTICED_WITHIN, all_healthy)?;
    let file = Path::new(vtep_lab::STATE).join("learned.json");
    eventually("both are written down", NOTICED_WITHIN, || {
        let learned = std::fs::read_to_string(&file).unwrap_or_default();
        let all = ["10.1.6.34", "10.1.5.36", "00:50:56:a0:7d:d8"].iter().all(|value| learned.contains(value));
        Ok(all.then_some(()))
    })?;
    agent.terminate()?;

    lab.bigips[0].down()?;
    let restarted = Instant::now();
    let agent = untold(&lab)?;
    agent.wait_for("the one that is well is healthy", HEALTHY_WITHIN, |status| {
        status.vteps.len() == 2 && status.vteps[1].verdict == Verdict::Healthy
    })?;
    let took = restarted.elapsed();
    ensure!(took < Duration::from_secs(5) * timeout_factor(), "whom to ask is remembered, and yet it took {took:?}");
    let status =
        agent.wait_for("the outage has its cause again, and the other is healthy", NOTICED_WITHIN, |status| {
            let [dead, other] = &status.vteps[..] else { return false };
            dead.cause == Some(Cause::EndpointUnreachable) && other.verdict == Verdict::Healthy
        })?;
    for vtep in &status.vteps {
        ensure!(vtep.probes.arp.target_origin == Some(Origin::Remembered), "{vtep:?}");
    }
    ensure!(agent.lines("self-ip-unknown").is_empty(), "{}", agent.log().join("\n"));

    lab.bigips[0].up()?;
    agent.wait_for("both are healthy", NOTICED_WITHIN, all_healthy)?;
    Ok(())
}

/// The remembered address does not answer; the agent still finds the one that does.
#[test]
fn a_self_ip_that_changed_meanwhile_is_found() -> Result<()> {
    let lab = Lab::start()?;
    let mut agent = untold(&lab)?;
    agent.wait_for("both are found and healthy", NOTICED_WITHIN, all_healthy)?;
    // The agent saves it after the next read of the tap.
    eventually("it is written down", NOTICED_WITHIN, || {
        let learned = std::fs::read_to_string(Path::new(vtep_lab::STATE).join("learned.json")).unwrap_or_default();
        Ok(learned.contains("10.1.6.34").then_some(()))
    })?;
    agent.terminate()?;
    let device = vtep_lab::BIGIP_TUNNEL;
    let before = lab.bigips[0].addresses.self_ip;
    lab.bigips[0].host.ip(&format!(
        "address del {before} dev {device}\naddress add 10.1.6.77/24 dev {device}\nroute replace 10.0.0.0/16 dev {device}"
    ))?;
    let agent = untold(&lab)?;
    agent.wait_for("the new one is found", NOTICED_WITHIN, |status| {
        all_healthy(status) && status.vteps[0].probes.arp.target == Some([10, 1, 6, 77].into())
    })?;
    Ok(())
}

/// No address is known to probe through the tunnel, but the probe of the underlay still shows the outage.
#[test]
fn an_endpoint_that_is_gone_is_named_without_a_self_ip() -> Result<()> {
    let lab = Lab::start()?;
    lab.bigips[0].down()?;
    let agent = untold(&lab)?;
    let gone = [Some(Cause::EndpointNoRoute), Some(Cause::EndpointUnreachable)];
    let status = agent.wait_for("the outage is named", NOTICED_WITHIN, |status| {
        status.vteps.first().is_some_and(|vtep| gone.contains(&vtep.cause))
    })?;
    ensure!(status.vteps[0].verdict == Verdict::Unreachable, "{:?}", status.vteps[0]);
    ensure!(status.vteps[0].probes.arp.state == ProbeState::NoTarget, "{:?}", status.vteps[0]);
    ensure!(agent.lines("self-ip-unknown").is_empty(), "{}", agent.log().join("\n"));
    Ok(())
}

#[test]
fn a_wrong_mac_is_named_with_the_right_one() -> Result<()> {
    let lab = Lab::start()?;
    let mut keys = Config::seed_keys();
    keys.insert("vtep-mac".into(), "00:50:56:A0:7D:D9 00:50:56:86:6b:28".into());
    lab.config.write(&keys)?;
    let agent = Agent::start(&lab)?;
    let status = agent.wait_for("the mismatch is named", NOTICED_WITHIN, |status| {
        status.vteps.iter().any(|vtep| vtep.cause == Some(Cause::VtepMacMismatch))
    })?;
    let hint = status.vteps[0].hint.as_deref().context("a hint")?;
    ensure!(status.vteps[0].verdict == Verdict::Misconfigured && hint.contains("00:50:56:a0:7d:d8"), "{hint}");
    lab.config.write(&Config::seed_keys())?;
    agent.wait_for("both VTEPs are healthy", NOTICED_WITHIN, all_healthy)?;
    Ok(())
}

#[test]
fn a_wrong_vni_is_named() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let bigip = &lab.bigips[0];
    let device = vtep_lab::BIGIP_TUNNEL;
    let address = bigip.addresses.self_ip;
    let local = bigip.addresses.underlay_ip;
    let mac = bigip.addresses.vtep().mac;
    bigip.host.ip(&format!("link del {device}"))?;
    bigip.host.ip(&format!(
        "link add {device} address {mac} type vxlan id 3 local {local} dev eth0 dstport 8472 nolearning\n\
         link set {device} up\naddress add {address} dev {device}\nroute add 10.0.0.0/16 dev {device}"
    ))?;
    bigip.host.bridge(&format!("fdb append 00:00:00:00:00:00 dev {device} dst 10.169.72.239"))?;
    // In place of BIG-IP's monitors: traffic that makes it send frames.
    let mut monitor = bigip.host.command("ping");
    let mut monitor =
        monitor.args(["-q", "-i", "0.5", "-w", "60", "10.0.0.130"]).stdout(std::process::Stdio::null()).spawn()?;
    let status =
        agent.wait_for("the VNI is named", NOTICED_WITHIN, |status| status.vteps[0].cause == Some(Cause::WrongVni));
    monitor.kill()?;
    monitor.wait()?;
    let status = status?;
    let hint = status.vteps[0].hint.as_deref().context("a hint")?;
    ensure!(hint.contains("VNI 3") && hint.contains("key 2"), "{hint}");
    ensure!(status.vteps[1].verdict == Verdict::Healthy, "{:?}", status.vteps[1]);
    Ok(())
}

#[test]
fn the_tap_hears_again_after_the_nodes_link_was_down() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    lab.node.ip("link set eth0 down")?;
    agent.wait_for("no way to either", NOTICED_WITHIN, |status| {
        status.vteps.iter().all(|vtep| vtep.cause == Some(Cause::EndpointNoRoute))
    })?;
    lab.node.ip("link set eth0 up\nroute replace default via 10.169.72.10")?;
    agent.wait_for("ARP is answered again", NOTICED_WITHIN, |status| {
        all_healthy(status) && status.vteps.iter().all(|vtep| vtep.probes.arp.state == ProbeState::Ok)
    })?;
    Ok(())
}

#[test]
fn an_endpoint_behind_a_blackhole_stops_nobody_else() -> Result<()> {
    let lab = Lab::start()?;
    lab.node.ip("route add blackhole 10.169.72.34/32")?;
    lab.config.write(&Config::seed_keys())?;
    let agent = Agent::start(&lab)?;
    agent.wait_for("the missing way is named, and the other BIG-IP is healthy", NOTICED_WITHIN, |status| {
        let [blackholed, other] = &status.vteps[..] else { return false };
        let named = blackholed.cause == Some(Cause::EndpointNoRoute);
        named && other.verdict == Verdict::Healthy && status.datapath.in_sync
    })?;
    Ok(())
}

#[test]
fn other_nodes_tunnels_do_not_crowd_out_a_bigip() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    // Between Cilium's nodes, the VNI is the sender's identity, so there are thousands of them.
    lab.underlay.run(|| {
        let socket = UdpSocket::bind("10.169.72.10:0")?;
        for vni in 1000..4000_u32 {
            let mut frame = [0_u8; 8 + 14 + 28];
            frame[0] = 8;
            frame[4..7].copy_from_slice(&vni.to_be_bytes()[1..]);
            socket.send_to(&frame, "10.169.72.239:8472")?;
        }
        Ok(())
    })?;
    let before: Vec<_> = agent.status()?.context("a status")?.vteps.iter().map(|vtep| vtep.seen.packets).collect();
    let status = agent.wait_for("both BIG-IPs are still seen", HEALTHY_WITHIN, |status| {
        status.vteps.iter().zip(&before).all(|(vtep, before)| vtep.seen.packets > *before)
    })?;
    ensure!(status.tap.overflows == 0 && status.vteps.iter().all(|vtep| vtep.seen.vnis == [2]), "{status:?}");
    Ok(())
}
