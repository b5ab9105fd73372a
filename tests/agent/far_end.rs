//! The first BIG-IP's side of a test: its own traffic, and its filters.

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::{Child, Stdio},
};

use anyhow::{Context, Result};
use vtep_lab::{BIGIP_TUNNEL, BigIp, BigIpAddresses, Host, Lab};

pub(crate) fn bigip(lab: &Lab) -> &BigIp {
    &lab.bigips[0]
}

/// Runs `ip` on the first BIG-IP.
pub(crate) fn on_bigip(lab: &Lab, lines: &str) -> Result<()> {
    bigip(lab).host.ip(lines).map(drop)
}

/// Replaces the first BIG-IP's tunnel by a VXLAN tunnel with other parameters.
pub(crate) fn tunnel(lab: &Lab, vni: u32, port: u16, local: Ipv4Addr) -> Result<()> {
    flood_to(lab, lab.topology.node_ip, &format!("id {vni} dstport {port} local {local}"))
}

/// The same. What it has no FDB record for goes to this node.
pub(crate) fn flood_to(lab: &Lab, node: Ipv4Addr, parameters: &str) -> Result<()> {
    let BigIpAddresses { self_ip, mac, .. } = &bigip(lab).addresses;
    bigip(lab).host.ip(&format!(
        "link delete {BIGIP_TUNNEL}
         link add {BIGIP_TUNNEL} type vxlan {parameters}
         link set {BIGIP_TUNNEL} address {mac} mtu 1450 up
         address add {self_ip} dev {BIGIP_TUNNEL}
         route add {} dev {BIGIP_TUNNEL}",
        lab.topology.cluster_cidr
    ))?;
    bigip(lab).host.bridge(&format!("fdb append 00:00:00:00:00:00 dev {BIGIP_TUNNEL} dst {node}"))?;
    Ok(())
}

/// This host asks for the node's address inside the tunnel, with the first BIG-IP's addresses (RFC 7348, RFC 826).
pub(crate) fn ask_for_node(lab: &Lab, host: &Host) -> Result<()> {
    let BigIpAddresses { underlay_ip, self_ip, mac, .. } = bigip(lab).addresses.clone();
    let (node, router) = (lab.topology.node_ip, lab.topology.router_ip.octets());
    let header = [8, 0, 0, 0, 0, 0, 2, 0];
    let ethernet = [&[0xff; 6], &mac.0[..], &[8, 6]].concat();
    let sender = self_ip.addr().octets();
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1], &mac.0[..], &sender, &[0; 6], &router].concat();
    host.run(move || {
        UdpSocket::bind((underlay_ip, 0))?.send_to(&[&header[..], &ethernet, &arp].concat(), (node, 8472))?;
        Ok(())
    })
}

/// Adds a rule to a chain of its own on the first BIG-IP.
pub(crate) fn filter(lab: &Lab, hook: &str, rule: &str) -> Result<()> {
    let host = &bigip(lab).host;
    host.nft("add table ip lab")?;
    host.nft(&format!("add chain ip lab {hook} {{ type filter hook {hook} priority 0 ; }}"))?;
    host.nft(&format!("add rule ip lab {hook} {rule}"))
}

pub(crate) fn unfilter(lab: &mut Lab) -> Result<()> {
    bigip(lab).host.nft("delete table ip lab")
}

/// BIG-IP's usual traffic: ARP requests for a pod, and packets to it. Ends when it is dropped.
pub(crate) struct Chatter(Child);

impl Chatter {
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        Self::of(&bigip(lab).host, lab, &[])
    }

    /// The traffic of this BIG-IP, with further options for `ping`.
    pub(crate) fn of(host: &Host, lab: &Lab, options: &[&str]) -> Result<Self> {
        let pod = lab.topology.pod_ip.to_string();
        let mut ping = host.command("ping");
        ping.args(["-n", "-q", "-i", "0.2", "-c", "3000"]).args(options).arg(pod);
        ping.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(ping.spawn().context("failed to run ping")?))
    }
}

impl Drop for Chatter {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
