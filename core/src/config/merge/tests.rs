use super::*;
use crate::config::{cached::Unknown, selector::Selector};

fn known<V>(value: V) -> Cached<V> {
    Cached { known: Some(value), error: None, open: true }
}

fn failed<V>(known: Option<V>) -> Cached<V> {
    Cached { known, error: Some(Unknown::Failed("it answered 500".into())), open: false }
}

fn withheld<V>(known: Option<V>) -> Cached<V> {
    Cached { known, error: Some(Unknown::Withheld("forbidden".into())), open: true }
}

fn located(addresses: &[&str], unresolved: Option<&str>) -> Option<Located> {
    let addresses = addresses.iter().map(|ip| ip.parse().expect("an address")).collect();
    Some(Located { addresses, unresolved: unresolved.map(str::to_owned) })
}

fn closed<V>(part: Cached<V>) -> Cached<V> {
    Cached { open: false, ..part }
}

fn node_config() -> Vec<NodeConfig> {
    vec![NodeConfig { name: "a".into(), selector: Some(Selector::default()), defaults: Keys::new() }]
}

/// Everything is known, and every watch is open.
fn whole() -> ClusterState {
    ClusterState {
        configmap: known(Some(ConfigMap::default())),
        node_configs: known(vec![]),
        vtep_configs: withheld(None),
        vtep_node_config: withheld(None),
        node: known(Node::default()),
        cilium_node: known(CiliumNode::default()),
        endpoints: known(BTreeSet::new()),
        server: located(&[], None),
        trouble: None,
    }
}

/// Everything is known, and the API server is lost.
fn away() -> ClusterState {
    ClusterState { configmap: closed(known(Some(ConfigMap::default()))), trouble: Some("away".into()), ..whole() }
}

fn observed(seen: &ClusterState, before: Option<&str>) -> Option<Observed> {
    let names = Names { namespace: "ns".into(), configmap: "cm".into(), node: "n".into() };
    seen.observed(&names, &Surroundings::default(), before)
}

/// A short form: the kind of observation, and the warning.
fn shown(seen: &ClusterState, before: Option<&str>) -> Option<(&'static str, Option<String>)> {
    observed(seen, before).map(|Observed { state, warning }| {
        let state = match state {
            SourceState::Document(_) => "document",
            SourceState::Missing(_) => "missing",
            SourceState::Nothing => "nothing",
        };
        (state, warning)
    })
}

#[test]
fn half_an_answer_is_no_document() {
    let cases = [
        ("nothing asked", ClusterState { configmap: Cached::default(), ..whole() }, None),
        ("overrides not asked", ClusterState { node_configs: Cached::default(), ..whole() }, None),
        ("node not asked", ClusterState { node: Cached::default(), ..whole() }, None),
        ("CiliumNode not asked", ClusterState { cilium_node: Cached::default(), ..whole() }, None),
        ("endpoints not asked", ClusterState { endpoints: Cached::default(), ..whole() }, None),
        ("name not looked up", ClusterState { server: None, ..whole() }, None),
        ("all known", whole(), Some(("document", false))),
        ("no ConfigMap", ClusterState { configmap: known(None), ..whole() }, Some(("missing", false))),
        ("away in between", ClusterState { endpoints: Cached::default(), ..away() }, Some(("nothing", true))),
        (
            "refused at once",
            ClusterState { configmap: failed(None), ..ClusterState::default() },
            Some(("nothing", true)),
        ),
        (
            "away at once",
            ClusterState { trouble: Some("away".into()), ..ClusterState::default() },
            Some(("nothing", true)),
        ),
        ("overrides refused", ClusterState { node_configs: failed(None), ..whole() }, Some(("nothing", true))),
        ("labels refused, not needed", ClusterState { node: failed(None), ..whole() }, Some(("document", true))),
        (
            "labels refused, needed",
            ClusterState { node_configs: known(node_config()), node: failed(None), ..whole() },
            Some(("nothing", true)),
        ),
        ("CiliumNode refused", ClusterState { cilium_node: failed(None), ..whole() }, Some(("document", false))),
        ("endpoints refused", ClusterState { endpoints: failed(None), ..whole() }, Some(("document", false))),
        (
            "gone later",
            ClusterState { configmap: failed(Some(Some(ConfigMap::default()))), ..whole() },
            Some(("document", true)),
        ),
    ];
    for (name, seen, expected) in cases {
        let shown = shown(&seen, None).map(|(state, warning)| (state, warning.is_some()));
        assert_eq!(shown, expected, "{name}");
    }
}

/// A fact that the API server fails to deliver stops new VTEPs. A fact that it withholds, or that was known before, does not.
#[test]
fn a_part_that_fails_is_not_known_to_be_nothing() {
    const FAILED: &str = "it answered 500";
    let known_node = || known(CiliumNode::default());
    let known_endpoints = || known(BTreeSet::new());
    type Facts<'f> = &'f [(Fact, &'f str)];
    let cases: [(&str, ClusterState, Facts<'_>); 12] = [
        ("all known", whole(), &[]),
        ("endpoints fail", ClusterState { endpoints: failed(None), ..whole() }, &[(Fact::ApiServer, FAILED)]),
        ("endpoints withheld", ClusterState { endpoints: withheld(None), ..whole() }, &[]),
        ("endpoints fail later", ClusterState { endpoints: failed(known_endpoints().known), ..whole() }, &[]),
        ("CiliumNode fails", ClusterState { cilium_node: failed(None), ..whole() }, &[(Fact::PodNetworks, FAILED)]),
        ("CiliumNode withheld", ClusterState { cilium_node: withheld(None), ..whole() }, &[]),
        ("CiliumNode fails later", ClusterState { cilium_node: failed(known_node().known), ..whole() }, &[]),
        ("Node fails", ClusterState { node: failed(None), ..whole() }, &[(Fact::PodNetworks, FAILED)]),
        ("Node withheld", ClusterState { node: withheld(None), ..whole() }, &[]),
        (
            "name unresolved",
            ClusterState { server: located(&[], Some("no DNS")), ..whole() },
            &[(Fact::ApiServer, "no DNS")],
        ),
        (
            "proxy known, server not",
            ClusterState { server: located(&["10.1.1.1"], Some("no DNS")), ..whole() },
            &[(Fact::ApiServer, "no DNS")],
        ),
        (
            "all of it",
            ClusterState {
                endpoints: failed(None),
                cilium_node: failed(None),
                server: located(&[], Some("no DNS")),
                ..whole()
            },
            &[(Fact::ApiServer, FAILED), (Fact::PodNetworks, FAILED)],
        ),
    ];
    for (name, seen, expected) in cases {
        let Some(Observed { state: SourceState::Document(document), .. }) = observed(&seen, None) else {
            panic!("{name}: a document")
        };
        let facts: BTreeMap<Fact, String> = expected.iter().map(|(fact, why)| (*fact, (*why).to_owned())).collect();
        assert_eq!(document.surroundings.unreadable, facts, "{name}");
    }
}

#[test]
fn a_doubt_comes_with_a_failure_and_goes_when_all_is_watched_again() {
    let ended = || ClusterState { trouble: None, ..away() };
    let warning = |seen: &ClusterState, before| shown(seen, before).and_then(|(_, warning)| warning);
    assert_eq!(warning(&ended(), None), None, "a watch may end");
    assert_eq!(warning(&away(), None).as_deref(), Some("away"));
    assert_eq!(warning(&ended(), Some("away")).as_deref(), Some("away"), "it answers, and not everything is known yet");
    assert_eq!(warning(&whole(), Some("away")), None);
    let optional =
        ClusterState { cilium_node: closed(known(CiliumNode::default())), trouble: Some("away".into()), ..whole() };
    assert_eq!(warning(&optional, None), None, "an object that the configuration does not depend on raises none");
}

#[test]
fn the_networks_of_node_and_cilium_node_both_count() {
    let networks = |cidrs: &[&str]| cidrs.iter().map(|cidr| cidr.parse().expect("a network")).collect();
    let addresses = |ips: &[&str]| ips.iter().map(|ip| ip.parse().expect("an address")).collect();
    let node = Node { pod_cidrs: networks(&["10.244.1.0/24"]), addresses: addresses(&["10.0.0.1"]), ..Node::default() };
    let cilium_node = CiliumNode { pod_cidrs: networks(&["10.1.6.0/24"]), addresses: addresses(&["10.1.6.7"]) };
    let seen = ClusterState {
        node: known(node),
        cilium_node: known(cilium_node),
        endpoints: known(addresses(&["10.169.73.10"])),
        server: located(&["10.96.0.1"], None),
        ..whole()
    };
    let Some(Observed { state: SourceState::Document(document), .. }) = observed(&seen, None) else {
        panic!("a document")
    };
    let expected = Surroundings {
        pod_cidrs: networks(&["10.244.1.0/24", "10.1.6.0/24"]),
        node_addresses: addresses(&["10.0.0.1", "10.1.6.7"]),
        api_servers: addresses(&["10.96.0.1", "10.169.73.10"]),
        ..Surroundings::default()
    };
    assert_eq!(document.surroundings, expected);
    // Without the Node, the other facts still count.
    let seen = ClusterState { node: failed(None), ..seen };
    let Some(Observed { state: SourceState::Document(document), .. }) = observed(&seen, None) else {
        panic!("a document")
    };
    assert_eq!(document.surroundings.api_servers, expected.api_servers);
}
