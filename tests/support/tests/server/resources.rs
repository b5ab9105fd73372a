//! The resources besides ConfigMaps: CiliumNodeConfigs in their versions, Nodes and their status, Events, discovery.

use anyhow::{Context, Result};
use k8s_openapi::api::{
    core::v1::{Node, ObjectReference},
    discovery::v1::EndpointSlice,
    events::v1::Event,
};
use kube::{
    Api, Error,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
    discovery,
    runtime::events::{Event as Published, EventType, Recorder},
};
use serde_json::json;
use vtep_apiserver::{ApiServer, CiliumVersions, Resource, Verb, objects};

use crate::help::{NAMESPACE, client};

fn api(client: &kube::Client, version: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("cilium.io", version, "CiliumNodeConfig");
    Api::namespaced_with(client.clone(), NAMESPACE, &ApiResource::from_gvk_with_plural(&kind, "ciliumnodeconfigs"))
}

#[tokio::test]
async fn node_configs_in_the_served_versions() -> Result<()> {
    let server = ApiServer::start()?;
    let object = objects::cilium_node_config(NAMESPACE, "gpu", [("gpu", "yes")], [("mtu", "9000")]);
    server.apply(Resource::CiliumNodeConfigs, object)?;
    let client = client(&server).await?;
    for (served, available) in [
        (CiliumVersions::Absent, [false, false]),
        (CiliumVersions::V2, [true, false]),
        (CiliumVersions::V2Alpha1, [false, true]),
        (CiliumVersions::Both, [true, true]),
    ] {
        server.serve(served);
        for (version, available) in ["v2", "v2alpha1"].into_iter().zip(available) {
            match api(&client, version).list(&ListParams::default()).await {
                Ok(list) => {
                    assert!(available, "{served:?} {version}");
                    let types = list.items[0].types.as_ref().context("no types")?;
                    assert_eq!(types.api_version, format!("cilium.io/{version}"));
                }
                Err(Error::Api(status)) => assert_eq!((available, status.code), (false, 404), "{served:?} {version}"),
                Err(error) => return Err(error.into()),
            }
        }
        let group = discovery::group(&client, "cilium.io").await;
        assert_eq!(group.is_ok(), served != CiliumVersions::Absent, "{served:?}");
    }
    Ok(())
}

#[tokio::test]
async fn discovery_and_version() -> Result<()> {
    let server = ApiServer::start()?;
    let client = client(&server).await?;
    assert_eq!(client.apiserver_version().await?.major, "1");
    let found = discovery::Discovery::new(client.clone()).run().await?;
    let mut groups: Vec<_> = found.groups().map(discovery::ApiGroup::name).collect();
    groups.sort_unstable();
    assert_eq!(groups, ["", "cilium.io", "discovery.k8s.io", "events.k8s.io"]);
    let kind = GroupVersionKind::gvk("cilium.io", "v2", "CiliumNodeConfig");
    assert_eq!(discovery::pinned_kind(&client, &kind).await?.0.plural, "ciliumnodeconfigs");
    server.serve(CiliumVersions::V2Alpha1);
    assert!(discovery::pinned_kind(&client, &kind).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_condition_by_server_side_apply() -> Result<()> {
    let server = ApiServer::start()?;
    server.apply(Resource::Nodes, objects::node("worker", [("zone", "a")], &["10.1.0.0/24"]))?;
    let nodes: Api<Node> = Api::all(client(&server).await?);
    let condition = json!({ "type": "VtepTunnelsHealthy", "status": "True", "reason": "AllHealthy" });
    let patch = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "worker", "labels": { "zone": "b" } },
        "status": { "conditions": [condition] },
    });
    let parameters = PatchParams::apply("vtep-agent");
    nodes.patch_status("worker", &parameters, &Patch::Apply(&patch)).await?;
    let node = nodes.get("worker").await?;
    let types = |node: &Node| -> Vec<String> {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.clone());
        conditions.unwrap_or_default().into_iter().map(|condition| condition.type_).collect()
    };
    assert_eq!(types(&node), ["Ready", "VtepTunnelsHealthy"]);
    assert_eq!(node.metadata.labels.and_then(|labels| labels.get("zone").cloned()).as_deref(), Some("a"));
    assert_eq!(node.spec.and_then(|spec| spec.pod_cidr).as_deref(), Some("10.1.0.0/24"));

    let nothing = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "worker" }, "status": {} });
    nodes.patch_status("worker", &parameters, &Patch::Apply(&nothing)).await?;
    assert_eq!(types(&nodes.get("worker").await?), ["Ready"]);
    Ok(())
}

#[tokio::test]
async fn events_by_kubes_recorder() -> Result<()> {
    let server = ApiServer::start()?;
    let client = client(&server).await?;
    let recorder = Recorder::new(client.clone(), "vtep-agent".into());
    let node = ObjectReference { kind: Some("Node".into()), name: Some("worker".into()), ..ObjectReference::default() };
    let event = Published {
        type_: EventType::Warning,
        reason: "BigIpSilent".into(),
        note: Some("no answer".into()),
        action: "Probe".into(),
        secondary: None,
    };
    recorder.publish(&event, &node).await?;
    recorder.publish(&event, &node).await?;
    let events: Api<Event> = Api::namespaced(client, "default");
    let stored = events.list(&ListParams::default()).await?.items;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].series.as_ref().map(|series| series.count), Some(2));
    let verbs: Vec<_> = server.requests().iter().map(|request| (request.verb, request.rbac_resource())).collect();
    let events = || "events".to_owned();
    assert_eq!(verbs, [(Verb::Create, events()), (Verb::Patch, events()), (Verb::List, events())]);
    Ok(())
}

#[tokio::test]
async fn slices_of_a_service_by_its_label() -> Result<()> {
    let server = ApiServer::start()?;
    server.apply(Resource::EndpointSlices, objects::api_server_endpoints("kubernetes", &["10.169.72.10"]))?;
    let mut other = objects::api_server_endpoints("other", &["10.169.72.11"]);
    other["metadata"]["labels"] = json!({ "kubernetes.io/service-name": "other" });
    server.apply(Resource::EndpointSlices, other)?;
    let slices: Api<EndpointSlice> = Api::namespaced(client(&server).await?, "default");
    let listed = async |labels: &str| -> Result<Vec<String>> {
        let list = slices.list(&ListParams::default().labels(labels)).await?;
        Ok(list.items.into_iter().filter_map(|slice| slice.metadata.name).collect())
    };
    assert_eq!(listed("kubernetes.io/service-name=kubernetes").await?, ["kubernetes"]);
    assert_eq!(listed("").await?, ["kubernetes", "other"]);
    assert!(listed("kubernetes.io/service-name!=kubernetes").await.is_err());
    Ok(())
}
