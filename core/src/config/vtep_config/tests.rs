//! Objects of both schemas, right and wrong, for one node.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::{
    finding::{Rule, Severity},
    selector::Labels,
    spec::{MAX_VTEPS, overlaps},
    surroundings::{Around, Surroundings},
};

fn labels(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn endpoint(name: &str, cidr: &str, address: &str) -> Value {
    json!({ "name": name, "tunnelEndpoint": address, "cidr": cidr, "mac": "82:36:0A:14:01:0F" })
}

fn v2(name: &str, mask: Option<&str>, endpoints: &[Value]) -> VtepConfig {
    let object = json!({
        "apiVersion": "cilium.io/v2", "metadata": { "name": name }, "spec": { "cidrMask": mask, "endpoints": endpoints },
    });
    VtepConfig::read(Kind::Config, &object).expect("a known schema")
}

fn v2alpha1(kind: Kind, name: &str, selector: Value, endpoints: &[Value]) -> VtepConfig {
    let object = json!({
        "apiVersion": "cilium.io/v2alpha1", "metadata": { "name": name },
        "spec": { "nodeSelector": selector, "vtepEndpoints": endpoints },
    });
    VtepConfig::read(kind, &object).expect("a known schema")
}

fn resolved(objects: &[VtepConfig]) -> Resolved {
    let (surroundings, standing) = (Surroundings::default(), BTreeSet::new());
    let around = Around { surroundings: &surroundings, standing: &standing };
    resolve(objects, "worker-1", &labels(&[("zone", "a")]), around)
}

/// The names of the VTEPs, and rule and place of each finding.
fn shown(objects: &[VtepConfig]) -> (Vec<String>, Vec<(Rule, String)>) {
    let Resolved { vteps, findings, .. } = resolved(objects);
    let names = vteps.into_iter().map(|vtep| vtep.name).collect();
    (names, findings.into_iter().map(|finding| (finding.rule, finding.key)).collect())
}

#[test]
fn an_object_of_each_schema_gives_its_vteps() {
    let eks = v2("hybrid-gateway", Some("255.255.0.0"), &[endpoint("vpc-gateway", "10.20.0.0/16", "192.0.2.15")]);
    let Resolved { vteps, findings, mentioned, is_partial, .. } = resolved(&[eks]);
    assert_eq!((findings, is_partial), (vec![], false));
    assert_eq!(vteps[0].object, "CiliumVTEPConfig/hybrid-gateway");
    assert_eq!(vteps[0].vtep.mac.to_string(), "82:36:0a:14:01:0f");
    assert_eq!(mentioned, ["10.20.0.0/16".parse().expect("a CIDR")].into());

    // Lengths side by side, one inside the other.
    let nested = [endpoint("wide", "10.1.0.0/16", "192.0.2.1"), endpoint("narrow", "10.1.6.0/24", "192.0.2.2")];
    let upstream = v2alpha1(Kind::Config, "all", Value::Null, &nested);
    assert_eq!(shown(&[upstream]), (vec!["narrow".to_owned(), "wide".to_owned()], vec![]));
}

#[test]
fn each_slip_is_found_at_its_place() {
    let place = |field: &str| format!("CiliumVTEPConfig/x spec.endpoints[0].{field}");
    let good = || endpoint("a", "10.1.6.0/24", "192.0.2.1");
    let with = |field: &str, value: Value| {
        let mut endpoint = good();
        endpoint[field] = value;
        v2("x", None, &[endpoint])
    };
    let table = [
        (with("cidr", json!("10.20.0.0/16,10.30.0.0/16")), Rule::VtepCidrInvalid, place("cidr")),
        (with("cidr", json!("10.1.0.0/16")), Rule::VtepCidrMaskMismatch, place("cidr")),
        (with("cidr", json!(null)), Rule::VtepCidrInvalid, place("cidr")),
        (with("cidr", json!(["10.1.6.0/24"])), Rule::VtepCidrInvalid, place("cidr")),
        (with("cidr", json!("192.0.2.0/24")), Rule::VtepEndpointInVtepCidr, place("tunnelEndpoint")),
        (with("tunnelEndpoint", json!("2001:db8::1")), Rule::VtepEndpointNotIpv4, place("tunnelEndpoint")),
        (with("mac", json!("82:36:0a")), Rule::VtepMacInvalid, place("mac")),
        (with("mac", json!("00:00:00:00:00:00")), Rule::VtepMacZero, place("mac")),
        (v2("x", Some("255.0.255.0"), &[good()]), Rule::VtepMaskInvalid, "CiliumVTEPConfig/x spec.cidrMask".to_owned()),
    ];
    for (object, rule, key) in table {
        let (names, findings) = shown(&[object]);
        assert_eq!(findings, [(rule, key)]);
        assert_eq!(names.len(), usize::from(rule == Rule::VtepMaskInvalid), "{rule}");
    }
    let list = resolved(&[with("cidr", json!("10.20.0.0/16,10.30.0.0/16"))]).findings;
    assert!(list[0].message.contains("an endpoint for each network"), "{}", list[0].message);
}

#[test]
fn a_selector_decides_and_an_unreadable_one_leaves_its_object_out() {
    let of = |selector: Value| v2alpha1(Kind::Config, "x", selector, &[endpoint("a", "10.1.6.0/24", "192.0.2.1")]);
    let names = |selector: Value| shown(&[of(selector)]).0.len();
    assert_eq!(names(json!({})), 1);
    assert_eq!(names(json!({ "matchLabels": { "zone": "a" } })), 1);
    assert_eq!(names(json!({ "matchLabels": { "zone": "b" } })), 0);
    let unreadable = of(json!({ "matchExpressions": [{ "key": "zone", "operator": "Near" }] }));
    let good = v2("y", None, &[endpoint("b", "10.1.5.0/24", "192.0.2.1")]);
    let found = resolved(&[unreadable, good]);
    assert!(found.is_partial && found.vteps.len() == 1);
    assert_eq!(found.findings[0].rule, Rule::VtepConfigSelectorInvalid);
    assert_eq!(found.findings[0].key, "CiliumVTEPConfig/x spec.nodeSelector");
}

#[test]
fn the_nodes_own_object_takes_the_place_of_all_others() {
    let all = v2alpha1(Kind::Config, "all", Value::Null, &[endpoint("a", "10.1.6.0/24", "192.0.2.1")]);
    let of = |node: &str, name: &str| {
        v2alpha1(Kind::NodeConfig, node, Value::Null, &[endpoint(name, "10.1.7.0/24", "192.0.2.1")])
    };
    assert_eq!(shown(&[all.clone(), of("worker-2", "other"), of("worker-1", "own")]).0, ["own"]);
    assert_eq!(shown(&[all, of("worker-2", "other")]).0, ["a"]);
}

#[test]
fn two_objects_that_claim_one_network_both_lose_it() {
    let of = |name: &str, endpoints: &[Value]| v2alpha1(Kind::Config, name, Value::Null, endpoints);
    let one = of("one", &[endpoint("a", "10.1.6.0/24", "192.0.2.1"), endpoint("b", "10.1.5.0/24", "192.0.2.1")]);
    let two = of("two", &[endpoint("c", "10.1.6.0/24", "192.0.2.2")]);
    let Resolved { vteps, findings, .. } = resolved(&[one, two]);
    assert_eq!(vteps.iter().map(|vtep| vtep.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(findings.iter().all(|finding| finding.rule == Rule::VtepConfigConflict), "{findings:?}");
    assert!(
        findings[0].message.contains("CiliumVTEPConfig/two") && findings[1].message.contains("CiliumVTEPConfig/one")
    );

    let twice = of("x", &[endpoint("a", "10.1.6.0/24", "192.0.2.1"), endpoint("b", "10.1.6.0/24", "192.0.2.2")]);
    let expected = (Rule::VtepCidrDuplicate, "CiliumVTEPConfig/x spec.vtepEndpoints[0].cidr".to_owned());
    assert_eq!(shown(&[twice]), (vec!["b".to_owned()], vec![expected]));
}

#[test]
fn those_that_do_not_fit_are_named() {
    let name = |n: usize| char::from(b'j' - u8::try_from(n).expect("small")).to_string();
    let endpoints: Vec<_> = (0..10).map(|n| endpoint(&name(n), &format!("10.1.{n}.0/24"), "192.0.2.1")).collect();
    let (names, findings) = shown(&[v2("x", None, &endpoints)]);
    assert_eq!(names, ["a", "b", "c", "d", "e", "f", "g", "h"]);
    let key = |n: usize| format!("CiliumVTEPConfig/x spec.endpoints[{n}].name");
    assert_eq!(findings, [(Rule::VtepTooMany, key(0)), (Rule::VtepTooMany, key(1))]);
}

#[test]
fn what_cilium_has_not_synced_is_a_warning_with_its_words() {
    let object = json!({
        "metadata": { "name": "x" },
        "spec": { "endpoints": [endpoint("a", "10.1.6.0/24", "192.0.2.1")] },
        "status": {
            "conditions": [{ "type": "Ready", "status": "False", "message": "map is full" }, { "type": "Other", "status": "False" }, 7],
            "endpointStatuses": [
                { "name": "a", "error": "no such device" },
                { "name": "b", "synced": true },
                { "name": "c", "synced": false },
                8,
            ],
        },
    });
    let object = VtepConfig::read(Kind::Config, &object).expect("a known schema");
    let Resolved { vteps, findings, .. } = resolved(&[object]);
    let expected = [
        ("CiliumVTEPConfig/x status.conditions[Ready]", "map is full"),
        ("CiliumVTEPConfig/x status.endpointStatuses[a]", "no such device"),
        ("CiliumVTEPConfig/x status.endpointStatuses[c]", "Cilium gives no reason"),
    ];
    assert_eq!(findings.len(), expected.len(), "{findings:?}");
    for (finding, (key, words)) in findings.iter().zip(expected) {
        assert_eq!((finding.key.as_str(), finding.severity), (key, Severity::Warning));
        assert!(finding.message.contains(words), "{}", finding.message);
    }
    assert_eq!(vteps.len(), 1);
}

#[test]
fn a_node_config_without_a_list_has_no_vtep() {
    let object = |spec: Value| json!({ "metadata": { "name": "worker-1" }, "spec": spec });
    let read = VtepConfig::read(Kind::NodeConfig, &object(json!({}))).expect("what Cilium's operator writes");
    assert_eq!((read.schema, read.endpoints), (Schema::V2alpha1, vec![]));
    for (kind, spec) in
        [(Kind::NodeConfig, json!({ "peers": [] })), (Kind::NodeConfig, json!(null)), (Kind::Config, json!({}))]
    {
        VtepConfig::read(kind, &object(spec)).expect_err("an unknown schema");
    }
}

#[test]
fn a_third_schema_is_an_error_that_names_it() {
    let object = json!({ "apiVersion": "cilium.io/v3", "metadata": { "name": "x" }, "spec": { "tunnels": [] } });
    let error = VtepConfig::read(Kind::Config, &object).expect_err("no known list").message;
    assert!(error.contains("vtepEndpoints") && error.contains("cilium.io/v3"), "{error}");
}

/// Any JSON, mostly of the shapes that objects have.
fn any_value(depth: u32) -> BoxedStrategy<Value> {
    let words =
        ["10.1.6.0/24", "10.1.6.0/25", "192.0.2.1", "00:50:56:a0:7d:d8", "a", "worker-1", "False", "255.255.255.0", ""];
    let fields = [
        "metadata",
        "name",
        "spec",
        "endpoints",
        "vtepEndpoints",
        "cidrMask",
        "nodeSelector",
        "matchLabels",
        "cidr",
        "mac",
        "tunnelEndpoint",
        "status",
        "conditions",
        "endpointStatuses",
        "synced",
        "error",
        "type",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(words.to_vec()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(depth, 48, 6, move |inner| {
        let field = prop::sample::select(fields.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(field, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
    .boxed()
}

/// Objects near the ones that controllers write.
fn object() -> impl Strategy<Value = Value> {
    let one_of = |values: &'static [&'static str]| prop::sample::select(values).prop_map(Value::from);
    let cidr = one_of(&[
        "10.1.6.0/24",
        "10.1.5.0/24",
        "10.1.0.0/16",
        "10.1.6.7/24",
        "10.1.6.0/24,10.1.7.0/24",
        "2001:db8::/64",
        "x",
    ]);
    let address = one_of(&["192.0.2.1", "192.0.2.2", "10.1.6.34", "224.0.0.1", "2001:db8::1", "y"]);
    let mac = one_of(&["00:50:56:a0:7d:d8", "00:00:00:00:00:00", "01:50:56:a0:7d:d8", "z"]);
    let endpoint = (one_of(&["a", "b", "c"]), cidr, address, mac).prop_map(
        |(name, cidr, address, mac)| json!({ "name": name, "cidr": cidr, "tunnelEndpoint": address, "mac": mac }),
    );
    let endpoint = prop_oneof![8 => endpoint, 1 => any_value(2)];
    let list = prop::sample::select(&["endpoints", "vtepEndpoints"][..]);
    let endpoints = prop::collection::vec(endpoint, 0..12);
    (list, endpoints, one_of(&["one", "two", "worker-1"]), any_value(3)).prop_map(|(list, endpoints, name, selector)| {
        json!({ "metadata": { "name": name }, "spec": { list: endpoints, "nodeSelector": selector } })
    })
}

proptest! {
    #[test]
    fn any_object_is_read_or_refused(value in any_value(5)) {
        for kind in [Kind::Config, Kind::NodeConfig] {
            if let Ok(object) = VtepConfig::read(kind, &value) {
                resolved(&[object]);
            }
        }
    }

    /// Whatever objects a node has, each of its VTEPs is sound, and no two of them share a network.
    #[test]
    fn vteps_are_sound(objects in prop::collection::vec((object(), any::<bool>()), 0..5)) {
        let kind = |is_config| if is_config { Kind::Config } else { Kind::NodeConfig };
        let objects: Vec<_> =
            objects.iter().filter_map(|(value, is_config)| VtepConfig::read(kind(*is_config), value).ok()).collect();
        let Resolved { vteps, mentioned, findings, .. } = resolved(&objects);
        prop_assert!(vteps.len() <= MAX_VTEPS);
        let reserved = "127.0.0.0/8".parse().expect("a network");
        for (n, NamedVtep { vtep, .. }) in vteps.iter().enumerate() {
            prop_assert_eq!(vtep.cidr, vtep.cidr.trunc());
            prop_assert!(mentioned.contains(&vtep.cidr) && !overlaps(vtep.cidr, reserved) && !vtep.mac.is_zero());
            prop_assert!(!vteps.iter().any(|other| other.vtep.cidr.contains(&vtep.endpoint)), "a loop");
            prop_assert!(vteps[n + 1..].iter().all(|other| other.vtep.cidr != vtep.cidr));
        }
        for finding in findings {
            prop_assert!(!finding.message.is_empty() && finding.key.starts_with("CiliumVTEP"));
            let of_bigip = ["BIG-IP", "tmsh"].iter().any(|word| finding.message.contains(word));
            prop_assert!(!of_bigip, "the far end may be any gateway: {}", finding.message);
        }
    }
}
