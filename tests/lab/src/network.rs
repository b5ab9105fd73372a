//! The links, addresses and routes of the lab.

use anyhow::Result;

use crate::{
    host::Host,
    topology::{BigIpAddresses, Topology},
};

/// The pod's device on the node, named as Cilium names them.
pub const POD_DEVICE: &str = "lxc3288d8240401";
/// BIG-IP's tunnel, named as F5's document does.
pub const BIGIP_TUNNEL: &str = "flannel_vxlan";

/// The hosts, connected.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) underlay: Host,
    pub(crate) node: Host,
    pub(crate) pod: Host,
    /// With the underlay's port of each.
    pub(crate) bigips: Vec<(Host, String)>,
}

impl Network {
    pub(crate) fn new(topology: &Topology) -> Result<Self> {
        let underlay = underlay(topology)?;
        let node = Host::new("node")?;
        connect(&underlay, &node, "node")?;
        set_up_node(&node, topology)?;
        let pod = Host::new("pod")?;
        set_up_pod(&node, &pod, topology)?;
        let mut bigips = Vec::new();
        for (number, addresses) in (1..).zip(&topology.bigips) {
            let port = format!("bigip{number}");
            let bigip = Host::new(&port)?;
            connect(&underlay, &bigip, &port)?;
            set_up_bigip(&bigip, addresses, topology)?;
            bigips.push((bigip, port));
        }
        Ok(Self { underlay, node, pod, bigips })
    }
}

fn underlay(Topology { underlay, .. }: &Topology) -> Result<Host> {
    let host = Host::new("underlay")?;
    host.ip(&format!(
        "link add br0 type bridge forward_delay 0
         address add {underlay} dev br0
         link set br0 up"
    ))?;
    Ok(host)
}

/// Gives a host its `eth0`, with `port` as the other end at the underlay's switch.
fn connect(underlay: &Host, host: &Host, port: &str) -> Result<()> {
    let netns = host.path();
    underlay.ip(&format!(
        "link add {port} type veth peer name eth0 netns {}
         link set {port} master br0 up",
        netns.display()
    ))?;
    Ok(())
}

fn set_up_node(node: &Host, topology: &Topology) -> Result<()> {
    let Topology { underlay, node_ip, router_ip, pod_cidr, tunnel_port, .. } = topology;
    node.sysctl("ipv4/ip_forward", "1")?;
    node.ip(&format!(
        "address add {node_ip}/{prefix} dev eth0
         link set eth0 up
         route add default via {gateway} dev eth0
         link add cilium_host arp off type veth peer name cilium_net
         link set cilium_net arp off up
         link set cilium_host up
         address add {router_ip}/32 dev cilium_host scope link
         route add {router_ip} dev cilium_host proto kernel scope link
         route add {pod_cidr} via {router_ip} dev cilium_host proto kernel src {router_ip}
         link add cilium_vxlan mtu 1500 type vxlan external dstport {tunnel_port} nolearning
         link set cilium_vxlan up",
        prefix = underlay.prefix_len(),
        gateway = underlay.addr(),
    ))?;
    Ok(())
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

fn set_up_bigip(bigip: &Host, addresses: &BigIpAddresses, topology: &Topology) -> Result<()> {
    let BigIpAddresses { underlay_ip, self_ip, mac, vni } = addresses;
    let Topology { underlay, node_ip, cluster_cidr, tunnel_port, .. } = topology;
    bigip.ip(&format!(
        "address add {underlay_ip}/{prefix} dev eth0
         link set eth0 up
         link add {BIGIP_TUNNEL} address {mac} type vxlan id {vni} local {underlay_ip} dstport {tunnel_port}
         address add {self_ip} dev {BIGIP_TUNNEL}
         link set {BIGIP_TUNNEL} up
         route add {cluster_cidr} dev {BIGIP_TUNNEL}",
        prefix = underlay.prefix_len(),
    ))?;
    bigip.bridge(&format!("fdb append 00:00:00:00:00:00 dev {BIGIP_TUNNEL} dst {node_ip}"))?;
    Ok(())
}
