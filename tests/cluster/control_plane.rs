//! etcd, the API server, the controllers and the scheduler, on the lab's API host.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use vtep_lab::{FILES, Host, Lab};

use crate::{cluster::eventually, pki, tools};

/// The network of Services. Its first address is that of `default/kubernetes`, which pods use.
const SERVICES: &str = "10.96.0.0/16";
const KUBERNETES: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The port of that Service. As the API server listens there itself, no kube-proxy is needed.
const PORT: u16 = 443;
/// Two cores and an empty cluster: it takes 10 s.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
/// How often etcd forgets old revisions, so that a watch may have to begin anew.
const COMPACTION: &str = "10s";

/// Every request of this user is recorded, with its decision; those of others are not.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
    {"level": "Metadata", "users": ["system:serviceaccount:kube-system:vtep-agent"]},
    {"level": "None"}
]}"#;

/// Tokens of people and of the cluster's own parts: token, user, number, groups.
const TOKENS: &str = "admin,admin,1,system:masters\n\
                      controllers,system:kube-controller-manager,2\n\
                      scheduler,system:kube-scheduler,3\n\
                      worker-1,system:node:worker-1,4,system:nodes\n\
                      worker-2,system:node:worker-2,5,system:nodes\n";

pub(crate) struct ControlPlane {
    host: Host,
    address: Ipv4Addr,
    directory: PathBuf,
    api_server: Option<Child>,
    _others: Vec<Server>,
}

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.0, Signal::SIGKILL);
    }
}

/// Sends a signal, and waits for the end.
fn end(child: &mut Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // Both fail only if it has ended already.
        let _ = kill(Pid::from_raw(pid), signal);
        let _ = child.wait();
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(server) = &mut self.api_server {
            end(server, Signal::SIGKILL);
        }
    }
}

impl ControlPlane {
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let host = lab.api_host.clone().context("a lab with an API host")?;
        let address = lab.topology.api.addr();
        // The router leads to the Service's address as to the host's own.
        host.ip(&format!("address add {KUBERNETES}/32 dev lo"))?;
        lab.underlay.ip(&format!("route add {KUBERNETES}/32 via {address}"))?;
        let directory = Path::new(FILES).join("control-plane");
        pki::write(&directory, &[KUBERNETES, address, Ipv4Addr::LOCALHOST].map(IpAddr::V4))?;
        fs::write(directory.join("audit.json"), AUDIT_POLICY)?;
        fs::write(directory.join("tokens.csv"), TOKENS)?;
        for line in TOKENS.lines() {
            let token = line.split(',').next().unwrap_or_default();
            fs::write(directory.join(format!("{token}.kubeconfig")), kubeconfig(&directory, address, token))?;
        }
        let mut this = Self { host, address, directory, api_server: None, _others: Vec::new() };
        let etcd = this.spawn(this.etcd()?)?;
        this._others.push(Server(etcd));
        this.start_api_server()?;
        for command in [this.controllers()?, this.scheduler()?] {
            let server = this.spawn(command)?;
            this._others.push(Server(server));
        }
        Ok(this)
    }

    /// The kubeconfig of `admin` or of a node.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.file(&format!("{user}.kubeconfig"))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts the API server, and waits until it is ready.
    pub(crate) fn start_api_server(&mut self) -> Result<()> {
        ensure!(self.api_server.is_none(), "the API server runs already");
        let command = self.api_server_command()?;
        self.api_server = Some(self.spawn(command)?);
        eventually("the API server is ready", STARTS_WITHIN, || {
            let ended = self.api_server.as_mut().map(Child::try_wait).transpose()?.flatten();
            ensure!(ended.is_none(), "the API server ended: {ended:?}");
            Ok(self.is_ready()?.then_some(()))
        })
    }

    /// Ends the API server as a restart of its host would: without a farewell.
    pub(crate) fn stop_api_server(&mut self) -> Result<()> {
        end(self.api_server.as_mut().context("a running API server")?, Signal::SIGKILL);
        self.api_server = None;
        Ok(())
    }

    /// What the API server recorded of the agent's requests, oldest first.
    pub(crate) fn audit(&self) -> Result<Vec<serde_json::Value>> {
        let text = fs::read_to_string(self.file("audit.log"))?;
        // The last line may be half written.
        Ok(text.lines().map_while(|line| serde_json::from_str(line).ok()).collect())
    }

    fn is_ready(&self) -> Result<bool> {
        let mut kubectl = self.host.command(tools::client("kubectl")?);
        kubectl.args(["get", "--raw", "/readyz", "--kubeconfig"]).arg(self.kubeconfig("admin"));
        let output = kubectl.env("HOME", &self.directory).output()?;
        Ok(output.status.success() && output.stdout == b"ok")
    }

    fn spawn(&self, mut command: Command) -> Result<Child> {
        let name = Path::new(command.get_program()).file_name().context("a program")?.to_string_lossy().into_owned();
        let log = fs::OpenOptions::new().create(true).append(true).open(self.file(&format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("failed to start {name}"))
    }

    fn etcd(&self) -> Result<Command> {
        let mut command = self.host.command(tools::server("etcd")?);
        command.arg("--data-dir").arg(self.file("etcd"));
        command.args(["--log-level=warn", "--unsafe-no-fsync"]);
        Ok(command)
    }

    fn api_server_command(&self) -> Result<Command> {
        let mut command = self.host.command(tools::server("kube-apiserver")?);
        let file = |name: &str| self.file(name).display().to_string();
        command.args([
            format!("--advertise-address={}", self.address),
            format!("--secure-port={PORT}"),
            format!("--service-cluster-ip-range={SERVICES}"),
            format!("--etcd-compaction-interval={COMPACTION}"),
            format!("--cert-dir={}", self.directory.display()),
            format!("--client-ca-file={}", file(pki::CA)),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", file("kubelet-client.key")),
            format!("--service-account-key-file={}", file(pki::SERVICE_ACCOUNTS_PUBLIC)),
            format!("--service-account-signing-key-file={}", file(pki::SERVICE_ACCOUNTS)),
            format!("--token-auth-file={}", file("tokens.csv")),
            format!("--audit-policy-file={}", file("audit.json")),
            format!("--audit-log-path={}", file("audit.log")),
        ]);
        command.args([
            "--etcd-servers=http://127.0.0.1:2379",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc",
            // There is no DNS.
            "--kubelet-preferred-address-types=InternalIP",
            // A token ends when it says, and not a year later.
            "--service-account-extend-token-expiration=false",
            "--audit-log-mode=blocking-strict",
        ]);
        Ok(command)
    }

    fn controllers(&self) -> Result<Command> {
        let mut command = self.host.command(tools::server("kube-controller-manager")?);
        command.arg("--kubeconfig").arg(self.kubeconfig("controllers"));
        command.arg("--root-ca-file").arg(self.file(pki::CA));
        command.arg("--service-account-private-key-file").arg(self.file(pki::SERVICE_ACCOUNTS));
        command.arg("--cert-dir").arg(&self.directory);
        command.args(["--use-service-account-credentials=true", "--leader-elect=false", "--bind-address=127.0.0.1"]);
        Ok(command)
    }

    fn scheduler(&self) -> Result<Command> {
        let mut command = self.host.command(tools::server("kube-scheduler")?);
        command.arg("--kubeconfig").arg(self.kubeconfig("scheduler"));
        command.arg("--cert-dir").arg(&self.directory);
        command.args(["--leader-elect=false", "--bind-address=127.0.0.1"]);
        Ok(command)
    }
}

fn kubeconfig(directory: &Path, address: Ipv4Addr, token: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "lab",
            "cluster": {
                "server": format!("https://{address}:{PORT}"),
                "certificate-authority": directory.join(pki::CA),
            },
        }],
        "users": [{ "name": token, "user": { "token": token } }],
        "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": token } }],
        "current-context": "lab",
    })
    .to_string()
}
