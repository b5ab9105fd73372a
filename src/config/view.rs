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

/// What a source saw: the effective keys, or why there are none.
pub type Observed = Result<Keys, String>;

/// The configuration at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Where it comes from, e.g. `dir:/etc/cilium-config`.
    pub source: String,
    /// When the document was last seen to change.
    pub observed_at: Timestamp,
    /// Identifies the document: the same on every node that sees the same keys. Empty while there is none.
    pub hash: String,
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
        match observed {
            Ok(keys) => Self::of_keys(source, keys, last_good, now),
            Err(reason) => Self {
                source: source.to_owned(),
                observed_at: now,
                hash: String::new(),
                findings: vec![missing(reason)],
                in_force: last_good.cloned(),
                stale: last_good.is_some(),
                mentioned: previous.map(|view| view.mentioned.clone()).unwrap_or_default(),
            },
        }
    }

    fn of_keys(source: &str, keys: &Keys, last_good: Option<&Spec>, now: Timestamp) -> Self {
        let parsed = parse(keys);
        let in_force = in_force(&parsed, last_good);
        Self {
            source: source.to_owned(),
            observed_at: now,
            hash: hash(keys),
            stale: in_force.as_ref().is_some_and(|in_force| in_force.stale),
            in_force: in_force.map(|in_force| in_force.spec),
            mentioned: parsed.mentioned,
            findings: parsed.findings,
        }
    }

    /// The document has no error.
    #[must_use]
    pub fn valid(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity < Severity::Error)
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
