//! The tap with frames as real networks deliver them: headers with options, without checksums, in fragments.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{libc, setsockopt_impl, sockopt_impl, sys::socket::setsockopt};
use vtep_core::{
    diagnosis::{Cause, Verdict},
    report::status::Status,
    tunnel::vtep_probes::Origin,
};
use vtep_lab::{BIGIP_TUNNEL, Lab};

use crate::{
    far_end::{Chatter, ask_for_node, bigip, on_bigip, tunnel},
    outage::untold,
    support::{Agent, HEALTHY_WITHIN, all_healthy, eventually, run},
};

/// The documents promise 1 s.
const SEEN_WITHIN: Duration = Duration::from_secs(20);

sockopt_impl!(
    /// `IP_OPTIONS` (ip(7)): four of them are one word of the header.
    IpOptions,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_OPTIONS,
    [u8; 4]
);
sockopt_impl!(
    /// `SO_NO_CHECK`: UDP without a checksum, which some tunnels send.
    NoChecksum,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_NO_CHECK,
    bool
);

/// An inner IPv4 frame from BIG-IP's self IP; the tap reads only up to its addresses.
fn inner() -> Vec<u8> {
    inner_from([10, 1, 6, 34])
}

fn inner_from(source: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0; 14 + 20];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    frame[14 + 12..14 + 16].copy_from_slice(&source);
    frame
}

/// RFC 7348, section 5.
fn vxlan(vni: u8) -> Vec<u8> {
    [&[8, 0, 0, 0, 0, 0, vni, 0][..], &inner()].concat()
}

/// RFC 8926, section 3.4, with two words of options.
fn geneve(vni: u8) -> Vec<u8> {
    let options = [1, 2, 0x80, 1, 0xaa, 0xbb, 0xcc, 0xdd];
    [&[2, 0, 0x65, 0x58, 0, 0, vni, 0][..], &options, &inner()].concat()
}

/// Sends from the first BIG-IP's endpoint to the node, through a socket with these settings.
fn send(lab: &Lab, port: u16, payload: Vec<u8>, prepare: fn(&UdpSocket) -> nix::Result<()>) -> Result<()> {
    let (from, to) = (bigip(lab).addresses.underlay_ip, lab.topology.node_ip);
    bigip(lab).host.run(move || {
        let socket = UdpSocket::bind((from, 0))?;
        prepare(&socket)?;
        socket.send_to(&payload, (to, port))?;
        Ok(())
    })
}

fn plain(_: &UdpSocket) -> nix::Result<()> {
    Ok(())
}

#[test]
fn frames_are_read_as_networks_deliver_them() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let vnis = |status: &Status| status.vteps[0].seen.vnis.clone();
    // The agent lists only streams that persist.
    let status = eventually("each is seen", SEEN_WITHIN, || {
        send(&lab, 8472, vxlan(21), |socket| setsockopt(socket, IpOptions, &[1, 1, 1, 0]))?;
        send(&lab, 8472, vxlan(22), |socket| setsockopt(socket, NoChecksum, &true))?;
        send(&lab, 6081, geneve(23), plain)?;
        send(&lab, 4789, vxlan(24), plain)?;
        let status = agent.status()?.context("a status")?;
        Ok([21, 22, 23, 24].iter().all(|vni| vnis(&status).contains(vni)).then_some(status))
    })?;
    ensure!([4789, 6081, 8472].iter().all(|port| status.vteps[0].seen.ports.contains(port)), "{:?}", status.vteps[0]);
    ensure!(status.tap.malformed == 0 && status.tap.fragments == 0, "{:?}", status.tap);

    // Cut in the tunnel's header, right after it, inside the frame, and with IP options.
    send(&lab, 8472, vec![8, 0, 0], plain)?;
    send(&lab, 8472, vxlan(25)[..8].to_vec(), plain)?;
    send(&lab, 8472, vxlan(25)[..8 + 33].to_vec(), plain)?;
    send(&lab, 8472, vec![8; 7], |socket| setsockopt(socket, IpOptions, &[1, 1, 1, 0]))?;
    agent.wait_for("what is cut short is counted", SEEN_WITHIN, |status| status.tap.malformed == 4)?;
    // Three fragments: the first has the headers, and counts as a frame.
    send(&lab, 8472, [vxlan(26), vec![0; 4000]].concat(), plain)?;
    let status = agent.wait_for("pieces are counted", SEEN_WITHIN, |status| {
        status.tap.fragments == 2 && status.vteps[0].seen.other_streams > 0
    })?;
    ensure!(!vnis(&status).contains(&26), "seen once: {:?}", vnis(&status));
    ensure!(all_healthy(&status), "and none of it troubles anybody: {:?}", status.vteps);
    Ok(())
}

/// Whoever can send with the endpoint's address as the source can invent VNIs. They displace nothing of BIG-IP's, and no hint names them.
#[test]
fn a_flood_of_invented_vnis_hides_nothing_and_names_nothing() -> Result<()> {
    let lab = Lab::start()?;
    on_bigip(&lab, &format!("link set {BIGIP_TUNNEL} down"))?;
    let agent = Agent::start_with_seed(&lab)?;
    let first = |status: &Status| status.vteps.first().cloned();
    agent.wait_for("the second is healthy", HEALTHY_WITHIN, |status| {
        status.vteps.get(1).is_some_and(|vtep| vtep.verdict == Verdict::Healthy)
    })?;
    flood(&lab)?;
    // The agent counts an endpoint's packets before each round of probes, and its streams every second. How many of them the map still has
    // is the kernel's choice: see `FLOWS_MAX`.
    let status = agent.wait_for("the flood is seen", SEEN_WITHIN, |status| {
        first(status).is_some_and(|vtep| vtep.seen.packets >= u64::from(FLOOD) && vtep.seen.other_streams > 0)
    })?;
    let vtep = first(&status).context("a VTEP")?;
    ensure!(vtep.seen.vnis.is_empty(), "{vtep:?}");
    ensure!(status.tap.overflows == 0, "{:?}", status.tap);

    on_bigip(&lab, &format!("link set {BIGIP_TUNNEL} up\nroute add {} dev {BIGIP_TUNNEL}", lab.topology.cluster_cidr))?;
    let _chatter = Chatter::start(&lab)?;
    agent.wait_for("BIG-IP's own frames are recorded", HEALTHY_WITHIN, |status| {
        all_healthy(status) && first(status).is_some_and(|vtep| vtep.seen.vnis == [2])
    })?;

    // While it does not answer, a flood is no cause either.
    on_bigip(&lab, &format!("link set {BIGIP_TUNNEL} down"))?;
    let silent = |status: &Status| first(status).is_some_and(|vtep| vtep.cause == Some(Cause::TunnelSilent));
    agent.wait_for("the silence is named", SEEN_WITHIN, silent)?;
    flood(&lab)?;
    let status = agent.wait_for("the flood is seen", SEEN_WITHIN, |status| {
        first(status).is_some_and(|vtep| vtep.seen.packets >= 2 * u64::from(FLOOD))
    })?;
    let rounds = |status: &Status| first(status).map_or(0, |vtep| vtep.probes.icmp.sent);
    let before = rounds(&status);
    let status = agent.wait_for("its streams are read", SEEN_WITHIN, |status| rounds(status) >= before + 3)?;
    ensure!(silent(&status), "{status:?}");
    // The real mistake is still found.
    tunnel(&lab, 3, lab.topology.tunnel_port, bigip(&lab).addresses.underlay_ip)?;
    let _chatter = Chatter::start(&lab)?;
    let status = agent.wait_for("the VNI is named", HEALTHY_WITHIN, |status| {
        first(status).is_some_and(|vtep| vtep.cause == Some(Cause::WrongVni))
    })?;
    let vtep = first(&status).context("a VTEP")?;
    let hint = vtep.hint.as_deref().unwrap_or_default();
    ensure!(hint.contains("its frames carry VNI 3"), "{hint}");
    ensure!(vtep.seen.vnis == [2, 3], "{vtep:?}");
    Ok(())
}

/// Before Linux 6.7, a socket takes no filter of more than 20 kB (`net.core.optmem_max`). The kernel counts whole pages here.
#[test]
fn its_programs_are_small_enough_for_older_kernels() -> Result<()> {
    const SOCKET_FILTER: &str = "prog_type:\t1\n";
    const MOST: u64 = 4 * 4096;
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let mut sizes = Vec::new();
    for descriptor in fs::read_dir(format!("/proc/{}/fdinfo", agent.pid()?))? {
        // The agent may close one meanwhile.
        let info = fs::read_to_string(descriptor?.path()).unwrap_or_default();
        if info.contains(SOCKET_FILTER) {
            let size = info.lines().find_map(|line| line.strip_prefix("memlock:")).context("a size")?;
            sizes.push(size.trim().parse::<u64>()?);
        }
    }
    ensure!(sizes.len() == 2 && sizes.iter().all(|size| *size <= MOST), "{sizes:?}");
    Ok(())
}

/// The tap does not record the source of each of BIG-IP's own frames, but of each other one. These must not take its place.
#[test]
fn frames_from_elsewhere_do_not_hide_the_self_ip() -> Result<()> {
    let lab = Lab::start()?;
    // It answers no request, so only frames show its self IP.
    on_bigip(&lab, &format!("link set {BIGIP_TUNNEL} down"))?;
    let agent = untold(&lab)?;
    agent.wait_for("the second is healthy", HEALTHY_WITHIN, |status| {
        status.vteps.get(1).is_some_and(|vtep| vtep.verdict == Verdict::Healthy)
    })?;
    let frames = [[10, 1, 6, 34], [192, 0, 2, 1]].map(|source| [&vxlan(2)[..8], &inner_from(source)].concat());
    let (from, to) = (bigip(&lab).addresses.underlay_ip, lab.topology.node_ip);
    // One thread sends all of them once: the tap has a record for each processor, and a later reading would see a later frame.
    bigip(&lab).host.run(move || {
        let socket = UdpSocket::bind((from, 0))?;
        for frame in frames.iter().cycle().take(20) {
            socket.send_to(frame, (to, 8472))?;
        }
        Ok(())
    })?;
    agent.wait_for("its self IP is learned", SEEN_WITHIN, |status| {
        let vtep = &status.vteps[0];
        vtep.probes.arp.target_origin == Some(Origin::Learned) && vtep.seen.packets >= 20
    })?;
    Ok(())
}

/// A pod is not tested by any probe, but BIG-IP's own connections show whether it answers.
#[test]
fn connections_of_bigip_show_whether_pods_answer() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let pods = |status: &Status| status.vteps.iter().map(|vtep| vtep.seen.pods).collect::<Vec<_>>();
    let status = agent.status()?.context("a status")?;
    ensure!(pods(&status).iter().all(|pods| pods.asked_at.is_none() && pods.answered_at.is_none()), "{status:?}");
    let at = SocketAddr::from((lab.topology.pod_ip, 8080));
    let connect = || bigip(&lab).host.run(move || Ok(TcpStream::connect_timeout(&at, Duration::from_secs(5)).is_ok()));
    ensure!(!connect()?, "nobody listens");
    let status = agent.wait_for("it asks", SEEN_WITHIN, |status| pods(status)[0].asked_at.is_some())?;
    ensure!(pods(&status)[0].answered_at.is_none(), "a refusal is no answer of a service: {status:?}");
    let table = |words: &str| -> Result<()> {
        let table = String::from_utf8(run(&lab, &["status"])?.stdout)?;
        ensure!(table.contains(words), "{table}");
        Ok(())
    };
    table("not tested from a pod")?;
    let _listener = lab.pod.run(move || Ok(TcpListener::bind(at)?))?;
    ensure!(connect()?, "it answers");
    let status = agent.wait_for("it is answered", SEEN_WITHIN, |status| pods(status)[0].answered_at.is_some())?;
    ensure!(pods(&status)[1].answered_at.is_none(), "{status:?}");
    table("pods answer 10.1.6.0/24,")
}

/// More frames than the tap has room for streams.
const FLOOD: u32 = 3000;

/// Frames from the first BIG-IP's address, each with another VNI.
fn flood(lab: &Lab) -> Result<()> {
    let (from, to) = (bigip(lab).addresses.underlay_ip, lab.topology.node_ip);
    bigip(lab).host.run(move || {
        let socket = UdpSocket::bind((from, 0))?;
        for n in 0..FLOOD {
            let [_, vni @ ..] = (1000 + 4111 * n).to_be_bytes();
            let header = [8, 0, 0, 0, vni[0], vni[1], vni[2], 0];
            socket.send_to(&[&header[..], &inner()].concat(), (to, 8472))?;
        }
        Ok(())
    })
}

/// Another host of the network has BIG-IP's address as well. The node's own ARP cache has one of the two, and the tap sees both.
#[test]
fn two_hosts_with_the_endpoints_address_are_named() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let other = &lab.bigips[1].host;
    other.ip(&format!("address add {}/32 dev eth0", bigip(&lab).addresses.underlay_ip))?;
    let mut last = None;
    let status = eventually("the conflict is named", HEALTHY_WITHIN, || {
        ask_for_node(&lab, other)?;
        thread::sleep(Duration::from_millis(700));
        last = agent.status()?;
        Ok(last.clone().filter(|status| status.vteps[0].cause == Some(Cause::SelfIpConflict)))
    });
    let status = status.with_context(|| format!("last status: {last:#?}"))?;
    let hint = status.vteps[0].hint.as_deref().unwrap_or_default();
    let macs = lab.bigips.iter().take(2).map(|bigip| Ok(bigip.host.link("eth0")?.mac.to_string().to_lowercase()));
    for mac in macs.collect::<Result<Vec<_>>>()? {
        ensure!(hint.contains(&mac), "{mac} is not in {hint}");
    }
    ensure!(hint.starts_with("take the address 10.169.72.34 of"), "{hint}");
    ensure!(status.vteps[1].cause.is_none(), "{:?}", status.vteps[1]);
    agent.wait_for("both are healthy again", 2 * HEALTHY_WITHIN, all_healthy)?;
    Ok(())
}
