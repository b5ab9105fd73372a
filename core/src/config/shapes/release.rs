//! Objects that install a chart with values: Flux, RKE2 and k3s, OpenShift.

use super::{Contents, Shape, chart, values::Layer};
use crate::config::manifest::{ManifestError, node::Node, part::Part};

/// How a kind of object holds values.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    shape: Shape,
    /// Maps of values, those that take precedence first.
    maps: &'static [&'static str],
    /// Text that holds values.
    texts: &'static [&'static str],
    /// References to values that are elsewhere.
    elsewhere: &'static [&'static str],
    /// The fields that may name the chart.
    charts: &'static [&'static str],
}

pub(super) const FLUX: Kind = Kind {
    shape: Shape::HelmRelease,
    maps: &["spec.values"],
    texts: &[],
    elsewhere: &["spec.valuesFrom", "spec.valuesFileSecrets", "spec.chart.spec.valuesFiles"],
    charts: &["spec.chart.spec.chart", "spec.chart.name", "spec.chartRef.name"],
};

/// `HelmChart` has `set` in addition.
pub(super) const RKE2: Kind = Kind {
    shape: Shape::HelmChartConfig,
    maps: &["spec.set"],
    texts: &["spec.valuesContent"],
    elsewhere: &["spec.valuesSecrets"],
    charts: &["spec.chart", "metadata.name"],
};

pub(super) const OPENSHIFT: Kind =
    Kind { shape: Shape::CiliumConfig, maps: &["spec"], texts: &[], elsewhere: &[], charts: &["kind"] };

impl Contents {
    pub(super) fn add_release(&mut self, part: &Part<'_>, kind: Kind) -> Result<(), ManifestError> {
        let Kind { shape, maps, texts, elsewhere, charts } = kind;
        let mut layers: Vec<Layer> = maps.iter().filter_map(|path| Some(part.at(path)?.into())).collect();
        for text in texts.iter().filter_map(|path| part.at(path)) {
            layers.extend(nested(&text)?);
        }
        let (layers, texts): (Vec<_>, Vec<_>) = layers.into_iter().partition(Layer::is_map);
        if !texts.is_empty() {
            let name = part.text_at("metadata.name").unwrap_or("an object");
            self.notes.push(format!("{name} in {}: its values are a template, so they are unknown", part.text.file()));
        }
        let is_cilium = charts.iter().filter_map(|path| part.text_at(path)).any(is_cilium);
        let layers: Vec<_> = layers.into_iter().map(Layer::narrowed).collect();
        let known = layers.iter().any(Layer::is_of_cilium);
        let name = part.text_at("metadata.name").unwrap_or("without a name");
        if !known && (!is_cilium || layers.is_empty()) {
            self.others.push(format!("{} {name}", part.text_at("kind").unwrap_or("object")));
            return Ok(());
        }
        let mut configuration = chart::configuration(shape, layers);
        configuration.identify(part);
        for path in elsewhere.iter().filter(|path| part.at(path).is_some_and(|part| !is_empty(part.node))) {
            configuration.notes.push(format!("{name} also takes values from {path}, which may override these"));
        }
        self.configurations.push(configuration);
        Ok(())
    }
}

/// The values that the text of a scalar holds.
pub(super) fn nested(part: &Part<'_>) -> Result<Vec<Layer>, ManifestError> {
    let documents = part.nested().transpose()?.unwrap_or_default();
    let maps = documents.iter().filter(|document| document.node.map().is_some());
    Ok(maps.map(|document| Part::of(document, &part.path).into()).collect())
}

pub(super) fn is_empty(node: &Node) -> bool {
    node.list().is_some_and(<[Node]>::is_empty)
}

/// Whether a chart or a release is Cilium's, by its name: `cilium`, `rke2-cilium`, `CiliumConfig`.
pub(super) fn is_cilium(name: &str) -> bool {
    let name = name.to_lowercase();
    let name = name.rsplit('/').next().unwrap_or_default();
    matches!(name, "cilium" | "rke2-cilium" | "ciliumconfig")
}
