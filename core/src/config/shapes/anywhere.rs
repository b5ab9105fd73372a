//! Cilium's values in an object of any other kind: a map with a `vtep` block, text that holds one, or a command in a job's script.

use super::{Contents, Expected, Shape, chart, command, release, values};
use crate::config::manifest::{node::Value, part::Part};

const MAX_DEPTH: usize = 16;

impl Contents {
    /// Searches an object for values; `false` if it has none.
    pub(super) fn add_anywhere(&mut self, part: &Part<'_>) -> bool {
        let before = self.configurations.len();
        self.search(part, part, MAX_DEPTH);
        self.configurations.len() > before
    }

    fn search(&mut self, object: &Part<'_>, part: &Part<'_>, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else { return };
        match &part.node.value {
            Value::Map(_) if is_values(part) => {
                let mut configuration = chart::configuration(Shape::HelmValues, vec![part.clone().into()]);
                configuration.identify(object);
                self.configurations.push(configuration);
            }
            Value::Map(_) => part.entries().for_each(|(_, inner)| self.search(object, &inner, depth)),
            Value::List(_) => part.items().for_each(|inner| self.search(object, &inner, depth)),
            Value::Text(text) if text.contains("vtep") => self.search_text(object, part, text),
            Value::Text(_) | Value::Bare(_, _) | Value::Null => {}
        }
    }

    fn search_text(&mut self, object: &Part<'_>, part: &Part<'_>, text: &str) {
        if command::is(text) {
            self.configurations.extend(command::of_part(part));
            return;
        }
        for layer in release::nested(part).unwrap_or_default() {
            let layer = layer.narrowed();
            if layer.is_of_cilium() {
                let mut configuration = chart::configuration(Shape::HelmValues, vec![layer]);
                configuration.identify(object);
                self.configurations.push(configuration);
            }
        }
        for document in part.nested().and_then(Result::ok).unwrap_or_default() {
            if document.node.get("kind").is_some() {
                // An object inside of an object, as in a list of manifests. One that cannot be read has no values to check.
                let _ = self.add_part(&Part::of(&document, &part.path), Expected::Anything);
            }
        }
    }
}

/// A `vtep` block decides: other values may belong to another chart.
fn is_values(part: &Part<'_>) -> bool {
    part.get("vtep").is_some() && values::find(part).is_some_and(|found| found.path == part.path)
}
