//! The configuration as the rest of the agent sees it: the part that is in effect now, and the findings about the document.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::{
    Keys,
    document::Document,
    effective::{Effective, effective_around, keep},
    finding::{Finding, Rule, Severity},
    parse::{self, Parsed, overlaps, parse_around},
    spec::Spec,
    surroundings::{Around, Surroundings},
};
use crate::types::digest;

/// The state of a source now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub state: SourceState,
    /// Why the state may be out of date or unknown: the error of a source that does not answer.
    pub warning: Option<String>,
}

#[expect(clippy::large_enum_variant, reason = "a document is what nearly all of them are, and there is one at a time")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    Document(Document),
    /// The document does not exist, or not any more, and why.
    Missing(String),
    /// The source has never answered, so a document may exist.
    Nothing,
}

impl Observed {
    /// A source that has not answered, and why.
    #[must_use]
    pub fn nothing(reason: &str) -> Self {
        Self { state: SourceState::Nothing, warning: Some(reason.to_owned()) }
    }
}

impl From<SourceState> for Observed {
    fn from(state: SourceState) -> Self {
        Self { state, warning: None }
    }
}

/// The place that decides the VTEPs of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truth {
    /// The lists in `cilium-config`.
    #[default]
    Configmap,
    /// Unknown: VTEP is enabled, and all three lists are absent. The agent then writes and deletes nothing.
    None,
}

impl std::fmt::Display for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Configmap => "configmap",
            Self::None => "none",
        })
    }
}

impl Truth {
    #[must_use]
    pub fn of(parsed: &Parsed) -> Self {
        if parsed.elsewhere { Self::None } else { Self::Configmap }
    }
}

/// The configuration at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The source, e.g. `dir:/etc/cilium-config`.
    pub source: String,
    /// When the document last changed, as far as the agent saw it.
    pub observed_at: Timestamp,
    /// Identifies the document: it is the same on every node that sees the same keys. Empty while no document is known.
    pub hash: String,
    /// Why the source does not answer, if it does not.
    pub source_error: Option<String>,
    /// The object that set a key's value, for each key that the ConfigMap itself does not set.
    pub overrides: BTreeMap<String, String>,
    /// The names of VTEPs that come from custom resources, by CIDR; empty for lists.
    pub names: BTreeMap<Ipv4Net, String>,
    pub findings: Vec<Finding>,
    pub truth: Truth,
    /// The effective configuration: the kernel must match it. `None` until the first valid configuration. It never has a VTEP of
    /// [`Self::vetoed`].
    pub effective: Option<Spec>,
    /// The last good value of each VTEP, vetoed or not. It replaces a line in error.
    pub last_good: Option<Spec>,
    /// CIDRs that overlap a need of the node: the agent withdraws their routes and rules, and leaves their map entries in place.
    pub vetoed: BTreeSet<Ipv4Net>,
    /// CIDRs that took effect while no ipcache existed, so that nothing was searched for conflicts. Once an ipcache exists, the agent does
    /// not program them until it has searched it.
    pub unlooked: BTreeSet<Ipv4Net>,
    /// Some effective values are earlier ones, because the document is in error there.
    pub stale: bool,
    /// CIDRs that the document mentions anywhere, even in a line in error: their map entries are not stale.
    pub mentioned: BTreeSet<Ipv4Net>,
}

impl View {
    /// The view after `observed`, given the one before it.
    #[must_use]
    pub fn next(source: &str, observed: &Observed, previous: Option<&Self>, now: Timestamp) -> Self {
        Self::next_on(&Surroundings::default(), source, observed, previous, now)
    }

    /// The same on a node. Its needs apply even while there is no document.
    #[must_use]
    pub fn next_on(
        node: &Surroundings,
        source: &str,
        observed: &Observed,
        previous: Option<&Self>,
        now: Timestamp,
    ) -> Self {
        let Observed { state, warning } = observed;
        let seen = match state {
            SourceState::Document(document) => Self::of_document(document, node, previous, now),
            SourceState::Missing(reason) => {
                let still = previous.map(Self::reasons).unwrap_or_default();
                let findings = [missing(reason)].into_iter().chain(still).collect();
                Self { findings, ..Self::unknown(previous, now) }.within(node)
            }
            // The last known document is the best knowledge there is.
            SourceState::Nothing => previous.cloned().unwrap_or_else(|| Self::unknown(None, now)).within(node),
        };
        let stale = seen.stale || (warning.is_some() && seen.effective.is_some());
        Self { source: source.to_owned(), source_error: warning.clone(), stale, ..seen }
    }

    /// The view without a document: the effective configuration remains as it was.
    pub(super) fn unknown(previous: Option<&Self>, now: Timestamp) -> Self {
        let effective = previous.and_then(|view| view.effective.clone());
        Self {
            source: String::new(),
            observed_at: now,
            hash: String::new(),
            source_error: None,
            overrides: BTreeMap::new(),
            names: BTreeMap::new(),
            findings: Vec::new(),
            truth: previous.map_or_else(Truth::default, |view| view.truth),
            stale: effective.is_some(),
            effective,
            last_good: previous.and_then(|view| view.last_good.clone()),
            vetoed: previous.map(|view| view.vetoed.clone()).unwrap_or_default(),
            unlooked: previous.map(|view| view.unlooked.clone()).unwrap_or_default(),
            mentioned: previous.map(|view| view.mentioned.clone()).unwrap_or_default(),
        }
    }

    /// Vetoes VTEPs that overlap a need of this node. It never lifts a veto: without a document, some reasons for one are unknown.
    pub(super) fn within(mut self, node: &Surroundings) -> Self {
        let Some(spec) = self.effective.take() else { return self };
        let standing = self.standing();
        let Effective { spec, vetoed, findings, .. } =
            keep(&spec, &[], Around { surroundings: node, standing: &standing });
        let news: Vec<_> = findings.into_iter().filter(|finding| !self.findings.contains(finding)).collect();
        self.findings.extend(news);
        parse::sort(&mut self.findings);
        self.vetoed.extend(vetoed);
        Self { effective: Some(spec), ..self }
    }

    /// Why last good values are vetoed.
    fn reasons(&self) -> Vec<Finding> {
        let held = self.last_good.iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr);
        let vetoed: BTreeSet<Ipv4Net> = held.filter(|cidr| self.vetoed.contains(cidr)).collect();
        let is_reason = |finding: &&Finding| network(finding).is_some_and(|cidr| vetoed.contains(&cidr));
        self.findings.iter().filter(|finding| finding.holds_back()).filter(is_reason).cloned().collect()
    }

    fn of_document(document: &Document, node: &Surroundings, previous: Option<&Self>, now: Timestamp) -> Self {
        let Document { keys, surroundings, .. } = document;
        let surroundings = surroundings.and(node);
        let decided = Truth::of(&parse::parse(keys));
        let mut standing = previous.map(|view| view.standing_for(decided)).unwrap_or_default();
        // A VTEP that took effect before an ipcache existed has no precedence over the entries of that ipcache.
        let unlooked = |cidr: &Ipv4Net| previous.is_some_and(|view| view.unlooked.contains(cidr));
        standing.retain(|cidr| !(unlooked(cidr) && surroundings.ipcache.contains_key(cidr)));
        let around = Around { surroundings: &surroundings, standing: &standing };
        let mut parsed = parse_around(keys, around);
        // An error that retains the last good configuration also retains the place that decided it.
        parsed.elsewhere |= parsed.list_error() && previous.is_some_and(|view| view.truth == Truth::None);
        let before = previous.and_then(|view| view.last_good.as_ref());
        let effective = effective_around(&parsed, before, around);
        let truth = Truth::of(&parsed);
        let (last_good, mentioned) = match truth {
            Truth::Configmap => (effective.as_ref().map(|now| now.last_good.clone()), parsed.mentioned.clone()),
            Truth::None => (before.cloned(), previous.map(|previous| previous.mentioned.clone()).unwrap_or_default()),
        };
        let hash = hash(keys);
        Self {
            source: String::new(),
            observed_at: previous.filter(|view| view.hash == hash).map_or(now, |view| view.observed_at),
            hash,
            source_error: None,
            overrides: document.origins.clone(),
            names: BTreeMap::new(),
            stale: effective.as_ref().is_some_and(|effective| effective.stale),
            truth,
            vetoed: vetoed(&parsed, effective.as_ref(), last_good.as_ref(), &mentioned, around),
            unlooked: BTreeSet::new(),
            last_good,
            mentioned,
            findings: findings(parsed, effective.as_ref(), document),
            effective: effective.map(|effective| effective.spec),
        }
    }

    /// CIDRs that are in effect, or would be if the lists decided the VTEPs.
    fn standing(&self) -> BTreeSet<Ipv4Net> {
        let known = self.last_good.iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr);
        known.filter(|cidr| !self.vetoed.contains(cidr)).collect()
    }

    /// The same for the next document. If the VTEPs were decided elsewhere until now, this agent put none of them into effect.
    #[must_use]
    pub fn standing_for(&self, truth: Truth) -> BTreeSet<Ipv4Net> {
        match (self.truth, truth) {
            (Truth::None, Truth::Configmap) => BTreeSet::new(),
            (Truth::None, Truth::None) | (Truth::Configmap, Truth::Configmap | Truth::None) => self.standing(),
        }
    }

    /// The document is known and has no error.
    #[must_use]
    pub fn valid(&self) -> bool {
        !self.hash.is_empty() && self.findings.iter().all(|finding| finding.severity < Severity::Error)
    }
}

/// The findings about the document and about retained values, each with the object that set the key.
fn findings(parsed: Parsed, effective: Option<&Effective>, document: &Document) -> Vec<Finding> {
    let held = effective.into_iter().flat_map(|effective| effective.findings.clone());
    let mut findings: Vec<_> = parsed.findings.into_iter().chain(held).collect();
    parse::sort(&mut findings);
    findings.into_iter().map(|finding| document.with_origin(finding)).collect()
}

/// Every CIDR that a need of the node rules out: those of the document, in error or not, and those of retained values.
fn vetoed(
    parsed: &Parsed,
    effective: Option<&Effective>,
    last_good: Option<&Spec>,
    mentioned: &BTreeSet<Ipv4Net>,
    around: Around<'_>,
) -> BTreeSet<Ipv4Net> {
    let lines = parsed.lines.iter().filter_map(|line| line.cidr);
    let before = last_good.into_iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr);
    let all: BTreeSet<Ipv4Net> = lines.chain(before).chain(mentioned.iter().copied()).collect();
    let clashes = |cidr: &Ipv4Net| overlaps::of_cidr(*cidr, around).iter().any(|complaint| complaint.is_error());
    let found = parsed.findings.iter().chain(effective.into_iter().flat_map(|now| &now.findings));
    let wrong = found.filter(|finding| finding.rule == Rule::VtepEndpointInVtepCidr).filter_map(network);
    let stands = |cidr: &Ipv4Net| effective.is_some_and(|now| now.spec.vteps.iter().any(|vtep| vtep.cidr == *cidr));
    // A CIDR that contains an endpoint may still be in effect: the endpoint of a line in error is not.
    let wrong = wrong.filter(|cidr| !stands(cidr));
    let held = effective.into_iter().flat_map(|effective| effective.vetoed.clone());
    all.iter().copied().filter(clashes).chain(wrong).chain(held).collect()
}

/// The network that a finding about `vtep-cidr` refers to.
fn network(finding: &Finding) -> Option<Ipv4Net> {
    let Finding { key, value, .. } = finding;
    let value = value.as_ref().filter(|_| key == "vtep-cidr")?;
    value.parse().ok().map(|net: Ipv4Net| net.trunc())
}

fn missing(reason: &str) -> Finding {
    let remedy = "until it exists again, the agent removes nothing from the kernel";
    Finding::new(Rule::ConfigmapMissing, "cilium-config", None, None, reason, remedy)
}

fn hash(keys: &Keys) -> String {
    let mut hash = digest::hex_of_parts(keys.iter().flat_map(|(key, value)| [key.as_str(), value]));
    hash.truncate(12);
    hash
}

#[cfg(test)]
mod tests;
