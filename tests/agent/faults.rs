//! The fault matrix: for each fault in a healthy lab the agent names the cause, with the observed value, and clears it after the repair, and
//! names nothing else before, between and after. Prints a table.

use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use vtep_core::{
    diagnosis::{Cause, Verdict},
    report::status::Status,
    tunnel::vtep_probes::ProbeState,
};
use vtep_lab::{BIGIP_TUNNEL, CILIUM_RUN, Config, Faults, Lab, Mac, Vtep};

use crate::{
    configured_lab::{ConfiguredLab, Source, both, with_each_source},
    far_end::{Chatter, bigip, filter, flood_to, on_bigip, tunnel, unfilter},
    history,
    support::{Agent, all_healthy, eventually},
};

/// The documents promise 10 s to name a cause, and 10 s to clear it.
const WITHIN: Duration = Duration::from_secs(100);

/// Injects a fault, and repairs it; the second BIG-IP is never affected.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    cause: Cause,
    /// Words that the hint must contain.
    words: &'static str,
    /// The fault shows only in traffic that a BIG-IP sends by itself.
    pub(crate) traffic: Option<fn(&Lab) -> Result<Chatter>>,
    pub(crate) inject: fn(&mut ConfiguredLab) -> Result<()>,
    pub(crate) repair: fn(&mut ConfiguredLab) -> Result<()>,
}

fn own_tunnel(lab: &mut ConfiguredLab) -> Result<()> {
    let vtep_lab::BigIpAddresses { underlay_ip, vni, .. } = bigip(lab).addresses;
    tunnel(lab, vni, lab.topology.tunnel_port, underlay_ip)
}

fn unfiltered(lab: &mut ConfiguredLab) -> Result<()> {
    unfilter(lab)
}

/// The second BIG-IP sends with the self IP of the first.
fn second_as_first(lab: &Lab) -> Result<Chatter> {
    Chatter::of(&lab.bigips[1].host, lab, &["-I", "10.1.6.34"])
}

/// Adds a rule to a chain of its own on the node.
fn on_node(lab: &ConfiguredLab, hook: &str, rule: &str) -> Result<()> {
    lab.node.nft("add table ip lab")?;
    lab.node.nft(&format!("add chain ip lab {hook} {{ type filter hook {hook} priority 0 ; }}"))?;
    lab.node.nft(&format!("add rule ip lab {hook} {rule}"))
}

fn unfiltered_node(lab: &mut ConfiguredLab) -> Result<()> {
    lab.node.nft("delete table ip lab")
}

/// Sets `rp_filter` for Cilium's devices on the node.
fn rp_filter(lab: &ConfiguredLab, value: u8) -> Result<()> {
    lab.node.run(move || {
        for device in ["cilium_host", "cilium_vxlan"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{device}/rp_filter"), value.to_string())?;
        }
        Ok(())
    })
}

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "no FDB record for this node",
        cause: Cause::NoReturnPath,
        words: "only by way of the node 10.169.72.233",
        traffic: None,
        inject: |lab| {
            let other = lab.topology.other_node_ip.context("another node")?;
            let local = bigip(lab).addresses.underlay_ip;
            flood_to(lab, other, &format!("id 2 dstport 8472 local {local} nolearning"))
        },
        repair: own_tunnel,
    },
    Fault {
        name: "another MAC on the far side",
        cause: Cause::VtepMacMismatch,
        words: "00:50:56:00:00:99",
        traffic: None,
        inject: |lab| on_bigip(lab, &format!("link set {BIGIP_TUNNEL} address 00:50:56:00:00:99")),
        repair: |lab| {
            let mac = bigip(lab).addresses.mac;
            on_bigip(lab, &format!("link set {BIGIP_TUNNEL} address {mac}"))
        },
    },
    Fault {
        name: "a multicast vtep-mac",
        cause: Cause::VtepMacMismatch,
        words: "group address",
        traffic: None,
        inject: |lab| lab.edit(|vtep| vtep.mac = Mac([1, 0x50, 0x56, 0xa0, 0x7d, 0xd8])),
        repair: ConfiguredLab::undo_edit,
    },
    Fault {
        name: "VNI 3",
        cause: Cause::WrongVni,
        words: "VNI 3",
        traffic: Some(Chatter::start),
        inject: |lab| tunnel(lab, 3, lab.topology.tunnel_port, bigip(lab).addresses.underlay_ip),
        repair: own_tunnel,
    },
    Fault {
        name: "UDP port 4789",
        cause: Cause::WrongUdpPort,
        words: "4789",
        traffic: Some(Chatter::start),
        inject: |lab| tunnel(lab, 2, 4789, bigip(lab).addresses.underlay_ip),
        repair: own_tunnel,
    },
    Fault {
        name: "another local address",
        cause: Cause::WrongSource,
        words: "10.169.72.134",
        traffic: Some(Chatter::start),
        inject: |lab| {
            on_bigip(lab, "address add 10.169.72.134/24 dev eth0")?;
            tunnel(lab, 2, lab.topology.tunnel_port, [10, 169, 72, 134].into())
        },
        repair: |lab| {
            own_tunnel(lab)?;
            on_bigip(lab, "address del 10.169.72.134/24 dev eth0")
        },
    },
    Fault {
        name: "a self IP that moved to the other BIG-IP",
        cause: Cause::WrongSource,
        words: "to 10.169.72.36: frames of 10.1.6.34 come from 10.169.72.36, the endpoint of another VTEP",
        traffic: Some(second_as_first),
        inject: |lab| {
            on_bigip(lab, &format!("address del {} dev {BIGIP_TUNNEL}", bigip(lab).addresses.self_ip))?;
            lab.bigips[1].host.ip(&format!("address add 10.1.6.34/32 dev {BIGIP_TUNNEL}")).map(drop)
        },
        repair: |lab| {
            lab.bigips[1].host.ip(&format!("address del 10.1.6.34/32 dev {BIGIP_TUNNEL}"))?;
            own_tunnel(lab)
        },
    },
    Fault {
        name: "a self IP that no device has",
        cause: Cause::TunnelSilent,
        words: "; or no device has the ",
        traffic: None,
        inject: |lab| on_bigip(lab, &format!("address del {} dev {BIGIP_TUNNEL}", bigip(lab).addresses.self_ip)),
        repair: own_tunnel,
    },
    Fault {
        name: "both BIG-IPs have the first one's self IP",
        cause: Cause::SelfIpConflict,
        words: "00:50:56:86:6b:28 from 10.169.72.36 and 00:50:56:a0:7d:d8 from 10.169.72.34",
        traffic: Some(second_as_first),
        inject: |lab| lab.bigips[1].host.ip(&format!("address add 10.1.6.34/32 dev {BIGIP_TUNNEL}")).map(drop),
        repair: |lab| lab.bigips[1].host.ip(&format!("address del 10.1.6.34/32 dev {BIGIP_TUNNEL}")).map(drop),
    },
    Fault {
        name: "no flood entry for this node",
        // Linux answers ARP through the same table, so no answer arrives at all.
        cause: Cause::TunnelSilent,
        words: "this node (10.169.72.239)",
        traffic: None,
        inject: |lab| {
            tunnel(lab, 2, lab.topology.tunnel_port, bigip(lab).addresses.underlay_ip)?;
            on_bigip(lab, &format!("link set {BIGIP_TUNNEL} type vxlan nolearning"))?;
            bigip(lab).host.bridge(&format!("fdb flush dev {BIGIP_TUNNEL}")).map(drop)
        },
        repair: own_tunnel,
    },
    Fault {
        name: "no route to the pods on BIG-IP",
        cause: Cause::NoReturnPath,
        words: "route to the pod CIDR",
        traffic: None,
        inject: |lab| on_bigip(lab, &format!("route del {} dev {BIGIP_TUNNEL}", lab.topology.cluster_cidr)),
        repair: |lab| on_bigip(lab, &format!("route add {} dev {BIGIP_TUNNEL}", lab.topology.cluster_cidr)),
    },
    Fault {
        name: "ping filtered, as by port lockdown",
        cause: Cause::NoReturnPath,
        words: "allows ICMP",
        traffic: None,
        inject: |lab| filter(lab, "input", &format!("iifname {BIGIP_TUNNEL} icmp type echo-request drop")),
        repair: unfiltered,
    },
    Fault {
        name: "UDP filtered towards BIG-IP",
        cause: Cause::TunnelSilent,
        words: "UDP port 8472",
        traffic: None,
        inject: |lab| filter(lab, "input", "udp dport 8472 drop"),
        repair: unfiltered,
    },
    Fault {
        name: "UDP filtered from BIG-IP",
        cause: Cause::TunnelSilent,
        words: "UDP port 8472",
        traffic: None,
        inject: |lab| filter(lab, "output", "udp dport 8472 drop"),
        repair: unfiltered,
    },
    Fault {
        name: "this node's firewall drops BIG-IP's frames",
        cause: Cause::DroppedOnNode,
        words: "answers to ping reached eth0, and this node dropped them",
        traffic: None,
        inject: |lab| {
            on_node(lab, "input", &format!("ip saddr {} udp dport 8472 drop", bigip(lab).addresses.underlay_ip))
        },
        repair: unfiltered_node,
    },
    Fault {
        name: "this node's firewall refuses the tunnel's port",
        cause: Cause::DroppedOnNode,
        words: "output rules of nftables or iptables on this node",
        traffic: None,
        inject: |lab| {
            on_node(lab, "output", &format!("ip daddr {} udp dport 8472 drop", bigip(lab).addresses.underlay_ip))
        },
        repair: unfiltered_node,
    },
    Fault {
        name: "a lower MTU on the path",
        cause: Cause::PathMtu,
        words: "1350 bytes pass",
        traffic: None,
        inject: |lab| filter(lab, "input", "udp dport 8472 meta length > 1400 drop"),
        repair: unfiltered,
    },
    Fault {
        name: "20 % loss",
        cause: Cause::PacketLoss,
        words: "%",
        traffic: None,
        inject: |lab| filter(lab, "input", "udp dport 8472 numgen random mod 100 < 20 drop"),
        repair: unfiltered,
    },
    Fault {
        name: "BIG-IP off",
        cause: Cause::EndpointUnreachable,
        words: "10.169.72.34",
        traffic: None,
        inject: |lab| bigip(lab).down(),
        repair: |lab| bigip(lab).up(),
    },
    Fault {
        name: "an endpoint without a route",
        cause: Cause::EndpointNoRoute,
        words: "172.31.1.1",
        traffic: None,
        inject: |lab| {
            lab.node.ip("route add unreachable 172.31.0.0/16")?;
            lab.edit(|vtep| vtep.endpoint = [172, 31, 1, 1].into())
        },
        repair: |lab| {
            lab.node.ip("route del unreachable 172.31.0.0/16")?;
            lab.undo_edit()
        },
    },
    Fault {
        name: "an endpoint that nobody has",
        cause: Cause::EndpointNoRoute,
        words: "answers ARP for 10.169.72.99",
        traffic: None,
        inject: |lab| lab.edit(|vtep| vtep.endpoint = [10, 169, 72, 99].into()),
        repair: ConfiguredLab::undo_edit,
    },
    Fault {
        name: "SNAT to a foreign address",
        cause: Cause::ForeignInnerSource,
        words: "192.0.2.7",
        traffic: Some(Chatter::start),
        inject: |lab| {
            let host = &bigip(lab).host;
            // Linux would send ARP requests with the foreign address as sender, which BIG-IP does not; so the test configures the pod's
            // MAC.
            let known = host.command("ping").args(["-c", "1", &lab.topology.pod_ip.to_string()]).output()?;
            ensure!(known.status.success(), "{known:?}");
            on_bigip(lab, "address add 192.0.2.7/32 dev lo")?;
            host.nft("add table ip lab")?;
            host.nft("add chain ip lab postrouting { type nat hook postrouting priority 100 ; }")?;
            host.nft(&format!(
                "add rule ip lab postrouting oifname {BIGIP_TUNNEL} icmp type echo-request snat to 192.0.2.7"
            ))
        },
        repair: |lab| {
            unfilter(lab)?;
            on_bigip(lab, "address del 192.0.2.7/32 dev lo")
        },
    },
    Fault {
        name: "VTEP disabled in the datapath",
        cause: Cause::CiliumRestartRequired,
        words: "enable-vtep",
        traffic: None,
        inject: |lab| lab.restart_cilium(|cilium| cilium.running.enable_vtep = false),
        repair: |lab| lab.restart_cilium(|cilium| cilium.running.enable_vtep = true),
    },
    Fault {
        name: "Cilium's tunnel device down",
        cause: Cause::CiliumDeviceDown,
        words: "ip link set cilium_vxlan up",
        traffic: None,
        inject: |lab| lab.node.ip("link set cilium_vxlan down").map(drop),
        repair: |lab| lab.node.ip("link set cilium_vxlan up").map(drop),
    },
    Fault {
        name: "Cilium's map gone",
        cause: Cause::CiliumVtepDisabled,
        words: "restart the cilium DaemonSet",
        traffic: None,
        inject: |lab| lab.cilium.remove_pin(),
        repair: |lab| lab.restart_cilium(|_| ()),
    },
    Fault {
        name: "a broken release of Cilium",
        cause: Cause::CiliumBrokenRelease,
        words: "1.18.8",
        traffic: None,
        inject: |lab| lab.restart_cilium(|cilium| cilium.version = Some("1.18.2".into())),
        repair: |lab| lab.restart_cilium(|cilium| cilium.version = Some("1.18.8".into())),
    },
    Fault {
        name: "contended",
        cause: Cause::DatapathContended,
        words: "10.169.72.99",
        traffic: None,
        inject: |lab| {
            let ours = lab.topology.vteps()[0];
            let theirs = Vtep { endpoint: [10, 169, 72, 99].into(), ..ours };
            for _ in 0..3 {
                lab.cilium.put_entry(theirs.cidr, theirs.value())?;
                eventually("it is mended", WITHIN, || {
                    Ok((lab.cilium.entries()?.get(&ours.cidr) == Some(&ours.value())).then_some(()))
                })?;
            }
            Ok(())
        },
        // A minute without another write.
        repair: |_| Ok(()),
    },
];

/// Objects bring their own mask, and with them a strict `rp_filter` concerns the second VTEP as well.
pub(crate) const FAULTS_WITH_LISTS: &[Fault] = &[
    Fault {
        name: "another mask in the datapath",
        cause: Cause::CiliumRestartRequired,
        words: "255.255.0.0",
        traffic: None,
        inject: |lab| lab.restart_cilium(|cilium| cilium.running.vtep_mask = [255, 255, 0, 0].into()),
        repair: |lab| lab.restart_cilium(|cilium| cilium.running.vtep_mask = [255, 255, 255, 0].into()),
    },
    Fault {
        name: "a strict rp_filter, and another route to BIG-IP",
        cause: Cause::DroppedOnNode,
        words: "rp_filter is strict on",
        traffic: None,
        inject: |lab| {
            lab.node
                .ip("route add 10.1.6.0/24 via 10.169.72.10 table 99\nrule add priority 50 to 10.1.6.0/24 lookup 99")?;
            rp_filter(lab, 1)
        },
        repair: |lab| {
            lab.node.ip("rule del priority 50\nroute flush table 99")?;
            rp_filter(lab, 0)
        },
    },
];

struct Row {
    named: Duration,
    cleared: Duration,
    /// The changes of the first VTEP's verdict from the injection to the end of the repair.
    sequence: Vec<String>,
}

fn holds(status: &Status, fault: &Fault) -> bool {
    let Some((vtep, _)) = both(status) else { return false };
    vtep.cause == Some(fault.cause) && vtep.hint.as_ref().is_some_and(|hint| hint.contains(fault.words))
}

/// Injects the fault, and repairs it also after a failure.
fn run(fault: &Fault, lab: &mut ConfiguredLab, agent: &Agent) -> Result<Row> {
    let (begin, injected) = (Instant::now(), Timestamp::now());
    (fault.inject)(lab)?;
    let traffic = fault.traffic.map(|start| start(lab)).transpose()?;
    let named = named(fault, lab.source, agent).map(|()| begin.elapsed());
    drop(traffic);
    let begin = Instant::now();
    (fault.repair)(lab)?;
    let cleared = agent.wait_for("both are healthy again", WITHIN, all_healthy).map(|_| begin.elapsed());
    let (named, cleared, mut sequence) = (named?, cleared?, sequence(agent, injected)?);
    if fault.cause == Cause::CiliumVtepDisabled {
        // What the cause does to the tunnel changes while Cilium restarts, and with it the verdict.
        sequence.dedup();
    }
    // Under objects Cilium comes first for two seconds, and so long the entry is not there as configured, each time.
    let is_awaited = fault.cause == Cause::DatapathContended && !lab.source.is_lists();
    let repeats = |word: &&String| *word == Cause::DatapathMissing.id() || *word == "healthy";
    let before = sequence.iter().take_while(repeats).count();
    let told = if is_awaited { &sequence[before..] } else { &sequence };
    ensure!(told == [fault.cause.id(), "healthy"], "its sequence of verdicts is {}", sequence.join(" → "));
    Ok(Row { named, cleared, sequence })
}

/// The changes of the first VTEP's verdict since then, oldest first. A repair or a move alone is none.
fn sequence(agent: &Agent, since: Timestamp) -> Result<Vec<String>> {
    let changes = history::changes_to_health(agent)?;
    let at = |change: &Value| change["at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    let is_new = |change: &&Value| at(change).is_some_and(|at| at >= since);
    let is_verdict = |change: &&Value| {
        let is_move = !change["moved"].is_null() && change["to"]["verdict"] == "unknown";
        change["from"] != change["to"] && !is_move
    };
    let word = |state: &Value| state["cause"].as_str().or(state["verdict"].as_str()).unwrap_or_default().to_owned();
    let new = changes.iter().rev().filter(is_new).filter(is_verdict);
    Ok(new.map(|change| word(&change["to"])).collect())
}

fn named(fault: &Fault, source: Source, agent: &Agent) -> Result<()> {
    let status = agent.wait_for("the fault is named", WITHIN, |status| holds(status, fault))?;
    // Every fault here follows a healthy state, so a probe that was answered before and is not now must not yield `degraded`.
    let (vtep, other) = both(&status).context("both VTEPs")?;
    let passes = vtep.probes.icmp.state == ProbeState::Ok;
    let lost = fault.cause != Cause::NoReturnPath || passes || vtep.verdict == Verdict::Unreachable;
    ensure!(lost && status.verdict != Verdict::Healthy, "{vtep:?}");
    let hint = vtep.hint.as_deref().unwrap_or_default();
    ensure!(source.is_lists() || !hint.contains("BIG-IP"), "the far end may be another gateway: {hint}");
    let concerns_all =
        [Cause::CiliumRestartRequired, Cause::CiliumVtepDisabled, Cause::CiliumBrokenRelease, Cause::CiliumDeviceDown];
    ensure!(concerns_all.contains(&fault.cause) || other.cause.is_none(), "the other is not concerned: {other:?}");
    Ok(())
}

with_each_source!(each_fault_is_named_and_its_repair_seen);

fn each_fault_is_named_and_its_repair_seen(source: Source) -> Result<()> {
    let mut lab = ConfiguredLab::with(source, Lab::builder().other_node(true))?;
    let agent = lab.healthy_agent()?;
    let rest = if source.is_lists() { FAULTS_WITH_LISTS } else { &[] };
    let faults = FAULTS.iter().chain(rest);
    let results: Vec<_> = faults.map(|fault| (fault, run(fault, &mut lab, &agent))).collect();
    // Print to the terminal: the test harness would hide standard output.
    let mut out = std::io::stdout();
    writeln!(out, "\nVTEPs from {source:?}")?;
    writeln!(out, "{:<40} {:>8} {:>8}  SEQUENCE", "FAULT", "NAMED", "CLEARED")?;
    for (fault, result) in &results {
        match result {
            Ok(Row { named, cleared, sequence }) => {
                let (named, cleared) = (named.as_secs_f64(), cleared.as_secs_f64());
                writeln!(out, "{:<40} {named:>7.1}s {cleared:>7.1}s  {}", fault.name, sequence.join(" → "))?;
            }
            Err(error) => writeln!(out, "{:<40} FAILED for {}: {error}", fault.name, fault.cause)?,
        }
    }
    results
        .into_iter()
        .try_for_each(|(fault, result)| result.map(drop).with_context(|| format!("fault: {}", fault.name)))
}

/// First, each BIG-IP has a fault of its own. Then one has two faults: the nearer one is the cause, and the hint mentions the other as
/// well.
#[test]
fn two_faults_do_not_mix() -> Result<()> {
    let mut lab = ConfiguredLab::start(Source::Lists)?;
    let agent = lab.healthy_agent()?;
    let second = lab.bigips[1].host.clone();
    lab.bigips[0].down()?;
    second.ip(&format!("link set {BIGIP_TUNNEL} address 00:50:56:00:00:99"))?;
    let causes = |status: &Status| status.vteps.iter().map(|vtep| vtep.cause).collect::<Vec<_>>();
    let each = [Some(Cause::EndpointUnreachable), Some(Cause::VtepMacMismatch)];
    agent.wait_for("each has its own", WITHIN, |status| causes(status) == each)?;
    lab.bigips[0].up()?;
    let cleared = [None, Some(Cause::VtepMacMismatch)];
    agent.wait_for("one is healthy again", WITHIN, |status| causes(status) == cleared)?;
    second.ip(&format!("route del {} dev {BIGIP_TUNNEL}", lab.topology.cluster_cidr))?;
    second.ip(&format!("link set {BIGIP_TUNNEL} address {}", lab.bigips[1].addresses.mac))?;
    agent.wait_for("the route is missed", WITHIN, |status| causes(status) == [None, Some(Cause::NoReturnPath)])?;
    lab.restart_cilium(|cilium| cilium.version = Some("1.18.2".into()))?;
    agent.wait_for("Cilium is the cause, and the route is reported as well", WITHIN, |status| {
        status.vteps.iter().all(|vtep| vtep.cause == Some(Cause::CiliumBrokenRelease))
            && status.vteps[0].also.is_empty()
            && status.vteps[1].also == [Cause::NoReturnPath]
    })?;
    Ok(())
}

/// The MAC is corrected, and the tunnel goes down at the same moment: the hint must not be about the old answer.
#[test]
fn an_old_answer_does_not_hide_a_silent_tunnel() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    on_bigip(&lab, &format!("link set {BIGIP_TUNNEL} address 00:50:56:00:00:99"))?;
    agent.wait_for("the other MAC is named", WITHIN, |status| status.vteps[0].cause == Some(Cause::VtepMacMismatch))?;
    let mac = bigip(&lab).addresses.mac;
    on_bigip(&lab, &format!("link set {BIGIP_TUNNEL} down\nlink set {BIGIP_TUNNEL} address {mac}"))?;
    let named = Instant::now();
    let silent = |status: &Status| status.vteps[0].cause == Some(Cause::TunnelSilent);
    let status = agent.wait_for("the silence is named", WITHIN, silent)?;
    let hint = status.vteps[0].hint.as_deref().context("a hint")?;
    ensure!(status.vteps[0].verdict == Verdict::Unreachable && !hint.contains(":99"), "{hint}");
    // Well before the old answer expires.
    ensure!(named.elapsed() < Duration::from_secs(50), "after {:?}", named.elapsed());
    let aged = |status: &Status| {
        status.vteps[0].evidence.iter().any(|of| of.cause == Cause::VtepMacMismatch && of.age_s >= 15)
    };
    agent.wait_for("its age is reported", WITHIN, aged)?;
    Ok(())
}

/// Cilium was started with another mask, and only the drops show it.
#[test]
fn a_datapath_that_drops_is_told_from_a_silent_bigip() -> Result<()> {
    let mut lab = ConfiguredLab::start(Source::Lists)?;
    lab.restart_cilium(|cilium| cilium.running.vtep_mask = [255, 255, 0, 0].into())?;
    for file in ["agent-runtime-config.json", "globals/node_config.h"] {
        std::fs::remove_file(Path::new(CILIUM_RUN).join("state").join(file))?;
    }
    let agent = Agent::start(&lab)?;
    let drops = |status: &Status| {
        let vtep = &status.vteps[0];
        vtep.cause == Some(Cause::CiliumRestartRequired) && vtep.hint.as_ref().is_some_and(|hint| hint.contains("drop"))
    };
    agent.wait_for("Cilium's drops are named", WITHIN, |status| !status.vteps.is_empty() && drops(status))?;
    lab.restart_cilium(|cilium| cilium.running.vtep_mask = [255, 255, 255, 0].into())?;
    agent.wait_for("both are healthy", WITHIN, all_healthy)?;
    Ok(())
}

#[test]
fn arp_replies_without_a_mac_are_named_where_the_release_is_unknown() -> Result<()> {
    let mut lab = Lab::start()?;
    lab.cilium.version = None;
    lab.cilium.faults = Faults { zero_mac_arp: true, ..Faults::default() };
    lab.cilium.start()?;
    lab.config.write(&Config::seed_keys())?;
    let agent = Agent::start(&lab)?;
    let _chatter = Chatter::start(&lab)?;
    let zero = |status: &Status| status.vteps.first().is_some_and(|vtep| vtep.cause == Some(Cause::CiliumArpZeroMac));
    let named = agent.wait_for("it is named", WITHIN, zero);
    lab.cilium.faults = Faults::default();
    lab.cilium.start()?;
    on_bigip(&lab, &format!("neigh flush dev {BIGIP_TUNNEL}"))?;
    let cleared = agent.wait_for("it is over", WITHIN, |status| !zero(status));
    named?;
    cleared?;
    Ok(())
}

/// A Cilium that starts loads its programs one after the other. The agent needs some seconds to see the start, and the loss comes after that.
#[test]
fn what_is_lost_while_cilium_starts_is_no_fault() -> Result<()> {
    const LOSS: Duration = Duration::from_secs(4);
    let mut lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    lab.cilium.start()?;
    agent.wait_for("the start is seen", WITHIN, |status| status.datapath.in_sync && all_healthy(status))?;
    filter(&lab, "input", "udp dport 8472 drop")?;
    std::thread::sleep(LOSS);
    unfilter(&mut lab)?;
    agent.wait_for("the loss is counted", WITHIN, |status| {
        status.vteps.first().is_some_and(|vtep| vtep.probes.icmp.lost >= 3)
    })?;
    agent.wait_for("both VTEPs are healthy", WITHIN, all_healthy)?;
    let changes = history::changes(&agent)?;
    ensure!(changes.iter().all(|change| change["to"]["cause"].is_null()), "{changes:#?}");
    Ok(())
}
