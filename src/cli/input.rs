//! The input of `check` and `bigip`: Cilium's configuration as files, directories or standard input.

mod repository;

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use vtep_core::config::{
    document::NodeConfig,
    manifest::{self, MAX_BYTES},
    project::{Group, groups},
    selector::{Labels, Selector},
    shapes::{Configuration, Contents, NodeConfigObject},
    text::Text,
};

use crate::tasks::config::key_files;

pub use self::repository::Skipped;

/// One input.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "input_args")]
pub struct Input {
    /// A manifest, Helm values or another shape of Cilium's configuration; a directory as a ConfigMap is mounted; or `-` (also the default)
    /// for standard input.
    #[arg(value_name = "FILE|DIR|-")]
    input: Option<PathBuf>,
    #[command(flatten)]
    node: Node,
}

/// Any number of inputs.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "inputs_args")]
pub struct Inputs {
    /// Manifests, Helm values or other shapes of Cilium's configuration; directories of a repository, or as a ConfigMap is mounted; or `-`
    /// (also the default) for standard input.
    #[arg(value_name = "FILE|DIR|-")]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    node: Node,
}

/// What decides which objects count.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "node_args")]
struct Node {
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

/// What the inputs hold, grouped as the objects belong together.
#[derive(Debug, Default)]
pub struct Given {
    pub groups: Vec<Group>,
    /// As `--node-labels` gives them.
    pub labels: Option<Labels>,
    /// What a person should know about the inputs.
    pub notes: Vec<String>,
    /// Files of directories.
    pub skipped: Skipped,
    /// Inputs that cannot be used.
    pub failures: Vec<anyhow::Error>,
}

/// Whether a `CiliumNodeConfig` of the input is applied, and if not, the reason.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    pub name: String,
    pub applied: bool,
    reason: Option<&'static str>,
}

const UNKNOWN: &str = "it selects nodes by their labels, which are not known: give --node-labels";

impl Applied {
    fn of(config: &NodeConfig, labels: Option<&Labels>) -> Self {
        const NO_SELECTOR: &str = "it has no nodeSelector, and so selects no node";
        const OTHERS: &str = "it selects other nodes than one with these labels";
        let reason = match (&config.selector, labels) {
            (None, _) => Some(NO_SELECTOR),
            (Some(selector), None) => (*selector != Selector::default()).then_some(UNKNOWN),
            (Some(_), Some(labels)) => (!config.selects(labels)).then_some(OTHERS),
        };
        Self { name: config.name.clone(), applied: reason.is_none(), reason }
    }

    /// It is not applied only because nobody knows the labels of the nodes.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.reason == Some(UNKNOWN)
    }

    /// The sentence for a person if it is not applied.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let Self { name, reason, .. } = self;
        reason.map(|reason| format!("CiliumNodeConfig {name} is not applied: {reason}"))
    }
}

/// Which of the objects override a configuration for a node with these labels.
#[must_use]
pub fn overrides<'g>(group: &'g Group, labels: Option<&Labels>) -> (Vec<&'g NodeConfigObject>, Vec<Applied>) {
    let all: Vec<_> = group.node_configs.iter().map(|object| Applied::of(&object.config, labels)).collect();
    let applied = group.node_configs.iter().zip(&all).filter(|(_, applied)| applied.applied);
    (applied.map(|(object, _)| object).collect(), all)
}

impl Input {
    /// Whether the input is standard input.
    #[must_use]
    pub fn reads_stdin(&self) -> bool {
        self.input.as_deref().is_none_or(|path| path == Path::new("-"))
    }

    /// Reads the one configuration of the input: VTEP lists, with what overrides them, or else custom resources.
    ///
    /// # Errors
    ///
    /// The input cannot be read, or does not hold one configuration.
    pub fn read(&self) -> anyhow::Result<(Group, Option<Labels>)> {
        let given = self.node.read(self.input.as_slice());
        if let Some(failure) = given.failures.into_iter().next() {
            return Err(failure);
        }
        let (with_lists, others): (Vec<_>, Vec<_>) =
            given.groups.into_iter().partition(|group| group.configuration.is_some());
        let mut groups = if with_lists.is_empty() { others } else { with_lists }.into_iter();
        let Some(group) = groups.next() else {
            bail!("the input has no cilium-config, and no CiliumVTEPConfig: give the ConfigMap with the VTEP lists")
        };
        if let Some(other) = groups.next() {
            bail!("the input has several configurations, {} and {}: give one of them", shown(&group), shown(&other))
        }
        Ok((group, given.labels))
    }
}

fn shown(group: &Group) -> String {
    match (&group.configuration, group.vtep_configs.first()) {
        (Some(configuration), _) => format!("{} in {}", configuration.shape.name(), configuration.file()),
        (None, Some(object)) => format!("custom resources in {}", object.file),
        (None, None) => "one without VTEPs".to_owned(),
    }
}

impl Inputs {
    /// Whether one of the inputs is standard input.
    #[must_use]
    pub fn reads_stdin(&self) -> bool {
        self.inputs.is_empty() || self.inputs.iter().any(|path| path == Path::new("-"))
    }

    /// Reads everything. An input that cannot be used does not keep the others from being checked.
    #[must_use]
    pub fn read(&self) -> Given {
        self.node.read(&self.inputs)
    }
}

impl Node {
    fn read(&self, paths: &[PathBuf]) -> Given {
        let namespace = self.namespace.as_deref();
        let mut given = Given::default();
        let mut contents = Contents::default();
        let stdin = [PathBuf::from("-")];
        for path in if paths.is_empty() { &stdin } else { paths } {
            match read(path, namespace, &mut given.skipped) {
                Ok(more) => contents.append(more),
                Err(failure) => given.failures.push(failure),
            }
        }
        given.notes = std::mem::take(&mut contents.notes);
        let labels = self.node_labels.as_ref();
        given.labels =
            labels.map(|labels| labels.iter().map(|Label(key, value)| (key.clone(), value.clone())).collect());
        let (groups, notes) = groups(contents, namespace);
        given.groups = groups;
        given.notes.extend(notes);
        given
    }
}

fn read(path: &Path, namespace: Option<&str>, skipped: &mut Skipped) -> anyhow::Result<Contents> {
    if path == Path::new("-") {
        return read_text("-", io::stdin(), namespace).context("failed to read standard input");
    }
    let shown = path.display().to_string();
    let is_dir = fs::metadata(path).with_context(|| format!("failed to open {shown}"))?.is_dir();
    if !is_dir {
        let file = File::open(path).with_context(|| format!("failed to open {shown}"))?;
        return read_text(&shown, file, namespace).with_context(|| format!("failed to read {shown}"));
    }
    if !repository::is_mounted(path) {
        let found = repository::read(path, skipped);
        return found.with_context(|| format!("failed to read the directory {shown}"));
    }
    let keys = key_files::read_dir(path).with_context(|| format!("failed to read the directory {shown}"))?;
    ensure!(!keys.is_empty(), "the directory {shown} holds no keys");
    Ok(Contents { configurations: vec![Configuration::of_directory(&shown, keys)], ..Contents::default() })
}

fn read_text(name: &str, source: impl Read, namespace: Option<&str>) -> anyhow::Result<Contents> {
    let mut bytes = Vec::new();
    source.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let text = text_of(bytes)?;
    Ok(manifest::read(&Text::of_file(name, text), namespace)?)
}

/// UTF-8, or UTF-16 with a byte-order mark, which PowerShell's `>` writes.
fn text_of(bytes: Vec<u8>) -> anyhow::Result<String> {
    let from = |units: fn([u8; 2]) -> u16| {
        let units: Vec<_> = bytes.as_chunks().0.iter().skip(1).copied().map(units).collect();
        String::from_utf16(&units).context("the input is not text in UTF-16, although it begins so")
    };
    match bytes.as_slice() {
        [0xff, 0xfe, ..] => from(u16::from_le_bytes),
        [0xfe, 0xff, ..] => from(u16::from_be_bytes),
        _ => String::from_utf8(bytes).context("the input is not text in UTF-8: save it in that encoding"),
    }
}
