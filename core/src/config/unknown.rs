//! Values that are templates: nobody knows them before another program has filled them in. They are unknown, not wrong.

use std::collections::BTreeSet;

use super::{
    Keys,
    finding::{Finding, Rule},
    list_record::LIST_KEYS,
    manifest::template::is_template,
    parse::{Parsed, parse_within},
    surroundings::Surroundings,
};

/// The keys that rules about VTEPs read, beside those with `vtep` in their name.
const READ: [&str; 10] = [
    "routing-mode",
    "tunnel",
    "tunnel-protocol",
    "tunnel-port",
    "ipam",
    "cluster-pool-ipv4-cidr",
    "enable-ipv4",
    "enable-ipsec",
    "enable-wireguard",
    "enable-policy",
];

const SWITCH: &str = "enable-vtep";
const MASK: &str = "vtep-mask";

/// Parses the keys whose values are known. Returns also the keys whose values are not.
#[must_use]
pub fn parse_known(keys: &Keys, surroundings: &Surroundings) -> (Parsed, BTreeSet<String>) {
    let unknown: BTreeSet<String> =
        keys.iter().filter(|(_, value)| is_template(value)).map(|(key, _)| key.clone()).collect();
    if unknown.is_empty() {
        return (parse_within(keys, surroundings), unknown);
    }
    let mut known = keys.clone();
    known.retain(|key, _| !unknown.contains(key));
    if unknown.contains(SWITCH) {
        // The other values are checked as if it were on.
        known.insert(SWITCH.to_owned(), "true".to_owned());
    }
    let mut parsed = parse_within(&known, surroundings);
    parsed.findings.retain(|finding| !rests_on(finding, &unknown));
    if parsed.enabled {
        parsed.findings.extend(keys.iter().filter(|(key, _)| unknown.contains(*key) && is_read(key)).map(report));
    }
    // A list that is a template is not absent.
    parsed.elsewhere &= !LIST_KEYS.iter().any(|key| unknown.contains(*key));
    (parsed, unknown)
}

/// Whether the VTEPs depend on an unknown value.
#[must_use]
pub fn decides(unknown: &BTreeSet<String>) -> bool {
    LIST_KEYS.iter().chain([&SWITCH, &MASK]).any(|key| unknown.contains(*key))
}

fn is_read(key: &str) -> bool {
    READ.contains(&key) || key.contains("vtep")
}

fn report((key, value): (&String, &String)) -> Finding {
    let problem = "the value is a template, so it is unknown here, and no rule about it applies";
    Finding::new(Rule::ValueUnknown, key, None, Some(value), problem, "check the rendered text, too")
}

/// The rules that compare several keys. The others depend on the key of their finding alone.
const COMPARED: [(Rule, &[&str]); 6] = [
    (Rule::VtepCountMismatch, &LIST_KEYS),
    (Rule::VtepListEmpty, &LIST_KEYS),
    (Rule::VtepCidrMaskMismatch, &[MASK]),
    (Rule::VtepCidrInPodPool, &["ipam", "cluster-pool-ipv4-cidr"]),
    (Rule::TunnelPortNonstandard, &["tunnel-protocol", "tunnel", "tunnel-port"]),
    (Rule::TunnelDisabled, &["routing-mode", "tunnel"]),
];

/// Whether a finding would perhaps not exist if the unknown values were known.
fn rests_on(finding: &Finding, unknown: &BTreeSet<String>) -> bool {
    let compared = COMPARED.iter().filter(|(rule, _)| *rule == finding.rule).flat_map(|(_, keys)| *keys);
    let mut keys = compared.copied().chain([finding.key.as_str()]);
    // The name of an unknown key is wrong, whatever its value.
    finding.rule != Rule::UnknownVtepKey && keys.any(|key| unknown.contains(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(changes: &[(&str, &str)]) -> Vec<(Rule, String)> {
        let good = [
            ("enable-vtep", "true"),
            ("vtep-endpoint", "10.169.72.34 10.169.72.36"),
            ("vtep-cidr", "10.1.6.0/24 10.1.5.0/24"),
            ("vtep-mac", "00:50:56:a0:7d:d8 00:50:56:86:6b:28"),
            ("enable-policy", "never"),
        ];
        let keys: Keys = good.iter().chain(changes).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (parsed, unknown) = parse_known(&keys, &Surroundings::default());
        assert!(!decides(&unknown) || !parsed.elsewhere);
        parsed.findings.into_iter().map(|finding| (finding.rule, finding.key)).collect()
    }

    #[test]
    fn a_template_is_unknown_and_nothing_else() {
        let unknown = |key: &str| (Rule::ValueUnknown, key.to_owned());
        for key in
            ["vtep-mac", "vtep-cidr", "vtep-endpoint", "vtep-mask", "enable-vtep", "routing-mode", "enable-policy"]
        {
            assert_eq!(check(&[(key, "{{ .Values.x }}")]), [unknown(key)], "{key}");
        }
        assert_eq!(check(&[("vtep-mac", "${A}"), ("vtep-endpoint", "$(B)"), ("vtep-cidr", "$C")]).len(), 3);
        assert_eq!(check(&[("cluster-name", "${NAME}")]), []);
        assert_eq!(check(&[("ipam", "${IPAM}"), ("cluster-pool-ipv4-cidr", "10.0.0.0/8")]), [unknown("ipam")]);
        let off = check(&[("enable-vtep", "false"), ("vtep-mac", "${A}")]);
        assert_eq!(off, [(Rule::VtepDisabled, "enable-vtep".to_owned())]);
    }

    #[test]
    fn the_known_values_are_checked() {
        let found = check(&[("vtep-mac", "{{ x }}"), ("vtep-cidr", "10.1.6.0/24 10.1.6.0/25")]);
        let rules: Vec<_> = found.iter().map(|(rule, _)| *rule).collect();
        assert_eq!(rules, [Rule::VtepCidrMaskMismatch, Rule::VtepCidrOverlap, Rule::ValueUnknown]);
    }
}
