//! Which of the objects of several files belong together: each configuration with the objects that override it.
//!
//! A repository can hold several clusters. An object belongs to the configuration in its file, or else in the nearest directory.

use std::collections::BTreeMap;

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
        let is_beside = |configuration: &Configuration| is_beside(&object, configuration, namespace);
        let candidates: Vec<_> = indices(&groups, is_beside);
        let nearest = nearest(&groups, &candidates, &object.file);
        let name = &object.config.name;
        if nearest.is_empty() && !(candidates.is_empty() && groups.len() == 1) {
            let reason = if groups.is_empty() {
                "there is no cilium-config beside it"
            } else {
                "it is not clear to which configuration it belongs"
            };
            notes.push(format!("CiliumNodeConfig {name} in {} is not applied: {reason}", object.file));
        }
        for index in nearest {
            groups.extend_at(index, |group| group.node_configs.push(object.clone()));
        }
    }
    let alone = attach(&mut groups, vtep_configs);
    groups.extend(alone);
    (groups, notes)
}

/// Adds custom resources to the configurations that they belong to. Returns groups of those that belong to none, one for each directory.
fn attach(groups: &mut Vec<Group>, objects: Vec<VtepObject>) -> Vec<Group> {
    let directories: std::collections::BTreeSet<_> = objects.iter().map(|object| directory(&object.file)).collect();
    let in_one = directories.len() == 1;
    let mut alone: BTreeMap<String, Group> = BTreeMap::new();
    let all = indices(groups, |_| true);
    for object in objects {
        let mut nearest = nearest(groups, &all, &object.file);
        if let [only] = nearest.as_slice() {
            let file = groups.get(*only).and_then(|group| group.configuration.as_ref()).map(|found| found.file());
            // The only configuration may be the base of several clusters, whose objects would contradict each other.
            if !in_one && !file.is_some_and(|file| are_related(file, &object.file)) {
                nearest.clear();
            }
        }
        if nearest.is_empty() {
            alone.entry(directory(&object.file).to_owned()).or_default().vtep_configs.push(object);
        } else {
            for index in nearest {
                groups.extend_at(index, |group| group.vtep_configs.push(object.clone()));
            }
        }
    }
    alone.into_values().collect()
}

trait ExtendAt {
    fn extend_at(&mut self, index: usize, change: impl FnOnce(&mut Group));
}

impl ExtendAt for Vec<Group> {
    fn extend_at(&mut self, index: usize, change: impl FnOnce(&mut Group)) {
        if let Some(group) = self.get_mut(index) {
            change(group);
        }
    }
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

/// Of the candidates those that are nearest to the file; none if several in different directories are equally near.
fn nearest(groups: &[Group], candidates: &[usize], file: &str) -> Vec<usize> {
    let near = |index: usize| {
        let configuration = groups.get(index).and_then(|group| group.configuration.as_ref());
        configuration.map_or(0, |configuration| common(configuration.file(), file))
    };
    let most = candidates.iter().map(|index| near(*index)).max().unwrap_or(0);
    let nearest: Vec<_> = candidates.iter().copied().filter(|index| near(*index) == most).collect();
    let of = |index: &usize| {
        groups
            .get(*index)
            .and_then(|group| group.configuration.as_ref())
            .map(|found| directory(found.file()).to_owned())
    };
    let is_one_directory = nearest.iter().map(of).collect::<std::collections::BTreeSet<_>>().len() == 1;
    if is_one_directory { nearest } else { Vec::new() }
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
