//! The stand-in's answers, over plain HTTP.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use vtep_bigip::{BigIp, Device, Fault, Matcher, Options, PASSWORD, Profile, SelfIp, TOKEN, Times, Tunnel, USER};

fn start(device: Device) -> BigIp {
    BigIp::start_with(device, Options { plain: true, ..Options::default() }).expect("a BIG-IP")
}

/// The status and the body.
fn ask(bigip: &BigIp, method: &str, path: &str, header: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(bigip.address()).expect("a connection");
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: b\r\nconnection: close\r\n{header}\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a header");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (code, body.to_owned())
}

fn get(bigip: &BigIp, path: &str) -> Value {
    let (code, body) = ask(bigip, "GET", path, &format!("x-f5-auth-token: {TOKEN}"));
    assert_eq!(code, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

fn count(answer: &Value) -> usize {
    answer["items"].as_array().map_or(0, Vec::len)
}

#[test]
fn collections_have_the_shape_of_icontrol() {
    let bigip = start(Device::cilium());
    let tunnels = get(&bigip, "/mgmt/tm/net/tunnels/tunnel");
    assert_eq!(tunnels["kind"], "tm:net:tunnels:tunnel:tunnelcollectionstate");
    let tunnel = &tunnels["items"][2];
    assert_eq!((&tunnel["fullPath"], &tunnel["partition"]), (&"/Common/cilium".into(), &"Common".into()));
    assert_eq!((&tunnel["key"], &tunnel["localAddress"]), (&2.into(), &"10.169.72.34".into()));
    assert_eq!(get(&bigip, "/mgmt/tm/net/tunnels/tunnel/~Common~cilium")["profile"], "/Common/cilium_vxlan");
    // An empty collection has no items.
    let arp = get(&bigip, "/mgmt/tm/net/arp");
    assert_eq!((&arp["kind"], arp.get("items")), (&"tm:net:arp:arpcollectionstate".into(), None));
    assert_eq!(get(&bigip, "/mgmt/tm/sys/global-settings")["hostname"], "bigip-1.example");
}

#[test]
fn records_are_inside_their_tunnels_only_if_asked_for() {
    let bigip = start(Device::cilium());
    let fdb =
        |query: &str| get(&bigip, &format!("/mgmt/tm/net/fdb/tunnel{query}"))["items"][2]["recordsReference"].clone();
    assert_eq!(fdb("").get("items"), None);
    assert_eq!(count(&fdb("?expandSubcollections=true")), 2);
    let records = get(&bigip, "/mgmt/tm/net/fdb/tunnel/~Common~cilium/records");
    assert_eq!(records["items"][0]["endpoint"], "10.169.72.239%0");
}

#[test]
fn pages_link_to_the_next_one() {
    let bigip = start(Device::cilium().nodes("cilium", 2998));
    let path = "/mgmt/tm/net/fdb/tunnel/~Common~cilium/records";
    let first = get(&bigip, &format!("{path}?$top=1000"));
    assert_eq!((count(&first), &first["totalItems"], &first["totalPages"]), (1000, &3000.into(), &3.into()));
    let link = first["nextLink"].as_str().and_then(|link| link.strip_prefix("https://localhost")).expect("a link");
    let second = get(&bigip, link);
    assert_eq!((count(&second), &second["pageIndex"]), (1000, &2.into()));
    let last = get(&bigip, &format!("{path}?$top=1000&$skip=2000"));
    assert_eq!((count(&last), last.get("nextLink")), (1000, None));
}

#[test]
fn a_filter_selects_a_partition() {
    let device = Device::cilium()
        .profile(Profile::vxlan("/k8s/other").port(8472))
        .tunnel(Tunnel::new("/k8s/tunnel", "/k8s/other", "10.20.121.12%20"))
        .self_ip(SelfIp::new("/k8s/self", "10.1.7.34%20/24", "/k8s/tunnel").allow_all());
    let bigip = start(device);
    assert_eq!(count(&get(&bigip, "/mgmt/tm/net/self")), 3);
    let only = get(&bigip, "/mgmt/tm/net/self?$filter=partition%20eq%20k8s");
    assert_eq!((count(&only), &only["items"][0]["address"]), (1, &"10.1.7.34%20/24".into()));
}

#[test]
fn only_get_and_only_with_credentials() {
    let bigip = start(Device::cilium());
    let basic =
        |password: &str| format!("authorization: Basic {}", BASE64_STANDARD.encode(format!("{USER}:{password}")));
    let path = "/mgmt/tm/net/self";
    assert_eq!(ask(&bigip, "GET", path, &basic(PASSWORD)).0, 200);
    assert_eq!(ask(&bigip, "GET", path, &basic("wrong")).0, 401);
    assert_eq!(ask(&bigip, "GET", path, "x-f5-auth-token: wrong").0, 401);
    assert_eq!(ask(&bigip, "GET", path, "accept: */*").0, 401);
    assert_eq!(ask(&bigip, "POST", path, &basic(PASSWORD)).0, 405);
    assert_eq!(ask(&bigip, "GET", "/mgmt/tm/net/nothing", &basic(PASSWORD)).0, 404);
    assert_eq!(ask(&bigip, "GET", "/mgmt/tm/net/fdb/tunnel/~Common~no/records", &basic(PASSWORD)).0, 404);
    let requests = bigip.requests();
    assert_eq!(
        (requests.len(), requests[4].method.as_str(), requests[2].header("x-f5-auth-token")),
        (7, "POST", "wrong")
    );
}

#[test]
fn a_fault_applies_to_the_requests_that_it_is_for() {
    let bigip = start(Device::cilium());
    bigip.misbehave(Matcher::all().path("/mgmt/tm/net/route"), Fault::Forbidden, Times::Next(1));
    let status = |path: &str| ask(&bigip, "GET", path, &format!("x-f5-auth-token: {TOKEN}")).0;
    assert_eq!(
        [status("/mgmt/tm/net/self"), status("/mgmt/tm/net/route"), status("/mgmt/tm/net/route")],
        [200, 403, 200]
    );
}
