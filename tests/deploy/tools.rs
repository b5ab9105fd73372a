//! The tools that `scripts/setup-tools` installs, and the chart as they render it.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The chart, from the repository's root.
pub(crate) const CHART: &str = "deploy/helm/vtep-agent";
/// The values of an installation that follows only README.
pub(crate) const DEFAULTS: &[&str] = &[];
/// Every option that adds an object or a field.
pub(crate) const EVERYTHING: &[&str] = &[
    "listen.scope=node",
    "monitor.enabled=true",
    "prometheusRule.enabled=true",
    "dashboard.enabled=true",
    "nodeCondition.enabled=true",
    "probe.targets={10.1.6.0/24=10.1.6.34,10.1.5.0/24=10.1.5.34}",
    "podCIDRs={10.0.0.0/16,fd00::/48}",
    "serviceCIDRs={10.96.0.0/12}",
    "probe.tcp={10.1.6.0/24=10.1.6.34:443}",
    "mac=learned",
    "learnMac={10.1.6.0/24}",
    "allowOverlap={172.17.0.0/24,10.9.0.0/24}",
    "routeTable=2099",
    "commonLabels.cost-center=network",
    "image.digest=sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "image.pullSecrets={registry}",
    "imagePullSecrets[0].name=mirror",
    "serviceAccount.annotations.team=network",
    "podSecurityContext.supplementalGroups={0}",
    "hostAliases[0].ip=10.169.72.1",
    "hostAliases[0].hostnames={k8s.example.com}",
    "dnsPolicy=ClusterFirstWithHostNet",
    "terminationGracePeriodSeconds=9",
    "extraVolumes[0].name=ca",
    "extraVolumes[0].configMap.name=ca",
    "extraVolumeMounts[0].name=ca",
    "extraVolumeMounts[0].mountPath=/etc/ca",
    "extraVolumeMounts[0].readOnly=true",
    "openshift.enabled=true",
    "extraArgs={--summary-interval=1m}",
    "extraEnv[0].name=KUBERNETES_SERVICE_HOST",
    "extraEnv[0].value=10.169.72.1",
    "seLinuxOptions.type=spc_t",
    "podAnnotations.team=network",
    "podLabels.team=network",
    "cleanup=true",
];

pub(crate) fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// A file of the repository.
pub(crate) fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("failed to read {path}"))
}

/// Runs a tool at the repository's root, without the user's own settings.
pub(crate) fn run(tool: &str, args: &[&str]) -> Result<Output> {
    let tools = root().join("target/tools");
    let mut command = Command::new(tools.join("bin").join(tool));
    for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME"] {
        command.env(home, tools.join("home"));
    }
    command.env_remove("KUBECONFIG").current_dir(root()).args(args);
    command.output().with_context(|| format!("failed to run {tool} of target/tools: `make setup` brings it"))
}

/// The output of a tool that succeeds.
pub(crate) fn run_well(tool: &str, args: &[&str]) -> Result<String> {
    let output = run(tool, args)?;
    let stdout = String::from_utf8(output.stdout)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{tool} {args:?}: {}\n{stdout}{stderr}", output.status);
    Ok(stdout)
}

/// The arguments that render what the chart installs with these values.
pub(crate) fn template<'a>(values: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["template", "vtep-agent", CHART, "--namespace", "kube-system", "--skip-tests"];
    args.extend(values.iter().flat_map(|value| ["--set", value]));
    args
}

/// The objects of the chart with these values.
pub(crate) fn render(values: &[&str]) -> Result<Objects> {
    Objects::parse(&run_well("helm", &template(values))?)
}

/// Objects of Kubernetes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Objects(pub(crate) Vec<Value>);

impl Objects {
    pub(crate) fn parse(yaml: &str) -> Result<Self> {
        Ok(Self(serde_saphyr::from_multiple(yaml)?))
    }

    pub(crate) fn of_kind<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    /// The object of this kind.
    pub(crate) fn only(&self, kind: &str) -> Result<&Value> {
        let mut found = self.of_kind(kind);
        let object = found.next().with_context(|| format!("no {kind}"))?;
        ensure!(found.next().is_none(), "more than one {kind}");
        Ok(object)
    }

    /// The DaemonSet's pod.
    pub(crate) fn pod(&self) -> Result<&Value> {
        Ok(&self.only("DaemonSet")?["spec"]["template"]["spec"])
    }

    /// The agent's container.
    pub(crate) fn container(&self) -> Result<&Value> {
        Ok(&self.pod()?["containers"][0])
    }
}
