//! Completions, man pages, version, and the plugin of kubectl.

use std::{fs, os::unix::fs::symlink, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{Agent, Cluster, Outcome, healthy};

fn run(args: &[&str]) -> Result<Outcome> {
    Outcome::of(Command::new(env!("CARGO_BIN_EXE_vtep-agent")).args(args).output()?)
}

#[test]
fn each_shell_gets_its_completions() -> Result<()> {
    for (shell, mark) in
        [("bash", "complete -F _vtep__agent"), ("zsh", "#compdef vtep-agent"), ("fish", "complete -c vtep-agent")]
    {
        let outcome = run(&["completion", shell])?;
        ensure!(outcome.code == Some(0) && outcome.out.contains(mark), "{shell}: {outcome:?}");
        ensure!(outcome.out.contains("fleet") && outcome.out.contains("kubeconfig"), "{shell}");
    }
    ensure!(run(&["completion", "tcsh"])?.code == Some(2));
    Ok(())
}

/// bash itself completes `vtep-agent fle`.
#[test]
fn bash_understands_its_completions() -> Result<()> {
    let script = format!(
        "source <({} completion bash); COMP_WORDS=(vtep-agent fle); COMP_CWORD=1; _vtep__agent vtep-agent fle vtep-agent; echo \
         \"${{COMPREPLY[@]}}\"",
        env!("CARGO_BIN_EXE_vtep-agent")
    );
    let outcome = Outcome::of(Command::new("bash").args(["-c", &script]).output()?)?;
    assert_eq!(outcome.out, "fleet\n", "{outcome:?}");
    Ok(())
}

#[test]
fn each_command_has_a_man_page() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let pages = directory.path().join("man1");
    let outcome = run(&["man", pages.to_str().context("a path")?])?;
    ensure!(outcome.code == Some(0), "{outcome:?}");
    for page in ["vtep-agent.1", "vtep-agent-fleet.1", "vtep-agent-status.1", "vtep-agent-version.1"] {
        let text = fs::read_to_string(pages.join(page)).with_context(|| page.to_owned())?;
        ensure!(text.contains(".TH ") && text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    ensure!(!pages.join("vtep-agent-man.1").exists(), "a hidden command has no page");
    Ok(())
}

#[test]
fn the_version_has_its_build() -> Result<()> {
    let build: Value = serde_json::from_str(&run(&["version", "-o", "json"])?.out)?;
    assert_eq!(build["version"], env!("CARGO_PKG_VERSION"));
    ensure!(build["target"].as_str().is_some_and(|target| target.contains("linux")), "{build}");
    ensure!(build.get("commit").is_some() && build.get("built_at").is_some(), "{build}");
    let text = run(&["version"])?.out;
    ensure!(text.starts_with(concat!("version  ", env!("CARGO_PKG_VERSION"), "\n")), "{text}");
    let short = run(&["--version"])?.out;
    match build["commit"].as_str() {
        Some(commit) => ensure!(short.contains(commit.get(..12).unwrap_or(commit)), "{short}"),
        None => assert_eq!(short, concat!("vtep-agent ", env!("CARGO_PKG_VERSION"), "\n")),
    }
    Ok(())
}

#[test]
fn under_another_name_it_is_the_plugin_of_kubectl() -> Result<()> {
    let cluster = Cluster::start()?;
    cluster.add("worker-1", "a", Agent::Answers(healthy("worker-1")))?;
    let directory = tempfile::tempdir()?;
    let plugin = directory.path().join("kubectl-vtep");
    symlink(env!("CARGO_BIN_EXE_vtep-agent"), &plugin)?;
    let kubeconfig = directory.path().join("kubeconfig");
    fs::write(&kubeconfig, cluster.server.kubeconfig())?;
    // Its kubeconfig is kubectl's.
    let outcome =
        Outcome::of(Command::new(&plugin).args(["--context", "test"]).env("KUBECONFIG", &kubeconfig).output()?)?;
    ensure!(outcome.code == Some(0) && outcome.out.starts_with("1 of 1 node healthy\n"), "{outcome:?}");
    let outcome =
        Outcome::of(Command::new(&plugin).args(["--context", "other"]).env("KUBECONFIG", &kubeconfig).output()?)?;
    ensure!(outcome.code == Some(2) && outcome.err.contains("other"), "{outcome:?}");
    let outcome = Outcome::of(Command::new(&plugin).args(["version", "-o", "json"]).output()?)?;
    ensure!(outcome.out.contains("\"target\""), "{outcome:?}");
    Ok(())
}

/// kubectl runs a program of this name with the words behind `kubectl vtep`, and reads the end of cobra's `__complete`.
#[test]
fn kubectl_completes_the_words_of_the_plugin() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let program = directory.path().join("kubectl_complete-vtep");
    symlink(env!("CARGO_BIN_EXE_vtep-agent"), &program)?;
    let outcome = Outcome::of(Command::new(&program).args(["bundle", "--red"]).output()?)?;
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    let line = outcome.out.strip_suffix("\n:4\n").with_context(|| outcome.out.clone())?;
    ensure!(line.starts_with("--redact\tReplace addresses"), "{line}");
    Ok(())
}

/// krew reads this manifest after the release has filled in its version and sums.
#[test]
fn the_krew_manifest_is_one() -> Result<()> {
    let text = include_str!("../../deploy/krew/vtep.yaml");
    let manifest: Value = serde_saphyr::from_str(text)?;
    assert_eq!((&manifest["kind"], &manifest["metadata"]["name"]), (&json!("Plugin"), &json!("vtep")));
    let platforms = manifest["spec"]["platforms"].as_array().context("platforms")?;
    for platform in platforms {
        assert_eq!(platform["bin"], "kubectl-vtep");
        ensure!(platform["uri"].as_str().is_some_and(|uri| uri.contains("{{ .TagName }}")), "{platform}");
    }
    Ok(())
}
