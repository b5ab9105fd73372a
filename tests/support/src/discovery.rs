//! Discovery: the paths by which clients learn which resources the server has.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::resource::{Resource, Served};

/// The answer to a path that is not a resource; `None` if the real server has no such page.
pub(crate) fn answer(path: &str, served: Served) -> Option<Value> {
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.as_slice() {
        ["version"] => Some(version()),
        ["api"] => Some(json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })),
        ["api", version] => resources("", version, served),
        ["apis"] => {
            let groups: Vec<_> = GROUPS.iter().filter_map(|group| describe(group, served)).collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        ["apis", group] => {
            let mut described = describe(group, served)?;
            described["kind"] = json!("APIGroup");
            described["apiVersion"] = json!("v1");
            Some(described)
        }
        ["apis", group, version] => resources(group, version, served),
        _ => None,
    }
}

const GROUPS: [&str; 3] = ["discovery.k8s.io", "events.k8s.io", "cilium.io"];

fn describe(group: &str, served: Served) -> Option<Value> {
    let of_group = Resource::ALL.into_iter().filter(|resource| resource.group() == group && !group.is_empty());
    // In the order of preference, which for these names is that of the alphabet.
    let versions: BTreeSet<_> = of_group.flat_map(|resource| resource.versions(served)).collect();
    let versions: Vec<_> = versions
        .into_iter()
        .map(|version| json!({ "groupVersion": format!("{group}/{version}"), "version": version }))
        .collect();
    let preferred = versions.first()?.clone();
    Some(json!({ "name": group, "versions": versions, "preferredVersion": preferred }))
}

fn resources(group: &str, version: &str, served: Served) -> Option<Value> {
    let served: Vec<_> = Resource::ALL
        .into_iter()
        .filter(|resource| resource.group() == group && resource.versions(served).contains(&version))
        .collect();
    let group_version = served.first()?.api_version(version);
    let mut listed: Vec<_> = served.iter().map(|resource| describe_resource(*resource)).collect();
    if served.contains(&Resource::Nodes) {
        let verbs = ["get", "patch", "update"];
        listed.push(
            json!({ "name": "nodes/status", "singularName": "", "namespaced": false, "kind": "Node", "verbs": verbs }),
        );
    }
    Some(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed }))
}

fn describe_resource(resource: Resource) -> Value {
    json!({
        "name": resource.plural(), "singularName": resource.kind().to_lowercase(),
        "namespaced": resource.namespaced(), "kind": resource.kind(),
        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
    })
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": "v1.33.0", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2025-04-23T00:00:00Z", "goVersion": "go1.24.2", "compiler": "gc", "platform": "linux/amd64",
    })
}
