//! What the running Cilium was started with, from the files it leaves under its run directory.
//!
//! Each file may be absent, unreadable or of another version: what is not known is `None`, and why is said beside it.

use std::{collections::BTreeMap, fmt, io, net::Ipv4Addr, path::Path};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    bounded,
    config::{mac::Mac, spec::TunnelProtocol},
};

const RUNTIME_CONFIG: &str = "state/agent-runtime-config.json";
/// What its programs were compiled with (Cilium up to 1.18).
const HEADER: &str = "state/globals/node_config.h";
/// A hundred times what Cilium writes.
const MAX_BYTES: u64 = 1 << 20;

/// What is known of Cilium's start-time configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Running {
    /// Cilium left no file.
    #[default]
    Absent,
    /// There is a file, and it cannot be read: Cilium may be writing it, or it is none that Cilium wrote ([`Look::problem`]).
    Unreadable,
    Known(RunningConfig),
}

/// Cilium's start-time configuration, as far as VTEPs go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningConfig {
    pub vtep_enabled: Option<bool>,
    /// The mask that its programs were compiled or loaded with.
    pub vtep_mask: Option<Ipv4Addr>,
    /// What it writes into the VTEP map every 60 s, by network. `None`: it does not tell (Cilium 1.19 and newer).
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

/// One look at Cilium's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub running: Running,
    /// Why a file that is there says nothing, in words.
    pub problem: Option<String>,
}

impl Look {
    /// Reads `<run>/state/agent-runtime-config.json` and `<run>/state/globals/node_config.h`.
    #[must_use]
    pub fn at(cilium_run: &Path) -> Self {
        let of_config = part(&cilium_run.join(RUNTIME_CONFIG), parse);
        let of_header = part(&cilium_run.join(HEADER), |text| Ok(parse_header(text)));
        let problems: Vec<_> = [&of_config, &of_header].into_iter().filter_map(|part| part.as_ref().err()).collect();
        let problem = problems.first().map(ToString::to_string);
        let running = match (of_config, of_header) {
            (Ok(Some(config)), header) => Running::Known(config.or(header.ok().flatten().unwrap_or_default())),
            (Ok(None), Ok(Some(header))) => Running::Known(header),
            (Ok(None), Ok(None)) => Running::Absent,
            (Err(_), _) | (Ok(None), Err(_)) => Running::Unreadable,
        };
        Self { running, problem }
    }
}

/// What one file says; `None` where it is not there, and why where it says nothing.
fn part(
    path: &Path,
    parse: impl FnOnce(&str) -> serde_json::Result<RunningConfig>,
) -> Result<Option<RunningConfig>, String> {
    let why = |error: &dyn fmt::Display| format!("cannot read {}: {error}", path.display());
    match bounded::read_text(path, MAX_BYTES) {
        Ok(text) => parse(&text).map(Some).map_err(|error| why(&format!("it is not JSON: {error}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(why(&error)),
    }
}

impl Running {
    /// Cilium replaces its files when it starts: what was known stays known until they can be read again.
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
    /// Networks that Cilium writes into the VTEP map, as far as it tells.
    pub fn networks(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.vteps.iter().flat_map(|vteps| vteps.keys().copied())
    }

    /// What this does not know, from `other`.
    fn or(self, other: Self) -> Self {
        Self {
            vtep_enabled: self.vtep_enabled.or(other.vtep_enabled),
            vtep_mask: self.vtep_mask.or(other.vtep_mask),
            vteps: self.vteps.or(other.vteps),
            tunnel_protocol: self.tunnel_protocol.or(other.tunnel_protocol),
            tunnel_port: self.tunnel_port.or(other.tunnel_port),
        }
    }
}

/// The keys of Cilium's `DaemonConfig` that matter here (Cilium 1.12 to 1.20), as they are written; no other key costs memory.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DaemonConfig<'a> {
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

/// Each key by itself: a surprise in one is none in the others.
fn parse(text: &str) -> serde_json::Result<RunningConfig> {
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

/// What the header defines. What it lacks says nothing: newer releases moved it elsewhere.
fn parse_header(text: &str) -> RunningConfig {
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
        vtep_enabled: define("ENABLE_VTEP").map(|_| true),
        // The mask's bytes in network order, read as a number of the machine's order.
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
    use std::fs;

    use super::*;

    fn read(json: Option<&str>, header: Option<&str>) -> Running {
        look(json, header).running
    }

    fn look(json: Option<&str>, header: Option<&str>) -> Look {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(dir.path().join("state/globals")).expect("a directory");
        for (name, text) in [(RUNTIME_CONFIG, json), (HEADER, header)] {
            if let Some(text) = text {
                fs::write(dir.path().join(name), text).expect("a file");
            }
        }
        Look::at(dir.path())
    }

    const REAL: &str = include_str!("../../tests/fixtures/cilium-1.18/agent-runtime-config.json");
    const REAL_HEADER: &str = include_str!("../../tests/fixtures/cilium-1.18/node_config.h");

    #[test]
    fn reads_what_a_real_cilium_wrote() {
        let vtep = |network: [u8; 4], endpoint: [u8; 4], mac: [u8; 6]| {
            (network.into(), RunningVtep { endpoint: Some(endpoint.into()), mac: Some(mac.into()) })
        };
        let of_both = RunningConfig {
            vtep_enabled: Some(true),
            vtep_mask: Some([255, 255, 255, 0].into()),
            vteps: Some(
                [
                    vtep([10, 1, 6, 0], [10, 169, 72, 34], [0x00, 0x50, 0x56, 0xa0, 0x7d, 0xd8]),
                    vtep([10, 1, 5, 0], [10, 169, 72, 36], [0x00, 0x50, 0x56, 0x86, 0x6b, 0x28]),
                ]
                .into(),
            ),
            tunnel_protocol: Some(TunnelProtocol::Vxlan),
            tunnel_port: Some(8472),
        };
        let of_json = RunningConfig { tunnel_protocol: None, tunnel_port: None, ..of_both.clone() };
        let of_header = RunningConfig { vteps: None, ..of_both.clone() };
        assert_eq!(read(Some(REAL), Some(REAL_HEADER)), Running::Known(of_both));
        assert_eq!(read(Some(REAL), None), Running::Known(of_json));
        assert_eq!(read(None, Some(REAL_HEADER)), Running::Known(of_header));
        assert_eq!(read(None, None), Running::Absent);
    }

    #[test]
    fn what_is_not_told_is_not_known() {
        let known = |config| Running::Known(config);
        let only_enabled = RunningConfig { vtep_enabled: Some(true), ..RunningConfig::default() };
        let newer = r#"{"EnableVTEP": true, "VtepCidrMask": "", "VtepCIDRs": null, "Other": [1]}"#;
        assert_eq!(read(Some(newer), None), known(only_enabled));
        let odd = RunningConfig { vteps: Some(BTreeMap::new()), ..RunningConfig::default() };
        assert_eq!(read(Some(r#"{"EnableVTEP": "yes", "VtepCIDRs": [7]}"#), None), known(odd));
        assert_eq!(read(Some("{\"EnableVTEP\": tr"), Some(REAL_HEADER)), Running::Unreadable);
        assert_eq!(read(None, Some("")), known(RunningConfig::default()));
        assert_eq!(Look::at(Path::new("/nonexistent")), Look::default());
    }

    #[test]
    fn why_a_file_says_nothing_is_said() {
        let problem = |json: Option<&str>, header: Option<&str>| {
            let Look { running, problem } = look(json, header);
            (running, problem.unwrap_or_default())
        };
        let (running, words) = problem(Some("{\"EnableVTEP\": tr"), None);
        assert_eq!(running, Running::Unreadable);
        assert!(words.contains(RUNTIME_CONFIG) && words.contains("it is not JSON: "), "{words}");

        let long = " ".repeat(1 + MAX_BYTES as usize);
        let (running, words) = problem(Some(&long), Some(REAL_HEADER));
        assert_eq!(running, Running::Unreadable);
        assert!(words.contains("it has more than 1048576 bytes"), "{words}");
        // What the one says holds without the other.
        let (running, words) = problem(Some(REAL), Some(&long));
        assert!(matches!(running, Running::Known(RunningConfig { vtep_enabled: Some(true), tunnel_port: None, .. })));
        assert!(words.contains(HEADER), "{words}");
        assert_eq!(problem(None, Some(&long)).0, Running::Unreadable, "a file is there");
        assert_eq!(look(Some(REAL), Some(REAL_HEADER)).problem, None);
    }

    #[test]
    fn what_was_known_outlives_a_restart_of_cilium() {
        let known = Running::Known(RunningConfig { vtep_enabled: Some(true), ..RunningConfig::default() });
        let newer = Running::Known(RunningConfig::default());
        assert_eq!(Running::Absent.or_known(&known), known);
        assert_eq!(Running::Unreadable.or_known(&known), known);
        assert_eq!(newer.clone().or_known(&known), newer);
        assert_eq!(Running::Unreadable.or_known(&Running::Absent), Running::Unreadable);
    }
}
