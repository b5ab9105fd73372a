//! A pair of BIG-IPs: two units, of which the active one has the floating endpoint and answers for the self IP.

use anyhow::{Result, ensure};

use crate::{
    BigIp,
    arp::announce,
    host::Host,
    mac::Mac,
    network::{self, BIGIP_TUNNEL},
    topology::{BigIpAddresses, Topology, Tunnel},
};

/// The other unit of the first BIG-IP.
#[derive(Debug, Clone, Copy)]
pub struct Standby {
    /// MAC of its tunnel.
    pub mac: Mac,
    /// Both units have one MAC on the underlay (MAC masquerade of a traffic group). The tunnels have their own all the same.
    pub masquerade: bool,
}

impl Standby {
    pub(crate) fn start(self, underlay: &Host, active: &BigIp, topology: &Topology) -> Result<BigIp> {
        ensure!(topology.tunnel == Tunnel::Vxlan && topology.vlan.is_none(), "a pair has VXLAN tunnels without a VLAN");
        let addresses = BigIpAddresses { mac: self.mac, ..active.addresses.clone() };
        let port = format!("{}b", active.port);
        let host = Host::new(&port)?;
        network::connect(underlay, &host, &port)?;
        if self.masquerade {
            host.ip(&format!("link set eth0 address {}", active.host.link("eth0")?.mac))?;
        }
        network::set_up_bigip(&host, &addresses, topology)?;
        let unit = BigIp { host, addresses, underlay: underlay.clone(), port, topology: topology.clone() };
        unit.step_down()?;
        Ok(unit)
    }
}

impl BigIp {
    /// Gives up the floating endpoint: its tunnel is silent from now on.
    ///
    /// # Errors
    ///
    /// It does not have it.
    pub fn step_down(&self) -> Result<()> {
        self.host.ip(&format!("link set {BIGIP_TUNNEL} down\naddress delete {} dev eth0", self.endpoint())).map(drop)
    }

    /// Takes over the floating endpoint, and announces it with gratuitous ARP. If the other unit still has it, both answer.
    ///
    /// # Errors
    ///
    /// It has it already.
    pub fn take_over(&self) -> Result<()> {
        self.host.ip(&format!(
            "address add {} dev eth0
             link set {BIGIP_TUNNEL} up
             route add {} dev {BIGIP_TUNNEL}",
            self.endpoint(),
            self.topology.cluster_cidr
        ))?;
        self.announce()
    }

    /// Announces the endpoint on the underlay with gratuitous ARP.
    ///
    /// # Errors
    ///
    /// The frame could not be sent.
    pub fn announce(&self) -> Result<()> {
        announce(&self.host, "eth0", self.addresses.underlay_ip)
    }

    fn endpoint(&self) -> String {
        format!("{}/{}", self.addresses.underlay_ip, self.topology.underlay.prefix_len())
    }
}
