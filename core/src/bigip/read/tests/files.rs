//! Which files are one BIG-IP, and how much of it they show.

use super::*;

const BASE: &str = "#TMSH-VERSION: 15.1.0.2\n\nsys global-settings {\n    hostname HOST\n}\nnet self /Common/s { address 10.1.1.1/24 vlan /Common/v }\n";
const LTM: &str = "#TMSH-VERSION: 15.1.0.2\n\nltm node /Common/n {\n    address 10.1.1.1\n}\nnet route /Common/r { network 10.0.0.0/8 gw 10.1.1.9 }\n";

fn base(host: &str) -> String {
    BASE.replace("HOST", host)
}

/// The names of the devices, each with its number of self IPs and of routes.
fn names(texts: &[(&str, &str)]) -> Vec<String> {
    let result = of(texts);
    let of_device = |device: &Device| format!("{} {}+{}", device.name, device.self_ips.len(), device.routes.len());
    result.devices.iter().map(of_device).collect()
}

#[test]
fn files_of_a_configuration() {
    let all = |texts: &[(&str, &str)]| {
        let [device] = of(texts).devices.try_into().expect("one");
        device.covered.into_iter().collect::<Vec<_>>()
    };
    let (base, other) = (base("a.example"), "auth partition other { }\n");
    let in_base = [Component::Tunnels, Component::SelfIps, Component::Fdb];
    assert_eq!(all(&[("bigip_base.conf", &base)]), in_base);
    assert_eq!(all(&[("bigip.conf", LTM)]), []);
    assert_eq!(all(&[("bigip_base.conf", &base), ("bigip.conf", LTM)]), Component::ALL);
    assert_eq!(all(&[("all.scf", &format!("{base}{LTM}"))]), Component::ALL);
    assert_eq!(all(&[("bigip_base.conf", &format!("{base}{other}"))]), []);
    assert_eq!(all(&[("bigip_base.conf", &format!("{base}{other}")), ("bigip.conf", LTM)]), []);
    assert_eq!(all(&[("all.scf", &format!("{base}{other}{LTM}"))]), Component::ALL);
    assert_eq!(all(&[("a.ucs!config/bigip_base.conf", &format!("{base}{other}"))]), Component::ALL);
    assert_eq!(all(&[("list.txt", "net self s { address 10.1.1.1/24 vlan v }")]), [Component::SelfIps]);
    assert_eq!(all(&[("list.txt", "net fdb tunnel t { }")]), [Component::Fdb]);
    assert_eq!(all(&[("cut.scf", &format!("{base}{LTM}net self b {{\n"))]), []);
}

#[test]
fn hostnames_tell_two_units_apart() {
    let (one, two) = (base("a.example"), base("b.example"));
    assert_eq!(names(&[("1", &one), ("2", &two)]), ["a.example 1+0", "b.example 1+0"]);
    assert_eq!(names(&[("1", &one), ("2", &one)]), ["a.example 1+0"]);
    assert_eq!(names(&[("1", &one), ("x", LTM)]), ["a.example 1+1"]);
    assert_eq!(
        names(&[("a/base", &one), ("b/base", &two), ("a/conf", LTM), ("b/conf", LTM)]),
        ["a.example 1+1", "b.example 1+1"]
    );
    assert_eq!(names(&[("1.ucs!x", &one), ("2.ucs!x", &one)]), ["a.example 1+0"; 2], "backups of two days");
    assert_eq!(names(&[("1.ucs!x", LTM), ("2.ucs!x", LTM)]), ["1.ucs 0+1", "2.ucs 0+1"]);
    let log = "root@(a)(tmos)# list net self\nnet self t { address 10.2.1.1/24 vlan v }\n";
    assert_eq!(names(&[("1", &one), ("2", log)]), ["a.example 2+0"]);
    let both = format!("{log}{}", log.replace("(a)", "(b)"));
    assert_eq!(names(&[("2", &both)]), ["a 1+0", "b 1+0"]);
    let result = of(&[("1", &one), ("2", &two), ("x", LTM)]);
    assert!(result.notes[0].contains("x: it has no hostname, so it counts as a part of b.example"), "{result:?}");
}

#[test]
fn without_hostnames_the_objects_tell() {
    let tunnel = "net tunnels tunnel t { key 2 local-address 10.9.1.1 profile p }\n";
    let other = tunnel.replace("10.9.1.1", "10.9.1.2");
    let one = "net self s { address 10.1.1.1/24 vlan v }\n";
    let parts = |texts: &[&str]| {
        let texts: Vec<_> = texts.iter().map(|text| ("f", *text)).collect();
        of(&texts).devices.len()
    };
    assert_eq!(parts(&[tunnel, one, LTM]), 1, "disjoint");
    assert_eq!(parts(&[tunnel, tunnel]), 1, "the same");
    assert_eq!(parts(&[tunnel, &other]), 2, "the same tunnel with another address");
    assert_eq!(parts(&[one, "net self s { address 10.1.1.1/255.255.255.0 vlan /Common/v }"]), 1, "another notation");
    assert_eq!(parts(&[one, "net self s2 { address 10.1.1.2/24 vlan v }"]), 2, "self IPs belong to a unit");
    assert_eq!(parts(&[one, "net self /p/s { address 10.1.1.2/24 vlan v }"]), 1, "another partition's");
}

#[test]
fn each_property_has_the_place_where_it_is() {
    let list = "net tunnels tunnel t {\n    key 2\n    local-address 10.1.1.1\n    profile p\n}\n";
    let fix = "create net tunnels tunnel t profile p mtu 1450\n";
    let device = of(&[("list", list), ("fix", fix)]).devices.remove(0);
    let tunnel = tunnel(&device);
    let places = [&tunnel.at, &tunnel.key.at, &tunnel.profile.at, &tunnel.mtu.at].map(ToString::to_string);
    assert_eq!(places, ["list:1:1", "list:2:9", "fix:1:37", "fix:1:43"]);
}

#[test]
fn other_text() {
    let ReadResult { devices, notes } = of(&[("f", "Dear all,\n\nwe have no list.\n")]);
    assert_eq!(devices, []);
    assert_eq!(
        notes,
        [
            "f: it shows no object that a tunnel consists of",
            "f:1:1: 2 lines are no output, file or command of BIG-IP, from this one on"
        ]
    );
    let ReadResult { devices, notes } = of(&[("f", "see below\nnet self s { address 10.1.1.1/24 vlan v }\n}\n")]);
    assert_eq!(devices.len(), 1);
    assert_eq!(notes, ["f:1:1: 2 lines are no output, file or command of BIG-IP, from this one on"]);
    assert_eq!(of(&[("f", "")]).devices, []);
}

#[test]
fn a_text_that_is_cut_off_gives_what_is_before() {
    let whole = include_str!("../../../../../tests/fixtures/bigip/lab-guide.tmsh");
    let cut = whole.find("local-address").expect("it has one") + 5;
    let ReadResult { devices, notes } = of(&[("f", &whole[..cut])]);
    assert_eq!(
        show(&devices[0]),
        "vxlan vxlan_profi 8472 multipoint\nself SelfKube 10.80.255.202/24%0 default VlanKube\n"
    );
    covers(&devices[0], &[]);
    assert_eq!(notes, ["f:20:1: expected `}`: the text ends in the middle of this stanza"]);
}

#[test]
fn a_guide_in_prose() {
    let guide = include_str!("../../../../../tests/fixtures/bigip/guide.rst");
    let ReadResult { devices, notes } = of(&[("guide.rst", guide)]);
    assert_eq!(
        show(&devices[0]),
        "vxlan fl-vxlan 8472 multipoint\n\
         tunnel flannel_vxlan 2 fl-vxlan 10.169.72.34\n\
         self 10.1.6.34 10.1.6.34/24%0 default flannel_vxlan\n\
         route pods 10.0.0.0/16%0 interface flannel_vxlan\n\
         arp 10.0.0.130 06:a6:6e:b5:69:2c flannel_vxlan\n"
    );
    assert!(notes[0].starts_with("guide.rst:1:1: ") && notes.len() == 1, "{notes:?}");
}
