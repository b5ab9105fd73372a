//! Compares the agent's requests to the API server with the manifest's rights: the rights cover every request, and no rule is unused.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vtep_apiserver::{ApiServer, Request, VtepVersions};
use vtep_lab::{Config, Lab};

use crate::{
    api::{api_server, apply, start},
    far_end::bigip,
    support::{HEALTHY_WITHIN, NOTICED_WITHIN, all_healthy, eventually},
};

/// One verb that a rule grants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    /// `None`: in all namespaces.
    namespace: Option<String>,
    group: String,
    resource: String,
    /// `None`: for any name.
    name: Option<String>,
    verb: String,
}

impl Right {
    fn covers(&self, request: &Request) -> bool {
        (&self.group, &self.resource, &self.verb)
            == (&request.group, &request.rbac_resource(), &request.verb.to_string())
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == request.namespace)
            && self.name.as_ref().is_none_or(|name| *name == request.name)
    }
}

/// All rights in the chart's Roles and ClusterRoles, with the Node's condition.
fn granted() -> Result<BTreeSet<Right>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut helm = Command::new(root.join("target/tools/bin/helm"));
    helm.arg("template").arg("vtep-agent").arg(root.join("deploy/helm/vtep-agent"));
    helm.args(["--namespace", "kube-system", "--set", "nodeCondition.enabled=true"]);
    let output = helm.output().context("failed to run helm: `make setup` brings it")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut rights = BTreeSet::new();
    for object in serde_saphyr::from_multiple::<Value>(&text)? {
        if object["kind"] != "Role" && object["kind"] != "ClusterRole" {
            continue;
        }
        for rule in list(&object["rules"]) {
            let words = |key: &str| list(&rule[key]).filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
            let names = words("resourceNames").into_iter().map(Some).collect::<Vec<_>>();
            let names = if names.is_empty() { vec![None] } else { names };
            for group in words("apiGroups") {
                for resource in words("resources") {
                    for verb in words("verbs") {
                        rights.extend(names.iter().map(|name| Right {
                            namespace: object["metadata"]["namespace"].as_str().map(str::to_owned),
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

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Causes every kind of request: the configuration, an override, a finding, two outages, and the condition.
fn whole_run(lab: &Lab, server: &ApiServer) -> Result<()> {
    let agent = start(lab, server, &["--node-condition"])?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    for _ in 0..2 {
        bigip(lab).down()?;
        agent.wait_for("an outage is noticed", NOTICED_WITHIN, |status| !all_healthy(status))?;
        bigip(lab).up()?;
        agent.wait_for("and its end", NOTICED_WITHIN, all_healthy)?;
    }
    let mut keys = Config::seed_keys();
    keys.insert("vtep-mask".into(), "255.255.255.1".into());
    apply(server, &keys)?;
    agent.wait_for("the slip is reported", NOTICED_WITHIN, |status| status.events.written >= 5)?;
    let condition = |request: &Request| request.subresource == "status";
    eventually("the condition is written", NOTICED_WITHIN, || Ok(server.requests().iter().any(condition).then_some(())))
}

#[test]
fn all_that_is_asked_is_granted_and_all_that_is_granted_is_used() -> Result<()> {
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    server.serve_vtep(VtepVersions::V2alpha1);
    whole_run(&lab, &server)?;
    let (rights, requests) = (granted()?, server.requests());
    let refused: Vec<_> = requests
        .iter()
        .filter(|request| !rights.iter().any(|right| right.covers(request)))
        .map(|request| format!("{} {} {}/{}", request.verb, request.rbac_resource(), request.namespace, request.name))
        .collect();
    ensure!(refused.is_empty(), "no rule covers {refused:#?}");
    let unused: Vec<_> = rights.iter().filter(|right| !requests.iter().any(|request| right.covers(request))).collect();
    ensure!(unused.is_empty(), "nobody uses {unused:#?}");
    Ok(())
}
