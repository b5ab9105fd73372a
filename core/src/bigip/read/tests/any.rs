//! Properties of all inputs.

use proptest::prelude::*;

use super::*;
use crate::{
    bigip::{BigIp, SiteValues, TunnelName, bigips},
    config::spec::{Spec, Tunnel as Encapsulation, TunnelProtocol, Vtep},
};

/// Words of which texts of BIG-IP consist, so that arbitrary texts reach all of the reader.
const WORDS: &[&str] = &[
    "net self ",
    "net tunnels tunnel ",
    "net tunnels vxlan ",
    "net fdb tunnel ",
    "net route ",
    "net arp ",
    "ltm rule ",
    "auth partition ",
    "cm device ",
    "sys global-settings ",
    "a ",
    "/Common/b ",
    "{",
    "}",
    "{\n",
    "\n}\n",
    "\n",
    "\"",
    "\\",
    "#",
    "; ",
    "| ",
    "<",
    ">",
    "create ",
    "modify ",
    "delete ",
    "tmsh -c '",
    "'",
    "records add ",
    "address 10.1.1.1/24 ",
    "vlan v ",
    "allow-service ",
    "all ",
    "none ",
    "0a:0a:0a:00:00:01 ",
    "endpoint 10.1.1.1%0 ",
    "profile vxlan ",
    "defaults-from a ",
    "key 2 ",
    "root@(h)(/Common)(tmos)# ",
    "cd /x\n",
    "show net tunnels tunnel a\n",
    "MAC Address 0a:0a:0a:00:00:01\n",
    "Net::Arp\n",
    "Tunnel Mac Address Member Dynamic\n",
    "é",
    "#TMSH-VERSION: 1\n",
    "hostname h\n",
];
const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\"kind\":",
    "\"tm:net:self:selfstate\"",
    "\"tm:net:self:selfcollectionstate\"",
    "\"items\":",
    "\"name\":\"a\"",
    "\"address\":\"10.1.1.1/24\"",
    "\"vlan\":\"v\"",
    "\"https://h/x\":",
    "\"recordsReference\":",
    "true",
    "1",
    "\n",
    "\"tm:net:fdb:tunnel:tunnelstate\"",
    "\"tm:net:fdb:tunnel:records:recordscollectionstate\"",
    "\"entries\":",
    "\"nestedStats\":",
    "\"selfLink\":\"https://localhost/mgmt/tm/net/fdb/tunnel/~Common~t/records\"",
    "é",
];

fn text(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 0..60).prop_map(|words| words.concat())
}

/// The objects of these commands, as `tmsh list` prints them.
fn listed(bigip: &BigIp, tunnel: &str) -> String {
    let BigIp { local_address, network, protocol, port, key, self_ip, pod_cidrs, fdb_records, .. } = bigip;
    let address = self_ip.expect("the test gives one");
    let mut text = format!(
        "net tunnels {protocol} {tunnel}_{protocol} {{\n    app-service none\n    flooding-type multipoint\n    port {port}\n}}\n\
         net tunnels tunnel {tunnel} {{\n    if-index 160\n    key {key}\n    local-address {local_address}\n    profile {tunnel}_{protocol}\n}}\n\
         net self {tunnel}_self {{\n    address {address}/{}\n    allow-service {{\n        default\n    }}\n    \
         traffic-group traffic-group-local-only\n    vlan {tunnel}\n}}\n",
        network.prefix_len()
    );
    for (n, cidr) in (1..).zip(pod_cidrs) {
        writeln!(text, "net route {tunnel}_pods_{n} {{\n    interface {tunnel}\n    network {cidr}\n}}").expect("text");
    }
    if !fdb_records.is_empty() {
        writeln!(text, "net fdb tunnel {tunnel} {{\n    records {{").expect("text");
        for record in fdb_records {
            writeln!(text, "        {} {{\n            endpoint {}\n        }}", record.mac, record.endpoint)
                .expect("text");
        }
        writeln!(text, "    }}\n}}").expect("text");
    }
    text
}

fn site() -> impl Strategy<Value = (Spec, SiteValues)> {
    let spec = (any::<[u8; 3]>(), 1..=u16::MAX, any::<bool>()).prop_map(|([a, b, c], port, is_geneve)| Spec {
        enabled: true,
        vteps: vec![Vtep {
            cidr: ipnet::Ipv4Net::new([10, a, b, 0].into(), 24).expect("24 is a length"),
            endpoint: [192, 168, b, c].into(),
            mac: [0, 0x50, 0x56, a, b, c].into(),
        }],
        mask: None,
        tunnel: Encapsulation {
            protocol: if is_geneve { TunnelProtocol::Geneve } else { TunnelProtocol::Vxlan },
            port,
        },
    });
    let tunnel = prop::sample::select(vec!["cilium", "/Common/t-1", "/dmz/app/t", "folder/t"]);
    let addresses = || prop::collection::btree_set(any::<[u8; 4]>(), 0..5);
    (spec, tunnel, addresses(), addresses()).prop_map(|(spec, tunnel, pods, nodes)| {
        let first = spec.vteps[0].cidr.network();
        let [a, b, c, _] = first.octets();
        let site = SiteValues {
            self_ips: vec![[a, b, c, 34].into()],
            pod_cidrs: pods
                .into_iter()
                .map(|octets| ipnet::Ipv4Net::new(octets.into(), 32).expect("32 is a length"))
                .collect(),
            nodes: nodes.into_iter().map(Into::into).collect(),
            tunnel: tunnel.parse::<TunnelName>().expect("a name"),
        };
        (spec, site)
    })
}

proptest! {
    #[test]
    fn our_own_commands_are_what_bigip_lists_after_them((spec, site) in site()) {
        let [bigip] = bigips(&spec, &site).try_into().expect("one VTEP");
        let has_pods = !bigip.pod_cidrs.is_empty();
        let commands = bigip.commands.iter().filter(|command| has_pods || !command.contains("net route"));
        let device = one(&commands.map(|command| format!("{command}\n")).collect::<String>());
        let list = one(&listed(&bigip, &site.tunnel.to_string()));
        prop_assert_eq!(show(&device), show(&list));
        prop_assert_eq!(&device.unread, &[]);
        prop_assert_eq!(tunnel(&device).local_address.value.map(|address| address.ip), Some(bigip.local_address));
        prop_assert_eq!(device.fdb.first().map_or(0, |fdb| fdb.records.len()), site.nodes.len());
    }

    #[test]
    fn no_text_is_too_much(text in prop_oneof![text(WORDS), text(JSON), any::<String>()]) {
        let ReadResult { devices, notes } = of(&[("f", &text), ("g", &text)]);
        // Places are in the text.
        let lines = text.split('\n').count();
        for unread in devices.iter().flat_map(|device| &device.unread) {
            prop_assert!(unread.at.line as usize <= lines && unread.at.column > 0, "{unread:?}");
        }
        prop_assert!(notes.len() < 50);
    }

    #[test]
    fn a_cut_text_shows_no_more_than_the_whole(cut in 0..1_000_usize) {
        let whole = include_str!("../../../../../tests/fixtures/bigip/lab-guide.tmsh");
        let cut = cut.min(whole.len());
        let ReadResult { devices, .. } = of(&[("f", &whole[..cut])]);
        let all = show(&one(whole));
        for line in devices.iter().flat_map(|device| show(device).lines().map(ToOwned::to_owned).collect::<Vec<_>>()) {
            prop_assert!(all.contains(&line), "{line}");
        }
    }
}

/// Each of these takes a minute or more if it takes quadratic time.
#[test]
fn large_texts_take_linear_time() {
    const SIZE: usize = 500_000;
    let fill = |piece: &str| piece.repeat(SIZE / piece.len());
    let numbered =
        |piece: &str| (0..SIZE / (piece.len() + 6)).map(|n| piece.replace('N', &n.to_string())).collect::<String>();
    let texts = [
        fill("{"),
        fill("net self a {\n"),
        fill("net self a { "),
        fill("net self a { address 10.1.1.1/24 vlan v } "),
        fill("ltm pool a {\n"),
        fill("ltm rule a { \""),
        fill("net self a { b \"\n"),
        fill("create net self a; "),
        fill("tmsh -c 'create net self a\n"),
        fill("tmsh -c \"create net self a;"),
        fill("<"),
        format!("net fdb tunnel t {{ {} }}", fill("a ")),
        format!("net fdb tunnel t {{ {} }}", fill("records { a } ")),
        numbered("net tunnels vxlan pN { defaults-from p1 }\n"),
        numbered("root@(hN)(tmos)# list\nnet self N { address 10.1.1.1/24 vlan v }\n"),
        numbered("modify net fdb tunnel t records add { N { } }\n"),
        numbered("modify net fdb tunnel t records delete { N }\n"),
        numbered("net tunnels tunnel N { profile p }\nNet::Tunnel: N\nMAC Address 0a:0a:0a:00:00:01\n"),
        fill("["),
        fill("[1,"),
        format!("[{}1]", fill("{\"kind\":\"tm:net:self:selfstate\",\"name\":\"a\",\"vlan\":\"v\"},")),
        format!("{{{}\"a\":1}}", numbered("\"https://hN/\":{\"kind\":\"tm:net:self:selfcollectionstate\"},")),
    ];
    for text in texts {
        let ReadResult { devices, .. } = of(&[("f", &text)]);
        assert!(devices.len() <= 33, "{}", &text[..60]);
    }
}
