//! What the running Cilium was started with, from the files it leaves under its run directory.
//!
//! Each file may be absent, unreadable or of another version: what is not known is `None`, never an error.

use std::{fs, io, net::Ipv4Addr, path::Path};

use serde_json::Value;

const RUNTIME_CONFIG: &str = "state/agent-runtime-config.json";

/// What is known of Cilium's start-time configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Running {
    /// Cilium left no file.
    #[default]
    Absent,
    /// There is a file, and it cannot be read: Cilium may be writing it.
    Unreadable,
    Known(RunningConfig),
}

/// Cilium's start-time configuration, as far as VTEPs go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningConfig {
    pub vtep_enabled: Option<bool>,
    /// The mask that its programs were compiled or loaded with.
    pub vtep_mask: Option<Ipv4Addr>,
    /// Networks it writes into the VTEP map every 60 s. Cilium 1.19 and newer does not tell.
    pub vtep_networks: Vec<Ipv4Addr>,
}

impl Running {
    /// Reads `<run>/state/agent-runtime-config.json`.
    #[must_use]
    pub fn read(cilium_run: &Path) -> Self {
        match fs::read_to_string(cilium_run.join(RUNTIME_CONFIG)) {
            Ok(text) => {
                serde_json::from_str(&text).map_or(Self::Unreadable, |config: Value| Self::Known(parse(&config)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Absent,
            Err(_) => Self::Unreadable,
        }
    }

    /// Cilium replaces its file when it starts: what was known stays known until it can be read again.
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

/// The keys of Cilium's `DaemonConfig` that matter here (Cilium 1.12 to 1.20), each by itself: a surprise in one is none in the
/// others.
fn parse(config: &Value) -> RunningConfig {
    let networks = config.get("VtepCIDRs").and_then(Value::as_array).into_iter().flatten();
    let address = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
    RunningConfig {
        vtep_enabled: config.get("EnableVTEP").and_then(Value::as_bool),
        vtep_mask: config.get("VtepCidrMask").and_then(address),
        vtep_networks: networks.filter_map(|cidr| cidr.get("IP").and_then(address)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Running {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("state")).expect("a directory");
        fs::write(dir.path().join(RUNTIME_CONFIG), text).expect("a file");
        Running::read(dir.path())
    }

    #[test]
    fn reads_what_a_real_cilium_wrote() {
        let running = read(include_str!("../../tests/fixtures/cilium-1.18/agent-runtime-config.json"));
        let expected = RunningConfig {
            vtep_enabled: Some(true),
            vtep_mask: Some([255, 255, 255, 0].into()),
            vtep_networks: vec![[10, 1, 6, 0].into(), [10, 1, 5, 0].into()],
        };
        assert_eq!(running, Running::Known(expected));
    }

    #[test]
    fn what_is_not_told_is_not_known() {
        let known = |config| Running::Known(config);
        let only_enabled = RunningConfig { vtep_enabled: Some(true), ..RunningConfig::default() };
        let newer = r#"{"EnableVTEP": true, "VtepCidrMask": "", "VtepCIDRs": null, "Other": [1]}"#;
        assert_eq!(read(newer), known(only_enabled));
        assert_eq!(read(r#"{"EnableVTEP": "yes", "VtepCIDRs": [7]}"#), known(RunningConfig::default()));
        assert_eq!(read("{\"EnableVTEP\": tr"), Running::Unreadable);
        assert_eq!(Running::read(Path::new("/nonexistent")), Running::Absent);
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
