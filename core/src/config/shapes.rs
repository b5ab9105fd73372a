//! The shapes in which people keep Cilium's configuration, each read into the same [`Configuration`]: the keys of `cilium-config`, and where
//! each value stands.
//!
//! A shape is recognised by its content. The rules do not know the shapes.

mod anywhere;
mod argo;
mod chart;
pub(super) mod command;
mod config_map;
mod kustomization;
pub(super) mod listing;
mod node_config;
mod release;
pub(super) mod running;
#[cfg(test)]
mod tests;
mod values;
mod vtep_config;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, Serializer};

pub(in crate::config) use self::chart::in_words_of_chart;
pub use self::{node_config::NodeConfigObject, vtep_config::VtepObject};
use super::{
    Keys,
    finding::Finding,
    manifest::{
        ManifestError,
        node::{Document, Value},
        part::Part,
    },
    text::{Place, Text},
};

/// A shape, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    ConfigMap,
    /// `key: value`, not in an object.
    KeyValues,
    /// A mounted ConfigMap.
    Directory,
    /// The output of `cilium config view`.
    ConfigView,
    /// The output of `cilium-dbg config --all`, or the file behind it.
    RunningConfig,
    HelmValues,
    HelmRelease,
    ArgoApplication,
    HelmChartConfig,
    CiliumConfig,
    Kustomization,
    /// `helm upgrade --set …`
    HelmCommand,
    /// `cilium install --config …`
    CiliumCommand,
    /// No lists, only custom resources with VTEPs.
    VtepConfigs,
}

impl Shape {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::KeyValues => "keys",
            Self::Directory => "directory",
            Self::ConfigView => "cilium config view",
            Self::RunningConfig => "cilium-dbg config",
            Self::HelmValues => "Helm values",
            Self::HelmRelease => "HelmRelease",
            Self::ArgoApplication => "Application",
            Self::HelmChartConfig => "HelmChartConfig",
            Self::CiliumConfig => "CiliumConfig",
            Self::Kustomization => "Kustomization",
            Self::HelmCommand => "helm command",
            Self::CiliumCommand => "cilium command",
            Self::VtepConfigs => "CiliumVTEPConfig",
        }
    }

    /// Whether several of them in one input are candidates for one place: a cluster has one `cilium-config`.
    #[must_use]
    pub const fn is_config_map(self) -> bool {
        matches!(self, Self::ConfigMap | Self::KeyValues | Self::Directory)
    }
}

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The value of a key, and where it stands.
#[derive(Clone, Debug)]
pub struct Setting {
    pub value: String,
    pub place: Place,
    /// Nobody has written it: the chart renders it by default.
    pub is_default: bool,
}

/// One configuration of Cilium, in whatever shape.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub shape: Shape,
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub settings: BTreeMap<String, Setting>,
    /// The map that holds the values, for keys that are absent.
    pub root: Root,
    /// Problems of the shape itself, with their places.
    pub problems: Vec<(Finding, Place)>,
    /// What may change the values, for a person to know.
    pub notes: Vec<String>,
}

/// Where an absent key would be written.
#[derive(Clone, Debug)]
pub struct Root {
    pub place: Place,
    /// Whether the keys have the chart's names.
    pub is_chart: bool,
}

impl Configuration {
    pub(in crate::config) fn new(shape: Shape, root: Root) -> Self {
        let (settings, problems, notes) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { shape, name: None, namespace: None, settings, root, problems, notes }
    }

    /// A mounted ConfigMap: each key is a file in the directory.
    #[must_use]
    pub fn of_directory(directory: &str, keys: Keys) -> Self {
        let root = Place::anchored(&Text::of_file(directory, ""), String::new(), None);
        let settings = keys.into_iter().map(|(key, value)| {
            let text = Text::of_file(&format!("{}/{key}", directory.trim_end_matches('/')), value.clone());
            let at = super::text::At::plain(0, value.len());
            let place = Place::of_scalar(&text, key.clone(), at, &value);
            (key, Setting { value, place, is_default: false })
        });
        let settings = settings.collect();
        Self { settings, ..Self::new(Shape::Directory, Root { place: root, is_chart: false }) }
    }

    #[must_use]
    pub fn keys(&self) -> Keys {
        self.settings.iter().map(|(key, setting)| (key.clone(), setting.value.clone())).collect()
    }

    #[must_use]
    pub fn file(&self) -> &Arc<str> {
        self.root.place.file()
    }

    /// Whether it has a key about VTEPs.
    #[must_use]
    pub fn has_vteps(&self) -> bool {
        self.settings.keys().any(|key| is_vtep_key(key))
    }

    /// Where the key is, or where it would be.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Place {
        if let Some(setting) = self.settings.get(key) {
            return setting.place.clone();
        }
        let Root { place, is_chart } = &self.root;
        let name = if *is_chart { chart::path(key).unwrap_or(key) } else { key };
        let place = place.child(name);
        if self.shape.is_config_map() { place.named(key) } else { place }
    }
}

/// A key with a dot is the name of a file, as of a dashboard.
fn is_vtep_key(key: &str) -> bool {
    key == "enable-vtep" || (key.starts_with("vtep-") && !key.contains('.'))
}

/// Keys that many a `cilium-config` has, beside those that begin with `enable-`.
const OF_CILIUM: [&str; 16] = [
    "bpf-lb-mode",
    "bpf-map-dynamic-size-ratio",
    "cluster-id",
    "cluster-name",
    "cluster-pool-ipv4-cidr",
    "cluster-pool-ipv4-mask-size",
    "cni-exclusive",
    "datapath-mode",
    "identity-allocation-mode",
    "ipam",
    "kube-proxy-replacement",
    "monitor-aggregation",
    "routing-mode",
    "tunnel",
    "tunnel-port",
    "tunnel-protocol",
];

/// Whether a key can be one of `cilium-config`, also with a typing error in `vtep`.
fn is_of_cilium(key: &str) -> bool {
    let is_about_vteps = key.to_lowercase().contains("vtep") && !key.contains('.');
    is_about_vteps || key.starts_with("enable-") || OF_CILIUM.contains(&key)
}

/// Everything that an input holds.
#[derive(Debug, Default)]
pub struct Contents {
    pub configurations: Vec<Configuration>,
    pub node_configs: Vec<NodeConfigObject>,
    pub vtep_configs: Vec<VtepObject>,
    /// Other objects, as `Kind name`.
    pub others: Vec<String>,
    /// What a person should know about the input.
    pub notes: Vec<String>,
}

/// How much is expected of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The user gave this input: it holds a configuration.
    Configuration,
    /// It is one of many files: most have nothing to do with Cilium.
    Anything,
}

impl Contents {
    /// Adds what a document holds.
    ///
    /// # Errors
    ///
    /// The document is one about Cilium, and cannot be read.
    pub(in crate::config) fn add(&mut self, document: &Document, expected: Expected) -> Result<(), ManifestError> {
        self.add_part(&Part::of(document, ""), expected)
    }

    fn add_part(&mut self, part: &Part<'_>, expected: Expected) -> Result<(), ManifestError> {
        match &part.node.value {
            Value::Null => return Ok(()),
            Value::List(_) if self.add_operations(part) => return Ok(()),
            Value::Text(_) | Value::Bare(_, _) | Value::List(_) if expected == Expected::Anything => return Ok(()),
            Value::Text(_) | Value::Bare(_, _) | Value::List(_) => {
                return Err(ManifestError::NoMap(part.node.describe()));
            }
            Value::Map(_) => {}
        }
        match part.text_at("kind") {
            Some("ConfigMap") => self.add_config_map(part, expected),
            Some("CiliumNodeConfig") => self.add_node_config(part),
            Some("CiliumVTEPConfig" | "CiliumVTEPNodeConfig") => {
                self.vtep_configs.extend(vtep_config::read(part));
                Ok(())
            }
            Some("HelmRelease") => self.add_release(part, release::FLUX),
            Some("HelmChartConfig" | "HelmChart") => self.add_release(part, release::RKE2),
            Some("CiliumConfig") => self.add_release(part, release::OPENSHIFT),
            Some("Application" | "ApplicationSet") => self.add_application(part),
            Some("Kustomization" | "Component") if kustomization::is(part) => self.add_kustomization(part, expected),
            Some(kind)
                if kind.ends_with("List") && part.get("items").is_some_and(|items| items.node.list().is_some()) =>
            {
                let items = part.get("items");
                items.iter().flat_map(Part::items).try_for_each(|item| self.add_part(&item, expected))
            }
            Some(kind) if part.get("apiVersion").is_some() => {
                if !self.add_anywhere(part) {
                    let name = part.text_at("metadata.name").unwrap_or("without a name");
                    self.others.push(format!("{kind} {name}"));
                }
                Ok(())
            }
            Some(_) | None => self.add_map(part, expected),
        }
    }

    /// A map that is no object.
    fn add_map(&mut self, part: &Part<'_>, expected: Expected) -> Result<(), ManifestError> {
        if part.get("kind").is_none()
            && part.get("items").is_none()
            && part.get("data").is_some_and(|data| data.node.map().is_some())
        {
            return self.add_data(part, expected);
        }
        if let Some(configuration) = running::of_tree(part) {
            self.configurations.push(configuration);
            return Ok(());
        }
        if let Some(values) = values::find(part) {
            self.configurations.push(chart::configuration(Shape::HelmValues, vec![values.into()]));
            return Ok(());
        }
        if kustomization::is(part) {
            return self.add_kustomization(part, expected);
        }
        let has_keys = part.entries().any(|(key, _)| is_vtep_key(key));
        if !has_keys && self.add_anywhere(part) {
            return Ok(());
        }
        if expected == Expected::Anything && !has_keys {
            return Ok(());
        }
        let configuration = config_map::of_keys(part)?;
        match part.entries().next().is_none() || part.entries().any(|(key, _)| is_of_cilium(key)) {
            true => self.configurations.push(configuration),
            false => self.others.push(format!("a map of {}", shown_keys(part))),
        }
        Ok(())
    }
}

/// The first keys of a map, for a message.
fn shown_keys(part: &Part<'_>) -> String {
    let keys: Vec<_> =
        part.entries().map(|(key, _)| format!("`{}`", key.chars().take(40).collect::<String>())).collect();
    let more = if keys.len() > 3 { ", …" } else { "" };
    keys.into_iter().take(3).collect::<Vec<_>>().join(", ") + more
}
