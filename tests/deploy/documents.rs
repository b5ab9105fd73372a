//! The documents: their commands work as printed.

use anyhow::{Context, Result, bail, ensure};
use clap::CommandFactory;
use vtep_agent::cli::Cli;

use crate::tools::{CHART, read, run_well};

const README: &str = "deploy/README.md";
const CHINESE: &str = "deploy/README.zh-CN.md";

/// The lines of the blocks marked `sh`.
fn commands(text: &str) -> Vec<&str> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).collect()
}

/// Without a cluster: the test renders what a command installs, and checks that the agent has each command.
#[test]
fn the_commands_are_right() -> Result<()> {
    for (document, least) in [
        ("README.md", 8),
        ("README.zh-CN.md", 8),
        (README, 8),
        (CHINESE, 8),
        ("docs/report-a-fault.md", 3),
        ("SECURITY.md", 0),
    ] {
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
        // Of a thousand pods, nobody reads the logs.
        ensure!(!notes.contains(" logs "), "{notes}");
    }
    Ok(())
}

fn try_out(command: &str) -> Result<()> {
    // A shell writes the output to a file; the program does not see that.
    let words: Vec<_> = command.split_whitespace().take_while(|word| !word.starts_with('>')).collect();
    match words[..] {
        ["helm", "upgrade", "--install", ref args @ ..] => {
            run_well("helm", &[&["template"], args].concat())?;
        }
        ["helm", "upgrade", ref args @ ..] => {
            let args: Vec<_> = args.iter().copied().filter(|arg| *arg != "--reset-then-reuse-values").collect();
            run_well("helm", &[&["template"], &*args].concat())?;
        }
        ["kubectl", "apply", "-k", directory] => {
            run_well("kubectl", &["kustomize", directory])?;
        }
        ["vtep-agent", ref args @ ..] => {
            Cli::command().try_get_matches_from([&["vtep-agent"], args].concat())?;
        }
        [
            "kubectl",
            "-n",
            "kube-system",
            "exec",
            "daemonset/vtep-agent" | "$pod",
            "--",
            "vtep-agent",
            ref args @ ..,
        ] => {
            Cli::command().try_get_matches_from([&["vtep-agent"], args].concat())?;
        }
        _ if KNOWN.contains(&command.trim()) => {}
        _ => bail!("nobody has looked at this command: add it here"),
    }
    Ok(())
}

/// Commands that need a cluster. `make test-cluster` runs them.
const KNOWN: [&str; 9] = [
    "pod=$(kubectl -n kube-system get pods --selector app.kubernetes.io/name=vtep-agent --field-selector \
     spec.nodeName=worker-1 -o name)",
    "kubectl -n kube-system get pods --selector app.kubernetes.io/name=vtep-agent -o wide",
    "kubectl -n kube-system logs $pod",
    "kubectl -n kube-system port-forward $pod 9808",
    "kubectl -n kube-system rollout status daemonset/vtep-agent",
    "kubectl describe node worker-1",
    "helm -n kube-system test vtep-agent",
    "helm -n kube-system uninstall vtep-agent",
    "helm uninstall vtep-agent --namespace kube-system",
];
