//! Both ends of a tunnel as texts: the commands that the agent prints, as a BIG-IP lists them afterwards, fit; each single change of that
//! list yields exactly its finding.

#![cfg(test)]

mod both_ends {
    pub(crate) mod listing;
}

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;
use proptest::prelude::*;
use vtep_core::{
    bigip::{
        SiteValues, bigips,
        compare::{CiliumEnd, CiliumVtep, ClusterNode, Comparison, compare},
        read,
    },
    config::{
        Keys,
        finding::Rule,
        parse::parse,
        spec::{Spec, Tunnel, TunnelProtocol, Vtep},
    },
};

use both_ends::listing::Listing;

/// A cluster and one BIG-IP.
#[derive(Clone, Debug)]
struct Site {
    tunnel: Tunnel,
    vtep: Vtep,
    self_ip: Ipv4Addr,
    pods: BTreeSet<Ipv4Net>,
    nodes: BTreeSet<Ipv4Addr>,
}

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

/// The example of F5's document.
fn example() -> Site {
    Site {
        tunnel: Tunnel { protocol: TunnelProtocol::Vxlan, port: 8472 },
        vtep: Vtep {
            cidr: net("10.1.6.0/24"),
            endpoint: [10, 169, 72, 34].into(),
            mac: [0, 0x50, 0x56, 0xa0, 0x7d, 0xd8].into(),
        },
        self_ip: [10, 1, 6, 34].into(),
        pods: [net("10.0.0.0/16")].into(),
        nodes: [[10, 169, 72, 239].into(), [10, 169, 72, 233].into()].into(),
    }
}

fn any_site() -> impl Strategy<Value = Site> {
    let tunnel = prop_oneof![
        (1024_u16..).prop_map(|port| Tunnel { protocol: TunnelProtocol::Vxlan, port }),
        (1024_u16..).prop_map(|port| Tunnel { protocol: TunnelProtocol::Geneve, port }),
    ];
    let pods = prop::collection::btree_set((0_u8..8).prop_map(|n| net(&format!("10.{n}.0.0/16"))), 1..4);
    let nodes = prop::collection::btree_set((1_u8..250).prop_map(|n| Ipv4Addr::new(192, 168, 40, n)), 1..12);
    (tunnel, 16_u8..30, 1_u8..250, any::<[u8; 5]>(), pods, nodes).prop_map(
        |(tunnel, length, host, mac, pods, nodes)| {
            let own = Ipv4Addr::new(172, 20, 6, 1);
            let cidr = Ipv4Net::new(own, length).expect("a prefix length").trunc();
            let mac = [0, mac[0], mac[1], mac[2], mac[3], mac[4] | 1].into();
            let vtep = Vtep { cidr, endpoint: [192, 168, 41, host].into(), mac };
            Site { tunnel, vtep, self_ip: own, pods, nodes }
        },
    )
}

impl Site {
    /// What a BIG-IP lists after the commands of `vtep-agent bigip`.
    fn listing(&self) -> Listing {
        let spec = Spec { enabled: true, vteps: vec![self.vtep], mask: None, tunnel: self.tunnel };
        let values = SiteValues {
            self_ips: vec![self.self_ip],
            pod_cidrs: self.pods.iter().copied().collect(),
            nodes: self.nodes.iter().copied().collect(),
            ..SiteValues::default()
        };
        let commands = bigips(&spec, &values).remove(0).commands;
        Listing::after(&commands, self.vtep.endpoint)
    }

    fn cilium(&self) -> CiliumEnd {
        let node = |&address: &Ipv4Addr| ClusterNode { address: Some(address), ..ClusterNode::default() };
        let Vtep { cidr, endpoint, mac } = self.vtep;
        CiliumEnd {
            tunnel: self.tunnel,
            vteps: vec![CiliumVtep { cidr, endpoint, mac: Some(mac) }],
            pods: self.pods.clone(),
            nodes: Some(self.nodes.iter().map(node).collect()),
            ..CiliumEnd::default()
        }
    }

    fn compare(&self, texts: &[&str]) -> Comparison {
        compare_texts(&self.cilium(), texts)
    }
}

fn compare_texts(cilium: &CiliumEnd, texts: &[&str]) -> Comparison {
    let texts: Vec<(Arc<str>, &str)> =
        texts.iter().enumerate().map(|(n, text)| (format!("bigip-{n}.conf").into(), *text)).collect();
    let read = read(&texts);
    assert_eq!(read.notes, Vec::<String>::new());
    compare(cilium, &read.devices)
}

fn rules(comparison: &Comparison) -> Vec<Rule> {
    comparison.differences.iter().map(|difference| difference.finding.rule).collect()
}

/// A change of what the BIG-IP has.
type Change = (&'static str, fn(&mut Listing), Rule);

/// What public reports, guides and scripts got wrong, and what else can differ. Every change alone yields only its finding.
const CHANGES: &[Change] = &[
    ("key 0, the default", |list| list.key = None, Rule::BigipKey),
    ("key 1", |list| list.key = Some(1), Rule::BigipKey),
    ("key 68", |list| list.key = Some(68), Rule::BigipKey),
    ("another port", |list| list.port = Some(4790), Rule::BigipPort),
    ("flooding-type none", |list| list.flooding = Some("none"), Rule::BigipFlooding),
    ("flooding-type multicast", |list| list.flooding = Some("multicast"), Rule::BigipFlooding),
    ("another local-address", |list| list.local_address = Some([192, 0, 2, 1].into()), Rule::BigipLocalAddress),
    ("a local-address that is no self IP", |list| list.underlay = net("192.0.2.9/24"), Rule::BigipLocalAddress),
    ("no tunnel self IP", |list| list.self_ip = None, Rule::BigipSelfIp),
    ("a tunnel self IP outside the CIDR", |list| list.self_ip = Some(net("198.18.0.5/24")), Rule::BigipSelfIp),
    ("a tunnel self IP with the pods' network", |list| widen(list), Rule::BigipSelfIp),
    ("allow-service none", |list| list.allow_service = None, Rule::BigipSelfIpLockdown),
    ("no route to a pod network", |list| drop(list.routes.pop()), Rule::BigipRoute),
    ("a route by a gateway", |list| list.routes[0].1 = "gw 192.168.41.254".to_owned(), Rule::BigipRoute),
    ("a part by a gateway", by_a_gateway, Rule::BigipRoute),
    ("no FDB record", |list| list.records.clear(), Rule::BigipFdbMissing),
    ("one FDB record is missing", |list| drop(list.records.pop()), Rule::BigipFdbMissing),
    ("an FDB record of a node that is gone", add_a_record, Rule::BigipFdbStale),
    ("an FDB record in another route domain", |list| list.records[0].1 += "%20", Rule::BigipRouteDomain),
    ("a tunnel MTU of 9000", |list| list.mtu = Some(9000), Rule::BigipMtu),
    ("the MAC of another tunnel", |list| list.mac = Some("00:23:e9:00:00:01"), Rule::BigipMac),
];

fn widen(list: &mut Listing) {
    let own = list.self_ip.expect("a self IP").addr();
    // The first pod network of every site is in it.
    list.self_ip = Some(Ipv4Net::new(own, 1).expect("a prefix length"));
    let pods = list.routes[0].0;
    if !list.self_ip.is_some_and(|own| own.contains(&pods)) {
        list.self_ip = Some(Ipv4Net::new(own, 0).expect("a prefix length"));
    }
}

fn by_a_gateway(list: &mut Listing) {
    let part = list.routes[0].0.subnets(24).expect("a longer prefix").nth(3).expect("a part");
    list.routes.push((part, "gw 192.168.41.254".to_owned()));
}

fn add_a_record(list: &mut Listing) {
    list.records.push(("0a:0a:c0:00:02:07".to_owned(), "192.0.2.7".to_owned()));
}

#[test]
fn each_change_of_the_example_yields_its_finding() {
    let site = example();
    for (what, change, rule) in CHANGES {
        let mut listing = site.listing();
        change(&mut listing);
        let comparison = site.compare(&[&listing.text()]);
        assert_eq!(rules(&comparison), [*rule], "{what}: {:#?}", comparison.differences);
        let difference = &comparison.differences[0];
        assert!(difference.at.is_some(), "{what}");
        // What Cilium's configuration, the underlay or a person's choice has to mend has no command.
        let is_elsewhere = matches!(rule, Rule::BigipMac | Rule::BigipMtu) || what.contains("no self IP");
        assert_eq!(difference.commands.is_empty(), is_elsewhere, "{what}: {:?}", difference.commands);
    }
}

#[test]
fn the_default_port_of_vxlan() {
    let site = example();
    let mut listing = site.listing();
    listing.port = None;
    let comparison = site.compare(&[&listing.text()]);
    assert_eq!(rules(&comparison), [Rule::BigipPort]);
    assert!(comparison.differences[0].finding.problem.contains("4789 by default"));
}

/// Two files of a pair: each unit has the floating local address, and a tunnel MAC of its own.
#[test]
fn a_pair_that_floats_the_tunnel() {
    let site = example();
    let unit = |n: u8, mac: &'static str| {
        let mut listing = site.listing();
        listing.hostname = Some(format!("bigip-{n}.example.com"));
        listing.mac = Some(mac);
        listing.text()
    };
    let comparison = site.compare(&[&unit(1, "00:50:56:a0:7d:d8"), &unit(2, "00:50:56:a0:7d:01")]);
    assert_eq!(rules(&comparison), [Rule::BigipFailoverMac, Rule::BigipMac]);
}

/// A public lab guide, both halves.
#[test]
fn a_lab_guide() {
    let keys: Keys = [
        ("enable-vtep", "true"),
        ("vtep-cidr", "172.18.202.0/24"),
        ("vtep-endpoint", "10.80.255.202"),
        ("vtep-mac", "00:50:56:bd:f4:7a"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let cilium = CiliumEnd { pods: [net("10.0.0.0/16")].into(), ..CiliumEnd::of_lists(&keys, &parse(&keys)) };
    let comparison = compare_texts(&cilium, &[include_str!("both_ends/lab-guide.tmsh")]);
    assert_eq!(rules(&comparison), [Rule::BigipLocalAddress, Rule::BigipSelfIpLockdown, Rule::BigipFdbMissing]);
    let problem = &comparison.differences[0].finding.problem;
    assert_eq!(
        problem,
        "local-address 10.20.255.202 is not the vtep-endpoint 10.80.255.202 and no self IP of this BIG-IP"
    );
}

/// F5's document for Cilium has commands for the first of its two BIG-IPs: that half is right.
#[test]
fn the_commands_of_f5s_document() {
    let site = example();
    let mut cilium = site.cilium();
    cilium.nodes = None;
    let comparison = compare_texts(&cilium, &[include_str!("both_ends/f5-document.tmsh")]);
    assert_eq!(comparison.differences, []);
    assert_eq!(comparison.paired, [[(0, "flannel_vxlan".to_owned())]]);
}

proptest! {
    #[test]
    fn our_commands_fit_every_site(site in any_site()) {
        let comparison = site.compare(&[&site.listing().text()]);
        prop_assert_eq!(&comparison.differences, &[]);
        prop_assert_eq!(&comparison.notes, &Vec::<String>::new());
    }

    #[test]
    fn each_change_yields_its_finding(site in any_site(), index in 0..CHANGES.len()) {
        let (what, change, rule) = CHANGES[index];
        let mut listing = site.listing();
        change(&mut listing);
        let comparison = site.compare(&[&listing.text()]);
        // With a single node, the last record was the only one.
        prop_assert_eq!(rules(&comparison), [rule], "{}: {:#?}", what, comparison.differences);
    }
}
