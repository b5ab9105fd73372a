//! VTEPs that are not healthy, grouped by cause and hint, with the nodes of each group.

use std::{cmp::Reverse, collections::BTreeMap};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Member,
    common::{Common, common},
    hints,
    matrix::VtepKey,
    names,
    status::AgentVtep,
};
use crate::diagnosis::Verdict;

/// Nodes on which one VTEP has the same trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    #[serde(flatten)]
    pub vtep: VtepKey,
    /// Its name in a custom resource.
    pub name: Option<String>,
    pub verdict: Verdict,
    /// `null` if the agents know none yet.
    pub cause: Option<String>,
    /// The hint of `hint_from`. Those of the other nodes differ at most in their own addresses and in numbers.
    pub hint: Option<String>,
    pub hint_from: String,
    /// All hints are equal, word for word.
    pub same_hint: bool,
    pub runbook: Option<String>,
    /// When the first and the last of the nodes came into this state.
    pub first_since: Option<Timestamp>,
    pub last_since: Option<Timestamp>,
    pub nodes: Vec<String>,
    /// The same in short: `worker-[12-40], worker-77`.
    pub folded: String,
    /// All nodes that have this VTEP.
    pub of: usize,
    pub common: Vec<Common>,
}

type Key = (VtepKey, Option<String>, Verdict, String);

/// The groups, most urgent and largest first.
#[must_use]
pub fn groups(members: &[Member], now: Timestamp) -> Vec<Group> {
    let mut groups: BTreeMap<Key, Vec<(&Member, &AgentVtep)>> = BTreeMap::new();
    let mut having: BTreeMap<VtepKey, Vec<&Member>> = BTreeMap::new();
    for member in members {
        let Ok(status) = &member.answer else { continue };
        for vtep in &status.vteps {
            let key = VtepKey::of(vtep);
            having.entry(key.clone()).or_default().push(member);
            if vtep.verdict() != Verdict::Healthy {
                let shape = vtep.hint.as_ref().map(|hint| hints::shape(hint, &member.node, status)).unwrap_or_default();
                groups.entry((key, vtep.cause.clone(), vtep.verdict(), shape)).or_default().push((member, vtep));
            }
        }
    }
    let empty = Vec::new();
    let mut groups: Vec<_> = groups
        .iter()
        .filter_map(|((key, ..), found)| group(key, found, having.get(key).unwrap_or(&empty), now))
        .collect();
    // A stable sort: otherwise by VTEP and cause.
    groups.sort_by_key(|group| (Reverse(group.verdict.severity()), Reverse(group.nodes.len())));
    groups
}

fn group(key: &VtepKey, found: &[(&Member, &AgentVtep)], population: &[&Member], now: Timestamp) -> Option<Group> {
    let (first, vtep) = found.first()?;
    let members: Vec<_> = found.iter().map(|(member, _)| *member).collect();
    let since = || found.iter().filter_map(|(_, vtep)| vtep.since);
    Some(Group {
        vtep: key.clone(),
        name: vtep.name.clone(),
        verdict: vtep.verdict(),
        cause: vtep.cause.clone(),
        hint: vtep.hint.clone(),
        hint_from: first.node.clone(),
        same_hint: found.iter().all(|(_, other)| other.hint == vtep.hint),
        runbook: vtep.runbook.clone(),
        first_since: since().min(),
        last_since: since().max(),
        folded: names::fold(members.iter().map(|member| member.node.as_str())),
        nodes: members.iter().map(|member| member.node.clone()).collect(),
        of: population.len(),
        common: common(&members, population, now),
    })
}
