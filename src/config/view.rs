//! What the rest of the agent sees of the configuration: what is in force now, and what is wrong with the document.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    Keys,
    document::Document,
    finding::{Finding, Rule, Severity},
    in_force::in_force,
    parse::parse_within,
    spec::Spec,
    surroundings::Surroundings,
};

/// What a source sees now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub sight: Sight,
    /// Why that may be out of date, or why there is nothing: the source does not answer, in its own words.
    pub doubt: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    Document(Document),
    /// There is no document (any more), and why.
    Missing(String),
    /// The source has never answered: there may be a document.
    Nothing,
}

impl Observed {
    /// The same, of a node with these needs.
    #[must_use]
    pub fn within(&self, around: &Surroundings) -> Self {
        let mut observed = self.clone();
        if let Sight::Document(document) = &mut observed.sight {
            document.surroundings = document.surroundings.and(around);
        }
        observed
    }

    /// The source has not answered, and why.
    #[must_use]
    pub fn nothing(reason: &str) -> Self {
        Self { sight: Sight::Nothing, doubt: Some(reason.to_owned()) }
    }
}

impl From<Sight> for Observed {
    fn from(sight: Sight) -> Self {
        Self { sight, doubt: None }
    }
}

/// Where the VTEPs of this node are decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truth {
    /// The lists in `cilium-config`.
    #[default]
    Configmap,
    /// Not known: VTEP is enabled and none of the lists is there. Nothing is written or deleted.
    None,
}

/// The configuration at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Where it comes from, e.g. `dir:/etc/cilium-config`.
    pub source: String,
    /// When the document was last seen to change.
    pub observed_at: Timestamp,
    /// Identifies the document: the same on every node that sees the same keys. Empty while there is none.
    pub hash: String,
    /// Why the source does not answer, if it does not.
    pub source_error: Option<String>,
    /// The object that set a key's value, for each key that the ConfigMap itself does not decide.
    pub overrides: BTreeMap<String, String>,
    pub findings: Vec<Finding>,
    pub truth: Truth,
    /// What the kernel shall hold; `None` until the first valid configuration. Never a VTEP of [`Self::vetoed`].
    pub in_force: Option<Spec>,
    /// The last good value of each VTEP, whether the node's needs allow it now or not: what a line in error is held to.
    pub last_good: Option<Spec>,
    /// CIDRs that overlap what the node needs: their routes and rules are withdrawn, their map entries stay.
    pub vetoed: BTreeSet<Ipv4Net>,
    /// Some of what is in force is an earlier value, because the document is in error there.
    pub stale: bool,
    /// CIDRs that the document mentions anywhere, also in error: their entries are not stale.
    pub mentioned: BTreeSet<Ipv4Net>,
}

impl View {
    /// The view after `observed`, given the one before it.
    #[must_use]
    pub fn next(source: &str, observed: &Observed, previous: Option<&Self>, now: Timestamp) -> Self {
        let Observed { sight, doubt } = observed;
        let seen = match sight {
            Sight::Document(document) => Self::of_document(document, previous, now),
            Sight::Missing(reason) => Self { findings: vec![missing(reason)], ..Self::unknown(previous, now) },
            // What is known of the document is still the best that is known.
            Sight::Nothing => previous.cloned().unwrap_or_else(|| Self::unknown(None, now)),
        };
        let stale = seen.stale || (doubt.is_some() && seen.in_force.is_some());
        Self { source: source.to_owned(), source_error: doubt.clone(), stale, ..seen }
    }

    /// There is no document; what was in force stays.
    pub(super) fn unknown(previous: Option<&Self>, now: Timestamp) -> Self {
        let in_force = previous.and_then(|view| view.in_force.clone());
        Self {
            source: String::new(),
            observed_at: now,
            hash: String::new(),
            source_error: None,
            overrides: BTreeMap::new(),
            findings: Vec::new(),
            truth: previous.map_or_else(Truth::default, |view| view.truth),
            stale: in_force.is_some(),
            last_good: in_force.clone(),
            in_force,
            vetoed: previous.map(|view| view.vetoed.clone()).unwrap_or_default(),
            mentioned: previous.map(|view| view.mentioned.clone()).unwrap_or_default(),
        }
    }

    fn of_document(document: &Document, previous: Option<&Self>, now: Timestamp) -> Self {
        let Document { keys, origins, surroundings } = document;
        let parsed = parse_within(keys, surroundings);
        let in_force = in_force(&parsed, previous.and_then(|view| view.in_force.as_ref()));
        let hash = hash(keys);
        let with_origin = |finding: Finding| match origins.get(&finding.key) {
            Some(origin) => finding.set_by(origin),
            None => finding,
        };
        Self {
            source: String::new(),
            observed_at: previous.filter(|view| view.hash == hash).map_or(now, |view| view.observed_at),
            hash,
            source_error: None,
            overrides: origins.clone(),
            stale: in_force.as_ref().is_some_and(|in_force| in_force.stale),
            truth: Truth::Configmap,
            last_good: in_force.as_ref().map(|in_force| in_force.spec.clone()),
            in_force: in_force.map(|in_force| in_force.spec),
            vetoed: BTreeSet::new(),
            mentioned: parsed.mentioned,
            findings: parsed.findings.into_iter().map(with_origin).collect(),
        }
    }

    /// The document was seen, and has no error.
    #[must_use]
    pub fn valid(&self) -> bool {
        !self.hash.is_empty() && self.findings.iter().all(|finding| finding.severity < Severity::Error)
    }
}

fn missing(reason: &str) -> Finding {
    let remedy = "nothing is removed from the kernel meanwhile";
    Finding::new(Rule::ConfigmapMissing, "cilium-config", None, None, reason, remedy)
}

fn hash(keys: &Keys) -> String {
    let mut hasher = Sha256::new();
    for (key, value) in keys {
        for part in [key, value] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
