//! The values of flags, as spelled on the command line, and their conversion to the core's types.

use vtep_core::datapath::{report, settings};

/// `--mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Looks and probes; writes nothing.
    Observe,
    Enforce,
}

/// `--host-routes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HostRoutes {
    Auto,
    /// As `auto`: a CIDR that Cilium routes needs no second route.
    On,
    Off,
}

/// `--ipcache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum IpcacheMode {
    /// Only where the datapath knows VTEPs by nothing else (Cilium before 1.12.0, and its release candidates).
    Auto,
    /// In any case.
    On,
    Off,
}

/// `--mac`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EntryMac {
    /// The one in `vtep-mac`.
    Configured,
    /// The one that BIG-IP's tunnel answers ARP with, if nothing contradicts and the configured one does not answer.
    Learned,
}

impl From<Mode> for report::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Observe => Self::Observe,
            Mode::Enforce => Self::Enforce,
        }
    }
}

impl From<HostRoutes> for settings::HostRoutes {
    fn from(routes: HostRoutes) -> Self {
        match routes {
            HostRoutes::Auto | HostRoutes::On => Self::Auto,
            HostRoutes::Off => Self::Off,
        }
    }
}

impl From<IpcacheMode> for settings::IpcacheMode {
    fn from(mode: IpcacheMode) -> Self {
        match mode {
            IpcacheMode::Auto => Self::Auto,
            IpcacheMode::On => Self::On,
            IpcacheMode::Off => Self::Off,
        }
    }
}
