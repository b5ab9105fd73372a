//! The container runtime and the kubelet of a node in the lab.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use vtep_lab::{BPF_FS, CILIUM_RUN, FILES, Host, Lab};

use crate::{cluster::eventually, control_plane::ControlPlane, pki, tools};

/// The name of the lab's node.
pub(crate) const NODE: &str = "worker-1";
/// The name of its other node, if it has one.
pub(crate) const OTHER_NODE: &str = "worker-2";
/// Two cores, and containerd's first start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// The namespace in containerd of what the kubelet runs.
const KUBELETS: &str = "k8s.io";
/// The image's names in the chart and in README.
const IMAGES: [&str; 2] = ["docker.io/library/vtep-agent", "registry.example.com/vtep-agent"];
const CGROUPS: &str = "/sys/fs/cgroup";

/// The node's own view of the machine: the usual directories are empty ones, in memory, and Cilium's is the lab's, or that of a node on which
/// Cilium never ran. All processes of the node are in one PID namespace: the kernel kills them when its first process ends, and that one
/// ends with the test.
const START: &str = r#"
set -e
mount --make-rshared /
for directory in /run /var/lib /var/log; do mount -t tmpfs tmpfs $directory; done
mkdir -p /run/cilium /var/lib/kubelet
if [ -n "$CILIUM_RUN" ]; then mount --bind "$CILIUM_RUN" /run/cilium; else mount -t bpf bpf "$BPF_FS"; fi
containerd --config "$NODE_FILES/containerd.toml" >"$NODE_FILES/containerd.log" 2>&1 &
"$KUBELET" --config "$NODE_FILES/kubelet.json" --kubeconfig "$KUBECONFIG" --hostname-override "$NODE_NAME" --node-ip "$NODE_IP" \
    >"$NODE_FILES/kubelet.log" 2>&1 &
# Processes of containers become children of this one.
while :; do wait; sleep 1; done
"#;

pub(crate) struct Node {
    host: Host,
    /// `unshare`, whose only child is the first process of the node.
    init: Child,
    /// After `init`: they are empty then.
    _cgroups: Cgroups,
}

impl Node {
    /// The lab's node, with its Cilium.
    pub(crate) fn start(lab: &Lab, control_plane: &ControlPlane) -> Result<Self> {
        Self::join(control_plane, NODE, &lab.node, lab.topology.node_ip, CILIUM_RUN)
    }

    /// The lab's other node, if it has one. No Cilium runs there.
    pub(crate) fn start_other(lab: &Lab, control_plane: &ControlPlane) -> Result<Option<Self>> {
        let Some((host, ip)) = lab.other_node.as_ref().zip(lab.topology.other_node_ip) else { return Ok(None) };
        host.ip(&format!("route add default via {}", lab.topology.underlay.addr()))?;
        Self::join(control_plane, OTHER_NODE, host, ip, "").map(Some)
    }

    fn join(control_plane: &ControlPlane, name: &str, host: &Host, ip: Ipv4Addr, cilium_run: &str) -> Result<Self> {
        let directory = Path::new(FILES).join(name);
        fs::create_dir_all(directory.join("cni"))?;
        // No pod has a network of its own. But a node without any is not ready.
        fs::write(directory.join("cni/lab.conf"), r#"{"cniVersion": "0.4.0", "name": "lab", "type": "lab"}"#)?;
        fs::write(directory.join("containerd.toml"), containerd(&directory))?;
        // Tests of one process may run at the same time.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let cgroup = format!("vtep-lab-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let cgroups = Cgroups::new(&cgroup)?;
        fs::write(directory.join("kubelet.json"), kubelet(control_plane, &cgroup))?;
        let mut command = host.command("unshare");
        command.args([
            "--mount",
            "--propagation=unchanged",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            START,
        ]);
        command.env("NODE_FILES", &directory).env("CILIUM_RUN", cilium_run).env("BPF_FS", BPF_FS);
        command.env("KUBELET", tools::server("kubelet")?).env("KUBECONFIG", control_plane.kubeconfig(name));
        command.env("NODE_NAME", name).env("NODE_IP", ip.to_string());
        let log = fs::File::create(directory.join("init.log"))?;
        let init = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("failed to run unshare")?;
        let this = Self { host: host.clone(), init, _cgroups: cgroups };
        eventually("containerd answers", STARTS_WITHIN, || Ok(this.containerd(&["version"]).ok()))?;
        for archive in tools::images()? {
            this.import(&archive)?;
        }
        let (tag, version) = (tools::image_tag()?, env!("CARGO_PKG_VERSION"));
        for repository in IMAGES {
            let (from, to) = (format!("localhost/vtep-agent:{tag}"), format!("{repository}:{version}"));
            this.containerd(&["images", "tag", &from, &to])?;
        }
        Ok(this)
    }

    /// Brings the images of an archive to the node, under the names in it.
    pub(crate) fn import(&self, archive: &Path) -> Result<()> {
        self.containerd(&["images", "import", &archive.display().to_string()]).map(drop)
    }

    /// Runs containerd's own client on the node.
    fn containerd(&self, words: &[&str]) -> Result<String> {
        let mut command = self.inside("ctr")?;
        command.args(["--namespace", KUBELETS]).args(words);
        let output = command.output().context("failed to run ctr")?;
        ensure!(output.status.success(), "ctr {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A command among the node's files and processes.
    fn inside(&self, program: &str) -> Result<Command> {
        let mut command = self.host.command("nsenter");
        command.args(["--target", &self.first()?.to_string(), "--mount", "--pid", "--", program]);
        Ok(command)
    }

    /// The first process of the node's PID namespace, as this machine numbers it.
    fn first(&self) -> Result<u32> {
        let init = self.init.id();
        let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children"))?;
        children.split_whitespace().next().context("the node has not started")?.parse().context("a number")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // --kill-child ends the first process of the namespace, and the kernel all the others.
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

/// The kubelet wants its root in every hierarchy of cgroups. Version 2 has one hierarchy, whose root is the mount itself.
fn hierarchies() -> Vec<PathBuf> {
    if Path::new(CGROUPS).join("cgroup.controllers").exists() {
        return vec![CGROUPS.into()];
    }
    let entries = fs::read_dir(CGROUPS).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.join("cgroup.procs").exists()).collect()
}

fn make_cgroups(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let top = hierarchy.join(name);
        fs::create_dir_all(&top).with_context(|| format!("failed to make the cgroup {}", top.display()))?;
        // A new cpuset has no processors.
        for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|file| top.join(file).exists()) {
            let inherited = fs::read_to_string(hierarchy.join(file)).unwrap_or_default();
            if !inherited.trim().is_empty() {
                fs::write(top.join(file), inherited)?;
            }
        }
    }
    Ok(())
}

/// Removes the cgroups that the kubelet leaves, once nothing holds its standard input open: after the test, also if that was killed.
const JANITOR: &str = r#"
cat >/dev/null
for attempt in $(seq 100); do
    find /sys/fs/cgroup -depth -type d \( -name "$CGROUP" -o -path "*/$CGROUP/*" \) -exec rmdir {} + 2>/dev/null
    [ -n "$(find /sys/fs/cgroup -maxdepth 2 -type d -name "$CGROUP")" ] || exit 0
    sleep 0.1
done
exit 1
"#;

struct Cgroups {
    janitor: Child,
}

impl Cgroups {
    fn new(name: &str) -> Result<Self> {
        let mut janitor = Command::new("setsid");
        janitor.args(["sh", "-c", JANITOR]).env("CGROUP", name);
        let janitor = janitor.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let this = Self { janitor };
        make_cgroups(name)?;
        Ok(this)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        // The test for leftovers finds what stays.
        let _ = self.janitor.wait();
    }
}

fn containerd(directory: &Path) -> String {
    format!(
        r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  # A machine without CAP_SYS_RESOURCE, as a virtual one may be, refuses scores below its own.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"#,
        directory.display()
    )
}

fn kubelet(control_plane: &ControlPlane, cgroup: &str) -> String {
    serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": control_plane.file(pki::CA) },
        },
        "authorization": { "mode": "Webhook" },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        // The machine may have only the first version of cgroups.
        "failCgroupV1": false,
        "failSwapOn": false,
        // The machine's disk is not the node's.
        "evictionHard": { "memory.available": "100Mi" },
        "imageGCHighThresholdPercent": 100,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    })
    .to_string()
}
