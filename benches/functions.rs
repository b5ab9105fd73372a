//! The time that pure functions take, each compared with std's hash of 64 KiB: plain code without
//! special instructions, which depends on the machine as they do.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

mod support;

use std::{
    hash::{DefaultHasher, Hasher},
    hint::black_box,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use support::{Figure, Report, Unit};
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

const RUNS: usize = 7;
/// Each run repeats the function for about this long, and the yardstick before and after it for half of that.
const RUN: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    support::run(&[("functions", "Pure functions", |report| {
        let mut bench = Bench { report, yardsticks: Vec::new() };
        configuration(&mut bench);
        planning(&mut bench);
        frames(&mut bench);
        bigip(&mut bench);
        let Bench { report, yardsticks } = bench;
        report.figure(&Figure::new("siphash-of-64-kib", Unit::Nanoseconds, yardsticks));
        Ok(())
    })])
}

struct Bench<'r> {
    report: &'r mut Report,
    yardsticks: Vec<f64>,
}

impl Bench<'_> {
    /// The yardstick is measured around each run, because a processor that others use is not always as fast.
    fn function<T>(&mut self, name: &str, mut work: impl FnMut() -> T) {
        let data = vec![113; 64 << 10];
        let mut yardstick = || {
            let mut hasher = DefaultHasher::new();
            hasher.write(black_box(&data));
            hasher.finish()
        };
        let (calls, hashes) = (calls(&mut work), calls(&mut yardstick) / 2);
        let (mut runs, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let before = time(&mut yardstick, hashes);
            let run = time(&mut work, calls);
            let around = f64::midpoint(before, time(&mut yardstick, hashes));
            runs.push(run);
            ratios.push(run / around);
            self.yardsticks.push(around);
        }
        self.report.figure(&Figure::new(name, Unit::Nanoseconds, runs));
        self.report.ratio(name, "siphash-of-64-kib", &ratios, &[1.0]);
    }
}

/// How many calls take as long as a run.
fn calls<T>(work: &mut impl FnMut() -> T) -> u32 {
    // The first call is slow.
    time(work, 1);
    (RUN.as_secs_f64() * 1e9 / time(work, 3)).clamp(2.0, 10e6) as u32
}

/// The nanoseconds of a call, as the mean of so many.
fn time<T>(work: &mut impl FnMut() -> T, calls: u32) -> f64 {
    let begin = Instant::now();
    for _ in 0..calls {
        black_box(work());
    }
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}

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

fn configuration(bench: &mut Bench<'_>) {
    let keys = eight_vteps();
    bench.function("parse-eight-vteps", || parse(black_box(&keys)));
}

fn planning(bench: &mut Bench<'_>) {
    let desired = state::State { entries: state::entries(&vteps()), ..state::State::default() };
    let empty = state::State::default();
    let retain = Retain::default();
    bench.function("plan-eight-entries-in-sync", || plan(black_box(&desired), black_box(&desired), &retain, 8));
    bench.function("plan-eight-entries-into-empty-map", || plan(black_box(&empty), black_box(&desired), &retain, 8));
}

fn frames(bench: &mut Bench<'_>) {
    let tunnel = Tunnel::default();
    let request = || arp_request(tunnel.protocol, [2; 6].into(), [10, 0, 0, 126].into(), [10, 1, 6, 34].into());
    bench.function("encode-arp-request", || black_box(request()));
    let mut payload = request();
    // VXLAN header, Ethernet header, and the low byte of ARP's operation.
    payload[8 + 14 + 7] = 2;
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4([10, 169, 72, 34], [10, 169, 72, 239], 64)
        .udp(40000, tunnel.port)
        .write(&mut packet, &payload)
        .expect("a Vec takes all");
    assert!(tunnel_arp_reply(&packet, tunnel).is_some());
    bench.function("decode-arp-reply", || tunnel_arp_reply(black_box(&packet), tunnel));
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

fn bigip(bench: &mut Bench<'_>) {
    let text = bigip_conf();
    let texts = [(Arc::from("bigip.conf"), text.as_str())];
    let device = &vtep_core::bigip::read(&texts).devices[0];
    assert!(device.self_ips.len() > 100 && device.self_ips.len() == device.routes.len() && !device.covered.is_empty());
    bench.function("read-bigip-conf-of-5-mib", || vtep_core::bigip::read(black_box(&texts)));
}
