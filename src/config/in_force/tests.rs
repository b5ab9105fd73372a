//! The current document against the last good one.

use super::*;
use crate::config::{Keys, parse::parse};

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
    let in_force = in_force(&parse(&document(lines)), None).expect("a configuration");
    assert!(!in_force.stale, "{lines:?}");
    in_force.spec
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
        ("by CIDR, and only so", &[A, B], &[A, "10.1.9.0/24 192.0.2.2 x"], &[A]),
        ("by CIDR with a slip in its length", &[A, B], &[A, "10.1.2.0/25 192.0.2.9 00:50:56:00:00:09"], &[A, B]),
        ("by endpoint", &[A, B], &["x 192.0.2.2 00:50:56:00:00:01"], &[B]),
        ("by MAC", &[A, B], &["x 192.0.2.9 00-50-56-00-00-02"], &[B]),
        ("by position", &[A, B], &[A, "x y z"], &[A, B]),
        ("by position, but the lengths differ", &[A, B], &[A, C, "x y z"], &[A, C]),
        ("no last good", &[], &[A, "x y z"], &[A]),
        ("taken by the current document", &[A, B], &[B, "x y z"], &[B]),
        ("taken by CIDR, whatever the endpoint", &[A, B], &["x 192.0.2.2 y", "10.1.2.0/24 192.0.2.9 x"], &[A, B]),
        ("not twice", &[A, B, C], &["x 192.0.2.2 y", "x 192.0.2.2 y"], &[B]),
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
        let in_force = in_force(&parse(&document(now)), last_good.as_ref()).expect("a configuration");
        assert_eq!(shown(&in_force.spec.vteps), *expected, "{name}");
        assert_eq!(in_force.stale, *name != "no error", "{name}");
    }
}

#[test]
fn an_error_in_the_list_keeps_everything() {
    let last_good = spec(&[A, B]);
    for (key, value) in [("vtep-mac", ""), ("vtep-mask", ""), ("routing-mode", "native"), ("enable-ipsec", "true")] {
        let mut keys = document(&[C]);
        keys.insert(key.to_owned(), value.to_owned());
        let parsed = parse(&keys);
        assert_eq!(in_force(&parsed, None), None, "{key}");
        let kept = InForce { spec: last_good.clone(), stale: true };
        assert_eq!(in_force(&parsed, Some(&last_good)), Some(kept), "{key}");
    }
}

#[test]
fn switched_off_is_off() {
    let last_good = spec(&[A, B]);
    let mut keys = document(&[A, "x y"]);
    keys.insert("enable-vtep".to_owned(), "false".to_owned());
    let in_force = in_force(&parse(&keys), Some(&last_good)).expect("a configuration");
    assert!(!in_force.spec.enabled && in_force.spec.vteps.is_empty() && !in_force.stale);
}

#[test]
fn a_new_mask_drops_what_does_not_fit() {
    let last_good = spec(&[A, B]);
    let mut keys = document(&["10.1.0.0/16 192.0.2.1 00:50:56:00:00:01", "10.1.2.0/24 192.0.2.2 00:50:56:00:00:02"]);
    keys.insert("vtep-mask".to_owned(), "255.255.0.0".to_owned());
    let in_force = in_force(&parse(&keys), Some(&last_good)).expect("a configuration");
    assert_eq!(shown(&in_force.spec.vteps), ["10.1.0.0/16 192.0.2.1 00:50:56:00:00:01"]);
    assert!(in_force.stale);
}

#[test]
fn a_spec_survives_a_state_file() {
    let spec = spec(&[A, B]);
    let json = serde_json::to_string(&spec).expect("JSON");
    assert_eq!(serde_json::from_str::<Spec>(&json).expect("a spec"), spec);
}
