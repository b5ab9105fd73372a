//! Finds the agents' pods, the nodes, and Cilium's pods. Of each object, only the fields that count are kept: a page of 500 Nodes with all
//! their images would be large.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{ApiResource, ListParams},
    core::Object,
};
use serde::{Deserialize, de::DeserializeOwned};
use vtep_core::fleet::NodeObject;

/// Pods in one answer, as kubectl asks for them.
const POD_PAGE: u32 = 500;
/// Nodes in one answer. A Node lists its images, and may have 50 kB.
const NODE_PAGE: u32 = 100;
/// The port of an agent that names none.
const DEFAULT_PORT: u16 = 9808;
const CONTAINER: &str = "vtep-agent";

/// A pod of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPod {
    pub name: String,
    pub node: String,
    pub port: u16,
    pub listens: Listens,
    pub host_ip: Option<String>,
    /// Why it cannot be asked, if its status shows that it does not run.
    pub down: Option<String>,
}

/// Where an agent listens, as far as its pod shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listens {
    Loopback,
    /// At the node's address, and not on loopback.
    Node,
    /// At all addresses.
    Everywhere,
}

type PodObject = Object<PodSpec, PodStatus>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    node_name: String,
    containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    args: Vec<String>,
    env: Vec<EnvVar>,
    ports: Vec<ContainerPort>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct EnvVar {
    name: String,
    value: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerPort {
    name: String,
    container_port: u16,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    phase: String,
    message: String,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    container_statuses: Vec<ContainerStatus>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    name: String,
    state: BTreeMap<String, ContainerState>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    reason: String,
}

type NodeObjectOfApi = Object<Ignored, NodeStatus>;

#[derive(Clone, Debug, Default, Deserialize)]
struct Ignored {}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeStatus {
    node_info: NodeInfo,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeInfo {
    kernel_version: Option<String>,
    os_image: Option<String>,
}

/// The agents' pods, one for each node, in the order of the nodes. They have the labels of one of these selectors.
///
/// # Errors
///
/// The API server does not list the pods.
pub async fn agents(client: &Client, namespace: &str, selectors: &[String]) -> kube::Result<Vec<AgentPod>> {
    let api: Api<PodObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Pod>(&()));
    let mut of_nodes: BTreeMap<String, AgentPod> = BTreeMap::new();
    for selector in selectors {
        let parameters = ListParams::default().labels(selector).limit(POD_PAGE);
        list(&api, parameters, |pod| {
            // A pod that is not scheduled has no node yet.
            let Some(agent) = agent(pod) else { return };
            // During an update, a node may have two: the one that runs counts.
            if agent.down.is_none() || !of_nodes.contains_key(&agent.node) {
                of_nodes.insert(agent.node.clone(), agent);
            }
        })
        .await?;
    }
    Ok(of_nodes.into_values().collect())
}

/// The nodes on which Cilium's agent has a pod: in the whole cluster, or, without that right, in this namespace.
///
/// # Errors
///
/// The API server does not list the pods.
pub async fn cilium_nodes(client: &Client, namespace: &str) -> kube::Result<BTreeSet<String>> {
    let resource = ApiResource::erase::<Pod>(&());
    let everywhere: Api<PodObject> = Api::all_with(client.clone(), &resource);
    let here: Api<PodObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let parameters = || ListParams::default().labels("k8s-app=cilium").limit(POD_PAGE);
    let mut nodes = BTreeSet::new();
    let mut keep = |pod: PodObject| nodes.extend((!pod.spec.node_name.is_empty()).then_some(pod.spec.node_name));
    match list(&everywhere, parameters(), &mut keep).await {
        Err(kube::Error::Api(status)) if status.is_forbidden() => list(&here, parameters(), &mut keep).await?,
        listed => listed?,
    }
    Ok(nodes)
}

/// The Nodes, by name.
///
/// # Errors
///
/// The API server does not list them.
pub async fn nodes(client: &Client) -> kube::Result<BTreeMap<String, NodeObject>> {
    let api: Api<NodeObjectOfApi> = Api::all_with(client.clone(), &ApiResource::erase::<Node>(&()));
    let mut nodes = BTreeMap::new();
    list(&api, ListParams::default().limit(NODE_PAGE), |node| {
        let metadata = node.metadata;
        let label = |name: &str| metadata.labels.as_ref().and_then(|labels| labels.get(name).cloned());
        let info = node.status.unwrap_or_default().node_info;
        let about = NodeObject {
            zone: label("topology.kubernetes.io/zone"),
            created_at: metadata.creation_timestamp.as_ref().map(|time| Timestamp::clone(&time.0)),
            kernel: info.kernel_version,
            os_image: info.os_image,
            instance_type: label("node.kubernetes.io/instance-type"),
        };
        nodes.extend(metadata.name.map(|name| (name, about)));
    })
    .await?;
    Ok(nodes)
}

/// All pages of a list, one object after the other.
async fn list<K>(api: &Api<K>, mut parameters: ListParams, mut each: impl FnMut(K)) -> kube::Result<()>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    loop {
        let page = api.list(&parameters).await?;
        page.items.into_iter().for_each(&mut each);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(()),
        }
    }
}

fn agent(pod: PodObject) -> Option<AgentPod> {
    let Object { metadata, spec, status, .. } = pod;
    let status = status.unwrap_or_default();
    let container = spec.containers.iter().find(|container| container.name == CONTAINER).or(spec.containers.first());
    let listen = container.and_then(listen).unwrap_or_default();
    let (host, port) = listen.rsplit_once(':').unwrap_or((&listen, ""));
    let named = || container?.ports.iter().find(|port| port.name == "http").map(|port| port.container_port);
    let down =
        if metadata.deletion_timestamp.is_some() { Some("its pod is being deleted".to_owned()) } else { down(&status) };
    Some(AgentPod {
        name: metadata.name?,
        node: Some(spec.node_name).filter(|node| !node.is_empty())?,
        port: port.parse().ok().or_else(named).unwrap_or(DEFAULT_PORT),
        listens: match host.trim_matches(['[', ']']) {
            "" | "localhost" | "::1" => Listens::Loopback,
            "0.0.0.0" | "::" => Listens::Everywhere,
            host if host.starts_with("127.") => Listens::Loopback,
            _ => Listens::Node,
        },
        host_ip: status.host_ip,
        down,
    })
}

/// The address of `run`: `--listen` before `VTEP_AGENT_LISTEN`, as the agent itself reads them.
fn listen(container: &Container) -> Option<String> {
    let mut args = container.args.iter();
    while let Some(arg) = args.next() {
        match arg.strip_prefix("--listen") {
            Some("") => return args.next().cloned(),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].to_owned()),
            Some(_) | None => {}
        }
    }
    container.env.iter().find(|variable| variable.name == "VTEP_AGENT_LISTEN").map(|variable| variable.value.clone())
}

fn down(status: &PodStatus) -> Option<String> {
    let container = status.container_statuses.iter().find(|container| container.name == CONTAINER);
    let in_state = |name: &str| {
        let ContainerState { reason } = container?.state.get(name)?;
        Some(format!("its container is {name}: {}", if reason.is_empty() { "no reason is given" } else { reason }))
    };
    let stopped = in_state("waiting").or_else(|| in_state("terminated"));
    if matches!(status.phase.as_str(), "Running" | "") {
        return stopped;
    }
    let is_unscheduled = |condition: &&Condition| condition.r#type == "PodScheduled" && condition.status == "False";
    let condition = status.conditions.iter().find(is_unscheduled).map(|condition| condition.message.as_str());
    let phase = format!("its pod is {}", status.phase);
    Some(stopped.unwrap_or_else(|| match condition.unwrap_or(&status.message) {
        "" => phase,
        message => format!("{phase}: {message}"),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(container: Value, status: Value) -> AgentPod {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "vtep-agent-x" },
            "spec": { "nodeName": "worker-1", "containers": [container] }, "status": status,
        });
        agent(serde_json::from_value(pod).expect("a pod")).expect("an agent")
    }

    #[test]
    fn where_it_listens_is_in_its_arguments_or_environment() {
        let listens = |container: Value| {
            let pod = pod(container, json!({ "phase": "Running" }));
            (pod.listens, pod.port)
        };
        let env =
            |value: &str| json!({ "name": "vtep-agent", "env": [{ "name": "VTEP_AGENT_LISTEN", "value": value }] });
        assert_eq!(listens(json!({ "name": "vtep-agent" })), (Listens::Loopback, 9808));
        assert_eq!(
            listens(json!({ "name": "a", "ports": [{ "name": "http", "containerPort": 7000 }] })),
            (Listens::Loopback, 7000)
        );
        assert_eq!(listens(env("127.0.0.1:9000")), (Listens::Loopback, 9000));
        assert_eq!(listens(env("$(NODE_IP):9000")), (Listens::Node, 9000));
        assert_eq!(listens(env("[::]:9000")), (Listens::Everywhere, 9000));
        assert_eq!(listens(env("")), (Listens::Loopback, 9808));
        let args = |args: &[&str]| json!({ "name": "vtep-agent", "args": args, "env": [{ "name": "VTEP_AGENT_LISTEN", "value": "127.0.0.1:1" }] });
        assert_eq!(listens(args(&["run", "--listen=0.0.0.0:9000"])), (Listens::Everywhere, 9000));
        assert_eq!(listens(args(&["run", "--listen", "10.0.0.1:9000"])), (Listens::Node, 9000));
        assert_eq!(listens(args(&["run", "--listener"])), (Listens::Loopback, 1));
    }

    #[test]
    fn a_pod_that_does_not_run_says_why() {
        let down = |status: Value| pod(json!({ "name": "vtep-agent" }), status).down;
        let waiting = json!([{ "name": "vtep-agent", "state": { "waiting": { "reason": "CrashLoopBackOff" } } }]);
        assert_eq!(
            down(
                json!({ "phase": "Running", "containerStatuses": [{ "name": "vtep-agent", "state": { "running": {} } }] })
            ),
            None
        );
        assert_eq!(
            down(json!({ "phase": "Running", "containerStatuses": waiting })).as_deref(),
            Some("its container is waiting: CrashLoopBackOff")
        );
        assert_eq!(
            down(json!({ "phase": "Failed", "message": "evicted" })).as_deref(),
            Some("its pod is Failed: evicted")
        );
        assert_eq!(down(json!({ "phase": "Pending" })).as_deref(), Some("its pod is Pending"));
        assert_eq!(down(json!({})), None);
    }
}
