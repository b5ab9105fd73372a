//! The values of the chart: the comments of `values.yaml` describe them, and everything else that describes them agrees.
//!
//! `make manifests` writes the chart's README.

use std::{collections::BTreeMap, env, fs};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::tools::{CHART, read, root};

/// The mark of helm-docs for a comment that describes a value.
const MARK: &str = "# -- ";
/// The place of the table, for helm-docs and for this test.
const TABLE: &str = "{{ template \"chart.valuesTable\" . }}";

/// The path of each value with a comment, and that comment.
fn described() -> Result<BTreeMap<String, String>> {
    let (mut found, mut path, mut comment) = (BTreeMap::new(), Vec::new(), None::<String>);
    for line in read(&format!("{CHART}/values.yaml"))?.lines() {
        let text = line.trim_start();
        if let Some(first) = text.strip_prefix(MARK) {
            comment = Some(first.to_owned());
        } else if let Some(more) = text.strip_prefix("# ") {
            comment = comment.map(|comment| format!("{comment} {more}"));
        } else {
            let key = text.split_once(':').filter(|(key, _)| key.chars().all(char::is_alphanumeric));
            let comment = comment.take();
            if let Some((key, _)) = key {
                path.truncate((line.len() - text.len()) / 2);
                path.push(key);
                found.extend(comment.map(|comment| (path.join("."), comment)));
            }
        }
    }
    Ok(found)
}

fn defaults() -> Result<Value> {
    Ok(serde_saphyr::from_str(&read(&format!("{CHART}/values.yaml"))?)?)
}

/// A value by its path.
fn at<'a>(values: &'a Value, path: &str) -> Option<&'a Value> {
    values.pointer(&format!("/{}", path.replace('.', "/")))
}

/// The values that nothing describes: neither themselves nor a group around them.
fn undescribed(path: &str, value: &Value, described: &BTreeMap<String, String>) -> Vec<String> {
    if described.contains_key(path) {
        return Vec::new();
    }
    let Some(group) = value.as_object() else { return vec![path.to_owned()] };
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    group.iter().flat_map(|(name, value)| undescribed(&below(name), value, described)).collect()
}

/// The table in the form of helm-docs.
fn table() -> Result<String> {
    let values = defaults()?;
    let mut table = "| Key | Type | Default | Description |\n|-----|------|---------|-------------|\n".to_owned();
    for (path, comment) in described()? {
        let default = at(&values, &path).with_context(|| format!("{path} has no default"))?;
        let kind = match default {
            Value::Null => "string",
            Value::Bool(_) => "bool",
            Value::Number(_) => "int",
            Value::String(_) => "string",
            Value::Array(_) => "list",
            Value::Object(_) => "object",
        };
        table += &format!("| {path} | {kind} | `{default}` | {comment} |\n");
    }
    Ok(table)
}

#[test]
fn each_has_a_description() -> Result<()> {
    let (values, described) = (defaults()?, described()?);
    ensure!(described.len() > 50, "{described:?}");
    let missing = undescribed("", &values, &described);
    ensure!(missing.is_empty(), "no comment `{MARK}…` describes {missing:?}");
    Ok(())
}

#[test]
fn the_readme_of_the_chart_lists_them() -> Result<()> {
    let template = read(&format!("{CHART}/README.md.gotmpl"))?;
    ensure!(template.contains(TABLE), "no place for the table");
    let expected = template.replace(&format!("{TABLE}\n"), &table()?);
    let path = root().join(CHART).join("README.md");
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected)?;
    }
    ensure!(fs::read_to_string(&path)? == expected, "{} is old: `make manifests`", path.display());
    Ok(())
}

/// Editors and Artifact Hub show the descriptions of the schema.
#[test]
fn the_schema_has_the_same_descriptions() -> Result<()> {
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))?)?;
    for (path, comment) in described()? {
        let pointer: String = path.split('.').map(|name| format!("/properties/{name}")).collect();
        let told = schema.pointer(&pointer).with_context(|| format!("the schema does not know {path}"))?;
        ensure!(told["description"] == comment, "{path}: the schema says {}", told["description"]);
    }
    Ok(())
}

/// Every value of the schema has a default, and the reverse; apart from the two that only a parent chart sets.
#[test]
fn the_schema_has_no_other_values() -> Result<()> {
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))?)?;
    let values = defaults()?;
    let known = schema["properties"].as_object().context("properties")?;
    for (name, told) in known.iter().filter(|(name, _)| !matches!(&***name, "enabled" | "global")) {
        let default = values.get(name).with_context(|| format!("{name} has no default"))?;
        // A group of values, and not a map or an object of Kubernetes that is one value.
        let required = told["required"].as_array().map_or(0, Vec::len);
        if let Some(group) = told["properties"].as_object().filter(|group| group.len() == required) {
            for inner in group.keys() {
                ensure!(default.get(inner).is_some(), "{name}.{inner} has no default");
            }
        }
    }
    let missing: Vec<_> =
        values.as_object().context("values")?.keys().filter(|name| !known.contains_key(*name)).collect();
    ensure!(missing.is_empty(), "the schema does not know {missing:?}");
    Ok(())
}
