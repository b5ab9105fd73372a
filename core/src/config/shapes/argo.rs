//! Argo CD's `Application` and `ApplicationSet`.

use super::{
    Contents, Shape, chart, command,
    release::{is_cilium, is_empty, nested},
    values::Layer,
};
use crate::config::manifest::{ManifestError, node::Node, part::Part};

impl Contents {
    pub(super) fn add_application(&mut self, part: &Part<'_>) -> Result<(), ManifestError> {
        let name = part.text_at("metadata.name").unwrap_or("without a name").to_owned();
        let spec = [part.at("spec.template.spec"), part.at("spec")];
        let spec = spec.into_iter().flatten().find(|spec| spec.get("source").or(spec.get("sources")).is_some());
        let before = self.configurations.len();
        let sources = spec.iter().flat_map(|spec| {
            spec.get("source").into_iter().chain(spec.get("sources").iter().flat_map(Part::items).collect::<Vec<_>>())
        });
        for source in sources.collect::<Vec<_>>() {
            self.add_source(part, &name, &source)?;
        }
        if self.configurations.len() == before {
            self.others.push(format!("{} {name}", part.text_at("kind").unwrap_or("Application")));
        }
        Ok(())
    }

    fn add_source(&mut self, part: &Part<'_>, name: &str, source: &Part<'_>) -> Result<(), ManifestError> {
        let Some(helm) = source.get("helm") else { return Ok(()) };
        // Argo CD gives parameters precedence over the object, and that over the text.
        let mut layers: Vec<Layer> = helm.get("parameters").map(|list| parameters(&list)).into_iter().collect();
        layers.extend(helm.get("valuesObject").map(Layer::from));
        layers.extend(helm.get("values").map(|text| nested(&text)).transpose()?.into_iter().flatten());
        let layers: Vec<_> = layers.into_iter().map(Layer::narrowed).collect();
        let is_of_cilium = source.text_at("chart").is_some_and(is_cilium) && !layers.is_empty();
        if !is_of_cilium && !layers.iter().any(Layer::is_of_cilium) {
            return Ok(());
        }
        let mut configuration = chart::configuration(Shape::ArgoApplication, layers);
        configuration.identify(part);
        for field in ["valueFiles", "fileParameters"] {
            if helm.get(field).is_some_and(|list| !is_empty(list.node)) {
                // The values of an Application take precedence over its files, and file parameters over its values.
                let effect = if field == "valueFiles" { "add to these" } else { "override these" };
                configuration
                    .notes
                    .push(format!("{name} also takes values from {}.{field}, which may {effect}", helm.path));
            }
        }
        self.configurations.push(configuration);
        Ok(())
    }
}

/// `parameters` are like `--set`: a path and a text each, of which Helm makes a boolean or a number.
fn parameters(list: &Part<'_>) -> Layer {
    let mut layer = Layer::of_assignments(list.text, list.node.key.or(list.node.at));
    for item in list.items() {
        if let (Some(name), Some(value)) = (item.text_at("name"), item.get("value")) {
            let is_text = item.text_at("forceString").is_some_and(|force| force == "true");
            let typed = value.node.text().filter(|_| !is_text).map(command::typed);
            let node = Node { value: typed.unwrap_or_else(|| value.node.value.clone()), ..value.node.clone() };
            layer.set(name, node, Some(&value.path));
        }
    }
    layer
}
