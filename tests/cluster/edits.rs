//! From an edit of the ConfigMap to the kernel, whatever people edit with.

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use vtep_lab::{Config, Vtep};

use crate::{
    cluster::{Cluster, eventually, in_cluster},
    kubectl::succeeded,
};

const EDITS: u8 = 50;
/// The documents promise 10 ms after the API server has the edit; kubectl itself takes longer than that.
const EDITED_WITHIN: Duration = Duration::from_secs(10);

/// The second VTEP at another address of its BIG-IP's network.
fn moved(cluster: &Cluster, last: u8) -> Vec<Vtep> {
    let mut vteps = cluster.lab.topology.vteps();
    vteps[1].endpoint = Ipv4Addr::new(10, 169, 72, last);
    vteps
}

fn endpoints(vteps: &[Vtep]) -> String {
    Config::keys_for(vteps)["vtep-endpoint"].clone()
}

/// Polls the kernel's map without a pause, so that the time is that of the edit.
fn in_kernel(cluster: &Cluster, vteps: &[Vtep]) -> Result<()> {
    let deadline = Instant::now() + EDITED_WITHIN;
    while !cluster.has_entries(vteps)? {
        ensure!(Instant::now() < deadline, "not in the kernel within {EDITED_WITHIN:?}: {vteps:?}");
    }
    Ok(())
}

#[test]
fn fifty_patches_reach_the_kernel() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        let mut times = Vec::new();
        for n in 0..EDITS {
            let vteps = moved(cluster, 100 + n);
            let patch = json!({ "data": { "vtep-endpoint": endpoints(&vteps) } }).to_string();
            let mut kubectl = cluster.client("kubectl")?;
            kubectl.args(["-n", "kube-system", "patch", "configmap", "cilium-config", "--type=merge", "-p", &patch]);
            let mut kubectl = kubectl.stdout(std::process::Stdio::null()).spawn()?;
            // kubectl spends most of its time before its request; what counts begins when the API server has the edit.
            let ended = kubectl.wait()?;
            let answered = Instant::now();
            ensure!(ended.success(), "kubectl patch: {ended}");
            in_kernel(cluster, &vteps)?;
            times.push(answered.elapsed());
        }
        times.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!(
            "{EDITS} edits: in the kernel {:.1} ms (p50) and {:.1} ms (p99) after kubectl returned",
            ms(p50),
            ms(p99)
        );
        Ok(())
    })
}

#[test]
fn edit_apply_and_helm_upgrade_do_as_well() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        let edited = moved(cluster, 90);
        let before = cluster.lab.topology.vteps()[1].endpoint;
        let editor = format!("sed -i s/{before}/{}/", edited[1].endpoint);
        let mut kubectl = cluster.client("kubectl")?;
        kubectl.args(["-n", "kube-system", "edit", "configmap", "cilium-config"]).env("KUBE_EDITOR", editor);
        succeeded("kubectl edit", kubectl.output()?)?;
        in_kernel(cluster, &edited).context("kubectl edit")?;

        let applied = moved(cluster, 91);
        cluster.apply(&json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "cilium-config", "namespace": "kube-system" },
            "data": Config::keys_for(&applied),
        }))?;
        in_kernel(cluster, &applied).context("kubectl apply")?;

        // As Cilium's own chart does: the ConfigMap is rendered from values.
        cluster.run("kubectl -n kube-system delete configmap cilium-config")?;
        let chart = cluster.control_plane.file("cilium");
        fs::create_dir_all(chart.join("templates"))?;
        fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: cilium\nversion: 1.0.0\n")?;
        fs::write(
            chart.join("templates/cilium-config.yaml"),
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: cilium-config\n  namespace: kube-system\n\
             data: {{ toJson .Values.keys }}\n",
        )?;
        for last in [92, 93] {
            let upgraded = moved(cluster, last);
            let values = chart.join("values.json");
            fs::write(&values, json!({ "keys": Config::keys_for(&upgraded) }).to_string())?;
            let chart = chart.display();
            cluster.run(&format!(
                "helm upgrade --install cilium {chart} --namespace kube-system -f {}",
                values.display()
            ))?;
            eventually("helm upgrade is in the kernel", EDITED_WITHIN, || {
                Ok(cluster.has_entries(&upgraded)?.then_some(()))
            })?;
        }
        Ok(())
    })
}
