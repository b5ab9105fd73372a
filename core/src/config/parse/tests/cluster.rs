//! The other keys of `cilium-config`: the switch, the tunnel, the features, and values at which Cilium exits.

use super::*;
use crate::config::spec::TunnelProtocol;

#[test]
fn the_switch() {
    for on in ["1", "t", "T", "TRUE", "true", "True", " true\n"] {
        expect("enable-vtep", on, &[]);
    }
    for off in ["0", "f", "F", "FALSE", "false", "False"] {
        expect("enable-vtep", off, &[(Rule::VtepDisabled, None)]);
    }
    assert_eq!(fired(&parse(&Keys::new())), [(Rule::VtepDisabled, None)]);
    // An unreadable switch is not off: the last good state remains, and the rest of the document is parsed.
    for unreadable in ["", "yes", "on", "ture", "tRUE", "\"true\""] {
        expect("enable-vtep", unreadable, &[(Rule::BoolInvalid, None)]);
        let parsed = parse(&keys(&[("enable-vtep", Some(unreadable)), ("vtep-mac", Some("x 00:50:56:86:6b:28"))]));
        assert!(parsed.enabled && parsed.list_error(), "{unreadable}");
        assert_eq!(fired(&parsed), [(Rule::VtepMacInvalid, Some(0)), (Rule::BoolInvalid, None)], "{unreadable}");
    }
}

/// Cilium 1.19 and newer exits at its start with any of these values.
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
            // If no VTEP depends on the key, the document's VTEPs may take effect.
            assert_eq!(parsed.list_error(), scope == Scope::List, "{key}: {value:?}");
            assert!(parsed.lines.iter().all(|line| line.vtep.is_some()), "{key}: {value:?}");
            for words in [key, "exits at its start", "Incorrect config-map flag value"] {
                assert!(finding.message.contains(words), "{}", finding.message);
            }
        }
    }
    // Cilium also reads them while VTEP is off, but no VTEP depends on them then.
    for (key, _, bad, rule, _) in cases {
        for value in bad {
            let off = parse(&keys(&[("enable-vtep", Some("false")), (key, Some(value))]));
            assert_eq!(fired(&off), [(Rule::VtepDisabled, None), (rule, None)], "{key}: {value:?}");
            assert_eq!((off.findings[1].scope, off.enabled), (Scope::Start, false), "{key}: {value:?}");
            assert!(!off.list_error() && !off.holds_back(), "{key}: {value:?}");
        }
    }
}

#[test]
fn no_vtep_matters_when_off() {
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
    let value = |key: &str| parse(&keys(&[(key, Some("x"))])).findings.iter().find(|of| of.key == key)?.value.clone();
    assert_eq!(value("vtep-macs").as_deref(), Some("x"), "a typo");
    assert_eq!(value("vtep-password"), None, "perhaps a secret");
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
