//! Answers of iControl REST.

use super::*;

const ALL: &str = include_str!("../../../../../tests/fixtures/bigip/rest.json");

fn link(path: &str) -> String {
    format!("https://localhost/mgmt/tm/{path}?ver=16.1.2")
}

#[test]
fn collections() {
    let device = one(ALL);
    assert_eq!(
        show(&device),
        "vxlan cilium_vxlan 8472 multipoint\n\
         vxlan vxlan 4789 multicast\n\
         tunnel cilium 2 cilium_vxlan 10.169.72.34\n\
         self cilium_self 10.1.6.34/24%0 default cilium\n\
         self node_self 10.169.72.34/24%0 all nodes floating\n\
         route cilium_pods_1 10.0.0.0/16%0 interface cilium\n\
         route default 0.0.0.0/0%0 gw 10.1.1.1\n\
         route drop 10.99.0.0/16%0 blackhole\n\
         fdb cilium 0a:0a:0a:a9:48:ef=10.169.72.239\n\
         fdb http-tunnel\n"
    );
    covers(&device, &Component::ALL);
    assert_eq!(device.name, "bigip1.example");
    let local = &tunnel(&device).local_address;
    let line = ALL.lines().position(|line| line.contains("localAddress")).expect("it has one") + 1;
    assert_eq!((local.at.line as usize, local.at.column), (line, 21));
}

#[test]
fn the_notations_of_a_saved_session() {
    let answers: Vec<serde_json::Value> = serde_json::from_str(ALL).expect("JSON");
    let lines: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
    let of_address =
        answers.iter().map(|answer| (answer["selfLink"].as_str().expect("a link").to_owned(), answer.clone()));
    let map = serde_json::Value::from(of_address.collect::<serde_json::Map<_, _>>()).to_string();
    let files: Vec<String> = answers.iter().map(ToString::to_string).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|file| ("f", file.as_str())).collect();
    let whole = show(&one(ALL));
    assert_eq!(show(&one(&lines)), whole);
    assert_eq!(show(&one(&map)).len(), whole.len());
    let ReadResult { devices, notes } = of(&files);
    assert_eq!((devices.len(), show(&devices[0])), (1, whole), "{notes:?}");
    covers(&devices[0], &Component::ALL);
}

#[test]
fn records_of_one_tunnel() {
    let records = link("net/fdb/tunnel/~dmz~t/records");
    let record =
        r#"{"kind":"tm:net:fdb:tunnel:records:recordsstate","name":"0a:0a:00:00:00:01","endpoint":"10.1.1.1%3"}"#;
    let collection = |items: &str| {
        format!(r#"{{"kind":"tm:net:fdb:tunnel:records:recordscollectionstate","selfLink":"{records}"{items}}}"#)
    };
    let device = one(&collection(&format!(r#","items":[{record}]"#)));
    assert_eq!(show(&device), "fdb /dmz/t 0a:0a:00:00:00:01=10.1.1.1%3\n");
    covers(&device, &[Component::Fdb]);
    assert_eq!(show(&one(&collection(""))), "fdb /dmz/t\n");
    // The names alone show no records.
    let tunnels = format!(
        r#"{{"kind":"tm:net:fdb:tunnel:tunnelcollectionstate","selfLink":"{}","items":[{{"kind":"tm:net:fdb:tunnel:tunnelstate",
        "name":"t","fullPath":"/dmz/t","recordsReference":{{"link":"{records}","isSubcollection":true}}}}]}}"#,
        link("net/fdb/tunnel")
    );
    assert_eq!(of(&[("f", &tunnels)]).devices, []);
}

#[test]
fn what_is_covered() {
    let answer = |link: &str| format!(r#"{{"kind":"tm:net:self:selfcollectionstate","selfLink":"{link}"}}"#);
    covers(&one(&answer(&link("net/self"))), &[Component::SelfIps]);
    let selected = answer(&format!("{}&$filter=partition%20eq%20Common", link("net/self")));
    assert_eq!(of(&[("f", &selected)]).devices, [], "nothing is known");
    let single = r#"{"kind":"tm:net:self:selfstate","name":"s","partition":"Common","address":"10.1.1.1/24","vlan":"/Common/v"}"#;
    covers(&one(single), &[]);
}

#[test]
fn several_hosts_and_other_answers() {
    let settings =
        |name: &str| format!(r#"{{"kind":"tm:sys:global-settings:global-settingsstate","hostname":"{name}"}}"#);
    let map = |host: &str, name: &str| format!(r#""https://{host}/mgmt/tm/sys/global-settings":{}"#, settings(name));
    let two = format!("{{{},{}}}", map("10.1.1.1", "a.example"), map("10.1.1.2:8443", "b.example"));
    let names = |text: &str| of(&[("f", text)]).devices.into_iter().map(|device| device.name).collect::<Vec<_>>();
    assert_eq!(names(&two), ["a.example", "b.example"]);
    let devices = r#"{"kind":"tm:cm:device:devicecollectionstate","items":[
        {"kind":"tm:cm:device:devicestate","hostname":"b.example","selfDevice":"false"},
        {"kind":"tm:cm:device:devicestate","hostname":"a.example","selfDevice":"true"}]}"#;
    assert_eq!(names(devices), ["a.example"]);
    let refused = r#"{"code":401,"message":"Authorization failed","errorStack":[]}"#;
    let ReadResult { devices, notes } = of(&[("f", refused)]);
    assert_eq!(devices, []);
    assert_eq!(notes[1], "f:1:1: the BIG-IP refused the request: 401 Authorization failed");
    let ReadResult { devices, notes } = of(&[("f", &format!("{}\n{{\"ü\": x", settings("a")))]);
    assert_eq!(devices.len(), 1);
    assert_eq!(notes, ["f:2:7: expected JSON: expected value"]);
    for other in ["{}", "[]", "[[[[[[[[[]]]]]]]]]", r#"{"kind":"tm:ltm:pool:poolstate","name":"p"}"#, r#"{"kind":1}"#] {
        assert_eq!(of(&[("f", other)]).devices, [], "{other}");
    }
}

#[test]
fn statistics_with_a_mac() {
    let tunnel =
        r#"{"kind":"tm:net:tunnels:tunnel:tunnelstate","name":"t","partition":"Common","profile":"/Common/vxlan"}"#;
    let stats = r#"{"kind":"tm:net:tunnels:tunnel:tunnelcollectionstats","entries":{"https://localhost/mgmt/tm/net/tunnels/tunnel/~Common~t/stats":
        {"nestedStats":{"entries":{"macAddr":{"description":"00:50:56:a0:7d:d8"},"tmName":{"description":"/Common/t"}}}}}}"#;
    assert_eq!(show(&one(&format!("{tunnel}\n{stats}"))), "tunnel t 0 vxlan any 00:50:56:a0:7d:d8\n");
}
