//! The JSON of objects that tests put into the server.

use serde_json::{Map, Value, json};

/// The maximum size of a ConfigMap on the real server, in bytes.
const CONFIG_MAP_LIMIT: usize = 1024 * 1024;
/// The time of every status. It is fixed, so that an object that a test builds twice does not change.
const TIME: &str = "2026-04-01T12:00:00Z";

/// An endpoint of a CiliumVTEPConfig or a CiliumVTEPNodeConfig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VtepEndpoint<'a> {
    pub name: &'a str,
    pub tunnel_endpoint: &'a str,
    pub cidr: &'a str,
    pub mac: &'a str,
}

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

/// A CiliumVTEPConfig as EKS's builds of Cilium have it. Without a mask, the CRD's default applies.
#[must_use]
pub fn vtep_config_v2(name: &str, mask: Option<&str>, endpoints: &[VtepEndpoint<'_>]) -> Value {
    let mut object = json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumVTEPConfig",
        "metadata": { "name": name },
        "spec": { "endpoints": vtep_endpoints(endpoints) },
    });
    if let Some(mask) = mask {
        object["spec"]["cidrMask"] = json!(mask);
    }
    object
}

/// A CiliumVTEPConfig of upstream Cilium, for the nodes of a LabelSelector, or without one for every node.
#[must_use]
pub fn vtep_config_v2alpha1(name: &str, node_selector: Option<Value>, endpoints: &[VtepEndpoint<'_>]) -> Value {
    let mut object = json!({
        "apiVersion": "cilium.io/v2alpha1", "kind": "CiliumVTEPConfig",
        "metadata": { "name": name },
        "spec": { "vtepEndpoints": vtep_endpoints(endpoints) },
    });
    if let Some(selector) = node_selector {
        object["spec"]["nodeSelector"] = selector;
    }
    object
}

/// A CiliumVTEPNodeConfig: what Cilium's operator resolved for this node.
#[must_use]
pub fn vtep_node_config(node: &str, endpoints: &[VtepEndpoint<'_>]) -> Value {
    json!({
        "apiVersion": "cilium.io/v2alpha1", "kind": "CiliumVTEPNodeConfig",
        "metadata": { "name": node },
        "spec": { "vtepEndpoints": vtep_endpoints(endpoints) },
    })
}

/// Sets the condition `Ready` of an object's status, in place of an earlier one.
#[must_use]
pub fn ready(mut object: Value, ready: bool, message: &str) -> Value {
    let (status, reason) = if ready { ("True", "Synced") } else { ("False", "SyncFailed") };
    let condition = json!({
        "type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": TIME,
    });
    put(&mut object["status"]["conditions"], "type", condition);
    object
}

/// Sets Cilium's report on one endpoint in the status of a CiliumVTEPConfig `v2` or a CiliumVTEPNodeConfig: synced, or the error that
/// prevents it.
#[must_use]
pub fn synced(mut object: Value, endpoint: &str, error: Option<&str>) -> Value {
    let (listed, reported) = match object["spec"]["endpoints"].as_array() {
        Some(listed) => (listed.len(), "endpointStatuses"),
        None => (object["spec"]["vtepEndpoints"].as_array().map_or(0, Vec::len), "vtepEndpointStatuses"),
    };
    let report = match error {
        None => json!({ "name": endpoint, "synced": true, "lastSyncTime": TIME }),
        Some(error) => json!({ "name": endpoint, "synced": false, "error": error }),
    };
    object["status"]["endpointCount"] = json!(listed);
    put(&mut object["status"][reported], "name", report);
    object
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

/// A pod that runs on this node.
#[must_use]
pub fn pod<'a>(
    namespace: &str,
    name: &str,
    node: &str,
    container: &str,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name, "labels": strings(labels) },
        "spec": { "nodeName": node, "hostNetwork": true, "containers": [{ "name": container }] },
        "status": { "phase": "Running", "hostIP": "127.0.0.1" },
    })
}

fn vtep_endpoints(endpoints: &[VtepEndpoint<'_>]) -> Vec<Value> {
    let endpoint = |VtepEndpoint { name, tunnel_endpoint, cidr, mac }: &VtepEndpoint<'_>| json!({ "name": name, "tunnelEndpoint": tunnel_endpoint, "cidr": cidr, "mac": mac });
    endpoints.iter().map(endpoint).collect()
}

/// Puts an element into a list that is a map by this key.
fn put(list: &mut Value, key: &str, element: Value) {
    match list.as_array_mut() {
        Some(elements) => {
            elements.retain(|other| other[key] != element[key]);
            elements.push(element);
        }
        None => *list = json!([element]),
    }
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

#[cfg(test)]
mod tests {
    use super::{VtepEndpoint, ready, synced, vtep_config_v2, vtep_node_config};
    use serde_json::json;

    #[test]
    fn a_status_replaces_only_what_it_names() {
        let endpoint =
            VtepEndpoint { name: "a", tunnel_endpoint: "192.0.2.1", cidr: "10.1.6.0/24", mac: "2:0:0:0:0:1" };
        let endpoints = [endpoint, VtepEndpoint { name: "b", ..endpoint }];
        let config = ready(vtep_config_v2("x", None, &endpoints), false, "1 of 2 failed");
        let config = synced(synced(config, "a", Some("map full")), "b", None);
        let config = synced(ready(config, true, ""), "a", None);
        let status = &config["status"];
        assert_eq!(status["conditions"].as_array().map(Vec::len), Some(1));
        assert_eq!(status["conditions"][0]["status"], "True");
        let reports = status["endpointStatuses"].as_array().expect("a list");
        let reports: Vec<_> = reports.iter().map(|report| (&report["name"], &report["synced"])).collect();
        assert_eq!(reports, [(&json!("b"), &json!(true)), (&json!("a"), &json!(true))]);

        let node = synced(vtep_node_config("worker", &endpoints), "a", Some("map full"));
        let reports = json!([{ "name": "a", "synced": false, "error": "map full" }]);
        assert_eq!(node["status"], json!({ "endpointCount": 2, "vtepEndpointStatuses": reports }));
    }
}
