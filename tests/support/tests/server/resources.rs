//! The resources besides ConfigMaps: CiliumNodeConfigs and VTEP configs in their versions, Nodes and their status, Events, discovery.

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::{
    core::v1::{Node, ObjectReference},
    discovery::v1::EndpointSlice,
    events::v1::Event,
};
use kube::{
    Api, Error,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, WatchEvent, WatchParams},
    discovery,
    runtime::events::{Event as Published, EventType, Recorder},
};
use serde_json::json;
use vtep_apiserver::{ApiServer, CiliumVersions, Resource, Verb, VtepVersions, objects};

use crate::help::{NAMESPACE, client, within};

const GATEWAY: objects::VtepEndpoint<'_> = objects::VtepEndpoint {
    name: "vpc-gateway",
    tunnel_endpoint: "192.0.2.15",
    cidr: "10.20.0.0/16",
    mac: "82:36:0a:14:01:0f",
};

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

fn vtep_api(client: &kube::Client, version: &str, resource: Resource) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("cilium.io", version, resource.kind());
    Api::all_with(client.clone(), &ApiResource::from_gvk_with_plural(&kind, resource.plural()))
}

#[tokio::test]
async fn vtep_configs_in_the_served_versions() -> Result<()> {
    let server = ApiServer::start()?;
    server.apply(Resource::CiliumVtepConfigs, objects::vtep_config_v2("hybrid-gateway", None, &[GATEWAY]))?;
    server.apply(Resource::CiliumVtepNodeConfigs, objects::vtep_node_config("worker", &[GATEWAY]))?;
    let client = client(&server).await?;
    let (configs, node_configs) = (Resource::CiliumVtepConfigs, Resource::CiliumVtepNodeConfigs);
    let asked = [("v2", configs), ("v2alpha1", configs), ("v2", node_configs), ("v2alpha1", node_configs)];
    for (served, available) in [
        (VtepVersions::Absent, [false, false, false, false]),
        (VtepVersions::V2, [true, false, false, false]),
        (VtepVersions::V2alpha1, [false, true, false, true]),
    ] {
        for cilium in [CiliumVersions::Absent, CiliumVersions::Both] {
            server.serve(cilium);
            server.serve_vtep(served);
            for ((version, resource), available) in asked.into_iter().zip(available) {
                let asked = format!("{served:?} {cilium:?}: {version} {resource:?}");
                match vtep_api(&client, version, resource).list(&ListParams::default()).await {
                    Ok(list) => {
                        assert!(available, "{asked}");
                        let types = list.items[0].types.as_ref().context("no types")?;
                        assert_eq!(types.api_version, format!("cilium.io/{version}"));
                    }
                    Err(Error::Api(status)) => assert_eq!((available, status.code), (false, 404), "{asked}"),
                    Err(error) => return Err(error.into()),
                }
                let kind = GroupVersionKind::gvk("cilium.io", version, resource.kind());
                assert_eq!(discovery::pinned_kind(&client, &kind).await.is_ok(), available, "{asked}");
            }
            let group = discovery::group(&client, "cilium.io").await;
            let versions: Vec<_> = group.iter().flat_map(discovery::ApiGroup::versions).collect();
            let expected: &[&str] = match (cilium, served) {
                (CiliumVersions::Absent, VtepVersions::Absent) => &[],
                (CiliumVersions::Absent, VtepVersions::V2) => &["v2"],
                (CiliumVersions::Absent, VtepVersions::V2alpha1) => &["v2alpha1"],
                _ => &["v2", "v2alpha1"],
            };
            assert_eq!(versions, expected, "{served:?} {cilium:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_withdrawn_vtep_config_ends_its_watch_and_no_other() -> Result<()> {
    let server = ApiServer::start()?;
    server.serve_vtep(VtepVersions::V2);
    let client = client(&server).await?;
    let watched = vtep_api(&client, "v2", Resource::CiliumVtepConfigs);
    let mut watch = watched.watch(&WatchParams::default(), "0").await?.boxed();
    let nodes: Api<Node> = Api::all(client.clone());
    let _nodes = nodes.watch(&WatchParams::default(), "0").await?;
    within("both watches", server.watching(2)).await?;

    let unsynced = objects::vtep_config_v2("hybrid-gateway", Some("255.255.0.0"), &[GATEWAY]);
    let unsynced = objects::synced(objects::ready(unsynced, false, "1 of 1 failed"), GATEWAY.name, Some("map full"));
    server.apply(Resource::CiliumVtepConfigs, unsynced)?;
    let Some(WatchEvent::Added(seen)) = within("the object", watch.try_next()).await?? else {
        anyhow::bail!("the object is added");
    };
    assert_eq!(seen.data["spec"]["cidrMask"], "255.255.0.0");
    assert_eq!(seen.data["status"]["endpointStatuses"][0]["error"], "map full");

    server.serve_vtep(VtepVersions::Absent);
    assert!(within("the end", watch.try_next()).await??.is_none(), "a regular end");
    within("the other watch remains", server.watching(1)).await?;
    let Err(Error::Api(status)) = watched.watch(&WatchParams::default(), "0").await.map(drop) else {
        anyhow::bail!("a watch of an absent resource opened");
    };
    assert_eq!(status.code, 404);

    server.serve_vtep(VtepVersions::V2);
    assert_eq!(watched.list(&ListParams::default()).await?.items.len(), 1, "the object is still there");
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
