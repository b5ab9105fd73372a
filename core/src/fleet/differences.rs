//! Values that are usually the same on all nodes, and are not: configurations, modes and versions.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::Serialize;

use super::{Member, names, status::AgentStatus};

/// A property with more than one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub what: Property,
    /// The most frequent value first.
    pub values: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Value {
    /// `null` if the agents do not know it, or are too old to report it.
    pub value: Option<String>,
    pub nodes: Vec<String>,
    /// The same in short.
    pub folded: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Property {
    /// The SHA-256 of the keys that the agent reads, with the overrides for the node.
    ConfigHash,
    /// Where the VTEPs come from.
    VtepSource,
    Stale,
    Mode,
    AgentVersion,
    CiliumVersion,
}

impl Property {
    const ALL: [Self; 6] =
        [Self::ConfigHash, Self::VtepSource, Self::Stale, Self::Mode, Self::AgentVersion, Self::CiliumVersion];

    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::ConfigHash => "configuration",
            Self::VtepSource => "source of VTEPs",
            Self::Stale => "last good values",
            Self::Mode => "mode",
            Self::AgentVersion => "vtep-agent",
            Self::CiliumVersion => "Cilium",
        }
    }

    fn of(self, status: &AgentStatus) -> Option<String> {
        match self {
            Self::ConfigHash => status.config.hash.clone(),
            Self::VtepSource => status.config.truth.clone(),
            Self::Stale => status.config.stale.map(|stale| if stale { "in force" } else { "not in force" }.to_owned()),
            Self::Mode => status.mode.clone(),
            Self::AgentVersion => status.version.clone(),
            Self::CiliumVersion => status.cilium.version.clone(),
        }
    }
}

/// The properties that differ. A value that some agents do not report is a difference only beside two others.
#[must_use]
pub fn differences(members: &[Member]) -> Vec<Difference> {
    Property::ALL.iter().filter_map(|&what| difference(what, members)).collect()
}

fn difference(what: Property, members: &[Member]) -> Option<Difference> {
    let mut values: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for member in members {
        if let Ok(status) = &member.answer {
            values.entry(what.of(status)).or_default().push(member.node.clone());
        }
    }
    if values.keys().flatten().count() < 2 {
        return None;
    }
    let mut values: Vec<_> = values
        .into_iter()
        .map(|(value, nodes)| Value { value, folded: names::fold(nodes.iter().map(String::as_str)), nodes })
        .collect();
    values.sort_by_key(|value| Reverse(value.nodes.len()));
    Some(Difference { what, values })
}
