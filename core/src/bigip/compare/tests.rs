//! A sound pair of ends, and what each single change of it yields.

use std::sync::Arc;

use super::*;
use crate::{
    bigip::device::{
        Address, AllowService, Fdb, FdbEntry, Flooding, ObjectName, Profile, ProfileKind, Route, SelfIp, Setting,
        Tunnel as BigIpTunnel, Via,
    },
    bigip::{plan, wanted::FdbRecord},
    config::spec::TunnelProtocol,
};

const ENDPOINT: [u8; 4] = [10, 169, 72, 34];
const NODES: [[u8; 4]; 2] = [[10, 169, 72, 239], [10, 169, 72, 233]];
const MAC: [u8; 6] = [0, 0x50, 0x56, 0xa0, 0x7d, 0xd8];

fn at(line: u32) -> Location {
    Location::new(&Arc::from("bigip.conf"), line, 1)
}

fn set<T>(value: T) -> Setting<T> {
    Setting { value, at: at(1), is_default: false }
}

fn name(name: &str) -> ObjectName {
    ObjectName::new(name, "/Common")
}

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

fn address(ip: [u8; 4]) -> Address {
    Address { ip: ip.into(), route_domain: 0 }
}

fn self_ip(of: &str, vlan: &str, cidr: &str) -> SelfIp {
    SelfIp {
        name: name(of),
        at: at(2),
        address: set(net(cidr)),
        route_domain: 0,
        allow_service: set(AllowService::Some(vec!["default".to_owned()])),
        vlan: set(name(vlan)),
        is_floating: false,
    }
}

fn route(of: &str, network: &str, via: Via) -> Route {
    Route { name: name(of), at: at(3), network: set(net(network)), route_domain: 0, via: set(via) }
}

fn record(node: [u8; 4]) -> FdbEntry {
    let FdbRecord { mac, endpoint } = FdbRecord::of_node(node.into());
    let endpoint = Some(set(Address { ip: endpoint, route_domain: 0 }));
    FdbEntry { mac, at: at(4), endpoint, is_dynamic: false }
}

fn cilium() -> CiliumEnd {
    let node = |address: [u8; 4]| ClusterNode { address: Some(address.into()), ..ClusterNode::default() };
    CiliumEnd {
        tunnel: Tunnel::default(),
        vteps: vec![CiliumVtep { cidr: net("10.1.6.0/24"), endpoint: ENDPOINT.into(), mac: Some(MAC.into()) }],
        pods: [net("10.0.0.0/16")].into(),
        pools: BTreeSet::new(),
        nodes: Some(NODES.map(node).to_vec()),
        mtu: None,
    }
}

fn device() -> Device {
    let tunnel = BigIpTunnel {
        name: name("cilium"),
        at: at(1),
        key: set(2),
        profile: set(name("cilium_vxlan")),
        local_address: set(Some(address(ENDPOINT))),
        secondary_address: set(None),
        remote_address: set(None),
        mtu: set(0),
        mac: None,
    };
    let profile = Profile {
        name: name("cilium_vxlan"),
        at: at(1),
        kind: ProfileKind::Vxlan,
        port: set(8472),
        flooding: set(Flooding::Multipoint),
    };
    Device {
        name: "bigip-1".to_owned(),
        covered: Component::ALL.into(),
        profiles: vec![profile],
        tunnels: vec![tunnel],
        self_ips: vec![
            self_ip("cilium_self", "cilium", "10.1.6.34/24"),
            self_ip("nodes_self", "nodes", "10.169.72.34/24"),
        ],
        routes: vec![route("cilium_pods_1", "10.0.0.0/16", Via::Interface(name("cilium")))],
        fdb: vec![Fdb { tunnel: name("cilium"), at: at(4), records: NODES.map(record).to_vec() }],
        arp: Vec::new(),
        unread: Vec::new(),
    }
}

fn found(cilium: &CiliumEnd, devices: &[Device]) -> Vec<(Rule, Severity)> {
    let differences = compare(cilium, devices).differences;
    differences.iter().map(|difference| (difference.finding.rule, difference.finding.severity)).collect()
}

/// What one change of BIG-IP's end yields.
fn changed(change: impl Fn(&mut Device)) -> Difference {
    let mut device = device();
    change(&mut device);
    let mut differences = compare(&cilium(), &[device]).differences;
    assert_eq!(differences.len(), 1, "{differences:#?}");
    differences.remove(0)
}

fn assert_change(change: impl Fn(&mut Device), rule: Rule, problem: &str, commands: &[&str]) {
    let difference = changed(change);
    assert_eq!(difference.finding.rule, rule);
    assert!(difference.finding.problem.contains(problem), "{}", difference.finding.problem);
    assert_eq!(difference.commands, commands);
}

#[test]
fn two_ends_that_fit_have_no_difference() {
    let comparison = compare(&cilium(), &[device()]);
    assert_eq!(comparison.differences, []);
    assert_eq!(comparison.notes, Vec::<String>::new());
    assert_eq!(comparison.paired, [[(0, "cilium".to_owned())]]);
    assert_eq!(plan::plan(&[device()], &comparison)[0].commands, Vec::<String>::new());
}

#[test]
fn the_tunnel() {
    assert_change(
        |device| device.tunnels[0].key.value = 0,
        Rule::BigipKey,
        "the key is 0",
        &["modify net tunnels tunnel cilium key 2"],
    );
    assert_change(
        |device| device.tunnels[0].local_address.value = Some(address([10, 169, 72, 99])),
        Rule::BigipLocalAddress,
        "local-address 10.169.72.99 is not the vtep-endpoint 10.169.72.34 and no self IP of this BIG-IP",
        &["modify net tunnels tunnel cilium local-address 10.169.72.34"],
    );
    assert_change(
        |device| device.self_ips[1].address.value = net("10.169.72.9/24"),
        Rule::BigipLocalAddress,
        "local-address 10.169.72.34 is no self IP of this BIG-IP",
        &[],
    );
    assert_change(
        |device| device.tunnels[0].mac = Some(set([0, 0x50, 0x56, 0, 0, 1].into())),
        Rule::BigipMac,
        "the tunnel's MAC is 00:50:56:00:00:01, and vtep-mac is 00:50:56:a0:7d:d8",
        &[],
    );
    let mtu = changed(|device| device.tunnels[0].mtu.value = 1500);
    assert_eq!((mtu.finding.rule, mtu.finding.severity), (Rule::BigipMtu, Severity::Info));
}

#[test]
fn an_mtu_is_judged_by_that_of_the_underlay() {
    let mut device = device();
    device.tunnels[0].mtu.value = 1500;
    let with = |mtu| found(&CiliumEnd { mtu: Some(mtu), ..cilium() }, std::slice::from_ref(&device));
    assert_eq!(with(1550), []);
    assert_eq!(with(1500), [(Rule::BigipMtu, Severity::Warning)]);
}

#[test]
fn the_profile() {
    assert_change(
        |device| device.profiles[0].port.value = 4789,
        Rule::BigipPort,
        "the tunnel's UDP port is 4789, and Cilium's is 8472",
        &["modify net tunnels vxlan cilium_vxlan port 8472"],
    );
    for flooding in [Flooding::None, Flooding::Multicast] {
        assert_change(
            |device| device.profiles[0].flooding.value = flooding.clone(),
            Rule::BigipFlooding,
            "members stay down",
            &["modify net tunnels vxlan cilium_vxlan flooding-type multipoint"],
        );
    }
    let own = [
        "create net tunnels vxlan cilium_vxlan_2 port 8472 flooding-type multipoint",
        "modify net tunnels tunnel cilium profile cilium_vxlan_2",
    ];
    let kind = |device: &mut Device| device.profiles[0].kind = ProfileKind::Geneve;
    assert_change(kind, Rule::BigipProfile, "is of the kind geneve, and Cilium's tunnels are vxlan", &own);
    let gone = |device: &mut Device| device.tunnels[0].profile.value = name("gone");
    assert_change(gone, Rule::BigipProfile, "the profile gone does not exist", &own);
}

#[test]
fn a_profile_of_bigips_own_is_not_changed() {
    let mut device = device();
    device.profiles[0].name = name("vxlan");
    device.profiles[0].port.value = 4789;
    device.profiles[0].flooding.value = Flooding::Multicast;
    device.tunnels[0].profile.value = name("vxlan");
    let comparison = compare(&cilium(), std::slice::from_ref(&device));
    assert_eq!(
        plan::plan(&[device], &comparison)[0].commands,
        [
            "create net tunnels vxlan cilium_vxlan port 8472 flooding-type multipoint",
            "modify net tunnels tunnel cilium profile cilium_vxlan",
            "save sys config",
        ]
    );
}

#[test]
fn the_self_ip() {
    let create = "create net self cilium_self address <an address in 10.1.6.0/24>/24 allow-service default vlan cilium";
    assert_change(
        |device| drop(device.self_ips.remove(0)),
        Rule::BigipSelfIp,
        "the tunnel has no self IP in 10.1.6.0/24",
        &[create],
    );
    assert_change(
        |device| device.self_ips[0].address.value = net("10.1.7.34/24"),
        Rule::BigipSelfIp,
        "10.1.7.34/24 is outside 10.1.6.0/24",
        &[&create.replace("cilium_self", "cilium_vtep_self")],
    );
    let again = [
        "delete net self cilium_self",
        "create net self cilium_self address 10.1.6.34/24 allow-service default vlan cilium",
    ];
    let wide = |device: &mut Device| device.self_ips[0].address.value = net("10.1.6.34/8");
    assert_change(wide, Rule::BigipSelfIp, "overlaps the pods in 10.0.0.0/16", &again);
    let narrow = changed(|device| device.self_ips[0].address.value = net("10.1.6.34/25"));
    assert_eq!((narrow.finding.rule, narrow.finding.severity), (Rule::BigipSelfIp, Severity::Warning));
    assert_change(
        |device| device.self_ips[0].allow_service.value = AllowService::None,
        Rule::BigipSelfIpLockdown,
        "it answers no ping",
        &["modify net self cilium_self allow-service default"],
    );
}

#[test]
fn the_routes() {
    assert_change(
        |device| device.routes.clear(),
        Rule::BigipRoute,
        "does not reach the pods in 10.0.0.0/16 by the tunnel cilium: there is no route to them",
        &["create net route cilium_pods_1 network 10.0.0.0/16 interface cilium"],
    );
    assert_change(
        |device| device.routes[0].network.value = net("10.0.0.0/17"),
        Rule::BigipRoute,
        "the pods in 10.0.128.0/17, a part of 10.0.0.0/16,",
        &["create net route cilium_pods_2 network 10.0.0.0/16 interface cilium"],
    );
    assert_change(
        |device| device.routes[0].via.value = Via::Gateway(address([10, 169, 72, 1])),
        Rule::BigipRoute,
        "they follow the route cilium_pods_1 (10.0.0.0/16) by the gateway 10.169.72.1",
        &["delete net route cilium_pods_1", "create net route cilium_pods_1 network 10.0.0.0/16 interface cilium"],
    );
    assert_change(
        |device| device.routes.push(route("old", "10.0.3.0/24", Via::Gateway(address([10, 169, 72, 1])))),
        Rule::BigipRoute,
        "the pods in 10.0.3.0/24, a part of 10.0.0.0/16,",
        &["delete net route old", "create net route old network 10.0.3.0/24 interface cilium"],
    );
    assert_change(
        |device| device.routes[0].route_domain = 20,
        Rule::BigipRoute,
        "there is no route to them",
        &["create net route cilium_pods_2 network 10.0.0.0/16 interface cilium"],
    );
}

#[test]
fn routes_that_lead_there_in_other_ways() {
    let whole = |routes: Vec<Route>| found(&cilium(), &[Device { routes, ..device() }]);
    let tunnel = || Via::Interface(name("cilium"));
    assert_eq!(whole(vec![route("default", "0.0.0.0/0", tunnel())]), []);
    assert_eq!(whole(vec![route("a", "10.0.0.0/17", tunnel()), route("b", "10.0.128.0/17", tunnel())]), []);
    let beside = route("default", "0.0.0.0/0", Via::Gateway(address([10, 169, 72, 1])));
    assert_eq!(whole(vec![beside, route("a", "10.0.0.0/16", tunnel())]), []);
}

#[test]
fn without_pod_networks_the_pools_are_compared() {
    let with = |pool: &str, routes: Vec<Route>| {
        let cilium = CiliumEnd { pods: BTreeSet::new(), pools: [net(pool)].into(), ..cilium() };
        compare(&cilium, &[Device { routes, ..device() }])
    };
    let into = |network: &str| vec![route("pods", network, Via::Interface(name("cilium")))];
    let served = with("10.0.0.0/8", into("10.0.0.0/16"));
    assert_eq!(served.differences, []);
    assert_eq!(served.notes, ["bigip-1: pod networks are not known: routes are not compared (--pod-cidr)"]);
    for (pool, routes) in [("10.0.0.0/8", into("172.16.0.0/16")), ("10.0.0.0/8", Vec::new())] {
        assert_eq!(with(pool, routes).differences[0].finding.rule, Rule::BigipRoute);
    }
}

#[test]
fn the_forwarding_database() {
    let add = "modify net fdb tunnel cilium records add { 0a:0a:0a:a9:48:e9 { endpoint 10.169.72.233 } }";
    assert_change(
        |device| drop(device.fdb[0].records.remove(1)),
        Rule::BigipFdbMissing,
        "no FDB record for the node 10.169.72.233",
        &[add],
    );
    assert_change(|device| device.fdb[0].records[1].is_dynamic = true, Rule::BigipFdbMissing, "", &[add]);
    let first = "modify net fdb tunnel cilium records add { 0a:0a:0a:a9:48:ef { endpoint 10.169.72.239 } }";
    assert_change(
        |device| device.fdb.clear(),
        Rule::BigipFdbMissing,
        "the forwarding database is empty",
        &[first, add],
    );
    assert_change(
        |device| device.fdb[0].records.push(record([10, 169, 72, 7])),
        Rule::BigipFdbStale,
        "1 FDB record has the address of no node: 10.169.72.7",
        &["modify net fdb tunnel cilium records delete { 0a:0a:0a:a9:48:07 }"],
    );
    let elsewhere = |device: &mut Device| {
        let endpoint = device.fdb[0].records[0].endpoint.as_mut().expect("an endpoint");
        endpoint.value.route_domain = 20;
    };
    assert_change(
        elsewhere,
        Rule::BigipRouteDomain,
        "another route domain than the tunnel's, which is 0",
        &["modify net fdb tunnel cilium records modify { 0a:0a:0a:a9:48:ef { endpoint 10.169.72.239 } }"],
    );
}

/// Whoever wrote the input must not write the commands.
#[test]
fn a_name_from_outside_is_no_command() {
    for bad in [
        "a;reboot",
        "a\nreboot",
        "$(reboot)",
        "a`reboot`",
        "a|reboot",
        "a&&reboot",
        "'a",
        "a\u{1b}[1A",
        "ä",
        "a>b",
        "a<b",
    ] {
        let mut device = device();
        device.name = bad.to_owned();
        device.tunnels[0].name = name(bad);
        device.tunnels[0].key.value = 1;
        let comparison = compare(&cilium(), std::slice::from_ref(&device));
        let plan = plan::plan(&[device], &comparison).remove(0);
        assert!(plan.commands.iter().any(|command| command.contains("key 2")), "{:?}", plan.commands);
        for command in plan.commands.iter().filter(|command| *command != "save sys config") {
            let line = plan::for_shell(command);
            assert!(line.starts_with("# ") && !line.contains(char::is_control), "{line:?}");
        }
    }
}

/// The list of nodes may lack some.
#[test]
fn no_plan_deletes_records() {
    let mut device = device();
    device.fdb[0].records.push(record([10, 169, 72, 7]));
    let comparison = compare(&cilium(), std::slice::from_ref(&device));
    let plan = plan::plan(&[device], &comparison).remove(0);
    assert_eq!(plan.commands, Vec::<String>::new());
    assert_eq!(plan.optional, ["modify net fdb tunnel cilium records delete { 0a:0a:0a:a9:48:07 }"]);
}

#[test]
fn the_records_of_another_tunnel_show_nothing() {
    let mut device = device();
    device.fdb[0].tunnel = name("other");
    let comparison = compare(&cilium(), &[device]);
    assert_eq!(comparison.differences, []);
    assert!(comparison.notes[0].contains("does not show all FDB records"), "{:?}", comparison.notes);
}

#[test]
fn another_address_of_a_node_is_named() {
    let mut cilium = cilium();
    let nodes = cilium.nodes.as_mut().expect("nodes");
    nodes[0] =
        ClusterNode { name: Some("worker-1".to_owned()), others: vec![[192, 0, 2, 9].into()], ..nodes[0].clone() };
    let mut device = device();
    device.fdb[0].records[0].endpoint = Some(set(address([192, 0, 2, 9])));
    let differences = compare(&cilium, &[device]).differences;
    let rules: Vec<_> = differences.iter().map(|difference| difference.finding.rule).collect();
    assert_eq!(rules, [Rule::BigipFdbMissing, Rule::BigipFdbStale]);
    let problem = &differences[0].finding.problem;
    assert!(
        problem.contains("worker-1 (10.169.72.239) is recorded with 192.0.2.9, which is not its InternalIP"),
        "{problem}"
    );
}

/// A public guide has the self IP inside the tunnel in `vtep-endpoint`.
#[test]
fn the_self_ip_as_the_endpoint() {
    let mut cilium = cilium();
    cilium.vteps[0].endpoint = [10, 1, 6, 34].into();
    let differences = compare(&cilium, &[device()]).differences;
    assert_eq!(differences.len(), 1, "{differences:#?}");
    assert_eq!(differences[0].finding.rule, Rule::BigipLocalAddress);
    assert_eq!(
        differences[0].finding.remedy,
        "10.1.6.34 is the self IP inside the tunnel: write 10.169.72.34 into vtep-endpoint"
    );
    assert_eq!(differences[0].commands, Vec::<String>::new());
}

#[test]
fn two_units_with_one_address() {
    let unit = |n: u8, mac: Option<u8>| {
        let mut unit = Device { name: format!("bigip-{n}"), ..device() };
        unit.tunnels[0].mac = mac.map(|last| set([0, 0x50, 0x56, 0xa0, 0x7d, last].into()));
        unit
    };
    let failover = [(Rule::BigipFailoverMac, Severity::Warning)];
    assert_eq!(found(&cilium(), &[unit(1, None), unit(2, None)]), failover);
    let masquerade = found(&cilium(), &[unit(1, Some(0xd8)), unit(2, Some(0xd8))]);
    assert_eq!(masquerade, []);
    let differ = compare(&cilium(), &[unit(1, Some(0xd8)), unit(2, Some(1))]).differences;
    let of = |rule| differ.iter().find(|difference| difference.finding.rule == rule).expect("a difference");
    assert_eq!(of(Rule::BigipMac).device, Some(1));
    let problem = &of(Rule::BigipFailoverMac).finding.problem;
    assert!(problem.starts_with("bigip-1 and bigip-2 have"), "{problem}");
    assert!(problem.contains("(00:50:56:a0:7d:d8, 00:50:56:a0:7d:01)"), "{problem}");
    let floating = changed(|device| device.self_ips[1].is_floating = true);
    assert_eq!((floating.finding.rule, floating.finding.severity), (Rule::BigipFailoverMac, Severity::Info));
}

#[test]
fn each_end_without_the_other() {
    let mut two = cilium();
    two.vteps.push(CiliumVtep { cidr: net("10.1.5.0/24"), endpoint: [10, 169, 72, 36].into(), mac: None });
    assert_eq!(found(&two, &[device()]), [(Rule::BigipAbsent, Severity::Warning)]);
    let mut other = Device { name: "bigip-2".to_owned(), ..device() };
    other.tunnels[0].local_address.value = Some(address([10, 169, 73, 1]));
    other.self_ips = vec![self_ip("cilium_self", "cilium", "10.9.9.9/24")];
    assert_eq!(found(&cilium(), &[device(), other]), [(Rule::BigipUnlisted, Severity::Warning)]);
}

/// A tunnel that another VTEP names is not taken for a VTEP whose CIDR its self IP is in.
#[test]
fn swapped_networks() {
    let mut two = cilium();
    two.vteps[0].cidr = net("10.1.5.0/24");
    two.vteps.push(CiliumVtep { cidr: net("10.1.6.0/24"), endpoint: [10, 169, 72, 36].into(), mac: None });
    let expected = [(Rule::BigipAbsent, Severity::Warning), (Rule::BigipSelfIp, Severity::Error)];
    assert_eq!(found(&two, &[device()]), expected);
}

#[test]
fn what_the_input_does_not_show_is_not_judged() {
    for component in Component::ALL {
        let mut device = device();
        device.covered.remove(&component);
        match component {
            Component::Profiles => device.profiles.clear(),
            Component::Tunnels => device.tunnels.clear(),
            Component::SelfIps => device.self_ips.clear(),
            Component::Routes => device.routes.clear(),
            Component::Fdb => device.fdb.clear(),
        }
        let comparison = compare(&cilium(), &[device]);
        assert_eq!(comparison.differences, [], "{component:?}");
        assert_eq!(comparison.notes.len(), 1, "{component:?}: {:?}", comparison.notes);
    }
}

#[test]
fn geneve() {
    let mut cilium = cilium();
    cilium.tunnel = Tunnel { protocol: TunnelProtocol::Geneve, port: 6081 };
    assert_eq!(found(&cilium, &[device()]), [(Rule::BigipProfile, Severity::Error)]);
    let mut device = device();
    device.profiles[0].kind = ProfileKind::Geneve;
    device.profiles[0].port.value = 6081;
    assert_eq!(found(&cilium, &[device]), []);
}

/// A table of routes that somebody made to cost time.
#[test]
fn many_routes_are_followed_in_little_time() {
    let via =
        |n: u32| if n.is_multiple_of(2) { Via::Interface(name("cilium")) } else { Via::Other("blackhole".to_owned()) };
    let single = |n: u32| {
        let network = Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + n), 32).expect("32 is a prefix length");
        Route { network: set(network), ..route("r", "10.0.0.0/16", via(n)) }
    };
    let device = Device { routes: (0..20_000).map(single).collect(), ..device() };
    let started = std::time::Instant::now();
    assert_eq!(found(&cilium(), &[device]), [(Rule::BigipRoute, Severity::Error)]);
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}
