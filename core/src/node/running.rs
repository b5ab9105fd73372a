//! The configuration that the running Cilium was started with, parsed from its files. A value that no file contains is `None`. The agent
//! reads the files.

use std::{collections::BTreeMap, net::Ipv4Addr};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{config::spec::TunnelProtocol, types::mac::Mac};

/// The knowledge about Cilium's start-time configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Running {
    /// Cilium has written no file.
    #[default]
    Absent,
    /// A file exists but is unreadable: Cilium may be writing it, or did not write it at all.
    Unreadable,
    Known(RunningConfig),
}

/// The part of Cilium's start-time configuration that concerns VTEPs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningConfig {
    /// When Cilium started with this configuration.
    pub started: Option<Timestamp>,
    pub vtep_enabled: Option<bool>,
    /// The mask with which its programs were compiled or loaded.
    pub vtep_mask: Option<Ipv4Addr>,
    /// The VTEPs, by network, that Cilium writes into the VTEP map every 60 s. `None`: Cilium does not disclose them (1.19 and newer).
    pub vteps: Option<BTreeMap<Ipv4Addr, RunningVtep>>,
    pub tunnel_protocol: Option<TunnelProtocol>,
    pub tunnel_port: Option<u16>,
}

/// A VTEP as Cilium knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunningVtep {
    pub endpoint: Option<Ipv4Addr>,
    pub mac: Option<Mac>,
}

impl Running {
    /// Retains the last known configuration until the files are readable again, because Cilium replaces them when it starts.
    #[must_use]
    pub fn or_known(self, before: &Self) -> Self {
        match (&self, before) {
            (Self::Absent | Self::Unreadable, Self::Known(_)) => before.clone(),
            (_, _) => self,
        }
    }

    #[must_use]
    pub fn config(&self) -> Option<&RunningConfig> {
        match self {
            Self::Known(config) => Some(config),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

impl RunningConfig {
    /// Networks that Cilium writes into the VTEP map, as far as it discloses them.
    pub fn networks(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.vteps.iter().flat_map(|vteps| vteps.keys().copied())
    }

    /// Takes values that are unknown here from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            started: self.started.or(other.started),
            vtep_enabled: self.vtep_enabled.or(other.vtep_enabled),
            vtep_mask: self.vtep_mask.or(other.vtep_mask),
            vteps: self.vteps.or(other.vteps),
            tunnel_protocol: self.tunnel_protocol.or(other.tunnel_protocol),
            tunnel_port: self.tunnel_port.or(other.tunnel_port),
        }
    }
}

/// The relevant keys of Cilium's `DaemonConfig` (Cilium 1.12 to 1.20), as written. Other keys cost no memory.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DaemonConfig<'a> {
    #[serde(borrow)]
    creation_time: Option<&'a RawValue>,
    #[serde(borrow, rename = "EnableVTEP")]
    enable_vtep: Option<&'a RawValue>,
    #[serde(borrow)]
    vtep_cidr_mask: Option<&'a RawValue>,
    #[serde(borrow, rename = "VtepCIDRs")]
    vtep_cidrs: Option<&'a RawValue>,
    #[serde(borrow)]
    vtep_endpoints: Option<&'a RawValue>,
    #[serde(borrow, rename = "VtepMACs")]
    vtep_macs: Option<&'a RawValue>,
}

/// A Go `net.IPNet`.
#[derive(Deserialize)]
struct IpNet {
    #[serde(rename = "IP")]
    ip: Ipv4Addr,
}

/// Parses each key separately: an unexpected value in one does not affect the others.
///
/// # Errors
///
/// If the text is not a JSON object.
pub fn parse_runtime_config(text: &str) -> serde_json::Result<RunningConfig> {
    let config: DaemonConfig<'_> = serde_json::from_str(text)?;
    let (cidrs, endpoints, macs) = (
        list(config.vtep_cidrs),
        list(config.vtep_endpoints).unwrap_or_default(),
        list(config.vtep_macs).unwrap_or_default(),
    );
    let vtep = |(index, cidr): (usize, &&RawValue)| {
        let network = value::<IpNet>(cidr)?.ip;
        let endpoint = endpoints.get(index).and_then(|endpoint| value(endpoint));
        let mac = macs.get(index).and_then(|mac| value::<String>(mac)?.parse().ok());
        Some((network, RunningVtep { endpoint, mac }))
    };
    Ok(RunningConfig {
        started: config.creation_time.and_then(value),
        vtep_enabled: config.enable_vtep.and_then(value),
        vtep_mask: config.vtep_cidr_mask.and_then(value),
        vteps: cidrs.map(|cidrs| cidrs.iter().enumerate().filter_map(vtep).collect()),
        ..RunningConfig::default()
    })
}

fn value<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

fn list(raw: Option<&RawValue>) -> Option<Vec<&RawValue>> {
    value(raw?)
}

/// Parses the definitions in the header. A missing one proves nothing, because newer releases moved it elsewhere.
#[must_use]
pub fn parse_header(text: &str) -> RunningConfig {
    let define = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name)?.strip_prefix(' ').map(str::trim))
    };
    let number = |name: &str| {
        let text = define(name)?;
        text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())
    };
    let protocol = number("TUNNEL_PROTOCOL");
    let is = |name: &str| protocol.is_some() && protocol == number(name);
    RunningConfig {
        started: None,
        vtep_enabled: define("ENABLE_VTEP").map(|_| true),
        // The number has the mask's bytes in network order, but was printed in host order.
        vtep_mask: number("VTEP_MASK").map(|mask| Ipv4Addr::from(mask.to_ne_bytes())),
        vteps: None,
        tunnel_protocol: match () {
            () if is("TUNNEL_PROTOCOL_VXLAN") => Some(TunnelProtocol::Vxlan),
            () if is("TUNNEL_PROTOCOL_GENEVE") => Some(TunnelProtocol::Geneve),
            () => None,
        },
        tunnel_port: number("TUNNEL_PORT").and_then(|port| port.try_into().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_configuration_outlives_a_restart_of_cilium() {
        let known = Running::Known(RunningConfig { vtep_enabled: Some(true), ..RunningConfig::default() });
        let newer = Running::Known(RunningConfig::default());
        assert_eq!(Running::Absent.or_known(&known), known);
        assert_eq!(Running::Unreadable.or_known(&known), known);
        assert_eq!(newer.clone().or_known(&known), newer);
        assert_eq!(Running::Unreadable.or_known(&Running::Absent), Running::Unreadable);
    }
}
