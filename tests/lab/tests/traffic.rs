//! Packets between pod, node and BIG-IPs, over the real tunnel and through the lab's datapath.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use vtep_lab::{BIGIP_TUNNEL, Faults, Host, Lab, PingResult, Topology, Tunnel, VtepModel, ping};

const INTERVAL: Duration = Duration::from_millis(20);

#[test]
fn pod_and_bigips_reach_each_other() -> Result<()> {
    for tunnel in [Tunnel::Vxlan, Tunnel::UserGeneve] {
        let lab = Lab::builder().tunnel(tunnel).fill_map(true).start()?;
        for bigip in &lab.bigips {
            let there = three(&lab.pod, bigip.addresses.self_ip.addr())?;
            assert!(there.is_complete(), "{tunnel:?}, pod to {}: {there:?}", bigip.host.name());
            let back = three(&bigip.host, lab.topology.pod_ip)?;
            assert!(back.is_complete(), "{tunnel:?}, {} to pod: {back:?}", bigip.host.name());
        }
    }
    Ok(())
}

#[test]
fn in_a_trie_the_longest_prefix_wins() -> Result<()> {
    let mut topology = Topology::default();
    topology.bigips[1].self_ip = "10.1.5.36/16".parse()?;
    let lab = Lab::builder().topology(topology).vtep_model(VtepModel::Trie).fill_map(true).start()?;
    for bigip in &lab.bigips {
        let there = three(&lab.pod, bigip.addresses.self_ip.addr())?;
        assert!(there.is_complete(), "pod to {}: {there:?}", bigip.host.name());
        let back = three(&bigip.host, lab.topology.pod_ip)?;
        assert!(back.is_complete(), "{} to pod: {back:?}", bigip.host.name());
    }
    // Both BIG-IPs have the address from here on, so that the one that gets a packet answers it.
    let (narrow, wide) = (&lab.bigips[0], &lab.bigips[1]);
    let both = narrow.addresses.self_ip.addr();
    wide.host.ip(&format!("addr add {both}/32 dev {BIGIP_TUNNEL}"))?;
    narrow.down()?;
    assert_eq!(three(&lab.pod, both)?.received, 0, "the longer prefix leads to the first, which is down");
    lab.cilium.delete_entry(narrow.addresses.vtep().cidr)?;
    assert!(three(&lab.pod, both)?.is_complete(), "without it, the shorter one leads to the second");
    lab.cilium.delete_entry(wide.addresses.vtep().cidr)?;
    assert_eq!(three(&lab.pod, both)?.received, 0, "without both, nothing does");
    Ok(())
}

#[test]
fn other_addresses_work_too() -> Result<()> {
    let mut topology = Topology { node_ip: Ipv4Addr::new(10, 169, 72, 77), tunnel_port: 4789, ..Topology::default() };
    topology.router_ip = Ipv4Addr::new(10, 0, 0, 9);
    topology.bigips.truncate(1);
    topology.bigips[0].self_ip = "172.31.4.1/24".parse()?;
    let lab = Lab::builder().topology(topology).fill_map(true).start()?;
    let there = three(&lab.pod, Ipv4Addr::new(172, 31, 4, 1))?;
    assert!(there.is_complete(), "{there:?}");
    Ok(())
}

#[test]
fn the_node_reaches_what_is_behind_the_router_and_on_its_second_network() -> Result<()> {
    let lab = Lab::builder().api_host(true).second(true).fill_map(true).start()?;
    let (Some(api), Some(second)) = (&lab.api_host, &lab.second) else { anyhow::bail!("both were asked for") };
    for (host, address, own) in [
        (api, lab.topology.api.addr(), lab.topology.node_ip),
        (second, lab.topology.second.addr(), lab.topology.node_second_ip),
    ] {
        let there = three(&lab.node, address)?;
        assert!(there.is_complete(), "node to {}: {there:?}", host.name());
        let back = three(host, own)?;
        assert!(back.is_complete(), "{} to node: {back:?}", host.name());
    }
    let way = lab.node.ip(&format!("route get {}", lab.topology.api.addr()))?;
    assert!(way.contains("via 10.169.72.10 dev eth0"), "{way}");
    assert!(three(&lab.pod, lab.bigips[0].addresses.self_ip.addr())?.is_complete(), "the rest is as ever");

    let plain = Lab::builder().cilium_running(false);
    drop(lab);
    let plain = plain.start()?;
    assert!(
        plain.api_host.is_none() && plain.second.is_none() && plain.node.link("eth1").is_err(),
        "only when asked for"
    );
    Ok(())
}

#[test]
fn an_empty_map_carries_nothing_until_it_is_filled() -> Result<()> {
    let lab = Lab::start()?;
    assert!(lab.cilium.vtep_entries()?.is_empty());
    let bigip = &lab.bigips[0];
    assert_eq!(three(&lab.pod, bigip.addresses.self_ip.addr())?.received, 0);
    assert_eq!(three(&bigip.host, lab.topology.pod_ip)?.received, 0, "BIG-IP gets no answer to its ARP");
    lab.cilium.sync()?;
    assert!(three(&lab.pod, bigip.addresses.self_ip.addr())?.is_complete());
    Ok(())
}

#[test]
fn a_deleted_entry_cuts_one_bigip_off() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let [first, second] = [0, 1].map(|index| lab.bigips[index].addresses.clone());
    lab.cilium.delete_vtep(first.vtep().key())?;
    assert_eq!(three(&lab.pod, first.self_ip.addr())?.received, 0);
    assert!(three(&lab.pod, second.self_ip.addr())?.is_complete());
    lab.cilium.put_vtep(first.vtep().key(), first.vtep().value())?;
    assert!(three(&lab.pod, first.self_ip.addr())?.is_complete(), "a written entry works at once");
    Ok(())
}

#[test]
fn a_wrong_mac_or_endpoint_carries_nothing() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let addresses = &lab.bigips[0].addresses;
    let (key, right) = (addresses.vtep().key(), addresses.vtep().value());
    for (byte, what) in [(5, "MAC"), (11, "endpoint")] {
        let mut wrong = right;
        wrong[byte] ^= 0x11;
        lab.cilium.put_vtep(key, wrong)?;
        assert_eq!(three(&lab.pod, addresses.self_ip.addr())?.received, 0, "wrong {what}");
    }
    let mut zero = right;
    zero[..6].fill(0);
    lab.cilium.put_vtep(key, zero)?;
    assert_eq!(three(&lab.pod, addresses.self_ip.addr())?.received, 0, "a zero MAC is no entry");
    Ok(())
}

#[test]
fn the_node_reaches_bigip_from_the_router_ip() -> Result<()> {
    let lab = Lab::builder().l7_proxy(true).fill_map(true).start()?;
    for bigip in &lab.bigips {
        let there = three(&lab.node, bigip.addresses.self_ip.addr())?;
        assert!(there.is_complete(), "node to {}: {there:?}", bigip.host.name());
        let back = three(&bigip.host, lab.topology.router_ip)?;
        assert!(back.is_complete(), "{} to router IP: {back:?}", bigip.host.name());
    }
    let route = lab.node.ip("route get 10.1.6.34")?;
    assert!(route.contains("dev cilium_host table 202 src 10.0.0.126"), "{route}");
    assert!(three(&lab.pod, lab.topology.router_ip)?.is_complete(), "pod to router IP");
    assert!(three(&lab.pod, lab.topology.node_ip)?.is_complete(), "pod to node IP");
    assert!(three(&lab.node, lab.topology.pod_ip)?.is_complete(), "node to pod");
    Ok(())
}

#[test]
fn without_an_entry_the_node_is_told_so() -> Result<()> {
    let lab = Lab::builder().l7_proxy(true).fill_map(true).start()?;
    let addresses = &lab.bigips[0].addresses;
    lab.cilium.delete_vtep(addresses.vtep().key())?;
    let lost = three(&lab.node, addresses.self_ip.addr())?;
    assert_eq!(lost.received, 0);
    assert!(lost.errors.contains("No buffer space"), "{lost:?}");
    assert!(lab.cilium.dropped_as_unroutable()? > 0);
    Ok(())
}

#[test]
fn without_host_routes_the_node_does_not_reach_bigip() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    assert_eq!(three(&lab.node, lab.bigips[0].addresses.self_ip.addr())?.received, 0);
    Ok(())
}

#[test]
fn a_wrong_vni_is_dropped_and_counted() -> Result<()> {
    for model in [VtepModel::Hash, VtepModel::Trie] {
        let mut topology = Topology::default();
        topology.bigips[0].vni = 3;
        let mut lab = Lab::builder().topology(topology).vtep_model(model).fill_map(true).start()?;
        let pod = lab.topology.pod_ip;
        // BIG-IP's tunnel does not accept answers with VNI 2 either, so the test configures the MAC.
        let mac = lab.node.link("cilium_vxlan")?.mac;
        lab.bigips[0].host.ip(&format!("neigh add {pod} lladdr {mac} dev {BIGIP_TUNNEL} nud permanent"))?;
        assert_eq!(lab.cilium.dropped_for_vni()?, 0);
        let lost = three(&lab.bigips[0].host, pod)?;
        assert_eq!((lost.received, lab.cilium.dropped_for_vni()?), (0, u64::from(lost.sent)));
        assert!(three(&lab.bigips[1].host, pod)?.is_complete(), "the other is not concerned");

        lab.cilium.faults = Faults { accept_any_vni: true, ..Faults::default() };
        lab.cilium.start()?;
        three(&lab.bigips[0].host, pod)?;
        assert_eq!(lab.cilium.dropped_for_vni()?, u64::from(lost.sent), "nothing more is dropped without the check");
    }
    Ok(())
}

#[test]
fn a_bigip_goes_and_comes_back() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let bigip = &lab.bigips[0];
    let self_ip = bigip.addresses.self_ip.addr();
    assert!(three(&lab.pod, self_ip)?.is_complete());
    bigip.down()?;
    assert_eq!(three(&lab.pod, self_ip)?.received, 0);
    bigip.up()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !three(&lab.pod, self_ip)?.is_complete() {
        ensure!(Instant::now() < deadline, "BIG-IP did not come back");
    }
    Ok(())
}

fn three(from: &Host, to: Ipv4Addr) -> Result<PingResult> {
    ping(from, None, to, 3, INTERVAL)
}
