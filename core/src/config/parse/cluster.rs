//! The other keys of `cilium-config` that concern VTEPs: the switch, the tunnel, the features, and unknown keys.

use ipnet::Ipv4Net;

use super::{
    lists::tokens,
    scalars::{boolean, port_number},
    values::quote,
};
use crate::config::{
    Keys,
    finding::{Finding, Rule},
    list_record::LIST_KEYS,
    spec::{Tunnel, TunnelProtocol},
};

/// The keys with `vtep` in their name that Cilium reads.
const VTEP_KEYS: [&str; 6] =
    ["enable-vtep", "vtep-endpoint", "vtep-cidr", "vtep-mask", "vtep-mac", "vtep-sync-interval"];

/// Whether `enable-vtep` is not off; reports a finding if it is off. An unreadable value does not count as off.
pub(super) fn enabled(keys: &Keys, findings: &mut Vec<Finding>) -> bool {
    const KEY: &str = "enable-vtep";
    let raw = keys.get(KEY).map(String::as_str);
    let set = LIST_KEYS.iter().find(|key| filled(keys, key).is_some());
    let problem = match (raw.map(boolean), set) {
        (Some(Some(true) | None), _) => return true,
        (None, None) => "the key is absent, so VTEP is off".to_owned(),
        (None, Some(key)) => format!("the key is absent, so VTEP is off although {key} is set"),
        (Some(Some(false)), _) => "VTEP is off".to_owned(),
    };
    let remedy = "set it to \"true\" to reach BIG-IP through tunnels";
    findings.push(Finding::new(Rule::VtepDisabled, KEY, None, raw, problem, remedy));
    false
}

/// Reports keys that look like VTEP settings but are not.
pub(super) fn unknown_keys(keys: &Keys, findings: &mut Vec<Finding>) {
    let unknown = |key: &str| key.to_lowercase().contains("vtep") && !VTEP_KEYS.contains(&key);
    for (key, value) in keys.iter().filter(|(key, _)| unknown(key)) {
        let problem = "no program reads this key: it is a typo, or belongs to a newer Cilium";
        // The value of a typo helps. That of any other key may be a secret, and findings are in logs, Events and bundles.
        let (value, remedy) = match nearest(key, &VTEP_KEYS) {
            Some(known) => (Some(value.as_str()), format!("did you mean {known}?")),
            None => (None, format!("known keys are {}", VTEP_KEYS.join(", "))),
        };
        findings.push(Finding::new(Rule::UnknownVtepKey, key, None, value, problem, remedy));
    }
}

/// The known key that this one is a typo of.
pub(in crate::config) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let lower = key.to_lowercase();
    // Long keys cost time and are near to none.
    let candidates = known.iter().filter(|known| known.len().abs_diff(lower.len()) <= 2);
    let nearest = candidates.map(|known| (strsim::levenshtein(&lower, known), *known)).min();
    nearest.filter(|(distance, _)| *distance <= 2).map(|(_, known)| known)
}

/// `routing-mode` and `tunnel-protocol`, or the `tunnel` of Cilium up to 1.14; and `tunnel-port`.
pub(super) fn tunnel(keys: &Keys, findings: &mut Vec<Finding>) -> Tunnel {
    routing(keys, findings);
    let protocol = match ["tunnel-protocol", "tunnel"].into_iter().find_map(|key| Some((key, filled(keys, key)?))) {
        None | Some((_, "vxlan")) | Some(("tunnel", "disabled")) => Some(TunnelProtocol::Vxlan),
        Some((_, "geneve")) => Some(TunnelProtocol::Geneve),
        Some((key, other)) => {
            let problem = format!("{} is not a tunnel protocol that VTEP works with", quote(other));
            let remedy = "write vxlan or geneve, to match the BIG-IP's tunnel profile";
            findings.push(Finding::new(Rule::TunnelProtocolUnknown, key, None, Some(other), problem, remedy));
            None
        }
    };
    let default_port = protocol.unwrap_or(TunnelProtocol::Vxlan).default_port();
    let port = port(keys, default_port, protocol.is_some(), findings);
    Tunnel { protocol: protocol.unwrap_or(TunnelProtocol::Vxlan), port }
}

fn routing(keys: &Keys, findings: &mut Vec<Finding>) {
    let (key, value, problem) = match (filled(keys, "routing-mode"), filled(keys, "tunnel")) {
        (Some("tunnel"), _) => return,
        (Some(value @ "native"), _) => {
            ("routing-mode", value, "native routing has no tunnel device, so no VTEP".to_owned())
        }
        (Some(value), _) => ("routing-mode", value, format!("{} is not a routing mode", quote(value))),
        (None, Some(value @ "disabled")) => ("tunnel", value, "without tunnels there is no VTEP".to_owned()),
        (None, Some(_) | None) => return,
    };
    let remedy =
        "set routing-mode to tunnel (before Cilium 1.14: tunnel to vxlan or geneve), or enable-vtep to \"false\"";
    findings.push(Finding::new(Rule::TunnelDisabled, key, None, Some(value), problem, remedy));
}

fn port(keys: &Keys, default: u16, report: bool, findings: &mut Vec<Finding>) -> u16 {
    const KEY: &str = "tunnel-port";
    let Some(raw) = filled(keys, KEY) else { return default };
    let port = match port_number(raw) {
        // `scalars` reports a value that is not a number.
        None | Some(0) => return default,
        Some(port) if port == default => return port,
        Some(port) => port,
    };
    if report {
        let problem = format!("the tunnels use port {port} and not {default}, Cilium's default");
        let remedy = format!("the BIG-IP's tunnel profile must have `port {port}`");
        findings.push(Finding::new(Rule::TunnelPortNonstandard, KEY, None, Some(raw), problem, remedy));
    }
    port
}

/// Reports features that do not work with VTEP, or that a person should know about.
pub(super) fn features(keys: &Keys, findings: &mut Vec<Finding>) {
    let mut report = |rule, key: &str, problem: String, remedy: &str| {
        findings.push(Finding::new(rule, key, None, keys.get(key).map(String::as_str), problem, remedy));
    };
    if is(keys, "enable-ipsec", true) {
        let problem = "VTEP does not work with IPsec: traffic to BIG-IP is lost".to_owned();
        report(Rule::IpsecEnabled, "enable-ipsec", problem, "set it to \"false\", or enable-vtep to \"false\"");
    }
    if is(keys, "enable-wireguard", true) {
        let problem = "with WireGuard, traffic to a VTEP may be lost".to_owned();
        report(
            Rule::WireguardEnabled,
            "enable-wireguard",
            problem,
            "check that pods reach BIG-IP, or set it to \"false\"",
        );
    }
    if is(keys, "enable-ipv4", false) {
        let problem = "VTEPs are IPv4 only, and IPv4 is off".to_owned();
        report(Rule::Ipv4Disabled, "enable-ipv4", problem, "set it to \"true\", or enable-vtep to \"false\"");
    }
    let policy = filled(keys, "enable-policy").unwrap_or("default");
    if !policy.eq_ignore_ascii_case("never") {
        let problem =
            format!("policy enforcement is {}: where a policy selects a pod, a VTEP is `world` to it", quote(policy));
        let remedy = "allow egress `toEntities: [world]` and ingress `fromEntities: [world]` there, or set it to never";
        report(Rule::PolicyEnforcementEnabled, "enable-policy", problem, remedy);
    }
    if is(keys, "enable-l7-proxy", false) {
        let problem = "Cilium installs no host route to the VTEPs without its L7 proxy".to_owned();
        report(Rule::L7ProxyDisabled, "enable-l7-proxy", problem, "nothing to do: this agent installs the route");
    }
}

/// The pools from which Cilium takes the pod networks of nodes, if its IPAM mode uses pools.
pub(crate) fn pod_pools(keys: &Keys) -> Vec<Ipv4Net> {
    match filled(keys, "ipam") {
        None | Some("cluster-pool" | "cluster-pool-v2beta") => {
            let raw = keys.get("cluster-pool-ipv4-cidr").map_or("", String::as_str);
            tokens(raw).filter_map(|(_, pool)| pool.parse::<Ipv4Net>().ok()).map(|pool| pool.trunc()).collect()
        }
        Some(_) => Vec::new(),
    }
}

/// The trimmed value of a key that is set and not empty.
pub(super) fn filled<'k>(keys: &'k Keys, key: &str) -> Option<&'k str> {
    keys.get(key).map(|value| value.trim()).filter(|value| !value.is_empty())
}

/// Whether the key is set to `expected`. An absent key has its default, and `scalars` reports an unreadable value.
pub(super) fn is(keys: &Keys, key: &str, expected: bool) -> bool {
    keys.get(key).and_then(|value| boolean(value)) == Some(expected)
}
