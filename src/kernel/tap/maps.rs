//! The tap's maps: what the filter has recorded of each endpoint, of other flows and of unexpected sources.

use std::{net::Ipv4Addr, time::Instant};

use aya::{
    maps::{HashMap, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues},
    util::nr_cpus,
};
use vtep_agent_ebpf::{COUNTERS, FLOWS_MAX, UNEXPECTED_MAX};
use vtep_core::{
    tunnel::{
        flow::{EndpointCounts, Flow, Kinds, PodTraffic, Sender, UnexpectedSource},
        frames::VTEP_VNI,
    },
    types::mac::Mac,
};

use super::{
    Tap, TapError,
    clocks::Clocks,
    records::{self, EndpointStats, FlowKey, FlowStats},
    targets::neighbour_places,
};

impl Tap {
    /// What came from this endpoint since the tap began to watch it; `None` if it does not watch it. This costs one system call.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn counts(&self, endpoint: Ipv4Addr, clocks: Clocks) -> Result<Option<EndpointCounts>, TapError> {
        let Some(place) = self.place_of(endpoint) else { return Ok(None) };
        let map = self.ebpf.map("ENDPOINTS").ok_or(TapError::Incomplete("the map ENDPOINTS"))?;
        let map = PerCpuArray::<&MapData, EndpointStats>::try_from(map).map_err(TapError::Map)?;
        let per_cpu = map.get(&place, 0).map_err(TapError::Map)?;
        let key = vtep_agent_ebpf::FlowKey {
            source: endpoint.octets(),
            vni: VTEP_VNI,
            port: self.tunnel.port,
            reserved: [0; 2],
        };
        let tunnel = sum(key, per_cpu.iter().map(|EndpointStats(stats)| &stats.tunnel), clocks);
        let (mut packets, mut bytes, mut kinds) = (tunnel.packets, tunnel.bytes, Kinds::default());
        for EndpointStats(stats) in per_cpu.iter() {
            packets += stats.other_packets;
            bytes += stats.other_bytes;
            kinds.arp_requests += stats.arp_requests;
            kinds.arp_replies += stats.arp_replies;
            kinds.asked_for_us += stats.asked_for_us;
            kinds.echo_replies += stats.echo_replies;
        }
        let known = kinds.arp_requests + kinds.arp_replies + kinds.echo_replies;
        // Another CPU may count a frame between the two counters.
        kinds.other = tunnel.packets.saturating_sub(known);
        let tunnel = Some(tunnel).filter(|tunnel| tunnel.packets > 0);
        let newest = |of: fn(&vtep_agent_ebpf::EndpointStats) -> u64| {
            let seen_ns = per_cpu.iter().map(|EndpointStats(stats)| of(stats)).max().filter(|seen_ns| *seen_ns > 0);
            seen_ns.map(|seen_ns| clocks.instant(seen_ns))
        };
        let pods =
            PodTraffic { asked: newest(|stats| stats.pods_asked_ns), answered: newest(|stats| stats.pods_answered_ns) };
        Ok(Some(EndpointCounts { source: endpoint, tunnel, packets, bytes, kinds, pods }))
    }

    /// The hosts on the underlay that sent frames of this endpoint with ARP inside: their MACs, each with the time of its last frame.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn neighbours(&self, endpoint: Ipv4Addr, clocks: Clocks) -> Result<Vec<(Mac, Instant)>, TapError> {
        let Some(place) = self.place_of(endpoint) else { return Ok(Vec::new()) };
        let map = self.ebpf.map("NEIGHBOURS").ok_or(TapError::Incomplete("the map NEIGHBOURS"))?;
        let map = PerCpuArray::<&MapData, records::Neighbour>::try_from(map).map_err(TapError::Map)?;
        let mut neighbours = Vec::new();
        for place in neighbour_places(place) {
            let per_cpu = map.get(&place, 0).map_err(TapError::Map)?;
            let seen = per_cpu.iter().filter(|records::Neighbour(host)| host.seen_ns > 0);
            neighbours.extend(seen.map(|records::Neighbour(host)| (host.mac.into(), clocks.instant(host.seen_ns))));
        }
        Ok(neighbours)
    }

    /// The other flows of the endpoints, as far as the map still has them.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn strays(&self, clocks: Clocks) -> Result<Vec<Flow>, TapError> {
        let map = self.ebpf.map("FLOWS").ok_or(TapError::Incomplete("the map FLOWS"))?;
        let map = PerCpuHashMap::<&MapData, FlowKey, FlowStats>::try_from(map).map_err(TapError::Map)?;
        let flow = |(FlowKey(key), per_cpu): (FlowKey, PerCpuValues<FlowStats>)| {
            sum(key, per_cpu.iter().map(|FlowStats(stats)| stats), clocks)
        };
        // If the tap drops the entry that was read last, the kernel begins anew. The limit bounds the reads during a flood.
        let entries = map.iter().take(2 * FLOWS_MAX as usize);
        entries.map(|entry| entry.map(flow)).collect::<Result<_, _>>().map_err(TapError::Map)
    }

    /// VTEP traffic from addresses that are not the endpoint of that VTEP.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn unexpected_sources(&self, clocks: Clocks) -> Result<Vec<UnexpectedSource>, TapError> {
        let map = self.ebpf.map("UNEXPECTED").ok_or(TapError::Incomplete("the map UNEXPECTED"))?;
        let map = HashMap::<&MapData, [u8; 4], records::UnexpectedSource>::try_from(map).map_err(TapError::Map)?;
        let unexpected =
            |(source, records::UnexpectedSource(seen)): ([u8; 4], records::UnexpectedSource)| UnexpectedSource {
                source: source.into(),
                sender: if self.places.contains(&Some(source.into())) { Sender::Endpoint } else { Sender::Unknown },
                inner_source: seen.inner_source.into(),
                inner_mac: seen.inner_mac.into(),
                last_seen: clocks.instant(seen.last_seen_ns),
            };
        // As above.
        let entries = map.iter().take(2 * UNEXPECTED_MAX as usize);
        entries.map(|entry| entry.map(unexpected)).collect::<Result<_, _>>().map_err(TapError::Map)
    }

    /// The counters of flows without room, of fragments and of malformed frames, in the order of `vtep_agent_ebpf::Counter`.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn counters(&self) -> Result<[u64; COUNTERS as usize], TapError> {
        let map = self.ebpf.map("COUNTERS").ok_or(TapError::Incomplete("the map COUNTERS"))?;
        let map = PerCpuArray::<&MapData, u64>::try_from(map).map_err(TapError::Map)?;
        let mut counters = [0; COUNTERS as usize];
        for (index, counter) in (0..).zip(&mut counters) {
            *counter = map.get(&index, 0).map_err(TapError::Map)?.iter().sum();
        }
        Ok(counters)
    }

    fn place_of(&self, endpoint: Ipv4Addr) -> Option<u32> {
        (0..).zip(&self.places).find(|(_, known)| **known == Some(endpoint)).map(|(place, _)| place)
    }

    /// Clears the values of an endpoint's place, which another one had before.
    pub(super) fn clear(&mut self, place: u32) -> Result<(), TapError> {
        let cpus = nr_cpus().map_err(|(_, error)| TapError::Map(MapError::IoError(error)))?;
        let map = self.ebpf.map_mut("ENDPOINTS").ok_or(TapError::Incomplete("the map ENDPOINTS"))?;
        let mut map = PerCpuArray::<&mut MapData, EndpointStats>::try_from(map).map_err(TapError::Map)?;
        let nothing = EndpointStats(vtep_agent_ebpf::EndpointStats::default());
        let nothing = PerCpuValues::try_from(vec![nothing; cpus]).map_err(|error| TapError::Map(error.into()))?;
        map.set(place, nothing, 0).map_err(TapError::Map)?;
        let map = self.ebpf.map_mut("NEIGHBOURS").ok_or(TapError::Incomplete("the map NEIGHBOURS"))?;
        let mut map = PerCpuArray::<&mut MapData, records::Neighbour>::try_from(map).map_err(TapError::Map)?;
        for place in neighbour_places(place) {
            let nobody = vec![records::Neighbour(vtep_agent_ebpf::Neighbour::default()); cpus];
            let nobody = PerCpuValues::try_from(nobody).map_err(|error| TapError::Map(error.into()))?;
            map.set(place, nobody, 0).map_err(TapError::Map)?;
        }
        Ok(())
    }
}

fn sum<'s>(
    key: vtep_agent_ebpf::FlowKey,
    per_cpu: impl Iterator<Item = &'s vtep_agent_ebpf::FlowStats>,
    clocks: Clocks,
) -> Flow {
    let mut flow = Flow {
        source: key.source.into(),
        port: key.port,
        vni: key.vni,
        packets: 0,
        bytes: 0,
        last_seen: clocks.now,
        inner_mac: Mac::default(),
        inner_source: None,
        arp_sender: None,
        foreign: None,
    };
    let (mut newest, mut newest_foreign) = (0, 0);
    for stats in per_cpu {
        flow.packets += stats.packets;
        flow.bytes += stats.bytes;
        let known = |address: [u8; 4]| (address != [0; 4]).then(|| Ipv4Addr::from(address));
        if stats.foreign_seen_ns > newest_foreign {
            newest_foreign = stats.foreign_seen_ns;
            flow.foreign = Some((clocks.instant(newest_foreign), stats.foreign_source.into()));
        }
        if stats.last_seen_ns >= newest {
            newest = stats.last_seen_ns;
            flow.inner_mac = stats.inner_mac.into();
            flow.inner_source = known(stats.inner_source).or(flow.inner_source);
            flow.arp_sender = known(stats.arp_sender).or(flow.arp_sender);
        } else {
            flow.inner_source = flow.inner_source.or(known(stats.inner_source));
            flow.arp_sender = flow.arp_sender.or(known(stats.arp_sender));
        }
    }
    flow.last_seen = clocks.instant(newest);
    flow
}
