//! An underlay whose frames are tagged: the node and the BIG-IPs are on a VLAN.

use anyhow::{Result, ensure};
use vtep_core::tunnel::vtep_probes::ProbeState;
use vtep_lab::{Lab, Topology};

use crate::support::{Agent, NOTICED_WITHIN, all_healthy};

/// The test fails on kernels without VLAN devices; `make test-kernels` boots some that have them.
#[test]
#[ignore = "needs VLAN devices: make test-kernels"]
fn tunnels_over_a_vlan_are_probed_and_seen() -> Result<()> {
    let topology = Topology { vlan: Some(100), ..Topology::default() };
    let lab = Lab::builder().topology(topology).start()?;
    let route = lab.node.ip("route get 10.169.72.34")?;
    ensure!(route.contains("dev eth0.100"), "{route}");
    let agent = Agent::healthy(&lab)?;
    let seen = |status: &_| all_healthy(status) && status.vteps.iter().all(|vtep| vtep.seen.packets > 0);
    let status = agent.wait_for("both are seen", NOTICED_WITHIN, seen)?;
    for vtep in &status.vteps {
        ensure!(vtep.probes.arp.state == ProbeState::Ok && vtep.probes.underlay.state == ProbeState::Ok, "{vtep:?}");
        ensure!(vtep.seen.vnis == [2] && vtep.seen.ports == [8472], "{vtep:?}");
    }
    ensure!(status.tap.error.is_none() && status.tap.malformed == 0, "{:?}", status.tap);
    Ok(())
}
