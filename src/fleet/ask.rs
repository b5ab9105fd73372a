//! Asks one agent for its status, on the first way that leads to it. A way that the API server refuses once is not tried again.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Bytes;
use hyper::{Response, body::Incoming};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::time;
use vtep_core::fleet::status::AgentStatus;

use super::{
    collect::AT_A_TIME,
    exec::{Archive, exec_bundle, exec_status},
    pods::{AgentPod, Listens},
    ways::{Connection, Failure, Way},
};

/// Nodes whose addresses do not answer, before any does, until the others are not tried: as many as are tried at a time, so that waiting for
/// them costs nothing more.
const LEAD_NOWHERE: usize = AT_A_TIME;

/// Asks the agents of one namespace.
pub struct Asker {
    api: Api<Pod>,
    namespace: String,
    deadline: Duration,
    /// The ways that lead nowhere, for all agents, each with the reason.
    closed: Mutex<BTreeMap<Way, Failure>>,
    /// Some node's address accepts connections.
    reaches_nodes: AtomicBool,
    /// Nodes whose addresses did not answer.
    unreachable: AtomicUsize,
}

impl Asker {
    #[must_use]
    pub fn new(api: Api<Pod>, namespace: &str, deadline: Duration) -> Self {
        Self {
            api,
            namespace: namespace.to_owned(),
            deadline,
            closed: Mutex::default(),
            reaches_nodes: AtomicBool::new(false),
            unreachable: AtomicUsize::new(0),
        }
    }

    /// The status, or in words why there is none.
    ///
    /// # Errors
    ///
    /// The agent does not answer within the deadline, or cannot be reached, or its answer is not a status.
    pub async fn status(&self, pod: &AgentPod) -> Result<AgentStatus, String> {
        if let Some(down) = &pod.down {
            return Err(down.clone());
        }
        let answer = time::timeout(self.deadline, self.fetch(pod)).await;
        let json = answer.map_err(|_| self.too_late())??;
        AgentStatus::read(&json).map_err(|error| error.to_string())
    }

    /// A page of one agent. Its body lasts as long as the connection.
    ///
    /// # Errors
    ///
    /// The agent cannot be reached, or does not begin to answer within the deadline; in words.
    pub async fn page(&self, pod: &AgentPod, path: &str) -> Result<(Response<Incoming>, Connection), String> {
        let answer = time::timeout(self.deadline, async {
            let mut connection = self.connect(pod).await?;
            let answer = connection.get(path).await.map_err(|failure| self.reason(&[(Way::PortForward, failure)]))?;
            Ok((answer, connection))
        });
        answer.await.unwrap_or_else(|_| Err(self.too_late()))
    }

    /// The node's bundle with a capture of so many seconds, within a deadline of its own: it takes longer than a status.
    ///
    /// # Errors
    ///
    /// The command cannot run in the pod, or makes no bundle; in words.
    pub async fn bundle(&self, pod: &AgentPod, seconds: u64, deadline: Duration) -> Result<Archive, String> {
        if let Some(down) = &pod.down {
            return Err(down.clone());
        }
        let closed = self.closed().get(&Way::Exec).cloned();
        let made = match closed {
            Some(failure) => Ok(Err(failure)),
            None => time::timeout(deadline, exec_bundle(&self.api, pod, seconds)).await,
        };
        let made = made.map_err(|_| format!("no bundle within {}", humantime::format_duration(deadline)))?;
        made.map_err(|failure| {
            if let Failure::Refused(_) = &failure {
                self.closed().insert(Way::Exec, failure.clone());
            }
            self.reason(&[(Way::Exec, failure)])
        })
    }

    async fn connect(&self, pod: &AgentPod) -> Result<Connection, String> {
        let mut failures = Vec::new();
        for &way in ways(pod.listens) {
            let connection = match way {
                Way::Direct => Connection::direct(pod).await,
                Way::PortForward => Connection::port_forward(&self.api, pod).await,
                // It brings the status, and no page.
                Way::Exec => continue,
            };
            match connection {
                Ok(connection) => return Ok(connection),
                Err(failure) => failures.push((way, failure)),
            }
        }
        Err(self.reason(&failures))
    }

    fn too_late(&self) -> String {
        format!("no answer within {}", humantime::format_duration(self.deadline))
    }

    async fn fetch(&self, pod: &AgentPod) -> Result<Bytes, String> {
        let mut failures = Vec::new();
        for &way in ways(pod.listens) {
            let closed = self.closed().get(&way).cloned();
            let failure = match closed.filter(|failure| self.is_of_all(failure)) {
                Some(failure) => failure,
                None => match self.try_way(way, pod).await {
                    Ok(json) => return Ok(json),
                    Err(failure) => failure,
                },
            };
            match failure {
                Failure::Answer(reason) => return Err(reason),
                Failure::Unreachable(_) => {
                    self.unreachable.fetch_add(1, Ordering::Relaxed);
                    self.closed().insert(way, failure.clone());
                }
                Failure::Refused(_) => drop(self.closed().insert(way, failure.clone())),
                Failure::Failed(_) => {}
            }
            failures.push((way, failure));
        }
        Err(self.reason(&failures))
    }

    /// Whether the way leads to no other agent, either. One node that cannot be reached may be only that one; none of many, and none at all
    /// so far, is not.
    fn is_of_all(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Refused(_) => true,
            Failure::Unreachable(_) => {
                !self.reaches_nodes() && self.unreachable.load(Ordering::Relaxed) >= LEAD_NOWHERE
            }
            Failure::Failed(_) | Failure::Answer(_) => false,
        }
    }

    fn reaches_nodes(&self) -> bool {
        self.reaches_nodes.load(Ordering::Relaxed)
    }

    async fn try_way(&self, way: Way, pod: &AgentPod) -> Result<Bytes, Failure> {
        match way {
            Way::Direct => {
                let mut connection = Connection::direct(pod).await?;
                self.reaches_nodes.store(true, Ordering::Relaxed);
                connection.read("/status").await
            }
            Way::PortForward => Connection::port_forward(&self.api, pod).await?.read("/status").await,
            Way::Exec => exec_status(&self.api, pod).await,
        }
    }

    /// One reason of several: what is wrong with this agent, or else the first missing right, because the first way needs the least, or else
    /// that no node can be reached.
    fn reason(&self, failures: &[(Way, Failure)]) -> String {
        let is_own = |failure: &Failure| match failure {
            Failure::Failed(_) => true,
            // The others can be reached.
            Failure::Unreachable(_) => self.reaches_nodes(),
            Failure::Refused(_) | Failure::Answer(_) => false,
        };
        let own = failures.iter().find(|(_, failure)| is_own(failure));
        let right = || failures.iter().find(|(_, failure)| matches!(failure, Failure::Refused(_)));
        let Some((way, failure)) = own.or_else(right).or(failures.first()) else {
            return "it cannot be asked".to_owned();
        };
        match failure {
            // The API server names the pod, so that each agent would have a reason of its own.
            Failure::Refused(message) => missing_right(*way, message, &self.namespace),
            Failure::Unreachable(reason) if self.reaches_nodes() => reason.clone(),
            Failure::Unreachable(_) => "the nodes' addresses cannot be reached from here".to_owned(),
            Failure::Failed(reason) | Failure::Answer(reason) => reason.clone(),
        }
    }

    fn closed(&self) -> std::sync::MutexGuard<'_, BTreeMap<Way, Failure>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ways to try, in this order. A port-forward leads to the node's loopback address, so not to an agent that listens only elsewhere.
const fn ways(listens: Listens) -> &'static [Way] {
    match listens {
        Listens::Loopback => &[Way::PortForward, Way::Exec],
        Listens::Everywhere => &[Way::PortForward, Way::Exec, Way::Direct],
        Listens::Node => &[Way::Direct, Way::Exec],
    }
}

/// The right as a Role has it. Newer API servers check `create` beside `get`, so their message has the verb.
fn missing_right(way: Way, message: &str, namespace: &str) -> String {
    let verb = message.split_once(" cannot ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or("get");
    let resource = way.resource().unwrap_or("pods");
    format!("you lack the right to {verb} {resource} in namespace {namespace}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_that_is_missing_is_that_of_the_server() {
        let message = r#"pods "vtep-agent-x" is forbidden: User "jane" cannot create resource "pods/portforward" in API group """#;
        let right = |message| missing_right(Way::PortForward, message, "kube-system");
        assert_eq!(right(message), "you lack the right to create pods/portforward in namespace kube-system");
        assert_eq!(right("forbidden"), "you lack the right to get pods/portforward in namespace kube-system");
    }
}
