//! Reads the facts that other loops need about this node, again after each netlink notification.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rtnetlink::Handle;
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tracing::{info, warn};
use vtep_core::{
    config::{spec::Tunnel, view::View},
    node::{cilium_agent::CiliumAgent, facts::Facts},
    types::error_chain::chain,
};

use super::cilium_files::CiliumFiles;
use crate::{
    bounded,
    kernel::devices::{self, DeviceError},
    liveness::Heartbeat,
    together,
};

/// The maximum time between two reads, because nothing notifies the agent of changes in Cilium's files.
const REFRESH: Duration = Duration::from_secs(5);
/// The timeout of one read.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The settings of each device, and of all.
const CONF: &str = "/proc/sys/net/ipv4/conf";
/// The maximum length of such a setting in bytes.
const MAX_VALUE: u64 = 64;
/// The minimum pause between two reads: a node with many pods changes routes all the time.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads the facts once.
///
/// # Errors
///
/// The kernel does not answer.
pub async fn read(
    netlink: &Handle,
    config: &View,
    cilium_run: &Path,
    agent: CiliumAgent,
) -> Result<Facts, DeviceError> {
    let spec = config.effective.as_ref();
    let tunnel = spec.map_or_else(Tunnel::default, |spec| spec.tunnel);
    let cilium = devices::cilium_devices(netlink, tunnel.protocol).await?;
    let mut routes = BTreeMap::new();
    for vtep in spec.iter().flat_map(|spec| &spec.vteps) {
        if let Some(route) = devices::underlay(netlink, vtep.endpoint).await? {
            routes.insert(vtep.endpoint, route);
        }
    }
    let CiliumFiles { running, problem: running_problem } = CiliumFiles::read(cilium_run);
    let devices = routes.values().map(|route| &route.device).chain(&cilium.tunnel).chain(&cilium.host);
    let strict_devices = devices.map(|device| device.name.clone()).filter(|name| is_strict(name)).collect();
    let CiliumAgent { version, state: agent } = agent;
    Ok(Facts { tunnel, cilium, underlay: routes, strict_devices, running, running_problem, version, agent })
}

/// Whether the device drops packets from an address to which another device has the route: the larger one of two `rp_filter` is 1
/// (Documentation/networking/ip-sysctl.rst).
fn is_strict(device: &str) -> bool {
    let of = |name: &str| {
        // Without the file, the kernel does not filter.
        let text = bounded::read_text(&Path::new(CONF).join(name).join("rp_filter"), MAX_VALUE).unwrap_or_default();
        text.trim().parse::<u8>().unwrap_or(0)
    };
    of("all").max(of(device)) == 1
}

/// Keeps `facts` current until its receivers are dropped. Only a difference wakes the receivers.
pub async fn follow(
    netlink: Handle,
    cilium_run: PathBuf,
    mut agent: watch::Receiver<CiliumAgent>,
    mut config: watch::Receiver<Option<Arc<View>>>,
    mut changes: mpsc::Receiver<()>,
    facts: watch::Sender<Option<Arc<Facts>>>,
    heartbeat: Heartbeat,
) {
    let mut failing = false;
    while !facts.is_closed() {
        heartbeat.beat();
        // Without a configuration, the tunnel protocol and the endpoints to read about are unknown.
        let Some(view) = config.borrow_and_update().clone() else {
            match time::timeout(REFRESH, config.changed()).await {
                Ok(Err(_)) => return,
                Ok(Ok(())) | Err(_) => continue,
            }
        };
        let cilium_agent = *agent.borrow_and_update();
        let read = time::timeout(TIMEOUT, read(&netlink, &view, &cilium_run, cilium_agent)).await;
        match read.unwrap_or(Err(DeviceError::Timeout)) {
            Ok(read) => {
                failing = false;
                publish(&facts, read);
            }
            Err(error) if !failing => {
                failing = true;
                warn!(error = %chain(&error), "cannot read this node's devices; keeping the last known state");
            }
            Err(_) => {}
        }
        time::sleep(PAUSE).await;
        tokio::select! {
            biased;
            changed = config.changed() => if changed.is_err() { return },
            Some(()) = changes.recv() => {}
            Ok(()) = agent.changed() => {}
            () = time::sleep_until(together::next(REFRESH).into()) => {}
        }
    }
}

/// Publishes the facts. Receivers wake up only for a difference.
fn publish(facts: &watch::Sender<Option<Arc<Facts>>>, mut read: Facts) {
    log_problem(facts.borrow().as_deref(), &read);
    facts.send_if_modified(|current| {
        if let Some(current) = current {
            read.running = read.running.clone().or_known(&current.running);
        }
        let differs = current.as_deref() != Some(&read);
        if differs {
            *current = Some(Arc::new(read));
        }
        differs
    });
}

/// Logs each new reason why Cilium's files cannot be read, and that the last one is gone.
fn log_problem(before: Option<&Facts>, now: &Facts) {
    let before = before.and_then(|facts| facts.running_problem.as_deref());
    match now.running_problem.as_deref() {
        Some(reason) if before != Some(reason) => {
            warn!(reason, "cannot read Cilium's running configuration; keeping the last known values");
        }
        None if before.is_some() => info!("Cilium's running configuration can be read again"),
        Some(_) | None => {}
    }
}
