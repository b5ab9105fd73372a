//! Helm values: recognises those of Cilium, and looks a value up in several layers of them.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use crate::config::{
    manifest::{
        node::{Map, Node, Value},
        part::{Part, join},
    },
    text::{Place, Text},
};

/// Values that no other chart has.
const DISTINCT: [&str; 8] = [
    "routingMode",
    "tunnelProtocol",
    "policyEnforcementMode",
    "l7Proxy",
    "autoDirectNodeRoutes",
    "kubeProxyReplacement",
    "ipv4NativeRoutingCIDR",
    "bgpControlPlane",
];

pub(super) const VTEP: [&str; 5] = ["enabled", "endpoint", "cidr", "mask", "mac"];

/// Charts of charts have few levels.
const MAX_DEPTH: usize = 4;

/// Values of one origin: a map, in which a dotted path leads to a value.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    text: Arc<Text>,
    node: Node,
    /// The path of the map in its document.
    path: String,
    /// Paths of values that are written elsewhere than at their path in the map: the elements of Argo CD's parameters.
    written: BTreeMap<String, String>,
}

impl From<Part<'_>> for Layer {
    fn from(part: Part<'_>) -> Self {
        let Part { text, node, path } = part;
        Self { text: Arc::clone(text), node: node.clone(), path, written: BTreeMap::new() }
    }
}

impl Layer {
    /// An empty layer of `--set` or of parameters, in this text.
    pub(super) fn of_assignments(text: &Arc<Text>, anchor: Option<crate::config::text::At>) -> Self {
        let node = Node { at: anchor, ..Node::from(Value::Map(Map::new())) };
        Self { text: Arc::clone(text), node, path: String::new(), written: BTreeMap::new() }
    }

    /// Sets the value at a path as `--set` does; a dot behind a backslash is part of a key. `written` is where the input has it.
    pub(super) fn set(&mut self, path: &str, value: Node, written: Option<&str>) {
        let steps = steps(path);
        let shown = steps.iter().fold(String::new(), |path, step| join(&path, step));
        if let Some(written) = written {
            self.written.insert(shown, written.to_owned());
        }
        let mut node = &mut self.node;
        for step in steps {
            if node.map().is_none() {
                node.value = Value::Map(Map::new());
            }
            let Value::Map(map) = &mut node.value else { return };
            node = map.entry(step).or_insert_with(|| Node::from(Value::Null));
        }
        *node = value;
    }

    pub(super) fn root(&self) -> Part<'_> {
        Part { text: &self.text, node: &self.node, path: self.path.clone() }
    }

    pub(super) fn is_map(&self) -> bool {
        self.node.map().is_some()
    }

    /// Whether it says anything that only Cilium's chart reads.
    pub(super) fn is_of_cilium(&self) -> bool {
        is(&self.root())
    }

    /// The part that holds Cilium's values, in an umbrella chart those of the subchart.
    pub(super) fn narrowed(self) -> Self {
        match find(&self.root()) {
            Some(Part { text, node, path }) if path != self.path => {
                let prefix = path.strip_prefix(&self.path).unwrap_or(&path).trim_start_matches('.').to_owned();
                let written = self.written.iter().filter_map(|(path, written)| {
                    let rest = path.strip_prefix(prefix.as_str())?.strip_prefix('.')?;
                    Some((rest.to_owned(), written.clone()))
                });
                Self { text: Arc::clone(text), node: node.clone(), written: written.collect(), path }
            }
            Some(_) | None => self,
        }
    }

    /// The value at a path; `Null` if the path ends early at an explicit null, which removes the chart's default.
    fn get(&self, path: &str) -> Option<Part<'_>> {
        let mut part = self.root();
        for step in path.split('.') {
            if matches!(part.node.value, Value::Null) && part.node.key.is_some() {
                return Some(part);
            }
            part = part.get(step)?;
        }
        if let Some(written) = self.written.get(path) {
            part.path.clone_from(written);
        }
        Some(part)
    }
}

/// Several layers, of which the first that has a value counts.
pub(super) struct Values(Vec<Layer>);

impl Values {
    /// The layers, the one that takes precedence first.
    pub(super) fn new(layers: Vec<Layer>) -> Self {
        Self(layers)
    }

    pub(super) fn get(&self, path: &str) -> Option<Part<'_>> {
        self.0.iter().find_map(|layer| layer.get(path))
    }

    /// The entries of a map: those of all layers, of one key that of the first layer.
    pub(super) fn entries(&self, path: &str) -> BTreeMap<String, Part<'_>> {
        let mut entries = BTreeMap::new();
        for layer in &self.0 {
            for (key, mut part) in layer.get(path).iter().flat_map(Part::entries) {
                if let Some(written) = layer.written.get(&join(path, key)) {
                    part.path.clone_from(written);
                }
                entries.entry(key.to_owned()).or_insert(part);
            }
        }
        entries
    }

    /// Whether a value counts as true in a template.
    pub(super) fn is_true(&self, path: &str) -> bool {
        self.get(path).is_some_and(|part| match &part.node.value {
            Value::Null => false,
            Value::Text(_) | Value::Bare(_, _) => scalar(part.node)
                .is_some_and(|text| !matches!(text.as_ref(), "" | "0") && (text != "false" || is_quoted(part.node))),
            Value::List(items) => !items.is_empty(),
            Value::Map(map) => !map.is_empty(),
        })
    }

    /// The place that lacks a value: the innermost map around it that somebody wrote.
    pub(super) fn lacking(&self, path: &str) -> Option<Place> {
        let outer = path.rsplit_once('.').and_then(|(outer, _)| self.get(outer));
        let outer = outer.filter(|part| part.node.at.is_some() || part.node.key.is_some());
        let root = self.0.last().map(Layer::root)?;
        Some(match outer {
            Some(outer) => outer.lacking(path.rsplit('.').next().unwrap_or(path)),
            None => root.lacking(path),
        })
    }

    pub(super) fn root(&self) -> Option<Part<'_>> {
        self.0.iter().map(Layer::root).find(|root| root.node.at.is_some()).or_else(|| self.0.first().map(Layer::root))
    }
}

fn is_quoted(node: &Node) -> bool {
    matches!(node.value, Value::Text(_)) && !node.is_plain()
}

/// The text of a scalar as a template prints it. Helm reads YAML 1.1, in which `yes` is a boolean.
pub(super) fn scalar(node: &Node) -> Option<Cow<'_, str>> {
    let text = node.text()?;
    let is_plain = node.is_plain();
    Some(match text {
        "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "True" | "TRUE" if is_plain => "true".into(),
        "no" | "No" | "NO" | "off" | "Off" | "OFF" | "False" | "FALSE" if is_plain => "false".into(),
        _ => text.into(),
    })
}

/// The map with Cilium's values in a map: itself, or that of a subchart.
pub(super) fn find<'d>(part: &Part<'d>) -> Option<Part<'d>> {
    within(part, MAX_DEPTH)
}

fn within<'d>(part: &Part<'d>, depth: usize) -> Option<Part<'d>> {
    part.node.map()?;
    if is(part) {
        return Some(part.clone());
    }
    let inner = part.entries().filter(|(key, _)| *key == "cilium" || depth > 0);
    let (named, others): (Vec<_>, Vec<_>) = inner.partition(|(key, _)| *key == "cilium");
    let named = named.into_iter().find_map(|(_, part)| within(&part, depth.checked_sub(1)?));
    named.or_else(|| others.into_iter().find_map(|(_, part)| within(&part, depth.checked_sub(1)?)))
}

/// Whether a map has values that only Cilium's chart reads.
fn is(part: &Part<'_>) -> bool {
    let has_vtep = part.get("vtep").is_some_and(|vtep| is_vtep(&vtep));
    let extra = part.get("extraConfig");
    let extra = extra.iter().flat_map(Part::entries).any(|(key, _)| super::is_vtep_key(key));
    let pool =
        part.at("ipam.operator").is_some_and(|pool| pool.entries().any(|(key, _)| key.starts_with("clusterPool")));
    has_vtep || extra || pool || DISTINCT.iter().any(|key| part.get(key).is_some())
}

fn is_vtep(part: &Part<'_>) -> bool {
    // The schema of the values has the same keys, with a map for each.
    part.entries().any(|(key, value)| VTEP.contains(&key) && value.node.map().is_none())
}

/// The keys of a path in `--set`.
fn steps(path: &str) -> Vec<String> {
    let (mut steps, mut step, mut is_escaped) = (Vec::new(), String::new(), false);
    for c in path.chars() {
        match c {
            '\\' if !is_escaped => is_escaped = true,
            '.' if !is_escaped => steps.push(std::mem::take(&mut step)),
            _ => {
                step.push(c);
                is_escaped = false;
            }
        }
    }
    steps.push(step);
    // No path of the chart is longer, and the tree is dropped by recursion.
    steps.truncate(16);
    steps
}
