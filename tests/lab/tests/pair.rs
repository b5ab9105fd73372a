//! A pair of BIG-IPs: one unit has the endpoint, and the other takes it over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vtep_lab::{ArpRequest, BIGIP_TUNNEL, Lab, Mac, Standby, Vtep, arp, ping};

const OTHER: Mac = Mac([0x00, 0x50, 0x56, 0xa0, 0x7d, 0x99]);

#[test]
fn another_unit_takes_over_with_a_tunnel_mac_of_its_own() -> Result<()> {
    for masquerade in [false, true] {
        let lab = Lab::builder().standby(Standby { mac: OTHER, masquerade }).fill_map(true).start()?;
        let (active, standby) = (&lab.bigips[0], lab.standby.as_ref().context("a standby")?);
        let self_ip = active.addresses.self_ip.addr();
        let answers = || Ok::<_, anyhow::Error>(ping(&lab.pod, None, self_ip, 3, Duration::from_millis(50))?.received);
        ensure!(answers()? == 3, "the active unit");
        let underlay = [active.host.link("eth0")?.mac, standby.host.link("eth0")?.mac];
        ensure!((underlay[0] == underlay[1]) == masquerade, "{underlay:?}");
        active.step_down()?;
        standby.take_over()?;
        ensure!(answers()? == 0, "the map has the MAC of the other unit");
        let vtep = Vtep { mac: OTHER, ..active.addresses.vtep() };
        lab.cilium.put_vtep(vtep.key(), vtep.value())?;
        ensure!(answers()? == 3, "the other unit");
        let node = ArpRequest::broadcast(self_ip, lab.topology.router_ip);
        ensure!(arp(&standby.host, BIGIP_TUNNEL, node, Duration::from_secs(5))?.is_some(), "Cilium answers it");
        standby.step_down()?;
        active.take_over()?;
        ensure!(answers()? == 0, "failback");
    }
    Ok(())
}
