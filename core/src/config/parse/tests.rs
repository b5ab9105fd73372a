//! One table for each kind of value: values that a rule finds, and similar ones that it must not find.

mod clashes;
mod cluster;
mod properties;

use super::*;

/// The keys of the seed document, with some of them changed (`None`: removed).
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
    let text = include_str!("../../../../tests/fixtures/cilium-config-helm.yaml");
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
    // If no CIDR matches the mask, the mask is wrong, and its error concerns the whole list.
    for (cidrs, scope) in [
        ("10.1.6.0/24 10.1.5.0/24", Scope::List),
        ("10.1.6.0/24 x", Scope::List),
        ("10.1.6.0/24 10.2.0.0/16", Scope::Vtep),
    ] {
        let parsed = parse(&keys(&[("vtep-mask", Some("255.255.0.0")), ("vtep-cidr", Some(cidrs))]));
        let found: Vec<_> = parsed.findings.iter().filter(|found| found.rule == Rule::VtepCidrMaskMismatch).collect();
        assert!(!found.is_empty() && found.iter().all(|found| found.scope == scope), "{cidrs}: {found:?}");
        assert_eq!(parsed.list_error(), scope == Scope::List, "{cidrs}");
        assert_eq!(parsed.lines[0].vtep, None, "{cidrs}: it is in error either way");
    }
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

/// What the writer probably meant.
#[test]
fn remedies_name_the_value_to_write() {
    let cases = [
        ("vtep-endpoint", "10.169.72.34:8472 10.169.72.36", "write 10.169.72.34: the address alone"),
        ("vtep-endpoint", "10.169.72.34%1 10.169.72.36", "write 10.169.72.34: the address alone"),
        ("vtep-endpoint", "10.169.072.34 10.169.72.36", "write 10.169.72.34: the address alone"),
        ("vtep-cidr", "10.1.6.0/255.255.255.0 10.1.5.0/24", "write e.g. 10.1.6.0/24"),
        ("vtep-cidr", "10.001.006.000/24 10.1.5.0/24", "write e.g. 10.1.6.0/24"),
        ("vtep-cidr", "10.1.6.0/24\u{200b} 10.1.5.0/24", "\"10.1.6.0/24\\u{200b}\" contains an invisible character"),
        (
            "vtep-cidr",
            "10.1.6.0/24;10.1.5.0/24",
            "contains a semicolon, which separates no values; separate them with blanks",
        ),
        ("vtep-cidr", "10.1.6.0/24 # bigip1\n10.1.5.0/24", "\"#\" begins a comment, and Cilium reads each word of it"),
        ("vtep-mac", "005056a07dd8 00:50:56:86:6b:28", "write 00:50:56:a0:7d:d8, with colons"),
    ];
    for (key, value, words) in cases {
        let parsed = parse(&keys(&[(key, Some(value))]));
        let told = parsed.findings.iter().any(|finding| finding.message.contains(words));
        assert!(told, "{key}: {value:?}: {:#?}", parsed.findings);
    }
}
