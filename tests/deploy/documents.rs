//! The documents: every value has its default, and commands work as printed.

use anyhow::{Context, Result, bail, ensure};
use clap::CommandFactory;
use serde_json::Value;
use vtep_agent::cli::Cli;

use crate::tools::{CHART, read, run_well};

const README: &str = "deploy/README.md";

/// Each row of the table: a value's path, and its default.
fn table() -> Result<Vec<(String, Value)>> {
    let readme = read(README)?;
    let rows = readme.lines().skip_while(|line| !line.starts_with("| value | default |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut code = row.split('`').skip(1).step_by(2);
        let (path, default) = code.next().zip(code.next()).with_context(|| format!("no value and default in {row}"))?;
        let default = serde_saphyr::from_str(default).with_context(|| format!("no YAML: {default}"))?;
        Ok((path.to_owned(), default))
    })
    .collect()
}

#[test]
fn every_value_is_told_with_its_default() -> Result<()> {
    let mut values: Value = serde_saphyr::from_str(&read(&format!("{CHART}/values.yaml"))?)?;
    for (path, told) in table()? {
        let (parent, name) = path
            .rsplit_once('.')
            .map_or((String::new(), &*path), |(parent, name)| (format!("/{}", parent.replace('.', "/")), name));
        let parent = values.pointer_mut(&parent).and_then(Value::as_object_mut);
        let default =
            parent.and_then(|parent| parent.remove(name)).with_context(|| format!("there is no value {path}"))?;
        ensure!(default == told, "{path} is {default}, and {README} says {told}");
    }
    let untold = leaves("", &values);
    ensure!(untold.is_empty(), "{README} lacks {untold:?}");
    Ok(())
}

/// The paths of the remaining values, without empty groups.
fn leaves(path: &str, value: &Value) -> Vec<String> {
    match value.as_object() {
        Some(group) => group.iter().flat_map(|(name, value)| leaves(&format!("{path}.{name}"), value)).collect(),
        None => vec![path.to_owned()],
    }
}

/// The lines of the blocks marked `sh`.
fn commands(text: &str) -> Vec<&str> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).collect()
}

/// Without a cluster: the test renders what a command installs, and checks that the agent has each command.
#[test]
fn the_commands_are_right() -> Result<()> {
    for (document, least) in [("README.md", 8), ("README.zh-CN.md", 8), (README, 8), ("SECURITY.md", 0)] {
        let text = read(document)?;
        let commands = commands(&text);
        ensure!(commands.len() >= least, "{document} has {commands:?}");
        for command in commands {
            try_out(command).with_context(|| format!("{document}: {command}"))?;
        }
    }
    Ok(())
}

#[test]
fn the_notes_end_with_commands_that_are_right() -> Result<()> {
    for values in ["image.repository=registry.example.com/vtep-agent", "cleanup=true"] {
        let install =
            ["install", "vtep-agent", CHART, "--namespace", "kube-system", "--dry-run=client", "--set", values];
        let printed = run_well("helm", &install)?;
        let notes = printed.split_once("\nNOTES:\n").context("no notes")?.1;
        let commands: Vec<_> = notes.lines().filter_map(|line| line.strip_prefix("    ")).collect();
        ensure!(commands.len() >= 2, "{notes}");
        for command in commands {
            try_out(command).with_context(|| command.to_owned())?;
        }
        ensure!(!notes.contains("names no registry") || values == "cleanup=true", "{notes}");
    }
    Ok(())
}

fn try_out(command: &str) -> Result<()> {
    let words: Vec<_> = command.split_whitespace().collect();
    match words[..] {
        ["helm", "upgrade", "--install", ref args @ ..] => {
            run_well("helm", &[&["template"], args].concat())?;
        }
        ["helm", "upgrade", ref args @ ..] => {
            let args: Vec<_> = args.iter().copied().filter(|arg| *arg != "--reuse-values").collect();
            run_well("helm", &[&["template"], &*args].concat())?;
        }
        ["kubectl", "apply", "-k", directory] => {
            run_well("kubectl", &["kustomize", directory])?;
        }
        ["vtep-agent", ref args @ ..]
        | ["kubectl", "-n", "kube-system", "exec", "daemonset/vtep-agent", "--", "vtep-agent", ref args @ ..] => {
            Cli::command().try_get_matches_from([&["vtep-agent"], args].concat())?;
        }
        ["kubectl", "-n", "kube-system", "rollout", "status", "daemonset/vtep-agent"]
        | [
            "kubectl",
            "-n",
            "kube-system",
            "logs",
            "--selector",
            "app.kubernetes.io/name=vtep-agent",
            "--prefix",
            "--tail",
            "20",
        ]
        | ["kubectl", "-n", "kube-system", "port-forward", "daemonset/vtep-agent", "9808"]
        | ["kubectl", "-n", "kube-system", "logs", "daemonset/vtep-agent"]
        | ["kubectl", "describe", "node", "worker-1"]
        | ["helm", "uninstall", "vtep-agent", "--namespace", "kube-system"]
        | ["helm", "-n", "kube-system", "uninstall", "vtep-agent"] => {}
        _ => bail!("nobody has looked at this command: add it here"),
    }
    Ok(())
}
