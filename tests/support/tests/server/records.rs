//! The server's records of requests, and its check of tokens.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::{
    Api, Error,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams},
};
use serde_json::json;
use vtep_apiserver::{Fault, Matcher, Resource, Times, Verb, objects};

use crate::help::{NAME, NAMESPACE, client, config_maps, server, within};

#[tokio::test]
async fn verbs_and_names() -> Result<()> {
    let server = server("a")?;
    server.apply(Resource::Nodes, objects::node("worker", [], &[]))?;
    let client = client(&server).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let nodes: Api<Node> = Api::all(client);
    let mut map = maps.get(NAME).await?;
    maps.list(&ListParams::default()).await?;
    drop(maps.watch(&WatchParams::default().fields("metadata.name=cilium-config"), "0").await?);
    map.immutable = Some(true);
    maps.replace(NAME, &PostParams::default(), &map).await?;
    map.metadata.resource_version = None;
    map.metadata.name = Some("new".to_owned());
    maps.create(&PostParams::default(), &map).await?;
    maps.delete("new", &DeleteParams::default()).await?;
    nodes.patch_status("worker", &PatchParams::default(), &Patch::Merge(json!({ "status": {} }))).await?;

    let requests = server.requests();
    let rules: Vec<_> = requests
        .iter()
        .map(|request| (request.verb, request.rbac_resource(), request.namespace.as_str(), request.name.as_str()))
        .collect();
    let maps = || "configmaps".to_owned();
    let expected = [
        (Verb::Get, maps(), NAMESPACE, NAME),
        (Verb::List, maps(), NAMESPACE, ""),
        (Verb::Watch, maps(), NAMESPACE, NAME),
        (Verb::Update, maps(), NAMESPACE, NAME),
        (Verb::Create, maps(), NAMESPACE, ""),
        (Verb::Delete, maps(), NAMESPACE, "new"),
        (Verb::Patch, "nodes/status".to_owned(), "", "worker"),
    ];
    assert_eq!(rules, expected);
    assert_eq!(requests[4].body.as_ref().map(|body| &body["metadata"]["name"]), Some(&json!("new")));
    Ok(())
}

#[tokio::test]
async fn a_refusal_names_what_is_missing() -> Result<()> {
    let server = server("a")?;
    server.misbehave(Matcher::all().resource("nodes/status"), Fault::Forbidden, Times::Always);
    let nodes: Api<Node> = Api::all(client(&server).await?);
    let patch = Patch::Merge(json!({ "status": {} }));
    let error = nodes.patch_status("worker", &PatchParams::default(), &patch).await.err().context("it is forbidden")?;
    let Error::Api(status) = error else { anyhow::bail!("no status: {error:?}") };
    let expected = "nodes \"worker\" is forbidden: User \"system:serviceaccount:kube-system:vtep-agent\" cannot patch resource \
                    \"nodes/status\" in API group \"\" at the cluster scope";
    assert_eq!((status.message.as_str(), status.is_forbidden()), (expected, true));
    Ok(())
}

#[tokio::test]
async fn a_token_where_one_is_wanted() -> Result<()> {
    let server = server("a")?;
    let stranger = config_maps(&server).await?;
    server.require_token(Some("secret"));
    let refused = stranger.get(NAME).await;
    assert!(matches!(&refused, Err(Error::Api(status)) if status.code == 401), "{refused:?}");
    config_maps(&server).await?.get(NAME).await?;
    Ok(())
}

#[test]
fn waiting_without_a_runtime() -> Result<()> {
    let server = server("a")?;
    let limit = Duration::from_millis(50);
    assert!(server.wait_seen(&Matcher::all(), 1, limit).is_err());
    assert!(server.wait_watching(1, limit).is_err());
    server.wait_watching(0, Duration::from_secs(60))
}

#[tokio::test]
async fn connections_can_be_told_apart() -> Result<()> {
    let server = server("a")?;
    let (one, other) = (config_maps(&server).await?, config_maps(&server).await?);
    for api in [&one, &one, &other] {
        within("an answer", api.get(NAME)).await??;
    }
    let peers: Vec<_> = server.requests().iter().map(|request| request.peer).collect();
    assert!(peers[0] == peers[1] && peers[1] != peers[2], "{peers:?}");
    Ok(())
}
