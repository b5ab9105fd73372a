//! kubectl and helm, as a person uses them.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{cluster::Cluster, tools};

impl Cluster {
    /// A command of kubectl or helm at the repository's root, as an administrator on the API host.
    pub(crate) fn client(&self, program: &str) -> Result<Command> {
        let host = self.lab.api_host.as_ref().context("an API host")?;
        let mut command = host.command(tools::client(program)?);
        let home = self.control_plane.file("home");
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME"] {
            command.env(variable, &home);
        }
        command.env("KUBECONFIG", self.control_plane.kubeconfig("admin"));
        command.current_dir(tools::root());
        Ok(command)
    }

    /// Runs kubectl or helm; it must succeed. The line is split at spaces.
    pub(crate) fn run(&self, line: &str) -> Result<String> {
        let (program, words) = line.split_once(' ').context("a program with arguments")?;
        let words: Vec<_> = words.split_whitespace().collect();
        succeeded(line, self.client(program)?.args(words).stdin(Stdio::null()).output()?)
    }

    /// `kubectl get … -o json`.
    pub(crate) fn get(&self, what: &str) -> Result<Value> {
        serde_json::from_str(&self.run(&format!("kubectl get {what} -o json"))?).context("kubectl prints JSON")
    }

    /// `kubectl apply -f -` with this object, or list of objects.
    pub(crate) fn apply(&self, object: &Value) -> Result<()> {
        let path = self.control_plane.file("object.json");
        std::fs::write(&path, object.to_string())?;
        self.run(&format!("kubectl apply --server-side --force-conflicts -f {}", path.display())).map(drop)
    }
}

pub(crate) fn succeeded(line: &str, output: Output) -> Result<String> {
    let Output { status, stdout, stderr } = output;
    let said = String::from_utf8(stdout)?;
    ensure!(status.success(), "{line}: {said}{}", String::from_utf8_lossy(&stderr));
    Ok(said)
}
