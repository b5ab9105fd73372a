//! Which of the objects of several files belong together: each configuration with the objects that override it.
//!
//! A repository can hold several clusters. An object belongs to the configuration in its file, or else in the nearest directory.

use std::collections::{BTreeMap, BTreeSet};

use super::shapes::{Configuration, Contents, NodeConfigObject, Shape, VtepObject};

/// A configuration with what overrides it. Custom resources without a configuration are a group of their own.
#[derive(Debug, Default)]
pub struct Group {
    pub configuration: Option<Configuration>,
    pub node_configs: Vec<NodeConfigObject>,
    pub vtep_configs: Vec<VtepObject>,
}

/// Groups what the files hold. `namespace` is Cilium's, if the user gave one. The second value is one sentence for each object that belongs
/// to none.
#[must_use]
pub fn groups(contents: Contents, namespace: Option<&str>) -> (Vec<Group>, Vec<String>) {
    let Contents { configurations, node_configs, vtep_configs, .. } = contents;
    let mut notes = Vec::new();
    let mut groups: Vec<_> = configurations
        .into_iter()
        .map(|configuration| Group { configuration: Some(configuration), ..Group::default() })
        .collect();
    for object in node_configs {
        let candidates = indices(&groups, |configuration| is_beside(&object, configuration, namespace));
        let (name, file, is_only) = (&object.config.name, &object.file, groups.len() == 1);
        match nearest(&groups, &candidates, file).and_then(|index| groups.get_mut(index)) {
            Some(group) => group.node_configs.push(object),
            // The objects of another namespace are those of another Cilium.
            None if candidates.is_empty() && is_only => {}
            None => {
                let reason = match candidates.is_empty() {
                    true => "there is no cilium-config for it",
                    false => "it is not clear to which configuration it belongs",
                };
                notes.push(format!("CiliumNodeConfig {name} in {file} is not applied: {reason}"));
            }
        }
    }
    let alone = attach(&mut groups, vtep_configs);
    groups.extend(alone);
    (groups, notes)
}

/// Adds custom resources to the configurations that they belong to. Returns groups of those that belong to none, one for each directory.
fn attach(groups: &mut [Group], objects: Vec<VtepObject>) -> Vec<Group> {
    let directories: BTreeSet<_> = objects.iter().map(|object| directory(&object.file).to_owned()).collect();
    let mut alone: BTreeMap<String, Group> = BTreeMap::new();
    let all = indices(groups, |_| true);
    // The only configuration may be the base of several clusters, whose objects would contradict each other.
    let is_base = |group: &Group, file: &str| {
        let own = group.configuration.as_ref().map(Configuration::file);
        all.len() == 1 && directories.len() > 1 && !own.is_some_and(|own| are_related(own, file))
    };
    for object in objects {
        let nearest = nearest(groups, &all, &object.file).and_then(|index| groups.get_mut(index));
        match nearest.filter(|group| !is_base(group, &object.file)) {
            Some(group) => group.vtep_configs.push(object),
            None => alone.entry(directory(&object.file).to_owned()).or_default().vtep_configs.push(object),
        }
    }
    alone.into_values().collect()
}

fn indices(groups: &[Group], matches: impl Fn(&Configuration) -> bool) -> Vec<usize> {
    let matching = groups.iter().enumerate().filter(|(_, group)| group.configuration.as_ref().is_some_and(&matches));
    matching.map(|(index, _)| index).collect()
}

/// A manifest without a namespace gets one only when it is applied, so it may belong to this ConfigMap.
fn is_beside(object: &NodeConfigObject, configuration: &Configuration, namespace: Option<&str>) -> bool {
    // The namespace of a release is not always the one that it installs into.
    let own = configuration.namespace.as_deref().filter(|_| configuration.shape == Shape::ConfigMap);
    let namespace = own.or(namespace);
    let of = object.namespace.as_deref();
    of.is_none() || namespace.is_none() || of == namespace
}

/// The candidate that is nearest to the file; `None` if several are equally near.
fn nearest(groups: &[Group], candidates: &[usize], file: &str) -> Option<usize> {
    let near = |index: usize| {
        let configuration = groups.get(index).and_then(|group| group.configuration.as_ref());
        configuration.map_or(0, |configuration| common(configuration.file(), file))
    };
    let most = candidates.iter().map(|index| near(*index)).max()?;
    let mut nearest = candidates.iter().copied().filter(|index| near(*index) == most);
    nearest.next().filter(|_| nearest.next().is_none())
}

/// How many names at the beginning of two paths are equal.
fn common(a: &str, b: &str) -> usize {
    a.split('/').zip(b.split('/')).take_while(|(a, b)| a == b).count()
}

/// The directory of one file contains the other.
fn are_related(a: &str, b: &str) -> bool {
    let contains = |directory: &str, file: &str| directory.is_empty() || file.starts_with(&format!("{directory}/"));
    contains(directory(a), b) || contains(directory(b), a)
}

fn directory(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(directory, _)| directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{manifest::read_one_of_many, text::Text};

    const VALUES: &str = "vtep: {enabled: true}\n";
    const NODE: &str = "kind: CiliumNodeConfig\nmetadata: {name: n}\nspec: {defaults: {a: b}}\n";
    const VTEP: &str = "kind: CiliumVTEPConfig\nmetadata: {name: v}\nspec: {endpoints: []}\n";

    /// The files of each group: configuration, node configs, custom resources.
    fn grouped(files: &[(&str, &str)]) -> (Vec<String>, usize) {
        let mut contents = Contents::default();
        for (file, text) in files {
            contents.append(read_one_of_many(&Text::of_file(file, *text)));
        }
        let (groups, notes) = groups(contents, None);
        let shown = |group: &Group| {
            let own = group.configuration.as_ref().map_or("-".to_owned(), |found| found.file().to_string());
            let more = group.node_configs.iter().map(|object| object.file.to_string());
            let more: Vec<_> = more.chain(group.vtep_configs.iter().map(|object| object.file.to_string())).collect();
            format!("{own}: {}", more.join(" "))
        };
        (groups.iter().map(shown).collect(), notes.len())
    }

    #[test]
    fn objects_belong_to_the_nearest_configuration() {
        let clusters = [("c/a/v.yaml", VALUES), ("c/b/v.yaml", VALUES)];
        let with = |more: &[(&'static str, &'static str)]| grouped(&[&clusters[..], more].concat());
        assert_eq!(
            with(&[("c/a/x/n.yaml", NODE)]),
            (vec!["c/a/v.yaml: c/a/x/n.yaml".into(), "c/b/v.yaml: ".into()], 0)
        );
        assert_eq!(with(&[("c/n.yaml", NODE)]).1, 1, "it is not clear");
        let (groups, notes) = with(&[("c/b/t.yaml", VTEP), ("c/d/t.yaml", VTEP)]);
        assert_eq!(groups, ["c/a/v.yaml: ", "c/b/v.yaml: c/b/t.yaml", "-: c/d/t.yaml"]);
        assert_eq!(notes, 0);
        let one = [("base/v.yaml", VALUES), ("a/t.yaml", VTEP), ("b/t.yaml", VTEP)];
        assert_eq!(grouped(&one).0, ["base/v.yaml: ", "-: a/t.yaml", "-: b/t.yaml"], "two clusters");
        assert_eq!(grouped(&one[..2]).0, ["base/v.yaml: a/t.yaml"]);
        assert_eq!(grouped(&[("n.yaml", NODE)]), (vec![], 1));
    }
}
