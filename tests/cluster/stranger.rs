//! The path of somebody who has only the files of a release, `dist/`, and an installation of the previous one.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use vtep_core::diagnosis::Verdict;

use crate::{
    agent::{HEALTHY_WITHIN, TARGETS, is_healthy},
    cluster::{Cluster, eventually, in_cluster},
    tools,
};

/// The chart of the previous release.
const PREVIOUS: &str = "tests/deploy/previous/chart";
/// Where a release is without `REGISTRY`.
const IMAGE: &str = "image.repository=registry.example.com/vtep-agent";

fn dist() -> PathBuf {
    env::var_os("VTEP_DIST").map_or_else(|| tools::root().join("dist"), PathBuf::from)
}

/// The file whose name ends like this. Longer endings belong to other files.
fn file(dist: &Path, end: &str, but: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dist).with_context(|| format!("no {}: run `make release`", dist.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("vtep-agent-") && name.ends_with(end) && !name.ends_with(but)
    };
    paths.find(is_it).with_context(|| format!("no vtep-agent-…{end} in {}", dist.display()))
}

/// Everything that the agent or its chart ever made.
fn left(cluster: &Cluster) -> Result<String> {
    let objects =
        "pods,daemonsets,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,configmaps,secrets";
    let labelled =
        cluster.run(&format!("kubectl get {objects} -A -l app.kubernetes.io/instance=vtep-agent -o name"))?;
    let helms = cluster.run("kubectl get secrets -A -l owner=helm -o name")?;
    let node = cluster.lab.node.ip("route show table 2021")? + &cluster.lab.node.ip("rule show priority 113")?;
    Ok(labelled + &helms + &node)
}

fn passes_its_test(cluster: &Cluster) -> Result<()> {
    let said = cluster.run("helm -n kube-system test vtep-agent --timeout 120s")?;
    ensure!(said.contains("Succeeded"), "{said}");
    Ok(())
}

#[test]
#[ignore = "make test-stranger"]
fn from_the_previous_release_to_nothing() -> Result<()> {
    in_cluster(|cluster| {
        let dist = dist();
        let chart = file(&dist, ".tgz", ".tar.gz")?;
        let version = chart.file_stem().unwrap_or_default().to_string_lossy().replace("vtep-agent-", "");
        let chart = chart.display();
        let helm = |words: &str| cluster.run(&format!("helm {words} --namespace kube-system"));

        helm(&format!("upgrade --install vtep-agent {PREVIOUS} --set {IMAGE} --set {TARGETS}"))?;
        cluster.rolled_out()?;
        cluster.healthy()?;

        cluster.import(&file(&dist, ".oci.tar", ".chart.oci.tar")?)?;
        helm(&format!("upgrade vtep-agent {chart} --reset-then-reuse-values"))?;
        cluster.rolled_out()?;
        let status = cluster.wait_for("the new version is healthy", HEALTHY_WITHIN, |status| {
            is_healthy(status) && status.version == version
        })?;
        ensure!(status.vteps.len() == 2, "{status:#?}");
        passes_its_test(cluster)?;

        cluster.lab.bigips[0].down()?;
        cluster.wait_for("the fault is there", HEALTHY_WITHIN, |status| {
            status.vteps.iter().any(|vtep| vtep.verdict == Verdict::Unreachable)
        })?;
        ensure!(cluster.run("helm -n kube-system test vtep-agent --timeout 120s").is_err(), "a dead BIG-IP passed");
        cluster.lab.bigips[0].up()?;
        cluster.healthy()?;
        // Helm keeps the pod of a test that failed, for its log, until the next test.
        passes_its_test(cluster)?;

        helm(&format!("upgrade vtep-agent {chart} --reset-then-reuse-values --set cleanup=true"))?;
        cluster.rolled_out()?;
        helm("uninstall vtep-agent --wait")?;
        eventually("nothing is left", Duration::from_secs(60), || Ok(left(cluster)?.is_empty().then_some(())))
            .with_context(|| left(cluster).unwrap_or_default())
    })
}
