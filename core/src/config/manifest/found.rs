//! The choice of the right ConfigMap in one input.

use super::{DEFAULT_NAMESPACE, ManifestError, NAME};
use crate::config::shapes::{Configuration, Contents};

impl Contents {
    /// Adds the contents of another input.
    pub fn append(&mut self, other: Self) {
        let Self { configurations, node_configs, vtep_configs, others, notes } = other;
        self.configurations.extend(configurations);
        self.node_configs.extend(node_configs);
        self.vtep_configs.extend(vtep_configs);
        self.others.extend(others);
        self.notes.extend(notes);
    }

    /// Keeps of several ConfigMaps the one named `cilium-config` (in Cilium's namespace, if several have that name), or else the only
    /// ConfigMap, or else the only one with VTEP keys. Configurations in other shapes remain.
    pub(super) fn choose(&mut self, namespace: Option<&str>) -> Result<(), ManifestError> {
        let (mut candidates, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.configurations).into_iter().partition(|found| found.shape.is_config_map());
        self.configurations = others;
        if !self.configurations.is_empty() {
            candidates.retain(|found| is_named(found) || found.has_vteps());
        }
        if candidates.is_empty() && self.configurations.is_empty() && self.vtep_configs.is_empty() {
            let node_configs =
                self.node_configs.iter().map(|object| format!("CiliumNodeConfig {}", object.config.name));
            let found: Vec<_> = node_configs.chain(std::mem::take(&mut self.others)).collect();
            let has_keys =
                found.iter().any(|other| ["ConfigMap ", "a map of "].iter().any(|kind| other.starts_with(kind)));
            return Err(match found.is_empty() {
                true => ManifestError::Empty,
                false if has_keys => ManifestError::OtherKeys { found },
                false => ManifestError::NoConfigMap { found },
            });
        }
        if !candidates.is_empty() {
            let others: Vec<_> = candidates.iter().filter(|found| is_named(found)).map(shown).collect();
            let chosen = candidate(candidates, namespace)?;
            let left = others.into_iter().filter(|other| *other != shown(&chosen));
            self.notes.extend(left.map(|other| format!("{other} is not checked: give its namespace by --namespace")));
            self.configurations.insert(0, chosen);
        }
        Ok(())
    }
}

fn is_named(candidate: &Configuration) -> bool {
    candidate.name.as_deref() == Some(NAME)
}

fn candidate(mut candidates: Vec<Configuration>, namespace: Option<&str>) -> Result<Configuration, ManifestError> {
    if let Some(namespace) = namespace {
        let found = names(&candidates);
        candidates.retain(|Configuration { namespace: of, .. }| of.as_deref().is_none_or(|of| of == namespace));
        if candidates.is_empty() {
            return Err(ManifestError::OtherNamespace { namespace: namespace.to_owned(), found });
        }
    }
    let home = namespace.unwrap_or(DEFAULT_NAMESPACE);
    let is_home = |candidate: &Configuration| is_named(candidate) && candidate.namespace.as_deref() == Some(home);
    let chosen = only(&candidates, is_named)
        .or_else(|| only(&candidates, is_home))
        .or_else(|| only(&candidates, |_| true))
        .or_else(|| only(&candidates, Configuration::has_vteps).filter(|_| !candidates.iter().any(is_named)));
    match chosen {
        Some(index) => Ok(candidates.swap_remove(index)),
        None => Err(ambiguity(&candidates)),
    }
}

/// If several ConfigMaps are named `cilium-config`, each in a known namespace, a namespace makes the choice clear. Otherwise it is
/// ambiguous.
fn ambiguity(candidates: &[Configuration]) -> ManifestError {
    let named: Vec<_> = candidates.iter().filter(|candidate| is_named(candidate)).collect();
    if named.len() > 1 && named.iter().all(|candidate| candidate.namespace.is_some()) {
        ManifestError::Namespaces { found: named.into_iter().map(shown).collect() }
    } else {
        ManifestError::Ambiguous { found: names(candidates) }
    }
}

fn names(candidates: &[Configuration]) -> Vec<String> {
    candidates.iter().map(shown).collect()
}

fn shown(candidate: &Configuration) -> String {
    let name = candidate.name.as_deref().unwrap_or("one without a name");
    candidate.namespace.as_ref().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

/// The index of the only matching candidate.
fn only(candidates: &[Configuration], sort: impl Fn(&Configuration) -> bool) -> Option<usize> {
    let mut indices = (0..candidates.len()).filter(|&index| candidates.get(index).is_some_and(&sort));
    indices.next().filter(|_| indices.next().is_none())
}
