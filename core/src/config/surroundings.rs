//! What is known around a configuration: networks and addresses in use, which BIG-IP's must keep clear of.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

/// Networks and addresses in use, of the cluster and of this node. What is not known is absent: nothing is concluded from an empty set.
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
    /// Networks connected to this node and its own addresses (as /32), each with its device; Cilium's own devices apart.
    pub connected: BTreeMap<Ipv4Net, String>,
    /// Next hops of this node's routes, its default gateways among them.
    pub gateways: BTreeSet<Ipv4Addr>,
    /// VTEP CIDR → what of it Cilium's ipcache gives to pods or nodes, each in words (`10.1.6.77/32 (identity 4711)`).
    pub ipcache: BTreeMap<Ipv4Net, Vec<String>>,
    /// Facts that could not be read, and why: while there is one, no VTEP is put in force that was not before.
    pub unreadable: BTreeMap<Fact, String>,
    /// VTEP CIDRs that may overlap connected networks and the ipcache, because a person says so (`--allow-overlap`).
    pub allow_overlap: BTreeSet<Ipv4Net>,
}

/// What a VTEP is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    pub surroundings: &'a Surroundings,
    /// CIDRs that are in force already: an entry of the ipcache, and a fact that cannot be read, stop only a VTEP that is new.
    pub standing: &'a BTreeSet<Ipv4Net>,
}

/// A fact of this node or of its cluster that can veto a VTEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// Addresses and routes.
    Networks,
    Ipcache,
    /// Addresses that the API server is reached by.
    ApiServer,
    /// Networks that pods of this node have their addresses from.
    PodNetworks,
}

impl Surroundings {
    /// What both know.
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
