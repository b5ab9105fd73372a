//! The node's answers to ARP requests of BIG-IP, and the requests that it ignores.

use std::{
    io::{BufRead, BufReader, Read},
    net::Ipv4Addr,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use vtep_lab::{ArpRequest, BIGIP_TUNNEL, BigIp, Faults, Host, Lab, Mac, arp, ping};

/// Longer than an answer, which takes microseconds.
const TIMEOUT: Duration = Duration::from_millis(300);
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

#[test]
fn pod_router_and_node_are_answered_with_the_tunnels_mac() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let tunnel = lab.node.link("cilium_vxlan")?.mac;
    for bigip in &lab.bigips {
        for target in [lab.topology.pod_ip, lab.topology.router_ip, lab.topology.node_ip] {
            let request = ArpRequest::broadcast(bigip.addresses.self_ip.addr(), target);
            assert_eq!(ask(bigip, request)?, Some(tunnel), "{target} to all");
            let request = ArpRequest { to: tunnel, ..request };
            assert_eq!(ask(bigip, request)?, Some(tunnel), "{target} to the tunnel's MAC");
        }
    }
    Ok(())
}

#[test]
fn silence_for_everything_else() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let bigip = &lab.bigips[0];
    let usual = ArpRequest::broadcast(bigip.addresses.self_ip.addr(), lab.topology.pod_ip);
    let elsewhere = Mac([2, 0, 0, 0, 0, 1]);
    for (what, request) in [
        ("a sender outside every VTEP CIDR", ArpRequest { sender: STRANGER, ..usual }),
        ("an address that is not on this node", ArpRequest { target: Ipv4Addr::new(10, 0, 0, 99), ..usual }),
        ("a frame for another MAC", ArpRequest { to: elsewhere, ..usual }),
    ] {
        assert_eq!(ask(bigip, request)?, None, "{what}");
    }
    lab.cilium.delete_vtep(bigip.addresses.vtep().key())?;
    assert_eq!(ask(bigip, usual)?, None, "a sender without an entry");
    Ok(())
}

#[test]
fn the_answer_goes_where_the_map_says() -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    // BIG-IP 1 asks with the sender address of BIG-IP 2, which then gets the answer.
    let request = ArpRequest::broadcast(lab.bigips[1].addresses.self_ip.addr(), lab.topology.pod_ip);
    assert_eq!(ask(&lab.bigips[0], request)?, None);
    Ok(())
}

#[test]
fn zero_mac_of_release_1_18_0() -> Result<()> {
    let faults = Faults { zero_mac_arp: true, ..Faults::default() };
    let lab = Lab::builder().fill_map(true).faults(faults).start()?;
    let bigip = &lab.bigips[0];
    // Linux, unlike BIG-IP, drops a frame from MAC zero before its tunnel device shows it: look at the underlay.
    let mut capture = capture_one_tunnel_frame(&bigip.host, lab.topology.node_ip)?;
    let request = ArpRequest::broadcast(bigip.addresses.self_ip.addr(), lab.topology.pod_ip);
    assert_eq!(ask(bigip, request)?, None);
    let mut frame = String::new();
    capture.stdout.take().context("tcpdump's output is piped")?.read_to_string(&mut frame)?;
    capture.wait()?;
    assert!(frame.contains("Reply 10.0.0.130 is-at 00:00:00:00:00:00"), "{frame}");
    let lost = ping(&bigip.host, None, lab.topology.pod_ip, 3, Duration::from_millis(20))?;
    assert_eq!(lost.received, 0, "BIG-IP cannot reach the pod");
    Ok(())
}

/// A tcpdump that listens already and ends with the first frame from the node, or after some seconds.
fn capture_one_tunnel_frame(host: &Host, node: Ipv4Addr) -> Result<Child> {
    let mut command = host.command("timeout");
    command
        .args(["5", "tcpdump", "-nn", "-e", "-i", "eth0", "-c", "1"])
        .arg(format!("udp port 8472 and src host {node}"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("failed to start tcpdump")?;
    let mut lines = BufReader::new(child.stderr.take().context("tcpdump's errors are piped")?).lines();
    while !lines.next().context("tcpdump ended early")??.contains("listening on") {}
    // Without a reader, its last output would fail.
    thread::spawn(move || lines.count());
    Ok(child)
}

fn ask(bigip: &BigIp, request: ArpRequest) -> Result<Option<Mac>> {
    arp(&bigip.host, BIGIP_TUNNEL, request, TIMEOUT)
}
