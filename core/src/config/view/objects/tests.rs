//! Views of lists and custom resources, one after the other, as in a migration.

use serde_json::{Value, json};

use super::*;
use crate::config::{
    Keys,
    finding::Severity,
    selector::Labels,
    surroundings::Surroundings,
    truth::Signs,
    view::SourceState,
    vtep_config::{Kind, Objects, VtepConfig},
};

/// An endpoint whose CIDR is `10.1.n.0/24`.
fn endpoint(n: u8, last: u8) -> Value {
    json!({
        "name": format!("gateway-{n}"),
        "cidr": format!("10.1.{n}.0/24"),
        "tunnelEndpoint": format!("192.0.2.{last}"),
        "mac": "82:36:0a:14:01:0f",
    })
}

fn v2(name: &str, endpoints: &[Value], ready: Option<&str>) -> (Kind, Value) {
    let conditions: Vec<_> = ready.iter().map(|ready| json!({ "type": "Ready", "status": ready })).collect();
    let object = json!({
        "apiVersion": "cilium.io/v2", "metadata": { "name": name },
        "spec": { "endpoints": endpoints }, "status": { "conditions": conditions },
    });
    (Kind::Config, object)
}

fn v2alpha1(kind: Kind, name: &str, endpoints: &[Value]) -> (Kind, Value) {
    let spec = json!({ "vtepEndpoints": endpoints });
    (kind, json!({ "apiVersion": "cilium.io/v2alpha1", "metadata": { "name": name }, "spec": spec }))
}

/// The keys of lists with these VTEPs, or those of a ConfigMap without lists.
fn lists(vteps: &[(u8, u8)]) -> Keys {
    let join = |of: &dyn Fn(&(u8, u8)) -> String| vteps.iter().map(of).collect::<Vec<_>>().join(" ");
    let mut keys = vec![("enable-vtep", "true".to_owned())];
    if !vteps.is_empty() {
        keys.push(("vtep-cidr", join(&|(n, _)| format!("10.1.{n}.0/24"))));
        keys.push(("vtep-endpoint", join(&|(_, last)| format!("192.0.2.{last}"))));
        keys.push(("vtep-mac", join(&|_| "82:36:0a:14:01:0f".to_owned())));
    }
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn see(keys: &Keys, objects: &[(Kind, Value)], signs: Signs, previous: Option<&View>) -> View {
    let all = objects.iter().map(|(kind, object)| VtepConfig::read(*kind, object)).collect();
    let objects = Objects { all, node: "worker-1".to_owned(), labels: Labels::new(), delivered: None };
    let document = Document { objects: Some(objects), ..Document::of_keys(keys.clone(), Surroundings::default()) };
    let observed = SourceState::Document(document).into();
    View::next_on(&Surroundings::default(), signs, "test", &observed, previous, Timestamp::UNIX_EPOCH)
}

/// Each VTEP as `n→last`, with `?` if it is only observed.
fn shown(view: &View) -> String {
    let vteps = view.effective.iter().flat_map(|spec| &spec.vteps).map(|Vtep { cidr, endpoint, .. }| {
        let doubt = if view.observed_only.contains(cidr) { "?" } else { "" };
        format!("{}→{}{doubt}", cidr.network().octets()[2], endpoint.octets()[3])
    });
    vteps.collect::<Vec<_>>().join(" ")
}

/// The rules of errors and warnings.
fn rules(view: &View) -> Vec<&'static str> {
    let findings = view.findings.iter().filter(|finding| finding.severity >= Severity::Warning);
    findings.map(|finding| finding.rule.id()).collect()
}

const NO_SIGNS: Signs =
    Signs { choice: crate::config::truth::Choice::Auto, map_is_trie: false, runs_with_lists: false };

#[test]
fn a_migration_loses_no_vtep_and_goes_back() {
    let old = Signs { runs_with_lists: true, ..NO_SIGNS };
    type Step = (&'static str, Keys, Vec<(Kind, Value)>, Signs, Truth, &'static str);
    let steps: [Step; 8] = [
        ("lists only", lists(&[(6, 34), (5, 36)]), vec![], old, Truth::Configmap, "6→34 5→36"),
        (
            "objects beside a Cilium with lists",
            lists(&[(6, 34), (5, 36)]),
            vec![v2("a", &[endpoint(6, 34), endpoint(5, 99)], None)],
            old,
            Truth::Configmap,
            "6→34 5→36?",
        ),
        (
            "Cilium is another, and has synced nothing yet",
            lists(&[(6, 34), (5, 36)]),
            vec![v2("a", &[endpoint(6, 34), endpoint(5, 99)], None)],
            NO_SIGNS,
            Truth::Configmap,
            "6→34 5→36?",
        ),
        (
            "it has synced the objects",
            lists(&[(6, 34), (5, 36)]),
            vec![v2("a", &[endpoint(6, 34), endpoint(5, 99)], Some("True"))],
            NO_SIGNS,
            Truth::Crd,
            "5→99 6→34",
        ),
        (
            "objects only",
            lists(&[]),
            vec![v2("a", &[endpoint(6, 34), endpoint(5, 99)], Some("True"))],
            NO_SIGNS,
            Truth::Crd,
            "5→99 6→34",
        ),
        ("a failover", lists(&[]), vec![v2("a", &[endpoint(6, 35)], Some("False"))], NO_SIGNS, Truth::Crd, "6→35"),
        ("the object is deleted", lists(&[]), vec![], NO_SIGNS, Truth::Crd, "6→35?"),
        ("lists again", lists(&[(6, 35), (5, 36)]), vec![], NO_SIGNS, Truth::Configmap, "6→35 5→36"),
    ];
    let mut previous: Option<View> = None;
    for (name, keys, objects, signs, truth, vteps) in steps {
        let view = see(&keys, &objects, signs, previous.as_ref());
        assert_eq!((view.truth, shown(&view).as_str()), (truth, vteps), "{name}: {view:#?}");
        assert_eq!(rules(&view).contains(&"vtep-sources-both"), !objects.is_empty() && keys.len() > 1, "{name}");
        assert_eq!(rules(&view).contains(&"vtep-config-gone"), name == "the object is deleted", "{name}");
        assert_eq!(view.covered.is_some(), name != "lists only", "{name}: once objects were seen");
        previous = Some(view);
    }
}

#[test]
fn gone_objects_are_forgotten_by_a_restart_and_names_are_not() {
    use crate::config::last_good::LastGood;
    let restarted = |view: &View| {
        let saved = serde_json::to_string(&LastGood::of(view).expect("in force")).expect("JSON");
        serde_json::from_str::<LastGood>(&saved).expect("JSON").recall().expect("sound")
    };
    let good = see(&lists(&[]), &[v2("a", &[endpoint(6, 34)], None)], NO_SIGNS, None);
    let again = restarted(&good);
    assert_eq!((shown(&again).as_str(), &again.names, again.truth), ("6→34", &good.names, Truth::Crd));
    assert_eq!(good.names.values().collect::<Vec<_>>(), ["gateway-6"]);
    let gone = see(&lists(&[]), &[], NO_SIGNS, Some(&again));
    assert_eq!((shown(&gone).as_str(), rules(&gone)), ("6→34?", vec!["vtep-config-gone"]));
    let after = see(&lists(&[]), &[], NO_SIGNS, Some(&restarted(&gone)));
    assert_eq!((shown(&after).as_str(), after.truth, rules(&after)), ("", Truth::None, vec![]));
}

#[test]
fn what_cilium_may_read_otherwise_is_only_observed() {
    let config = |endpoints: &[Value]| v2alpha1(Kind::Config, "a", endpoints);
    let own = |endpoints: &[Value]| v2alpha1(Kind::NodeConfig, "worker-1", endpoints);
    let expected = see(&lists(&[]), &[config(&[endpoint(6, 34)])], NO_SIGNS, None);
    assert_eq!(shown(&expected), "6→34?", "the operator has not written it yet");
    let told = see(&lists(&[]), &[config(&[endpoint(6, 34)]), own(&[endpoint(6, 34)])], NO_SIGNS, Some(&expected));
    assert_eq!(shown(&told), "6→34");
    // An endpoint in error keeps its last value, for probes.
    let mut wrong = endpoint(6, 35);
    wrong["mac"] = "82:36".into();
    let held = see(&lists(&[]), &[own(&[wrong])], NO_SIGNS, Some(&told));
    assert_eq!((shown(&held).as_str(), held.stale, rules(&held)), ("6→34?", true, vec!["vtep-mac-invalid"]));
    // So does everything, while an object has an unknown schema.
    let odd = json!({ "apiVersion": "cilium.io/v3", "metadata": { "name": "a" }, "spec": { "peers": [] } });
    let held = see(&lists(&[]), &[(Kind::Config, odd)], NO_SIGNS, Some(&told));
    assert_eq!((shown(&held).as_str(), rules(&held)), ("6→34?", vec!["vtep-list-empty"]));
    // Two objects that claim one network take it from each other.
    let both = [v2("a", &[endpoint(6, 34)], None), v2("b", &[endpoint(6, 35)], None)];
    let conflict = see(&lists(&[]), &both, NO_SIGNS, Some(&told));
    assert_eq!((shown(&conflict).as_str(), rules(&conflict)), ("", vec!["vtep-config-conflict"; 2]));
    // An endpoint that an object no longer has is gone on purpose.
    let fewer = see(&lists(&[]), &[own(&[endpoint(5, 36)])], NO_SIGNS, Some(&told));
    assert_eq!((shown(&fewer).as_str(), rules(&fewer)), ("5→36", vec![]));
    // The switch is still in the ConfigMap.
    let off = see(&[("enable-vtep".to_owned(), "false".to_owned())].into(), &[own(&[endpoint(6, 34)])], NO_SIGNS, None);
    assert_eq!((shown(&off).as_str(), off.effective.map(|spec| spec.enabled)), ("", Some(false)));
}

#[test]
fn a_trie_has_prefixes_of_any_length() {
    let nested = |cidr: &str, name: &str, last: u8| {
        let mut endpoint = endpoint(6, last);
        (endpoint["cidr"], endpoint["name"]) = (cidr.into(), name.into());
        endpoint
    };
    let own = v2alpha1(
        Kind::NodeConfig,
        "worker-1",
        &[nested("10.1.0.0/16", "a", 34), nested("10.1.6.0/24", "b", 35), nested("10.1.6.128/25", "c", 36)],
    );
    let view = see(&lists(&[]), &[own], Signs { map_is_trie: true, ..NO_SIGNS }, None);
    let spec = view.effective.expect("in force");
    assert_eq!((spec.vteps.len(), spec.mask, spec.check()), (3, None, Ok(())));
    assert_eq!(view.findings.iter().filter(|finding| finding.severity >= Severity::Warning).count(), 0);
}
