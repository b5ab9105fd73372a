//! What the loops need to know of this node, read anew whenever the kernel says that something changed.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rtnetlink::Handle;
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tracing::warn;

use super::{
    cilium::RunningConfig,
    devices::{CiliumDevices, DeviceError, Underlay, underlay},
};
use crate::config::{spec::Tunnel, view::View};

/// Facts are read at least this often: Cilium's files send no notices.
const REFRESH: Duration = Duration::from_secs(5);
/// A node with many pods changes routes all the time: after one reading, wait this long before the next.
const PAUSE: Duration = Duration::from_millis(50);

/// The node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub cilium: CiliumDevices,
    /// How each VTEP endpoint is reached; one without a route is missing.
    pub underlay: BTreeMap<Ipv4Addr, Underlay>,
    /// What Cilium was started with, where it tells.
    pub running: Option<RunningConfig>,
}

impl Facts {
    /// # Errors
    ///
    /// When the kernel does not answer.
    pub async fn read(netlink: &Handle, config: Option<&View>, cilium_run: &Path) -> Result<Self, DeviceError> {
        let spec = config.and_then(|view| view.in_force.as_ref());
        let tunnel = spec.map_or_else(Tunnel::default, |spec| spec.tunnel);
        let cilium = CiliumDevices::read(netlink, tunnel.protocol).await?;
        let mut routes = BTreeMap::new();
        for vtep in spec.iter().flat_map(|spec| &spec.vteps) {
            if let Some(route) = underlay(netlink, vtep.endpoint).await? {
                routes.insert(vtep.endpoint, route);
            }
        }
        Ok(Self { cilium, underlay: routes, running: RunningConfig::read(cilium_run) })
    }
}

/// Keeps `facts` current until its receivers are gone. Receivers are woken only by a difference.
pub async fn follow(
    netlink: Handle,
    cilium_run: PathBuf,
    mut config: watch::Receiver<Option<Arc<View>>>,
    mut changes: mpsc::Receiver<()>,
    facts: watch::Sender<Option<Arc<Facts>>>,
) {
    let mut failing = false;
    while !facts.is_closed() {
        let view = config.borrow_and_update().clone();
        match Facts::read(&netlink, view.as_deref(), &cilium_run).await {
            Ok(read) => {
                failing = false;
                facts.send_if_modified(|current| {
                    let differs = current.as_deref() != Some(&read);
                    if differs {
                        *current = Some(Arc::new(read));
                    }
                    differs
                });
            }
            Err(error) if !failing => {
                failing = true;
                warn!(error = %crate::logging::chain(&error), "cannot read this node's devices; the last known stay");
            }
            Err(_) => {}
        }
        time::sleep(PAUSE).await;
        tokio::select! {
            biased;
            changed = config.changed() => if changed.is_err() { return },
            Some(()) = changes.recv() => {}
            () = time::sleep(REFRESH) => {}
        }
    }
}
