//! What a person hands to `check`: manifests as YAML or JSON, bare maps, and directories as a ConfigMap is mounted.
//!
//! Finds the keys of `cilium-config` in it and judges nothing about their values.

mod node;
#[cfg(test)]
mod tests;

use std::{fs, io, path::Path};

use self::node::Node;
use super::Keys;
use crate::bounded;

/// More text than this is refused; a ConfigMap holds 1 MiB at most.
pub const MAX_BYTES: usize = 4 << 20;

/// One file of a directory holds one value.
const MAX_VALUE_BYTES: u64 = 1 << 20;

const NAME: &str = "cilium-config";

/// Why a text gives no `cilium-config`.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the input has {0} bytes, more than {MAX_BYTES}")]
    TooLong(usize),
    #[error("the input is empty")]
    Empty,
    #[error("the input is not YAML")]
    Yaml(#[source] serde_yaml_ng::Error),
    #[error("the input is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("expected a ConfigMap or a map of keys, found {0}")]
    NoMap(String),
    #[error("the value of `{key}` is {found}, and a ConfigMap holds text: {hint}")]
    NotText { key: String, found: &'static str, hint: &'static str },
    #[error("no ConfigMap in the input, only {}", found.join(", "))]
    NoConfigMap { found: Vec<String> },
    #[error("several ConfigMaps and none is named {NAME} or alone in holding VTEP keys: {}", found.join(", "))]
    Ambiguous { found: Vec<String> },
}

/// Reads one or several YAML documents or JSON values: a ConfigMap, a list of objects, or a bare map of keys.
pub fn read_documents(text: &str) -> Result<Keys, ManifestError> {
    if text.len() > MAX_BYTES {
        return Err(ManifestError::TooLong(text.len()));
    }
    let mut found = Found::default();
    for document in node::parse(text.trim_start_matches('\u{feff}'))? {
        found.add(document)?;
    }
    found.choose()
}

/// Reads a directory with one file per key, as the kubelet mounts a ConfigMap.
pub fn read_dir(path: &Path) -> io::Result<Keys> {
    // The kubelet swaps the link `..data`: behind it all keys are of one version.
    let snapshot = fs::canonicalize(path.join("..data")).unwrap_or_else(|_| path.to_owned());
    let mut keys = Keys::new();
    let mut total = 0;
    for entry in fs::read_dir(snapshot)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Names with two dots are the kubelet's own. A file that is gone by now is an error: half a version is none.
        if name.starts_with("..") || !fs::metadata(entry.path())?.is_file() {
            continue;
        }
        let too_long = || io::Error::new(io::ErrorKind::FileTooLarge, format!("{name} is too long for a ConfigMap"));
        let bytes = match bounded::read_file(&entry.path(), MAX_VALUE_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(too_long()),
            read => read?,
        };
        total += name.len() + bytes.len();
        if total > MAX_BYTES {
            return Err(too_long());
        }
        keys.insert(name, String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(keys)
}

/// A map of keys, and what it is called where it is an object.
struct Candidate {
    name: Option<String>,
    keys: Keys,
}

#[derive(Default)]
struct Found {
    candidates: Vec<Candidate>,
    /// Other objects, as `Kind name`.
    others: Vec<String>,
}

impl Found {
    fn add(&mut self, document: Node) -> Result<(), ManifestError> {
        let Node::Map(mut map) = document else {
            return match document {
                Node::Null => Ok(()),
                Node::Text(_) | Node::List(_) | Node::Map(_) => Err(ManifestError::NoMap(document.describe())),
            };
        };
        let name = match map.get("metadata") {
            Some(Node::Map(metadata)) => metadata.get("name").and_then(Node::text).map(str::to_owned),
            Some(Node::Null | Node::Text(_) | Node::List(_)) | None => None,
        };
        let kind = map.get("kind").and_then(Node::text).map(str::to_owned);
        match (kind.as_deref(), map.remove("items"), map.remove("data")) {
            (Some("ConfigMap"), _, data) => self.add_config_map(name, data),
            (None, None, Some(data @ Node::Map(_))) => self.add_config_map(name, Some(data)),
            (Some(kind), Some(Node::List(items)), _) if kind.ends_with("List") => {
                items.into_iter().try_for_each(|item| self.add(item))
            }
            (Some(kind), _, _) if map.contains_key("apiVersion") => {
                self.others.push(format!("{kind} {}", name.as_deref().unwrap_or("without a name")));
                Ok(())
            }
            (_, items, data) => {
                map.extend(items.map(|items| ("items".to_owned(), items)));
                map.extend(data.map(|data| ("data".to_owned(), data)));
                self.candidates.push(Candidate { name: None, keys: texts(map)? });
                Ok(())
            }
        }
    }

    fn add_config_map(&mut self, name: Option<String>, data: Option<Node>) -> Result<(), ManifestError> {
        let keys = match data {
            Some(Node::Map(data)) => texts(data)?,
            Some(Node::Null) | None => Keys::new(),
            Some(other @ (Node::Text(_) | Node::List(_))) => {
                return Err(ManifestError::NoMap(format!("{} as its data", other.describe())));
            }
        };
        self.candidates.push(Candidate { name, keys });
        Ok(())
    }

    /// The one named `cilium-config`, else the only one there is, else the only one that speaks of VTEPs.
    fn choose(mut self) -> Result<Keys, ManifestError> {
        let is_named = |candidate: &Candidate| candidate.name.as_deref() == Some(NAME);
        let speaks = |Candidate { keys, .. }: &Candidate| {
            keys.keys().any(|key| key == "enable-vtep" || key.starts_with("vtep-"))
        };
        let chosen = only(&self.candidates, is_named)
            .or_else(|| only(&self.candidates, |_| true))
            .or_else(|| only(&self.candidates, speaks).filter(|_| !self.candidates.iter().any(is_named)));
        match chosen {
            Some(index) => Ok(self.candidates.swap_remove(index).keys),
            None if !self.candidates.is_empty() => Err(ManifestError::Ambiguous { found: self.names() }),
            None if self.others.is_empty() => Err(ManifestError::Empty),
            None => Err(ManifestError::NoConfigMap { found: self.others }),
        }
    }

    fn names(&self) -> Vec<String> {
        self.candidates.iter().map(|c| c.name.clone().unwrap_or_else(|| "one without a name".to_owned())).collect()
    }
}

/// The index of the only candidate of this sort.
fn only(candidates: &[Candidate], sort: impl Fn(&Candidate) -> bool) -> Option<usize> {
    let mut indices = (0..candidates.len()).filter(|&index| candidates.get(index).is_some_and(&sort));
    indices.next().filter(|_| indices.next().is_none())
}

fn texts(map: node::Map) -> Result<Keys, ManifestError> {
    map.into_iter().map(|(key, node)| text(&key, node).map(|text| (key, text))).collect()
}

fn text(key: &str, node: Node) -> Result<String, ManifestError> {
    let (found, hint) = match node {
        Node::Text(text) => return Ok(text),
        Node::Null => return Ok(String::new()),
        Node::List(_) => ("a list", "write the values into one string, separated by blanks"),
        Node::Map(_) => ("a map", "give the rendered ConfigMap, not Helm values"),
    };
    Err(ManifestError::NotText { key: key.to_owned(), found, hint })
}
