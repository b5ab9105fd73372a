//! The tap: loads the eBPF socket filter (`ebpf/src/tap.rs`), attaches it to sockets on the underlay devices, and reads its counters.
//!
//! The tap pins nothing, and attaches nothing to a device's own hooks: the kernel removes all of it when this process ends.

mod records;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use aya::{
    EbpfError, EbpfLoader, include_bytes_aligned,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues},
    programs::{ProgramError, SocketFilter},
    util::nr_cpus,
};
use ipnet::Ipv4Net;
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime},
};
use tokio::{sync::mpsc, task::JoinHandle};
use vtep_agent_ebpf::{COUNTERS, FLOWS_MAX, NEIGHBOURS_EACH, Network, SNAP_LEN, TARGETS_MAX, Targets, UNEXPECTED_MAX};
use vtep_core::{
    config::spec::{Tunnel, TunnelProtocol},
    tunnel::{
        flow::{EndpointCounts, Flow, Kinds, PodTraffic, Sender, UnexpectedSource},
        frames::{Arp, TunnelArpReply, VTEP_VNI, arp_reply, tunnel_arp_reply},
    },
    types::mac::Mac,
};

use self::records::{EndpointStats, FlowKey, FlowStats};
use super::{malloc, socket::EventSocket};

static PROGRAM: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tap"));

#[derive(Debug, thiserror::Error)]
pub enum TapError {
    #[error("the kernel refused the tap's eBPF program")]
    Load(#[source] EbpfError),
    #[error("the tap's eBPF object lacks {0}")]
    Incomplete(&'static str),
    #[error("the kernel refused the tap's eBPF program")]
    Program(#[source] ProgramError),
    #[error("the tap has room for {TARGETS_MAX} VTEPs")]
    TooMany,
    #[error("failed to use the tap's map")]
    Map(#[source] MapError),
    #[error("failed to open a packet socket on interface #{device}")]
    Socket { device: u32, source: io::Error },
}

/// An ARP answer from the tap, with the time of its arrival.
pub type Answer = (Instant, TunnelArpReply);

/// An ARP reply that Cilium sent, with the time of its observation.
pub type OwnReply = (Instant, Arp);

/// The sender of the probes through the tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Cilium's router address, if it is known.
    pub address: Option<Ipv4Addr>,
    /// The identifier of its echoes.
    pub echo_id: u16,
}

/// The loaded tap and its sockets.
pub struct Tap {
    tunnel: Tunnel,
    ebpf: aya::Ebpf,
    /// The value that was written to the map last.
    targets: Option<Targets>,
    /// The endpoints at their places in the tap's maps.
    places: [Option<Ipv4Addr>; TARGETS_MAX],
    listeners: BTreeMap<u32, JoinHandle<()>>,
    /// The tunnel device whose ARP replies are watched, and the task that watches them.
    replies: Option<(u32, JoinHandle<()>)>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.listeners.values().chain(self.replies.iter().map(|(_, listener)| listener)).for_each(JoinHandle::abort);
    }
}

impl Tap {
    /// Loads the program for this tunnel port.
    ///
    /// # Errors
    ///
    /// The kernel refuses the program.
    pub fn load(tunnel: Tunnel) -> Result<Self, TapError> {
        let is_geneve = u8::from(tunnel.protocol == TunnelProtocol::Geneve);
        // The program uses no types of the kernel, so it needs no BTF.
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("TUNNEL_PORT", &tunnel.port, true)
            .override_global("TUNNEL_IS_GENEVE", &is_geneve, true)
            .load(PROGRAM)
            .map_err(TapError::Load)?;
        malloc::trim();
        for name in ["tap", "arp_replies"] {
            Self::program(&mut ebpf, name)?.load().map_err(TapError::Program)?;
        }
        Ok(Self { tunnel, ebpf, targets: None, places: [None; TARGETS_MAX], listeners: BTreeMap::new(), replies: None })
    }

    #[must_use]
    pub fn tunnel(&self) -> Tunnel {
        self.tunnel
    }

    /// Makes the filter observe frames from exactly these endpoints, with exactly these tunnel networks, each with its endpoint, and answers
    /// to these probes.
    ///
    /// # Errors
    ///
    /// There are too many of them, or the map cannot be written.
    pub fn look_at(
        &mut self,
        endpoints: &BTreeSet<Ipv4Addr>,
        networks: &BTreeMap<Ipv4Net, Ipv4Addr>,
        asker: Asker,
    ) -> Result<(), TapError> {
        let places = assign_places(&self.places, endpoints).ok_or(TapError::TooMany)?;
        let targets = targets(&places, networks, asker).ok_or(TapError::TooMany)?;
        if self.targets == Some(targets) {
            return Ok(());
        }
        let map = self.ebpf.map_mut("TARGETS").ok_or(TapError::Incomplete("the map TARGETS"))?;
        let mut map = Array::<&mut MapData, records::Targets>::try_from(map).map_err(TapError::Map)?;
        map.set(0, records::Targets(targets), 0).map_err(TapError::Map)?;
        self.targets = Some(targets);
        let before = std::mem::replace(&mut self.places, places);
        for (place, _) in (0..).zip(before.iter().zip(&places)).filter(|(_, (before, now))| before != now) {
            self.clear(place)?;
        }
        Ok(())
    }

    /// Clears the values of an endpoint's place, which another one had before.
    fn clear(&mut self, place: u32) -> Result<(), TapError> {
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

    /// Listens on exactly these devices. A device that fails is reported in the result and skipped; the others work.
    pub fn listen_on(&mut self, devices: &BTreeSet<u32>, answers: &mpsc::Sender<Answer>) -> Vec<TapError> {
        self.listeners.retain(|device, listener| {
            let keep = devices.contains(device) && !listener.is_finished();
            if !keep {
                listener.abort();
            }
            keep
        });
        let mut errors = Vec::new();
        for &device in devices {
            if self.listeners.contains_key(&device) {
                continue;
            }
            match self.open(device) {
                Ok(socket) => {
                    let listener = tokio::spawn(listen(socket, self.tunnel, answers.clone()));
                    self.listeners.insert(device, listener);
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

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

    fn place_of(&self, endpoint: Ipv4Addr) -> Option<u32> {
        (0..).zip(&self.places).find(|(_, known)| **known == Some(endpoint)).map(|(place, _)| place)
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

    /// Watches Cilium's ARP replies on this tunnel device; with `None`, stops watching.
    ///
    /// # Errors
    ///
    /// No socket can be opened on the device.
    pub fn watch_replies(&mut self, device: Option<u32>, replies: &mpsc::Sender<OwnReply>) -> Result<(), TapError> {
        let is_current =
            self.replies.as_ref().is_some_and(|(on, listener)| Some(*on) == device && !listener.is_finished());
        if is_current {
            return Ok(());
        }
        if let Some((_, listener)) = self.replies.take() {
            listener.abort();
        }
        let Some(device) = device else { return Ok(()) };
        let program = Self::program(&mut self.ebpf, "arp_replies")?;
        let socket = EventSocket::frames(device, |socket| program.attach(socket).map_err(OpenError::Program));
        let socket = socket.map_err(|error| error.on(device))?;
        self.replies = Some((device, tokio::spawn(listen_to_replies(socket, replies.clone()))));
        Ok(())
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

    fn program<'e>(ebpf: &'e mut aya::Ebpf, name: &'static str) -> Result<&'e mut SocketFilter, TapError> {
        let program = ebpf.program_mut(name).ok_or(TapError::Incomplete(name))?;
        program.try_into().map_err(TapError::Program)
    }

    fn open(&mut self, device: u32) -> Result<EventSocket, TapError> {
        let program = Self::program(&mut self.ebpf, "tap")?;
        EventSocket::packets(device, |socket| program.attach(socket).map_err(OpenError::Program))
            .map_err(|error| error.on(device))
    }
}

enum OpenError {
    Socket(io::Error),
    Program(ProgramError),
}

impl OpenError {
    fn on(self, device: u32) -> TapError {
        match self {
            Self::Socket(source) => TapError::Socket { device, source },
            Self::Program(source) => TapError::Program(source),
        }
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

/// Receives ARP answers until the socket fails. After a device went down, `listen_on` opens a new socket once a route uses it again.
async fn listen(socket: EventSocket, tunnel: Tunnel, answers: mpsc::Sender<Answer>) {
    let mut buffer = [0; SNAP_LEN as usize];
    while let Ok(length) = socket.receive(&mut buffer).await {
        let at = Instant::now();
        if let Some(reply) = buffer.get(..length).and_then(|packet| tunnel_arp_reply(packet, tunnel)) {
            // If the channel is full, the prober is behind; the dropped answer costs only one probe.
            let _ = answers.try_send((at, reply));
        }
    }
}

async fn listen_to_replies(socket: EventSocket, replies: mpsc::Sender<OwnReply>) {
    let mut buffer = [0; SNAP_LEN as usize];
    while let Ok(length) = socket.receive(&mut buffer).await {
        if let Some(arp) = buffer.get(..length).and_then(arp_reply) {
            // If the channel is full, a later reply carries the same information.
            let _ = replies.try_send((Instant::now(), arp));
        }
    }
}

/// Two clocks that are read within this time count as one moment.
const TOGETHER: Duration = Duration::from_millis(1);
/// How often to try that.
const READINGS: usize = 3;

/// One moment on two clocks: `Instant`, and the clock of the program's records.
#[derive(Clone, Copy)]
pub struct Clocks {
    now: Instant,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    now_ns: u64,
}

impl Clocks {
    /// If the thread was interrupted between the two, they do not belong together, and it reads them again.
    #[must_use]
    pub fn read() -> Self {
        let mut clocks = Self::read_once();
        for _ in 0..READINGS {
            if clocks.now.elapsed() < TOGETHER {
                break;
            }
            clocks = Self::read_once();
        }
        clocks
    }

    fn read_once() -> Self {
        let now = Instant::now();
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC);
        let ns = |time: TimeSpec| time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned();
        Self { now, now_ns: time.map_or(0, ns) }
    }

    fn instant(self, ns: u64) -> Instant {
        let ago = Duration::from_nanos(self.now_ns.saturating_sub(ns));
        self.now.checked_sub(ago).unwrap_or(self.now)
    }
}

/// The places of an endpoint's hosts in their map.
fn neighbour_places(place: u32) -> std::ops::Range<u32> {
    place * NEIGHBOURS_EACH..(place + 1) * NEIGHBOURS_EACH
}

/// Gives each endpoint a place: its own if it has one, or a free one. `None` if there are too many.
fn assign_places(
    before: &[Option<Ipv4Addr>; TARGETS_MAX],
    endpoints: &BTreeSet<Ipv4Addr>,
) -> Option<[Option<Ipv4Addr>; TARGETS_MAX]> {
    let mut places = before.map(|known| known.filter(|known| endpoints.contains(known)));
    for endpoint in endpoints {
        if !places.contains(&Some(*endpoint)) {
            *places.iter_mut().find(|place| place.is_none())? = Some(*endpoint);
        }
    }
    Some(places)
}

/// Converts endpoints and networks for the filter's map; `None` if there are too many.
fn targets(
    places: &[Option<Ipv4Addr>; TARGETS_MAX],
    networks: &BTreeMap<Ipv4Net, Ipv4Addr>,
    asker: Asker,
) -> Option<Targets> {
    let in_network_order = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
    let mut targets = Targets {
        endpoints: places.map(|place| place.map_or(0, in_network_order)),
        networks: Default::default(),
        router: asker.address.map_or(0, in_network_order),
        echo_id: asker.echo_id.into(),
    };
    for (slot, (network, &endpoint)) in networks.iter().enumerate() {
        let (address, mask) = (in_network_order(network.network()), in_network_order(network.netmask()));
        *targets.networks.get_mut(slot)? = Network { address, mask, endpoint: in_network_order(endpoint) };
    }
    Some(targets)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_keeps_its_place() {
        let [a, b, c] = [34, 36, 38].map(|n| Ipv4Addr::new(10, 169, 72, n));
        let before = assign_places(&[None; TARGETS_MAX], &[a, b].into()).expect("room");
        assert_eq!(before[..3], [Some(a), Some(b), None]);
        let places = assign_places(&before, &[b, c].into()).expect("room");
        assert_eq!(places[..3], [Some(c), Some(b), None]);
        let many = (0..17).map(|n| Ipv4Addr::new(10, 169, 73, n)).collect();
        assert_eq!(assign_places(&before, &many), None);
    }
}
