//! Every way in which a pod is replaced: no packet is lost, entries stay, and the successor takes over.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use vtep_lab::{PingResult, ping};

use crate::{
    agent::NAMESPACE,
    cluster::{Cluster, eventually, in_cluster},
    node::NODE,
};

/// The promise, from the successor's start.
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(2);
/// The kubelet starts a container again after 10 s, then 20 s; a pod that is gone is made anew at once.
const REPLACED_WITHIN: Duration = Duration::from_secs(120);
/// Pings while something happens: for half a minute.
const PINGS: u32 = 30_000;

/// A thousand pings a second, from the pod to the first BIG-IP through the tunnel, while `work` goes on.
fn under_pings(cluster: &Cluster, work: impl FnOnce() -> Result<()>) -> Result<PingResult> {
    let (pod, to) = (cluster.lab.pod.clone(), cluster.lab.bigips[0].addresses.self_ip.addr());
    thread::scope(|scope| {
        let pings = scope.spawn(move || ping(&pod, None, to, PINGS, Duration::from_millis(1)));
        let worked = work().and_then(|()| {
            ensure!(!pings.is_finished(), "the pings ended before the work");
            Ok(())
        });
        let pings = pings.join().map_err(|_| anyhow::anyhow!("ping panicked"))?;
        worked.and(pings)
    })
}

/// Takes over 20 s: half a minute of pings.
#[test]
fn a_rolling_update_loses_no_ping() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        let before = cluster.pid()?;
        let pings = under_pings(cluster, || {
            for _ in 0..2 {
                cluster.run("kubectl -n kube-system rollout restart daemonset/vtep-agent")?;
                cluster.rolled_out()?;
            }
            Ok(())
        })?;
        ensure!(cluster.pid()? != before, "nothing was replaced");
        println!("two rolling updates under {} pings: {} lost", pings.sent, pings.sent - pings.received);
        ensure!(pings.is_complete(), "{pings:?}");
        cluster.healthy()
    })
}

/// Replaces the agent in this way, takes an entry away as soon as the old process has ended, and waits until the successor has put it back.
fn is_succeeded(cluster: &Cluster, how: &str, replace: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let (pid, pod) = (cluster.pid()?, cluster.pod()?);
    let vteps = cluster.lab.topology.vteps();
    replace(pod["metadata"]["name"].as_str().context("a name")?)?;
    eventually("the old process ends", REPLACED_WITHIN, || {
        ensure!(cluster.has_entries(&vteps)?, "entries are gone");
        Ok(kill(pid, None).is_err().then_some(()))
    })?;
    cluster.lab.cilium.delete_vtep(vteps[0].key())?;
    eventually("the successor has put it back", REPLACED_WITHIN, || Ok(cluster.has_entries(&vteps)?.then_some(())))?;
    let back = jiff::Timestamp::now();
    cluster.healthy()?;
    let started = cluster.status()?.started_at;
    let time = Duration::try_from(back.duration_since(started)).context("it started before")?;
    println!("{how}: the successor has put an entry back {time:.1?} after its start");
    ensure!(time <= TAKES_OVER_WITHIN, "{how}: {time:?}");
    Ok(())
}

/// Takes over 20 s: four successors.
#[test]
fn deletion_eviction_drain_and_crash_leave_the_entries() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        is_succeeded(cluster, "kubectl delete pod", |pod| {
            cluster.run(&format!("kubectl -n {NAMESPACE} delete pod {pod} --wait=false")).map(drop)
        })?;
        is_succeeded(cluster, "kubectl delete pod --force", |pod| {
            cluster.run(&format!("kubectl -n {NAMESPACE} delete pod {pod} --force --grace-period 0")).map(drop)
        })?;
        is_succeeded(cluster, "eviction", |pod| {
            let path = cluster.control_plane.file("eviction.json");
            let eviction = serde_json::json!({
                "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod, "namespace": NAMESPACE },
            });
            std::fs::write(&path, eviction.to_string())?;
            let url = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction");
            cluster.run(&format!("kubectl create --raw {url} -f {}", path.display())).map(drop)
        })?;
        is_succeeded(cluster, "kill -9", |_| Ok(kill(cluster.pid()?, Signal::SIGKILL)?))?;
        // A drain leaves the pods of DaemonSets, and so the tunnels of what still runs on the node.
        let pid = cluster.pid()?;
        cluster.run(&format!("kubectl drain {NODE} --ignore-daemonsets --timeout 60s"))?;
        ensure!(cluster.pid()? == pid, "the drain replaced it");
        ensure!(cluster.has_entries(&cluster.lab.topology.vteps())?, "entries are gone");
        cluster.run(&format!("kubectl uncordon {NODE}")).map(drop)
    })
}

/// Takes over 20 s: the kubelet waits before it starts a container again.
#[test]
fn a_memory_limit_that_is_too_low_kills_the_agent_and_not_the_tunnels() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        let vteps = cluster.lab.topology.vteps();
        cluster.helm(&["resources.limits.memory=6Mi", "resources.requests.memory=1Mi"])?;
        eventually("the kernel kills it", REPLACED_WITHIN, || {
            ensure!(cluster.has_entries(&vteps)?, "entries are gone");
            let Ok(container) = cluster.container() else { return Ok(None) };
            let reasons =
                [&container["lastState"], &container["state"]].map(|state| state["terminated"]["reason"].clone());
            Ok(reasons.contains(&"OOMKilled".into()).then_some(()))
        })?;
        let pings = ping(
            &cluster.lab.pod,
            None,
            cluster.lab.bigips[0].addresses.self_ip.addr(),
            10,
            Duration::from_millis(10),
        )?;
        ensure!(pings.is_complete() && cluster.has_entries(&vteps)?, "{pings:?}");
        cluster.install(&[])
    })
}
