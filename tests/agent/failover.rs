//! A pair of BIG-IPs: the other unit takes over the endpoint, and its tunnel has another MAC.

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vtep_core::{
    diagnosis::{Cause, Verdict},
    report::status::{Status, VtepStatus},
    tunnel::failover::Takeover,
};
use vtep_lab::{ArpRequest, BIGIP_TUNNEL, BigIp, Config, Lab, Mac, Standby, Vtep, arp, ping};

use crate::{
    far_end::{bigip, on_bigip},
    support::{
        AGENT, Agent, HEALTHY_WITHIN, LISTEN, NOTICED_WITHIN, REPAIRED_WITHIN, all_healthy, eventually, in_kernel,
    },
};

const OTHER: Mac = Mac([0x00, 0x50, 0x56, 0xa0, 0x7d, 0x99]);
/// The documents promise a second.
const LEARNED_WITHIN: Duration = Duration::from_secs(10);

fn pair(masquerade: bool) -> Result<Lab> {
    Lab::builder().standby(Standby { mac: OTHER, masquerade }).start()
}

fn standby(lab: &Lab) -> Result<&BigIp> {
    lab.standby.as_ref().context("a standby")
}

/// The VTEPs of the lab, the first one with this MAC.
fn vteps(lab: &Lab, mac: Mac) -> Vec<Vtep> {
    let mut vteps = lab.topology.vteps();
    vteps[0].mac = mac;
    vteps
}

pub(crate) fn start(lab: &Lab, flags: &[&str]) -> Result<Agent> {
    lab.config.write(&Config::keys_for(&lab.topology.vteps()))?;
    let mut command = lab.agent_command(Path::new(AGENT), LISTEN);
    command.args(flags);
    let agent = Agent::spawn(lab, command)?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    Ok(agent)
}

fn fail_over(from: &BigIp, to: &BigIp) -> Result<()> {
    from.step_down()?;
    to.take_over()
}

fn is_learned(mac: Mac) -> impl Fn(&Status) -> bool {
    let mac = mac.0.into();
    move |status| {
        let vtep = &status.vteps[0];
        vtep.mac_learned == Some(mac) && vtep.mac == mac && vtep.verdict == Verdict::Healthy
    }
}

fn wait_for_entries(lab: &Lab, mac: Mac) -> Result<()> {
    let vteps = vteps(lab, mac);
    eventually("the entry has the MAC", LEARNED_WITHIN, || Ok(in_kernel(lab, &vteps)?.then_some(())))
}

fn answers(lab: &Lab) -> Result<u32> {
    Ok(ping(&lab.pod, None, bigip(lab).addresses.self_ip.addr(), 3, Duration::from_millis(50))?.received)
}

/// With MAC masquerade, only the tunnel shows that another unit has taken over.
#[test]
fn a_failover_is_named_for_what_it_is() -> Result<()> {
    for masquerade in [false, true] {
        let lab = pair(masquerade)?;
        let agent = start(&lab, &[])?;
        fail_over(bigip(&lab), standby(&lab)?)?;
        let (from, to) = (bigip(&lab).addresses.mac.0.into(), OTHER.0.into());
        let status = agent.wait_for("the cause is named", NOTICED_WITHIN, |status| {
            status.vteps[0].cause == Some(Cause::VtepMacMismatch)
        })?;
        ensure!(status.vteps[0].hint.as_ref().is_some_and(|hint| hint.contains(&OTHER.to_string().to_lowercase())));
        let kinds = if masquerade { 1 } else { 2 };
        let status = agent.wait_for("the failover is complete", NOTICED_WITHIN, |status| {
            status.vteps[0].failovers.first().is_some_and(|failover| failover.changes.len() == kinds)
        })?;
        let VtepStatus { failovers, failovers_total, .. } = &status.vteps[0];
        ensure!(
            *failovers_total == 1 && failovers[0].changes.contains(&Takeover::TunnelMac { from, to }),
            "{failovers:?}"
        );
        ensure!(status.vteps[1].failovers_total == 0, "the other VTEP");
        eventually("the log has it", NOTICED_WITHIN, || {
            let lines = agent.lines(" failover cidr=10.1.6.0/24");
            Ok((lines.len() == 1 && lines[0].contains(&format!("tunnel MAC {from} → {to}"))).then_some(()))
        })?;
        let (_, history) = agent.get("/history")?.context("a history")?;
        let history: Value = serde_json::from_str(&history)?;
        let told = history["changes"].as_array().into_iter().flatten().filter(|change| !change["failover"].is_null());
        ensure!(told.count() == 1, "{history:#}");
        let (_, metrics) = agent.get("/metrics")?.context("metrics")?;
        let metric = "vtep_agent_failovers_total{cidr=\"10.1.6.0/24\",endpoint=\"10.169.72.34\"} 1";
        ensure!(metrics.contains(metric), "{metrics}");
        ensure!(in_kernel(&lab, &lab.topology.vteps())?, "nothing is written");
    }
    Ok(())
}

#[test]
fn a_learned_mac_brings_the_traffic_back_and_the_configured_one_wins() -> Result<()> {
    let lab = pair(false)?;
    let agent = start(&lab, &["--mac", "learned"])?;
    fail_over(bigip(&lab), standby(&lab)?)?;
    wait_for_entries(&lab, OTHER)?;
    ensure!(answers(&lab)? == 3, "traffic flows");
    let status = agent.wait_for("it says so", NOTICED_WITHIN, is_learned(OTHER))?;
    let vtep = &status.vteps[0];
    let learning = vtep.mac_learning.clone().context("learning")?;
    let line = "vtep-mac: \"00:50:56:a0:7d:99 00:50:56:86:6b:28\"";
    ensure!(learning.config_line.as_deref() == Some(line) && learning.since.is_some(), "{learning:?}");
    ensure!(vtep.mac_configured == bigip(&lab).addresses.mac.0.into(), "{vtep:?}");

    // Cilium's sync writes what Cilium was started with.
    lab.cilium.sync()?;
    wait_for_entries(&lab, OTHER)?;
    let status = agent.wait_for("it is made good", NOTICED_WITHIN, |status| {
        status.vteps[0].mac_learning.as_ref().is_some_and(|learning| learning.made_good == 1)
    })?;
    ensure!(status.vteps[0].datapath.repairs == 0 && status.datapath.contended.is_empty(), "{:?}", status.datapath);

    fail_over(standby(&lab)?, bigip(&lab))?;
    wait_for_entries(&lab, bigip(&lab).addresses.mac)?;
    ensure!(answers(&lab)? == 3, "failback");
    agent.wait_for("nothing is learned any more", NOTICED_WITHIN, |status| status.vteps[0].mac_learned.is_none())?;
    Ok(())
}

#[test]
fn a_learned_mac_survives_a_restart_until_the_configuration_has_another() -> Result<()> {
    let lab = pair(false)?;
    let mut agent = start(&lab, &["--learn-mac", "10.1.6.0/24"])?;
    fail_over(bigip(&lab), standby(&lab)?)?;
    agent.wait_for("it is learned", NOTICED_WITHIN, is_learned(OTHER))?;
    let file = Path::new(vtep_lab::STATE).join("learned.json");
    let other = OTHER.to_string().to_lowercase();
    let is_saved = || Ok(std::fs::read_to_string(&file)?.contains(&other).then_some(()));
    eventually("it is saved", NOTICED_WITHIN, is_saved)?;
    agent.terminate()?;
    // Without a prober, only the file can say which MAC the entry has.
    let mut once = lab.agent_command(Path::new(AGENT), LISTEN);
    let output = once.args(["--once", "--learn-mac", "10.1.6.0/24"]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    ensure!(in_kernel(&lab, &vteps(&lab, OTHER))?, "a pass of its own leaves the learned MAC");
    let again = start(&lab, &["--learn-mac", "10.1.6.0/24"])?;
    again.wait_for("it is still learned", NOTICED_WITHIN, is_learned(OTHER))?;
    ensure!(again.lines("kernel changed").is_empty(), "{:#?}", again.log());
    ensure!(again.status()?.context("a status")?.vteps[0].failovers_total == 0, "a restart is no failover");

    // The line from the status makes it the configured one.
    lab.config.write(&Config::keys_for(&vteps(&lab, OTHER)))?;
    again.wait_for("it is configured", NOTICED_WITHIN, |status| {
        let vtep = &status.vteps[0];
        vtep.mac_learned.is_none() && vtep.mac_configured == OTHER.0.into()
    })?;
    ensure!(in_kernel(&lab, &vteps(&lab, OTHER))?, "the entry stays");
    ensure!(again.status()?.context("a status")?.vteps[0].failovers_total == 0, "an edit is no failover");
    Ok(())
}

/// Both units have the endpoint, and the switch delivers probes to the one that was heard last. The first changes look like failovers.
#[test]
fn a_split_brain_is_a_conflict_and_ends_the_learning() -> Result<()> {
    let lab = pair(false)?;
    let agent = start(&lab, &["--mac", "learned"])?;
    let inside = standby(&lab)?.addresses.self_ip.addr();
    standby(&lab)?.take_over()?;
    let node = ArpRequest::broadcast(inside, lab.topology.router_ip);
    let both_send = || -> Result<()> {
        for unit in [bigip(&lab), standby(&lab)?] {
            unit.announce()?;
            arp(&unit.host, BIGIP_TUNNEL, node, Duration::from_secs(1))?;
            thread::sleep(Duration::from_millis(900));
        }
        Ok(())
    };
    eventually("the conflict is named", NOTICED_WITHIN, || {
        both_send()?;
        let status = agent.status()?.context("a status")?;
        Ok((status.vteps[0].cause == Some(Cause::SelfIpConflict)).then_some(()))
    })?;
    let learned = agent.lines("MAC learned").len();
    (0..6).try_for_each(|_| both_send())?;
    ensure!(agent.lines("MAC learned").len() == learned && learned <= 1, "{:#?}", agent.log());
    Ok(())
}

/// A VE that was built anew has the same addresses, and another MAC.
#[test]
fn a_unit_that_comes_back_with_a_new_mac_is_learned() -> Result<()> {
    let lab = Lab::start()?;
    let agent = start(&lab, &["--mac", "learned"])?;
    on_bigip(&lab, &format!("link set {BIGIP_TUNNEL} address {OTHER}"))?;
    agent.wait_for("it is learned", NOTICED_WITHIN, is_learned(OTHER))?;
    Ok(())
}

/// What the endpoint, or somebody else, sends in the place of the unit's answers.
struct Claim<'m> {
    name: &'static str,
    source: fn(&Lab) -> &vtep_lab::Host,
    vni: u8,
    macs: &'m [Mac],
    /// Sent once, not all the time.
    once: bool,
    /// The status that shows that the agent has received it.
    seen: fn(&VtepStatus) -> bool,
}

fn endpoint(lab: &Lab) -> &vtep_lab::Host {
    &bigip(lab).host
}

fn is_refused(vtep: &VtepStatus, text: &str) -> bool {
    let refused = vtep.mac_learning.as_ref().and_then(|learning| learning.refused.as_ref());
    refused.is_some_and(|refused| refused.contains(text))
}

const CLAIMS: [Claim<'static>; 5] = [
    Claim {
        name: "from another outer source",
        source: |lab| &lab.bigips[1].host,
        vni: 2,
        macs: &[OTHER],
        once: false,
        seen: |vtep| vtep.cause == Some(Cause::WrongSource),
    },
    Claim {
        name: "a group MAC",
        source: endpoint,
        vni: 2,
        macs: &[Mac([0x01, 0x50, 0x56, 0xa0, 0x7d, 0xd8])],
        once: false,
        seen: |vtep| is_refused(vtep, "no unicast MAC"),
    },
    Claim {
        name: "alternating MACs",
        source: endpoint,
        vni: 2,
        macs: &[OTHER, Mac([0x00, 0x50, 0x56, 0xa0, 0x7d, 0x98])],
        once: false,
        seen: |vtep| vtep.cause == Some(Cause::SelfIpConflict),
    },
    Claim {
        name: "with VNI 3",
        source: endpoint,
        vni: 3,
        macs: &[OTHER],
        once: false,
        seen: |vtep| vtep.cause == Some(Cause::WrongVni),
    },
    Claim {
        name: "one answer only",
        source: endpoint,
        vni: 2,
        macs: &[OTHER],
        once: true,
        seen: |vtep| vtep.cause == Some(Cause::TunnelSilent),
    },
];

/// Each condition alone fails. The unit itself is silent, so that nothing else speaks for the configured MAC.
///
/// Takes over 20 s: five labs, each until the agent has seen enough.
#[test]
fn what_contradicts_is_not_written() -> Result<()> {
    for claim in CLAIMS {
        refuse(&claim).with_context(|| claim.name.to_owned())?;
    }
    Ok(())
}

fn refuse(claim: &Claim<'_>) -> Result<()> {
    refuse_in(&Lab::start()?, claim)
}

fn refuse_in(lab: &Lab, claim: &Claim<'_>) -> Result<()> {
    let agent = start(lab, &["--mac", "learned"])?;
    on_bigip(lab, &format!("link set {BIGIP_TUNNEL} down"))?;
    let seen = |status: &Status| (claim.seen)(&status.vteps[0]);
    while_claiming(lab, claim, || agent.wait_for("the agent has seen it", NOTICED_WITHIN, seen).map(drop))?;
    ensure!(in_kernel(lab, &lab.topology.vteps())?, "nothing is written");
    ensure!(agent.lines("MAC learned").is_empty(), "{:#?}", agent.log());
    Ok(())
}

/// The same way of answering, and nothing that contradicts.
#[test]
fn answers_without_a_contradiction_are_learned() -> Result<()> {
    let lab = Lab::start()?;
    let agent = start(&lab, &["--mac", "learned"])?;
    on_bigip(&lab, &format!("link set {BIGIP_TUNNEL} down"))?;
    let claim = Claim { name: "", source: endpoint, vni: 2, macs: &[OTHER], once: false, seen: |_| true };
    while_claiming(&lab, &claim, || wait_for_entries(&lab, OTHER))?;
    drop(agent);
    Ok(())
}

/// The MAC of the node's own tunnel device.
#[test]
fn the_nodes_own_mac_is_not_learned() -> Result<()> {
    let lab = Lab::start()?;
    let macs = [lab.node.link("cilium_vxlan")?.mac];
    let seen = |vtep: &VtepStatus| is_refused(vtep, "is the MAC of a device of this node");
    refuse_in(&lab, &Claim { name: "our own MAC", source: endpoint, vni: 2, macs: &macs, once: false, seen })
}

/// Sends ARP replies for the self IP through the tunnel, 50 ms apart, while `work` runs.
fn while_claiming(lab: &Lab, claim: &Claim<'_>, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (host, is_over) = ((claim.source)(lab), AtomicBool::new(false));
    let (node, router) = (lab.topology.node_ip, lab.topology.router_ip);
    let self_ip = bigip(lab).addresses.self_ip.addr();
    let node_mac = lab.node.link("cilium_vxlan")?.mac;
    thread::scope(|scope| {
        let claims = scope.spawn(|| {
            host.run(|| {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
                for mac in claim.macs.iter().cycle() {
                    socket.send_to(&reply(claim.vni, *mac, node_mac, self_ip, router), (node, 8472))?;
                    if claim.once || is_over.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    // Slower than claims of one owner count as one, and slow enough for alternating owners to be a conflict.
                    thread::sleep(Duration::from_millis(if claim.macs.len() > 1 { 900 } else { 50 }));
                }
                Ok(())
            })
        });
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        claims.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        done
    })
}

/// An ARP reply (RFC 826) in an Ethernet frame in VXLAN (RFC 7348).
fn reply(vni: u8, mac: Mac, to: Mac, self_ip: Ipv4Addr, router: Ipv4Addr) -> Vec<u8> {
    let header = [8, 0, 0, 0, 0, 0, vni, 0];
    let ethernet = [&to.0[..], &mac.0, &[8, 6]].concat();
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 2], &mac.0[..], &self_ip.octets(), &to.0, &router.octets()].concat();
    [&header[..], &ethernet, &arp].concat()
}

/// The self IP of the first BIG-IP is behind the endpoint of the second.
#[test]
fn a_self_ip_at_another_endpoint_is_told_with_both() -> Result<()> {
    let lab = Lab::start()?;
    let agent = start(&lab, &[])?;
    let [first, second] = &lab.bigips[..] else { anyhow::bail!("two BIG-IPs") };
    on_bigip(&lab, &format!("link set {BIGIP_TUNNEL} down"))?;
    let self_ip = first.addresses.self_ip.addr();
    second.host.ip(&format!("address add {self_ip}/32 dev {BIGIP_TUNNEL}"))?;
    let node = ArpRequest::broadcast(self_ip, lab.topology.router_ip);
    let (from, to) = (first.addresses.underlay_ip, second.addresses.underlay_ip);
    eventually("it is told", NOTICED_WITHIN, || {
        arp(&second.host, BIGIP_TUNNEL, node, Duration::from_millis(300))?;
        let status = agent.status()?.context("a status")?;
        let is_move = |change: &Takeover| *change == Takeover::SelfIp { self_ip, from, to };
        let failovers = &status.vteps[0].failovers;
        Ok(failovers.iter().any(|failover| failover.changes.iter().any(is_move)).then_some(()))
    })
}

/// Nothing of this is a failover: traffic, a restart of Cilium, an edit of another VTEP, a lost entry.
#[test]
fn healthy_traffic_is_no_failover() -> Result<()> {
    let mut lab = pair(false)?;
    let agent = start(&lab, &["--mac", "learned"])?;
    let traffic = crate::traffic::Traffic::start(&lab)?;
    lab.cilium.stop()?;
    lab.cilium.start()?;
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    lab.config.write(&Config::keys_for(&[first, Vtep { endpoint: [10, 169, 72, 99].into(), ..second }]))?;
    lab.config.write(&Config::keys_for(&[first, second]))?;
    lab.cilium.delete_vtep(second.key())?;
    eventually("it is back", REPAIRED_WITHIN, || Ok(in_kernel(&lab, &[first, second])?.then_some(())))?;
    agent.wait_for("all is well", HEALTHY_WITHIN, all_healthy)?;
    drop(traffic);
    let status = agent.status()?.context("a status")?;
    ensure!(status.vteps.iter().all(|vtep| vtep.failovers_total == 0), "{:#?}", agent.log());
    ensure!(agent.lines("MAC").is_empty(), "{:#?}", agent.log());
    Ok(())
}
