//! A capture of what passes between this node and the far ends of its tunnels: the kernel's filter, the file, and each frame in words.

pub mod explain;
pub mod filter;
pub mod packet;
pub mod pcapng;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use crate::{
    config::{
        spec::{Tunnel, Vtep},
        view::View,
    },
    node::facts::Facts,
};

/// What a capture looks for, and what the words for a frame rest on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub tunnel: Tunnel,
    /// The endpoints with their words: `BIG-IP 10.169.72.34`, or `VTEP vpc-gateway (10.169.72.34)` for one from a custom resource.
    pub endpoints: BTreeMap<Ipv4Addr, String>,
    /// The networks behind them.
    pub networks: BTreeMap<Ipv4Net, Ipv4Addr>,
    /// Gateways to the endpoints.
    pub next_hops: BTreeSet<Ipv4Addr>,
    /// This node's addresses on the underlay.
    pub node: BTreeSet<Ipv4Addr>,
    /// Cilium's router address, the source of probes through the tunnel.
    pub router: Option<Ipv4Addr>,
}

/// A finished capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    pub interfaces: Vec<Interface>,
    /// In the order of time.
    pub frames: Vec<Captured>,
    pub ended: Timestamp,
    /// From then on it has only ARP and ICMP, because other traffic through the tunnels had filled its share.
    pub without_bulk_since: Option<Timestamp>,
    /// Devices that it leaves out, because they have no Ethernet header.
    pub left_out: Vec<String>,
}

impl Capture {
    /// Which devices it leaves out and why, in words; `None` if it has all.
    #[must_use]
    pub fn left_out_words(&self) -> Option<String> {
        let names = self.left_out.join(", ");
        (!names.is_empty()).then(|| format!("not on {names}, which has no Ethernet header"))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    /// Frames that passed the filter.
    pub received: u64,
    /// Of these, the frames for which the socket had no room.
    pub dropped: u64,
}

/// One frame, with what the kernel says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    pub at: Timestamp,
    /// The position of its interface in the capture.
    pub interface: usize,
    pub direction: Direction,
    /// The length on the wire, in bytes.
    pub length: u32,
    /// The first bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// What a frame takes beside its bytes: its entry, its block in the file or its line, and the allocator's share of them.
const BESIDE: usize = 640;

/// The most bytes of memory that so many frames of this size take, with their file (which has their bytes again) or their words.
#[must_use]
pub fn memory(frames: usize, snap: usize) -> usize {
    frames.saturating_mul(of_frame(snap)).saturating_add(of_block(snap))
}

/// The most frames of this size that fit into so many bytes of memory.
#[must_use]
pub fn fitting(memory: usize, snap: usize) -> usize {
    memory.saturating_sub(of_block(snap)) / of_frame(snap)
}

/// One block of the file is made beside it, in a vector that grows.
fn of_block(snap: usize) -> usize {
    snap.saturating_mul(4)
}

fn of_frame(snap: usize) -> usize {
    snap.saturating_mul(2).saturating_add(BESIDE)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

impl Known {
    /// What the configuration and the node say. VTEPs that are not in effect are absent.
    #[must_use]
    pub fn new(view: &View, facts: &Facts) -> Self {
        let vteps: &[Vtep] = view.effective.as_ref().map_or(&[], |spec| &spec.vteps);
        let words = |vtep: &Vtep| match view.names.get(&vtep.cidr) {
            Some(name) => format!("VTEP {name} ({})", vtep.endpoint),
            None => format!("BIG-IP {}", vtep.endpoint),
        };
        let underlay = facts.underlay.values();
        let endpoints: BTreeMap<_, _> = vteps.iter().map(|vtep| (vtep.endpoint, words(vtep))).collect();
        Self {
            tunnel: facts.tunnel,
            networks: vteps.iter().map(|vtep| (vtep.cidr, vtep.endpoint)).collect(),
            next_hops: underlay.clone().map(|path| path.next_hop).filter(|hop| !endpoints.contains_key(hop)).collect(),
            node: underlay.filter_map(|path| path.source).collect(),
            router: facts.cilium.router,
            endpoints,
        }
    }

    /// The endpoint whose network contains this address; the longest prefix wins.
    #[must_use]
    pub fn behind(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let containing = self.networks.iter().filter(|(network, _)| network.contains(&address));
        containing.max_by_key(|(network, _)| network.prefix_len()).map(|(_, endpoint)| *endpoint)
    }
}

#[cfg(test)]
pub(crate) mod tests;
