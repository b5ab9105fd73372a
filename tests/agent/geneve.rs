//! Geneve from end to end: between the kernel's own devices, if it has them, and between devices in user space.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vtep_core::{
    diagnosis::{Cause, Verdict},
    tunnel::vtep_probes::ProbeState,
};
use vtep_lab::{BIGIP_TUNNEL, CILIUM_RUN, CONFIG, Lab, Topology, Tunnel, ping};

use crate::{
    far_end::{Chatter, bigip, on_bigip, tunnel},
    support::{Agent, NOTICED_WITHIN, all_healthy, run},
};

/// These fail on kernels without Geneve devices; `make test-kernels` boots some that have them.
mod devices {
    use super::*;

    #[test]
    #[ignore = "needs Geneve devices: make test-kernels"]
    fn a_healthy_tunnel_carries_everything() -> Result<()> {
        carries_everything(Tunnel::Geneve)
    }

    #[test]
    #[ignore = "needs Geneve devices: make test-kernels"]
    fn a_wrong_vni_is_named() -> Result<()> {
        names_a_wrong_vni(Tunnel::Geneve)
    }

    #[test]
    #[ignore = "needs Geneve devices: make test-kernels"]
    fn what_fails_is_named() -> Result<()> {
        names_what_fails(Tunnel::Geneve)
    }
}

/// BIG-IP's frames have options in this test.
mod user_space {
    use super::*;

    #[test]
    fn a_healthy_tunnel_carries_everything() -> Result<()> {
        carries_everything(Tunnel::UserGeneve)
    }

    #[test]
    fn a_wrong_vni_is_named() -> Result<()> {
        names_a_wrong_vni(Tunnel::UserGeneve)
    }

    #[test]
    fn what_fails_is_named() -> Result<()> {
        names_what_fails(Tunnel::UserGeneve)
    }
}

fn carries_everything(tunnel: Tunnel) -> Result<()> {
    let lab = Lab::builder().tunnel(tunnel).start()?;
    let agent = Agent::healthy(&lab)?;
    for bigip in &lab.bigips {
        for (from, to) in [(&lab.pod, bigip.addresses.self_ip.addr()), (&bigip.host, lab.topology.pod_ip)] {
            let seen = ping(from, None, to, 5, Duration::from_millis(100))?;
            ensure!(seen.received > 0, "{} to {to}: {seen:?}", from.name());
        }
    }
    let status = agent.wait_for("every probe is answered", NOTICED_WITHIN, |status| {
        all_healthy(status) && status.vteps.iter().all(|vtep| vtep.probes.path_mtu.state == ProbeState::Ok)
    })?;
    for vtep in &status.vteps {
        ensure!(vtep.probes.arp.state == ProbeState::Ok && vtep.probes.icmp.state == ProbeState::Ok, "{vtep:?}");
        ensure!(vtep.probes.arp.observed_mac == Some(vtep.mac), "{vtep:?}");
        ensure!(vtep.probes.path_mtu.inner_mtu == Some(1450), "{vtep:?}");
        ensure!(vtep.seen.packets > 0 && vtep.seen.vnis == [2] && vtep.seen.ports == [6081], "{vtep:?}");
    }
    let cilium = &status.cilium;
    ensure!(cilium.tunnel_protocol.as_deref() == Some("geneve") && cilium.tunnel_port == Some(6081), "{cilium:?}");
    ensure!(!cilium.restart_required && status.tap.malformed == 0, "{status:?}");

    let targets = "10.1.6.0/24=10.1.6.34,10.1.5.0/24=10.1.5.36";
    let ladder = run(&lab, &["probe", "--config-dir", CONFIG, "--cilium-run", CILIUM_RUN, "--probe-target", targets])?;
    ensure!(ladder.status.success(), "{}", String::from_utf8_lossy(&ladder.stdout));
    Ok(())
}

fn names_a_wrong_vni(tunnel: Tunnel) -> Result<()> {
    let mut topology = Topology::default();
    topology.bigips[0].vni = 3;
    let lab = Lab::builder().topology(topology).tunnel(tunnel).start()?;
    let agent = Agent::start_with_seed(&lab)?;
    let _chatter = Chatter::start(&lab)?;
    named(&agent, Cause::WrongVni, "VNI 3")
}

fn names_what_fails(kind: Tunnel) -> Result<()> {
    let lab = Lab::builder().tunnel(kind).start()?;
    let agent = Agent::healthy(&lab)?;
    on_bigip(&lab, &format!("link set {BIGIP_TUNNEL} address 00:50:56:00:00:99"))?;
    named(&agent, Cause::VtepMacMismatch, "00:50:56:00:00:99")?;
    let mac = bigip(&lab).addresses.mac;
    on_bigip(&lab, &format!("link set {BIGIP_TUNNEL} address {mac}"))?;
    agent.wait_for("the MAC is right again", NOTICED_WITHIN, all_healthy)?;

    bigip(&lab).down()?;
    named(&agent, Cause::EndpointUnreachable, "10.169.72.34")?;
    bigip(&lab).up()?;
    agent.wait_for("BIG-IP is there again", NOTICED_WITHIN, all_healthy)?;

    // Now with the other profile.
    tunnel(&lab, 2, 8472, bigip(&lab).addresses.underlay_ip)?;
    let _chatter = Chatter::start(&lab)?;
    named(&agent, Cause::WrongUdpPort, "8472")
}

/// Waits until the first BIG-IP has this cause, with these words in its hint, and the second has none.
fn named(agent: &Agent, cause: Cause, words: &str) -> Result<()> {
    let status = agent.wait_for(cause.id(), NOTICED_WITHIN, |status| {
        let [first, second] = &status.vteps[..] else { return false };
        first.cause == Some(cause) && second.verdict == Verdict::Healthy
    })?;
    let hint = status.vteps[0].hint.as_deref().context("a hint")?;
    ensure!(hint.contains(words), "{hint}");
    Ok(())
}
