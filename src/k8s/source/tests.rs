//! Tests of the source with the API server for tests, over real HTTP.

use std::{collections::BTreeMap, time::Instant};

use jiff::Timestamp;
use tokio::time::timeout;
use vtep_apiserver::{ApiServer, Fault, Matcher, Resource, Times, objects};
use vtep_core::config::{
    document::Document,
    surroundings::Fact,
    view::{SourceState, View},
};

use super::*;

const NODE: &str = "worker-1";
/// Generous for an act of milliseconds, because the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(30);

/// A server with a configuration and these nodes.
fn server(nodes: &[String]) -> ApiServer {
    let server = ApiServer::start().expect("a server");
    let apply = |resource, object| server.apply(resource, object).expect("an object");
    apply(Resource::ConfigMaps, objects::config_map("ns", "cm", [("enable-vtep", "false")]));
    for node in nodes {
        apply(Resource::Nodes, objects::node(node, [], &["10.244.1.0/24"]));
        let addresses = [("InternalIP", "10.169.72.239"), ("CiliumInternalIP", "10.0.1.169")];
        apply(Resource::CiliumNodes, objects::cilium_node(node, &["10.0.1.0/24"], addresses));
    }
    apply(Resource::EndpointSlices, objects::api_server_endpoints("kubernetes", &["10.169.73.10"]));
    server
}

fn source(server: &ApiServer, node: &str) -> Source {
    let mut config = kube::Config::new(server.url().parse().expect("a URL"));
    config.default_retry = false;
    let at = Server::of(&config);
    let client = Client::try_from(config).expect("a client");
    let names = Names { namespace: "ns".into(), configmap: "cm".into(), node: node.into() };
    Source { client, server: at, names, surroundings: Surroundings::default(), recheck: watch::channel(()).1 }
}

/// The updates of a source from now on.
fn followed(source: Source) -> mpsc::Receiver<Observed> {
    let (sender, updates) = mpsc::channel(16);
    tokio::spawn(source.follow(sender));
    updates
}

/// Waits for the first update for which `wanted` returns a value.
async fn first_match<T>(updates: &mut mpsc::Receiver<Observed>, wanted: impl Fn(&Observed) -> Option<T>) -> T {
    let find = async {
        loop {
            let observed = updates.recv().await.expect("the source goes on");
            if let Some(found) = wanted(&observed) {
                return found;
            }
        }
    };
    timeout(DEADLINE, find).await.expect("it is reported in time")
}

/// The surroundings of a document that was read without a failure.
fn surroundings(observed: &Observed) -> Option<Surroundings> {
    match observed {
        Observed { state: SourceState::Document(document), warning: None } => Some(document.surroundings.clone()),
        Observed { state: SourceState::Document(_) | SourceState::Missing(_) | SourceState::Nothing, .. } => None,
    }
}

fn words<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_first_document_knows_what_the_cluster_says_of_the_node_and_of_itself() {
    let server = server(&[NODE.into()]);
    let source = source(&server, NODE);
    assert_eq!(source.server.tcp_addresses().await, [server.address()]);
    let once = surroundings(&source.read().await).expect("a document");
    let mut updates = followed(source);
    let first = timeout(DEADLINE, updates.recv()).await.expect("in time").expect("it is reported");
    let first = surroundings(&first).expect("the very first is complete");
    assert_eq!(first, once);
    assert_eq!(words(&first.pod_cidrs), "10.0.1.0/24 10.244.1.0/24");
    assert_eq!(words(&first.node_addresses), "10.0.1.169 10.169.72.239");
    assert_eq!(words(&first.api_servers), "10.169.73.10 127.0.0.1");

    let apply = |resource, object| server.apply(resource, object).expect("an object");
    apply(Resource::EndpointSlices, objects::api_server_endpoints("kubernetes", &["10.169.74.10"]));
    first_match(&mut updates, |observed| {
        (words(&surroundings(observed)?.api_servers) == "10.169.74.10 127.0.0.1").then_some(())
    })
    .await;
    apply(Resource::CiliumNodes, objects::cilium_node(NODE, &["10.0.9.0/24"], []));
    first_match(&mut updates, |observed| {
        (words(&surroundings(observed)?.pod_cidrs) == "10.0.9.0/24 10.244.1.0/24").then_some(())
    })
    .await;
}

/// A name, the preparation of the server, and the expected addresses of the API server.
type Case<'c> = (&'c str, &'c dyn Fn(&ApiServer), &'c str);

#[tokio::test]
async fn neither_a_missing_right_nor_a_missing_crd_takes_the_configuration() {
    let no_cilium_node = |server: &ApiServer| assert!(server.delete(Resource::CiliumNodes, "", NODE));
    let forbidden = |server: &ApiServer| {
        for resource in ["ciliumnodes", "endpointslices"] {
            server.misbehave(Matcher::all().resource(resource), Fault::Forbidden, Times::Always);
        }
    };
    let crds_absent = |server: &ApiServer| server.serve(vtep_apiserver::CiliumVersions::Absent);
    let cases: [Case<'_>; 3] = [
        ("no CiliumNode", &no_cilium_node, "10.169.73.10 127.0.0.1"),
        ("forbidden", &forbidden, "127.0.0.1"),
        ("CRDs absent", &crds_absent, "10.169.73.10 127.0.0.1"),
    ];
    for (name, prepare, api_servers) in cases {
        let server = server(&[NODE.into()]);
        prepare(&server);
        let begin = Instant::now();
        let found = first_match(&mut followed(source(&server, NODE)), surroundings).await;
        assert_eq!(words(&found.pod_cidrs), "10.244.1.0/24", "{name}");
        assert_eq!(words(&found.api_servers), api_servers, "{name}");
        assert_eq!(found.unreadable, BTreeMap::new(), "{name}: that is known");
        assert!(begin.elapsed() < Duration::from_secs(30), "{name}: it holds nothing up: {:?}", begin.elapsed());
        let once = surroundings(&source(&server, NODE).read().await);
        assert_eq!(once, Some(found), "{name}: a single read gives the same");
    }
}

/// A configuration of three VTEPs: the first is in effect already, the second contains an endpoint of the API server.
fn grown(server: &ApiServer) {
    let lists = [
        ("enable-vtep", "true"),
        ("vtep-cidr", "10.1.6.0/24 10.169.73.0/24 10.1.5.0/24"),
        ("vtep-endpoint", "10.169.72.34 10.169.72.35 10.169.72.36"),
        ("vtep-mac", "00:50:56:00:00:01 00:50:56:00:00:02 00:50:56:00:00:03"),
    ];
    server.apply(Resource::ConfigMaps, objects::config_map("ns", "cm", lists)).expect("a ConfigMap");
}

/// The view with only the first VTEP.
fn before() -> View {
    let keys = [
        ("enable-vtep", "true"),
        ("vtep-cidr", "10.1.6.0/24"),
        ("vtep-endpoint", "10.169.72.34"),
        ("vtep-mac", "00:50:56:00:00:01"),
    ];
    let keys = keys.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let document = Document::of_keys(keys, Surroundings::default());
    View::next("test", &SourceState::Document(document).into(), None, Timestamp::UNIX_EPOCH)
}

/// The VTEPs that take effect after `before`, and the rules that exclude the others.
fn effective(observed: &Observed) -> (String, String) {
    let view = View::next("test", observed, Some(&before()), Timestamp::UNIX_EPOCH);
    let spec = view.effective.expect("a configuration");
    let rules: BTreeSet<_> =
        view.findings.iter().filter(|finding| finding.holds_back()).map(|finding| finding.rule).collect();
    (words(spec.vteps.iter().map(|vtep| vtep.cidr)), words(rules))
}

/// An optional resource, the fact that it provides, and the rule that excludes new VTEPs while it cannot be read.
const PARTS: [(&str, Fact, &str); 2] = [
    ("endpointslices", Fact::ApiServer, "vtep-cidr-contains-apiserver"),
    ("ciliumnodes", Fact::PodNetworks, "vtep-cidr-overlaps-pod-cidr"),
];

#[tokio::test]
async fn an_unknown_fact_keeps_new_vteps_out_until_the_api_server_answers() {
    let follow = async |(resource, fact, rule): (&str, Fact, &str)| {
        let server = server(&[NODE.into()]);
        grown(&server);
        server.misbehave(Matcher::all().resource(resource), Fault::InternalError, Times::Always);
        let mut updates = followed(source(&server, NODE));
        let first = timeout(DEADLINE, updates.recv()).await.expect("in time").expect("the document goes out");
        let around = surroundings(&first).expect("a document without a warning");
        assert_eq!(around.unreadable.keys().collect::<Vec<_>>(), [&fact], "{resource}");
        assert!(around.unreadable[&fact].contains("it answered 500"), "{resource}: {:?}", around.unreadable);
        let (vteps, rules) = effective(&first);
        assert_eq!(vteps, "10.1.6.0/24", "{resource}: earlier VTEPs remain, and no new one takes effect");
        assert!(rules.contains(rule), "{resource}: {rules}");

        server.behave();
        let known = |observed: &Observed| surroundings(observed)?.unreadable.is_empty().then(|| observed.clone());
        let after = effective(&first_match(&mut updates, known).await);
        let expected = ("10.1.6.0/24 10.1.5.0/24".to_owned(), "vtep-cidr-contains-apiserver".to_owned());
        assert_eq!(after, expected, "{resource}: the known facts decide");
    };
    let [endpoints, cilium_node] = PARTS;
    futures::join(follow(endpoints), follow(cilium_node)).await;
}

/// Each way in which one read of an optional resource may fail.
#[tokio::test]
async fn a_failure_is_no_answer() {
    let faults = [
        Fault::InternalError,
        Fault::TooManyRequests(1),
        Fault::Unavailable,
        Fault::Unauthorized,
        Fault::Reset,
        Fault::Garbage,
        Fault::Hang,
    ];
    let read = async |(resource, fact, fault): (&str, Fact, Fault)| {
        let server = server(&[NODE.into()]);
        grown(&server);
        server.misbehave(Matcher::all().resource(resource), fault.clone(), Times::Always);
        let observed = source(&server, NODE).read().await;
        let around = surroundings(&observed).expect("a document without a warning");
        assert_eq!(around.unreadable.keys().collect::<Vec<_>>(), [&fact], "{resource} {fault:?}");
        assert_eq!(effective(&observed).0, "10.1.6.0/24", "{resource} {fault:?}");
    };
    let cases = PARTS.into_iter().flat_map(|(resource, fact, _)| faults.clone().map(|fault| (resource, fact, fault)));
    futures::join_all(cases.map(read)).await;
}

/// A single API server removes its own endpoint when it stops; the agent keeps the known address.
#[tokio::test]
async fn an_endpoint_that_was_known_stays_while_there_is_none() {
    let server = server(&[NODE.into()]);
    grown(&server);
    let mut updates = followed(source(&server, NODE));
    first_match(&mut updates, surroundings).await;
    server.apply(Resource::EndpointSlices, objects::api_server_endpoints("kubernetes", &[])).expect("an object");
    server.apply(Resource::Nodes, objects::node(NODE, [], &["10.244.9.0/24"])).expect("a later change");
    let later = |observed: &Observed| {
        surroundings(observed).filter(|around| words(&around.pod_cidrs).contains("10.244.9.0/24"))
    };
    let around = first_match(&mut updates, later).await;
    assert_eq!((words(&around.api_servers).as_str(), around.unreadable), ("10.169.73.10 127.0.0.1", BTreeMap::new()));
}

/// The documents promise that an agent reports the loss within a second, and that half of a fleet is connected again within 5 s.
#[tokio::test]
async fn a_fleet_notices_at_once_that_its_server_goes_and_finds_it_soon() {
    let nodes: Vec<_> = (0..40).map(|n| format!("worker-{n}")).collect();
    let server = server(&nodes);
    let mut fleet: Vec<_> = nodes.iter().map(|node| followed(source(&server, node))).collect();
    for updates in &mut fleet {
        first_match(updates, surroundings).await;
    }
    server.wait_watching(nodes.len() * 5, DEADLINE).expect("all watch");
    let gone = Instant::now();
    server.stop().expect("it stops");
    for updates in &mut fleet {
        let reason = first_match(updates, |observed| observed.warning.clone()).await;
        let address = server.address();
        assert_eq!(reason, format!("the API server at {address} cannot be reached: connection refused"));
    }
    assert!(gone.elapsed() < Duration::from_secs(3), "told by all within {:?}", gone.elapsed());
    time::sleep(Duration::from_secs(3).saturating_sub(gone.elapsed())).await;
    server.resume().expect("it is back");
    let back = Instant::now();
    let mut found = Vec::new();
    for mut updates in fleet {
        found.push(tokio::spawn(async move {
            first_match(&mut updates, surroundings).await;
            back.elapsed()
        }));
    }
    let mut waits = Vec::new();
    for found in found {
        waits.push(found.await.expect("it is found"));
    }
    waits.sort_unstable();
    // The places of forty agents in a cycle of 7.5 s are random: with the promised 5 s, two runs in a hundred would fail by chance.
    assert!(waits[waits.len() / 2] < Duration::from_millis(6500), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait < Duration::from_secs(12)), "{waits:?}");
}
