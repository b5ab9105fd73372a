//! The chart: its values, and Kubernetes' validation of its output.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::tools::{CHART, DEFAULTS, EVERYTHING, Objects, render, root, run, run_well, template};

/// Values that change how other programs see the pod, each with its default first.
const AXES: [&[&str]; 6] = [
    &["config.source=kube", "config.source=dir"],
    &["listen.scope=loopback", "listen.scope=node"],
    &["events.enabled=true", "events.enabled=false"],
    &["legacyKernel=false", "legacyKernel=true"],
    &["cilium.version=", "cilium.version=1.18.8"],
    &["cleanup=false", "cleanup=true"],
];

/// Kinds of the Prometheus operator and of OpenShift, for which Kubernetes has no schemas.
const OTHERS: [&str; 4] = ["PodMonitor", "ServiceMonitor", "PrometheusRule", "SecurityContextConstraints"];

#[test]
fn helm_finds_nothing_to_say() -> Result<()> {
    run_well("helm", &["lint", "--strict", CHART])?;
    let mut args = vec!["lint", "--strict", CHART];
    args.extend(EVERYTHING.iter().flat_map(|value| ["--set", value]));
    run_well("helm", &args)?;
    Ok(())
}

#[test]
fn every_combination_of_values_is_valid_and_as_strict() -> Result<()> {
    let newest = *versions()?.last().context("no schemas")?;
    let dir = tempfile::tempdir()?;
    let mut files = Vec::new();
    for values in combinations() {
        let text = run_well("helm", &template(&values))?;
        crate::rights::check(&Objects::parse(&text)?).with_context(|| format!("with {values:?}"))?;
        files.push(write(dir.path(), &values.join(","), &text)?);
    }
    ensure!(files.len() == 64, "{}", files.len());
    validate(newest, &files)
}

#[test]
fn every_kubernetes_since_1_28_takes_it() -> Result<()> {
    let versions = versions()?;
    ensure!(versions.first() == Some(&(1, 28)) && versions.len() >= 10, "{versions:?}");
    let service_monitor: Vec<_> = EVERYTHING.iter().copied().chain(["monitor.kind=ServiceMonitor"]).collect();
    for version in versions {
        let (major, minor) = version;
        let kubernetes = format!("{major}.{minor}.0");
        let dir = tempfile::tempdir()?;
        let mut files = Vec::new();
        for (name, values) in [("defaults", DEFAULTS), ("everything", EVERYTHING), ("service", &service_monitor)] {
            let mut args = template(values);
            // Also the pod of `helm test`.
            args.retain(|arg| *arg != "--skip-tests");
            args.extend(["--kube-version", &kubernetes]);
            files.push(write(dir.path(), name, &run_well("helm", &args)?)?);
        }
        validate(version, &files)?;
    }
    Ok(())
}

/// Since that version, the API server puts the node's name into a request; before, the policy would refuse every agent.
#[test]
fn the_policy_for_the_condition_is_there_from_kubernetes_1_30_on() -> Result<()> {
    for (version, policies) in [("1.29.9", 0), ("1.30.0", 1), ("1.37.0", 1)] {
        let mut args = template(&["nodeCondition.enabled=true"]);
        args.extend(["--kube-version", version]);
        let objects = Objects::parse(&run_well("helm", &args)?)?;
        let count = objects.of_kind("ValidatingAdmissionPolicy").count();
        ensure!(count == policies, "{count} with Kubernetes {version}");
    }
    ensure!(render(DEFAULTS)?.of_kind("ValidatingAdmissionPolicy").count() == 0, "a policy for nothing");
    Ok(())
}

#[test]
fn a_field_that_kubernetes_does_not_have_is_found() -> Result<()> {
    let newest = *versions()?.last().context("no schemas")?;
    let good = run_well("helm", &template(DEFAULTS))?;
    let dir = tempfile::tempdir()?;
    for (index, (right, wrong)) in
        [("hostNetwork: true", "hostNetworks: true"), ("hostNetwork: true", "hostNetwork: \"yes\"")].iter().enumerate()
    {
        let bad = good.replace(right, wrong);
        ensure!(bad != good, "{right} is not there");
        let file = write(dir.path(), &index.to_string(), &bad)?;
        ensure!(validate(newest, &[file]).is_err(), "{wrong} passed");
    }
    Ok(())
}

/// The message contains the key, in Helm's form of a path.
#[test]
fn bad_values_are_refused_by_name() -> Result<()> {
    let cases = [
        ("mode=dry-run", "/mode"),
        ("hostRoutes=maybe", "/hostRoutes"),
        ("ipcache=yes please", "/ipcache"),
        ("image.tag=a b", "/image/tag"),
        ("image.repository=", "/image/repository"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("cilium.namespace=", "/cilium/namespace"),
        ("cilium.version=v1.18", "/cilium/version"),
        ("cilium.runPath=run", "/cilium/runPath"),
        ("config.source=git", "/config/source"),
        ("probe.interval=1", "/probe/interval"),
        ("probe.targets={10.1.6.34}", "/probe/targets/0"),
        ("podCIDRs={10.0.0.0}", "/podCIDRs/0"),
        ("serviceCIDRs=10.96.0.0/12", "/serviceCIDRs"),
        ("probe.tcp={10.1.6.0/24=10.1.6.34}", "/probe/tcp/0"),
        ("mac=automatic", "/mac"),
        ("learnMac={10.1.6.34}", "/learnMac/0"),
        ("allowOverlap={x}", "/allowOverlap/0"),
        ("routeTable=202", "/routeTable"),
        ("events.enabled=on", "/events/enabled"),
        ("nodeCondition.enabled=1", "/nodeCondition/enabled"),
        ("log.format=xml", "/log/format"),
        ("log.level=", "/log/level"),
        ("listen.scope=everywhere", "/listen/scope"),
        ("listen.port=0", "/listen/port"),
        ("monitor.kind=Probe", "/monitor/kind"),
        ("monitor.interval=often", "/monitor/interval"),
        ("runbookUrl=https://wiki/vtep#top", "/runbookUrl"),
        ("legacyKernel=maybe", "/legacyKernel"),
        ("seccompProfile.type=None", "/seccompProfile/type"),
        ("resources.limits.memory=lots", "/resources/limits/memory"),
        ("resources.limits.memroy=48Mi", "memroy"),
        ("updateStrategy.rollingUpdate.maxUnavailable=all", "/updateStrategy/rollingUpdate/maxUnavailable"),
        ("tolerations=all", "/tolerations"),
        ("extraEnv[0].value=x", "/extraEnv/0"),
        ("nameOverride=No Name", "/nameOverride"),
        ("fullnameOverride=-", "/fullnameOverride"),
        // The selectors need these labels.
        ("commonLabels.app\\.kubernetes\\.io/name=x", "app.kubernetes.io/name"),
        ("podLabels.app\\.kubernetes\\.io/instance=x", "app.kubernetes.io/instance"),
        ("image.digest=sha256:abc", "/image/digest"),
        ("imagePullSecrets={registry}", "/imagePullSecrets/0"),
        ("global.imagePullSecrets={registry}", "/global/imagePullSecrets/0"),
        ("serviceAccount.create=perhaps", "/serviceAccount/create"),
        ("rbac.create=perhaps", "/rbac/create"),
        ("openshift.enabled=perhaps", "/openshift/enabled"),
        ("dnsPolicy=None", "/dnsPolicy"),
        ("hostAliases[0].ip=10.0.0.1", "/hostAliases/0"),
        ("terminationGracePeriodSeconds=0", "/terminationGracePeriodSeconds"),
        ("extraVolumes[0].emptyDir.medium=Memory", "/extraVolumes/0"),
        ("extraVolumeMounts[0].name=ca", "/extraVolumeMounts/0"),
        ("enabled=perhaps", "/enabled"),
        ("nodeConditions.enabled=true", "nodeConditions"),
        ("privileged=true", "privileged"),
        // Conditions that a schema cannot express.
        ("monitor.enabled=true", "monitor.enabled needs listen.scope: node"),
        ("config.source=dir,nodeCondition.enabled=true", "nodeCondition.enabled needs config.source: kube"),
        ("config.source=dir,cilium.namespace=cilium", "install the release in cilium.namespace"),
        ("serviceAccount.create=false", "serviceAccount.create: false needs serviceAccount.name"),
        (
            "image.tag=1@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,\
             image.digest=sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "set only one of image.tag and image.digest",
        ),
    ];
    for (value, named) in cases {
        let output = run("helm", &template(&[value]))?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "{value} was accepted");
        ensure!(message.contains(named), "{value} was refused without naming {named}:\n{message}");
    }
    Ok(())
}

fn combinations() -> Vec<Vec<&'static str>> {
    AXES.iter().fold(vec![Vec::new()], |combinations, axis| {
        let with = |values: &Vec<_>, value: &&'static str| values.iter().copied().chain([*value]).collect();
        combinations.iter().flat_map(|values| axis.iter().map(move |value| with(values, value))).collect()
    })
}

/// The versions for which the validator has schemas, from 1.28 on, in order.
fn versions() -> Result<BTreeSet<(u32, u32)>> {
    let lib = root().join("target/tools/lib");
    let python = fs::read_dir(&lib).with_context(|| format!("failed to read {}", lib.display()))?;
    let mut versions = BTreeSet::new();
    for python in python {
        let schemas = python?.path().join("site-packages/kubernetes_validate/kubernetes-json-schema");
        for schema in fs::read_dir(&schemas).with_context(|| format!("failed to read {}", schemas.display()))? {
            let name = schema?.file_name().into_string().ok().context("a name of UTF-8")?;
            let mut numbers = name.trim_start_matches('v').split('.').map_while(|number| number.parse().ok());
            let version = numbers.next().zip(numbers.next()).with_context(|| format!("no version in {name}"))?;
            versions.insert(version);
        }
    }
    Ok(versions.into_iter().filter(|version| *version >= (1, 28)).collect())
}

fn write(dir: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = dir.join(format!("{name}.yaml").replace('/', "_"));
    fs::write(&path, text)?;
    Ok(path)
}

/// Validates files with the schemas of one Kubernetes version, which refuse unknown fields. The validator must have checked each object.
fn validate((major, minor): (u32, u32), files: &[PathBuf]) -> Result<()> {
    let version = format!("{major}.{minor}");
    let mut args = vec!["--strict", "--kubernetes-version", &version];
    args.extend(files.iter().filter_map(|file| file.to_str()));
    let said = run_well("kubernetes-validate", &args)?;
    let mut expected = 0;
    for file in files {
        expected += Objects::parse(&fs::read_to_string(file)?)?.0.len();
    }
    let without_schema = |line: &&str| {
        line.starts_with("WARN") && OTHERS.iter().any(|kind| line.contains(&format!("schema for kind {kind} ")))
    };
    let passed = said.lines().filter(|line| line.starts_with("INFO") && line.contains(" passed for resource ")).count();
    let unknown = said.lines().filter(without_schema).count();
    ensure!(passed + unknown == expected && passed > 0, "Kubernetes {version}: {expected} objects, and this:\n{said}");
    Ok(())
}
