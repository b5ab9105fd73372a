//! Custom resources that hold VTEPs, with the places of their fields.

use std::sync::Arc;

use crate::config::{
    finding::Finding,
    manifest::{
        node::{Document, Node},
        part::Part,
    },
    text::Place,
    vtep_config::{Kind, VtepConfig},
};

/// A custom resource of an input.
#[derive(Clone, Debug)]
pub struct VtepObject {
    /// As read, or why it cannot be.
    pub read: Result<VtepConfig, Box<Finding>>,
    /// Its name in the keys of findings, e.g. `CiliumVTEPConfig/hybrid-gateway`.
    name: String,
    document: Document,
    /// The path of the object in its document.
    path: String,
    pub file: Arc<str>,
}

/// `None` if the part is no such object.
pub(super) fn read(part: &Part<'_>) -> Option<VtepObject> {
    let kind = part.text_at("kind").and_then(Kind::of)?;
    let name = part.text_at("metadata.name").unwrap_or("without a name");
    let name = format!("{}/{name}", kind.name());
    let read = VtepConfig::read(kind, &part.node.clone().typed());
    let document = Document { text: Arc::clone(part.text), node: part.node.clone() };
    let file = Arc::clone(part.text.file());
    Some(VtepObject { read, name, document, path: part.path.clone(), file })
}

impl VtepObject {
    /// Where the field is that a finding's key names, e.g. `CiliumVTEPConfig/hybrid-gateway spec.endpoints[0].cidr`. If the object lacks
    /// the field, the place is what should hold it.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Option<Place> {
        let path = key.strip_prefix(&self.name)?.strip_prefix(' ')?;
        let mut part = Part::of(&self.document, &self.path);
        let mut steps = path.split(['.', '[', ']']).filter(|step| !step.is_empty()).peekable();
        while let Some(next) = steps.peek().and_then(|step| field(&part, step)) {
            part = next;
            steps.next();
        }
        let name = |place: Place| place.named(key);
        Some(name(match (steps.next(), part.node.text()) {
            (None, Some(value)) => part.place(value),
            (None, None) => part.lacking(""),
            (Some(_), _) => Place::anchored(part.text, join(&self.path, path), part.node.key.or(part.node.at)),
        }))
    }
}

fn join(object: &str, path: &str) -> String {
    if object.is_empty() { path.to_owned() } else { format!("{object}.{path}") }
}

/// A field of a map, or an element of a list by its index or its name.
fn field<'d>(part: &Part<'d>, step: &str) -> Option<Part<'d>> {
    let is_named =
        |item: &Part<'d>| ["name", "type"].iter().any(|key| item.node.get(key).and_then(Node::text) == Some(step));
    part.get(step).or_else(|| match step.parse::<usize>() {
        Ok(index) => part.items().nth(index),
        Err(_) => part.items().find(is_named),
    })
}
