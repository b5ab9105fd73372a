//! Upgrades: the chart takes the values of the previous release, and Kubernetes lets it replace that release's objects.
//!
//! `previous/chart` is the chart of that release, without its alerts, dashboard and README.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::tools::{CHART, Objects, root, run_well};

const PREVIOUS: &str = "tests/deploy/previous/chart";
/// Every value of the previous release, each with another value than its default. `config.source` excludes some of the others.
const VALUES: [&str; 2] = ["tests/deploy/previous/values.yaml", "tests/deploy/previous/dir.yaml"];

fn render(chart: &str, values: Option<&str>) -> Result<Objects> {
    let mut args = vec!["template", "vtep-agent", chart, "--namespace", "kube-system", "--skip-tests"];
    args.extend(values.into_iter().flat_map(|file| ["--values", file]));
    Objects::parse(&run_well("helm", &args)?)
}

fn find<'a>(objects: &'a Objects, like: &Value) -> Option<&'a Value> {
    let is_it = |object: &&Value| {
        object["kind"] == like["kind"]
            && ["name", "namespace"].iter().all(|field| object["metadata"][field] == like["metadata"][field])
    };
    objects.0.iter().find(is_it)
}

/// Without labels, which this release has more of.
fn without_labels(object: &Value) -> Value {
    let mut object = object.clone();
    for labels in ["/metadata/labels", "/spec/template/metadata/labels", "/spec/selector"] {
        if let Some(labels) = object.pointer_mut(labels) {
            *labels = Value::Null;
        }
    }
    object
}

/// `legacyKernel` grants a right more than it did: that is said in the changelog.
fn with_more_rights(object: &mut Value) {
    match object {
        Value::Array(items) => {
            if let Some(place) = items.iter().position(|item| item == "SYS_ADMIN") {
                items.insert(place + 1, json!("SYS_RESOURCE"));
            }
            items.iter_mut().for_each(with_more_rights);
        }
        Value::Object(fields) => fields.values_mut().for_each(with_more_rights),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether an object says everything that another one says; it may say more.
fn holds(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            old.iter().all(|(key, old)| new.get(key).is_some_and(|new| holds(new, old)))
        }
        (Value::Array(new), Value::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| holds(new, old))
        }
        (new, old) => new == old,
    }
}

#[test]
fn its_values_still_work_and_mean_the_same() -> Result<()> {
    for values in [None, Some(VALUES[0]), Some(VALUES[1])] {
        let (before, after) = (render(PREVIOUS, values)?, render(CHART, values)?);
        for old in &before.0 {
            let new = find(&after, old)
                .with_context(|| format!("{values:?}: {} is gone: {}", old["kind"], old["metadata"]))?;
            // These have texts of their own, which may change.
            if old["kind"] != "PrometheusRule" && old["metadata"]["name"] != "vtep-agent-dashboard" {
                let mut expected = without_labels(old);
                with_more_rights(&mut expected);
                ensure!(holds(&without_labels(new), &expected), "{values:?}: {old:#}\nbecame\n{new:#}");
            }
        }
        let added: Vec<_> = after.0.iter().filter(|new| find(&before, new).is_none()).collect();
        ensure!(added.is_empty(), "{values:?}: nobody asked for {added:?}");
    }
    Ok(())
}

/// A value of the fixture that equals its default would show nothing.
#[test]
fn the_fixture_sets_every_value_of_it() -> Result<()> {
    let parse = |path: &str| -> Result<Value> {
        Ok(serde_saphyr::from_str(&std::fs::read_to_string(root().join(path)).context(path.to_owned())?)?)
    };
    let defaults = parse(&format!("{PREVIOUS}/values.yaml"))?;
    let set = [parse(VALUES[0])?, parse(VALUES[1])?];
    for (name, default) in defaults.as_object().context("values")? {
        ensure!(set.iter().any(|set| set.get(name).is_some_and(|set| set != default)), "{name} has its default");
    }
    Ok(())
}

/// Kubernetes refuses to change these fields of an object that exists.
#[test]
fn no_field_changes_that_cannot() -> Result<()> {
    let (before, after) = (render(PREVIOUS, None)?, render(CHART, None)?);
    for (kind, field) in
        [("DaemonSet", "/spec/selector"), ("RoleBinding", "/roleRef"), ("ClusterRoleBinding", "/roleRef")]
    {
        for old in before.of_kind(kind) {
            let new = find(&after, old).context("the same object")?;
            ensure!(old.pointer(field) == new.pointer(field), "{kind} {field}: {old:#}\nbecame\n{new:#}");
        }
    }
    // The old selector still finds the new pods: otherwise `kubectl` would refuse the object.
    let labels = &after.only("DaemonSet")?["spec"]["template"]["metadata"]["labels"];
    ensure!(labels["app.kubernetes.io/name"] == json!("vtep-agent"), "{labels}");
    Ok(())
}
