//! The current document against the last good one.

use std::net::Ipv4Addr;

use super::*;
use crate::config::{
    Keys,
    parse::{parse, parse_around},
};

const A: &str = "10.1.1.0/24 192.0.2.1 00:50:56:00:00:01";
const B: &str = "10.1.2.0/24 192.0.2.2 00:50:56:00:00:02";
const C: &str = "10.1.3.0/24 192.0.2.3 00:50:56:00:00:03";

/// A document with one `cidr endpoint mac` per line.
fn document(lines: &[&str]) -> Keys {
    let column = |n| lines.iter().filter_map(|line| line.split(' ').nth(n)).collect::<Vec<_>>().join(" ");
    let keys = [
        ("enable-vtep", "true".to_owned()),
        ("vtep-cidr", column(0)),
        ("vtep-endpoint", column(1)),
        ("vtep-mac", column(2)),
    ];
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn spec(lines: &[&str]) -> Spec {
    let effective = effective(&parse(&document(lines)), None).expect("a configuration");
    assert!(!effective.stale, "{lines:?}");
    effective.spec
}

fn shown(vteps: &[Vtep]) -> Vec<String> {
    vteps.iter().map(|Vtep { cidr, endpoint, mac }| format!("{cidr} {endpoint} {mac}")).collect()
}

#[test]
fn a_line_in_error_keeps_its_last_good_value() {
    type Lines = &'static [&'static str];
    let cases: &[(&str, Lines, Lines, Lines)] = &[
        ("no error", &[A, B], &[C], &[C]),
        ("by CIDR", &[A, B], &["10.1.2.0/24 192.0.2.9 x", A], &[B, A]),
        // A renumbering with a typing error: until it is corrected, only the old value is usable.
        ("by endpoint, also where another CIDR is named", &[A, B], &[A, "10.1.9.0/24 192.0.2.2 x"], &[A, B]),
        ("by position, also where another CIDR is named", &[A, B], &[A, "10.1.9.0/24 192.0.2.9 x"], &[A, B]),
        ("by CIDR before it is by endpoint", &[A, B], &["10.1.9.0/24 192.0.2.2 x", "10.1.2.0/24 y z"], &[A, B]),
        ("by CIDR with a slip in its length", &[A, B], &[A, "10.1.2.0/25 192.0.2.9 00:50:56:00:00:09"], &[A, B]),
        ("by endpoint", &[A, B], &["x 192.0.2.2 00:50:56:00:00:01"], &[B]),
        ("by MAC", &[A, B], &["x 192.0.2.9 00-50-56-00-00-02"], &[B]),
        ("by position", &[A, B], &[A, "x y z"], &[A, B]),
        // It is unknown which value the line in error replaces, so no candidate is dropped.
        ("by nothing, since the lengths differ", &[A, B], &[A, C, "x y z"], &[A, C, B]),
        (
            "a duplicate that may have been another",
            &[A, B],
            &[A, "10.1.1.0/24 192.0.2.7 00:50:56:00:00:07"],
            &["10.1.1.0/24 192.0.2.7 00:50:56:00:00:07", B],
        ),
        ("removed beside a line in error that is paired", &[A, B, C], &[A, "10.1.2.0/24 192.0.2.2 x"], &[A, B]),
        ("no last good", &[], &[A, "x y z"], &[A]),
        ("taken by the current document", &[A, B], &[B, "x y z"], &[B, A]),
        ("taken by CIDR, whatever the endpoint", &[A, B], &["x 192.0.2.2 y", "10.1.2.0/24 192.0.2.9 x"], &[A, B]),
        ("not twice", &[A, B, C], &["x 192.0.2.2 y", "x 192.0.2.2 y"], &[B, A, C]),
        ("new endpoint for an old CIDR", &[A], &["10.1.1.0/24 10.1.1.1 00:50:56:00:00:01"], &[A]),
        (
            "the last of two counts",
            &[A],
            &[A, "10.1.1.0/24 192.0.2.7 00:50:56:00:00:07"],
            &["10.1.1.0/24 192.0.2.7 00:50:56:00:00:07"],
        ),
        (
            "the last of two is in error",
            &[A],
            &["10.1.1.0/24 192.0.2.7 00:50:56:00:00:07", "10.1.1.0/24 192.0.2.8 x"],
            &[A],
        ),
        ("a zero MAC", &[A], &["10.1.1.0/24 192.0.2.1 00:00:00:00:00:00"], &[A]),
    ];
    for (name, before, now, expected) in cases {
        let last_good = (!before.is_empty()).then(|| spec(before));
        let effective = effective(&parse(&document(now)), last_good.as_ref()).expect("a configuration");
        assert_eq!(shown(&effective.spec.vteps), *expected, "{name}");
        assert_eq!(effective.stale, *name != "no error", "{name}");
    }
}

#[test]
fn an_error_in_the_list_keeps_everything() {
    let last_good = spec(&[A, B]);
    let edits = [
        ("vtep-mac", ""),
        ("vtep-mask", ""),
        // No line matches the mask.
        ("vtep-mask", "255.255.0.0"),
        ("vtep-mask", "255.255.255.128"),
        ("routing-mode", "native"),
        ("enable-ipsec", "true"),
    ];
    for (key, value) in edits {
        let mut keys = document(&[C]);
        keys.insert(key.to_owned(), value.to_owned());
        let parsed = parse(&keys);
        assert_eq!(effective(&parsed, None), None, "{key}");
        let kept = Effective::whole(last_good.clone(), true);
        assert_eq!(effective(&parsed, Some(&last_good)), Some(kept), "{key}");
    }
}

#[test]
fn switched_off_is_off() {
    let last_good = spec(&[A, B]);
    let mut keys = document(&[A, "x y"]);
    keys.insert("enable-vtep".to_owned(), "false".to_owned());
    // Even with a value at which Cilium exits: an error holds back nothing of the configuration here.
    for (key, value) in [("vtep-mask", ""), ("enable-ipv4", "ture"), ("tunnel-port", "847x")] {
        keys.insert(key.to_owned(), value.to_owned());
        let effective = effective(&parse(&keys), Some(&last_good)).expect("a configuration");
        assert!(!effective.spec.enabled && effective.spec.vteps.is_empty() && !effective.stale, "{key}");
    }
}

/// A mask was changed by mistake, and its correction contains another mistake: the values in effect all the time are still known.
#[test]
fn a_wrong_mask_loses_no_last_good_value() {
    let first = spec(&[A, B]);
    let after = |lines: &[&str], mask: Option<&str>, last_good: &Spec| {
        let mut keys = document(lines);
        keys.extend(mask.map(|mask| ("vtep-mask".to_owned(), mask.to_owned())));
        effective(&parse(&keys), Some(last_good)).expect("a configuration")
    };
    const X: &str = "10.5.0.0/16 192.0.2.5 00:50:56:00:00:05";
    let cases: [(&str, &[&str], bool); 4] = [
        ("no line fits", &[A, B], false),
        ("no line fits, and one cannot be read", &[A, "x y z"], false),
        // A line that was in error before now matches.
        ("one fits", &[A, B, X], true),
        ("one fits, and the other is in error for something else", &[X, "10.2.0.0/16 192.0.2.2 x"], true),
    ];
    for (name, lines, is_told) in cases {
        let wrong = after(lines, Some("255.255.0.0"), &first);
        assert_eq!((&wrong.spec, &wrong.last_good, wrong.stale), (&first, &first, true), "{name}");
        let reported: Vec<_> = wrong.findings.iter().map(|found| (found.rule, found.index, found.scope)).collect();
        let expected = is_told.then_some((Rule::VtepCidrMaskMismatch, None, Scope::List));
        assert_eq!(reported, Vec::from_iter(expected), "{name}");
        let right = after(&["10.1.1.0/24 192.0.2.1 00:50:56:00:00", C], None, &wrong.last_good);
        assert_eq!(shown(&right.spec.vteps), [A, C], "{name}: the line with a typo keeps its value");
    }
    // Without a line in error, the new mask takes effect.
    let moved = after(&["10.5.0.0/16 192.0.2.1 00:50:56:00:00:01"], Some("255.255.0.0"), &first);
    assert_eq!(shown(&moved.last_good.vteps), ["10.5.0.0/16 192.0.2.1 00:50:56:00:00:01"]);
    assert!(!moved.stale && moved.findings.is_empty());
}

#[test]
fn a_new_mask_drops_what_it_replaces() {
    let last_good = spec(&[A, B]);
    let mut keys = document(&["10.1.0.0/16 192.0.2.1 00:50:56:00:00:01", "10.1.2.0/24 192.0.2.2 00:50:56:00:00:02"]);
    keys.insert("vtep-mask".to_owned(), "255.255.0.0".to_owned());
    let effective = effective(&parse(&keys), Some(&last_good)).expect("a configuration");
    assert_eq!(shown(&effective.spec.vteps), ["10.1.0.0/16 192.0.2.1 00:50:56:00:00:01"]);
    assert!(effective.stale);
}

#[test]
fn a_spec_survives_a_state_file() {
    let spec = spec(&[A, B]);
    let json = serde_json::to_string(&spec).expect("JSON");
    assert_eq!(serde_json::from_str::<Spec>(&json).expect("a spec"), spec);
}

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

fn vtep(line: &str) -> Vtep {
    let mut parts = line.split(' ');
    let mut part = || parts.next().expect("three parts");
    Vtep {
        cidr: part().parse().expect("a CIDR"),
        endpoint: part().parse().expect("an endpoint"),
        mac: part().parse().expect("a MAC"),
    }
}

/// A configuration that was saved by a release without the rule.
fn saved(lines: &[&str]) -> Spec {
    Spec { vteps: lines.iter().map(|line| vtep(line)).collect(), ..spec(&[A]) }
}

fn all(spec: &Spec) -> BTreeSet<Ipv4Net> {
    spec.vteps.iter().map(|vtep| vtep.cidr).collect()
}

#[test]
fn as_many_stay_as_the_map_holds() {
    let lines: Vec<String> = (1..=8).map(|n| format!("10.1.{n}.0/24 192.0.2.{n} 00:50:56:00:00:0{n}")).collect();
    let last_good = spec(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let now = ["10.1.21.0/24 192.0.2.21 00:50:56:00:00:21", "10.1.22.0/24 192.0.2.22 00:50:56:00:00:22", "x y z"];
    let effective = effective(&parse(&document(&now)), Some(&last_good)).expect("a configuration");
    let expected: Vec<&str> = now.iter().take(2).copied().chain(lines.iter().take(6).map(String::as_str)).collect();
    assert_eq!(shown(&effective.spec.vteps), expected);
    assert_eq!(effective.spec.check(), Ok(()));
}

/// The node now needs a retained network: by each fact, with a line in error and with the list in error.
#[test]
fn a_retained_value_is_checked_like_a_line() {
    type Change = fn(&mut Surroundings);
    let facts: [(Rule, Change); 9] = [
        (Rule::VtepCidrOverlapsPodCidr, |s| s.pod_cidrs.extend([net("10.1.2.128/25")])),
        (Rule::VtepCidrOverlapsServiceCidr, |s| s.service_cidrs.extend([net("10.1.2.0/24")])),
        (Rule::VtepCidrContainsNode, |s| s.node_addresses.extend([Ipv4Addr::new(10, 1, 2, 9)])),
        (Rule::VtepCidrOverlapsConnected, |s| s.connected.extend([(net("10.1.0.0/16"), "eth1".to_owned())])),
        (Rule::VtepCidrOverlapsConnected, |s| s.connected.extend([(net("10.1.2.7/32"), "eth1".to_owned())])),
        (Rule::VtepCidrContainsGateway, |s| s.gateways.extend([Ipv4Addr::new(10, 1, 2, 1)])),
        (Rule::VtepCidrContainsApiserver, |s| s.api_servers.extend([Ipv4Addr::new(10, 1, 2, 10)])),
        (Rule::VtepEndpointInPodCidr, |s| s.pod_cidrs.extend([net("192.0.2.2/32")])),
        (Rule::VtepEndpointIsNode, |s| s.node_addresses.extend([Ipv4Addr::new(192, 0, 2, 2)])),
    ];
    let last_good = spec(&["10.9.1.0/24 192.0.2.1 00:50:56:00:00:01", B]);
    for (rule, change) in facts {
        let mut surroundings = Surroundings::default();
        change(&mut surroundings);
        let standing = all(&last_good);
        let around = Around { surroundings: &surroundings, standing: &standing };
        for (second, key, value, index) in [
            ("10.1.9.0/24 192.0.2.2 x", "vtep-mac", None, Some(1)),
            ("x 192.0.2.2 y", "vtep-mac", None, Some(1)),
            ("x 192.0.2.2 y", "routing-mode", Some("native"), None),
        ] {
            let mut keys = document(&["10.9.1.0/24 192.0.2.1 00:50:56:00:00:01", second]);
            keys.extend(value.map(|value| (key.to_owned(), value.to_owned())));
            let parsed = parse_around(&keys, around);
            let now = effective_around(&parsed, Some(&last_good), around).expect("a configuration");
            assert_eq!(all(&now.spec), BTreeSet::from([net("10.9.1.0/24")]), "{rule} {second} {key}");
            assert_eq!((&now.last_good, now.stale), (&last_good, true), "{rule} {second} {key}");
            assert_eq!(now.vetoed, BTreeSet::from([net("10.1.2.0/24")]), "{rule} {second} {key}");
            let finding = now.findings.iter().find(|finding| finding.rule == rule).expect("a finding");
            let place = (finding.key.as_str(), finding.index, finding.value.as_deref());
            assert_eq!(place, ("vtep-cidr", index, Some("10.1.2.0/24")), "{rule} {second} {key}");
            assert!(finding.message.contains("the last good value 10.1.2.0/24"), "{}", finding.message);
        }
    }
}

#[test]
fn a_line_that_is_vetoed_itself_is_told_once() {
    let last_good = spec(&[A, B]);
    let surroundings =
        Surroundings { connected: [(net("10.1.2.0/24"), "eth1".to_owned())].into(), ..Default::default() };
    let standing = all(&last_good);
    let around = Around { surroundings: &surroundings, standing: &standing };
    let parsed = parse_around(&document(&[A, B]), around);
    let now = effective_around(&parsed, Some(&last_good), around).expect("a configuration");
    assert_eq!((shown(&now.spec.vteps), &now.last_good), (vec![A.to_owned()], &last_good));
    assert_eq!(parsed.findings.iter().filter(|finding| finding.rule == Rule::VtepCidrOverlapsConnected).count(), 1);
    assert_eq!(now.findings, []);
}

/// A configuration from a release that let one VTEP's network contain the other's endpoint.
#[test]
fn an_endpoint_in_a_network_held_over() {
    const GOOD: &str = "10.1.6.0/24 10.169.72.34 00:50:56:00:00:01";
    const WRONG: &str = "10.169.72.0/24 10.170.0.5 00:50:56:00:00:02";
    let last_good = saved(&[GOOD, WRONG]);
    let standing = all(&last_good);
    let around = Around { surroundings: &Surroundings::default(), standing: &standing };
    let mut keys = document(&[GOOD]);
    keys.insert("vtep-mask".to_owned(), String::new());
    let now = effective_around(&parse(&keys), Some(&last_good), around).expect("a configuration");
    assert_eq!(shown(&now.spec.vteps), [GOOD]);
    assert_eq!(now.vetoed, BTreeSet::from([net("10.169.72.0/24")]));
    let [finding] = now.findings.as_slice() else { panic!("{:?}", now.findings) };
    assert_eq!((finding.rule, finding.index), (Rule::VtepEndpointInVtepCidr, None));
    assert!(finding.message.contains("10.169.72.34, the endpoint of 10.1.6.0/24"), "{}", finding.message);
}

/// A new line must not conflict with effective values, and its finding names the conflict.
#[test]
fn a_new_line_gives_way_to_a_retained_value() {
    let last_good = spec(&["10.1.6.0/24 10.169.72.34 00:50:56:00:00:01", B]);
    let standing = all(&last_good);
    let around = Around { surroundings: &Surroundings::default(), standing: &standing };
    let cases = [
        ("its network has the endpoint", "10.169.72.0/24 10.170.0.5 00:50:56:00:00:05", "vtep-cidr"),
        ("its endpoint is in the network", "10.1.7.0/24 10.1.6.34 00:50:56:00:00:05", "vtep-endpoint"),
    ];
    for (name, second, key) in cases {
        // No value of the first line is readable, so the document alone does not show the conflict.
        let parsed = parse(&document(&["x y z", second]));
        assert!(parsed.lines[1].vtep.is_some(), "{name}");
        let now = effective_around(&parsed, Some(&last_good), around).expect("a configuration");
        assert_eq!(now.spec, last_good, "{name}");
        assert_eq!(
            now.findings.iter().map(|f| (f.key.as_str(), f.index)).collect::<Vec<_>>(),
            [(key, Some(1))],
            "{name}"
        );
    }
}
