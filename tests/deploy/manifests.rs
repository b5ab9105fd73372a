//! The plain manifests, and the pod of both them and the chart.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::tools::{DEFAULTS, EVERYTHING, Objects, read, render, root, run_well, template};

const MANIFESTS: &str = "deploy/vtep-agent.yaml";
/// Labels of a release of Helm.
const HELMS: [&str; 2] = ["    helm.sh/chart:", "    app.kubernetes.io/managed-by:"];

#[test]
fn the_manifests_are_the_chart_with_its_defaults() -> Result<()> {
    let fresh = run_well("helm", &template(DEFAULTS))?;
    // Helm does not manage what kubectl applies.
    let fresh: String =
        fresh.split_inclusive('\n').filter(|line| !HELMS.iter().any(|label| line.contains(label))).collect();
    let manifests = read(MANIFESTS)?;
    // The first line names their source.
    let rendered = manifests.split_once('\n').context("no lines")?.1;
    ensure!(rendered == fresh, "{MANIFESTS} is not what the chart renders: run `make manifests`");
    Ok(())
}

#[test]
fn kustomize_leaves_them_as_they_are() -> Result<()> {
    let by_name = |objects: Objects| -> BTreeSet<String> { objects.0.iter().map(Value::to_string).collect() };
    let built = Objects::parse(&run_well("kubectl", &["kustomize", "deploy"])?)?;
    ensure!(
        by_name(built) == by_name(Objects::parse(&read(MANIFESTS)?)?),
        "kustomize makes something else of {MANIFESTS}"
    );
    Ok(())
}

/// The command in `deploy/README.md`.
#[test]
fn an_overlay_sets_the_image() -> Result<()> {
    let readme = read("deploy/README.md")?;
    let overlay = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let overlay =
        overlay.into_iter().find(|block| block.contains("kind: Kustomization")).context("no overlay in README")?;
    // Kustomize accepts only relative paths.
    let dir = tempfile::tempdir_in(root().join("target"))?;
    let path = dir.path().to_str().context("a path of UTF-8")?;
    ensure!(overlay.contains("  - vtep-agent/deploy\n"), "{overlay}");
    fs::write(dir.path().join("kustomization.yaml"), overlay.replace("  - vtep-agent/deploy\n", "  - ../../deploy\n"))?;
    let objects = Objects::parse(&run_well("kubectl", &["kustomize", path])?)?;
    let image = &objects.container()?["image"];
    ensure!(image == concat!("registry.example.com/vtep-agent:", env!("CARGO_PKG_VERSION")), "{image}");
    Ok(())
}

#[test]
fn the_daemon_set_is_as_important_as_the_network() -> Result<()> {
    let objects = render(DEFAULTS)?;
    let daemon_set = objects.only("DaemonSet")?;
    let pod = objects.pod()?;
    let container = objects.container()?;
    for (found, expected) in [
        (&daemon_set["metadata"]["namespace"], json!("kube-system")),
        (&daemon_set["spec"]["updateStrategy"]["rollingUpdate"], json!({"maxUnavailable": "10%"})),
        (&pod["priorityClassName"], json!("system-node-critical")),
        (&pod["tolerations"], json!([{"operator": "Exists"}])),
        (&pod["nodeSelector"], json!({"kubernetes.io/os": "linux"})),
        (&container["resources"]["requests"], json!({"cpu": "10m", "memory": "16Mi"})),
        // A CPU limit would delay repairs and falsify round-trip times.
        (&container["resources"]["limits"], json!({"memory": "48Mi"})),
        (&container["args"], json!(["run"])),
    ] {
        ensure!(*found == expected, "{found} instead of {expected}");
    }
    Ok(())
}

/// The probes never use `/healthz`: a failed BIG-IP must not restart the agent.
#[test]
fn the_kubelet_asks_where_the_agent_listens() -> Result<()> {
    for (values, host, listen) in [
        (&["listen.port=9900"][..], json!("127.0.0.1"), "127.0.0.1:9900"),
        (&["listen.port=9900", "listen.scope=node"][..], Value::Null, "$(NODE_IP):9900"),
    ] {
        let objects = render(values)?;
        let container = objects.container()?;
        for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            let get = &container[probe]["httpGet"];
            ensure!(get["path"] == path && get["host"] == host && get["port"] == "http", "{values:?}: {probe}: {get}");
        }
        ensure!(container["ports"][0]["containerPort"] == 9900, "{values:?}: {}", container["ports"]);
        let env = container["env"].as_array().context("env")?;
        let found =
            env.iter().find(|variable| variable["name"] == "VTEP_AGENT_LISTEN").context("no VTEP_AGENT_LISTEN")?;
        ensure!(found["value"] == listen, "{values:?}: {found}");
        // A variable can refer only to those before it.
        let position = |name: &str| env.iter().position(|variable| variable["name"] == name);
        ensure!(position("NODE_IP") < position("VTEP_AGENT_LISTEN"), "{values:?}: NODE_IP comes too late");
        ensure!(
            position("VTEP_AGENT_LISTEN") < position("VTEP_AGENT_URL"),
            "{values:?}: VTEP_AGENT_LISTEN comes too late"
        );
    }
    Ok(())
}

/// YAML reads unquoted `on` and `off` as booleans.
#[test]
fn switches_need_no_quotes() -> Result<()> {
    let values = tempfile::NamedTempFile::new()?;
    fs::write(values.path(), "hostRoutes: off\nipcache: on\n")?;
    let mut args = template(DEFAULTS);
    args.extend(["--values", values.path().to_str().context("a path of UTF-8")?]);
    let objects = Objects::parse(&run_well("helm", &args)?)?;
    let env = objects.container()?["env"].as_array().context("env")?;
    for expected in [
        json!({"name": "VTEP_AGENT_HOST_ROUTES", "value": "off"}),
        json!({"name": "VTEP_AGENT_IPCACHE", "value": "on"}),
    ] {
        ensure!(env.contains(&expected), "no {expected} in {env:?}");
    }
    Ok(())
}

/// Before the removal, every pod removes the entries that its agent wrote, and writes nothing from then on.
#[test]
fn cleanup_comes_before_an_agent_that_only_observes() -> Result<()> {
    let objects = render(EVERYTHING)?;
    let init = &objects.pod()?["initContainers"][0];
    ensure!(init["args"] == json!(["cleanup"]), "{init}");
    for field in ["image", "env", "volumeMounts", "securityContext"] {
        ensure!(init[field] == objects.container()?[field], "{field}: {}", init[field]);
    }
    let observe = json!({"name": "VTEP_AGENT_MODE", "value": "observe"});
    let env = objects.container()?["env"].as_array().context("env")?;
    ensure!(env.contains(&observe), "{env:?}");
    ensure!(render(DEFAULTS)?.pod()?["initContainers"].is_null(), "cleanup that nobody asked for");
    Ok(())
}

/// The objects of the Prometheus operator must find the pods, add the node's name, and leave `endpoint` to the agent.
#[test]
fn monitors_find_the_pods() -> Result<()> {
    let pod_monitor = render(EVERYTHING)?;
    let service_monitor: Vec<_> = EVERYTHING.iter().copied().chain(["monitor.kind=ServiceMonitor"]).collect();
    let service_monitor = render(&service_monitor)?;
    let selects_pods = |objects: &Objects, selector: &Value| -> Result<bool> {
        let pods = &objects.only("DaemonSet")?["spec"]["template"]["metadata"]["labels"];
        let labels = selector.as_object().context("a selector")?;
        Ok(!labels.is_empty() && labels.iter().all(|(label, value)| pods[label] == *value))
    };
    for (objects, kind, endpoints) in
        [(&pod_monitor, "PodMonitor", "podMetricsEndpoints"), (&service_monitor, "ServiceMonitor", "endpoints")]
    {
        let spec = &objects.only(kind)?["spec"];
        ensure!(kind == "ServiceMonitor" || selects_pods(objects, &spec["selector"]["matchLabels"])?, "{spec}");
        let endpoint = &spec[endpoints][0];
        ensure!(endpoint["port"] == "http" && endpoint["path"] == "/metrics", "{endpoint}");
        ensure!(endpoint["relabelings"][0]["targetLabel"] == "node", "{endpoint}");
        ensure!(endpoint["relabelings"][1] == json!({"action": "labeldrop", "regex": "endpoint"}), "{endpoint}");
        ensure!(endpoint["honorLabels"].is_null(), "the agent could overwrite the labels of its target: {endpoint}");
    }
    let service = service_monitor.only("Service")?;
    let monitors = &service_monitor.only("ServiceMonitor")?["spec"]["selector"]["matchLabels"];
    let monitors = monitors.as_object().context("a selector")?;
    ensure!(monitors.iter().all(|(label, value)| service["metadata"]["labels"][label] == *value), "{service}");
    ensure!(selects_pods(&service_monitor, &service["spec"]["selector"])?, "{service}");
    ensure!(service["spec"]["clusterIP"] == "None" && service["spec"]["ports"][0]["name"] == "http", "{service}");
    ensure!(pod_monitor.of_kind("Service").count() == 0, "a Service for nothing");
    Ok(())
}
