//! Booleans, numbers and durations, parsed as Cilium parses them at its start. Cilium exits at an invalid one.
//!
//! Only keys whose type is certain are checked. Cilium trims the values that it reads from the mounted ConfigMap.

use super::{
    cluster::filled,
    values::{is_quote, quote},
};
use crate::config::{
    Keys,
    finding::{Finding, Rule, Scope},
};

/// These keys decide whether there are VTEPs at all.
const DECISIVE_BOOLEANS: [&str; 3] = ["enable-vtep", "enable-ipv4", "enable-ipsec"];

/// The other booleans that every Cilium release with VTEPs has, and that Helm renders.
const BOOLEANS: [&str; 9] = [
    "auto-direct-node-routes",
    "debug",
    "enable-bpf-masquerade",
    "enable-endpoint-routes",
    "enable-ipv4-masquerade",
    "enable-ipv6",
    "enable-ipv6-masquerade",
    "enable-l7-proxy",
    "enable-wireguard",
];

const PORT: &str = "tunnel-port";
const INTERVAL: &str = "vtep-sync-interval";

/// The consequence of an invalid value.
const FATAL: &str =
    "the Cilium agent exits at its start because of it (\"Incorrect config-map flag value\", Cilium 1.19 and newer)";

pub(super) fn check(keys: &Keys, findings: &mut Vec<Finding>) {
    let decisive = DECISIVE_BOOLEANS.into_iter().map(|key| (key, Scope::List));
    for (key, scope) in decisive.chain(BOOLEANS.into_iter().map(|key| (key, Scope::Start))) {
        let unreadable = keys.get(key).filter(|value| boolean(value).is_none());
        findings.extend(unreadable.map(|raw| {
            let remedy = unquoted(raw, "write \"true\" or \"false\"");
            finding(Rule::BoolInvalid, key, raw, "a boolean", remedy).within(scope)
        }));
    }
    if let Some(raw) = filled(keys, PORT).filter(|raw| port_number(raw).is_none()) {
        let remedy = unquoted(raw, "write a number from 1 to 65535, or remove the key for Cilium's default");
        findings.push(finding(Rule::NumberInvalid, PORT, raw, "a port", remedy));
    }
    if let Some(raw) = keys.get(INTERVAL).filter(|raw| !is_duration(raw)) {
        let remedy = unquoted(raw, "write a number with its unit, e.g. 60s or 1m30s");
        findings.push(finding(Rule::DurationInvalid, INTERVAL, raw, "a duration", remedy));
    }
}

fn finding(rule: Rule, key: &str, raw: &str, what: &str, remedy: &str) -> Finding {
    Finding::new(rule, key, None, Some(raw), format!("{} is not {what}, and {FATAL}", quote(raw)), remedy)
}

fn unquoted<'r>(raw: &str, remedy: &'r str) -> &'r str {
    if raw.contains(is_quote) { "remove the quotes inside the value" } else { remedy }
}

/// Go's `strconv.ParseBool`.
pub(super) fn boolean(value: &str) -> Option<bool> {
    match value.trim() {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseInt` with base 0, limited to ports: 0x2118, 0o20430 and 020430 are 8472, too.
pub(super) fn port_number(value: &str) -> Option<u16> {
    let value = value.trim();
    let digits = value.strip_prefix('+').unwrap_or(value);
    let (digits, base) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (digits.get(2..)?, 16),
        [b'0', b'o' | b'O', ..] => (digits.get(2..)?, 8),
        [b'0', b'b' | b'B', ..] => (digits.get(2..)?, 2),
        [b'0', _, ..] => (digits.get(1..)?, 8),
        _ => (digits, 10),
    };
    // Rust accepts a sign here, and Go does not.
    digits.bytes().all(|digit| digit.is_ascii_alphanumeric()).then(|| u16::from_str_radix(digits, base).ok()).flatten()
}

/// Go's `time.ParseDuration`: an optional sign, then numbers, each with its unit; or 0 alone.
fn is_duration(value: &str) -> bool {
    let value = value.trim();
    let mut rest = value.strip_prefix(['+', '-']).unwrap_or(value);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let Some(next) = after_term(rest) else { return false };
        rest = next;
    }
    true
}

/// The text after a number and its unit.
fn after_term(text: &str) -> Option<&str> {
    // Of two units with the same beginning, the longer one must come first.
    const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let number = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, rest) = text.split_at_checked(number)?;
    let dots = number.bytes().filter(|byte| *byte == b'.').count();
    let is_number = dots <= 1 && number.len() > dots;
    // Go counts nanoseconds in 63 bits, which is 292 years: more digits than that are never meaningful.
    let is_short = number.len() < 20;
    UNITS.iter().find_map(|unit| rest.strip_prefix(unit)).filter(|_| is_number && is_short)
}
