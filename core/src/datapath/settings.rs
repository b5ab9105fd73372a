//! The settings of the datapath that a person chooses.

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
    /// Only if the datapath finds VTEPs nowhere else (release candidates of Cilium 1.12, and older releases).
    Auto,
    /// Always.
    On,
    Off,
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// Where bpffs is mounted.
    pub bpffs: PathBuf,
    pub ipcache: IpcacheMode,
    pub host_routes: HostRoutes,
    /// `--route-table`: the table of our routes.
    pub route_table: u32,
}
