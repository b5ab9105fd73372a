//! kustomize: generated ConfigMaps, inflated charts and inline patches.

use super::{
    Configuration, Contents, Expected, Root, Setting, Shape, chart, is_vtep_key, release::is_cilium, values::Layer,
};
use crate::config::{
    manifest::{ManifestError, NAME, part::Part},
    text::{Place, count},
};

const FIELDS: [&str; 4] = ["configMapGenerator", "helmCharts", "patches", "patchesStrategicMerge"];

pub(super) fn is(part: &Part<'_>) -> bool {
    FIELDS.iter().any(|field| part.get(field).is_some_and(|list| list.node.list().is_some()))
}

impl Contents {
    pub(super) fn add_kustomization(&mut self, part: &Part<'_>, expected: Expected) -> Result<(), ManifestError> {
        let before = self.configurations.len();
        let items = |field: &str| part.get(field).iter().flat_map(Part::items).collect::<Vec<_>>();
        self.configurations.extend(items("configMapGenerator").iter().filter_map(generated));
        for item in items("helmCharts") {
            let layers: Vec<Layer> =
                item.get("valuesInline").map(|part| Layer::from(part).narrowed()).into_iter().collect();
            let is_of_cilium = item.text_at("name").is_some_and(is_cilium);
            if layers.iter().any(|layer| is_of_cilium || layer.is_of_cilium()) {
                let mut configuration = chart::configuration(Shape::Kustomization, layers);
                configuration.name = item.text_at("releaseName").or(item.text_at("name")).map(str::to_owned);
                configuration.namespace = item.text_at("namespace").map(str::to_owned);
                self.configurations.push(configuration);
            }
        }
        for patch in items("patches").iter().filter_map(|item| item.get("patch")).chain(items("patchesStrategicMerge"))
        {
            for document in patch.nested().transpose()?.unwrap_or_default() {
                self.add_part(&Part::of(&document, &patch.path), Expected::Anything)?;
            }
        }
        if self.configurations.len() == before && expected == Expected::Configuration {
            self.others.push("Kustomization".to_owned());
        }
        Ok(())
    }
}

impl Contents {
    /// JSON patches (RFC 6902) of a `cilium-config`, in a file of their own or in a kustomization; `false` if it is none.
    pub(super) fn add_operations(&mut self, part: &Part<'_>) -> bool {
        let mut configuration =
            Configuration::new(Shape::Kustomization, Root { place: part.lacking(""), is_chart: false });
        for operation in part.items() {
            let sets = matches!(operation.text_at("op"), Some("add" | "replace"));
            let key = operation.text_at("path").and_then(|path| path.strip_prefix("/data/")).filter(|_| sets);
            let (Some(key), Some(value)) = (key, operation.get("value")) else { continue };
            let Some(text) = value.node.text() else { continue };
            let place = value.place(text).named(key);
            configuration.settings.insert(key.to_owned(), Setting { value: text.to_owned(), place, is_default: false });
        }
        let is_about_vteps = configuration.has_vteps();
        self.configurations.extend(Some(configuration).filter(|_| is_about_vteps));
        is_about_vteps
    }
}

/// A ConfigMap of literals.
fn generated(part: &Part<'_>) -> Option<Configuration> {
    let literals = part.get("literals")?;
    let root = Root { place: literals.lacking(""), is_chart: false };
    let mut configuration = Configuration::new(Shape::Kustomization, root);
    configuration.name = part.text_at("name").map(str::to_owned);
    configuration.namespace = part.text_at("namespace").map(str::to_owned);
    for item in literals.items() {
        let Some((key, value)) = item.node.text().and_then(|text| text.split_once('=')) else { continue };
        // kustomize removes a pair of quotes.
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        let start = item.node.text()?.find('=')? + 1;
        let before = item.node.text()?.get(..start)?;
        let units =
            count(before) + usize::from(item.node.text()?.get(start..)?.starts_with('"') && !value.starts_with('"'));
        let place = Place::anchored(item.text, item.path.clone(), item.node.at);
        let place = match item.node.at {
            Some(at) => place.with_piece(0..value.len(), at, units, ""),
            None => place,
        };
        configuration
            .settings
            .insert(key.trim().to_owned(), Setting { value: value.to_owned(), place, is_default: false });
    }
    let is_cilium =
        configuration.name.as_deref() == Some(NAME) || configuration.settings.keys().any(|key| is_vtep_key(key));
    is_cilium.then_some(configuration)
}
