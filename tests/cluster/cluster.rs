//! The lab with a cluster of one node, or two.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use vtep_lab::{Builder, Config, FILES, Lab};

use crate::{
    control_plane::ControlPlane,
    node::{NODE, Node, OTHER_NODE},
};

/// The kubelet registers its node, and says that it is ready.
const NODE_READY_WITHIN: Duration = Duration::from_secs(120);

/// Its parts end in this order.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    pub(crate) control_plane: ControlPlane,
    pub(crate) lab: Lab,
}

impl Cluster {
    /// A cluster with the seed's `cilium-config`, and nothing else.
    pub(crate) fn start(lab: Builder) -> Result<Self> {
        let lab = lab.api_host(true).start()?;
        let started = ControlPlane::start(&lab).and_then(|control_plane| {
            let mut nodes = vec![Node::start(&lab, &control_plane)?];
            nodes.extend(Node::start_other(&lab, &control_plane)?);
            Ok((control_plane, nodes))
        });
        let (control_plane, nodes) = started.with_context(logs)?;
        let this = Self { nodes, control_plane, lab };
        this.ready().with_context(logs)?;
        Ok(this)
    }

    /// Brings the images of an archive to every node, under the names in it.
    pub(crate) fn import(&self, archive: &Path) -> Result<()> {
        self.nodes.iter().try_for_each(|node| node.import(archive))
    }

    fn ready(&self) -> Result<()> {
        for node in [NODE, OTHER_NODE].iter().take(self.nodes.len()) {
            eventually(&format!("{node} is ready"), NODE_READY_WITHIN, || {
                let condition = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
                let ready = self.run(&format!("kubectl get node {node} --ignore-not-found -o {condition}"))?;
                Ok((ready == "True").then_some(()))
            })?;
        }
        self.apply(&json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "cilium-config", "namespace": "kube-system" },
            "data": Config::seed_keys(),
        }))
    }
}

/// Runs a test in a cluster of its own. If it fails, the error has the last words of all servers.
pub(crate) fn in_cluster(test: impl FnOnce(&mut Cluster) -> Result<()>) -> Result<()> {
    in_cluster_on(Lab::builder(), test)
}

/// The same, in a lab with these options.
pub(crate) fn in_cluster_on(lab: Builder, test: impl FnOnce(&mut Cluster) -> Result<()>) -> Result<()> {
    let mut cluster = Cluster::start(lab)?;
    test(&mut cluster).with_context(|| {
        let words = "--selector app.kubernetes.io/name=vtep-agent --prefix --tail 40";
        let agent = cluster.run(&format!("kubectl -n kube-system logs {words}"));
        format!("{}agent:\n{}", logs(), agent.unwrap_or_else(|error| format!("{error:#}")))
    })
}

/// The last lines of every log.
fn logs() -> String {
    let mut text = String::new();
    for directory in ["control-plane", NODE, OTHER_NODE] {
        for entry in fs::read_dir(Path::new(FILES).join(directory)).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") && !path.ends_with("audit.log") {
                let log = fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(15)..].join("\n");
                text += &format!("{}:\n{last}\n\n", path.display());
            }
        }
    }
    text
}

/// Calls `probe` until it returns a value.
pub(crate) fn eventually<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = probe().with_context(|| format!("while waiting until {what}"))? {
            return Ok(value);
        }
        ensure!(Instant::now() < deadline, "not within {within:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Checks a state all this time.
pub(crate) fn stays(what: &str, time: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        ensure!(holds().with_context(|| format!("while it should stay {what}"))?, "it does not stay {what}");
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}
