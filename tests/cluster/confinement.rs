//! What containerd makes of the manifest's security context, and what the chart's cleanup leaves.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::cluster::{eventually, in_cluster};

/// BPF (39), NET_ADMIN (12) and NET_RAW (13) of `linux/capability.h`.
const CAPABILITIES: u64 = 1 << 39 | 1 << 12 | 1 << 13;
/// `SECCOMP_MODE_FILTER` of `linux/seccomp.h`.
const FILTER: &str = "2";

#[test]
fn the_process_has_what_the_manifest_grants_and_no_more() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        let pid = cluster.pid()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<&str> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Ok(line.with_context(|| format!("no {name} in {status}"))?.trim())
        };
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            ensure!(field(set)? == format!("{CAPABILITIES:016x}"), "{set}: {}", field(set)?);
        }
        ensure!(field("CapAmb")? == format!("{:016x}", 0), "{}", field("CapAmb")?);
        ensure!(field("NoNewPrivs")? == "1" && field("Seccomp")? == FILTER, "{status}");
        let mounts = fs::read_to_string(format!("/proc/{pid}/mounts"))?;
        let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).context("a root")?;
        ensure!(
            root.split(' ').nth(3).is_some_and(|options| options.split(',').any(|option| option == "ro")),
            "{root}"
        );
        let written = cluster.run("kubectl -n kube-system exec daemonset/vtep-agent -- vtep-agent --version")?;
        ensure!(written.starts_with("vtep-agent "), "{written}");
        Ok(())
    })
}

#[test]
fn the_cleanup_of_the_chart_leaves_nothing() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        let ours = || -> Result<String> {
            Ok(cluster.lab.node.ip("route show table 2021")? + &cluster.lab.node.ip("rule show priority 113")?)
        };
        ensure!(ours()?.lines().count() == 4, "two routes and two rules: {}", ours()?);
        // As deploy/README.md says.
        cluster.run(
            "helm upgrade vtep-agent deploy/helm/vtep-agent --namespace kube-system --reset-then-reuse-values --set \
             cleanup=true",
        )?;
        cluster.rolled_out()?;
        ensure!(ours()?.is_empty(), "{}", ours()?);
        cluster.run("helm uninstall vtep-agent --namespace kube-system --wait")?;
        eventually("the pod is gone", Duration::from_secs(60), || {
            Ok(cluster.get("pods -n kube-system")?["items"].as_array().is_some_and(Vec::is_empty).then_some(()))
        })?;
        ensure!(ours()?.is_empty(), "{}", ours()?);
        ensure!(cluster.has_entries(&cluster.lab.topology.vteps())?, "Cilium's map stays as configured");
        let objects = "daemonsets,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,configmaps";
        let left = cluster.run(&format!("kubectl get {objects} -A -l app.kubernetes.io/name=vtep-agent -o name"))?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}
