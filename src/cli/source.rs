//! Where the configuration comes from: the settings that `run` and `plan` share.

use std::path::PathBuf;

use crate::datapath::survey::{HostRoutes, Settings};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A directory with one file per key: a mounted ConfigMap.
    Dir,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Source {
    /// Where the configuration comes from.
    #[arg(long, value_enum, default_value = "dir", env = "VTEP_AGENT_CONFIG_SOURCE")]
    pub config_source: Kind,
    /// The directory that the ConfigMap cilium-config is mounted at.
    #[arg(long, value_name = "DIR", env = "VTEP_AGENT_CONFIG_DIR")]
    pub config_dir: PathBuf,
    /// Where bpffs is mounted.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf", env = "VTEP_AGENT_BPFFS")]
    pub bpffs: PathBuf,
    /// Cilium's run directory.
    #[arg(long, value_name = "DIR", default_value = "/var/run/cilium", env = "VTEP_AGENT_CILIUM_RUN")]
    pub cilium_run: PathBuf,
    /// Add host routes to VTEPs that Cilium does not route, and restore Cilium's missing rules; `off` leaves all routes as they are.
    #[arg(long, value_enum, default_value = "auto", env = "VTEP_AGENT_HOST_ROUTES")]
    pub host_routes: HostRoutes,
}

impl Source {
    /// The source as `/status` names it.
    #[must_use]
    pub fn name(&self) -> String {
        match self.config_source {
            Kind::Dir => format!("dir:{}", self.config_dir.display()),
        }
    }

    #[must_use]
    pub fn survey(&self) -> Settings {
        Settings { bpffs: self.bpffs.clone(), host_routes: self.host_routes }
    }
}
