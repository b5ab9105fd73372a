//! What the rest of the agent sees of the configuration: what is in force now, and what is wrong with the document.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    Keys,
    finding::{Finding, Rule, Severity},
    in_force::in_force,
    parse::parse,
    spec::Spec,
};

/// What a source saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    Keys(Keys),
    /// There is no document (any more), and why.
    Missing(String),
    /// The source does not answer, and why: the document may be there, and may have changed.
    Unreachable(String),
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
    pub findings: Vec<Finding>,
    /// What the kernel shall hold; `None` until the first valid configuration.
    pub in_force: Option<Spec>,
    /// Some of what is in force is an earlier value, because the document is in error there.
    pub stale: bool,
    /// CIDRs that the document mentions anywhere, also in error: their entries are not stale.
    pub mentioned: BTreeSet<Ipv4Net>,
}

impl View {
    /// The view after `observed`, given the one before it.
    #[must_use]
    pub fn next(source: &str, observed: &Observed, previous: Option<&Self>, now: Timestamp) -> Self {
        let last_good = previous.and_then(|view| view.in_force.as_ref());
        let unknown = || Self {
            source: source.to_owned(),
            observed_at: now,
            hash: String::new(),
            source_error: None,
            findings: Vec::new(),
            in_force: last_good.cloned(),
            stale: last_good.is_some(),
            mentioned: previous.map(|view| view.mentioned.clone()).unwrap_or_default(),
        };
        match observed {
            Observed::Keys(keys) => Self::of_keys(source, keys, last_good, now),
            Observed::Missing(reason) => Self { findings: vec![missing(reason)], ..unknown() },
            // What was known of the document is still the best that is known.
            Observed::Unreachable(reason) => {
                let known = previous.cloned().unwrap_or_else(unknown);
                Self { source_error: Some(reason.clone()), stale: known.in_force.is_some(), ..known }
            }
        }
    }

    fn of_keys(source: &str, keys: &Keys, last_good: Option<&Spec>, now: Timestamp) -> Self {
        let parsed = parse(keys);
        let in_force = in_force(&parsed, last_good);
        Self {
            source: source.to_owned(),
            observed_at: now,
            hash: hash(keys),
            source_error: None,
            stale: in_force.as_ref().is_some_and(|in_force| in_force.stale),
            in_force: in_force.map(|in_force| in_force.spec),
            mentioned: parsed.mentioned,
            findings: parsed.findings,
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
