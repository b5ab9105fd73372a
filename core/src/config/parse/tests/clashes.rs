//! Overlaps of a VTEP with its surroundings, and an endpoint inside a network.

use super::*;
use crate::config::surroundings::Fact;

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
        // A network in use is worse than one that may be used later, and is reported alone.
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

/// Each need of this node, and whether the VTEP may still take effect.
#[test]
fn clashes_with_the_node() {
    type Change = fn(&mut Surroundings);
    let connected: Change = |s| s.connected.extend([(net("10.1.6.0/24"), "eth0".to_owned())]);
    let ipcache: Change = |s| s.ipcache.extend([(net("10.1.6.0/24"), vec!["10.1.6.77/32 (identity 4711)".to_owned()])]);
    let error = Some(Severity::Error);
    // The severities: as it is, with the CIDR allowed, and with the VTEP already in effect.
    let cases: [(&str, Change, Rule, [Option<Severity>; 3]); 12] = [
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
        (
            "API server not known",
            |s| s.unreadable.extend([(Fact::ApiServer, "it answered 500".to_owned())]),
            Rule::VtepCidrContainsApiserver,
            [error, error, None],
        ),
        (
            "pod networks not known",
            |s| s.unreadable.extend([(Fact::PodNetworks, "it answered 500".to_owned())]),
            Rule::VtepCidrOverlapsPodCidr,
            [error, error, None],
        ),
    ];
    for (name, change, rule, expected) in cases {
        let [given, allowed, standing] = expected;
        let mut surroundings = Surroundings::default();
        change(&mut surroundings);
        let more = Surroundings { allow_overlap: [net("10.1.6.0/23")].into(), ..surroundings.clone() };
        let both = BTreeSet::from([net("10.1.5.0/24"), net("10.1.6.0/24")]);
        let rest = BTreeSet::from([net("10.1.5.0/24")]);
        for (how, surroundings, effective, expected) in [
            ("as it is", &surroundings, &rest, given),
            ("allowed", &more, &rest, allowed),
            ("in force", &surroundings, &both, standing),
        ] {
            let parsed = parse_around(&keys(&[]), Around { surroundings, standing: effective });
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

/// If a network contains an endpoint, the value that does not match the others is in error.
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

    // A network of this node is in error, even if the endpoint looks like a self IP.
    let connected = Surroundings { connected: [(net("10.1.5.0/24"), "eth0".to_owned())].into(), ..Default::default() };
    for endpoints in ["10.1.5.34 10.169.72.36", "10.169.72.34 10.1.5.36"] {
        let parsed = parse_within(&keys(&[("vtep-endpoint", Some(endpoints))]), &connected);
        let places: Vec<_> = parsed.findings.iter().map(|finding| (finding.rule, finding.key.as_str())).collect();
        assert_eq!(places, [(Rule::VtepCidrOverlapsConnected, "vtep-cidr"), (RULE, "vtep-cidr")], "{endpoints}");
    }
}
