//! The content of an Event: a change of a verdict, or a finding.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use jiff::Timestamp;

use crate::{
    config::finding::{Finding, Severity},
    diagnosis::{Cause, Diagnosis, Verdict},
    report::status::Failover,
    types::mac::Mac,
};

/// The object that an Event is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Regarding {
    Node,
    ConfigMap,
}

/// A report that becomes an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    pub about: Regarding,
    /// The type of the Event: `Warning` if true, or else `Normal`.
    pub is_warning: bool,
    /// The id of the cause or of the rule in CamelCase.
    pub reason: &'static str,
    pub text: String,
    pub at: Timestamp,
}

impl EventRecord {
    /// The record for a VTEP that has this verdict now.
    #[must_use]
    pub fn verdict(cidr: Ipv4Net, diagnosis: &Diagnosis, runbook: &str, at: Timestamp) -> Self {
        let Diagnosis { verdict, cause, hint, .. } = diagnosis;
        let label = diagnosis.label(cidr);
        let reason = cause.map_or("VtepHealthy", Cause::reason);
        let hint = hint.as_ref().map(|hint| format!(": {hint}")).unwrap_or_default();
        let more = cause.map(|cause| format!(" (see {})", cause.section(runbook))).unwrap_or_default();
        let text = format!("VTEP {label} is {verdict}{hint}{more}");
        Self { about: Regarding::Node, is_warning: *verdict != Verdict::Healthy, reason, text, at }
    }

    /// A verdict that changes too often for an Event each time.
    #[must_use]
    pub fn flapping(label: &str, at: Timestamp) -> Self {
        let text = format!("VTEP {label}: verdict is flapping; suppressed until stable for 60 s");
        Self { about: Regarding::Node, is_warning: true, reason: "VtepFlapping", text, at }
    }

    /// Another unit of a BIG-IP has taken over.
    #[must_use]
    pub fn failover(label: &str, endpoint: Ipv4Addr, failover: &Failover, at: Timestamp) -> Self {
        let text = format!("VTEP {label}: failover at {endpoint}: {}", failover.words());
        Self { about: Regarding::Node, is_warning: false, reason: "VtepFailover", text, at }
    }

    /// The entry has the MAC that BIG-IP's tunnel answers with.
    #[must_use]
    pub fn mac_learned(label: &str, configured: Mac, learned: Mac, config_line: Option<&str>, at: Timestamp) -> Self {
        let remedy = config_line.map(|line| format!(": write {line} into cilium-config")).unwrap_or_default();
        let text = format!(
            "VTEP {label}: the entry has MAC {learned}, which BIG-IP's tunnel answers with, instead of the configured {configured}{remedy}"
        );
        Self { about: Regarding::Node, is_warning: true, reason: "VtepMacLearned", text, at }
    }

    /// The record for a finding; `None` if the finding is only informational.
    #[must_use]
    pub fn finding(finding: &Finding, at: Timestamp) -> Option<Self> {
        let Finding { rule, severity, message, .. } = finding;
        (*severity >= Severity::Warning).then(|| Self {
            about: Regarding::ConfigMap,
            is_warning: true,
            reason: rule.reason(),
            text: message.clone(),
            at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::finding::Rule;

    #[test]
    fn reasons_are_the_ids_in_camel_case() {
        let word = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
        let camel_case = |id: &str| id.split('-').map(word).collect::<String>();
        let causes = Cause::ALL.iter().map(|cause| (cause.id(), cause.reason()));
        let rules = Rule::ALL.iter().map(|rule| (rule.id(), rule.reason()));
        causes.chain(rules).for_each(|(id, reason)| assert_eq!(camel_case(id), reason));
    }
}
