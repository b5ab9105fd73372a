//! The links, addresses and routes of the lab.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use ipnet::Ipv4Net;
use vtep_lab_ebpf::VTEP_VNI;

use crate::{
    geneve::{Parameters, UserDevice},
    host::Host,
    topology::{BigIpAddresses, Topology, Tunnel},
};

/// The pod's device on the node, with a name like Cilium's.
pub const POD_DEVICE: &str = "lxc3288d8240401";
/// BIG-IP's tunnel, with the name in F5's document, whatever its protocol.
pub const BIGIP_TUNNEL: &str = "flannel_vxlan";

/// RFC 8926, section 3.5: an option of the experimental class, with one word of data. The kernel's devices send none; a far end may.
const OPTIONS: [u8; 8] = [0xff, 0xff, 0x01, 0x01, 0xaa, 0xbb, 0xcc, 0xdd];

/// The connected hosts.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) underlay: Host,
    pub(crate) node: Host,
    pub(crate) pod: Host,
    /// Each has its port at the underlay.
    pub(crate) bigips: Vec<(Host, String)>,
    pub(crate) user_devices: Vec<UserDevice>,
}

impl Network {
    pub(crate) fn new(topology: &Topology) -> Result<Self> {
        let underlay = underlay(topology)?;
        let node = Host::new("node")?;
        connect(&underlay, &node, "node")?;
        set_up_node(&node, topology)?;
        let mut user_devices = Vec::from_iter(add_node_tunnel(&node, topology)?);
        let pod = Host::new("pod")?;
        set_up_pod(&node, &pod, topology)?;
        let mut bigips = Vec::new();
        for (number, addresses) in (1..).zip(&topology.bigips) {
            let port = format!("bigip{number}");
            let bigip = Host::new(&port)?;
            connect(&underlay, &bigip, &port)?;
            user_devices.extend(set_up_bigip(&bigip, addresses, topology)?);
            bigips.push((bigip, port));
        }
        Ok(Self { underlay, node, pod, bigips, user_devices })
    }
}

fn underlay(Topology { underlay, vlan, .. }: &Topology) -> Result<Host> {
    let host = Host::new("underlay")?;
    host.ip("link add br0 type bridge forward_delay 0")?;
    let device = on_underlay(&host, "br0", *vlan)?;
    host.ip(&format!("address add {underlay} dev {device}"))?;
    Ok(host)
}

/// Sets a device to the underlay up, and returns the device for addresses: itself, or a VLAN device on top of it.
fn on_underlay(host: &Host, device: &str, vlan: Option<u16>) -> Result<String> {
    host.ip(&format!("link set {device} up"))?;
    let Some(vlan) = vlan else { return Ok(device.into()) };
    let tagged = format!("{device}.{vlan}");
    host.ip(&format!(
        "link add link {device} name {tagged} type vlan id {vlan}
         link set {tagged} up"
    ))?;
    Ok(tagged)
}

/// Creates a host's `eth0`, with `port` as the other end at the underlay's switch.
pub(crate) fn connect(underlay: &Host, host: &Host, port: &str) -> Result<()> {
    let netns = host.path();
    underlay.ip(&format!(
        "link add {port} type veth peer name eth0 netns {}
         link set {port} master br0 up",
        netns.display()
    ))?;
    Ok(())
}

/// A host on a network behind the router, which the node reaches through its default gateway.
pub(crate) fn api_host(underlay: &Host, Topology { api, .. }: &Topology) -> Result<Host> {
    let host = Host::new("api")?;
    let gateway = Ipv4Addr::from(u32::from(api.network()) + 1);
    underlay.sysctl("ipv4/ip_forward", "1")?;
    underlay.ip(&format!(
        "link add api type veth peer name eth0 netns {}
         address add {gateway}/{} dev api
         link set api up",
        host.path().display(),
        api.prefix_len()
    ))?;
    host.ip(&format!(
        "address add {api} dev eth0
         link set eth0 up
         route add default via {gateway} dev eth0"
    ))?;
    Ok(host)
}

/// A host at the other end of a second interface of the node.
pub(crate) fn second(node: &Host, topology: &Topology) -> Result<Host> {
    let Topology { second, node_second_ip, .. } = topology;
    let host = Host::new("second")?;
    node.ip(&format!(
        "link add eth1 type veth peer name eth0 netns {}
         address add {node_second_ip}/{} dev eth1
         link set eth1 up",
        host.path().display(),
        second.prefix_len()
    ))?;
    host.ip(&format!(
        "address add {second} dev eth0
         link set eth0 up"
    ))?;
    Ok(host)
}

/// Another node of the cluster. Its overlay takes frames for any node, and forwards those for the first node with VNI 2, as Cilium's
/// programs forward what comes from outside the cluster.
pub(crate) fn other_node(underlay: &Host, node: &Host, ip: Ipv4Addr, topology: &Topology) -> Result<Host> {
    let &Topology { node_ip, router_ip, pod_cidr, tunnel_port: port, .. } = topology;
    ensure!(topology.tunnel == Tunnel::Vxlan, "the other node has only a VXLAN tunnel");
    let host = Host::new("node2")?;
    connect(underlay, &host, "node2")?;
    let device = on_underlay(&host, "eth0", topology.vlan)?;
    let overlay = topology.tunnel.device();
    let mac = node.link(overlay)?.mac;
    // The packets leave by the device that they come by. The far end needs no advice about that.
    for (setting, value) in
        [("ip_forward", "1"), ("conf/all/send_redirects", "0"), ("conf/default/send_redirects", "0")]
    {
        host.sysctl(&format!("ipv4/{setting}"), value)?;
    }
    host.ip(&format!(
        "address add {ip}/{} dev {device}
         link add {overlay} mtu 1500 type vxlan id {VTEP_VNI} local {ip} dstport {port} nolearning
         link set {overlay} up
         route add {router_ip} dev {overlay}
         neigh add {router_ip} lladdr {mac} dev {overlay} nud permanent
         route add {pod_cidr} via {router_ip} dev {overlay} onlink",
        topology.underlay.prefix_len()
    ))?;
    host.bridge(&format!("fdb append 00:00:00:00:00:00 dev {overlay} dst {node_ip}"))?;
    // A flooded frame has the MAC of the node that it is for. Without this, the stack would ignore it.
    host.nft(&format!(
        "table netdev lab {{
             chain ingress {{
                 type filter hook ingress device {overlay} priority 0 ;
                 meta pkttype set host
             }}
         }}"
    ))?;
    Ok(host)
}

fn set_up_node(node: &Host, topology: &Topology) -> Result<()> {
    let Topology { underlay, vlan, node_ip, router_ip, pod_cidr, .. } = topology;
    let device = on_underlay(node, "eth0", *vlan)?;
    node.sysctl("ipv4/ip_forward", "1")?;
    node.ip(&format!(
        "address add {node_ip}/{prefix} dev {device}
         route add default via {gateway} dev {device}
         link add cilium_host arp off type veth peer name cilium_net
         link set cilium_net arp off up
         link set cilium_host up
         address add {router_ip}/32 dev cilium_host scope link
         route add {router_ip} dev cilium_host proto kernel scope link
         route add {pod_cidr} via {router_ip} dev cilium_host proto kernel src {router_ip}",
        prefix = underlay.prefix_len(),
        gateway = underlay.addr(),
    ))?;
    Ok(())
}

/// Cilium's device: one for all VNIs and all endpoints.
fn add_node_tunnel(node: &Host, topology: &Topology) -> Result<Option<UserDevice>> {
    let &Topology { tunnel, tunnel_port: port, node_ip: local, .. } = topology;
    let device = tunnel.device();
    let add = |kind: &str| node.ip(&format!("link add {device} mtu 1500 type {kind}")).map(|_| None);
    let user_device = match tunnel {
        Tunnel::Vxlan => add(&format!("vxlan external dstport {port} nolearning")),
        Tunnel::Geneve => add(&format!("geneve external dstport {port}")),
        Tunnel::UserGeneve => {
            let endpoints = topology.vteps().iter().map(|vtep| (vtep.cidr, vtep.endpoint)).collect();
            let parameters = Parameters { vni: VTEP_VNI, local, port, endpoints, options: &[] };
            UserDevice::new(node, device, parameters).map(Some)
        }
    }?;
    node.ip(&format!("link set {device} up"))?;
    Ok(user_device)
}

fn set_up_pod(node: &Host, pod: &Host, topology: &Topology) -> Result<()> {
    let Topology { router_ip, pod_ip, tunnel_mtu, .. } = topology;
    node.ip(&format!(
        "link add {POD_DEVICE} type veth peer name eth0 netns {}
         link set {POD_DEVICE} up",
        pod.path().display()
    ))?;
    let gateway_mac = node.link(POD_DEVICE)?.mac;
    pod.ip(&format!(
        "address add {pod_ip}/32 dev eth0
         link set eth0 up
         route add default via {router_ip} dev eth0 onlink mtu {tunnel_mtu}
         neigh add {router_ip} lladdr {gateway_mac} dev eth0 nud permanent"
    ))?;
    Ok(())
}

pub(crate) fn set_up_bigip(
    bigip: &Host,
    addresses: &BigIpAddresses,
    topology: &Topology,
) -> Result<Option<UserDevice>> {
    let BigIpAddresses { underlay_ip, self_ip, mac, .. } = addresses;
    let Topology { underlay, vlan, cluster_cidr, .. } = topology;
    let device = on_underlay(bigip, "eth0", *vlan)?;
    bigip.ip(&format!("address add {underlay_ip}/{} dev {device}", underlay.prefix_len()))?;
    let user_device = add_bigip_tunnel(bigip, addresses, topology)?;
    bigip.ip(&format!(
        "link set {BIGIP_TUNNEL} address {mac}
         address add {self_ip} dev {BIGIP_TUNNEL}
         link set {BIGIP_TUNNEL} up
         route add {cluster_cidr} dev {BIGIP_TUNNEL}"
    ))?;
    Ok(user_device)
}

/// The tunnel to the node, and to no other host.
fn add_bigip_tunnel(bigip: &Host, addresses: &BigIpAddresses, topology: &Topology) -> Result<Option<UserDevice>> {
    let &BigIpAddresses { underlay_ip: local, vni, .. } = addresses;
    let &Topology { tunnel, tunnel_port: port, node_ip, .. } = topology;
    let add = |kind: &str| bigip.ip(&format!("link add {BIGIP_TUNNEL} type {kind}")).map(|_| None);
    match tunnel {
        Tunnel::Vxlan => {
            let device = add(&format!("vxlan id {vni} local {local} dstport {port}"))?;
            bigip.bridge(&format!("fdb append 00:00:00:00:00:00 dev {BIGIP_TUNNEL} dst {node_ip}"))?;
            Ok(device)
        }
        Tunnel::Geneve => add(&format!("geneve id {vni} remote {node_ip} dstport {port}")),
        Tunnel::UserGeneve => {
            let endpoints = vec![(Ipv4Net::default(), node_ip)];
            let parameters = Parameters { vni, local, port, endpoints, options: &OPTIONS };
            UserDevice::new(bigip, BIGIP_TUNNEL, parameters).map(Some)
        }
    }
}
