//! The time that pure functions take.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use vtep_core::{
    config::{
        Keys,
        parse::parse,
        spec::{Tunnel, Vtep},
    },
    datapath::{
        plan::{Retain, plan},
        state,
    },
    tunnel::frames::{arp_request, tunnel_arp_reply},
};

fn eight_vteps() -> Keys {
    let list = |value: fn(usize) -> String| (0..8).map(value).collect::<Vec<_>>().join("   ");
    Keys::from([
        ("enable-vtep".into(), "true".into()),
        ("vtep-endpoint".into(), list(|n| format!("10.169.72.{}", 34 + n))),
        ("vtep-cidr".into(), list(|n| format!("10.1.{n}.0/24"))),
        ("vtep-mac".into(), list(|n| format!("00:50:56:a0:7d:{n:02x}"))),
        ("vtep-mask".into(), "255.255.255.0".into()),
    ])
}

fn vteps() -> Vec<Vtep> {
    parse(&eight_vteps()).lines.iter().filter_map(|line| line.vtep).collect()
}

fn configuration(c: &mut Criterion) {
    let keys = eight_vteps();
    c.bench_function("parse 8 VTEPs with all rules", |b| b.iter(|| parse(black_box(&keys))));
}

fn planning(c: &mut Criterion) {
    let desired = state::State { entries: state::entries(&vteps()), ..state::State::default() };
    let empty = state::State::default();
    let retain = Retain::default();
    c.bench_function("plan 8 entries, in sync", |b| {
        b.iter(|| plan(black_box(&desired), black_box(&desired), &retain, 8));
    });
    c.bench_function("plan 8 entries, empty map", |b| {
        b.iter(|| plan(black_box(&empty), black_box(&desired), &retain, 8));
    });
}

fn frames(c: &mut Criterion) {
    let tunnel = Tunnel::default();
    let request = || arp_request(tunnel.protocol, [2; 6].into(), [10, 0, 0, 126].into(), [10, 1, 6, 34].into());
    c.bench_function("encode an ARP request", |b| b.iter(|| black_box(request())));
    let mut payload = request();
    // VXLAN header, Ethernet header, and the low byte of ARP's operation.
    payload[8 + 14 + 7] = 2;
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4([10, 169, 72, 34], [10, 169, 72, 239], 64)
        .udp(40000, tunnel.port)
        .write(&mut packet, &payload)
        .expect("a Vec takes all");
    assert!(tunnel_arp_reply(&packet, tunnel).is_some());
    c.bench_function("decode an ARP reply", |b| b.iter(|| tunnel_arp_reply(black_box(&packet), tunnel)));
}

/// A `bigip.conf` of 5 MiB, mostly pools and iRules, with some objects of `net` among them.
fn bigip_conf() -> String {
    const RULE: &str = "when HTTP_REQUEST {\n    if { [HTTP::uri] starts_with \"/a\" } {\n        # don't { log\n        pool /Common/p\n    }\n    }\n}\n";
    let mut text = "#TMSH-VERSION: 15.1.0.2\n\nsys global-settings {\n    hostname bigip1.example\n}\n".to_owned();
    for n in 0.. {
        text += &format!(
            "ltm pool /Common/p{n} {{\n    members {{\n        /Common/n{n}:80 {{\n            address 10.0.0.1\n        }}\n    }}\n    description \"a }} pool\"\n}}\nltm rule /Common/r{n} {{\n{RULE}}}\n"
        );
        if n % 50 == 0 {
            text += &format!(
                "net self /Common/s{n} {{\n    address 10.1.1.1/24\n    allow-service {{\n        default\n    }}\n    vlan /Common/v\n}}\nnet route /Common/t{n} {{\n    gw 10.1.1.9\n    network 10.0.0.0/16\n}}\n"
            );
        }
        if text.len() >= 5 << 20 {
            break;
        }
    }
    text
}

fn bigip(c: &mut Criterion) {
    let text = bigip_conf();
    let texts = [(Arc::from("bigip.conf"), text.as_str())];
    let device = &vtep_core::bigip::read(&texts).devices[0];
    assert!(device.self_ips.len() > 100 && device.self_ips.len() == device.routes.len() && !device.covered.is_empty());
    c.bench_function("read a bigip.conf of 5 MiB", |b| b.iter(|| vtep_core::bigip::read(black_box(&texts))));
}

criterion_group!(benches, configuration, planning, frames, bigip);
criterion_main!(benches);
