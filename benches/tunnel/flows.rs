//! Eight VTEPs with 10,000 flows each: whether the number of flows costs the agent time or memory.
//!
//! The tap keeps a place for each VTEP, and at most 256 for frames with other VNIs and ports; it keeps nothing for an inner flow. So the
//! figures compare the same number of packets in 80,000 flows and in eight.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Instant,
};

use crate::support::{Agent, Figure, Report, Unit, cpu_time, eight_bigips, resident_mb};
use anyhow::{Context, Result, ensure};
use vtep_lab::{Config, Lab};

const RUNS: usize = 5;
/// Of each VTEP.
const FLOWS: u16 = 10_000;
const FIRST_PORT: u16 = 20_000;
const PORT: u16 = 4000;

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let lab = Lab::builder().topology(eight_bigips()?).start()?;
    lab.config.write(&Config::keys_for(&lab.topology.vteps()))?;
    let agent = Agent::start(&lab, &[])?;
    // It takes the packets, so that the pod does not answer that nobody listens.
    let pod_ip = lab.topology.pod_ip;
    let _receiver = lab.pod.run(|| Ok(UdpSocket::bind((pod_ip, PORT))?))?;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    // Before any flow, and after each run.
    let (mut memory, mut maps) = (Vec::new(), vec![maps_bytes(agent.pid())?]);
    for _ in 0..RUNS {
        few.push(share_while(&agent, || send(&lab, 1))?);
        many.push(share_while(&agent, || send(&lab, FLOWS))?);
        memory.push(resident_mb(agent.pid())?);
        maps.push(maps_bytes(agent.pid())?);
    }
    report.figure(&Figure::new("share-of-core-with-8-flows", Unit::Percent, few.clone()));
    report.figure(&Figure::new("share-of-core-with-80000-flows", Unit::Percent, many.clone()));
    report.ratio("share-of-core-with-80000-flows", "with-8-flows", &many, &few);
    report.figure(&Figure::new("memory-with-80000-flows", Unit::Megabytes, memory).promise(8.0));
    report.figure(&Figure::new("kernel-memory-of-maps", Unit::Bytes, maps));
    Ok(())
}

/// The agent's share of a core while something happens.
fn share_while(agent: &Agent, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let (begin, before) = (Instant::now(), cpu_time(agent.pid())?);
    work()?;
    Ok((cpu_time(agent.pid())? - before).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0)
}

/// As many packets from each BIG-IP as there are flows at most, from so many ports.
fn send(lab: &Lab, ports: u16) -> Result<()> {
    let to = SocketAddrV4::new(lab.topology.pod_ip, PORT);
    for bigip in &lab.bigips {
        let self_ip: Ipv4Addr = bigip.addresses.self_ip.addr();
        bigip.host.run(|| {
            for n in 0..FLOWS {
                // A socket for each packet in both cases, so that the sender's part is the same.
                let socket = UdpSocket::bind((self_ip, FIRST_PORT + n % ports))?;
                socket.send_to(&[0; 64], to)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The kernel's memory of all BPF maps that a process has open.
fn maps_bytes(pid: u32) -> Result<f64> {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed meanwhile.
        let Ok(info) = fs::read_to_string(entry?.path()) else { continue };
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
            maps.insert(id.to_owned(), bytes.parse::<f64>().context("a number of bytes")?);
        }
    }
    ensure!(!maps.is_empty(), "the agent has no map");
    Ok(maps.into_values().sum())
}
