//! What a person decides about the datapath.

use std::path::PathBuf;

/// Whether the agent adds host routes to VTEPs that Cilium does not route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRoutes {
    Auto,
    Off,
}

/// Whether the agent writes the ipcache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpcacheMode {
    /// Only where the datapath knows VTEPs by nothing else (candidates of Cilium 1.12, and what is older).
    Auto,
    /// In any case.
    On,
    Off,
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// Where bpffs is mounted.
    pub bpffs: PathBuf,
    pub ipcache: IpcacheMode,
    pub host_routes: HostRoutes,
    /// `--route-table`: where our routes are.
    pub route_table: u32,
}
