//! Kubernetes' objects, reduced to what matters here.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Node as NodeObject},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{ResourceExt, api::DynamicObject};
use serde::Deserialize;

use super::follow::Objects;
use crate::config::{
    Keys,
    document::{Labels, NodeConfig},
};

/// This node, as Kubernetes knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) labels: Labels,
    /// IPv4 only.
    pub(super) pod_cidrs: BTreeSet<Ipv4Net>,
    /// IPv4 only.
    pub(super) addresses: BTreeSet<Ipv4Addr>,
}

/// The keys of the ConfigMap; `None` where there is none.
#[expect(clippy::unnecessary_wraps, reason = "the others can fail")]
pub(super) fn keys(objects: &Objects<ConfigMap>) -> Result<Option<Keys>, String> {
    Ok(objects.values().next().map(|object| object.data.clone().unwrap_or_default()))
}

pub(super) fn node(objects: &Objects<NodeObject>) -> Result<Node, String> {
    let object = objects.values().next().ok_or("there is none: set --node-name to this node's name in Kubernetes")?;
    let spec = object.spec.as_ref();
    let pod_cidrs = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten();
    // Nodes of before Kubernetes 1.16 have but one.
    let pod_cidrs = pod_cidrs.chain(spec.and_then(|spec| spec.pod_cidr.as_ref()));
    let addresses = object.status.as_ref().and_then(|status| status.addresses.as_ref()).into_iter().flatten();
    Ok(Node {
        labels: object.labels().clone(),
        pod_cidrs: pod_cidrs.filter_map(|cidr| cidr.parse::<Ipv4Net>().ok()).map(|cidr| cidr.trunc()).collect(),
        addresses: addresses
            .filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"))
            .filter_map(|address| address.address.parse().ok())
            .collect(),
    })
}

/// `spec` of a `CiliumNodeConfig`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeConfigSpec {
    node_selector: Option<LabelSelector>,
    #[serde(default)]
    defaults: Keys,
}

/// One that cannot be read spoils all: which keys it sets for which nodes is not known.
pub(super) fn node_configs(objects: &Objects<DynamicObject>) -> Result<Vec<NodeConfig>, String> {
    objects.iter().map(|(name, object)| node_config(name, object)).collect()
}

fn node_config(name: &str, object: &DynamicObject) -> Result<NodeConfig, String> {
    let spec = object.data.get("spec").unwrap_or(&serde_json::Value::Null);
    let spec = NodeConfigSpec::deserialize(spec).map_err(|error| format!("cannot read {name:?}: {error}"))?;
    let selector = spec.node_selector.map(TryInto::try_into).transpose();
    let selector = selector.map_err(|error| format!("cannot read the nodeSelector of {name:?}: {error}"))?;
    Ok(NodeConfig { name: name.to_owned(), selector, defaults: spec.defaults })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node_of(object: Value) -> Node {
        let object = serde_json::from_value(object).expect("a Node");
        node(&[(String::new(), object)].into()).expect("a node")
    }

    #[test]
    fn a_node_is_its_labels_and_its_ipv4() {
        let read = node_of(json!({
            "metadata": { "name": "worker-1", "labels": { "zone": "dmz" } },
            "spec": { "podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24", "fd00:1::/64"] },
            "status": { "addresses": [
                { "type": "InternalIP", "address": "10.169.72.239" },
                { "type": "InternalIP", "address": "fd00::239" },
                { "type": "Hostname", "address": "10.9.9.9" },
            ] },
        }));
        let expected = Node {
            labels: [("zone".to_owned(), "dmz".to_owned())].into(),
            pod_cidrs: ["10.0.1.0/24".parse().expect("a network")].into(),
            addresses: [[10, 169, 72, 239].into()].into(),
        };
        assert_eq!(read, expected);
        assert_eq!(node_of(json!({ "metadata": { "name": "bare" } })), Node::default());
    }

    #[test]
    fn a_node_config_of_the_wrong_shape_is_named() {
        let read = |spec: Value| {
            let object = json!({ "metadata": { "name": "dmz" }, "spec": spec });
            let object = serde_json::from_value(object).expect("an object");
            node_configs(&[("dmz".to_owned(), object)].into())
        };
        let config = read(json!({ "nodeSelector": {}, "defaults": { "vtep-mask": "255.255.0.0" } })).expect("a config");
        assert_eq!(config[0].defaults.get("vtep-mask").map(String::as_str), Some("255.255.0.0"));
        assert!(read(json!({})).expect("a config")[0].selector.is_none());
        let operator = json!({ "nodeSelector": { "matchExpressions": [{ "key": "a", "operator": "Near" }] } });
        for (spec, word) in
            [(json!(["x"]), "dmz"), (json!({ "defaults": { "a": 1 } }), "dmz"), (operator, "nodeSelector")]
        {
            let error = read(spec.clone()).expect_err("the wrong shape");
            assert!(error.contains(word), "{spec}: {error}");
        }
    }
}
