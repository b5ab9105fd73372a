//! Asks all agents, many at a time, each with a deadline: one that hangs costs only its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use kube::Client;
use tokio::{
    sync::Mutex,
    time::{self, Instant},
};
use vtep_core::fleet::{Member, NodeObject, names, report::Collected, selection::Selection};

use super::{ask::Asker, exec::Archive, pods, pods::AgentPod, ways};
use crate::k8s::words;

/// Agents that are asked at a time: each is a connection to the API server.
pub(super) const AT_A_TIME: usize = 64;

/// Bundles that are made at a time. Each may have megabytes, and costs its node more than a status.
const BUNDLES_AT_A_TIME: usize = 16;

/// The timeout of a list: a person waits for it, and thousands of objects may take some seconds.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the lists of Nodes and of Cilium's pods are used again. They change rarely, and those of thousands of nodes have 100 MB and
/// more: too much for each round of `--watch`.
const LISTS_LAST: Duration = Duration::from_secs(60);

/// Where the agents are.
#[derive(Clone, Debug)]
pub struct Place {
    pub namespace: String,
    /// Label selectors: their pods have the labels of one of them.
    pub selectors: Vec<String>,
    /// The deadline of each agent.
    pub deadline: Duration,
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("you lack the right to list pods in namespace {0}")]
    Forbidden(String),
    #[error("{0}")]
    Api(String),
    #[error("no pod in namespace {namespace} has the label {selectors}; is the agent in another one (--namespace)?")]
    NoAgent { namespace: String, selectors: String },
}

/// The agents of a cluster, and a client for them.
pub struct Fleet {
    client: Client,
    place: Place,
    nodes: Kept<BTreeMap<String, NodeObject>>,
    cilium_nodes: Kept<BTreeSet<String>>,
}

/// The agents that were found, before they are asked.
pub struct Found {
    pub pods: Vec<AgentPod>,
    asker: Asker,
}

impl Fleet {
    #[must_use]
    pub fn new(client: Client, place: Place) -> Self {
        Self { client, place, nodes: Kept::default(), cilium_nodes: Kept::default() }
    }

    /// # Errors
    ///
    /// The API server does not list the pods, or has none of the agent.
    pub async fn find(&self) -> Result<Found, FleetError> {
        let Place { namespace, selectors, deadline } = &self.place;
        let pods = time::timeout(LIST_TIMEOUT, pods::agents(&self.client, namespace, selectors)).await;
        let pods = pods.map_err(|_| FleetError::Api("the API server does not list the pods in time".to_owned()))?;
        let pods = pods.map_err(|error| self.refusal(&error))?;
        if pods.is_empty() {
            return Err(FleetError::NoAgent { namespace: namespace.clone(), selectors: selectors.join(" or ") });
        }
        Ok(Found { pods, asker: Asker::new(ways::pods(&self.client, namespace), namespace, *deadline) })
    }

    fn refusal(&self, error: &kube::Error) -> FleetError {
        let kube::Error::Api(status) = error else {
            return FleetError::Api(format!("the API server cannot be reached: {}", words::cause(error)));
        };
        if status.is_forbidden() {
            FleetError::Forbidden(self.place.namespace.clone())
        } else {
            FleetError::Api(format!("the API server does not list the pods: {}", words::message(status)))
        }
    }

    /// Asks the agents that are selected; `asked` is called with each answer, with the number so far and of all.
    pub async fn collect(
        &self,
        found: &Found,
        selection: &Selection,
        mut asked: impl FnMut(usize, usize),
    ) -> Collected {
        let selected: Vec<_> = found.pods.iter().filter(|pod| selection.has_node(&pod.node)).collect();
        let mut members = Vec::with_capacity(selected.len());
        asked(0, selected.len());
        let asking = async {
            let answers = selected.iter().map(|&pod| async move { (pod, found.asker.status(pod).await) });
            let mut answers = stream::iter(answers).buffer_unordered(AT_A_TIME);
            while let Some((pod, answer)) = answers.next().await {
                members.push(Member { node: pod.node.clone(), pod: pod.name.clone(), about: None, answer });
                asked(members.len(), selected.len());
            }
        };
        let nodes = self.nodes.get(pods::nodes(&self.client));
        let cilium = self.cilium_nodes.get(pods::cilium_nodes(&self.client, &self.place.namespace));
        let ((), nodes, cilium) = tokio::join!(asking, nodes, cilium);
        let mut notes = Vec::new();
        let mut note = |what: &str, reason: String| notes.push(format!("{what} not known: {reason}"));
        let nodes = nodes.map_err(|reason| note("zones and ages of nodes are", reason));
        let cilium = cilium.map_err(|reason| note("nodes without an agent are", reason));
        let nodes = nodes.unwrap_or_default();
        members.sort_by(|one, other| names::order(&one.node).cmp(&names::order(&other.node)));
        for member in &mut members {
            member.about = nodes.get(&member.node).cloned();
        }
        let of_selected =
            |all: Arc<BTreeSet<String>>| all.iter().filter(|node| selection.has_node(node)).cloned().collect();
        let cilium_nodes = cilium.ok().map(of_selected);
        let agent_nodes = found.pods.iter().map(|pod| pod.node.clone()).collect();
        let asked = selection.asked(&members);
        Collected { members: selection.apply(members), asked, cilium_nodes, agent_nodes, notes }
    }
}

impl Found {
    /// The way to one agent's page.
    #[must_use]
    pub const fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Makes the bundles of these nodes; `each` is called with the bundle of one after the other, or with the words for why there is none.
    pub async fn bundles(
        &self,
        nodes: impl IntoIterator<Item = &str>,
        seconds: u64,
        deadline: Duration,
        mut each: impl FnMut(&str, Result<Archive, String>),
    ) {
        let pods = nodes.into_iter().filter_map(|node| self.pod_of(node));
        let bundles = pods.map(|pod| async move { (pod, self.asker.bundle(pod, seconds, deadline).await) });
        let mut bundles = stream::iter(bundles).buffer_unordered(BUNDLES_AT_A_TIME);
        while let Some((pod, bundle)) = bundles.next().await {
            each(&pod.node, bundle);
        }
    }

    #[must_use]
    pub fn pod_of(&self, node: &str) -> Option<&AgentPod> {
        self.pods.iter().find(|pod| pod.node == node)
    }
}

/// A list that is asked for again when it is old.
struct Kept<T>(Mutex<Option<(Instant, Arc<T>)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Kept<T> {
    /// What the list has, or in words why it is not known. A failure is not kept.
    async fn get(&self, list: impl Future<Output = kube::Result<T>>) -> Result<Arc<T>, String> {
        let mut kept = self.0.lock().await;
        if let Some((_, list)) = kept.as_ref().filter(|(at, _)| at.elapsed() < LISTS_LAST) {
            return Ok(Arc::clone(list));
        }
        let list = Arc::new(listed(list).await?);
        *kept = Some((Instant::now(), Arc::clone(&list)));
        Ok(list)
    }
}

/// What a list has, or in words why it is not known.
async fn listed<T>(list: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match time::timeout(LIST_TIMEOUT, list).await {
        Ok(Ok(list)) => Ok(list),
        Ok(Err(kube::Error::Api(status))) => Err(words::message(&status)),
        Ok(Err(error)) => Err(words::cause(&error)),
        Err(_) => Err("the API server does not list them in time".to_owned()),
    }
}
