//! Settings about this node that `run`, `plan`, `preflight` and others share: paths, Cilium's version, the kernel check.

use std::path::PathBuf;

use anyhow::Context;
use vtep_core::node::{fitness::Fitness, version::CiliumVersion};

use crate::{kernel::fitness, tasks::node::cilium_agent::AgentSocket};

#[derive(Clone, Debug, clap::Args)]
#[group(id = "node")]
pub struct Flags {
    /// Where bpffs is mounted.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf", env = "VTEP_AGENT_BPFFS")]
    pub bpffs: PathBuf,
    /// Cilium's run directory.
    #[arg(long, value_name = "DIR", default_value = "/var/run/cilium", env = "VTEP_AGENT_CILIUM_RUN")]
    pub cilium_run: PathBuf,
    /// Cilium's version, e.g. 1.18.8; without it, Cilium is asked over the socket in its run directory.
    #[arg(long, value_name = "VERSION", env = "VTEP_AGENT_CILIUM_VERSION")]
    cilium_version: Option<CiliumVersion>,
    /// Accept any kernel release; the kernel's BPF features are still tested.
    #[arg(long, env = "VTEP_AGENT_IGNORE_KERNEL_CHECK")]
    ignore_kernel_check: bool,
}

impl Flags {
    #[must_use]
    pub fn cilium_agent(&self) -> AgentSocket {
        AgentSocket::new(self.cilium_version, &self.cilium_run)
    }

    /// # Errors
    ///
    /// This process's capabilities cannot be read.
    pub fn fitness(&self) -> anyhow::Result<Fitness> {
        fitness::probe(self.ignore_kernel_check).context("failed to read this process's capabilities")
    }
}
