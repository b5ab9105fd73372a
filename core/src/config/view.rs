//! The configuration as the rest of the agent sees it: the part that is in effect now, and the findings about the document.
//!
//! `sources.rs` reads both sources of a document, and says which of them counts. `lists.rs` and `objects.rs` make the view from either.

mod lists;
mod objects;
mod sources;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Instant,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use self::sources::Sources;
use super::{
    document::Document,
    effective::{Effective, keep},
    finding::{Finding, Rule, Severity},
    list_record::{ListRecord, Sight},
    parse::{self, overlaps},
    spec::Spec,
    surroundings::{Around, Surroundings},
    truth::{Signs, Truth},
    vtep_config::ObjectStatus,
};

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
    pub findings: Vec<Finding>,
    pub truth: Truth,
    /// Why the truth is there, in words.
    pub truth_reason: String,
    /// The custom resources, also those for other nodes.
    pub objects: Vec<ObjectStatus>,
    /// When the API server last delivered the custom resources or a change of them.
    pub delivered: Option<Instant>,
    /// VTEP CIDR → its name in a custom resource.
    pub names: BTreeMap<Ipv4Net, String>,
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
    /// Effective VTEPs that the agent probes and never writes, because Cilium or another controller may know better.
    pub observed_only: BTreeSet<Ipv4Net>,
    /// The CIDRs that the lists had in effect since a custom resource was first seen: only their map entries can be stale, because a
    /// controller may have written all others. `None`: no custom resource was ever seen, and every entry comes from the lists.
    pub covered: Option<BTreeSet<Ipv4Net>>,
    /// The lists so far.
    pub record: ListRecord,
}

impl View {
    /// The view after `observed`, given the one before it.
    #[must_use]
    pub fn next(source: &str, observed: &Observed, previous: Option<&Self>, now: Timestamp) -> Self {
        Self::next_on(&Surroundings::default(), Signs::default(), source, observed, previous, now)
    }

    /// The same on a node. Its needs apply even while there is no document.
    #[must_use]
    pub fn next_on(
        node: &Surroundings,
        signs: Signs,
        source: &str,
        observed: &Observed,
        previous: Option<&Self>,
        now: Timestamp,
    ) -> Self {
        let Observed { state, warning } = observed;
        let seen = match state {
            SourceState::Document(document) => Self::of_document(document, node, signs, previous, now),
            SourceState::Missing(reason) => {
                let still = previous.map(Self::reasons).unwrap_or_default();
                let findings = [missing(reason)].into_iter().chain(still).collect();
                Self { findings, ..Self::unknown(previous, now) }.within(node)
            }
            // The last known document is the best knowledge there is.
            SourceState::Nothing => previous.cloned().unwrap_or_else(|| Self::unknown(None, now)).within(node),
        };
        let stale = seen.stale || (warning.is_some() && seen.effective.is_some());
        let record = previous.map(|view| view.record.clone()).unwrap_or_default().next(sight(observed), now);
        Self { source: source.to_owned(), source_error: warning.clone(), stale, record, ..seen }
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
            findings: Vec::new(),
            truth: previous.map_or_else(Truth::default, |view| view.truth),
            truth_reason: previous.map(|view| view.truth_reason.clone()).unwrap_or_default(),
            objects: previous.map(|view| view.objects.clone()).unwrap_or_default(),
            delivered: None,
            names: previous.map(|view| view.names.clone()).unwrap_or_default(),
            stale: effective.is_some(),
            effective,
            last_good: previous.and_then(|view| view.last_good.clone()),
            vetoed: previous.map(|view| view.vetoed.clone()).unwrap_or_default(),
            unlooked: previous.map(|view| view.unlooked.clone()).unwrap_or_default(),
            mentioned: previous.map(|view| view.mentioned.clone()).unwrap_or_default(),
            observed_only: previous.map(|view| view.observed_only.clone()).unwrap_or_default(),
            covered: previous.and_then(|view| view.covered.clone()),
            record: ListRecord::default(),
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

    /// CIDR and endpoint of each VTEP that would newly take effect: before it does, the ipcache must be searched for others in its network.
    #[must_use]
    pub fn to_search(document: &Document, signs: Signs, previous: Option<&Self>) -> Vec<(Ipv4Net, Ipv4Addr)> {
        let sources = Sources::read(document, signs, previous);
        let standing = previous.map(|view| view.standing_for(sources.truth)).unwrap_or_default();
        let waits = |cidr: &Ipv4Net| previous.is_some_and(|view| view.unlooked.contains(cidr));
        let mut candidates = sources.candidates();
        candidates.retain(|(cidr, _)| waits(cidr) || !standing.contains(cidr));
        candidates
    }

    fn of_document(
        document: &Document,
        node: &Surroundings,
        signs: Signs,
        previous: Option<&Self>,
        now: Timestamp,
    ) -> Self {
        let surroundings = document.surroundings.and(node);
        let sources = Sources::read(document, signs, previous);
        let mut standing = previous.map(|view| view.standing_for(sources.truth)).unwrap_or_default();
        // A VTEP that took effect before an ipcache existed has no precedence over the entries of that ipcache.
        let unlooked = |cidr: &Ipv4Net| previous.is_some_and(|view| view.unlooked.contains(cidr));
        standing.retain(|cidr| !(unlooked(cidr) && surroundings.ipcache.contains_key(cidr)));
        let around = Around { surroundings: &surroundings, standing: &standing };
        let view = match sources.truth {
            Truth::Crd => Self::of_objects(document, &sources, around, previous),
            Truth::Configmap | Truth::None => Self::of_lists(document, &sources, around, previous),
        };
        let same = previous.filter(|previous| previous.hash == view.hash);
        Self { observed_at: same.map_or(now, |same| same.observed_at), ..view }
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
            (Truth::None, Truth::Configmap | Truth::Crd) => BTreeSet::new(),
            (Truth::None, Truth::None) | (Truth::Configmap | Truth::Crd, _) => self.standing(),
        }
    }

    /// Whether an entry may have another MAC than the configured one. Never where custom resources have VTEPs for this node, even if the lists
    /// count: Cilium may reconcile these entries, and would write the configured MAC back each time.
    #[must_use]
    pub fn may_learn_macs(&self) -> bool {
        self.truth == Truth::Configmap && !self.objects.iter().any(|object| object.applies)
    }

    /// The document is known and has no error.
    #[must_use]
    pub fn valid(&self) -> bool {
        !self.hash.is_empty() && self.findings.iter().all(|finding| finding.severity < Severity::Error)
    }
}

/// The network that a finding about `vtep-cidr` refers to.
fn network(finding: &Finding) -> Option<Ipv4Net> {
    let Finding { key, value, .. } = finding;
    let value = value.as_ref().filter(|_| key == "vtep-cidr")?;
    value.parse().ok().map(|net: Ipv4Net| net.trunc())
}

/// Whether a need of the node rules this CIDR out.
fn clashes(cidr: Ipv4Net, around: Around<'_>) -> bool {
    overlaps::of_cidr(cidr, around).iter().any(|complaint| complaint.is_error())
}

fn sight(Observed { state, warning }: &Observed) -> Option<Sight<'_>> {
    match state {
        SourceState::Document(Document { keys, lists_changed, .. }) => {
            Some(Sight { keys, changed: *lists_changed, current: warning.is_none() })
        }
        SourceState::Missing(_) | SourceState::Nothing => None,
    }
}

fn missing(reason: &str) -> Finding {
    let remedy = "until it exists again, the agent removes nothing from the kernel";
    Finding::new(Rule::ConfigmapMissing, "cilium-config", None, None, reason, remedy)
}

#[cfg(test)]
mod tests;
