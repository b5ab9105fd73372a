//! Findings about a configuration, and the public ids of the rules behind them. The checks themselves are in [`super::parse`] and
//! [`super::effective`].

use serde::{Deserialize, Serialize};

use self::{
    Scope::{BigIp, List, Start, Vtep},
    Severity::{Error, Info, Warning},
};
use crate::registry::registry;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    /// The agent programs the value as written, but a person should check it.
    Warning,
    /// The agent does not program the value.
    Error,
}

/// The part of the document that has no effect because of an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Only the VTEP at the finding's index.
    #[default]
    Vtep,
    /// The whole list.
    List,
    /// No part: the Cilium agent exits at its next start because of the error, but no VTEP depends on the value.
    Start,
    /// No part: the difference is to a BIG-IP, which the agent does not see.
    BigIp,
}

/// One finding: text for people, and fields for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub rule: Rule,
    pub severity: Severity,
    /// The part that has no effect, if this is an error: the scope of the rule, unless the key decides otherwise.
    #[serde(skip)]
    pub scope: Scope,
    /// The ConfigMap key that it refers to.
    pub key: String,
    /// Position of the value in the key's list, from 0.
    pub index: Option<usize>,
    /// The value as written; `null` when the key is absent.
    pub value: Option<String>,
    /// The object that sets the key, if it is not the ConfigMap itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub origin: Option<String>,
    /// Place, problem and remedy in one sentence.
    pub message: String,
    /// The problem, for a reader who already sees the place.
    #[serde(skip)]
    pub problem: String,
    /// The value to write instead, or the consequence.
    #[serde(skip)]
    pub remedy: String,
}

impl Finding {
    /// A finding about the value at `index` of the list in `key`, or about the whole key.
    #[must_use]
    pub fn new(
        rule: Rule,
        key: &str,
        index: Option<usize>,
        value: Option<&str>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (problem, remedy) = (problem.into(), remedy.into());
        let message = format!("{}: {problem}; {remedy}", place(key, index));
        let (key, value) = (key.to_owned(), value.map(str::to_owned));
        let (severity, scope) = (rule.severity(), rule.scope());
        Self { rule, severity, scope, key, index, value, origin: None, message, problem, remedy }
    }

    /// The same finding with another scope than that of its rule.
    #[must_use]
    pub fn within(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// Whether this is an error that keeps part of the document from taking effect.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.severity == Error && matches!(self.scope, Vtep | List)
    }

    /// The same finding for a key that this object sets.
    #[must_use]
    pub fn set_by(self, origin: &str) -> Self {
        let message = format!("{} (set by {origin}): {}; {}", self.place(), self.problem, self.remedy);
        Self { origin: Some(origin.to_owned()), message, ..self }
    }

    /// The same finding, whose message names this place in the place of the key.
    #[must_use]
    pub fn placed(self, place: &str) -> Self {
        let origin = self.origin.as_ref().map(|origin| format!(" (set by {origin})")).unwrap_or_default();
        Self { message: format!("{place}{origin}: {}; {}", self.problem, self.remedy), ..self }
    }

    /// The key, and the position in it as people count: `vtep-mac, 1st value`.
    #[must_use]
    pub fn place(&self) -> String {
        place(&self.key, self.index)
    }
}

fn place(key: &str, index: Option<usize>) -> String {
    match index {
        Some(index) => format!("{key}, {} value", ordinal(index)),
        None => key.to_owned(),
    }
}

/// The index as people count: 0 is `1st`.
#[must_use]
pub fn ordinal(index: usize) -> String {
    let n = index.saturating_add(1);
    let suffix = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{suffix}")
}

registry! {
    /// The rules: a finding has the severity and the scope of its rule.
    pub enum Rule: (Severity, Scope);

    ConfigmapMissing "configmap-missing" = (Error, List);
    VtepDisabled "vtep-disabled" = (Info, List);
    VtepListEmpty "vtep-list-empty" = (Error, List);
    VtepCountMismatch "vtep-count-mismatch" = (Error, List);
    VtepTooMany "vtep-too-many" = (Error, List);
    VtepListSeparator "vtep-list-separator" = (Warning, List);
    VtepEndpointInvalid "vtep-endpoint-invalid" = (Error, Vtep);
    VtepEndpointNotIpv4 "vtep-endpoint-not-ipv4" = (Error, Vtep);
    VtepEndpointNotUnicast "vtep-endpoint-not-unicast" = (Error, Vtep);
    VtepCidrInvalid "vtep-cidr-invalid" = (Error, Vtep);
    VtepCidrNotIpv4 "vtep-cidr-not-ipv4" = (Error, Vtep);
    VtepCidrHostBits "vtep-cidr-host-bits" = (Warning, Vtep);
    VtepMacInvalid "vtep-mac-invalid" = (Error, Vtep);
    VtepMacZero "vtep-mac-zero" = (Error, Vtep);
    VtepMacMulticast "vtep-mac-multicast" = (Warning, Vtep);
    VtepMacPlaceholder "vtep-mac-placeholder" = (Warning, Vtep);
    VtepMacDuplicate "vtep-mac-duplicate" = (Warning, Vtep);
    VtepEndpointDuplicate "vtep-endpoint-duplicate" = (Warning, Vtep);
    VtepMaskInvalid "vtep-mask-invalid" = (Error, List);
    VtepMaskEmpty "vtep-mask-empty" = (Error, List);
    VtepCidrMaskMismatch "vtep-cidr-mask-mismatch" = (Error, Vtep);
    VtepCidrDuplicate "vtep-cidr-duplicate" = (Error, Vtep);
    VtepCidrOverlap "vtep-cidr-overlap" = (Error, Vtep);
    VtepCidrOverlapsPodCidr "vtep-cidr-overlaps-pod-cidr" = (Error, Vtep);
    VtepCidrOverlapsServiceCidr "vtep-cidr-overlaps-service-cidr" = (Error, Vtep);
    VtepCidrContainsNode "vtep-cidr-contains-node" = (Error, Vtep);
    VtepCidrReserved "vtep-cidr-reserved" = (Error, Vtep);
    VtepCidrOverlapsConnected "vtep-cidr-overlaps-connected" = (Error, Vtep);
    VtepCidrContainsGateway "vtep-cidr-contains-gateway" = (Error, Vtep);
    VtepCidrContainsApiserver "vtep-cidr-contains-apiserver" = (Error, Vtep);
    VtepCidrOverlapsIpcache "vtep-cidr-overlaps-ipcache" = (Error, Vtep);
    VtepCidrInPodPool "vtep-cidr-in-pod-pool" = (Warning, Vtep);
    VtepEndpointInVtepCidr "vtep-endpoint-in-vtep-cidr" = (Error, Vtep);
    VtepEndpointInPodCidr "vtep-endpoint-in-pod-cidr" = (Error, Vtep);
    VtepEndpointIsNode "vtep-endpoint-is-node" = (Error, Vtep);
    TunnelDisabled "tunnel-disabled" = (Error, List);
    TunnelProtocolUnknown "tunnel-protocol-unknown" = (Error, List);
    TunnelPortNonstandard "tunnel-port-nonstandard" = (Info, List);
    IpsecEnabled "ipsec-enabled" = (Error, List);
    WireguardEnabled "wireguard-enabled" = (Warning, List);
    Ipv4Disabled "ipv4-disabled" = (Error, List);
    PolicyEnforcementEnabled "policy-enforcement-enabled" = (Info, List);
    L7ProxyDisabled "l7-proxy-disabled" = (Info, List);
    BoolInvalid "bool-invalid" = (Error, List);
    NumberInvalid "number-invalid" = (Error, List);
    DurationInvalid "duration-invalid" = (Error, Start);
    UnknownVtepKey "unknown-vtep-key" = (Warning, List);
    ValueUnknown "value-unknown" = (Info, List);
    VtepConfigConflict "vtep-config-conflict" = (Error, Vtep);
    VtepConfigRefused "vtep-config-refused" = (Error, Vtep);
    VtepConfigSelectorInvalid "vtep-config-selector-invalid" = (Error, Vtep);
    VtepConfigNotSynced "vtep-config-not-synced" = (Warning, Vtep);
    VtepConfigGone "vtep-config-gone" = (Warning, List);
    VtepSourcesBoth "vtep-sources-both" = (Warning, List);
    BigipKey "bigip-key" = (Error, BigIp);
    BigipPort "bigip-port" = (Error, BigIp);
    BigipProfile "bigip-profile" = (Error, BigIp);
    BigipFlooding "bigip-flooding" = (Error, BigIp);
    BigipLocalAddress "bigip-local-address" = (Error, BigIp);
    BigipSelfIp "bigip-self-ip" = (Error, BigIp);
    BigipSelfIpLockdown "bigip-self-ip-lockdown" = (Warning, BigIp);
    BigipRoute "bigip-route" = (Error, BigIp);
    BigipFdbMissing "bigip-fdb-missing" = (Error, BigIp);
    BigipFdbStale "bigip-fdb-stale" = (Warning, BigIp);
    BigipRouteDomain "bigip-route-domain" = (Error, BigIp);
    BigipMac "bigip-mac" = (Error, BigIp);
    BigipMtu "bigip-mtu" = (Warning, BigIp);
    BigipFailoverMac "bigip-failover-mac" = (Warning, BigIp);
    BigipUnlisted "bigip-unlisted" = (Warning, BigIp);
    BigipAbsent "bigip-absent" = (Warning, BigIp);
}

impl Rule {
    #[must_use]
    pub const fn severity(self) -> Severity {
        let (severity, _) = self.entry();
        severity
    }

    #[must_use]
    pub const fn scope(self) -> Scope {
        let (_, scope) = self.entry();
        scope
    }

    /// Whether the rule is about a CIDR that overlaps a need of the node or the cluster.
    #[must_use]
    pub const fn vetoes(self) -> bool {
        matches!(
            self,
            Self::VtepCidrOverlapsPodCidr
                | Self::VtepCidrOverlapsServiceCidr
                | Self::VtepCidrContainsNode
                | Self::VtepCidrReserved
                | Self::VtepCidrOverlapsConnected
                | Self::VtepCidrContainsGateway
                | Self::VtepCidrContainsApiserver
                | Self::VtepCidrOverlapsIpcache
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_as_people_do() {
        let cases =
            [(0, "1st"), (1, "2nd"), (2, "3rd"), (3, "4th"), (10, "11th"), (11, "12th"), (12, "13th"), (20, "21st")];
        for (index, expected) in cases {
            assert_eq!(ordinal(index), expected);
        }
    }

    #[test]
    fn message_holds_place_problem_and_remedy() {
        let finding = Finding::new(Rule::VtepMacZero, "vtep-mac", Some(1), Some("0"), "bad", "write better");
        let json = serde_json::to_value(&finding).expect("JSON");
        let expected = serde_json::json!({
            "rule": "vtep-mac-zero", "severity": "error", "key": "vtep-mac", "index": 1, "value": "0",
            "message": "vtep-mac, 2nd value: bad; write better",
        });
        assert_eq!(json, expected);
    }
}
