//! Plays the role of Cilium's agent: its pins, its programs, its routes and its running configuration.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapInfo, PerCpuHashMap, lpm_trie::Key};
use ipnet::Ipv4Net;
use vtep_lab_ebpf::{
    DROP_INCORRECT_VNI, DROP_UNROUTABLE, IPCACHE_STATIC_PREFIX, IpcacheKey, IpcacheValue, MetricsKey, MetricsValue,
    VtepKey, VtepValue, ipcache_key,
};

use crate::{
    agent_api::AgentApi,
    datapath::{self, Datapath, IPCACHE_MAP, METRICS_MAP, Record, VTEP_MAP, Vteps, pin},
    host::Host,
    host_routes,
    reconciler::Reconciler,
    running::RunningConfig,
    topology::{Topology, Vtep},
    vtep_map::{VtepMap, VtepModel, vtep_entries},
};

/// The maps have the layouts of 1.18, and this version has no known defect.
const VERSION: &str = "1.18.8";

/// Defects of Cilium's own that its datapath has from the next start on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// ARP replies carry no MAC, as in 1.18.0 to 1.18.7 and 1.19.0 to 1.19.1.
    pub zero_mac_arp: bool,
    /// The programs do not check the VNI of packets from a VTEP.
    pub accept_any_vni: bool,
}

/// Cilium on the lab's node. Only the lab's thread, and threads that it started, see the pins.
#[derive(Debug)]
pub struct Cilium {
    /// The configuration that the next [`Cilium::start`] reads.
    pub running: RunningConfig,
    /// The faults of the programs from the next [`Cilium::start`] or [`Cilium::replace_pin`] on.
    pub faults: Faults,
    /// The type of the VTEP map from the next [`Cilium::start`] or [`Cilium::replace_pin`] on.
    pub model: VtepModel,
    /// Whether a start writes the VTEP map. If not, the map stays empty until another program fills it.
    pub fill_map: bool,
    /// The version in its answers from the next [`Cilium::start`] on; with `None` there is no socket.
    pub version: Option<String>,
    node: Host,
    pod: Host,
    topology: Topology,
    reconciler: Reconciler,
    datapath: Option<Datapath>,
    api: Option<AgentApi>,
}

impl Cilium {
    pub(crate) fn new(
        node: Host,
        pod: Host,
        topology: Topology,
        running: RunningConfig,
        faults: Faults,
        model: VtepModel,
        fill_map: bool,
    ) -> Self {
        let version = Some(VERSION.to_owned());
        let (reconciler, datapath, api) = (Reconciler::default(), None, None);
        Self { running, faults, model, fill_map, version, node, pod, topology, reconciler, datapath, api }
    }

    /// Starts or restarts Cilium's agent: new empty maps at the pins, programs that use them, host routes, and the running configuration.
    /// If it fills the map, no packet is lost.
    ///
    /// # Errors
    ///
    /// The kernel refused a map, a program or a route.
    pub fn start(&mut self) -> Result<()> {
        let entries = if self.fill_map { self.running.listed().to_vec() } else { Vec::new() };
        self.start_filled(&entries)
    }

    /// Starts or restarts a Cilium whose custom resources result in these VTEPs. It loses no packet: the new map has their entries from the
    /// first one on.
    ///
    /// # Errors
    ///
    /// The kernel refused a map, a program or a route.
    pub fn start_reconciled(&mut self, vteps: &[Vtep]) -> Result<()> {
        self.start_filled(vteps)?;
        self.reconcile(vteps)
    }

    /// Detaches the programs and removes pins, socket and running configuration: the state of a node on which Cilium has not started yet.
    ///
    /// # Errors
    ///
    /// A pin or a file could not be removed.
    pub fn stop(&mut self) -> Result<()> {
        self.datapath = None;
        self.api = None;
        datapath::remove_all_pins()?;
        RunningConfig::remove()
    }

    /// Kills Cilium's agent alone: maps, programs, routes and the file of its socket remain. [`Self::start`] starts it again.
    pub fn kill_agent(&mut self) {
        if let Some(api) = self.api.take() {
            api.kill();
        }
    }

    /// Removes only the VTEP map's pin: programs keep the map.
    ///
    /// # Errors
    ///
    /// The pin could not be removed.
    pub fn remove_pin(&self) -> Result<()> {
        datapath::remove_pin(VTEP_MAP)
    }

    /// Pins new empty maps and attaches programs that use them: for traffic, a restart.
    ///
    /// # Errors
    ///
    /// The kernel refused a map or a program.
    pub fn replace_pin(&mut self) -> Result<()> {
        self.load(&[])
    }

    /// Pins a hash with 24-byte values, an unknown layout, in place of the VTEP map. Programs keep their map.
    ///
    /// # Errors
    ///
    /// The kernel refused the map.
    pub fn pin_foreign_layout(&self) -> Result<()> {
        self.remove_pin()?;
        let map = HashMap::<MapData, [u8; 4], [u8; 24]>::create(8, 1).context("failed to create a foreign map")?;
        map.pin(pin(VTEP_MAP)).context("failed to pin a foreign map")
    }

    /// Writes the entries of the running configuration and deletes none, as Cilium does every minute.
    ///
    /// # Errors
    ///
    /// The VTEP map does not exist, or is full.
    pub fn sync(&self) -> Result<()> {
        self.running.listed().iter().try_for_each(|vtep| self.put_entry(vtep.cidr, vtep.value()))
    }

    /// Does what Cilium does when its custom resources result in these VTEPs: puts their entries, and deletes those that an earlier call put
    /// and that are no longer among them. It touches no other entry, not even one that another program wrote. With `enable-l7-proxy`, it
    /// does the same with host routes.
    ///
    /// After a start it remembers no entry, because the map is new.
    ///
    /// # Errors
    ///
    /// The VTEP map does not exist, or is full; the kernel refused a route.
    pub fn reconcile(&mut self, vteps: &[Vtep]) -> Result<()> {
        self.reconciler.entries(vteps)?;
        if self.running.enable_l7_proxy {
            self.reconciler.routes(vteps, &self.node, self.topology.tunnel_mtu)?;
        }
        Ok(())
    }

    /// The path of the VTEP map's pin.
    #[must_use]
    pub fn vtep_pin(&self) -> PathBuf {
        pin(VTEP_MAP)
    }

    /// The kernel's information about the pinned VTEP map.
    ///
    /// # Errors
    ///
    /// The map does not exist.
    pub fn vtep_map_info(&self) -> Result<MapInfo> {
        MapInfo::from_pin(pin(VTEP_MAP)).context("failed to open the pinned VTEP map")
    }

    /// The entries of the pinned VTEP map, of either type. In a hash, all have the prefix length of the running mask.
    ///
    /// # Errors
    ///
    /// The map does not exist, or has another layout; the running mask is none.
    pub fn entries(&self) -> Result<BTreeMap<Ipv4Net, VtepValue>> {
        vtep_entries(self.running.vtep_mask)
    }

    /// Writes an entry of the pinned VTEP map, of either type. A hash has no prefix length: only the network address counts.
    ///
    /// # Errors
    ///
    /// The map does not exist, has another layout, or is full.
    pub fn put_entry(&self, cidr: Ipv4Net, value: VtepValue) -> Result<()> {
        VtepMap::open()?.put(cidr, value)
    }

    /// Deletes an entry of the pinned VTEP map, of either type.
    ///
    /// # Errors
    ///
    /// The map or the entry does not exist.
    pub fn delete_entry(&self, cidr: Ipv4Net) -> Result<()> {
        let existed = VtepMap::open()?.delete(cidr)?;
        ensure!(existed, "the VTEP map has no entry for {cidr}");
        Ok(())
    }

    /// The entries of the pinned VTEP map, which is a hash.
    ///
    /// # Errors
    ///
    /// The map does not exist, or has another layout.
    pub fn vtep_entries(&self) -> Result<BTreeMap<VtepKey, VtepValue>> {
        self.vtep_map()?.iter().collect::<Result<_, _>>().context("failed to read the VTEP map")
    }

    /// Writes an entry of the pinned VTEP map, which is a hash.
    ///
    /// # Errors
    ///
    /// The map does not exist, has another layout, or is full.
    pub fn put_vtep(&self, key: VtepKey, value: VtepValue) -> Result<()> {
        self.vtep_map()?.insert(key, value, 0).with_context(|| format!("failed to write the VTEP entry {key:?}"))
    }

    /// Deletes an entry of the pinned VTEP map, which is a hash.
    ///
    /// # Errors
    ///
    /// The map or the entry does not exist.
    pub fn delete_vtep(&self, key: VtepKey) -> Result<()> {
        self.vtep_map()?.remove(&key).with_context(|| format!("failed to delete the VTEP entry {key:?}"))
    }

    /// The number of packets dropped as "Incorrect VNI from VTEP".
    ///
    /// # Errors
    ///
    /// The metrics map is not pinned.
    pub fn dropped_for_vni(&self) -> Result<u64> {
        self.dropped(DROP_INCORRECT_VNI)
    }

    /// The number of packets of the node dropped as "Stale or unroutable IP".
    ///
    /// # Errors
    ///
    /// The metrics map is not pinned.
    pub fn dropped_as_unroutable(&self) -> Result<u64> {
        self.dropped(DROP_UNROUTABLE)
    }

    /// Writes [`Cilium::running`] to the run directory, without a start.
    ///
    /// # Errors
    ///
    /// A file could not be written.
    pub fn write_running_config(&self) -> Result<()> {
        self.running.write(self.node.link(self.topology.tunnel.device())?.index)
    }

    /// Fills the ipcache like in a large cluster: `count` pods from 100.64.0.0 on, on other nodes.
    ///
    /// # Errors
    ///
    /// The ipcache does not exist, or is full.
    pub fn fill_ipcache(&self, count: u32) -> Result<()> {
        let data = MapData::from_pin(pin(IPCACHE_MAP)).context("failed to open the pinned ipcache")?;
        let mut map: LpmTrie<_, IpcacheKey, IpcacheValue> = Map::from_map_data(data)?.try_into()?;
        for n in 0..count {
            let mut value = [0; 24];
            value[..4].copy_from_slice(&(1000 + n % 50_000).to_ne_bytes());
            value[4..8].copy_from_slice(&self.topology.underlay.addr().octets());
            value[23] = 2;
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + n);
            let key = Key::new(IPCACHE_STATIC_PREFIX + 32, ipcache_key(address.octets()));
            map.insert(&key, value, 0).context("failed to write an ipcache entry")?;
        }
        Ok(())
    }

    fn start_filled(&mut self, entries: &[Vtep]) -> Result<()> {
        self.load(entries)?;
        if self.running.enable_l7_proxy && self.running.enable_vtep {
            for vtep in self.running.listed() {
                host_routes::add(&self.node, vtep.cidr, self.topology.tunnel_mtu)?;
            }
        }
        self.write_running_config()?;
        self.api = None;
        self.api = self.version.as_deref().map(AgentApi::serve).transpose()?;
        Ok(())
    }

    fn load(&mut self, entries: &[Vtep]) -> Result<()> {
        let vteps = Vteps { model: self.model, mask: self.running.vtep_mask, entries };
        let vteps = self.running.enable_vtep.then_some(vteps);
        // The new programs come after the old ones, and so are unused until those are detached: every packet passes one of them.
        self.datapath = Some(Datapath::load(&self.node, &self.pod, &self.topology, vteps, self.faults)?);
        self.reconciler.restart();
        Ok(())
    }

    fn vtep_map(&self) -> Result<HashMap<MapData, VtepKey, VtepValue>> {
        let data = MapData::from_pin(pin(VTEP_MAP)).context("failed to open the pinned VTEP map")?;
        HashMap::try_from(Map::from_map_data(data)?).context("the pinned VTEP map has another layout")
    }

    fn dropped(&self, reason: u8) -> Result<u64> {
        let data = MapData::from_pin(pin(METRICS_MAP)).context("failed to open the pinned metrics map")?;
        let map: PerCpuHashMap<_, Record<MetricsKey>, Record<MetricsValue>> = Map::from_map_data(data)?.try_into()?;
        let mut packets = 0;
        for entry in map.iter() {
            let (Record(key), values) = entry.context("failed to read the metrics map")?;
            if key.reason == reason {
                packets += values.iter().map(|Record(value)| value.packets).sum::<u64>();
            }
        }
        Ok(packets)
    }
}
