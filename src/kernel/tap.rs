//! The tap: loads the eBPF socket filter (`ebpf/src/tap.rs`), attaches it to sockets on the underlay devices, and reads its counters.
//!
//! The tap pins nothing, and attaches nothing to a device's own hooks: the kernel removes all of it when this process ends.

mod clocks;
mod maps;
mod records;
mod sockets;
mod targets;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv4Addr,
};

use aya::{
    EbpfError, EbpfLoader, include_bytes_aligned,
    maps::{Array, MapData, MapError},
    programs::{ProgramError, SocketFilter},
};
use ipnet::Ipv4Net;
use tokio::task::JoinHandle;
use vtep_agent_ebpf::{TARGETS_MAP, TARGETS_MAX, Targets};
use vtep_core::config::spec::{Tunnel, TunnelProtocol};

use self::targets::{assign_places, targets};
pub use self::{
    clocks::Clocks,
    sockets::{Answer, OwnReply},
    targets::Asker,
};
use super::{malloc, memory_lock};

static PROGRAM: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tap"));

#[derive(Debug, thiserror::Error)]
pub enum TapError {
    #[error("the kernel refused the tap's eBPF program")]
    Load(#[source] EbpfError),
    #[error(
        "the kernel refused the tap's maps: before Linux 5.11 they count against RLIMIT_MEMLOCK, which is {} kB here: raise LimitMEMLOCK of \
         the container runtime, or grant SYS_RESOURCE (legacyKernel in the chart)",
        limit >> 10
    )]
    MemoryLock { limit: u64, source: EbpfError },
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
            .map_err(refused)?;
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
        let map = self.ebpf.map_mut(TARGETS_MAP).ok_or(TapError::Incomplete("the map of its data"))?;
        let mut map = Array::<&mut MapData, records::Targets>::try_from(map).map_err(TapError::Map)?;
        map.set(0, records::Targets(targets), 0).map_err(TapError::Map)?;
        self.targets = Some(targets);
        let before = std::mem::replace(&mut self.places, places);
        for (place, _) in (0..).zip(before.iter().zip(&places)).filter(|(_, (before, now))| before != now) {
            self.clear(place)?;
        }
        Ok(())
    }

    fn program<'e>(ebpf: &'e mut aya::Ebpf, name: &'static str) -> Result<&'e mut SocketFilter, TapError> {
        let program = ebpf.program_mut(name).ok_or(TapError::Incomplete(name))?;
        program.try_into().map_err(TapError::Program)
    }
}

/// Maps are created when the object is loaded, before its programs.
fn refused(source: EbpfError) -> TapError {
    match memory_lock::explains(&source) {
        Some(limit) => TapError::MemoryLock { limit, source },
        None => TapError::Load(source),
    }
}
