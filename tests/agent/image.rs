//! Runs the image like the DaemonSet, in a real container runtime, with the rights, files and settings of the manifest. `make image`
//! builds the image first, and names it in `VTEP_IMAGE`.

use std::{env, fs, path::Path, process::Output};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use vtep_lab::{BPF_FS, CILIUM_RUN, Config, Lab, STATE};

use crate::{
    api::{KUBECONFIG, NODE, api_server},
    privileges::{does_its_work, granted, is_confined_to, pod},
    support::Agent,
};

/// A container that ends with the test, also after a failure.
struct Container<'l> {
    lab: &'l Lab,
    name: String,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // After a successful test, the container has ended already.
        let _ = podman(self.lab, &["rm", "--force", "--ignore", "--time", "0", &self.name]);
    }
}

impl Container<'_> {
    /// Runs a command like `kubectl exec`; it must succeed.
    fn exec(&self, words: &[&str]) -> Result<String> {
        podman(self.lab, &[&["exec", &self.name, "vtep-agent"], words].concat())
    }
}

/// Sends a request from the node, whose network the container shares.
fn podman(lab: &Lab, words: &[&str]) -> Result<String> {
    let Output { status, stdout, stderr } =
        lab.node.command("podman").args(words).output().context("failed to run podman")?;
    let said = String::from_utf8(stdout)?;
    ensure!(status.success(), "podman {words:?}: {said}{}", String::from_utf8_lossy(&stderr));
    Ok(said)
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("no {key} in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key].as_array().with_context(|| format!("no {key} in {value}"))
}

/// Each mount of the container, with the lab's directory in place of the node's.
fn volumes(pod: &Value, container: &Value) -> Result<Vec<String>> {
    let mount = |mount: &Value| {
        let volume = list(pod, "volumes")?.iter().find(|volume| volume["name"] == mount["name"]);
        let source = match text(&volume.context("a volume for each mount")?["hostPath"], "path")? {
            "/sys/fs/bpf" => BPF_FS,
            "/var/run/cilium" => CILIUM_RUN,
            "/var/lib/vtep-agent" => STATE,
            other => bail!("{other} is not in the lab"),
        };
        let access = if mount["readOnly"] == true { "ro" } else { "rw" };
        let propagation = if mount["mountPropagation"] == "HostToContainer" { "rslave" } else { "rprivate" };
        Ok(format!("--volume={source}:{}:{access},{propagation}", text(mount, "mountPath")?))
    };
    list(container, "volumeMounts")?.iter().map(mount).collect()
}

/// The container's environment; `$(NAME)` is replaced by the variables before it, as in Kubernetes.
fn environment(container: &Value) -> Result<Vec<(&str, String)>> {
    let mut variables: Vec<(&str, String)> = Vec::new();
    for variable in list(container, "env")? {
        let value = match text(&variable["valueFrom"]["fieldRef"], "fieldPath") {
            Ok("spec.nodeName") => NODE,
            Ok(other) => bail!("{other} is not in the lab"),
            Err(_) => text(variable, "value")?,
        };
        let expand = |value: String, (name, known): &(&str, String)| value.replace(&format!("$({name})"), known);
        let value = variables.iter().fold(value.to_owned(), expand);
        variables.push((text(variable, "name")?, value));
    }
    Ok(variables)
}

/// Converts a limit to Podman's form: `48m` for `48Mi`.
fn memory(container: &Value) -> Result<String> {
    let limit = text(&container["resources"]["limits"], "memory")?;
    Ok(limit.strip_suffix('i').context("a limit in Mi")?.to_lowercase())
}

/// The runtime's default filter for system calls. It adds a rule that containerd has had for years and Debian 12's Podman lacks: `bpf` is
/// permitted with `CAP_BPF`, and not only with `CAP_SYS_ADMIN`.
fn seccomp() -> Result<NamedTempFile> {
    let default = fs::read_to_string("/usr/share/containers/seccomp.json").context("the default seccomp profile")?;
    let mut profile: Value = serde_json::from_str(&default)?;
    let rules = profile["syscalls"].as_array_mut().context("rules")?;
    for rule in rules.iter_mut().filter(|rule| rule["action"] == "SCMP_ACT_ERRNO") {
        rule["names"].as_array_mut().context("names")?.retain(|name| name != "bpf");
    }
    rules.push(json!({"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}}));
    let file = NamedTempFile::new()?;
    fs::write(file.path(), profile.to_string())?;
    Ok(file)
}

#[test]
#[ignore = "make image"]
fn it_does_its_work_with_what_the_manifest_grants() -> Result<()> {
    let image = env::var("VTEP_IMAGE").context("VTEP_IMAGE names no image: run `make image`")?;
    let lab = Lab::start()?;
    let server = api_server(&lab)?;
    fs::write(KUBECONFIG, server.kubeconfig())?;
    fs::create_dir_all(STATE)?;

    let (pod, granted) = (pod()?, granted()?);
    let manifest = &pod["containers"][0];
    ensure!(pod["hostNetwork"] == true && manifest["securityContext"]["readOnlyRootFilesystem"] == true, "{pod:#}");
    let container = Container { lab: &lab, name: format!("vtep-agent-{}", std::process::id()) };
    let mut command = lab.node.command("podman");
    command.args([
        "--runtime=runc",
        "run",
        "--rm",
        "--pull=never",
        "--name",
        &container.name,
        "--network=host",
        "--log-driver=none",
    ]);
    // Podman's own defaults exceed the machine's limits.
    command.args(["--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"]);
    command.args(["--read-only", "--read-only-tmpfs=false", "--user=0:0", "--memory", &memory(manifest)?]);
    let seccomp = seccomp()?;
    command.arg(format!("--security-opt=seccomp={}", seccomp.path().display()));
    command.args(["--security-opt=no-new-privileges", "--cap-drop=ALL"]);
    command.args(granted.iter().map(|capability| format!("--cap-add={capability}")));
    command.args(volumes(&pod, manifest)?);
    command.args(environment(manifest)?.iter().map(|(name, value)| format!("--env={name}={value}")));
    // Settings that differ from a cluster.
    command.args(["--volume", &format!("{KUBECONFIG}:{KUBECONFIG}:ro"), &format!("--env=KUBECONFIG={KUBECONFIG}")]);
    command.arg("--env=VTEP_AGENT_PROBE_TARGET=10.1.6.0/24=10.1.6.34,10.1.5.0/24=10.1.5.36");
    command.arg(&image).args(list(manifest, "args")?.iter().filter_map(Value::as_str));

    let mut agent = Agent::spawn(&lab, command)?;
    does_its_work(&lab, &agent)?;
    for path in ["/livez", "/readyz", "/healthz"] {
        ensure!(agent.code(path)? == 200, "{path}");
    }
    let pid = podman(&lab, &["inspect", "--format", "{{.State.Pid}}", &container.name])?.trim().parse()?;
    is_confined_to(Pid::from_raw(pid), &granted)?;
    ensure!(Path::new(STATE).join("last-good.json").exists(), "its state is where the manifest says");

    let version = container.exec(&["--version"])?;
    // The commit follows in parentheses.
    ensure!(version.starts_with(concat!("vtep-agent ", env!("CARGO_PKG_VERSION"), " (")), "{version}");
    let fit = container.exec(&["preflight"])?;
    ensure!(fit.ends_with("this node is fit\n"), "{fit}");
    let table = container.exec(&["status"])?;
    ensure!(table.matches("healthy").count() >= 2, "{table}");
    // A directory that the container can read.
    let document: String = Config::seed_keys().iter().map(|(key, value)| format!("{key}: \"{value}\"\n")).collect();
    fs::write(Path::new(STATE).join("cilium-config.yaml"), document)?;
    container.exec(&["check", "/var/lib/vtep-agent/cilium-config.yaml"])?;
    ensure!(agent.terminate()?.success(), "a clean end");
    Ok(())
}
