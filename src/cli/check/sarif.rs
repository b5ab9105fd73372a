//! SARIF 2.1.0, which code review shows beside the lines of a change.

use std::path::{Component, Path};

use serde_json::{Value, json};
use vtep_core::config::{
    checked::Located,
    finding::{Rule, Severity},
};

use super::Report;
use crate::cli::json;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// Cilium's own document about what the rules check.
const HELP: &str = "https://docs.cilium.io/en/stable/network/vtep/";

pub(super) fn report(report: &Report) -> String {
    let results: Vec<Value> = report.findings().map(result).collect();
    let notes = report.notes.iter().chain(report.sections.iter().flat_map(|section| &section.notes));
    let notes: Vec<Value> = notes.map(|note| json!({ "level": "note", "message": { "text": note } })).collect();
    let rules: Vec<Value> = Rule::ALL.iter().map(|rule| descriptor(*rule)).collect();
    let driver = json!({ "name": "vtep-agent check", "version": env!("CARGO_PKG_VERSION"), "rules": rules });
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": driver },
            "invocations": [{ "executionSuccessful": true, "toolExecutionNotifications": notes }],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    json::pretty(&log).unwrap_or_default()
}

fn descriptor(rule: Rule) -> Value {
    let id = rule.id();
    json!({
        "id": id,
        "name": rule.reason(),
        "shortDescription": { "text": rule.summary() },
        "helpUri": HELP,
        "help": { "text": format!("{}. See docs/check.md of vtep-agent.", rule.summary()) },
        "defaultConfiguration": { "level": level(rule.severity()) },
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

fn result(located: &Located) -> Value {
    let finding = &located.finding;
    let mut result = json!({
        "ruleId": finding.rule.id(),
        "ruleIndex": Rule::ALL.iter().position(|rule| *rule == finding.rule),
        "level": level(finding.severity),
        "message": { "text": finding.message },
    });
    if let Some(spot) = &located.spot {
        let mut region = json!({ "startLine": spot.location.line, "startColumn": spot.location.column });
        if let Some(excerpt) = &spot.excerpt {
            region["endColumn"] = (spot.location.column as usize + excerpt.width.max(1)).into();
            region["snippet"] = json!({ "text": excerpt.line });
        }
        result["locations"] = json!([{
            "physicalLocation": { "artifactLocation": { "uri": uri(&spot.location.file) }, "region": region },
            "logicalLocations": [{ "fullyQualifiedName": spot.path }],
        }]);
    }
    result
}

/// The file relative to the working directory if it is in it: code review knows only paths of the repository.
fn uri(file: &str) -> String {
    let path = Path::new(file);
    let directory = std::env::current_dir().unwrap_or_default();
    let relative = path.strip_prefix(&directory).unwrap_or(path);
    let parts = relative.components().filter_map(|part| match part {
        Component::Normal(name) => Some(escaped(&name.to_string_lossy())),
        Component::ParentDir => Some("..".to_owned()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    });
    let joined = parts.collect::<Vec<_>>().join("/");
    if relative.is_absolute() { format!("file:///{joined}") } else { joined }
}

/// Escapes what may not be in a segment of a URI.
fn escaped(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=@".contains(&byte);
    name.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("./deploy/a b:ü.yaml"), "deploy/a%20b%3A%C3%BC.yaml");
        assert_eq!(uri("/a/b"), "file:///a/b");
        assert_eq!(uri("../b"), "../b");
        let here = std::env::current_dir().expect("a directory").join("x/y.yaml");
        assert_eq!(uri(&here.display().to_string()), "x/y.yaml");
    }
}
