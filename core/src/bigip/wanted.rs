//! The objects that a BIG-IP needs for a VTEP, as tmsh commands: tunnel, self IP, routes and FDB records. This module only prints them; it
//! never contacts a BIG-IP.
//!
//! Source: F5's document for Cilium, and CIS (`--cilium-name`) for the FDB records.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    config::spec::{Spec, TunnelProtocol, Vtep},
    tunnel::frames::VTEP_VNI,
    types::mac::Mac,
};

/// A record of BIG-IP's forwarding database, as F5's controller writes it: the MAC is `0a:0a:` and the four octets of the node's address.
/// BIG-IP floods its ARP requests to the endpoints of these records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbRecord {
    pub mac: Mac,
    pub endpoint: Ipv4Addr,
}

impl FdbRecord {
    #[must_use]
    pub fn of_node(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self { mac: [0x0a, 0x0a, a, b, c, d].into(), endpoint: address }
    }
}

/// One BIG-IP, as far as the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BigIp {
    /// `vtep-endpoint`.
    pub local_address: Ipv4Addr,
    /// `vtep-cidr`: the tunnel's own network.
    pub network: Ipv4Net,
    /// `vtep-mac`: the MAC that the tunnel must have.
    pub mac: Mac,
    pub protocol: String,
    pub port: u16,
    /// The tunnel's `key`.
    pub key: u32,
    /// `None` unless the caller knows it.
    pub self_ip: Option<Ipv4Addr>,
    /// Pod networks that the BIG-IP needs a route to; empty unless the caller knows them.
    pub pod_cidrs: Vec<Ipv4Net>,
    pub fdb_records: Vec<FdbRecord>,
    /// The commands that create all of this, in this order.
    pub commands: Vec<String>,
    /// What the commands leave out, because it depends on something that the caller does not know. Source: F5's guides for CIS.
    pub notes: Vec<String>,
}

/// The name of a tunnel on BIG-IP. The commands contain it as it is, so it must be one word for tmsh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelName(String);

/// A name that tmsh would refuse, or would read as more than a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a tunnel: it begins with a letter or a folder (/Common/…), and has only letters, digits and _ - . /"
)]
pub struct InvalidName(String);

impl FromStr for TunnelName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
        // A slash separates folders, so there is a word on both sides of it.
        let path = name.strip_prefix('/').unwrap_or(name);
        let is_name = begins && name.bytes().all(is_allowed) && path.split('/').all(|word| !word.is_empty());
        if is_name { Ok(Self(name.to_owned())) } else { Err(InvalidName(name.to_owned())) }
    }
}

impl fmt::Display for TunnelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name that F5's documents use.
impl Default for TunnelName {
    fn default() -> Self {
        Self("cilium".to_owned())
    }
}

/// A tunnel self IP that no command would contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusedSelfIp {
    #[error("{0} is in no VTEP CIDR")]
    Outside(Ipv4Addr),
    #[error("{0} is the second address in {1}, and a tunnel has one self IP")]
    Second(Ipv4Addr, Ipv4Net),
}

/// Values that the configuration lacks.
#[derive(Clone, Debug, Default)]
pub struct SiteValues {
    /// Tunnel self IPs.
    pub self_ips: Vec<Ipv4Addr>,
    pub pod_cidrs: Vec<Ipv4Net>,
    /// Addresses of the nodes.
    pub nodes: Vec<Ipv4Addr>,
    pub tunnel: TunnelName,
}

impl SiteValues {
    /// Checks that each tunnel self IP belongs to one BIG-IP.
    ///
    /// # Errors
    ///
    /// The first self IP that belongs to none, or to one that already has another.
    pub fn check(&self, spec: &Spec) -> Result<(), UnusedSelfIp> {
        for &address in &self.self_ips {
            let Some(vtep) = spec.vteps.iter().find(|vtep| vtep.cidr.contains(&address)) else {
                return Err(UnusedSelfIp::Outside(address));
            };
            if self.self_ip(vtep.cidr).is_some_and(|first| first != address) {
                return Err(UnusedSelfIp::Second(address, vtep.cidr));
            }
        }
        Ok(())
    }

    fn self_ip(&self, cidr: Ipv4Net) -> Option<Ipv4Addr> {
        self.self_ips.iter().copied().find(|address| cidr.contains(address))
    }
}

/// Each BIG-IP of the configuration.
#[must_use]
pub fn bigips(spec: &Spec, site: &SiteValues) -> Vec<BigIp> {
    spec.vteps.iter().map(|vtep| bigip(spec, vtep, site)).collect()
}

fn bigip(spec: &Spec, vtep: &Vtep, site: &SiteValues) -> BigIp {
    let &Vtep { cidr, endpoint, mac } = vtep;
    let mut bigip = BigIp {
        local_address: endpoint,
        network: cidr,
        mac,
        protocol: spec.tunnel.protocol.to_string(),
        port: spec.tunnel.port,
        key: VTEP_VNI,
        self_ip: site.self_ip(cidr),
        pod_cidrs: site.pod_cidrs.clone(),
        fdb_records: site.nodes.iter().copied().map(FdbRecord::of_node).collect(),
        commands: Vec::new(),
        notes: Vec::new(),
    };
    bigip.commands = bigip.commands(spec.tunnel.protocol, &site.tunnel);
    bigip.notes = bigip.notes(&site.tunnel);
    bigip
}

impl BigIp {
    fn commands(&self, protocol: TunnelProtocol, tunnel: &TunnelName) -> Vec<String> {
        let Self { local_address, network, port, key, self_ip, pod_cidrs, fdb_records, .. } = self;
        let kind = match protocol {
            TunnelProtocol::Vxlan => "vxlan",
            TunnelProtocol::Geneve => "geneve",
        };
        let profile = format!("{tunnel}_{kind}");
        let self_ip = self_ip.map_or_else(|| format!("<an address in {network}>"), |address| address.to_string());
        let mut commands = vec![
            format!("create net tunnels {kind} {profile} port {port} flooding-type multipoint"),
            format!("create net tunnels tunnel {tunnel} key {key} profile {profile} local-address {local_address}"),
            format!(
                "create net self {tunnel}_self address {self_ip}/{} allow-service default vlan {tunnel}",
                network.prefix_len()
            ),
        ];
        let route = |n: usize, cidr: &dyn fmt::Display| {
            format!("create net route {tunnel}_pods_{n} network {cidr} interface {tunnel}")
        };
        match pod_cidrs.as_slice() {
            [] => commands.push(route(1, &"<pod CIDR>")),
            cidrs => commands.extend((1..).zip(cidrs).map(|(n, cidr)| route(n, cidr))),
        }
        commands.extend(fdb_records.iter().map(|FdbRecord { mac, endpoint }| {
            format!("modify net fdb tunnel {tunnel} records add {{ {mac} {{ endpoint {endpoint} }} }}")
        }));
        commands.push("save sys config".to_owned());
        commands
    }

    fn notes(&self, tunnel: &TunnelName) -> Vec<String> {
        let mut notes = Vec::new();
        if self.fdb_records.is_empty() {
            notes.push(
                "FDB records: give --node-ip or --nodes; without its record, BIG-IP reaches no pod of a node"
                    .to_owned(),
            );
        }
        notes.push(
            "HA pair: before the next config sync, `modify sys db iptunnel.configsync value disable` on both units; otherwise the sync \
             gives the other unit this local-address"
                .to_owned(),
        );
        notes.push(format!(
            "route domain other than 0: `modify net tunnels tunnel {tunnel} remote-address any`, and %ID after the addresses"
        ));
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::Tunnel;

    fn spec(tunnel: Tunnel) -> Spec {
        let vtep = |n: u8| Vtep {
            cidr: Ipv4Net::new([10, 1, n, 0].into(), 24).expect("24 is a prefix length"),
            endpoint: [10, 169, 72, n].into(),
            mac: [0, 0x50, 0x56, 0, 0, n].into(),
        };
        Spec { enabled: true, vteps: vec![vtep(6), vtep(5)], mask: Some([255, 255, 255, 0].into()), tunnel }
    }

    #[test]
    fn the_commands_are_those_of_f5s_document_with_the_values_filled_in() {
        let site = SiteValues {
            self_ips: vec![[10, 1, 6, 34].into()],
            pod_cidrs: vec!["10.0.0.0/16".parse().expect("a CIDR")],
            nodes: vec![[10, 169, 72, 239].into()],
            tunnel: "flannel_vxlan".parse().expect("a name"),
        };
        let [first, second] = bigips(&spec(Tunnel::default()), &site).try_into().expect("two");
        assert_eq!(
            first.commands,
            [
                "create net tunnels vxlan flannel_vxlan_vxlan port 8472 flooding-type multipoint",
                "create net tunnels tunnel flannel_vxlan key 2 profile flannel_vxlan_vxlan local-address 10.169.72.6",
                "create net self flannel_vxlan_self address 10.1.6.34/24 allow-service default vlan flannel_vxlan",
                "create net route flannel_vxlan_pods_1 network 10.0.0.0/16 interface flannel_vxlan",
                "modify net fdb tunnel flannel_vxlan records add { 0a:0a:0a:a9:48:ef { endpoint 10.169.72.239 } }",
                "save sys config",
            ]
        );
        assert!(second.commands[2].contains("<an address in 10.1.5.0/24>/24"), "{:?}", second.commands);
    }

    #[test]
    fn geneve_has_its_own_profile_and_port() {
        let tunnel = Tunnel { protocol: TunnelProtocol::Geneve, port: 6081 };
        let site = SiteValues::default();
        let commands = bigips(&spec(tunnel), &site).remove(0).commands;
        assert_eq!(commands[0], "create net tunnels geneve cilium_geneve port 6081 flooding-type multipoint");
        assert!(commands[3].contains("network <pod CIDR>"), "{commands:?}");
    }

    #[test]
    fn without_nodes_a_note_says_that_the_fdb_is_empty() {
        let notes = |nodes: Vec<Ipv4Addr>| {
            let site = SiteValues { nodes, ..SiteValues::default() };
            bigips(&spec(Tunnel::default()), &site).remove(0).notes
        };
        let is_told = |notes: Vec<String>| notes.iter().any(|note| note.starts_with("FDB records: give --node-ip"));
        assert!(is_told(notes(Vec::new())));
        assert!(!is_told(notes(vec![[10, 169, 72, 239].into()])));
    }

    #[test]
    fn notes_name_what_a_pair_and_a_route_domain_need() {
        let notes = bigips(&spec(Tunnel::default()), &SiteValues::default()).remove(0).notes;
        for command in
            ["modify sys db iptunnel.configsync value disable", "modify net tunnels tunnel cilium remote-address any"]
        {
            assert!(notes.iter().any(|note| note.contains(command)), "{command}: {notes:?}");
        }
    }

    #[test]
    fn a_name_is_one_word_for_tmsh() {
        for name in ["cilium", "flannel_vxlan", "/Common/cilium-1.18", "folder/tunnel", "T"] {
            assert_eq!(name.parse::<TunnelName>().map(|name| name.to_string()).as_deref(), Ok(name));
        }
        let others = [
            "",
            "a b; run util bash",
            "1st",
            "_x",
            "-x",
            "/",
            "/Common/",
            "a//b",
            "a\nb",
            "a{b",
            "tünnel",
            "a;b",
            "$x",
        ];
        for name in others {
            assert_eq!(name.parse::<TunnelName>(), Err(InvalidName(name.to_owned())));
        }
    }

    #[test]
    fn each_self_ip_belongs_to_one_bigip() {
        let check = |self_ips: &[[u8; 4]]| {
            let self_ips = self_ips.iter().copied().map(Ipv4Addr::from).collect();
            SiteValues { self_ips, ..SiteValues::default() }.check(&spec(Tunnel::default()))
        };
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[[10, 1, 5, 34], [10, 1, 6, 34], [10, 1, 6, 34]]), Ok(()));
        assert_eq!(check(&[[10, 1, 6, 34], [10, 9, 9, 9]]), Err(UnusedSelfIp::Outside([10, 9, 9, 9].into())));
        let second = UnusedSelfIp::Second([10, 1, 6, 35].into(), "10.1.6.0/24".parse().expect("a CIDR"));
        assert_eq!(check(&[[10, 1, 6, 34], [10, 1, 6, 35]]), Err(second));
    }
}
