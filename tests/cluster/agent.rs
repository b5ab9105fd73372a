//! The agent's pod, as an administrator sees it.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use serde_json::Value;
use vtep_core::{diagnosis::Verdict, report::status::Status};
use vtep_lab::Vtep;

use crate::{
    cluster::{Cluster, eventually},
    node::NODE,
};

/// The chart's name, namespace and selector.
pub(crate) const NAMESPACE: &str = "kube-system";
const SELECTOR: &str = "app.kubernetes.io/name=vtep-agent";
/// The self IPs, so that no test waits for a search.
pub(crate) const TARGETS: &str = "probe.targets={10.1.6.0/24=10.1.6.34,10.1.5.0/24=10.1.5.36}";
/// A pod of this node starts in 3 s; the agent is healthy 3 s later.
pub(crate) const HEALTHY_WITHIN: Duration = Duration::from_secs(90);
/// What the kubelet notices after three probes.
pub(crate) const KUBELET_NOTICES_WITHIN: Duration = Duration::from_secs(120);

impl Cluster {
    /// Installs the chart with these settings, in the form of `--set`, and waits until the tunnels are healthy.
    pub(crate) fn install(&self, settings: &[&str]) -> Result<()> {
        self.helm(settings)?;
        self.rolled_out()?;
        self.healthy()
    }

    pub(crate) fn helm(&self, settings: &[&str]) -> Result<()> {
        let settings: String = settings.iter().map(|setting| format!(" --set {setting}")).collect();
        let line = "helm upgrade --install vtep-agent deploy/helm/vtep-agent --namespace kube-system --set";
        self.run(&format!("{line} {TARGETS}{settings}")).map(drop)
    }

    pub(crate) fn rolled_out(&self) -> Result<()> {
        self.run("kubectl -n kube-system rollout status daemonset/vtep-agent --timeout 120s").map(drop)
    }

    pub(crate) fn healthy(&self) -> Result<()> {
        self.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, is_healthy).map(drop)
    }

    /// Waits for a status of the agent.
    pub(crate) fn wait_for(&self, what: &str, within: Duration, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        let mut last = None;
        let found = eventually(what, within, || {
            // While a container is replaced, there is none to ask.
            last = self.status().ok();
            Ok(last.clone().filter(&wanted))
        });
        found.with_context(|| format!("last status: {last:#?}"))
    }

    /// What `vtep-agent status` prints in the pod.
    pub(crate) fn status(&self) -> Result<Status> {
        let pod = self.pod()?["metadata"]["name"].as_str().context("a name")?.to_owned();
        let mut kubectl = self.client("kubectl")?;
        kubectl.args(["-n", NAMESPACE, "exec", &pod, "--", "vtep-agent", "status", "-o", "json"]);
        // Its exit status is that of the tunnels.
        let output = kubectl.output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("no status: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The only pod of the lab's node that is not being deleted.
    pub(crate) fn pod(&self) -> Result<Value> {
        let pods = self.get(&format!("pods -n {NAMESPACE} -l {SELECTOR} --field-selector spec.nodeName={NODE}"))?;
        let is_live = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        let mut live = pods["items"].as_array().context("a list of pods")?.iter().filter(is_live);
        let pod = live.next().context("a pod")?.clone();
        ensure!(live.next().is_none(), "several pods: {pods:#}");
        Ok(pod)
    }

    /// The agent's container in the pod's status.
    pub(crate) fn container(&self) -> Result<Value> {
        Ok(self.pod()?["status"]["containerStatuses"][0].clone())
    }

    pub(crate) fn restarts(&self) -> Result<u64> {
        self.container()?["restartCount"].as_u64().context("a number of restarts")
    }

    pub(crate) fn is_ready(&self) -> Result<bool> {
        self.container()?["ready"].as_bool().context("ready or not")
    }

    /// The agent's process, as this machine numbers it. The kubelet tells about a new container a little later.
    pub(crate) fn pid(&self) -> Result<Pid> {
        eventually("the container's process is known", HEALTHY_WITHIN, || {
            let container = self.container().ok();
            let id = container
                .as_ref()
                .and_then(|container| container["containerID"].as_str()?.strip_prefix("containerd://"));
            id.map_or(Ok(None), process_of)
        })
    }

    /// The VTEP map has exactly the entries of these VTEPs.
    pub(crate) fn has_entries(&self, vteps: &[Vtep]) -> Result<bool> {
        Ok(self.lab.cilium.vtep_entries()? == vteps.iter().map(|vtep| (vtep.key(), vtep.value())).collect())
    }
}

/// The agent's process in a container, if it runs.
fn process_of(container: &str) -> Result<Option<Pid>> {
    let is_agent = |pid: &i32| {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        cgroup.contains(container) && name.trim() == "vtep-agent"
    };
    let mut numbers = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers.find(is_agent).map(Pid::from_raw))
}

pub(crate) fn is_healthy(status: &Status) -> bool {
    status.vteps.len() == 2 && status.vteps.iter().all(|vtep| vtep.verdict == Verdict::Healthy)
}
