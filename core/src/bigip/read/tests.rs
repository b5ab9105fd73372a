use std::{fmt::Write as _, sync::Arc};

use super::{ReadResult, read};
use crate::bigip::device::{
    Address, AllowService, Component, Device, Flooding, ObjectName, ProfileKind, Setting, Tunnel, Via,
};

mod any;
mod files;
mod rest;

fn of(texts: &[(&str, &str)]) -> ReadResult {
    let texts: Vec<_> = texts.iter().map(|(file, text)| (Arc::from(*file), *text)).collect();
    read(&texts)
}

/// The only BIG-IP of a text, which is read without a note.
fn one(text: &str) -> Device {
    let ReadResult { devices, notes } = of(&[("f", text)]);
    assert_eq!(notes, [""; 0], "{text}");
    let [device] = devices.try_into().expect("one BIG-IP");
    device
}

fn tunnel(device: &Device) -> &Tunnel {
    let [tunnel] = device.tunnels.as_slice() else { panic!("{:?}", device.tunnels) };
    tunnel
}

fn ip(text: &str) -> Address {
    let (ip, route_domain) = text.split_once('%').unwrap_or((text, "0"));
    Address { ip: ip.parse().expect("an address"), route_domain: route_domain.parse().expect("a number") }
}

/// A short form of everything that a device has, for comparisons.
pub(super) fn show(device: &Device) -> String {
    let mut out = String::new();
    let text = &mut out;
    let set = |is_default: bool| if is_default { "*" } else { "" };
    for profile in device.profiles.iter().filter(|profile| profile.at.line > 1 || !profile.port.is_default) {
        let (port, flooding) = (&profile.port, &profile.flooding);
        let (p, f) = (set(port.is_default), set(flooding.is_default));
        writeln!(text, "{} {} {}{p} {}{f}", profile.kind, profile.name, port.value, flooding.value).expect("text");
    }
    for Tunnel { name, key, profile, local_address, mac, .. } in &device.tunnels {
        let local = local_address.value.map_or_else(|| "any".to_owned(), |address| address.to_string());
        let mac = mac.as_ref().map(|mac| format!(" {}", mac.value)).unwrap_or_default();
        writeln!(text, "tunnel {name} {} {} {local}{mac}", key.value, profile.value).expect("text");
    }
    for self_ip in &device.self_ips {
        let allow = match &self_ip.allow_service.value {
            AllowService::None => "none".to_owned(),
            AllowService::All => "all".to_owned(),
            AllowService::Some(list) => list.join("+"),
        };
        let (domain, floating) = (self_ip.route_domain, if self_ip.is_floating { " floating" } else { "" });
        let (name, address, vlan) = (&self_ip.name, &self_ip.address.value, &self_ip.vlan.value);
        writeln!(text, "self {name} {address}%{domain} {allow} {vlan}{floating}").expect("text");
    }
    for route in &device.routes {
        let via = match &route.via.value {
            Via::Interface(name) => format!("interface {name}"),
            Via::Gateway(address) => format!("gw {address}"),
            Via::Other(text) => text.clone(),
        };
        writeln!(text, "route {} {}%{} {via}", route.name, route.network.value, route.route_domain).expect("text");
    }
    for fdb in &device.fdb {
        write!(text, "fdb {}", fdb.tunnel).expect("text");
        for record in &fdb.records {
            let endpoint = record.endpoint.as_ref().map_or_else(|| "?".to_owned(), |at| at.value.to_string());
            write!(text, " {}={endpoint}{}", record.mac, if record.is_dynamic { "!" } else { "" }).expect("text");
        }
        writeln!(text).expect("text");
    }
    for arp in &device.arp {
        let mac = arp.mac.map_or_else(|| "?".to_owned(), |mac| mac.to_string());
        let vlan = arp.vlan.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string);
        writeln!(text, "arp {} {mac} {vlan}", arp.address).expect("text");
    }
    out
}

fn covers(device: &Device, components: &[Component]) {
    assert_eq!(device.covered.iter().copied().collect::<Vec<_>>(), components);
}

#[test]
fn the_lab_guide() {
    let device = one(include_str!("../../../../tests/fixtures/bigip/lab-guide.tmsh"));
    assert_eq!(
        show(&device),
        "vxlan vxlan_profi 8472 multipoint\n\
         tunnel vxlan_cilium 2 vxlan_profi 10.20.255.202\n\
         self SelfKube 10.80.255.202/24%0 default VlanKube\n\
         self SelfVxlan 172.18.202.3/24%0 none vxlan_cilium\n\
         route toKube 10.0.0.0/16%0 interface vxlan_cilium\n\
         fdb vxlan_cilium\n"
    );
    covers(&device, &Component::ALL);
    assert_eq!(device.name, "f");
    let Setting { at, .. } = &tunnel(&device).local_address;
    assert_eq!(at.to_string(), "f:22:19");
}

#[test]
fn a_terminals_log_with_lists_tables_and_prompts() {
    let device = one(include_str!("../../../../tests/fixtures/bigip/unit1.log"));
    assert_eq!(
        show(&device),
        "vxlan cilium_vxlan 8472 multipoint*\n\
         tunnel cilium 2 cilium_vxlan 10.169.72.34 00:50:56:a0:7d:d8\n\
         tunnel http-tunnel 0 tcp-forward any\n\
         self cilium_self 10.1.6.34/24%0 default+tcp:8080 cilium\n\
         self node_self 10.169.72.34/24%0 none nodes floating\n\
         fdb cilium 0a:0a:0a:a9:48:ef=10.169.72.239 06:a6:6e:b5:69:2c=10.169.72.239!\n\
         arp 10.0.0.130 06:a6:6e:b5:69:2c cilium\n\
         arp 10.0.1.20 ? cilium\n"
    );
    assert_eq!(device.name, "bigip1");
    // One profile and one forwarding database were asked for by name.
    covers(&device, &[Component::Tunnels, Component::SelfIps]);
}

#[test]
fn commands() {
    let text = "\
# BIG-IP 10.169.72.34, tunnel network 10.1.6.0/24
create net tunnels vxlan cilium_vxlan port 8472 flooding-type multipoint   # or geneve
tmsh create net tunnels tunnel cilium key 2 profile cilium_vxlan local-address 10.169.72.34
create net self cilium_self address <an address in 10.1.6.0/24>/24 allow-service default vlan cilium
create net self 10.1.6.34/24 allow-service add { default tcp:443 } vlan cilium
tmsh -c \"create net route pods network 10.0.0.0/255.255.0.0 interface cilium; save sys config\"
create net route /Common/other {
    gw 10.1.1.1%4
    network default
}; create net route last network 10.9.0.0/16 \\
    interface cilium
modify net fdb tunnel cilium records add { 0a:0a:0a:a9:48:ef { endpoint 10.169.72.239 } }
modify net fdb tunnel cilium records add { 0a:0a:0a:a9:48:e9 { endpoint 10.169.72.233 } }
modify net fdb tunnel cilium records delete { 0a:0a:0a:a9:48:ef }
modify net tunnels vxlan vxlan port 4790
modify net self 10.1.6.34/24 allow-service delete { default }
create net self gone address 10.1.1.1/24 vlan x
delete net self gone
save sys config
";
    let ReadResult { devices, notes } = of(&[("f", text)]);
    assert_eq!(notes, [""; 0]);
    assert_eq!(
        show(&devices[0]),
        "vxlan cilium_vxlan 8472 multipoint\n\
         vxlan vxlan 4790 multicast*\n\
         tunnel cilium 2 cilium_vxlan 10.169.72.34\n\
         self 10.1.6.34/24 10.1.6.34/24%0 tcp:443 cilium\n\
         route pods 10.0.0.0/16%0 interface cilium\n\
         route other 0.0.0.0/0%0 gw 10.1.1.1%4\n\
         route last 10.9.0.0/16%0 interface cilium\n\
         fdb cilium 0a:0a:0a:a9:48:e9=10.169.72.233\n"
    );
    covers(&devices[0], &[]);
    let [unread] = devices[0].unread.as_slice() else { panic!("{:?}", devices[0].unread) };
    assert_eq!(
        format!("{} {}", unread.at, unread.problem),
        "f:4:37 net self cilium_self, address: \"<an address in 10.1.6.0/24>/24\" is not a network"
    );
}

#[test]
fn a_command_for_an_object_that_the_text_does_not_show() {
    let ReadResult { devices, notes } = of(&[("f", "list net self\nmodify net self a allow-service all\n")]);
    assert_eq!(devices, []);
    assert!(notes[1].contains("f:2:17: the command changes net self a"), "{notes:?}");
}

#[test]
fn values() {
    let address = |text: &str| {
        tunnel(&one(&format!("net tunnels tunnel t {{ profile p\nlocal-address {text}\n}}"))).local_address.value
    };
    assert_eq!(address("10.20.121.12%20"), Some(ip("10.20.121.12%20")));
    assert_eq!([address("any"), address("any6"), address("none"), address("2001:db8::1")], [None; 4]);
    let cases = [
        ("10.1.6.34/24", "self s 10.1.6.34/24%0 none v\n"),
        ("10.1.6.34%20/24", "self s 10.1.6.34/24%20 none v\n"),
        ("10.1.6.34/255.255.255.0", "self s 10.1.6.34/24%0 none v\n"),
        ("10.1.6.34", "self s 10.1.6.34/32%0 none v\n"),
        ("2001:db8::1/64", ""),
    ];
    for (address, expected) in cases {
        assert_eq!(show(&one(&format!("net self s {{ address {address} vlan v }}"))), expected, "{address}");
    }
    for (allow, expected) in [
        ("", AllowService::None),
        ("allow-service none", AllowService::None),
        ("allow-service all", AllowService::All),
        ("allow-service { }", AllowService::None),
        ("allow-service { tcp:22 udp:53 }", AllowService::Some(vec!["tcp:22".into(), "udp:53".into()])),
    ] {
        let device = one(&format!("net self s {{ address 10.1.6.34/24 {allow} vlan v }}"));
        assert_eq!(device.self_ips[0].allow_service.value, expected, "{allow}");
        assert_eq!(device.self_ips[0].allow_service.is_default, allow.is_empty());
    }
    for (route, expected) in [
        ("network default gw 10.1.1.1", "route r 0.0.0.0/0%0 gw 10.1.1.1\n"),
        ("network default%3 gw 10.1.1.1%3", "route r 0.0.0.0/0%3 gw 10.1.1.1%3\n"),
        ("network 10.0.0.0/8 pool /Common/p", "route r 10.0.0.0/8%0 pool /Common/p\n"),
        ("blackhole network 10.0.0.0/8", "route r 10.0.0.0/8%0 blackhole\n"),
        ("network default-inet6 gw 2001:db8::1", ""),
        (
            "gw none interface /Common/cilium mtu 0 network 10.0.0.0/8 pool none",
            "route r 10.0.0.0/8%0 interface cilium\n",
        ),
    ] {
        assert_eq!(show(&one(&format!("net route r {{ {route} }}"))), expected, "{route}");
    }
}

#[test]
fn unreadable_values_are_left_out_and_listed() {
    let text = "\
net self a { address 10.1.1.300/24 vlan v }
net self b { address 10.1.1.1/24 }
net tunnels tunnel c { key two local-address here profile p }
net tunnels tunnel d { key 2 }
net route e { network 10.0.0.0/8 }
net fdb tunnel f { records { g { endpoint 10.1.1.1 } 0a:0a:0a:00:00:01 { endpoint h } } }
net tunnels vxlan i { port 84720 defaults-from gone }
";
    let device = one(text);
    let unread: Vec<_> = device.unread.iter().map(|unread| format!("{}: {}", unread.at, unread.problem)).collect();
    assert_eq!(
        unread,
        [
            "f:7:48: net tunnels vxlan i, defaults-from: the input does not have gone",
            "f:7:28: net tunnels vxlan i, port: \"84720\" is not a UDP port",
            "f:3:28: net tunnels tunnel c, key: \"two\" is not a number",
            "f:3:46: net tunnels tunnel c, local-address: \"here\" is not an address",
            "f:4:1: net tunnels tunnel d, profile: the tunnel has none",
            "f:1:22: net self a, address: \"10.1.1.300/24\" is not a network",
            "f:2:1: net self b, vlan: the self IP has none",
            "f:5:1: net route e, gw: the route leads nowhere",
            "f:6:30: net fdb tunnel f, records: \"g\" is not a MAC address",
            "f:6:83: net fdb tunnel f, endpoint: \"h\" is not an address",
        ]
    );
    assert_eq!((tunnel(&device).key.value, tunnel(&device).local_address.value), (0, None));
}

#[test]
fn profiles_have_the_properties_of_those_that_they_are_derived_from() {
    let profile = |text: &str, name: &str| {
        let device = one(text);
        let found = device.profiles.into_iter().find(|profile| profile.name.short() == name).expect("a profile");
        (found.kind.to_string(), found.port.value, found.flooding.value.to_string())
    };
    let is = |kind: &str, port, flooding: &str| (kind.to_owned(), port, flooding.to_owned());
    let any = "net arp a { ip-address 10.1.1.1 mac-address 0a:00:00:00:00:01 }\n";
    assert_eq!(profile(any, "vxlan"), is("vxlan", 4789, "multicast"));
    assert_eq!(profile(any, "geneve"), is("geneve", 6081, "multipoint"));
    assert_eq!(profile(any, "vxlan-gpe"), is("vxlan-gpe", 4790, "multipoint"));
    assert_eq!(profile(any, "gre"), is("gre", 0, "none"));
    for (text, expected) in [
        ("net tunnels vxlan p { }", is("vxlan", 4789, "multicast")),
        ("net tunnels vxlan p { defaults-from /Common/vxlan-ovsdb }", is("vxlan", 4789, "replicator")),
        ("net tunnels vxlan p { defaults-from q }\nnet tunnels vxlan q { port 8472 }", is("vxlan", 8472, "multicast")),
        (
            "net tunnels vxlan p { defaults-from q }\nnet tunnels vxlan q { port 1\ndefaults-from p }",
            is("vxlan", 1, "multicast"),
        ),
        ("net tunnels vxlan p { defaults-from vxlan-gpe }", is("vxlan-gpe", 4790, "multipoint")),
        ("net tunnels vxlan p { encapsulation-type vxlan-gpe }", is("vxlan-gpe", 4789, "multicast")),
        (
            "net tunnels vxlan p { defaults-from vxlan }\nnet tunnels vxlan vxlan { flooding-type none }",
            is("vxlan", 4789, "none"),
        ),
        ("net tunnels geneve p { defaults-from geneve }", is("geneve", 6081, "multipoint")),
        ("net tunnels gre p { encapsulation nvgre }", is("gre", 0, "none")),
    ] {
        assert_eq!(profile(text, "p"), expected, "{text}");
    }
    let inherited = one("net tunnels vxlan p {\n defaults-from q\n}\nnet tunnels vxlan q {\n port 8472\n}");
    let port = &inherited.profiles[0].port;
    assert_eq!((port.value, port.is_default, port.at.to_string().as_str()), (8472, true, "f:5:7"));
    assert_eq!(inherited.profiles[0].kind, ProfileKind::Vxlan);
    assert_eq!(inherited.profiles[0].flooding.value, Flooding::Multicast);
}

#[test]
fn names_belong_to_folders() {
    let text = "\
auth partition dmz { default-route-domain 7 }
net tunnels tunnel /dmz/a { local-address 10.1.1.1 profile /Common/vxlan }
net tunnels tunnel dmz/b { local-address 10.1.1.1%0 profile Common/vxlan }
net tunnels tunnel c/d { local-address 10.1.1.1 profile vxlan }
root@(bigip1)(cfg-sync Changes Pending)(Standby)(/dmz/x)(tmos)# list net tunnels tunnel
net tunnels tunnel e { local-address 10.1.1.1 profile vxlan }
cd /Common
net tunnels tunnel f { profile g }
";
    let device = one(text);
    assert_eq!(
        show(&device),
        "tunnel /dmz/a 0 vxlan 10.1.1.1%7\n\
         tunnel /dmz/b 0 vxlan 10.1.1.1\n\
         tunnel c/d 0 vxlan 10.1.1.1\n\
         tunnel /dmz/x/e 0 vxlan 10.1.1.1%7\n\
         tunnel f 0 g any\n"
    );
    assert_eq!(device.tunnels[4].name, ObjectName::new("f", "/Common"));
}
