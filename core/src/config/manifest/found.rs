//! The objects of an input, and the choice of the right ConfigMap.

use super::{
    DEFAULT_NAMESPACE, Manifest, ManifestError, NAME,
    node::{Map, Node},
};
use crate::config::{
    Keys,
    document::NodeConfig,
    finding::Finding,
    selector::Selector,
    vtep_config::{self, VtepConfig},
};

#[derive(Default)]
pub(super) struct Found {
    candidates: Vec<Candidate>,
    node_configs: Vec<(Option<String>, NodeConfig)>,
    vtep_configs: Vec<Result<VtepConfig, Box<Finding>>>,
    /// Other objects, as `Kind name`.
    others: Vec<String>,
}

/// A map of keys. If it comes from an object, it has the object's name and namespace.
struct Candidate {
    name: Option<String>,
    namespace: Option<String>,
    keys: Keys,
}

/// The identity of an object.
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
}

impl Found {
    pub(super) fn add(&mut self, document: Node) -> Result<(), ManifestError> {
        let Node::Map(mut map) = document else {
            return match document {
                Node::Null => Ok(()),
                Node::Text(_) | Node::Bare(_, _) | Node::List(_) | Node::Map(_) => {
                    Err(ManifestError::NoMap(document.describe()))
                }
            };
        };
        let metadata = Metadata::of(&map);
        let kind = map.get("kind").and_then(Node::text).map(str::to_owned);
        match (kind.as_deref(), map.remove("items"), map.remove("data")) {
            (Some("ConfigMap"), _, data) => self.add_config_map(metadata, data, strict),
            (Some(kind), _, _) if vtep_config::Kind::of(kind).is_some() => {
                let read = |kind| VtepConfig::read(kind, &Node::Map(map).typed());
                self.vtep_configs.extend(vtep_config::Kind::of(kind).map(read));
                Ok(())
            }
            (Some("CiliumNodeConfig"), _, _) => self.add_node_config(metadata, map.remove("spec")),
            (None, None, Some(data @ Node::Map(_))) => self.add_config_map(metadata, Some(data), lenient),
            (Some(kind), Some(Node::List(items)), _) if kind.ends_with("List") => {
                items.into_iter().try_for_each(|item| self.add(item))
            }
            (Some(kind), _, _) if map.contains_key("apiVersion") => {
                self.others.push(format!("{kind} {}", metadata.name.as_deref().unwrap_or("without a name")));
                Ok(())
            }
            (_, items, data) => {
                map.extend(items.map(|items| ("items".to_owned(), items)));
                map.extend(data.map(|data| ("data".to_owned(), data)));
                self.candidates.push(Candidate { name: None, namespace: None, keys: texts(map, lenient)? });
                Ok(())
            }
        }
    }

    fn add_config_map(&mut self, metadata: Metadata, data: Option<Node>, text: ToText) -> Result<(), ManifestError> {
        let Metadata { name, namespace } = metadata;
        self.candidates.push(Candidate { name, namespace, keys: keys(data, text)? });
        Ok(())
    }

    fn add_node_config(&mut self, metadata: Metadata, spec: Option<Node>) -> Result<(), ManifestError> {
        let name = metadata.name.unwrap_or_else(|| "without a name".to_owned());
        let mut spec = match spec {
            Some(Node::Map(spec)) => spec,
            Some(Node::Null | Node::Text(_) | Node::Bare(_, _) | Node::List(_)) | None => Map::new(),
        };
        let problem = |problem: String| ManifestError::NodeConfig { name: name.clone(), problem };
        let selector = spec.remove("nodeSelector").map_or(serde_json::Value::Null, Node::json);
        let selector: Option<Selector> =
            serde_json::from_value(selector).map_err(|error| problem(error.to_string()))?;
        let defaults = keys(spec.remove("defaults"), strict)?;
        self.node_configs.push((metadata.namespace, NodeConfig { name, selector, defaults }));
        Ok(())
    }

    pub(super) fn choose(mut self, namespace: Option<&str>) -> Result<Manifest, ManifestError> {
        if self.candidates.is_empty() && !self.vtep_configs.is_empty() {
            return Ok(Manifest { keys: None, node_configs: Vec::new(), vtep_configs: self.vtep_configs });
        }
        if self.candidates.is_empty() {
            let node_configs = self.node_configs.iter().map(|(_, config)| format!("CiliumNodeConfig {}", config.name));
            let found: Vec<_> = node_configs.chain(self.others).collect();
            return Err(if found.is_empty() { ManifestError::Empty } else { ManifestError::NoConfigMap { found } });
        }
        let Candidate { namespace: own, keys, .. } = self.candidate(namespace)?;
        let namespace = own.or_else(|| namespace.map(str::to_owned));
        // A manifest without a namespace gets one only when it is applied, so it may belong to this ConfigMap.
        let is_beside = |of: &Option<String>| of.is_none() || namespace.is_none() || *of == namespace;
        let beside = self.node_configs.into_iter().filter(|(of, _)| is_beside(of));
        let node_configs = beside.map(|(_, config)| config).collect();
        Ok(Manifest { keys: Some(keys), node_configs, vtep_configs: self.vtep_configs })
    }

    /// The ConfigMap named `cilium-config` (in Cilium's namespace, if several have that name), or else the only ConfigMap, or else the only
    /// one with VTEP keys.
    fn candidate(&mut self, namespace: Option<&str>) -> Result<Candidate, ManifestError> {
        if let Some(namespace) = namespace {
            let found = self.names();
            self.candidates.retain(|Candidate { namespace: of, .. }| of.as_deref().is_none_or(|of| of == namespace));
            if self.candidates.is_empty() {
                return Err(ManifestError::OtherNamespace { namespace: namespace.to_owned(), found });
            }
        }
        let is_named = |candidate: &Candidate| candidate.name.as_deref() == Some(NAME);
        let home = namespace.unwrap_or(DEFAULT_NAMESPACE);
        let is_home = |candidate: &Candidate| is_named(candidate) && candidate.namespace.as_deref() == Some(home);
        let speaks = |Candidate { keys, .. }: &Candidate| {
            keys.keys().any(|key| key == "enable-vtep" || key.starts_with("vtep-"))
        };
        let chosen = only(&self.candidates, is_named)
            .or_else(|| only(&self.candidates, is_home))
            .or_else(|| only(&self.candidates, |_| true))
            .or_else(|| only(&self.candidates, speaks).filter(|_| !self.candidates.iter().any(is_named)));
        chosen.map(|index| self.candidates.swap_remove(index)).ok_or_else(|| self.ambiguity(is_named))
    }

    /// If several ConfigMaps are named `cilium-config`, each in a known namespace, a namespace makes the choice clear. Otherwise it is
    /// ambiguous.
    fn ambiguity(&self, is_named: impl Fn(&Candidate) -> bool) -> ManifestError {
        let named = self.candidates.iter().filter(|candidate| is_named(candidate));
        let apart = named.clone().count() > 1 && named.clone().all(|candidate| candidate.namespace.is_some());
        if apart {
            ManifestError::Namespaces { found: named.map(Candidate::shown).collect() }
        } else {
            ManifestError::Ambiguous { found: self.names() }
        }
    }

    fn names(&self) -> Vec<String> {
        self.candidates.iter().map(Candidate::shown).collect()
    }
}

impl Candidate {
    fn shown(&self) -> String {
        let name = self.name.as_deref().unwrap_or("one without a name");
        self.namespace.as_ref().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
    }
}

impl Metadata {
    fn of(map: &Map) -> Self {
        let metadata = match map.get("metadata") {
            Some(Node::Map(metadata)) => Some(metadata),
            Some(Node::Null | Node::Text(_) | Node::Bare(_, _) | Node::List(_)) | None => None,
        };
        let field = |key| metadata.and_then(|metadata| metadata.get(key)).and_then(Node::text).map(str::to_owned);
        Self { name: field("name"), namespace: field("namespace") }
    }
}

/// The index of the only matching candidate.
fn only(candidates: &[Candidate], sort: impl Fn(&Candidate) -> bool) -> Option<usize> {
    let mut indices = (0..candidates.len()).filter(|&index| candidates.get(index).is_some_and(&sort));
    indices.next().filter(|_| indices.next().is_none())
}

/// Converts a value to the text that Cilium reads.
type ToText = fn(&str, Node) -> Result<String, ManifestError>;

fn keys(data: Option<Node>, text: ToText) -> Result<Keys, ManifestError> {
    match data {
        Some(Node::Map(data)) => texts(data, text),
        Some(Node::Null) | None => Ok(Keys::new()),
        Some(other @ (Node::Text(_) | Node::Bare(_, _) | Node::List(_))) => {
            Err(ManifestError::NoMap(format!("{} as its data", other.describe())))
        }
    }
}

fn texts(map: Map, text: ToText) -> Result<Keys, ManifestError> {
    map.into_iter().map(|(key, node)| text(&key, node).map(|text| (key, text))).collect()
}

/// Converts a value of an object. The API server accepts only text.
fn strict(key: &str, node: Node) -> Result<String, ManifestError> {
    match node {
        Node::Bare(value, of) => Err(ManifestError::Bare { key: key.to_owned(), value, of: of.name() }),
        other @ (Node::Null | Node::Text(_) | Node::List(_) | Node::Map(_)) => lenient(key, other),
    }
}

/// Converts a value of a bare map, which does not come from an API server.
fn lenient(key: &str, node: Node) -> Result<String, ManifestError> {
    let (found, hint) = match node {
        Node::Text(text) | Node::Bare(text, _) => return Ok(text),
        Node::Null => return Ok(String::new()),
        Node::List(_) => ("a list", "write the values into one string, separated by blanks"),
        Node::Map(_) => ("a map", "give the rendered ConfigMap, not Helm values"),
    };
    Err(ManifestError::NotText { key: key.to_owned(), found, hint })
}
