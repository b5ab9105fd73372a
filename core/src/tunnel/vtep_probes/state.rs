//! The state of each probe, as reports have it.

use super::VtepProbes;
use crate::tunnel::window::WindowState;

/// The state of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeState {
    /// Nothing was answered yet, but not enough probes were lost to count as failed.
    Pending,
    Ok,
    Failed,
    /// No address to probe is known.
    NoTarget,
    /// The probe cannot run here; `tap.error` gives the reason.
    Unsupported,
}

impl From<WindowState> for ProbeState {
    fn from(answers: WindowState) -> Self {
        match answers {
            WindowState::Pending => Self::Pending,
            WindowState::Ok => Self::Ok,
            WindowState::Failed => Self::Failed,
        }
    }
}

impl VtepProbes {
    #[must_use]
    pub fn underlay_state(&self) -> ProbeState {
        self.underlay.state().into()
    }

    #[must_use]
    pub fn arp_state(&self) -> ProbeState {
        match self.target {
            _ if !self.heard => ProbeState::Unsupported,
            Some(_) => self.arp.state().into(),
            None => ProbeState::NoTarget,
        }
    }

    #[must_use]
    pub fn path_mtu_state(&self) -> ProbeState {
        if self.target.is_some() { self.path_mtu.state().into() } else { ProbeState::NoTarget }
    }

    #[must_use]
    pub fn icmp_state(&self) -> ProbeState {
        if self.target.is_some() { self.icmp.state().into() } else { ProbeState::NoTarget }
    }
}
