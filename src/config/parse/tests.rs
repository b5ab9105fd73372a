//! One table per noun: what fires a rule, and what almost does.

mod properties;

use super::*;
use crate::config::{spec::TunnelProtocol, surroundings::Fact};

/// The seed document's configuration, with some keys set otherwise (`None`: absent).
fn keys(changes: &[(&str, Option<&str>)]) -> Keys {
    let seed = [
        ("enable-vtep", "true"),
        ("vtep-endpoint", "10.169.72.34        10.169.72.36"),
        ("vtep-cidr", "10.1.6.0/24         10.1.5.0/24"),
        ("vtep-mac", "00:50:56:A0:7D:D8   00:50:56:86:6b:28"),
        ("enable-policy", "never"),
    ];
    let mut keys: Keys = seed.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    for (key, value) in changes {
        match value {
            Some(value) => keys.insert((*key).to_owned(), (*value).to_owned()),
            None => keys.remove(*key),
        };
    }
    keys
}

fn fired(parsed: &Parsed) -> Vec<(Rule, Option<usize>)> {
    parsed.findings.iter().map(|finding| (finding.rule, finding.index)).collect()
}

/// Sets one key and expects exactly these findings.
fn expect(key: &str, value: &str, expected: &[(Rule, Option<usize>)]) {
    assert_eq!(fired(&parse(&keys(&[(key, Some(value))]))), expected, "{key}: {value:?}");
}

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

#[test]
fn the_seed_document() {
    let seed = keys(&[("vtep-mac", Some("01:50:56:A0:7D:D8   00:50:56:86:6b:28"))]);
    let parsed = parse(&seed);
    assert_eq!(fired(&parsed), [(Rule::VtepMacMulticast, Some(0))]);
    let lines: Vec<String> = parsed
        .lines
        .iter()
        .filter_map(|line| line.vtep)
        .map(|Vtep { cidr, endpoint, mac }| format!("{cidr} {endpoint} {mac}"))
        .collect();
    assert_eq!(lines, ["10.1.6.0/24 10.169.72.34 01:50:56:a0:7d:d8", "10.1.5.0/24 10.169.72.36 00:50:56:86:6b:28"]);
    assert_eq!(parsed.mask, DEFAULT_MASK);
    assert_eq!(parsed.tunnel, Tunnel::default());
    assert!(!parsed.list_error());

    let mut pooled = seed;
    pooled.insert("cluster-pool-ipv4-cidr".to_owned(), "10.0.0.0/8".to_owned());
    let expected =
        [(Rule::VtepMacMulticast, Some(0)), (Rule::VtepCidrInPodPool, Some(0)), (Rule::VtepCidrInPodPool, Some(1))];
    assert_eq!(fired(&parse(&pooled)), expected);
}

#[test]
fn what_helm_renders() {
    let text = include_str!("../../../tests/fixtures/cilium-config-helm.yaml");
    let parsed = parse(&crate::config::manifest::read_documents(text).expect("a manifest"));
    let expected = [
        (Rule::VtepMacMulticast, Some(0)),
        (Rule::VtepMaskEmpty, None),
        (Rule::VtepCidrInPodPool, Some(0)),
        (Rule::VtepCidrInPodPool, Some(1)),
    ];
    assert_eq!(fired(&parsed), expected);
    assert!(parsed.list_error());
}

#[test]
fn the_switch() {
    for on in ["1", "t", "T", "TRUE", "true", "True", " true\n"] {
        expect("enable-vtep", on, &[]);
    }
    for off in ["0", "f", "F", "FALSE", "false", "False"] {
        expect("enable-vtep", off, &[(Rule::VtepDisabled, None)]);
    }
    assert_eq!(fired(&parse(&Keys::new())), [(Rule::VtepDisabled, None)]);
    // Nothing is known to be off, so that the last good state stays, and the rest of the document is read.
    for unreadable in ["", "yes", "on", "ture", "tRUE", "\"true\""] {
        expect("enable-vtep", unreadable, &[(Rule::BoolInvalid, None)]);
        let parsed = parse(&keys(&[("enable-vtep", Some(unreadable)), ("vtep-mac", Some("x 00:50:56:86:6b:28"))]));
        assert!(parsed.enabled && parsed.list_error(), "{unreadable}");
        assert_eq!(fired(&parsed), [(Rule::VtepMacInvalid, Some(0)), (Rule::BoolInvalid, None)], "{unreadable}");
    }
}

/// Cilium 1.19 and newer ends at its start with any of these.
#[test]
fn scalars_that_end_cilium() {
    type Case = (&'static str, &'static [&'static str], &'static [&'static str], Rule, Scope);
    let cases: [Case; 6] = [
        ("enable-ipv4", &["true", "1", " T\n"], &["", "yes", "ture"], Rule::BoolInvalid, Scope::List),
        ("enable-ipsec", &["false", "0"], &["", "no", "ture"], Rule::BoolInvalid, Scope::List),
        ("enable-wireguard", &["false"], &["", "ture"], Rule::BoolInvalid, Scope::Start),
        ("enable-l7-proxy", &["true"], &["", "ture", "'true'"], Rule::BoolInvalid, Scope::Start),
        (
            "tunnel-port",
            &["8472", "0", " 8472\n", "+8472", "0x2118", "0o20430", "020430"],
            &["847x", "70000", "65536", "-1", "8472.5", "08472", "0x", "+ 1", "0x+1", "\"8472\"", "8 472"],
            Rule::NumberInvalid,
            Scope::List,
        ),
        (
            "vtep-sync-interval",
            &["60s", "1m30s", "1.5h", ".5s", "5.s", "-1s", "+2us", "3µs", "0", " 60s "],
            &["60", "", "s", "1m30", "60 s", "1d", ".s", "1..5s", "sixty", "-", "1e3s"],
            Rule::DurationInvalid,
            Scope::Start,
        ),
    ];
    for (key, good, bad, rule, scope) in cases {
        for value in good {
            expect(key, value, &[]);
        }
        for value in bad {
            let parsed = parse(&keys(&[(key, Some(value))]));
            assert_eq!(fired(&parsed), [(rule, None)], "{key}: {value:?}");
            let finding = &parsed.findings[0];
            assert_eq!((finding.scope, finding.severity), (scope, Severity::Error), "{key}: {value:?}");
            // Where the key says nothing of VTEPs, those of the document may be in force.
            assert_eq!(parsed.list_error(), scope == Scope::List, "{key}: {value:?}");
            assert!(parsed.lines.iter().all(|line| line.vtep.is_some()), "{key}: {value:?}");
            for words in [key, "ends at its start", "Incorrect config-map flag value"] {
                assert!(finding.message.contains(words), "{}", finding.message);
            }
        }
    }
    let off = parse(&keys(&[("enable-vtep", Some("false")), ("enable-wireguard", Some("ture"))]));
    assert_eq!(fired(&off), [(Rule::VtepDisabled, None)], "nothing else matters when off");
}

#[test]
fn lists_that_are_gone_are_no_mistake() {
    let gone = [("vtep-endpoint", None), ("vtep-cidr", None), ("vtep-mac", None)];
    let parsed = parse(&keys(&gone));
    assert_eq!((fired(&parsed), parsed.elsewhere), (vec![], true));
    for key in ["vtep-endpoint", "vtep-cidr", "vtep-mac"] {
        let mut changes = gone.to_vec();
        changes.push((key, Some("")));
        let parsed = parse(&keys(&changes));
        assert_eq!((fired(&parsed), parsed.elsewhere), (vec![(Rule::VtepListEmpty, None)], false), "{key}");
    }
    let off = parse(&keys(&[&gone[..], &[("enable-vtep", Some("false"))]].concat()));
    assert_eq!((fired(&off), off.elsewhere), (vec![(Rule::VtepDisabled, None)], false));
}

#[test]
fn nothing_else_matters_when_off() {
    let parsed = parse(&keys(&[
        ("enable-vtep", Some("false")),
        ("vtep-mask", Some("")),
        ("vtep-mac", Some("x")),
        ("vtep-foo", Some("x")),
        ("routing-mode", Some("native")),
    ]));
    assert_eq!(fired(&parsed), [(Rule::VtepDisabled, None), (Rule::UnknownVtepKey, None)]);
    assert!(!parsed.enabled);
    assert_eq!(parsed.mentioned, BTreeSet::from([net("10.1.5.0/24"), net("10.1.6.0/24")]));
}

#[test]
fn list_shapes() {
    let parsed = parse(&keys(&[("vtep-endpoint", None), ("vtep-cidr", Some(" ")), ("vtep-mac", Some(""))]));
    assert_eq!(fired(&parsed), [(Rule::VtepListEmpty, None)]);

    let parsed = parse(&keys(&[("vtep-mac", None)]));
    assert_eq!(fired(&parsed), [(Rule::VtepCountMismatch, None)]);
    let finding = parsed.findings.first().expect("a finding");
    assert_eq!((finding.key.as_str(), finding.value.as_deref()), ("vtep-mac", None));
    for count in ["vtep-endpoint has 2", "vtep-cidr has 2", "vtep-mac has 0"] {
        assert!(finding.message.contains(count), "{}", finding.message);
    }
    assert!(parsed.lines.iter().all(|line| line.vtep.is_none() && line.cidr.is_some()));

    let of = |n: usize, value: &dyn Fn(usize) -> String| (1..=n).map(value).collect::<Vec<_>>().join("\n\t ");
    let many = |n| {
        parse(&keys(&[
            ("vtep-endpoint", Some(&of(n, &|i| format!("192.0.2.{i}")))),
            ("vtep-cidr", Some(&of(n, &|i| format!("10.1.{i}.0/24")))),
            ("vtep-mac", Some(&of(n, &|i| format!("00:50:56:00:00:{i:02x}")))),
        ]))
    };
    assert_eq!(fired(&many(8)), []);
    assert_eq!(many(8).lines.iter().filter(|line| line.vtep.is_some()).count(), 8);
    assert_eq!(fired(&many(9)), [(Rule::VtepTooMany, None)]);
    assert_eq!(many(200).lines.len(), EXAMINED);
    assert_eq!(many(200).mentioned.len(), 200);
}

#[test]
fn separators() {
    for blanks in ["10.1.6.0/24 10.1.5.0/24", "\n10.1.6.0/24\n10.1.5.0/24\n", "\t10.1.6.0/24\u{3000}\u{a0}10.1.5.0/24 "]
    {
        expect("vtep-cidr", blanks, &[]);
    }
    for commas in ["10.1.6.0/24,10.1.5.0/24", "10.1.6.0/24, ,10.1.5.0/24,"] {
        expect("vtep-cidr", commas, &[(Rule::VtepListSeparator, None)]);
    }
    assert_eq!(tokens(" a,b\u{3000}c").collect::<Vec<_>>(), [(1, "a"), (3, "b"), (7, "c")]);
}

#[test]
fn endpoints() {
    let first = |value: &str, rule| expect("vtep-endpoint", &format!("{value} 10.169.72.36"), &[(rule, Some(0))]);
    for value in
        ["10.169.72", "10.169.72.034", "10.169.72.34/24", "bigip", "\"10.169.72.34\"", "10.169.72.34:8472", "256.1.1.1"]
    {
        first(value, Rule::VtepEndpointInvalid);
    }
    for value in ["::1", "::ffff:10.169.72.34", "2001:db8::1", "fe80::1%eth0"] {
        first(value, Rule::VtepEndpointNotIpv4);
    }
    for value in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"] {
        first(value, Rule::VtepEndpointNotUnicast);
    }
    for value in ["1.0.0.0", "126.255.255.255", "128.0.0.1", "223.255.255.255"] {
        expect("vtep-endpoint", &format!("{value} 10.169.72.36"), &[]);
    }
    expect("vtep-endpoint", "10.169.72.34 10.169.72.34", &[(Rule::VtepEndpointDuplicate, Some(1))]);
    expect("vtep-endpoint", "10.169.72.34 10.1.6.34", &[(Rule::VtepEndpointInVtepCidr, Some(1))]);
    expect("vtep-endpoint", "10.1.5.36 10.1.7.1", &[(Rule::VtepEndpointInVtepCidr, Some(0))]);
}

#[test]
fn cidrs() {
    let first = |value: &str, rule| expect("vtep-cidr", &format!("{value} 10.1.5.0/24"), &[(rule, Some(0))]);
    for value in
        ["10.1.6.0", "010.1.6.0/24", "10.1.6.0/33", "10.1.6.0/+24", "10.1.6.0/", "10.1.6/24", "'10.1.6.0/24'", "x"]
    {
        first(value, Rule::VtepCidrInvalid);
    }
    for value in ["2001:db8::/64", "::ffff:10.1.6.0/120", "::1"] {
        first(value, Rule::VtepCidrNotIpv4);
    }
    first("10.1.6.34/24", Rule::VtepCidrHostBits);
    for value in ["10.1.6.0/25", "10.1.8.0/23", "192.168.0.0/16"] {
        first(value, Rule::VtepCidrMaskMismatch);
    }
    expect("vtep-cidr", "10.1.6.0/24 10.1.6.0/24", &[(Rule::VtepCidrDuplicate, Some(0))]);
    let expected = [(Rule::VtepCidrHostBits, Some(0)), (Rule::VtepCidrDuplicate, Some(0))];
    expect("vtep-cidr", "10.1.6.1/24 10.1.6.0/24", &expected);
    let expected = [(Rule::VtepCidrMaskMismatch, Some(1)), (Rule::VtepCidrOverlap, Some(1))];
    expect("vtep-cidr", "10.1.6.0/24 10.1.6.128/25", &expected);
    let expected = [(Rule::VtepCidrMaskMismatch, Some(0)), (Rule::VtepCidrOverlap, Some(1))];
    expect("vtep-cidr", "10.1.0.0/16 10.1.6.0/24", &expected);
    let expected =
        [(Rule::VtepCidrMaskMismatch, Some(0)), (Rule::VtepCidrOverlap, Some(1)), (Rule::VtepCidrReserved, Some(0))];
    expect("vtep-cidr", "0.0.0.0/0 10.1.6.0/24", &expected);
    for value in [
        "0.0.0.0/24",
        "0.255.0.0/24",
        "127.0.0.0/24",
        "169.254.0.0/24",
        "169.254.255.0/24",
        "224.0.0.0/24",
        "239.1.1.0/24",
        "240.0.0.0/24",
        "255.255.255.0/24",
    ] {
        first(value, Rule::VtepCidrReserved);
    }
    for value in
        ["1.0.0.0/24", "126.255.255.0/24", "128.0.0.0/24", "169.253.255.0/24", "169.255.0.0/24", "223.255.255.0/24"]
    {
        expect("vtep-cidr", &format!("{value} 10.1.5.0/24"), &[]);
    }
}

/// Of an endpoint and a network that contains it, the one that does not fit is to blame.
#[test]
fn an_endpoint_in_a_network() {
    const RULE: Rule = Rule::VtepEndpointInVtepCidr;
    type Case = (&'static str, &'static str, &'static str, &'static [(&'static str, usize)]);
    let cases: [Case; 11] = [
        ("its own", "10.1.6.34 10.169.72.36", "10.1.6.0/24 10.1.5.0/24", &[("vtep-endpoint", 0)]),
        ("pasted from the other tunnel", "10.169.72.34 10.1.6.34", "10.1.6.0/24 10.1.5.0/24", &[("vtep-endpoint", 1)]),
        ("the same, the other way", "10.1.5.36 10.1.7.1", "10.1.6.0/24 10.1.5.0/24", &[("vtep-endpoint", 0)]),
        ("the underlay's network", "10.169.72.34 10.170.0.5", "10.1.6.0/24 10.169.72.0/24", &[("vtep-cidr", 1)]),
        ("the same, in the first place", "10.170.0.5 10.169.72.34", "10.169.72.0/24 10.1.6.0/24", &[("vtep-cidr", 0)]),
        ("several in one", "10.169.72.34 10.169.72.36", "10.1.6.0/24 10.169.72.0/24", &[("vtep-cidr", 1)]),
        ("several, all pasted", "10.1.6.34 10.1.6.36", "10.1.6.0/24 10.1.5.0/24", &[("vtep-cidr", 0)]),
        (
            "the self IP twice",
            "10.1.6.34 10.1.6.34",
            "10.1.6.0/24 10.1.5.0/24",
            &[("vtep-endpoint", 0), ("vtep-endpoint", 1)],
        ),
        ("no other endpoint to compare with", "x 10.1.6.34", "10.1.6.0/24 10.1.5.0/24", &[("vtep-endpoint", 1)]),
        ("a network that is there twice", "10.1.6.34 10.169.72.36", "10.1.6.0/24 10.1.6.0/24", &[("vtep-endpoint", 0)]),
        ("no network to compare with", "10.169.72.34 10.170.0.5", "x 10.169.72.0/24", &[("vtep-cidr", 1)]),
    ];
    for (name, endpoints, cidrs, expected) in cases {
        let parsed = parse(&keys(&[("vtep-endpoint", Some(endpoints)), ("vtep-cidr", Some(cidrs))]));
        let blamed = parsed.findings.iter().filter(|finding| finding.rule == RULE);
        let blamed: Vec<_> = blamed.map(|finding| (finding.key.as_str(), finding.index.expect("an index"))).collect();
        assert_eq!(blamed, expected, "{name}");
        for vtep in parsed.lines.iter().filter_map(|line| line.vtep) {
            let good = parsed.lines.iter().filter_map(|line| line.vtep);
            assert!(!good.map(|other| other.endpoint).any(|endpoint| vtep.cidr.contains(&endpoint)), "{name}");
        }
    }
    let changes =
        [("vtep-endpoint", Some("10.169.72.34 10.170.0.5")), ("vtep-cidr", Some("10.1.6.0/24 10.169.72.0/24"))];
    let parsed = parse(&keys(&changes));
    assert!(parsed.lines[0].vtep.is_some() && parsed.lines[1].vtep.is_none(), "the good line is in force");
    let message = &parsed.findings[0].message;
    assert!(message.contains("contains the endpoint 10.169.72.34 of the 1st VTEP"), "{message}");

    // This node's own network is to blame, also where its endpoint looks like a self IP.
    let connected = Surroundings { connected: [(net("10.1.5.0/24"), "eth0".to_owned())].into(), ..Default::default() };
    for endpoints in ["10.1.5.34 10.169.72.36", "10.169.72.34 10.1.5.36"] {
        let parsed = parse_within(&keys(&[("vtep-endpoint", Some(endpoints))]), &connected);
        let places: Vec<_> = parsed.findings.iter().map(|finding| (finding.rule, finding.key.as_str())).collect();
        assert_eq!(places, [(Rule::VtepCidrOverlapsConnected, "vtep-cidr"), (RULE, "vtep-cidr")], "{endpoints}");
    }
}

#[test]
fn suggestions_fit_the_value() {
    let cases = [
        ("vtep-cidr", "10.1.6.34 10.1.5.0/24", "10.1.6.0/24"),
        ("vtep-cidr", "010.1.6.0/24 10.1.5.0/24", "write e.g. 10.1.6.0/24"),
        ("vtep-cidr", "10.1.6.0/255.255.255.0 10.1.5.0/24", "write e.g. 10.1.6.0/24"),
        ("vtep-cidr", "\"10.1.6.0/24\" 10.1.5.0/24", "remove the quotes"),
        ("vtep-cidr", "10.1.6.0/25 10.1.5.0/24", "255.255.255.128"),
        ("vtep-endpoint", "10.169.72.034/24 10.169.72.36", "10.169.72.34"),
        ("vtep-mask", "24", "write 255.255.255.0"),
        ("vtep-mask", "/16", "write 255.255.0.0"),
        ("vtep-mask", "\"255.255.255.0\"", "remove the quotes"),
        ("enable-vtep", "\"true\"", "remove the quotes"),
        ("enable-vtep", "yes", "\"yes\" is not a boolean"),
        ("vtep-macs", "x", "did you mean vtep-mac?"),
        ("enable-vteps", "x", "did you mean enable-vtep?"),
        ("tunnel-port", "4789", "`port 4789`"),
    ];
    for (key, value, expected) in cases {
        let parsed = parse(&keys(&[(key, Some(value))]));
        let message = &parsed.findings.first().expect("a finding").message;
        assert!(message.contains(expected), "{key}: {value}: {message}");
    }
    let parsed = parse(&keys(&[("vtep-cidr", Some("10.1.0.0/16 10.2.0.0/16")), ("vtep-mask", Some(""))]));
    assert!(parsed.findings.iter().any(|f| f.message.contains("write 255.255.0.0")), "{:?}", parsed.findings);
}

#[test]
fn macs() {
    let first = |value: &str, rule| expect("vtep-mac", &format!("{value} 00:50:56:86:6b:28"), &[(rule, Some(0))]);
    for value in
        ["00:50:56:A0:7D", "00:50:56:A0:7D:D8:00:00", "00-50:56:A0:7D:D8", "005056a07dd8", "'00:50:56:a0:7d:d8'"]
    {
        first(value, Rule::VtepMacInvalid);
    }
    for value in ["00:00:00:00:00:00", "0000.0000.0000"] {
        first(value, Rule::VtepMacZero);
    }
    for value in ["01:50:56:a0:7d:d8", "ff:ff:ff:ff:ff:ff", "33-33-00-00-00-01"] {
        first(value, Rule::VtepMacMulticast);
    }
    first("00:98:76:54:32:10", Rule::VtepMacPlaceholder);
    for value in ["02:50:56:a0:7d:d8", "00-50-56-A0-7D-D8", "0050.56a0.7dd8", "00:98:76:54:32:11", "00:00:00:00:00:01"]
    {
        expect("vtep-mac", &format!("{value} 00:50:56:86:6b:28"), &[]);
    }
    expect("vtep-mac", "00:50:56:86:6b:28 00-50-56-86-6B-28", &[(Rule::VtepMacDuplicate, Some(1))]);
}

#[test]
fn masks() {
    for value in [
        "24",
        "/24",
        "0.0.0.0",
        "0",
        "255.0.255.0",
        "0.0.0.255",
        "255.255.255.0/24",
        "::",
        "255.255.255",
        "'255.255.255.0'",
    ] {
        expect("vtep-mask", value, &[(Rule::VtepMaskInvalid, None)]);
    }
    for value in ["", " \n"] {
        expect("vtep-mask", value, &[(Rule::VtepMaskEmpty, None)]);
    }
    for value in ["255.255.255.0", " 255.255.255.0\n"] {
        expect("vtep-mask", value, &[]);
    }
    let mismatches = [(Rule::VtepCidrMaskMismatch, Some(0)), (Rule::VtepCidrMaskMismatch, Some(1))];
    expect("vtep-mask", "255.255.0.0", &mismatches);
    let narrow = [("vtep-mask", Some("255.255.255.255")), ("vtep-cidr", Some("10.1.6.1/32 10.1.5.1/32"))];
    assert_eq!(fired(&parse(&keys(&narrow))), []);
}

#[test]
fn pod_pools() {
    let both = [(Rule::VtepCidrInPodPool, Some(0)), (Rule::VtepCidrInPodPool, Some(1))];
    let pool = |pool, ipam| fired(&parse(&keys(&[("cluster-pool-ipv4-cidr", Some(pool)), ("ipam", ipam)])));
    for ipam in [None, Some(""), Some("cluster-pool"), Some("cluster-pool-v2beta")] {
        assert_eq!(pool("192.168.0.0/16, 10.0.0.0/8", ipam), both);
    }
    assert_eq!(pool("10.0.0.0/8", Some("kubernetes")), []);
    assert_eq!(pool("10.1.6.128/25", None), [(Rule::VtepCidrInPodPool, Some(0))]);
    assert_eq!(pool("10.0.0.0/16 10.1.7.0/24", None), []);
    assert_eq!(pool("", None), []);
}

#[test]
fn clashes_with_the_cluster() {
    let around = |pods: &str, services: &str, nodes: &str| Surroundings {
        pod_cidrs: pods.split_whitespace().map(net).collect(),
        service_cidrs: services.split_whitespace().map(net).collect(),
        node_addresses: nodes.split_whitespace().map(|node| node.parse().expect("an address")).collect(),
        ..Surroundings::default()
    };
    let pool = |pool| keys(&[("cluster-pool-ipv4-cidr", pool)]);
    type Fired = &'static [(Rule, Option<usize>)];
    let cases: [(Option<&str>, Surroundings, Fired); 14] = [
        (None, around("10.1.4.0/24 10.1.7.0/24", "10.96.0.0/12", "10.169.72.239"), &[]),
        (
            None,
            around("10.1.0.0/21", "", ""),
            &[(Rule::VtepCidrOverlapsPodCidr, Some(0)), (Rule::VtepCidrOverlapsPodCidr, Some(1))],
        ),
        (None, around("10.1.6.128/25", "", ""), &[(Rule::VtepCidrOverlapsPodCidr, Some(0))]),
        (None, around("", "10.1.5.0/24", ""), &[(Rule::VtepCidrOverlapsServiceCidr, Some(1))]),
        (None, around("", "10.1.4.0/24", ""), &[]),
        (None, around("", "", "10.1.6.9"), &[(Rule::VtepCidrContainsNode, Some(0))]),
        (None, around("", "", "10.1.7.9 10.169.72.35"), &[]),
        (
            None,
            around("10.169.72.32/29", "", ""),
            &[(Rule::VtepEndpointInPodCidr, Some(0)), (Rule::VtepEndpointInPodCidr, Some(1))],
        ),
        (None, around("10.169.72.32/31", "", ""), &[]),
        (None, around("", "", "10.169.72.36"), &[(Rule::VtepEndpointIsNode, Some(1))]),
        (Some("10.1.6.0/23"), around("", "", ""), &[(Rule::VtepCidrInPodPool, Some(0))]),
        // In use today is worse than in use one day, and said alone.
        (Some("10.1.6.0/23"), around("10.1.6.0/24", "", ""), &[(Rule::VtepCidrOverlapsPodCidr, Some(0))]),
        (Some("10.1.6.0/23"), around("10.1.7.0/24", "", ""), &[(Rule::VtepCidrInPodPool, Some(0))]),
        (Some("10.2.0.0/16"), around("10.2.1.0/24", "", ""), &[]),
    ];
    for (pods, surroundings, expected) in cases {
        assert_eq!(fired(&parse_within(&pool(pods), &surroundings)), expected, "{pods:?} {surroundings:?}");
    }
    let clash = parse_within(&pool(None), &around("10.1.6.0/24", "", ""));
    let vteps: Vec<_> = clash.lines.iter().map(|line| line.vtep.is_some()).collect();
    assert_eq!(vteps, [false, true], "an error concerns its own VTEP alone");
}

/// What this node needs, by each fact; and who may still be in force.
#[test]
fn clashes_with_the_node() {
    type Change = fn(&mut Surroundings);
    let connected: Change = |s| s.connected.extend([(net("10.1.6.0/24"), "eth0".to_owned())]);
    let ipcache: Change = |s| s.ipcache.extend([(net("10.1.6.0/24"), vec!["10.1.6.77/32 (identity 4711)".to_owned()])]);
    let error = Some(Severity::Error);
    // With each: as it is, with the CIDR allowed, and with it in force already.
    let cases: [(&str, Change, Rule, [Option<Severity>; 3]); 10] = [
        ("its network", connected, Rule::VtepCidrOverlapsConnected, [error, Some(Severity::Warning), error]),
        (
            "a wider one",
            |s| s.connected.extend([(net("10.1.6.0/23"), "docker0".to_owned())]),
            Rule::VtepCidrOverlapsConnected,
            [error, Some(Severity::Warning), error],
        ),
        (
            "its address",
            |s| s.connected.extend([(net("10.1.6.9/32"), "lo".to_owned())]),
            Rule::VtepCidrOverlapsConnected,
            [error, Some(Severity::Warning), error],
        ),
        (
            "beside",
            |s| s.connected.extend([(net("10.1.7.0/24"), "eth0".to_owned())]),
            Rule::VtepCidrOverlapsConnected,
            [None; 3],
        ),
        ("its gateway", |s| s.gateways.extend([Ipv4Addr::new(10, 1, 6, 1)]), Rule::VtepCidrContainsGateway, [error; 3]),
        (
            "its API server",
            |s| s.api_servers.extend([Ipv4Addr::new(10, 1, 6, 10)]),
            Rule::VtepCidrContainsApiserver,
            [error; 3],
        ),
        (
            "another gateway",
            |s| s.gateways.extend([Ipv4Addr::new(10, 1, 7, 1)]),
            Rule::VtepCidrContainsGateway,
            [None; 3],
        ),
        ("its ipcache", ipcache, Rule::VtepCidrOverlapsIpcache, [error, Some(Severity::Warning), None]),
        (
            "networks not known",
            |s| s.unreadable.extend([(Fact::Networks, "netlink: EPERM".to_owned())]),
            Rule::VtepCidrOverlapsConnected,
            [error, error, None],
        ),
        (
            "ipcache not known",
            |s| s.unreadable.extend([(Fact::Ipcache, "EPERM".to_owned())]),
            Rule::VtepCidrOverlapsIpcache,
            [error, Some(Severity::Warning), None],
        ),
    ];
    for (name, change, rule, expected) in cases {
        let [given, allowed, standing] = expected;
        let mut surroundings = Surroundings::default();
        change(&mut surroundings);
        let more = Surroundings { allow_overlap: [net("10.1.6.0/23")].into(), ..surroundings.clone() };
        let both = BTreeSet::from([net("10.1.5.0/24"), net("10.1.6.0/24")]);
        let rest = BTreeSet::from([net("10.1.5.0/24")]);
        for (how, surroundings, in_force, expected) in [
            ("as it is", &surroundings, &rest, given),
            ("allowed", &more, &rest, allowed),
            ("in force", &surroundings, &both, standing),
        ] {
            let parsed = parse_around(&keys(&[]), Around { surroundings, standing: in_force });
            let found: Vec<_> = parsed.findings.iter().map(|f| (f.rule, f.index, f.severity)).collect();
            assert_eq!(found, Vec::from_iter(expected.map(|severity| (rule, Some(0), severity))), "{name} {how}");
            let vteps: Vec<_> = parsed.lines.iter().map(|line| line.vtep.is_some()).collect();
            assert_eq!(vteps, [expected != error, true], "{name} {how}: an error concerns its own VTEP alone");
        }
    }
    let mut surroundings = Surroundings { allow_overlap: [net("10.1.6.128/25")].into(), ..Default::default() };
    connected(&mut surroundings);
    let parsed = parse_within(&keys(&[]), &surroundings);
    assert_eq!(parsed.errors().count(), 1, "a part that is allowed does not allow the whole");
    let parsed = parse_within(&keys(&[]), &Surroundings { allow_overlap: [net("10.1.6.0/24")].into(), ..surroundings });
    assert!(parsed.findings[0].message.contains("--allow-overlap 10.1.6.0/24"), "{}", parsed.findings[0].message);
    let unknown = [(Fact::Networks, "netlink: EPERM".to_owned())].into();
    let parsed = parse_within(&keys(&[]), &Surroundings { unreadable: unknown, ..Default::default() });
    assert_eq!(parsed.errors().count(), 2);
    let message = &parsed.findings[0].message;
    assert!(message.contains("cannot be known") && message.contains("netlink: EPERM"), "{message}");
}

#[test]
fn tunnels() {
    use TunnelProtocol::{Geneve, Vxlan};
    type Changes = &'static [(&'static str, &'static str)];
    type Expected = Option<(Rule, &'static str)>;
    let cases: [(Changes, Expected, TunnelProtocol, u16); 18] = [
        (&[("routing-mode", "tunnel")], None, Vxlan, 8472),
        (&[("routing-mode", "")], None, Vxlan, 8472),
        (&[("routing-mode", "native")], Some((Rule::TunnelDisabled, "routing-mode")), Vxlan, 8472),
        (&[("routing-mode", "direct")], Some((Rule::TunnelDisabled, "routing-mode")), Vxlan, 8472),
        (&[("tunnel-protocol", "vxlan")], None, Vxlan, 8472),
        (&[("tunnel-protocol", "geneve")], None, Geneve, 6081),
        (&[("tunnel-protocol", "gre")], Some((Rule::TunnelProtocolUnknown, "tunnel-protocol")), Vxlan, 8472),
        (&[("tunnel", "vxlan")], None, Vxlan, 8472),
        (&[("tunnel", "geneve")], None, Geneve, 6081),
        (&[("tunnel", "disabled")], Some((Rule::TunnelDisabled, "tunnel")), Vxlan, 8472),
        (&[("tunnel", "disabled"), ("routing-mode", "tunnel")], None, Vxlan, 8472),
        (&[("tunnel", "ipip")], Some((Rule::TunnelProtocolUnknown, "tunnel")), Vxlan, 8472),
        (&[("tunnel-port", "0")], None, Vxlan, 8472),
        (&[("tunnel-port", "8472"), ("tunnel-protocol", "vxlan")], None, Vxlan, 8472),
        (&[("tunnel-port", "4789")], Some((Rule::TunnelPortNonstandard, "tunnel-port")), Vxlan, 4789),
        (
            &[("tunnel-port", "8472"), ("tunnel", "geneve")],
            Some((Rule::TunnelPortNonstandard, "tunnel-port")),
            Geneve,
            8472,
        ),
        (&[("tunnel-port", "70000")], Some((Rule::NumberInvalid, "tunnel-port")), Vxlan, 8472),
        (&[("tunnel-port", "")], None, Vxlan, 8472),
    ];
    for (changes, rule, protocol, port) in cases {
        let changes: Vec<_> = changes.iter().map(|(key, value)| (*key, Some(*value))).collect();
        let parsed = parse(&keys(&changes));
        let fired: Vec<_> = parsed.findings.iter().map(|finding| (finding.rule, finding.key.as_str())).collect();
        assert_eq!(fired, Vec::from_iter(rule), "{changes:?}");
        assert_eq!(parsed.tunnel, Tunnel { protocol, port }, "{changes:?}");
    }
}

#[test]
fn features() {
    let cases = [
        ("enable-ipsec", "true", "false", Rule::IpsecEnabled),
        ("enable-wireguard", "true", "false", Rule::WireguardEnabled),
        ("enable-ipv4", "false", "true", Rule::Ipv4Disabled),
        ("enable-ipv4", "yes", "1", Rule::BoolInvalid),
        ("enable-policy", "default", "never", Rule::PolicyEnforcementEnabled),
        ("enable-policy", "always", "Never", Rule::PolicyEnforcementEnabled),
        ("enable-policy", "", "never\n", Rule::PolicyEnforcementEnabled),
        ("enable-l7-proxy", "false", "true", Rule::L7ProxyDisabled),
    ];
    for (key, fires, passes, rule) in cases {
        expect(key, fires, &[(rule, None)]);
        expect(key, passes, &[]);
    }
    assert_eq!(fired(&parse(&keys(&[("enable-policy", None)]))), [(Rule::PolicyEnforcementEnabled, None)]);
}

#[test]
fn unknown_keys() {
    for key in ["vtep-macs", "vtep-", "enable-vteps", "vteps-mac", "VTEP-cidr", "Enable-Vtep"] {
        expect(key, "x", &[(Rule::UnknownVtepKey, None)]);
    }
    for key in ["vtep-sync-interval", "vte-mac", "enable-vxlan"] {
        expect(key, "60s", &[]);
    }
}

#[test]
fn every_mention_counts() {
    let cases: [(&str, &str, &[&str]); 7] = [
        ("10.1.6.0/24", "255.255.255.0", &["10.1.6.0/24"]),
        ("10.1.6.9/24 10.1.6.0/24", "255.255.255.0", &["10.1.6.0/24"]),
        ("10.1.6.128/25", "255.255.255.0", &["10.1.6.0/24", "10.1.6.128/25"]),
        ("10.1.0.0/16", "255.255.255.0", &["10.1.0.0/16", "10.1.0.0/24"]),
        (
            "\"10.1.6.0/24\" 10.1.7.0 010.1.8.0/24 10.1.9.0/99",
            "",
            &["10.1.6.0/24", "10.1.7.0/24", "10.1.8.0/24", "10.1.9.0/24"],
        ),
        ("10.1.6.0/24", "255.255.0.0", &["10.1.0.0/16", "10.1.6.0/24"]),
        ("2001:db8::/64 x", "255.255.255.0", &[]),
    ];
    for (cidrs, mask, expected) in cases {
        let parsed = parse(&keys(&[("vtep-cidr", Some(cidrs)), ("vtep-mask", Some(mask))]));
        assert_eq!(parsed.mentioned, expected.iter().copied().map(net).collect(), "{cidrs}");
    }
}

#[test]
fn findings_come_in_the_order_of_the_rules() {
    let parsed = parse(&keys(&[
        ("vtep-mac", Some("x y")),
        ("vtep-cidr", Some("x,y")),
        ("vtep-mask", Some("")),
        ("enable-ipsec", Some("true")),
    ]));
    let order = |finding: &Finding| (Rule::ALL.iter().position(|rule| *rule == finding.rule), finding.index);
    assert_eq!(parsed.findings.len(), 7);
    assert!(parsed.findings.is_sorted_by_key(order), "{:?}", fired(&parsed));
}

#[test]
fn messages_hold_no_control_characters() {
    let parsed = parse(&keys(&[("vtep-mac", Some("\u{1b}[2J\u{7} 00:50:56:86:6b:28"))]));
    let finding = parsed.findings.first().expect("a finding");
    assert!(!finding.message.contains(char::is_control), "{:?}", finding.message);
}
