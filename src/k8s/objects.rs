//! Converts Kubernetes objects into the core's values, and drops all other fields.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Instant};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap as ConfigMapObject, Node as NodeObject},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry},
};
use kube::{ResourceExt, api::DynamicObject};
use serde::Deserialize;
use vtep_core::config::{
    Keys,
    cached::Unknown,
    document::NodeConfig,
    list_record::LIST_KEYS,
    merge::{CiliumNode, ConfigMap, Delivered, Node},
    selector::Selector,
    vtep_config::{Kind, VtepConfig},
};

use super::watch::Objects;

/// The ConfigMap; `None` if it does not exist.
#[expect(clippy::unnecessary_wraps, reason = "the others can fail")]
pub(super) fn configmap(objects: &Objects<ConfigMapObject>) -> Result<Option<ConfigMap>, Unknown> {
    let read = |object: &ConfigMapObject| ConfigMap {
        keys: object.data.clone().unwrap_or_default(),
        lists_changed: lists_changed(object),
    };
    Ok(objects.values().next().map(read))
}

/// The time after which no list changed. The API server records who owns a key and when that owner last changed one of its keys. `None` if
/// it does not for each list: a list that somebody removed leaves no trace.
fn lists_changed(object: &ConfigMapObject) -> Option<Timestamp> {
    let entries = object.metadata.managed_fields.as_ref()?;
    let owns = |entry: &&ManagedFieldsEntry, key: &str| {
        let data = entry.fields_v1.as_ref().and_then(|FieldsV1(fields)| fields.get("f:data"));
        data.is_some_and(|data| data.get(format!("f:{key}")).is_some())
    };
    let of_key = |key: &&str| {
        let times = entries.iter().filter(|entry| owns(entry, key)).map(|entry| entry.time.as_ref().map(|time| time.0));
        // Without owners there is no sum, and neither with one whose time is not recorded.
        times.reduce(|a, b| Some(a?.max(b?))).flatten()
    };
    LIST_KEYS.iter().map(of_key).reduce(|a, b| Some(a?.max(b?))).flatten()
}

pub(super) fn node(objects: &Objects<NodeObject>) -> Result<Node, Unknown> {
    let none = || withheld("there is none: set --node-name to this node's name in Kubernetes");
    let object = objects.values().next().ok_or_else(none)?;
    let spec = object.spec.as_ref();
    let pod_cidrs = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten();
    // Kubernetes before 1.16 sets only the singular field.
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

/// The fields of a `CiliumNode`'s `spec` that the agent uses.
#[derive(Default, Deserialize)]
#[serde(default)]
struct CiliumNodeSpec {
    addresses: Vec<CiliumAddress>,
    ipam: Ipam,
}

#[derive(Deserialize)]
struct CiliumAddress {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    ip: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ipam {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
    pools: Pools,
}

/// The pod networks of multi-pool IPAM.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Pools {
    allocated: Vec<Pool>,
}

#[derive(Deserialize)]
struct Pool {
    #[serde(default)]
    cidrs: Vec<String>,
}

pub(super) fn cilium_node(objects: &Objects<DynamicObject>) -> Result<CiliumNode, Unknown> {
    let object = objects.values().next().ok_or_else(|| withheld("there is none"))?;
    let spec = object.data.get("spec").cloned().unwrap_or_else(|| serde_json::json!({}));
    let unreadable = |error| Unknown::Failed(format!("cannot read its spec: {error}"));
    let spec = CiliumNodeSpec::deserialize(spec).map_err(unreadable)?;
    let CiliumNodeSpec { addresses, ipam: Ipam { pod_cidrs, pools } } = spec;
    let pod_cidrs = pod_cidrs.iter().chain(pools.allocated.iter().flat_map(|pool| &pool.cidrs));
    Ok(CiliumNode {
        pod_cidrs: pod_cidrs.filter_map(|cidr| cidr.parse::<Ipv4Net>().ok()).map(|cidr| cidr.trunc()).collect(),
        addresses: addresses
            .iter()
            .filter(|address| ["InternalIP", "ExternalIP", "CiliumInternalIP"].contains(&address.kind.as_str()))
            .filter_map(|address| address.ip.parse().ok())
            .collect(),
    })
}

/// The addresses of a Service's endpoints. Endpoints that are not ready count, too, because one that starts will be needed soon.
///
/// A list without endpoints counts as incomplete, because an API server that answers has one. A single API server removes its own endpoint
/// when it stops, and adds it only after its start.
pub(super) fn endpoints(objects: &Objects<EndpointSlice>) -> Result<BTreeSet<Ipv4Addr>, Unknown> {
    let endpoints = objects.values().flat_map(|slice| slice.endpoints.iter().flatten());
    let addresses: Vec<&String> = endpoints.flat_map(|endpoint| &endpoint.addresses).collect();
    if addresses.is_empty() {
        return Err(Unknown::Failed("there is no endpoint".to_owned()));
    }
    Ok(addresses.into_iter().filter_map(|address| address.parse().ok()).collect())
}

fn withheld(reason: &str) -> Unknown {
    Unknown::Withheld(reason.to_owned())
}

/// `CiliumVTEPConfig`s. One of an unknown schema is part of the result, because the others still count.
#[expect(clippy::unnecessary_wraps, reason = "the others can fail")]
pub(super) fn vtep_configs(objects: &Objects<DynamicObject>) -> Result<Delivered, Unknown> {
    Ok(delivered(Kind::Config, objects))
}

/// The `CiliumVTEPNodeConfig` of this node, if there is one.
#[expect(clippy::unnecessary_wraps, reason = "the others can fail")]
pub(super) fn vtep_node_config(objects: &Objects<DynamicObject>) -> Result<Delivered, Unknown> {
    Ok(delivered(Kind::NodeConfig, objects))
}

fn delivered(kind: Kind, objects: &Objects<DynamicObject>) -> Delivered {
    // An object that was read from JSON can be written as JSON.
    let read = |object| VtepConfig::read(kind, &serde_json::to_value(object).unwrap_or_default());
    Delivered { objects: objects.values().map(read).collect(), at: Instant::now() }
}

/// The fields of a `CiliumNodeConfig`'s `spec`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeConfigSpec {
    node_selector: Option<serde_json::Value>,
    #[serde(default)]
    defaults: Keys,
}

/// One unreadable object fails the whole list, because it may set any key for this node.
pub(super) fn node_configs(objects: &Objects<DynamicObject>) -> Result<Vec<NodeConfig>, Unknown> {
    let configs = objects.iter().map(|(name, object)| node_config(name, object));
    configs.collect::<Result<_, _>>().map_err(Unknown::Failed)
}

fn node_config(name: &str, object: &DynamicObject) -> Result<NodeConfig, String> {
    let spec = object.data.get("spec").unwrap_or(&serde_json::Value::Null);
    let spec = NodeConfigSpec::deserialize(spec).map_err(|error| format!("cannot read {name:?}: {error}"))?;
    let selector = spec.node_selector.map(Selector::deserialize).transpose();
    let selector = selector.map_err(|error| format!("cannot read the nodeSelector of {name:?}: {error}"))?;
    Ok(NodeConfig { name: name.to_owned(), selector, defaults: spec.defaults })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// An owner of keys: the time, and the keys.
    type Owner<'o> = (Option<&'o str>, &'o [&'o str]);

    fn changed(owners: &[Owner<'_>]) -> Option<String> {
        let entries: Vec<_> = owners
            .iter()
            .map(|(time, keys)| {
                let fields: serde_json::Map<_, _> = keys.iter().map(|key| (format!("f:{key}"), json!({}))).collect();
                json!({ "manager": "m", "operation": "Update", "time": time, "fieldsV1": { "f:data": fields } })
            })
            .collect();
        let object = json!({ "metadata": { "name": "cilium-config", "managedFields": entries } });
        let object = serde_json::from_value(object).expect("a ConfigMap");
        let read = configmap(&[(String::new(), object)].into()).expect("it can be read").expect("there is one");
        read.lists_changed.map(|time| time.to_string())
    }

    #[test]
    fn the_newest_time_of_an_owner_bounds_the_last_change() {
        const LISTS: &[&str] = &["vtep-endpoint", "vtep-cidr", "vtep-mac"];
        let (old, new) = (Some("2026-11-26T10:00:00Z"), Some("2026-11-26T11:00:00Z"));
        let cases: [(&str, &[Owner<'_>], Option<&str>); 8] = [
            ("no owner", &[], None),
            ("one", &[(old, LISTS)], old),
            ("another owns a list", &[(old, &LISTS[..2]), (new, &LISTS[2..])], new),
            ("two own the same", &[(new, LISTS), (old, LISTS)], new),
            ("another key is newer", &[(old, LISTS), (new, &["vtep-mask", "debug"])], old),
            ("a list without an owner", &[(old, &LISTS[..2])], None),
            ("an owner without a time", &[(old, LISTS), (None, &LISTS[..1])], None),
            ("no data", &[(old, &[])], None),
        ];
        for (name, owners, expected) in cases {
            assert_eq!(changed(owners).as_deref(), expected, "{name}");
        }
        assert_eq!(configmap(&Objects::new()), Ok(None));
        let bare = serde_json::from_value(json!({ "metadata": {} })).expect("a ConfigMap");
        assert_eq!(configmap(&[(String::new(), bare)].into()), Ok(Some(ConfigMap::default())));
    }

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

    fn cilium_node_of(spec: &Value) -> Result<CiliumNode, Unknown> {
        let object = serde_json::from_value(json!({ "metadata": { "name": "worker-1" }, "spec": spec }));
        cilium_node(&[(String::new(), object.expect("an object"))].into())
    }

    #[test]
    fn a_cilium_node_is_its_pod_networks_and_its_addresses() {
        let addresses = json!([
            { "type": "InternalIP", "ip": "10.169.72.239" },
            { "type": "CiliumInternalIP", "ip": "10.0.1.169" },
            { "type": "CiliumInternalIP", "ip": "fd00::169" },
            { "type": "Hostname", "ip": "10.9.9.9" },
            {},
        ]);
        let cluster_pool = json!({ "podCIDRs": ["10.0.1.0/24", "fd00:1::/64"] });
        let multi_pool = json!({ "pools": {
            "requested": [{ "pool": "default", "needed": { "ipv4-addrs": 16 } }],
            "allocated": [{ "pool": "default", "cidrs": ["10.0.2.0/27", "10.0.3.32/27"] }, { "pool": "empty" }],
        } });
        for (ipam, expected) in
            [(cluster_pool, &["10.0.1.0/24"][..]), (multi_pool, &["10.0.2.0/27", "10.0.3.32/27"]), (json!({}), &[])]
        {
            let read = cilium_node_of(&json!({ "addresses": addresses, "ipam": ipam })).expect("a CiliumNode");
            let networks: Vec<_> = read.pod_cidrs.iter().map(ToString::to_string).collect();
            assert_eq!(networks, expected);
            assert_eq!(read.addresses, [[10, 169, 72, 239].into(), [10, 0, 1, 169].into()].into());
        }
        assert_eq!(cilium_node_of(&json!({})), Ok(CiliumNode::default()));
        assert!(matches!(cilium_node_of(&json!({ "ipam": { "podCIDRs": 5 } })), Err(Unknown::Failed(_))));
        let none = cilium_node(&Objects::new());
        assert_eq!(none, Err(withheld("there is none")), "none is not the same as one without networks");
    }

    #[test]
    fn endpoints_are_those_of_all_slices() {
        let slice = |addresses: &[&str]| {
            let slice = json!({ "addressType": "IPv4", "endpoints": [{ "addresses": addresses }] });
            serde_json::from_value::<EndpointSlice>(slice).expect("a slice")
        };
        let objects =
            [("a".to_owned(), slice(&["10.169.72.10"])), ("b".to_owned(), slice(&["10.169.72.11", "fd00::1"]))];
        let expected = [[10, 169, 72, 10].into(), [10, 169, 72, 11].into()].into();
        assert_eq!(endpoints(&objects.into()), Ok(expected));
        for none in [vec![], vec![("a".to_owned(), slice(&[]))]] {
            assert!(matches!(endpoints(&none.into_iter().collect()), Err(Unknown::Failed(_))), "not complete");
        }
        let other_family = endpoints(&[("a".to_owned(), slice(&["fd00::1"]))].into());
        assert_eq!(other_family, Ok(BTreeSet::new()), "known, and no IPv4 among them");
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
            assert!(error.reason().contains(word), "{spec}: {error:?}");
        }
    }
}
