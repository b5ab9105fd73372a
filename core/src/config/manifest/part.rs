//! A part of a document with its path, for the code that knows the shapes.

use std::sync::Arc;

use super::{
    ManifestError,
    node::{self, Document, Node, Value},
};
use crate::config::text::{Place, Text};

/// Documents inside of documents inside of documents: no shape has more.
const MAX_NESTED: usize = 4;

/// A node of a document.
#[derive(Clone, Debug)]
pub(in crate::config) struct Part<'d> {
    pub(in crate::config) text: &'d Arc<Text>,
    pub(in crate::config) node: &'d Node,
    pub(in crate::config) path: String,
}

impl<'d> Part<'d> {
    /// The root of a document that is reached by this path.
    pub(in crate::config) fn of(document: &'d Document, path: &str) -> Self {
        Self { text: &document.text, node: &document.node, path: path.to_owned() }
    }

    /// The value of a key.
    pub(in crate::config) fn get(&self, key: &str) -> Option<Self> {
        self.node.get(key).map(|node| Self { text: self.text, node, path: join(&self.path, key) })
    }

    /// The value that a path of keys leads to, e.g. `spec.values`.
    pub(in crate::config) fn at(&self, path: &str) -> Option<Self> {
        path.split('.').try_fold(self.clone(), |part, key| part.get(key))
    }

    /// The text of a scalar that a path of keys leads to.
    pub(in crate::config) fn text_at(&self, path: &str) -> Option<&'d str> {
        self.at(path).and_then(|part| part.node.text())
    }

    /// The elements of a list; none if it is not one.
    pub(in crate::config) fn items(&self) -> impl Iterator<Item = Self> + use<'d> {
        let (text, path) = (self.text, self.path.clone());
        let items = self.node.list().unwrap_or_default().iter().enumerate();
        items.map(move |(index, node)| Self { text, node, path: format!("{path}[{index}]") })
    }

    /// The values of a map with their keys; none if it is not one.
    pub(in crate::config) fn entries(&self) -> impl Iterator<Item = (&'d str, Self)> + use<'d> {
        let (text, path) = (self.text, self.path.clone());
        let entries = self.node.map().into_iter().flatten();
        entries.map(move |(key, node)| (key.as_str(), Self { text, node, path: join(&path, key) }))
    }

    /// The documents that the text of a scalar holds; `None` if it is no text, or nested too deeply.
    pub(in crate::config) fn nested(&self) -> Option<Result<Vec<Document>, ManifestError>> {
        let Value::Text(content) = &self.node.value else { return None };
        let at = self.node.at?;
        (self.text.depth() < MAX_NESTED).then(|| node::parse(&Text::nested(self.text, at, content)))
    }

    /// The place of this value, which is `value` for Cilium.
    pub(in crate::config) fn place(&self, value: &str) -> Place {
        let path = self.path.clone();
        match self.node.at {
            Some(at) if self.node.text().is_some() && at.start < at.end => Place::of_scalar(self.text, path, at, value),
            Some(_) | None => Place::of_key(self.text, path, self.node.key.or(self.node.at)),
        }
    }

    /// The place of a key that this map does not have.
    pub(in crate::config) fn lacking(&self, path: &str) -> Place {
        Place::anchored(self.text, join_path(&self.path, path), self.node.key.or(self.node.at))
    }
}

/// The path of a key in a map: keys that are no plain words are quoted.
pub(in crate::config) fn join(path: &str, key: &str) -> String {
    let is_plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
    if is_plain { join_path(path, key) } else { format!("{path}[{key:?}]") }
}

fn join_path(path: &str, more: &str) -> String {
    match (path, more) {
        ("", more) => more.to_owned(),
        (path, "") => path.to_owned(),
        (path, more) => format!("{path}.{more}"),
    }
}
