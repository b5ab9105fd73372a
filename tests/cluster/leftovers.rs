//! A cluster ends with its test, also with one that is killed.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::cluster::{eventually, in_cluster};

const GONE_WITHIN: Duration = Duration::from_secs(30);

/// A cluster that waits to be killed.
#[test]
#[ignore = "a part of the next test"]
fn holds_a_cluster() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        println!("\nruns");
        loop {
            std::thread::park();
        }
    })
}

/// Whatever of a cluster this machine can show: processes, mounts, cgroups, and directories that a kubelet or a containerd makes.
fn remains() -> Result<Vec<String>> {
    let mut found = Vec::new();
    let servers = ["kube", "etcd", "containerd", "vtep-agent", "pause"];
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        // A process that has ended but was not waited for yet has no mapping.
        let is_alive = fs::read_to_string(entry.path().join("maps")).is_ok_and(|maps| !maps.is_empty());
        if is_alive && servers.iter().any(|server| name.starts_with(server)) {
            found.push(format!("process {} {}", entry.path().display(), name.trim()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    found.extend(
        mounts.lines().filter(|line| line.contains("kubelet") || line.contains("containerd")).map(str::to_owned),
    );
    let find = Command::new("find").args(["/sys/fs/cgroup", "-maxdepth", "2", "-name", "vtep-lab-*"]).output()?;
    found.extend(String::from_utf8(find.stdout)?.lines().map(|path| format!("cgroup {path}")));
    let directories =
        ["/var/lib/kubelet", "/run/containerd", "/var/log/pods", "/var/log/containers", "/var/lib/vtep-agent"];
    found.extend(directories.iter().filter(|path| fs::exists(path).unwrap_or(true)).map(|path| (*path).to_owned()));
    Ok(found)
}

/// What appeared since `before`.
fn new(before: &[String]) -> Result<Vec<String>> {
    Ok(remains()?.into_iter().filter(|found| !before.contains(found)).collect())
}

#[test]
fn nothing_is_left_of_a_killed_test() -> Result<()> {
    let before = remains()?;
    let mut child = Command::new(env::current_exe()?);
    child.args(["--ignored", "--exact", "leftovers::holds_a_cluster", "--nocapture"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("an output")?).lines();
    let runs = lines.any(|line| line.is_ok_and(|line| line == "runs"));
    let during = new(&before)?;
    child.kill()?;
    child.wait()?;
    ensure!(runs && during.len() > 5, "the cluster did not run: {during:?}");
    let gone = eventually("nothing is left", GONE_WITHIN, || Ok(new(&before)?.is_empty().then_some(())));
    gone.with_context(|| format!("{:#?}", new(&before)))
}
