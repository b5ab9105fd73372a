//! The names and labels of the objects, in one release, in two, and as a part of another chart.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::tools::{CHART, DEFAULTS, EVERYTHING, Objects, read, render, root, run_well};

/// The objects of a release with this name, in this namespace.
pub(crate) fn release(name: &str, namespace: &str, values: &[&str]) -> Result<Objects> {
    let mut args = vec!["template", name, CHART, "--namespace", namespace];
    args.extend(values.iter().flat_map(|value| ["--set", value]));
    Objects::parse(&run_well("helm", &args)?)
}

/// What makes an object unique in a cluster.
fn identities(objects: &Objects) -> Result<BTreeSet<String>> {
    let identity = |object: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        format!("{} {}/{}", text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
    };
    let found: BTreeSet<_> = objects.0.iter().map(identity).collect();
    ensure!(found.len() == objects.0.len(), "an object twice: {found:?}");
    Ok(found)
}

#[test]
fn two_releases_do_not_collide() -> Result<()> {
    let values: Vec<_> = EVERYTHING.iter().copied().chain(["monitor.kind=ServiceMonitor"]).collect();
    let first = release("vtep-agent", "kube-system", &values)?;
    let second = release("dmz", "kube-system", &values)?;
    let (first_names, second_names) = (identities(&first)?, identities(&second)?);
    let both: Vec<_> = first_names.intersection(&second_names).collect();
    ensure!(first_names.len() > 15 && both.is_empty(), "{both:?}");
    // No selector of one finds pods of the other, apart from the DaemonSet's in the next test, which owns only its own.
    for (objects, other) in [(&first, &second), (&second, &first)] {
        let pods = &other.only("DaemonSet")?["spec"]["template"]["metadata"]["labels"];
        for (kind, selector) in [("Service", "/spec/selector"), ("ServiceMonitor", "/spec/selector/matchLabels")] {
            let labels = objects.only(kind)?.pointer(selector).and_then(Value::as_object).context("a selector")?;
            ensure!(labels.iter().any(|(label, value)| pods[label] != *value), "{kind} selects {pods}");
        }
    }
    Ok(())
}

/// The selector of a DaemonSet cannot change, so that an installation of the previous release could not be upgraded.
#[test]
fn the_daemon_set_selects_its_pods_as_before() -> Result<()> {
    let selector = |objects: &Objects| -> Result<Value> {
        let daemon_set = objects.only("DaemonSet")?;
        let labels = daemon_set["spec"]["selector"]["matchLabels"].clone();
        let pods = &daemon_set["spec"]["template"]["metadata"]["labels"];
        let is_there = |(label, value): (&String, &Value)| pods[label] == *value;
        ensure!(labels.as_object().is_some_and(|labels| labels.iter().all(is_there)), "{labels} and {pods}");
        Ok(labels)
    };
    let before = json!({"app.kubernetes.io/name": "vtep-agent"});
    ensure!(selector(&render(DEFAULTS)?)? == before);
    // A release with another name had a DaemonSet of this name, too.
    ensure!(selector(&release("dmz", "net", &["fullnameOverride=vtep-agent"])?)? == before);
    let with_instance = json!({"app.kubernetes.io/name": "vtep-agent", "app.kubernetes.io/instance": "dmz"});
    ensure!(selector(&release("dmz", "net", DEFAULTS)?)? == with_instance);
    Ok(())
}

#[test]
fn names_can_be_chosen() -> Result<()> {
    let long = "a".repeat(53);
    for (release_name, values, name, label) in [
        ("vtep-agent", &[][..], "vtep-agent", "vtep-agent"),
        ("dmz", &[], "dmz-vtep-agent", "vtep-agent"),
        ("dmz", &["nameOverride=bigip"], "dmz-bigip", "bigip"),
        ("bigip-2", &["nameOverride=bigip"], "bigip-2", "bigip"),
        ("dmz", &["fullnameOverride=tunnels"], "tunnels", "vtep-agent"),
        // A release's longest name.
        (&long, &[], &long[..52], "vtep-agent"),
    ] {
        let objects = release(release_name, "net", values)?;
        let daemon_set = objects.only("DaemonSet")?;
        let labels = &daemon_set["spec"]["template"]["metadata"]["labels"];
        ensure!(daemon_set["metadata"]["name"] == name, "{release_name} {values:?}: {}", daemon_set["metadata"]);
        ensure!(labels["app.kubernetes.io/name"] == label, "{release_name} {values:?}: {labels}");
        ensure!(labels["app.kubernetes.io/instance"] == release_name, "{labels}");
        // By this one, `vtep-agent fleet` finds them whatever they are called.
        ensure!(labels["app.kubernetes.io/component"] == "vtep-agent", "{labels}");
        let account = &objects.pod()?["serviceAccountName"];
        ensure!(*account == objects.only("ServiceAccount")?["metadata"]["name"] && *account == name, "{account}");
        for object in &objects.0 {
            let name = object["metadata"]["name"].as_str().context("a name")?;
            ensure!(name.len() <= 63, "{name}");
        }
    }
    Ok(())
}

/// `kubectl get all -l …`, Argo CD and people look for these labels.
#[test]
fn every_object_has_the_usual_labels() -> Result<()> {
    for object in &release("dmz", "kube-system", EVERYTHING)?.0 {
        let labels = &object["metadata"]["labels"];
        let name = if object["kind"] == "Pod" { "vtep-agent-test" } else { "vtep-agent" };
        for (label, value) in [
            ("app.kubernetes.io/name", name),
            ("app.kubernetes.io/instance", "dmz"),
            ("app.kubernetes.io/managed-by", "Helm"),
            ("app.kubernetes.io/version", env!("CARGO_PKG_VERSION")),
            ("helm.sh/chart", concat!("vtep-agent-", env!("CARGO_PKG_VERSION"))),
            ("cost-center", "network"),
        ] {
            ensure!(labels[label] == value, "{label}: {object:#}");
        }
    }
    Ok(())
}

/// A label that changes with the chart alone would replace every pod.
#[test]
fn the_pods_have_no_label_of_the_chart() -> Result<()> {
    let objects = render(EVERYTHING)?;
    let labels = &objects.only("DaemonSet")?["spec"]["template"]["metadata"]["labels"];
    let expected = json!({
        "app.kubernetes.io/component": "vtep-agent",
        "app.kubernetes.io/name": "vtep-agent",
        "app.kubernetes.io/instance": "vtep-agent",
        "app.kubernetes.io/version": env!("CARGO_PKG_VERSION"),
        "cost-center": "network",
        "team": "network",
    });
    ensure!(*labels == expected, "{labels}");
    Ok(())
}

/// Helm gives a subchart `global`, and the value that its condition names.
#[test]
fn it_can_be_a_part_of_another_chart() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let parent = dir.path();
    fs::create_dir(parent.join("charts"))?;
    std::os::unix::fs::symlink(root().join(CHART), parent.join("charts/vtep-agent"))?;
    let dependency = "dependencies:\n  - name: vtep-agent\n    version: \"*\"\n    condition: vtep-agent.enabled\n";
    fs::write(parent.join("Chart.yaml"), format!("apiVersion: v2\nname: platform\nversion: 1.0.0\n{dependency}"))?;
    let path = parent.to_str().context("a path of UTF-8")?;
    for (enabled, count) in [("true", 1), ("false", 0)] {
        fs::write(
            parent.join("values.yaml"),
            format!(
                "global:\n  imageRegistry: registry.example.com\n  imagePullSecrets: [name: mirror]\n\
                 vtep-agent:\n  enabled: {enabled}\n  image:\n    repository: registry.example.com/vtep-agent\n"
            ),
        )?;
        let objects = Objects::parse(&run_well("helm", &["template", "platform", path, "--skip-tests"])?)?;
        ensure!(objects.of_kind("DaemonSet").count() == count, "enabled: {enabled}");
        if count == 1 {
            let secrets = &objects.pod()?["imagePullSecrets"];
            ensure!(*secrets == json!([{"name": "mirror"}]), "{secrets}");
            let account = &objects.pod()?["serviceAccountName"];
            ensure!(account == "platform-vtep-agent", "{account}");
        }
    }
    Ok(())
}

#[test]
fn pull_secrets_come_from_every_usual_place() -> Result<()> {
    let values = [
        "image.pullSecrets={a,b}",
        "imagePullSecrets[0].name=b",
        "imagePullSecrets[1].name=c",
        "global.imagePullSecrets[0].name=d",
    ];
    let expected = json!([{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"}]);
    let secrets = render(&values)?.pod()?["imagePullSecrets"].clone();
    ensure!(secrets == expected, "{secrets}");
    Ok(())
}

#[test]
fn the_image_can_be_pinned() -> Result<()> {
    let digest = format!("sha256:{}", "a".repeat(64));
    let by_digest = format!("image.digest={digest}");
    let old_form = format!("image.tag=1.2.3@{digest}");
    for (values, expected) in [
        (DEFAULTS, concat!("vtep-agent:", env!("CARGO_PKG_VERSION")).to_owned()),
        (&["image.tag=1.2.3"], "vtep-agent:1.2.3".to_owned()),
        (&["image.tag=1.2.3", &by_digest], format!("vtep-agent:1.2.3@{digest}")),
        (&[&old_form], format!("vtep-agent:1.2.3@{digest}")),
    ] {
        let image = render(values)?.container()?["image"].clone();
        ensure!(image == expected, "{values:?}: {image}");
    }
    Ok(())
}

/// Chart, program and plain manifests have one version.
#[test]
fn one_version_in_all_places() -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let chart: Value = serde_saphyr::from_str(&read(&format!("{CHART}/Chart.yaml"))?)?;
    ensure!(chart["version"] == version && chart["appVersion"] == version, "{chart}");
    ensure!(read("deploy/vtep-agent.yaml")?.contains(&format!("image: \"vtep-agent:{version}\"")));
    Ok(())
}
