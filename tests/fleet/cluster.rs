//! A cluster whose nodes are agents on ports of 127.0.0.1, behind the API server for tests.

use std::{
    ffi::OsStr,
    io,
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Output},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle},
    sync::oneshot,
};
use vtep_apiserver::{ApiServer, Resource, objects};

pub(crate) const NAMESPACE: &str = "kube-system";
const LABEL: (&str, &str) = ("app.kubernetes.io/name", "vtep-agent");

/// How an agent behaves.
#[derive(Clone, Debug)]
pub(crate) enum Agent {
    /// It answers with this status.
    Answers(Value),
    /// It answers after this time.
    Slow(Duration, Value),
    /// It accepts connections, and never answers.
    Hangs,
    /// Nothing listens on its port.
    Dead,
    /// It answers with this text in place of a status.
    Says(&'static str),
    /// It answers with this status, and has a page of its own.
    Serves(Page, Value),
}

#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) html: String,
    /// Its Content-Security-Policy.
    pub(crate) policy: String,
}

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    kubeconfig: NamedTempFile,
    runtime: Handle,
    /// Ends the runtime of the agents when it is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    pub(crate) fn start() -> Result<Self> {
        let server = ApiServer::start()?;
        let kubeconfig = NamedTempFile::new()?;
        std::fs::write(kubeconfig.path(), server.kubeconfig())?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || drop(runtime.block_on(stopped)));
        Ok(Self { server, kubeconfig, runtime: handle, stop: Some(stop), thread: Some(thread) })
    }

    /// A Node in a zone, with a pod of Cilium's and one of the agent.
    pub(crate) fn add(&self, node: &str, zone: &str, agent: Agent) -> Result<()> {
        self.add_node(node, zone)?;
        let pod = objects::pod(NAMESPACE, &pod_of(node), node, "vtep-agent", [LABEL]);
        self.server.apply(Resource::Pods, pod)?;
        let address = if matches!(agent, Agent::Dead) { None } else { Some(self.listen(node, agent)?) };
        self.server.run_pod(&pod_of(node), address);
        Ok(())
    }

    /// A Node with a pod of Cilium's, and without an agent.
    pub(crate) fn add_node(&self, node: &str, zone: &str) -> Result<()> {
        self.server.apply(Resource::Nodes, objects::node(node, [("topology.kubernetes.io/zone", zone)], &[]))?;
        self.server.backdate(Resource::Nodes, "", node, "2026-01-01T00:00:00Z".parse()?);
        let cilium = objects::pod(NAMESPACE, &format!("cilium-{node}"), node, "cilium-agent", [("k8s-app", "cilium")]);
        self.server.apply(Resource::Pods, cilium).map(drop)
    }

    /// An agent on a free port.
    pub(crate) fn listen(&self, node: &str, agent: Agent) -> Result<SocketAddr> {
        let (sender, address) = std::sync::mpsc::sync_channel(1);
        let node = node.to_owned();
        self.runtime.spawn(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            let Ok(listener) = listener else { return };
            // The test waits for the address.
            let _ = sender.send(listener.local_addr());
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, node.clone(), agent.clone()));
            }
        });
        address.recv().context("the agent does not listen")?.map_err(Into::into)
    }

    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
        command.env_remove("KUBECONFIG").arg("fleet").arg("--kubeconfig").arg(self.kubeconfig.path()).args(args);
        command
    }

    /// `fleet bundle`.
    pub(crate) fn bundle(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
        command
            .env_remove("KUBECONFIG")
            .args(["fleet", "bundle", "--kubeconfig"])
            .arg(self.kubeconfig.path())
            .args(args);
        command
    }

    pub(crate) fn fleet(&self, args: &[&str]) -> Result<Outcome> {
        self.command(args).output().map_err(Into::into).and_then(Outcome::of)
    }

    /// The report.
    pub(crate) fn report(&self, args: &[&str]) -> Result<Value> {
        let outcome = self.fleet(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&outcome.out).with_context(|| format!("{outcome:?}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, it has printed the reason already.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Outcome {
    pub(crate) fn of(output: Output) -> Result<Self> {
        let Output { status, stdout, stderr } = output;
        Ok(Self { code: status.code(), out: String::from_utf8(stdout)?, err: String::from_utf8(stderr)? })
    }
}

pub(crate) fn pod_of(node: &str) -> String {
    format!("vtep-agent-{node}")
}

/// The status of a healthy agent of this version, from the fixture.
pub(crate) fn healthy(node: &str) -> Value {
    let mut status: Value = serde_json::from_str(include_str!("../fixtures/status.json")).expect("a status");
    status["node"] = json!(node);
    status["verdict"] = json!("healthy");
    status["config"]["valid"] = json!(true);
    status["config"]["stale"] = json!(false);
    for vtep in status["vteps"].as_array_mut().expect("a list") {
        for (key, value) in
            [("verdict", json!("healthy")), ("cause", Value::Null), ("hint", Value::Null), ("also", json!([]))]
        {
            vtep[key] = value;
        }
        vtep["since"] = json!("2026-11-01T08:00:00Z");
    }
    let number = node.chars().filter(char::is_ascii_digit).collect::<String>().parse::<u32>().unwrap_or_default();
    let [.., high, low] = number.to_be_bytes();
    let record =
        json!({ "mac": format!("0a:0a:0a:a9:{high:02x}:{low:02x}"), "endpoint": format!("10.169.{high}.{low}") });
    status["bigip"]["fdb_record"] = record;
    status
}

/// The same, without its FDB record on the BIG-IP of this VTEP.
pub(crate) fn silent(node: &str, cidr: &str, since: &str) -> Value {
    let mut status = healthy(node);
    status["verdict"] = json!("unreachable");
    let mac = status["bigip"]["fdb_record"]["mac"].as_str().unwrap_or_default().to_owned();
    let vteps = status["vteps"].as_array_mut().expect("a list");
    let vtep = vteps.iter_mut().find(|vtep| vtep["cidr"] == cidr).expect("the VTEP");
    let endpoint = vtep["endpoint"].as_str().unwrap_or_default();
    let hint = format!(
        "BIG-IP {endpoint} answers ping beside the tunnel and nothing through it: look for a filter on UDP 8472 between, then at \
         BIG-IP's tunnel and its FDB record {mac} for this node"
    );
    vtep["verdict"] = json!("unreachable");
    vtep["cause"] = json!("tunnel-silent");
    vtep["hint"] = json!(hint);
    vtep["since"] = json!(since);
    vtep["runbook"] = json!("https://runbook.example.com/vtep.md#tunnel-silent");
    status
}

/// One request; an error means that the client is gone.
async fn serve(mut stream: TcpStream, node: String, agent: Agent) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => request.extend_from_slice(&buffer[..length]),
        }
    }
    let path = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap_or_default().to_owned();
    if let ("/events", Agent::Answers(status) | Agent::Serves(_, status)) = (path.as_str(), &agent) {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        stream.write_all(format!("{head}data: {status}\n\n").as_bytes()).await?;
        // The stream lasts as long as the client.
        return stream.read(&mut buffer).await.map(drop);
    }
    let policy = if let ("/", Agent::Serves(page, _)) = (path.as_str(), &agent) {
        format!("Content-Security-Policy: {}\r\n", page.policy)
    } else {
        String::new()
    };
    let body = match agent {
        Agent::Hangs | Agent::Dead => std::future::pending().await,
        Agent::Says(text) => text.to_owned(),
        Agent::Slow(time, status) => {
            tokio::time::sleep(time).await;
            status.to_string()
        }
        Agent::Answers(_) if path == "/" => format!("<!doctype html><title>{node}</title><h1>The page of {node}</h1>"),
        Agent::Serves(page, _) if path == "/" => page.html,
        Agent::Serves(..) if path == "/history" => json!({ "vteps": [], "changes": [] }).to_string(),
        Agent::Answers(status) | Agent::Serves(_, status) => status.to_string(),
    };
    let kind = if path == "/" { "text/html" } else { "application/json" };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{policy}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
