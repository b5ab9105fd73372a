//! The loaded eBPF programs, attached to the node's devices, and their maps.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs, io,
    net::Ipv4Addr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader, Pod, include_bytes_aligned,
    maps::{HashMap, LpmTrie, lpm_trie::Key},
    programs::{SchedClassifier, TcAttachType, tc},
};
use vtep_lab_ebpf::{
    ENDPOINT_HOST, EndpointInfo, EndpointKey, IPCACHE_STATIC_PREFIX, IpcacheKey, IpcacheValue, Settings, endpoint_key,
    ipcache_key,
};

use crate::{
    cilium::Faults,
    host::{Host, Link},
    mac::Mac,
    mounts::PINS,
    network::POD_DEVICE,
    topology::{Topology, Tunnel, Vtep},
    vtep_map::{VtepMap, VtepModel},
};

pub(crate) const VTEP_MAP: &str = "cilium_vtep_map";
/// The object's name of the trie, which is pinned as [`VTEP_MAP`].
const VTEP_TRIE: &str = "cilium_vtep_map_trie";
pub(crate) const IPCACHE_MAP: &str = "cilium_ipcache_v2";
const ENDPOINT_MAP: &str = "cilium_lxc";
pub(crate) const METRICS_MAP: &str = "cilium_metrics";

/// Identities that Cilium reserves, and one of a pod, from a captured ipcache.
const IDENTITY_HOST: u32 = 1;
const IDENTITY_WORLD: u32 = 2;
const IDENTITY_REMOTE_NODE: u32 = 6;
const IDENTITY_POD: u32 = 14_142;
const POD_ENDPOINT_ID: u16 = 1;

/// More time than a child process needs to start.
const DETACH_TIMEOUT: Duration = Duration::from_secs(2);

/// Each program, with its device and direction.
const fn programs(tunnel: Tunnel) -> [(&'static str, &'static str, TcAttachType); 3] {
    [
        ("from_pod", POD_DEVICE, TcAttachType::Ingress),
        ("from_host", "cilium_host", TcAttachType::Egress),
        ("from_overlay", tunnel.device(), TcAttachType::Ingress),
    ]
}

/// A record of the datapath that may be copied into a map byte by byte.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Record<T>(pub(crate) T);

#[expect(unsafe_code, reason = "aya's mark for plain bytes")]
// SAFETY: `repr(C)`, only integers, no padding: assertions beside the definitions check the sizes.
unsafe impl Pod for Record<EndpointInfo> {}
#[expect(unsafe_code, reason = "aya's mark for plain bytes")]
// SAFETY: as above.
unsafe impl Pod for Record<Settings> {}
#[expect(unsafe_code, reason = "aya's mark for plain bytes")]
// SAFETY: as above.
unsafe impl Pod for Record<vtep_lab_ebpf::MetricsKey> {}
#[expect(unsafe_code, reason = "aya's mark for plain bytes")]
// SAFETY: as above.
unsafe impl Pod for Record<vtep_lab_ebpf::MetricsValue> {}

/// How the programs look up VTEPs, and the first entries of the map.
#[derive(Clone, Copy)]
pub(crate) struct Vteps<'a> {
    pub(crate) model: VtepModel,
    /// Only the hash needs it.
    pub(crate) mask: Ipv4Addr,
    pub(crate) entries: &'a [Vtep],
}

/// Attached programs; dropping this detaches them.
#[derive(Debug)]
pub(crate) struct Datapath {
    node: Host,
    tunnel: Tunnel,
    /// `None` only during the drop.
    ebpf: Option<Ebpf>,
}

impl Datapath {
    /// Creates new maps, pins them, fills them, and attaches the programs.
    ///
    /// Without `vteps`, like in Cilium with VTEP disabled, the programs know no VTEP and the map's pin remains unchanged.
    pub(crate) fn load(
        node: &Host,
        pod: &Host,
        topology: &Topology,
        vteps: Option<Vteps<'_>>,
        faults: Faults,
    ) -> Result<Self> {
        let settings = Record(settings(node, topology.tunnel, vteps, faults)?);
        let mut loader = EbpfLoader::new();
        loader.override_global("SETTINGS", &settings, true);
        for map in [IPCACHE_MAP, ENDPOINT_MAP] {
            remove_pin(map)?;
            loader.map_pin_path(map, Cow::Owned(pin(map)));
        }
        loader.map_pin_path(METRICS_MAP, Cow::Owned(pin(METRICS_MAP)));
        if let Some(Vteps { model, .. }) = vteps {
            remove_pin(VTEP_MAP)?;
            loader.map_pin_path(name(model), Cow::Owned(pin(VTEP_MAP)));
        }
        let mut ebpf = loader
            .load(include_bytes_aligned!(concat!(env!("OUT_DIR"), "/datapath")))
            .context("failed to load the lab's datapath")?;
        fill_endpoints(&mut ebpf, node.link(POD_DEVICE)?, pod.link("eth0")?.mac, topology)?;
        fill_ipcache(&mut ebpf, topology)?;
        if let Some(Vteps { model, entries, .. }) = vteps {
            fill_vteps(&mut ebpf, model, entries)?;
        }
        // From here on, dropping the value detaches the programs inside the node.
        let mut datapath = Self { node: node.clone(), tunnel: topology.tunnel, ebpf: Some(ebpf) };
        datapath.attach()?;
        Ok(datapath)
    }

    fn attach(&mut self) -> Result<()> {
        let Self { node, tunnel, ebpf } = self;
        let ebpf = ebpf.as_mut().context("the datapath is being dropped")?;
        node.run(|| {
            for (name, device, side) in programs(*tunnel) {
                let program = ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
                let program: &mut SchedClassifier = program.try_into()?;
                program.load().with_context(|| format!("the kernel refused {name}"))?;
                // Only kernels before tcx need this. Elsewhere, and the second time, it fails without consequence.
                let _ = tc::qdisc_add_clsact(device);
                program.attach(device, side).with_context(|| format!("failed to attach {name} to {device}"))?;
            }
            Ok(())
        })
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        let Some(ebpf) = self.ebpf.take() else { return };
        // Kernels before tcx remove filters by device index, which is valid only inside the node.
        let _ = self.node.run(|| {
            let ids: BTreeSet<_> = ebpf.programs().filter_map(|(_, program)| Some(program.info().ok()?.id())).collect();
            drop(ebpf);
            await_detached(&ids, self.tunnel);
            Ok(())
        });
    }
}

/// Waits until none of these programs is attached.
///
/// A child process of another thread has every descriptor between its `fork` and its `exec`, and so keeps programs attached for a moment
/// after they are dropped here.
fn await_detached(ids: &BTreeSet<u32>, tunnel: Tunnel) {
    let deadline = Instant::now() + DETACH_TIMEOUT;
    let attached = || programs(tunnel).into_iter().any(|(_, device, side)| is_attached(ids, device, side));
    while attached() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether one of these programs is attached by tcx. Without tcx none is, and filters disappear as soon as they are dropped.
fn is_attached(ids: &BTreeSet<u32>, device: &str, side: TcAttachType) -> bool {
    let attached = SchedClassifier::query_tcx(device, side);
    attached.is_ok_and(|(_, programs)| programs.iter().any(|program| ids.contains(&program.id())))
}

/// The path of a pin of Cilium's.
pub(crate) fn pin(map: &str) -> PathBuf {
    PathBuf::from(PINS).join(map)
}

/// Removes a map's pin, if there is one. Programs that use the map keep it.
pub(crate) fn remove_pin(map: &str) -> Result<()> {
    let path = pin(map);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(crate) fn remove_all_pins() -> Result<()> {
    [VTEP_MAP, IPCACHE_MAP, ENDPOINT_MAP, METRICS_MAP].into_iter().try_for_each(remove_pin)
}

/// The map's name in the object.
const fn name(model: VtepModel) -> &'static str {
    match model {
        VtepModel::Hash => VTEP_MAP,
        VtepModel::Trie => VTEP_TRIE,
    }
}

fn settings(node: &Host, tunnel: Tunnel, vteps: Option<Vteps<'_>>, faults: Faults) -> Result<Settings> {
    let device = node.link(tunnel.device())?;
    let Faults { zero_mac_arp, accept_any_vni } = faults;
    Ok(Settings {
        // An unpinned map stays empty, and a look-up in an empty map fails with any mask.
        vtep_mask: vteps.map_or([0; 4], |vteps| vteps.mask.octets()),
        tunnel_ifindex: device.index,
        net_ifindex: node.link("cilium_net")?.index,
        pod_identity: IDENTITY_POD,
        tunnel_mac: device.mac.0,
        host_mac: node.link("cilium_host")?.mac.0,
        check_vni: u8::from(!accept_any_vni && tunnel != Tunnel::UserGeneve),
        zero_mac_arp: u8::from(zero_mac_arp),
        vtep_trie: u8::from(vteps.is_some_and(|vteps| vteps.model == VtepModel::Trie)),
        reserved: 0,
    })
}

fn fill_endpoints(ebpf: &mut Ebpf, device: Link, pod_mac: Mac, topology: &Topology) -> Result<()> {
    let map = ebpf.map_mut(ENDPOINT_MAP).context("the object has no endpoint map")?;
    let mut map: HashMap<_, EndpointKey, Record<EndpointInfo>> = map.try_into()?;
    let pod = EndpointInfo {
        ifindex: device.index,
        unused: 0,
        id: POD_ENDPOINT_ID,
        flags: 0,
        padding: 0,
        mac: pad(pod_mac.0),
        node_mac: pad(device.mac.0),
        identity: IDENTITY_POD,
        parent_ifindex: 0,
        padding2: [0; 8],
    };
    let host = EndpointInfo {
        ifindex: 0,
        id: 0,
        flags: ENDPOINT_HOST,
        mac: [0; 8],
        node_mac: [0; 8],
        identity: IDENTITY_HOST,
        ..pod
    };
    for (ip, info) in [(topology.pod_ip, pod), (topology.router_ip, host), (topology.node_ip, host)] {
        map.insert(endpoint_key(ip.octets()), Record(info), 0).context("failed to write a local endpoint")?;
    }
    Ok(())
}

fn fill_vteps(ebpf: &mut Ebpf, model: VtepModel, vteps: &[Vtep]) -> Result<()> {
    let map = ebpf.map_mut(name(model)).context("the object has no VTEP map")?;
    let mut map = VtepMap::try_from(map)?;
    vteps.iter().try_for_each(|vtep| map.put(vtep.cidr, vtep.value()))
}

/// The entries of a captured ipcache: local addresses, and the world. It has no VTEP.
fn fill_ipcache(ebpf: &mut Ebpf, topology: &Topology) -> Result<()> {
    let map = ebpf.map_mut(IPCACHE_MAP).context("the object has no ipcache")?;
    let mut map: LpmTrie<_, IpcacheKey, IpcacheValue> = map.try_into()?;
    let other_node = topology.other_node_ip.map(|ip| (ip, 32, IDENTITY_REMOTE_NODE));
    let entries = [
        (topology.pod_ip, 32, IDENTITY_POD),
        (topology.router_ip, 32, IDENTITY_HOST),
        (topology.node_ip, 32, IDENTITY_HOST),
        (Ipv4Addr::UNSPECIFIED, 0, IDENTITY_WORLD),
    ];
    for (ip, prefix_len, identity) in entries.into_iter().chain(other_node) {
        let mut value = [0; 24];
        value[..4].copy_from_slice(&identity.to_ne_bytes());
        let key = Key::new(IPCACHE_STATIC_PREFIX + prefix_len, ipcache_key(ip.octets()));
        map.insert(&key, value, 0).context("failed to write an ipcache entry")?;
    }
    Ok(())
}

/// A MAC in the eight bytes that it occupies in Cilium's records.
fn pad(mac: [u8; 6]) -> [u8; 8] {
    let mut padded = [0; 8];
    padded[..6].copy_from_slice(&mac);
    padded
}
