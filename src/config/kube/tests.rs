//! Sources at a real server, over real HTTP.

use std::time::Instant;

use tokio::time::timeout;
use vtep_apiserver::{ApiServer, Fault, Matcher, Resource, Times, objects};

use super::*;
use crate::config::view::Sight;

const NODE: &str = "worker-1";
/// For what takes milliseconds, on a machine that has other things to do.
const DEADLINE: Duration = Duration::from_secs(30);

/// A server that knows a configuration, and each of these nodes.
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
    Source { client, server: at, names, surroundings: Surroundings::default() }
}

/// What a source tells, from now on.
fn followed(source: Source) -> mpsc::Receiver<Observed> {
    let (sender, updates) = mpsc::channel(16);
    tokio::spawn(source.follow(sender));
    updates
}

/// Waits for something told that is as wanted.
async fn told<T>(updates: &mut mpsc::Receiver<Observed>, wanted: impl Fn(&Observed) -> Option<T>) -> T {
    let find = async {
        loop {
            let observed = updates.recv().await.expect("the source goes on");
            if let Some(found) = wanted(&observed) {
                return found;
            }
        }
    };
    timeout(DEADLINE, find).await.expect("it is told in time")
}

/// Of a document that nothing is doubtful about.
fn surroundings(observed: &Observed) -> Option<Surroundings> {
    match observed {
        Observed { sight: Sight::Document(document), doubt: None } => Some(document.surroundings.clone()),
        Observed { sight: Sight::Document(_) | Sight::Missing(_) | Sight::Nothing, .. } => None,
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
    let first = timeout(DEADLINE, updates.recv()).await.expect("in time").expect("it is told");
    let first = surroundings(&first).expect("the very first is complete");
    assert_eq!(first, once);
    assert_eq!(words(&first.pod_cidrs), "10.0.1.0/24 10.244.1.0/24");
    assert_eq!(words(&first.node_addresses), "10.0.1.169 10.169.72.239");
    assert_eq!(words(&first.api_servers), "10.169.73.10 127.0.0.1");

    let apply = |resource, object| server.apply(resource, object).expect("an object");
    apply(Resource::EndpointSlices, objects::api_server_endpoints("kubernetes", &["10.169.74.10"]));
    told(&mut updates, |observed| {
        (words(&surroundings(observed)?.api_servers) == "10.169.74.10 127.0.0.1").then_some(())
    })
    .await;
    apply(Resource::CiliumNodes, objects::cilium_node(NODE, &["10.0.9.0/24"], []));
    told(&mut updates, |observed| {
        (words(&surroundings(observed)?.pod_cidrs) == "10.0.9.0/24 10.244.1.0/24").then_some(())
    })
    .await;
}

/// A name, and what is done to the server first.
type Case<'c> = (&'c str, &'c dyn Fn(&ApiServer));

#[tokio::test]
async fn neither_a_missing_right_nor_a_missing_crd_takes_the_configuration() {
    let nothing = |server: &ApiServer| {
        server.delete(Resource::CiliumNodes, "", NODE);
        server.delete(Resource::EndpointSlices, "default", "kubernetes");
    };
    let forbidden = |server: &ApiServer| {
        for resource in ["ciliumnodes", "endpointslices"] {
            server.misbehave(Matcher::all().resource(resource), Fault::Forbidden, Times::Always);
        }
    };
    let crds_absent = |server: &ApiServer| {
        nothing(server);
        server.serve(vtep_apiserver::CiliumVersions::Absent);
    };
    let cases: [Case<'_>; 3] = [("nothing there", &nothing), ("forbidden", &forbidden), ("CRDs absent", &crds_absent)];
    for (name, prepare) in cases {
        let server = server(&[NODE.into()]);
        prepare(&server);
        let begin = Instant::now();
        let found = told(&mut followed(source(&server, NODE)), surroundings).await;
        assert_eq!(words(&found.pod_cidrs), "10.244.1.0/24", "{name}");
        assert_eq!(words(&found.api_servers), "127.0.0.1", "{name}");
        assert!(begin.elapsed() < Duration::from_secs(30), "{name}: it holds nothing up: {:?}", begin.elapsed());
        let once = surroundings(&source(&server, NODE).read().await);
        assert_eq!(once, Some(found), "{name}: nor from one look");
    }
}

/// Promised: told within a second, found by half of a fleet within 5 s.
#[tokio::test]
async fn a_fleet_notices_at_once_that_its_server_goes_and_finds_it_soon() {
    let nodes: Vec<_> = (0..40).map(|n| format!("worker-{n}")).collect();
    let server = server(&nodes);
    let mut fleet: Vec<_> = nodes.iter().map(|node| followed(source(&server, node))).collect();
    for updates in &mut fleet {
        told(updates, surroundings).await;
    }
    server.wait_watching(nodes.len() * 5, DEADLINE).expect("all watch");
    let gone = Instant::now();
    server.stop().expect("it stops");
    for updates in &mut fleet {
        let reason = told(updates, |observed| observed.doubt.clone()).await;
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
            told(&mut updates, surroundings).await;
            back.elapsed()
        }));
    }
    let mut waits = Vec::new();
    for found in found {
        waits.push(found.await.expect("it is found"));
    }
    waits.sort_unstable();
    assert!(waits[waits.len() / 2] < Duration::from_secs(5), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait < Duration::from_secs(12)), "{waits:?}");
}
