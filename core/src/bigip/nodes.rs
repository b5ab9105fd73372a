//! The nodes of a cluster, from `kubectl get nodes -o json`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Deserialize;

use super::compare::ClusterNode;

/// Why a text is no list of nodes.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    #[error("it is not JSON: write it with kubectl get nodes -o json")]
    Json(#[source] serde_json::Error),
    #[error("it has no node: write it with kubectl get nodes -o json")]
    None,
}

/// A `Node`, or a list of them.
#[derive(Deserialize)]
struct Object {
    kind: Option<String>,
    items: Option<Vec<Self>>,
    metadata: Option<Metadata>,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Metadata {
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Status {
    addresses: Option<Vec<NodeAddress>>,
}

#[derive(Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// Reads the nodes. One without an IPv4 InternalIP has no address: no tunnel reaches it.
///
/// # Errors
///
/// The text is not JSON, or has no node.
pub fn read(text: &str) -> Result<Vec<ClusterNode>, NodesError> {
    let object: Object = serde_json::from_str(text).map_err(NodesError::Json)?;
    let is_node = object.kind.as_deref() == Some("Node");
    let objects = object.items.unwrap_or_default();
    let single = if is_node { Some(Object { items: None, ..object }) } else { None };
    let all =
        objects.into_iter().chain(single).filter(|object| object.kind.as_deref().is_none_or(|kind| kind == "Node"));
    let nodes: Vec<_> = all.map(node).collect();
    if nodes.is_empty() { Err(NodesError::None) } else { Ok(nodes) }
}

fn node(object: Object) -> ClusterNode {
    let Object { metadata, spec, status, .. } = object;
    let addresses = status.and_then(|status| status.addresses).unwrap_or_default();
    let of_kind = |is_internal: bool| {
        let wanted = addresses.iter().filter(move |address| (address.kind == "InternalIP") == is_internal);
        wanted.filter_map(|address| address.address.parse::<Ipv4Addr>().ok())
    };
    let pod_cidrs = spec.map(|spec| spec.pod_cidrs.or_else(|| spec.pod_cidr.map(|one| vec![one])).unwrap_or_default());
    let pod_cidrs = pod_cidrs.unwrap_or_default().iter().filter_map(|cidr| cidr.parse::<Ipv4Net>().ok()).collect();
    let mut internal = of_kind(true);
    let address = internal.next();
    let others = internal.chain(of_kind(false)).collect();
    ClusterNode { name: metadata.and_then(|metadata| metadata.name), address, others, pod_cidrs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_as_kubectl_lists_them() {
        let text = r#"{"apiVersion": "v1", "kind": "List", "items": [
            {"kind": "Node", "metadata": {"name": "worker-1"}, "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24", "fd00::/64"]},
             "status": {"addresses": [{"type": "Hostname", "address": "worker-1"}, {"type": "ExternalIP", "address": "192.0.2.9"},
                                      {"type": "InternalIP", "address": "fd01::9"}, {"type": "InternalIP", "address": "10.169.72.239"}]}},
            {"kind": "Node", "metadata": {"name": "worker-2"}}]}"#;
        let nodes = read(text).expect("nodes");
        let first = ClusterNode {
            name: Some("worker-1".to_owned()),
            address: Some([10, 169, 72, 239].into()),
            others: vec![[192, 0, 2, 9].into()],
            pod_cidrs: vec!["10.0.0.0/24".parse().expect("a CIDR")],
        };
        let second = ClusterNode { name: Some("worker-2".to_owned()), ..ClusterNode::default() };
        assert_eq!(nodes, [first, second]);
    }

    #[test]
    fn other_texts_are_no_nodes() {
        assert!(matches!(read(r#"{"kind": "List", "items": []}"#), Err(NodesError::None)));
        assert!(matches!(read(r#"{"kind": "List", "items": [{"kind": "Pod"}]}"#), Err(NodesError::None)));
        assert!(matches!(read("NAME STATUS"), Err(NodesError::Json(_))));
        assert_eq!(read(r#"{"kind": "Node", "metadata": {"name": "a"}}"#).expect("one").len(), 1);
    }
}
