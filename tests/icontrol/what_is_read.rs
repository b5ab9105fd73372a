//! Which requests are sent, and what arrives.

use crate::*;

#[tokio::test]
async fn an_ordinary_device_takes_eight_gets() {
    let bigip = start(Device::cilium());
    let fetched = read(&bigip).await.expect("answers");
    assert_eq!(
        paths(&fetched),
        [
            TUNNELS,
            "/mgmt/tm/net/tunnels/vxlan",
            "/mgmt/tm/net/tunnels/geneve",
            "/mgmt/tm/net/self",
            "/mgmt/tm/net/route",
            FDB,
            "/mgmt/tm/sys/global-settings",
            "/mgmt/tm/net/arp",
        ]
    );
    assert_eq!((fetched.notes.clone(), fetched.server.clone()), (vec![], bigip.url()));
    // 3 tunnels, twice; 3 + 1 profiles; 2 self IPs; 2 routes; 2 records; the settings. ARP is empty, without `items`.
    assert_eq!(fetched.objects, 6 + 4 + 2 + 2 + 2 + 1);
    let requests = bigip.requests();
    assert_eq!(requests.len(), COLLECTIONS);
    for request in requests {
        assert_eq!((request.method.as_str(), request.header("accept")), ("GET", "application/json"));
        assert!(request.header("user-agent").starts_with("vtep-agent/"), "{request:?}");
    }
}

#[tokio::test]
async fn partitions_and_route_domains_arrive_as_they_are() {
    let device = Device::cilium()
        .profile(Profile::geneve("/k8s/eks"))
        .tunnel(Tunnel::new("/k8s/eks/t", "/k8s/eks", "10.20.121.12%20").set("remoteAddress", "any%20"))
        .self_ip(SelfIp::new("/k8s/self", "10.1.7.34%20/24", "/k8s/eks/t").allow_all())
        .record("/k8s/eks/t", "0a:0a:0a:14:79:15", "10.20.121.21%20");
    let bigip = start(device);
    let fetched = read(&bigip).await.expect("answers");
    let all: String = fetched.responses.into_iter().map(|response| response.body).collect();
    for text in ["\"/k8s/eks/t\"", "10.20.121.12%20", "10.1.7.34%20/24", "10.20.121.21%20"] {
        assert!(all.contains(text), "{text}");
    }
}

#[tokio::test]
async fn three_thousand_records_arrive_at_once() {
    let bigip = start(Device::new("b").tunnel(Tunnel::new("cilium", "vxlan", "10.0.0.1")).nodes("cilium", 3000));
    let fetched = read(&bigip).await.expect("answers");
    assert_eq!((fetched.objects > 3000, bigip.requests().len()), (true, COLLECTIONS));
}

#[tokio::test]
async fn pages_are_followed_on_the_same_host() {
    let device = Device::cilium().self_ip(SelfIp::new("third", "10.9.9.9/24", "internal")).page_size(2);
    let bigip = start(device);
    let fetched = read(&bigip).await.expect("answers");
    // 3 tunnels, 3 VXLAN profiles, 3 self IPs and 3 FDBs have two pages each: twelve requests.
    assert_eq!([items(&fetched, TUNNELS), items(&fetched, "/mgmt/tm/net/self"), items(&fetched, FDB)], [3, 3, 3]);
    assert_eq!((bigip.requests().len(), fetched.notes), (12, vec![]));
}

#[tokio::test]
async fn a_token_takes_the_place_of_a_password() {
    let bigip = start(Device::cilium());
    let token = Credentials::Token(Secret::parse(&format!("{TOKEN}\n")).expect("a token"));
    let fetched = read_as(&bigip, token, trust(&bigip)).await.expect("answers");
    assert_eq!(fetched.responses.len(), COLLECTIONS);
    assert!(bigip.requests().iter().all(|request| request.header("authorization").is_empty()));
}
