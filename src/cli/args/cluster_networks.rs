//! Flags that describe the cluster's networks: pods, Services and nodes.

use std::net::IpAddr;

use ipnet::IpNet;
use vtep_core::config::surroundings::Surroundings;

/// VTEPs are IPv4. IPv6 networks are accepted, because clusters have both, but they overlap no VTEP.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "surroundings")]
pub struct ClusterNetworks {
    /// A network of pods, which no BIG-IP's tunnel network may overlap; repeatable.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "VTEP_AGENT_POD_CIDR")]
    pub pod_cidr: Vec<IpNet>,
    /// The network of Services, which none may overlap either; repeatable.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "VTEP_AGENT_SERVICE_CIDR")]
    pub service_cidr: Vec<IpNet>,
    /// A node's address, which no tunnel network may contain; repeatable.
    #[arg(long, value_name = "IP", value_delimiter = ',', env = "VTEP_AGENT_NODE_IP")]
    pub node_ip: Vec<IpAddr>,
}

impl ClusterNetworks {
    #[must_use]
    pub fn surroundings(&self) -> Surroundings {
        let Self { pod_cidr, service_cidr, node_ip } = self;
        let networks = |nets: &[IpNet]| {
            nets.iter().filter_map(|net| if let IpNet::V4(net) = net { Some(net.trunc()) } else { None }).collect()
        };
        Surroundings {
            pod_cidrs: networks(pod_cidr),
            service_cidrs: networks(service_cidr),
            node_addresses: node_ip
                .iter()
                .filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None })
                .collect(),
            ..Surroundings::default()
        }
    }
}
