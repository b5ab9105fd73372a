//! The input of `check`: manifests as YAML or JSON, or bare maps of keys.
//!
//! This module finds the keys of `cilium-config` in the input. It does not check their values.

mod found;
mod node;
#[cfg(test)]
mod tests;
mod yaml;

use self::found::Found;
use super::{Keys, document::NodeConfig, finding::Finding, vtep_config::VtepConfig};

/// The maximum size of an input; a ConfigMap has at most 1 MiB.
pub const MAX_BYTES: usize = 4 << 20;

const NAME: &str = "cilium-config";

/// The namespace of Cilium by default.
const DEFAULT_NAMESPACE: &str = "kube-system";

/// Why no `cilium-config` can be read from a text.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the input has {0} bytes, more than {MAX_BYTES}")]
    TooLong(usize),
    #[error("the input is empty")]
    Empty,
    #[error("the input is not YAML")]
    Yaml(#[source] serde_saphyr::granit_parser::ScanError),
    #[error("the input is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("expected a ConfigMap or a map of keys, found {0}")]
    NoMap(String),
    #[error("the value of `{key}` is {found}, and a ConfigMap holds text: {hint}")]
    NotText { key: String, found: &'static str, hint: &'static str },
    #[error(
        "the value of `{key}` is {value} without quotes, and the API server refuses that (cannot unmarshal {of} into string): \
         write {key}: \"{value}\""
    )]
    Bare { key: String, value: String, of: &'static str },
    #[error("cannot read the CiliumNodeConfig {name}: {problem}")]
    NodeConfig { name: String, problem: String },
    #[error("no ConfigMap in the input, only {}", found.join(", "))]
    NoConfigMap { found: Vec<String> },
    #[error("several ConfigMaps and none is named {NAME} or alone in holding VTEP keys: {}", found.join(", "))]
    Ambiguous { found: Vec<String> },
    #[error("several {NAME} and none is in {DEFAULT_NAMESPACE}: {}; give --namespace", found.join(", "))]
    Namespaces { found: Vec<String> },
    #[error("no ConfigMap in the namespace {namespace}, only {}", found.join(", "))]
    OtherNamespace { namespace: String, found: Vec<String> },
}

/// The content of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The keys of the ConfigMap; `None` if the input has only custom resources.
    pub keys: Option<Keys>,
    /// The objects of the same namespace that override keys for some nodes.
    pub node_configs: Vec<NodeConfig>,
    /// The custom resources that hold VTEPs, each as read or why it cannot be.
    pub vtep_configs: Vec<Result<VtepConfig, Box<Finding>>>,
}

/// Like [`read`], but returns only the keys, from any namespace.
pub fn read_documents(text: &str) -> Result<Keys, ManifestError> {
    read(text, None).map(|manifest| manifest.keys.unwrap_or_default())
}

/// Reads one or several YAML documents or JSON values: ConfigMaps and `CiliumNodeConfig`s, lists of objects, or a bare map of keys.
/// `namespace` is Cilium's namespace.
pub fn read(text: &str, namespace: Option<&str>) -> Result<Manifest, ManifestError> {
    if text.len() > MAX_BYTES {
        return Err(ManifestError::TooLong(text.len()));
    }
    let mut found = Found::default();
    for document in node::parse(text.trim_start_matches('\u{feff}'))? {
        found.add(document)?;
    }
    found.choose(namespace)
}
