//! The agent's rights at a real API server: its audit log has no refusal, and every right was used.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vtep_core::config::truth::Truth;
use vtep_lab::Config;

use crate::{
    agent::{HEALTHY_WITHIN, NAMESPACE, is_healthy},
    cluster::{Cluster, eventually, in_cluster},
    node::NODE,
    tools,
};

const REPORTED_WITHIN: Duration = Duration::from_secs(60);

/// What a rule grants, and what a request needs: namespace, group, resource with its subresource, name, verb.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    /// `None`: in all namespaces.
    namespace: Option<String>,
    group: String,
    resource: String,
    /// `None`: of any name.
    name: Option<String>,
    verb: String,
}

impl Right {
    fn covers(&self, request: &Self) -> bool {
        (&self.group, &self.resource, &self.verb) == (&request.group, &request.resource, &request.verb)
            && (self.namespace.is_none() || self.namespace == request.namespace)
            && (self.name.is_none() || self.name == request.name)
    }
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The rights of the chart's Roles and ClusterRoles, as the API server has them.
fn granted(cluster: &Cluster) -> Result<BTreeSet<Right>> {
    let roles = cluster.get("roles,clusterroles -A -l app.kubernetes.io/name=vtep-agent")?;
    let mut rights = BTreeSet::new();
    for role in roles["items"].as_array().context("roles")? {
        for rule in role["rules"].as_array().into_iter().flatten() {
            let names = words(&rule["resourceNames"]).into_iter().map(Some).collect::<Vec<_>>();
            let names = if names.is_empty() { vec![None] } else { names };
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    for verb in words(&rule["verbs"]) {
                        rights.extend(names.iter().map(|name| Right {
                            namespace: role["metadata"]["namespace"].as_str().map(str::to_owned),
                            group: group.clone(),
                            resource: resource.clone(),
                            name: name.clone(),
                            verb: verb.clone(),
                        }));
                    }
                }
            }
        }
    }
    Ok(rights)
}

/// What a request of the audit log needed; `None` if it was for no resource.
fn needed(event: &Value) -> Option<Right> {
    let object = &event["objectRef"];
    let text = |key: &str| object[key].as_str().map(str::to_owned);
    let resource = text("resource")?;
    Some(Right {
        namespace: text("namespace"),
        group: text("apiGroup").unwrap_or_default(),
        resource: text("subresource").map_or(resource.clone(), |below| format!("{resource}/{below}")),
        name: text("name"),
        verb: event["verb"].as_str()?.to_owned(),
    })
}

/// Cilium's CRDs, as the API server wants them.
fn install_crds(cluster: &Cluster, names: &[&str]) -> Result<()> {
    for name in names {
        let path = tools::root().join(format!("tests/fixtures/crds/{name}.yaml"));
        cluster.run(&format!("kubectl apply -f {}", path.display()))?;
        let crd = fs::read_to_string(&path)?;
        let plural = crd.lines().find_map(|line| line.trim().strip_prefix("plural: ")).context("a plural")?;
        cluster.run(&format!("kubectl wait --for condition=established --timeout 60s crd/{plural}.cilium.io"))?;
    }
    Ok(())
}

/// Causes every kind of request.
fn whole_run(cluster: &Cluster) -> Result<()> {
    install_crds(
        cluster,
        &["ciliumnodeconfigs-v2", "ciliumnodes-v2", "ciliumvtepconfigs-v2alpha1", "ciliumvtepnodeconfigs-v2alpha1"],
    )?;
    cluster.apply(&json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": { "name": NODE },
        "spec": { "ipam": { "podCIDRs": ["10.0.0.0/24"] } },
    }))?;
    cluster.apply(&json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNodeConfig",
        "metadata": { "name": "all", "namespace": NAMESPACE },
        "spec": { "nodeSelector": { "matchLabels": { "kubernetes.io/os": "linux" } }, "defaults": { "debug": "true" } },
    }))?;
    cluster.install(&["nodeCondition.enabled=true"])?;
    for _ in 0..2 {
        cluster.lab.bigips[0].down()?;
        cluster.wait_for("an outage is noticed", HEALTHY_WITHIN, |status| !is_healthy(status))?;
        cluster.lab.bigips[0].up()?;
        cluster.wait_for("and its end", HEALTHY_WITHIN, is_healthy)?;
    }
    let mut keys = Config::seed_keys();
    keys.insert("vtep-mask".into(), "255.255.255.1".into());
    cluster.apply(&json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "cilium-config", "namespace": NAMESPACE },
        "data": keys,
    }))?;
    cluster.wait_for("the slip is an Event", REPORTED_WITHIN, |status| status.events.written >= 5)?;
    eventually("the condition is written", REPORTED_WITHIN, || {
        let conditions = cluster.get(&format!("node {NODE}"))?["status"]["conditions"].clone();
        let mut conditions = conditions.as_array().into_iter().flatten();
        Ok(conditions.any(|condition| condition["type"] == "VtepTunnelsHealthy").then_some(()))
    })
}

/// Takes over 20 s: two outages, and Events that are written no faster than every few seconds.
#[test]
fn nothing_is_refused_and_no_right_is_unused() -> Result<()> {
    in_cluster(|cluster| {
        whole_run(cluster)?;
        let audit = cluster.control_plane.audit()?;
        let refused: Vec<_> =
            audit.iter().filter(|event| event["annotations"]["authorization.k8s.io/decision"] != "allow").collect();
        ensure!(refused.is_empty(), "{refused:#?}");
        let requests: Vec<_> = audit.iter().filter_map(needed).collect();
        let unused = granted(cluster)?;
        ensure!(unused.len() > 10, "{unused:?}");
        let unused: Vec<_> =
            unused.iter().filter(|right| !requests.iter().any(|request| right.covers(request))).collect();
        ensure!(unused.is_empty(), "nobody uses {unused:#?}");
        Ok(())
    })
}

/// An object in place of the lists, with the schema of each kind of cluster.
#[test]
fn vteps_of_custom_resources_under_real_crds() -> Result<()> {
    in_cluster(|cluster| {
        install_crds(cluster, &["ciliumvtepconfigs-v2"])?;
        cluster.helm(&["vtepSource=crd"])?;
        cluster.rolled_out()?;
        let endpoints = cluster.lab.topology.vteps().into_iter().enumerate().map(|(n, vtep)| {
            json!({
                "name": format!("bigip-{n}"),
                "tunnelEndpoint": vtep.endpoint,
                "cidr": vtep.cidr,
                "mac": vtep.mac.to_string().to_lowercase(),
            })
        });
        let endpoints: Vec<_> = endpoints.collect();
        cluster.apply(&json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumVTEPConfig",
            "metadata": { "name": "bigips" },
            "spec": { "endpoints": endpoints },
        }))?;
        cluster.wait_for("the object counts", HEALTHY_WITHIN, |status| {
            status.config.truth == Truth::Crd && status.vteps.len() == 2
        })?;
        cluster.run("kubectl delete ciliumvtepconfig bigips")?;
        cluster.wait_for("its end is noticed", HEALTHY_WITHIN, |status| status.config.objects.is_empty())?;
        Ok(())
    })
}
