//! The input of `check` and `bigip`: a `cilium-config` as a file, a directory or standard input.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, ensure};
use serde::Serialize;
use vtep_core::config::{
    document::{Document, NodeConfig},
    finding::Finding,
    manifest::{self, MAX_BYTES, Manifest},
    selector::{Labels, Selector},
    surroundings::Surroundings,
    vtep_config::VtepConfig,
};

use crate::tasks::config::key_files;

#[derive(Clone, Debug, clap::Args)]
#[group(id = "input_args")]
pub struct Input {
    /// YAML or JSON, a directory as a ConfigMap is mounted, or `-` (also the default) for standard input.
    #[arg(value_name = "FILE|DIR|-")]
    input: Option<PathBuf>,
    /// Cilium's namespace, where the input has a cilium-config in several; without it kube-system.
    #[arg(long, value_name = "NAME", env = "VTEP_AGENT_NAMESPACE")]
    namespace: Option<String>,
    /// A node's labels: a CiliumNodeConfig of the input is applied where it selects them. Without them only one is that selects every
    /// node.
    #[arg(long, value_name = "K=V,…", value_delimiter = ',', env = "VTEP_AGENT_NODE_LABELS")]
    node_labels: Option<Vec<Label>>,
}

/// A label as `kubectl` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Label(String, String);

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write key=value")?;
        Ok(Self(key.trim().to_owned(), value.trim().to_owned()))
    }
}

/// The input, merged as a node would merge it.
#[derive(Debug)]
pub struct Given {
    /// `None` if the input has only custom resources.
    pub document: Option<Document>,
    pub node_configs: Vec<Applied>,
    pub vtep_configs: Vec<Result<VtepConfig, Box<Finding>>>,
    /// As `--node-labels` gives them.
    pub labels: Option<Labels>,
}

/// Whether a `CiliumNodeConfig` of the input is applied, and if not, the reason.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    name: String,
    applied: bool,
    reason: Option<&'static str>,
}

impl Applied {
    fn of(config: &NodeConfig, labels: Option<&Labels>) -> Self {
        const NO_SELECTOR: &str = "it has no nodeSelector, and so selects no node";
        const OTHERS: &str = "it selects other nodes than one with these labels";
        const UNKNOWN: &str = "it selects nodes by their labels, which are not known: give --node-labels";
        let reason = match (&config.selector, labels) {
            (None, _) => Some(NO_SELECTOR),
            (Some(selector), None) => (*selector != Selector::default()).then_some(UNKNOWN),
            (Some(_), Some(labels)) => (!config.selects(labels)).then_some(OTHERS),
        };
        Self { name: config.name.clone(), applied: reason.is_none(), reason }
    }

    /// The sentence for a person if it is not applied.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let Self { name, reason, .. } = self;
        reason.map(|reason| format!("CiliumNodeConfig {name} is not applied: {reason}"))
    }
}

impl Input {
    /// # Errors
    ///
    /// The input cannot be read, or contains no `cilium-config`.
    pub fn read(&self, surroundings: Surroundings) -> anyhow::Result<Given> {
        let Self { input, namespace, node_labels } = self;
        let path = input.as_deref().filter(|path| *path != Path::new("-"));
        let Manifest { keys, node_configs: mut configs, vtep_configs } = read(path, namespace.as_deref())?;
        let labels: Option<Labels> = node_labels
            .as_ref()
            .map(|labels| labels.iter().map(|Label(key, value)| (key.clone(), value.clone())).collect());
        let node_configs: Vec<_> = configs.iter().map(|config| Applied::of(config, labels.as_ref())).collect();
        let mut applied = node_configs.iter().map(|config| config.applied);
        configs.retain(|_| applied.next().unwrap_or(false));
        let known = labels.clone().unwrap_or_default();
        let document = keys.map(|keys| Document::effective(keys, &configs, &known, surroundings));
        Ok(Given { document, node_configs, vtep_configs, labels })
    }
}

fn read(input: Option<&Path>, namespace: Option<&str>) -> anyhow::Result<Manifest> {
    let Some(path) = input else {
        return read_text(io::stdin(), namespace).context("failed to read standard input");
    };
    let is_dir = fs::metadata(path).with_context(|| format!("failed to open {}", path.display()))?.is_dir();
    if !is_dir {
        let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
        return read_text(file, namespace).with_context(|| format!("failed to read {}", path.display()));
    }
    let keys = key_files::read_dir(path).with_context(|| format!("failed to read the directory {}", path.display()))?;
    ensure!(!keys.is_empty(), "the directory {} holds no keys", path.display());
    Ok(Manifest { keys: Some(keys), node_configs: Vec::new(), vtep_configs: Vec::new() })
}

fn read_text(source: impl Read, namespace: Option<&str>) -> anyhow::Result<Manifest> {
    let mut bytes = Vec::new();
    source.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).context("the input is not text in UTF-8")?;
    Ok(manifest::read(&text, namespace)?)
}
