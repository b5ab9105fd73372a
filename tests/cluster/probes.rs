//! The kubelet's probes, as the manifest has them: only the agent's own trouble restarts it.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use vtep_core::diagnosis::Cause;

use crate::{
    agent::KUBELET_NOTICES_WITHIN,
    cluster::{eventually, in_cluster, stays},
};

/// The liveness probe fails after three periods of 10 s, the readiness probe after three of 5 s.
const LIVENESS: Duration = Duration::from_secs(40);

/// Takes over 20 s: the time after which the kubelet would restart the container.
#[test]
fn dead_bigips_do_not_restart_the_agent_and_leave_it_ready() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        let pid = cluster.pid()?;
        for bigip in &cluster.lab.bigips {
            bigip.down()?;
        }
        cluster.wait_for("the outage is named", KUBELET_NOTICES_WITHIN, |status| {
            status.vteps.iter().all(|vtep| vtep.cause == Some(Cause::EndpointUnreachable))
        })?;
        stays("ready and not restarted", LIVENESS, || Ok(cluster.is_ready()? && cluster.restarts()? == 0))?;
        ensure!(cluster.pid()? == pid, "it is another process");
        Ok(())
    })
}

/// Takes over 20 s: three liveness probes of 10 s, and 5 s for each answer.
#[test]
fn a_process_that_hangs_is_restarted() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        let pid = cluster.pid()?;
        kill(pid, Signal::SIGSTOP)?;
        eventually("the kubelet has restarted it", KUBELET_NOTICES_WITHIN, || {
            Ok((cluster.restarts()? == 1 && cluster.is_ready()?).then_some(()))
        })?;
        ensure!(cluster.pid()? != pid, "it is the same process");
        cluster.healthy()
    })
}

/// Takes over 20 s: the time after which the kubelet would restart the container.
#[test]
fn on_an_unfit_node_it_is_not_ready_and_not_restarted() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        cluster.lab.cilium.pin_foreign_layout()?;
        eventually("it is not ready", KUBELET_NOTICES_WITHIN, || Ok((!cluster.is_ready()?).then_some(())))?;
        stays("not ready and not restarted", LIVENESS, || Ok(!cluster.is_ready()? && cluster.restarts()? == 0))
    })
}

/// Takes over 20 s: the time after which the kubelet would call it not ready.
#[test]
fn without_a_configuration_it_stays_ready_and_keeps_the_entries() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        cluster.run("kubectl -n kube-system delete configmap cilium-config")?;
        cluster.wait_for("the loss is noticed", KUBELET_NOTICES_WITHIN, |status| status.config.stale)?;
        let vteps = cluster.lab.topology.vteps();
        stays("ready, with its entries", Duration::from_secs(20), || {
            Ok(cluster.is_ready()? && cluster.has_entries(&vteps)?)
        })
    })
}
