//! Reads the status of an agent of any version: a field that is missing or has another type is unknown, and unknown fields are ignored.
//!
//! [`Status`](crate::report::status::Status) is what this version writes. A fleet has other versions during each update, and one new word
//! of a newer agent must not cost its whole status.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use crate::diagnosis::Verdict;

/// Why an answer is not a status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    #[error("the answer is not JSON")]
    NotJson,
    #[error("the answer is not the status of a vtep-agent: it has no list `vteps`")]
    NotAStatus,
}

/// The parts of a status that a fleet compares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AgentStatus {
    #[serde(deserialize_with = "lenient")]
    pub version: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub mode: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub started_at: Option<Timestamp>,
    #[serde(deserialize_with = "lenient")]
    verdict: Option<Verdict>,
    #[serde(deserialize_with = "lenient")]
    pub config: Config,
    #[serde(deserialize_with = "lenient")]
    pub kernel: Kernel,
    #[serde(deserialize_with = "lenient")]
    pub cilium: Cilium,
    #[serde(deserialize_with = "lenient")]
    bigip: Bigip,
    #[serde(deserialize_with = "each")]
    pub vteps: Vec<AgentVtep>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Config {
    #[serde(deserialize_with = "lenient")]
    pub hash: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub stale: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    pub enabled: Option<bool>,
    /// Where the VTEPs come from: `configmap`, `crd` or `none`.
    #[serde(deserialize_with = "lenient")]
    pub truth: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Kernel {
    #[serde(deserialize_with = "lenient")]
    pub release: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Cilium {
    #[serde(deserialize_with = "lenient")]
    pub version: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub router: Option<Ipv4Addr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Bigip {
    #[serde(deserialize_with = "lenient")]
    fdb_record: Option<FdbRecord>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct FdbRecord {
    #[serde(deserialize_with = "lenient")]
    mac: Option<String>,
    #[serde(deserialize_with = "lenient")]
    endpoint: Option<String>,
}

/// A VTEP as one agent sees it. CIDR and endpoint are texts, because a newer agent may have IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AgentVtep {
    #[serde(deserialize_with = "lenient")]
    pub cidr: String,
    #[serde(deserialize_with = "lenient")]
    pub endpoint: String,
    #[serde(deserialize_with = "lenient")]
    pub name: Option<String>,
    #[serde(deserialize_with = "lenient")]
    verdict: Option<Verdict>,
    /// The id. A newer agent may have causes that this one does not know.
    #[serde(deserialize_with = "lenient")]
    pub cause: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub also: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub since: Option<Timestamp>,
    #[serde(deserialize_with = "lenient")]
    pub hint: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub runbook: Option<String>,
}

impl AgentStatus {
    /// # Errors
    ///
    /// The text is no JSON, or no status.
    pub fn read(json: &[u8]) -> Result<Self, StatusError> {
        let value: Value = serde_json::from_slice(json).map_err(|_| StatusError::NotJson)?;
        if !value.get("vteps").is_some_and(Value::is_array) {
            return Err(StatusError::NotAStatus);
        }
        serde_json::from_value(value).map_err(|_| StatusError::NotAStatus)
    }

    /// The verdict of the node. The oldest agents have none, and a newer one may have one that this agent does not know: then the worst
    /// VTEP decides.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict.unwrap_or_else(|| match (self.config.enabled, self.worst()) {
            (Some(false), _) => Verdict::Healthy,
            (Some(true) | None, worst) => worst.unwrap_or(Verdict::Unknown),
        })
    }

    /// The worst verdict of its VTEPs.
    #[must_use]
    pub fn worst(&self) -> Option<Verdict> {
        Verdict::worst(self.vteps.iter().map(AgentVtep::verdict))
    }

    /// Keeps only some VTEPs; their verdicts decide for the node from now on.
    pub(super) fn retain(&mut self, keep: impl FnMut(&AgentVtep) -> bool) {
        self.vteps.retain(keep);
        self.verdict = self.worst();
    }

    /// The values that differ between nodes by nature, each with the words that stand for it.
    pub(super) fn own_values(&self) -> impl Iterator<Item = (String, &'static str)> {
        let FdbRecord { mac, endpoint } = self.bigip.fdb_record.clone().unwrap_or_default();
        let router = self.cilium.router.map(|router| router.to_string());
        let values = [(mac, "MAC-OF-NODE"), (endpoint, "ADDRESS-OF-NODE"), (router, "ADDRESS-OF-CILIUM_HOST")];
        values.into_iter().filter_map(|(value, words)| value.map(|value| (value, words)))
    }
}

impl AgentVtep {
    /// A verdict that this agent does not know is an unknown one.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict.unwrap_or(Verdict::Unknown)
    }
}

/// The value, or the default if it has another type.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// The elements of a list that can be read.
fn each<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let values = Vec::<Value>::deserialize(deserializer)?;
    Ok(values.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> AgentStatus {
        AgentStatus::read(value.to_string().as_bytes()).expect("a status")
    }

    #[test]
    fn the_status_of_this_version_is_read() {
        let status = AgentStatus::read(include_bytes!("../../../tests/fixtures/status.json")).expect("a status");
        let ours = crate::report::status::Status::sample();
        assert_eq!(status.verdict(), ours.verdict);
        assert_eq!(status.config.hash, ours.config.hash);
        assert_eq!(status.version.as_deref(), Some(ours.version.as_str()));
        assert_eq!(status.cilium.version, ours.cilium.version.map(|version| version.to_string()));
        let [vteps, expected] = [
            status.vteps.iter().map(|vtep| (vtep.cidr.clone(), vtep.verdict(), vtep.cause.clone())).collect::<Vec<_>>(),
            ours.vteps
                .iter()
                .map(|vtep| (vtep.cidr.to_string(), vtep.verdict, vtep.cause.map(|cause| cause.to_string())))
                .collect(),
        ];
        assert_eq!(vteps, expected);
    }

    #[test]
    fn an_older_agent_has_fewer_fields() {
        let old = json!({ "node": "a", "vteps": [{ "cidr": "10.1.6.0/24", "endpoint": "10.169.72.34", "verdict": "degraded" }] });
        let status = read(&old);
        assert_eq!(status.verdict(), Verdict::Degraded, "the worst VTEP decides");
        assert_eq!((&status.version, &status.config.hash, &status.vteps[0].cause), (&None, &None, &None));
        assert_eq!(read(&json!({ "vteps": [] })).verdict(), Verdict::Unknown);
        assert_eq!(read(&json!({ "vteps": [], "config": { "enabled": false } })).verdict(), Verdict::Healthy);
    }

    #[test]
    fn a_newer_agent_has_more_fields_words_and_types() {
        let new = json!({
            "node": "a", "verdict": "paused", "weather": { "rain": true }, "version": ["0.9", "1.0"], "mode": "learn",
            "config": { "hash": 17, "stale": false },
            "vteps": [
                { "cidr": "10.1.6.0/24", "endpoint": "10.169.72.34", "verdict": "paused", "cause": "sun-too-bright", "also": 3 },
                { "cidr": "fd00::/64", "endpoint": "fd00:1::1", "verdict": "healthy", "also": ["path-mtu"] },
                "what is this?",
            ],
        });
        let status = read(&new);
        assert_eq!(status.mode.as_deref(), Some("learn"));
        assert_eq!((&status.version, &status.config.hash, status.config.stale), (&None, &None, Some(false)));
        let [first, second] = status.vteps.as_slice() else { panic!("{status:?}") };
        assert_eq!((first.verdict(), first.cause.as_deref()), (Verdict::Unknown, Some("sun-too-bright")));
        assert_eq!((second.verdict(), second.cidr.as_str()), (Verdict::Healthy, "fd00::/64"));
        assert_eq!(status.verdict(), Verdict::Unknown);
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for text in ["", "<html>", "[]", "{}", "null", r#"{"vteps": 3}"#] {
            assert!(AgentStatus::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
