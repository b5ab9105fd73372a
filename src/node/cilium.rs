//! What the running Cilium was started with, from the files it leaves under its run directory.
//!
//! Each file may be absent, unreadable or of another version: what is not known is `None`, never an error.

use std::{fs, net::Ipv4Addr, path::Path};

use serde::Deserialize;

const RUNTIME_CONFIG: &str = "state/agent-runtime-config.json";

/// Cilium's start-time configuration, as far as VTEPs go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningConfig {
    pub vtep_enabled: Option<bool>,
    /// The mask that its programs were compiled or loaded with.
    pub vtep_mask: Option<Ipv4Addr>,
    /// Networks it writes into the VTEP map every 60 s. Cilium 1.19 and newer does not tell.
    pub vtep_networks: Vec<Ipv4Addr>,
}

impl RunningConfig {
    /// Reads `<run>/state/agent-runtime-config.json`.
    #[must_use]
    pub fn read(cilium_run: &Path) -> Option<Self> {
        let text = fs::read_to_string(cilium_run.join(RUNTIME_CONFIG)).ok()?;
        serde_json::from_str::<RuntimeConfig>(&text).ok().map(Self::from)
    }
}

/// The keys of Cilium's `DaemonConfig` that matter here (Cilium 1.12 to 1.20).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RuntimeConfig {
    #[serde(rename = "EnableVTEP")]
    enable_vtep: Option<bool>,
    #[serde(rename = "VtepCIDRs", default)]
    vtep_cidrs: Option<Vec<RuntimeCidr>>,
    vtep_cidr_mask: Option<String>,
}

#[derive(Deserialize)]
struct RuntimeCidr {
    #[serde(rename = "IP")]
    ip: String,
}

impl From<RuntimeConfig> for RunningConfig {
    fn from(config: RuntimeConfig) -> Self {
        Self {
            vtep_enabled: config.enable_vtep,
            vtep_mask: config.vtep_cidr_mask.and_then(|mask| mask.parse().ok()),
            vtep_networks: config
                .vtep_cidrs
                .unwrap_or_default()
                .iter()
                .filter_map(|cidr| cidr.ip.parse().ok())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<RunningConfig> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("state")).expect("a directory");
        fs::write(dir.path().join(RUNTIME_CONFIG), text).expect("a file");
        RunningConfig::read(dir.path())
    }

    #[test]
    fn reads_what_a_real_cilium_wrote() {
        let config =
            parse(include_str!("../../tests/fixtures/cilium-1.18/agent-runtime-config.json")).expect("a configuration");
        assert_eq!(config.vtep_enabled, Some(true));
        assert_eq!(config.vtep_mask, Some([255, 255, 255, 0].into()));
        assert_eq!(config.vtep_networks, [Ipv4Addr::from([10, 1, 6, 0]), [10, 1, 5, 0].into()]);
    }

    #[test]
    fn what_is_not_told_is_not_known() {
        let newer = r#"{"EnableVTEP": true, "VtepCidrMask": "", "VtepCIDRs": null, "Other": [1]}"#;
        assert_eq!(parse(newer), Some(RunningConfig { vtep_enabled: Some(true), ..RunningConfig::default() }));
        assert_eq!(parse("{"), None);
        assert_eq!(parse(r#"{"EnableVTEP": "yes"}"#), None);
    }
}
