//! The JSON of objects that tests put into the server.

use serde_json::{Map, Value, json};

/// The maximum size of a ConfigMap on the real server, in bytes.
const CONFIG_MAP_LIMIT: usize = 1024 * 1024;

/// A ConfigMap with these keys and values.
#[must_use]
pub fn config_map<'a>(namespace: &str, name: &str, data: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "namespace": namespace, "name": name },
        "data": strings(data),
    })
}

/// A ConfigMap of the maximum size: these keys, and a key `ballast` that fills it up to 1 MiB of keys and values.
#[must_use]
pub fn large_config_map<'a>(namespace: &str, name: &str, data: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    let mut map = config_map(namespace, name, data);
    if let Some(data) = map["data"].as_object_mut() {
        let used: usize = data.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
        let room = CONFIG_MAP_LIMIT.saturating_sub(used + "ballast".len());
        data.insert("ballast".to_owned(), json!("x".repeat(room)));
    }
    map
}

/// A CiliumNodeConfig that sets `defaults` on nodes with all of `labels`.
#[must_use]
pub fn cilium_node_config<'a>(
    namespace: &str,
    name: &str,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    defaults: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Value {
    json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNodeConfig",
        "metadata": { "namespace": namespace, "name": name },
        "spec": { "nodeSelector": { "matchLabels": strings(labels) }, "defaults": strings(defaults) },
    })
}

/// A CiliumNode with its pod networks by cluster-pool IPAM, and its addresses as type and IP.
#[must_use]
pub fn cilium_node<'a>(
    name: &str,
    pod_cidrs: &[&str],
    addresses: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Value {
    let addresses: Vec<_> = addresses.into_iter().map(|(kind, ip)| json!({ "type": kind, "ip": ip })).collect();
    json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNode",
        "metadata": { "name": name },
        "spec": { "addresses": addresses, "ipam": { "podCIDRs": pod_cidrs } },
    })
}

/// An EndpointSlice of the Service `default/kubernetes`, in which the API server publishes its addresses.
#[must_use]
pub fn api_server_endpoints(name: &str, addresses: &[&str]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "namespace": "default", "name": name, "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": addresses, "conditions": { "ready": true } }],
        "ports": [{ "name": "https", "port": 6443, "protocol": "TCP" }],
    })
}

/// A Node with labels, pod CIDRs and the condition `Ready`.
#[must_use]
pub fn node<'a>(name: &str, labels: impl IntoIterator<Item = (&'a str, &'a str)>, pod_cidrs: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": strings(labels) },
        "spec": { "podCIDR": pod_cidrs.first(), "podCIDRs": pod_cidrs },
        "status": { "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
        }] },
    })
}

fn strings<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Map<String, Value> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

/// Puts a list in place of a map.
pub(crate) fn spoil(object: &mut Value) {
    let wrong = json!(["this", "should", "be", "a", "map"]);
    match ["data", "spec"].into_iter().find(|field| object.get(field).is_some()) {
        Some(field) => object[field] = wrong,
        None => object["metadata"]["labels"] = wrong,
    }
}
