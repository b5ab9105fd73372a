//! The API server goes away and comes back; tokens end.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vtep_lab::{Config, Vtep};

use crate::cluster::{Cluster, eventually, in_cluster, stays};

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(60);
/// The documents promise 7.5 s: the agent's place in its cycle.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(45);
/// The shortest lifetime that the API server grants.
const LIFETIME: Duration = Duration::from_secs(600);

fn move_second(cluster: &Cluster, last: u8) -> Result<Vec<Vtep>> {
    let mut vteps = cluster.lab.topology.vteps();
    vteps[1].endpoint = [10, 169, 72, last].into();
    let patch = json!({ "data": { "vtep-endpoint": Config::keys_for(&vteps)["vtep-endpoint"] } });
    let mut kubectl = cluster.client("kubectl")?;
    kubectl.args(["-n", "kube-system", "patch", "configmap", "cilium-config", "-p", &patch.to_string()]);
    crate::kubectl::succeeded("kubectl patch", kubectl.output()?)?;
    Ok(vteps)
}

fn followed(cluster: &Cluster, vteps: &[Vtep]) -> Result<Duration> {
    let edited = Instant::now();
    eventually("the edit is in the kernel", FOLLOWED_WITHIN, || Ok(cluster.has_entries(vteps)?.then_some(())))?;
    Ok(edited.elapsed())
}

/// Takes over 20 s: the API server is away for a minute. When it is back, it has forgotten all that was before, so that every watch begins
/// anew.
#[test]
fn the_api_server_is_away_for_a_minute() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        let before = cluster.lab.topology.vteps();
        let pid = cluster.pid()?;
        cluster.control_plane.stop_api_server()?;
        stays("as it was", AWAY, || cluster.has_entries(&before))?;
        cluster.control_plane.start_api_server()?;
        let moved = move_second(cluster, 90)?;
        println!(
            "after a minute without the API server, an edit is in the kernel after {:.1?}",
            followed(cluster, &moved)?
        );
        ensure!(cluster.pid()? == pid && cluster.restarts()? == 0, "it was restarted");
        // And a restart as in an upgrade.
        cluster.control_plane.stop_api_server()?;
        cluster.control_plane.start_api_server()?;
        let moved = move_second(cluster, 91)?;
        println!("after a restart of the API server, {:.1?}", followed(cluster, &moved)?);
        Ok(())
    })
}

/// Mounts a token with the shortest lifetime at the usual place.
fn short_token() -> Value {
    json!({ "spec": { "template": { "spec": {
        "automountServiceAccountToken": false,
        "volumes": [{ "name": "token", "projected": { "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": LIFETIME.as_secs() } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "fieldPath": "metadata.namespace" } }] } },
        ] } }],
        "containers": [{
            "name": "vtep-agent",
            "volumeMounts": [{
                "name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true,
            }],
        }],
    } } } })
}

/// Takes over 20 s: the API server grants no lifetime below ten minutes.
#[test]
#[ignore = "twelve minutes: make test-all"]
fn tokens_end_and_the_watches_go_on() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        let mut kubectl = cluster.client("kubectl")?;
        kubectl.args(["-n", "kube-system", "patch", "daemonset", "vtep-agent", "-p", &short_token().to_string()]);
        crate::kubectl::succeeded("kubectl patch", kubectl.output()?)?;
        cluster.rolled_out()?;
        cluster.healthy()?;
        let pid = cluster.pid()?;
        thread::sleep(LIFETIME + Duration::from_secs(60));
        let moved = move_second(cluster, 90)?;
        followed(cluster, &moved)?;
        ensure!(cluster.pid()? == pid && cluster.restarts()? == 0, "it was restarted");
        let audit = cluster.control_plane.audit()?;
        let pod = cluster.pod()?["metadata"]["name"].clone();
        let extra =
            |event: &Value, key: &str| event["user"]["extra"][format!("authentication.kubernetes.io/{key}")][0].clone();
        let of_pod = audit.iter().filter(|event| extra(event, "pod-name") == pod);
        let tokens: BTreeSet<_> = of_pod.map(|event| extra(event, "credential-id").to_string()).collect();
        ensure!(tokens.len() > 1, "one token for eleven minutes: {tokens:?}");
        let status = cluster.status()?;
        ensure!(status.config.source_error.is_none(), "{:?}", status.config);
        Ok(())
    })
}
