//! The networks and addresses in use around a configuration. A BIG-IP's networks must not overlap them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

/// Networks and addresses in use by the cluster and by this node. Unknown facts are absent, so an empty set proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Networks from which pods get their addresses.
    pub pod_cidrs: BTreeSet<Ipv4Net>,
    /// Networks of Services.
    pub service_cidrs: BTreeSet<Ipv4Net>,
    /// Addresses of nodes on the underlay.
    pub node_addresses: BTreeSet<Ipv4Addr>,
    /// Addresses of the API server: those that the client connects to, and the endpoints behind its Service.
    pub api_servers: BTreeSet<Ipv4Addr>,
    /// Networks connected to this node and its own addresses (as /32), each with its device; without Cilium's own devices.
    pub connected: BTreeMap<Ipv4Net, String>,
    /// Next hops of this node's routes, including its default gateways.
    pub gateways: BTreeSet<Ipv4Addr>,
    /// VTEP CIDR → the parts of it that Cilium's ipcache maps to pods or nodes, each in words (`10.1.6.77/32 (identity 4711)`).
    pub ipcache: BTreeMap<Ipv4Net, Vec<String>>,
    /// Facts that could not be read, and why. While there is one, no new VTEP takes effect.
    pub unreadable: BTreeMap<Fact, String>,
    /// VTEP CIDRs that a person allows to overlap connected networks and the ipcache (`--allow-overlap`).
    pub allow_overlap: BTreeSet<Ipv4Net>,
}

/// The values that a VTEP is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    pub surroundings: &'a Surroundings,
    /// CIDRs that are in effect already. An ipcache entry or an unreadable fact stops only a new VTEP: a working one is not withdrawn
    /// because of them.
    pub standing: &'a BTreeSet<Ipv4Net>,
}

/// A fact of this node or of its cluster that can veto a VTEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// Addresses and routes.
    Networks,
    Ipcache,
    /// Addresses of the API server.
    ApiServer,
    /// Networks from which this node's pods get their addresses.
    PodNetworks,
}

impl Surroundings {
    /// The union of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let Self {
            pod_cidrs,
            service_cidrs,
            node_addresses,
            api_servers,
            connected,
            gateways,
            ipcache,
            unreadable,
            allow_overlap,
        } = other.clone();
        let mut both = self.clone();
        both.pod_cidrs.extend(pod_cidrs);
        both.service_cidrs.extend(service_cidrs);
        both.node_addresses.extend(node_addresses);
        both.api_servers.extend(api_servers);
        both.connected.extend(connected);
        both.gateways.extend(gateways);
        both.ipcache.extend(ipcache);
        both.unreadable.extend(unreadable);
        both.allow_overlap.extend(allow_overlap);
        both
    }
}
