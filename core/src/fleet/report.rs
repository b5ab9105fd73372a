//! The summary of a fleet: the JSON of `vtep-agent fleet`. Fields are added, but never renamed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Member,
    differences::{Difference, differences},
    matrix::{Row, VtepKey, matrix},
    names,
    selection::Asked,
    trouble::{Group, groups},
};
use crate::diagnosis::Verdict;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub at: Timestamp,
    pub asked: Asked,
    pub summary: Summary,
    pub vteps: Vec<Row>,
    pub trouble: Vec<Group>,
    pub differences: Vec<Difference>,
    /// Nodes with a pod of Cilium's and none of the agent; `null` if the pods of Cilium are not known.
    pub without_agent: Option<Vec<String>>,
    pub unanswered: Vec<Unanswered>,
    pub nodes: Vec<NodeRow>,
    /// What could not be read, and what is missing for that reason.
    pub notes: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Nodes with a pod of the agent.
    pub nodes: usize,
    pub answered: usize,
    pub healthy: usize,
    /// Answered, and not healthy.
    pub trouble: usize,
    pub unanswered: usize,
}

/// Nodes whose agents cannot be asked for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unanswered {
    pub reason: String,
    pub nodes: Vec<String>,
    /// The same in short.
    pub folded: String,
}

/// One node that answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeRow {
    pub node: String,
    pub pod: String,
    pub verdict: Verdict,
    pub zone: Option<String>,
    pub kernel: Option<String>,
    pub cilium: Option<String>,
    pub version: Option<String>,
    pub mode: Option<String>,
    pub config_hash: Option<String>,
    pub vteps: Vec<NodeVtep>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeVtep {
    #[serde(flatten)]
    pub vtep: VtepKey,
    pub verdict: Verdict,
    pub cause: Option<String>,
    pub since: Option<Timestamp>,
}

/// Everything that was collected.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// Those that are selected.
    pub members: Vec<Member>,
    /// All that were asked.
    pub asked: Asked,
    /// Nodes with a pod of Cilium's, if they are known.
    pub cilium_nodes: Option<BTreeSet<String>>,
    /// Nodes with a pod of the agent, also those that were not asked for.
    pub agent_nodes: BTreeSet<String>,
    pub notes: Vec<String>,
}

impl Report {
    #[must_use]
    pub fn new(collected: &Collected, now: Timestamp) -> Self {
        let Collected { members, asked, cilium_nodes, agent_nodes, notes } = collected;
        let without = |nodes: &BTreeSet<String>| nodes.difference(agent_nodes).cloned().collect();
        Self {
            at: now,
            asked: *asked,
            summary: Summary::of(members),
            vteps: matrix(members),
            trouble: groups(members, now),
            differences: differences(members),
            without_agent: cilium_nodes.as_ref().map(without),
            unanswered: unanswered(members),
            nodes: members.iter().filter_map(NodeRow::of).collect(),
            notes: notes.clone(),
        }
    }
}

/// What a report means in short, for a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every agent answered, and every node is healthy.
    Healthy,
    /// Some node is not healthy or did not answer, or no node has a VTEP that was selected.
    Unhealthy,
    /// There is no answer at all.
    Nobody,
}

impl Report {
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        let Self { asked, summary, .. } = self;
        if asked.answered == 0 {
            Outcome::Nobody
        } else if summary.all_healthy() || (self.matches_nothing() && asked.excludes_causes()) {
            Outcome::Healthy
        } else {
            Outcome::Unhealthy
        }
    }

    /// No node is left of those that were asked.
    const fn matches_nothing(&self) -> bool {
        self.summary.nodes == 0
    }

    /// The first line.
    #[must_use]
    pub fn headline(&self) -> String {
        if !self.matches_nothing() {
            return self.summary.to_string();
        }
        let Asked { agents, answered, with_vtep } = self.asked;
        let noun = if agents == 1 { "agent" } else { "agents" };
        let what = match (answered, with_vtep) {
            (1.., 0) => "no node has such a VTEP",
            (1.., _) => "no node has such a cause",
            _ => "no node matches",
        };
        format!("{what}: {answered} of {agents} {noun} answered")
    }
}

impl Summary {
    fn of(members: &[Member]) -> Self {
        let verdicts =
            || members.iter().filter_map(|member| member.answer.as_ref().ok()).map(|status| status.verdict());
        let (nodes, answered) = (members.len(), verdicts().count());
        let healthy = verdicts().filter(|verdict| *verdict == Verdict::Healthy).count();
        Self { nodes, answered, healthy, trouble: answered - healthy, unanswered: nodes - answered }
    }

    /// Every node answered, and is healthy.
    #[must_use]
    pub const fn all_healthy(&self) -> bool {
        self.nodes > 0 && self.healthy == self.nodes
    }
}

/// `498 of 500 nodes healthy, 2 with trouble, 3 without an answer`: those without an answer are not among the 500.
impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { answered, healthy, trouble, unanswered, .. } = self;
        let noun = if *answered == 1 { "node" } else { "nodes" };
        write!(f, "{healthy} of {answered} {noun} healthy")?;
        if *trouble > 0 {
            write!(f, ", {trouble} with trouble")?;
        }
        if *unanswered > 0 {
            write!(f, ", {unanswered} without an answer")?;
        }
        Ok(())
    }
}

impl NodeRow {
    fn of(member: &Member) -> Option<Self> {
        let status = member.answer.as_ref().ok()?;
        let vteps = status.vteps.iter().map(|vtep| NodeVtep {
            vtep: VtepKey::of(vtep),
            verdict: vtep.verdict(),
            cause: vtep.cause.clone(),
            since: vtep.since,
        });
        Some(Self {
            node: member.node.clone(),
            pod: member.pod.clone(),
            verdict: status.verdict(),
            zone: member.about.as_ref().and_then(|about| about.zone.clone()),
            kernel: status.kernel.release.clone(),
            cilium: status.cilium.version.clone(),
            version: status.version.clone(),
            mode: status.mode.clone(),
            config_hash: status.config.hash.clone(),
            vteps: vteps.collect(),
        })
    }
}

/// By reason, the most frequent first.
fn unanswered(members: &[Member]) -> Vec<Unanswered> {
    let mut reasons: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for member in members {
        if let Err(reason) = &member.answer {
            reasons.entry(reason).or_default().push(member.node.clone());
        }
    }
    let folded = |nodes: &[String]| names::fold(nodes.iter().map(String::as_str));
    let of =
        |(reason, nodes): (&String, Vec<String>)| Unanswered { reason: reason.clone(), folded: folded(&nodes), nodes };
    let mut all: Vec<_> = reasons.into_iter().map(of).collect();
    all.sort_by_key(|unanswered| std::cmp::Reverse(unanswered.nodes.len()));
    all
}
