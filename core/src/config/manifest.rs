//! The input of `check`: YAML or JSON, or one of the forms that programs print.
//!
//! This module finds the configurations in the input. It does not check their values.

mod found;
pub(in crate::config) mod node;
pub(in crate::config) mod part;
pub(in crate::config) mod template;
#[cfg(test)]
mod tests;
mod yaml;

use std::sync::Arc;

use self::node::{Document, Node};
use super::{
    Keys,
    shapes::{Contents, Expected, command, listing, running},
    text::Text,
};

/// The maximum size of an input; a ConfigMap has at most 1 MiB.
pub const MAX_BYTES: usize = 4 << 20;

pub(in crate::config) const NAME: &str = "cilium-config";

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
    #[error(
        "this is what `kubectl describe` prints: take `kubectl -n {DEFAULT_NAMESPACE} get configmap {NAME} -o yaml`"
    )]
    Described,
    #[error("this is BIG-IP's configuration: give it with --bigip, beside Cilium's")]
    BigIp,
    #[error("the value of `{key}` is {found}, and a ConfigMap holds text: {hint}")]
    NotText { key: String, found: &'static str, hint: &'static str },
    #[error(
        "the value of `{key}` is {value} without quotes, and the API server refuses that (cannot unmarshal {of} into string): \
         write {key}: \"{value}\""
    )]
    Bare { key: String, value: String, of: &'static str },
    #[error("the ConfigMap {name} has no data, and {found} beside it: a ConfigMap holds its keys in data")]
    NoData { name: String, found: String },
    #[error("cannot read the CiliumNodeConfig {name}: {problem}")]
    NodeConfig { name: String, problem: String },
    #[error("no ConfigMap in the input, only {}", found.join(", "))]
    NoConfigMap { found: Vec<String> },
    #[error("no {NAME} in the input, only {}", found.join(", "))]
    OtherKeys { found: Vec<String> },
    #[error("several ConfigMaps and none is named {NAME} or alone in holding VTEP keys: {}", found.join(", "))]
    Ambiguous { found: Vec<String> },
    #[error("several {NAME} and none is in {DEFAULT_NAMESPACE}: {}; give --namespace", found.join(", "))]
    Namespaces { found: Vec<String> },
    #[error("no ConfigMap in the namespace {namespace}, only {}", found.join(", "))]
    OtherNamespace { namespace: String, found: Vec<String> },
}

/// Like [`read`], but returns only the keys of the first configuration, from any namespace.
pub fn read_documents(text: &str) -> Result<Keys, ManifestError> {
    let contents = read(&Text::of_file("-", text), None)?;
    Ok(contents.configurations.first().map(super::shapes::Configuration::keys).unwrap_or_default())
}

/// Reads an input that the user gave: configurations in any shape, and what overrides them. Of several ConfigMaps it chooses one; `namespace`
/// is Cilium's namespace.
pub fn read(text: &Arc<Text>, namespace: Option<&str>) -> Result<Contents, ManifestError> {
    let (mut contents, error) = contents(text, Expected::Configuration)?;
    if let Some(error) = error {
        return Err(error);
    }
    contents.choose(namespace)?;
    Ok(contents)
}

/// Reads one of many files, most of which have nothing to do with Cilium. A document that cannot be read becomes a note, and so does a file
/// that cannot, if it is about VTEPs.
#[must_use]
pub fn read_one_of_many(text: &Arc<Text>) -> Contents {
    let note = |error: &ManifestError| format!("{}: {}", text.file(), crate::types::error_chain::chain(error));
    match contents(text, Expected::Anything) {
        Ok((mut contents, error)) => {
            contents.notes.extend(error.iter().map(note));
            contents
        }
        Err(error) => {
            let is_about_vteps = text.content().contains("vtep");
            let notes = is_about_vteps.then(|| note(&error)).into_iter().collect();
            Contents { notes, ..Contents::default() }
        }
    }
}

/// Everything that is readable, and the first error of a document.
fn contents(text: &Arc<Text>, expected: Expected) -> Result<(Contents, Option<ManifestError>), ManifestError> {
    if text.content().len() > MAX_BYTES {
        return Err(ManifestError::TooLong(text.content().len()));
    }
    let mut contents = Contents::default();
    let is_tree = |node: &Node| node.text().is_none();
    let error = match node::parse(text) {
        Ok(documents) if documents.iter().all(|document| is_tree(&document.node)) => {
            add_all(&mut contents, &documents, expected)
        }
        parsed => match add_parts(&mut contents, text, expected) {
            None => match something_else(text.content()) {
                Some(error) => return Err(error),
                None => add_all(&mut contents, &parsed?, expected),
            },
            Some((unread, problem)) => {
                let is_about_vteps = unread && text.content().contains("vtep");
                problem.or(parsed.err().filter(|_| is_about_vteps))
            }
        },
    };
    Ok((contents, error))
}

/// What else is often at hand, and is no configuration of Cilium.
fn something_else(text: &str) -> Option<ManifestError> {
    let lines = || text.lines().map(str::trim_end);
    if lines().zip(lines().skip(1)).any(|pair| pair == ("Data", "====")) {
        return Some(ManifestError::Described);
    }
    let is_tmsh = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| matches!(*word, "tmsh" | "create" | "modify"));
        words.next() == Some("net") && matches!(words.next(), Some("tunnels" | "fdb" | "self" | "route" | "vlan"))
    };
    lines().any(is_tmsh).then_some(ManifestError::BigIp)
}

/// Adds the documents; returns the first error.
fn add_all(contents: &mut Contents, documents: &[Document], expected: Expected) -> Option<ManifestError> {
    let mut errors = documents.iter().filter_map(|document| contents.add(document, expected).err());
    let first = errors.next();
    errors.for_each(drop);
    first
}

/// Reads the parts between lines `---` one by one, because some are no YAML. Returns whether one could not be read, and the first error about
/// an object. `None` if the user gave the input and this finds not all of it.
fn add_parts(contents: &mut Contents, text: &Arc<Text>, expected: Expected) -> Option<(bool, Option<ManifestError>)> {
    let (mut found, mut error) = (Contents::default(), None);
    let (mut is_known, mut unread) = (false, false);
    for (base, part) in parts(text.content()) {
        let commands = if command::is(part) { command::read(text, base, part) } else { Vec::new() };
        let listed = running::of_lines(text, base, part).or_else(|| listing::read(text, base, part));
        if !commands.is_empty() {
            found.configurations.extend(commands);
            is_known = true;
        } else if let Some(configuration) = listed {
            found.configurations.push(configuration);
            is_known = true;
        } else {
            match node::parse_part(text, base, part) {
                Ok(documents) if documents.iter().all(|document| document.node.text().is_none()) => {
                    let problem = add_all(&mut found, &documents, expected);
                    error = error.or(problem);
                }
                Ok(_) | Err(_) => unread = true,
            }
        }
    }
    if expected == Expected::Configuration && (unread || !is_known) {
        return None;
    }
    contents.append(found);
    Some((unread, error))
}

/// The parts of a text between lines `---`, with the byte at which each begins.
fn parts(text: &str) -> Vec<(usize, &str)> {
    let (mut parts, mut begin, mut at) = (Vec::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        let is_separator = line.strip_prefix("---").is_some_and(|rest| rest.trim().is_empty() || rest.starts_with(' '));
        if is_separator {
            parts.extend(text.get(begin..at).map(|part| (begin, part)));
            begin = at + 3;
        }
        at += line.len();
    }
    parts.extend(text.get(begin..).map(|part| (begin, part)));
    parts.retain(|(_, part)| !part.trim().is_empty());
    parts
}
