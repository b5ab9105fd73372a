//! Both ends, one of them over REST.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::*;

/// What `vtep-agent bigip` prints as JSON about this BIG-IP, and its exit status. There are `nodes` nodes from 10.200.0.1 on.
fn compare(device: Device, nodes: u32) -> (Value, Option<i32>) {
    let bigip = start(device);
    let files = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let cilium =
        "enable-vtep: true\nvtep-endpoint: 10.169.72.34\nvtep-cidr: 10.1.6.0/24\nvtep-mac: 00:50:56:a0:7d:d8\n";
    let node = |n: u32| {
        let address = std::net::Ipv4Addr::from(0x0ac8_0000 + n).to_string();
        let addresses = [json!({ "type": "InternalIP", "address": address })];
        json!({ "kind": "Node", "metadata": { "name": format!("worker-{n}") }, "status": { "addresses": addresses } })
    };
    let list = json!({ "kind": "List", "items": (1..=nodes).map(node).collect::<Vec<_>>() });
    let output = Command::new(env!("CARGO_BIN_EXE_vtep-agent"))
        .arg("bigip")
        .arg(write("cilium-config.yaml", cilium))
        .args(["-o", "json", "--pod-cidr", "10.0.0.0/16", "--bigip-url", &bigip.url()])
        .arg("--nodes")
        .arg(write("nodes.json", &list.to_string()))
        .arg("--bigip-ca")
        .arg(write("ca.pem", bigip.trusted_pem()))
        .arg("--bigip-token-file")
        .arg(write("token", TOKEN))
        .output()
        .expect("the program ends");
    (serde_json::from_slice(&output.stdout).unwrap_or_default(), output.status.code())
}

/// A BIG-IP without the records of [`Device::cilium`].
fn device(key: u32, port: u16) -> Device {
    Device::new("bigip-1.example")
        .profile(Profile::vxlan("cilium_vxlan").port(port).flooding("multipoint"))
        .tunnel(Tunnel::new("cilium", "cilium_vxlan", "10.169.72.34").key(key))
        .self_ip(SelfIp::new("underlay", "10.169.72.34/24", "internal").allow(&["default"]))
        .self_ip(SelfIp::new("cilium_self", "10.1.6.34/24", "cilium").allow(&["default"]))
        .route(vtep_bigip::Route::interface("cilium_pods_1", "10.0.0.0/16", "cilium"))
}

fn rules(report: &Value) -> Vec<&str> {
    report["differences"].as_array().into_iter().flatten().filter_map(|row| row["rule"].as_str()).collect()
}

#[test]
fn three_thousand_records_in_pages_fit_three_thousand_nodes() {
    let (report, status) = compare(device(2, 8472).nodes("cilium", 3000), 3000);
    assert_eq!((rules(&report), &report["notes"]), (Vec::new(), &json!([])));
    assert_eq!(status, Some(0));
}

#[test]
fn nodes_that_were_added_later_have_no_record() {
    let (report, status) = compare(device(2, 8472).nodes("cilium", 3000), 3002);
    assert_eq!((rules(&report), status), (vec!["bigip-fdb-missing"], Some(1)));
    let problem = report["differences"][0]["message"].as_str().expect("a message");
    assert!(problem.contains("2 nodes, worker-3001 (10.200.11.185), worker-3002 (10.200.11.186)"), "{problem}");
    let commands = report["plan"][0]["commands"].as_array().expect("commands");
    assert_eq!(commands.len(), 3, "{commands:?}");
}

#[test]
fn what_differs_is_shown_where_the_answer_has_it() {
    let (report, status) = compare(device(68, 4789).nodes("cilium", 1), 1);
    assert_eq!((rules(&report), status), (vec!["bigip-key", "bigip-port"], Some(1)));
    let key = &report["differences"][0];
    assert_eq!((&key["value"], &key["bigip"]), (&json!("68"), &json!("bigip-1.example")));
    assert!(key["file"].as_str().is_some_and(|file| file.starts_with("https://127.0.0.1:")), "{key}");
}
