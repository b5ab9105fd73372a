//! What is known of the cluster around a configuration: addresses in use that BIG-IP's must keep clear of.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

/// Networks and addresses in use. What is not known is absent: nothing is concluded from an empty set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Networks that pods have their addresses from.
    pub pod_cidrs: BTreeSet<Ipv4Net>,
    /// Networks of Services.
    pub service_cidrs: BTreeSet<Ipv4Net>,
    /// Addresses of nodes on the underlay.
    pub node_addresses: BTreeSet<Ipv4Addr>,
    /// Addresses that the API server is reached by: as the client reaches it, and the endpoints behind its Service.
    pub api_servers: BTreeSet<Ipv4Addr>,
}

impl Surroundings {
    /// What both know.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let Self { pod_cidrs, service_cidrs, node_addresses, api_servers } = other;
        Self {
            pod_cidrs: &self.pod_cidrs | pod_cidrs,
            service_cidrs: &self.service_cidrs | service_cidrs,
            node_addresses: &self.node_addresses | node_addresses,
            api_servers: &self.api_servers | api_servers,
        }
    }
}
