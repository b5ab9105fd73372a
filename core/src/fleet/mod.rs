//! Many agents in one look: which nodes, which BIG-IP, since when. Pure: the agent collects the statuses, and these functions summarise them.
//!
//! ```text
//! JSON of an agent ─→ status ─┐
//! Pods and Nodes ─────────────┴→ Member ─→ selection ─→ report ─┬ matrix
//!                                                               ├ trouble ─ hints, names, common
//!                                                               └ differences
//! ```
//!
//! - `status`: reads the status of an agent of any version
//! - `selection`: the nodes, VTEPs and causes that a person asked for
//! - `report`: the summary of all members
//! - `matrix`: VTEP × verdict, with counts
//! - `trouble`: VTEPs that are not healthy, grouped by cause and hint
//! - `hints`: a hint without the values of one node, so that those of several nodes can be equal
//! - `common`: what the nodes of a group have in common, and others do not
//! - `differences`: configurations, modes and versions that differ between nodes
//! - `names`: `worker-[12-40], worker-77`
//! - `redacted`: the same report with other addresses and names

pub mod common;
pub mod differences;
mod hints;
pub mod matrix;
pub mod names;
mod redacted;
pub mod report;
pub mod selection;
pub mod status;
#[cfg(test)]
mod tests;
pub mod trouble;

use jiff::Timestamp;

use self::status::AgentStatus;

/// A node with an agent's pod, and what the agent said.
#[derive(Clone, Debug)]
pub struct Member {
    /// The Kubernetes Node, from the pod's `spec.nodeName`.
    pub node: String,
    pub pod: String,
    /// What the Node object has; `None` if it is not known.
    pub about: Option<NodeObject>,
    /// The status, or why there is none, in words.
    pub answer: Result<AgentStatus, String>,
}

/// The properties of a Node that may explain why it differs from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeObject {
    /// The label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    pub created_at: Option<Timestamp>,
    pub kernel: Option<String>,
    pub os_image: Option<String>,
    /// The label `node.kubernetes.io/instance-type`.
    pub instance_type: Option<String>,
}
