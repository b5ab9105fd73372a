//! From evidence to a cause: what is wrong with one VTEP, in one word, and what a person should do next. Pure.
//!
//! The causes are tried from the node outwards – kernel, Cilium, map, wire, BIG-IP – and the first that holds is the verdict's;
//! the others that hold as well are named under `also`. What the agent makes good by itself comes last.

mod cause;
mod writers;

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::{
    config::spec::{Tunnel, Vtep},
    datapath::{plan::Op, survey::Model},
    node::{
        drift::{Difference, Effect},
        facts::Facts,
        fitness::Kernel,
    },
    probe::{
        frames::VTEP_VNI,
        health::SendError,
        lane::{Lane, ProbeState},
        tap::Flow,
    },
    reconcile,
};

pub use self::cause::{Cause, RUNBOOK, Verdict};

/// What is known of one VTEP at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub vtep: &'a Vtep,
    pub tunnel: Tunnel,
    /// Where the running Cilium differs from the configuration.
    pub differences: &'a [Difference],
    pub kernel: &'a Kernel,
    pub facts: &'a Facts,
    pub datapath: &'a reconcile::Report,
    pub lane: Option<&'a Lane>,
}

/// The verdict about one VTEP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    pub verdict: Verdict,
    /// The cause nearest to the node; none when healthy, or when it is too early to tell.
    pub cause: Option<Cause>,
    /// What holds as well.
    pub also: Vec<Cause>,
    /// What a person should do next, with the values seen.
    pub hint: Option<String>,
    /// When verdict or cause last changed.
    pub since: Timestamp,
}

impl Diagnosis {
    /// The same verdict for the same cause: the values in the hint may differ.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        (self.verdict, self.cause) == (other.verdict, other.cause)
    }
}

/// Frames older than this are history, not evidence.
const RECENT: Duration = Duration::from_secs(10);
/// So long after the last of one kind, those of the other come alone.
const ALONE: Duration = Duration::from_secs(2);
/// Share of lost probes that is worth a verdict.
const LOSS: f64 = 0.05;
/// As with every cause, fewer misses than this say nothing.
const LOST: usize = 3;

/// Weighs the evidence.
#[must_use]
pub fn diagnose(evidence: &Evidence<'_>, now: Instant, at: Timestamp) -> Diagnosis {
    let hint_of = |&cause: &Cause| evidence.hint(cause, now).map(|hint| (cause, hint));
    let mut held: Vec<_> = Cause::ALL.iter().filter_map(hint_of).collect();
    held.sort_by_key(|(cause, _)| evidence.is_made_good(*cause));
    let mut held = held.into_iter();
    let first = held.next();
    let also = held.map(|(cause, _)| cause).collect();
    let verdict =
        first.as_ref().map_or_else(|| evidence.verdict_without_cause(), |(cause, _)| evidence.verdict(*cause));
    let (cause, hint) = first.unzip();
    Diagnosis { verdict, cause, also, hint, since: at }
}

impl Evidence<'_> {
    /// Through the tunnel and back, or as far as it is known.
    fn verdict_without_cause(&self) -> Verdict {
        let through = self.state(Lane::icmp_state);
        if self.datapath.last_pass.is_some() && through == ProbeState::Ok { Verdict::Healthy } else { Verdict::Unknown }
    }

    fn verdict(&self, cause: Cause) -> Verdict {
        if self.is_made_good(cause) { Verdict::Degraded } else { cause.verdict() }
    }

    /// Older values are overwritten within a pass, as often as Cilium or somebody else writes them; Cilium's programs are out of reach.
    fn is_made_good(&self, cause: Cause) -> bool {
        let only_values = || self.harm().all(|difference| difference.effect != Effect::Programs);
        (cause == Cause::DatapathContended && !self.is_left_alone())
            || (cause == Cause::CiliumRestartRequired && only_values() && !self.drops())
    }

    /// The differences that this VTEP suffers from.
    fn harm(&self) -> impl Iterator<Item = &Difference> {
        let network = self.vtep.cidr.network();
        self.differences.iter().filter(move |difference| difference.effect.harms(network))
    }

    /// Whether this cause holds, and what to do about it.
    fn hint(&self, cause: Cause, now: Instant) -> Option<String> {
        match cause {
            Cause::NodeKernelUnsupported => self.kernel_unsupported(),
            Cause::CiliumNotRunning => self.cilium_not_running(),
            Cause::CiliumBrokenRelease => self.cilium_broken_release(),
            Cause::CiliumArpZeroMac => self.cilium_arp_zero_mac(now),
            Cause::CiliumRestartRequired => self.cilium_restart_required(),
            Cause::CiliumVtepDisabled => self.cilium_vtep_disabled(),
            Cause::DatapathMissing => self.datapath_missing(),
            Cause::DatapathContended => self.datapath_contended(),
            Cause::VtepCidrInUse => self.vtep_cidr_in_use(),
            Cause::EndpointNoRoute => self.endpoint_no_route(),
            Cause::WrongUdpPort => self.wrong_udp_port(now),
            Cause::WrongVni => self.wrong_vni(now),
            Cause::WrongSource => self.wrong_source(now),
            Cause::ForeignInnerSource => self.foreign_inner_source(now),
            Cause::VtepMacMismatch => self.vtep_mac_mismatch(),
            Cause::EndpointUnreachable => self.endpoint_unreachable(),
            Cause::TunnelSilent => self.tunnel_silent(),
            Cause::NoReturnPath => self.no_return_path(),
            Cause::PathMtu => self.path_mtu(),
            Cause::PacketLoss => self.packet_loss(),
            Cause::SelfIpUnknown => self.self_ip_unknown(),
        }
    }

    fn kernel_unsupported(&self) -> Option<String> {
        let Kernel { release, supported, reasons } = self.kernel;
        let reasons = || reasons.join("; ");
        (!supported)
            .then(|| format!("nothing is written on this node, which is not fit: {} (Linux {release})", reasons()))
    }

    fn cilium_not_running(&self) -> Option<String> {
        // Facts about another tunnel are of an earlier configuration, and say nothing of this one.
        if self.facts.tunnel != self.tunnel {
            return None;
        }
        let cilium = &self.facts.cilium;
        let mut absent = Vec::new();
        if cilium.tunnel.is_none() {
            absent.push(format!("the device {}", self.tunnel.protocol.device()));
        }
        match (&cilium.host, cilium.router) {
            (None, _) => absent.push("the device cilium_host".into()),
            (Some(_), None) => absent.push("the router address on cilium_host".into()),
            (Some(_), Some(_)) => {}
        }
        (!absent.is_empty())
            .then(|| format!("look at Cilium's pod on this node: {} is not there", absent.join(" and ")))
    }

    fn cilium_broken_release(&self) -> Option<String> {
        let version = self.facts.version?;
        let broken = version.broken()?;
        Some(format!("upgrade Cilium to {} or newer: {version} is broken for VTEPs, {}", broken.fixed_in, broken.what))
    }

    fn cilium_arp_zero_mac(&self, now: Instant) -> Option<String> {
        let (at, mac) = self.lane?.answered?;
        let version = self.facts.version.map(|version| format!(" (this is {version})")).unwrap_or_default();
        (mac.is_zero() && now.duration_since(at) < RECENT).then(|| {
            format!(
                "upgrade Cilium to 1.18.8, 1.19.2 or newer{version}: it answers the ARP requests of BIG-IP {} with the MAC {mac}; until \
                 then a static ARP entry on BIG-IP helps",
                self.vtep.endpoint
            )
        })
    }

    fn cilium_restart_required(&self) -> Option<String> {
        let harm: Vec<_> = self.harm().map(ToString::to_string).collect();
        if !harm.is_empty() {
            return Some(format!("restart the cilium DaemonSet: {}", harm.join("; ")));
        }
        self.drops().then(|| {
            format!(
                "restart the cilium DaemonSet: its programs on this node drop what is sent to {}, though its entry is there; they were \
                 loaded without VTEP, or with another vtep-mask",
                self.vtep.cidr
            )
        })
    }

    /// Probes do not leave the node: Cilium's program on `cilium_host` drops them, whatever the map says.
    fn drops(&self) -> bool {
        let in_sync = self.datapath.model.is_known() && self.pending_entry().is_none() && !self.is_left_alone();
        in_sync
            && self.state(Lane::icmp_state) == ProbeState::Failed
            && self.lane.and_then(|lane| lane.icmp.send_error.as_ref()).is_some_and(SendError::is_drop)
    }

    fn cilium_vtep_disabled(&self) -> Option<String> {
        let problem = self.datapath.map_problem.as_ref()?;
        let devices_there = self.cilium_not_running().is_none();
        (self.datapath.model == Model::None && devices_there)
            .then(|| format!("restart the cilium DaemonSet, so that it starts with enable-vtep: {problem}"))
    }

    fn datapath_missing(&self) -> Option<String> {
        match (self.datapath.model, &self.datapath.map_problem) {
            (Model::Unsupported, Some(problem)) => return Some(format!("update this agent: {problem}")),
            (Model::Unreadable, Some(problem)) => return Some(problem.clone()),
            (Model::None | Model::VtepHash | Model::VtepLpm | Model::Ipcache, _) => {}
            (Model::Unsupported | Model::Unreadable, None) => {}
        }
        if self.datapath.left_out.contains(&self.vtep.cidr) {
            return Some(format!(
                "restart the cilium DaemonSet: the VTEP map has no room for {} beside what Cilium was started with",
                self.vtep.cidr
            ));
        }
        let error = self.datapath.entry_error(self.vtep.cidr);
        let pending = || self.pending_entry().map(|op| format!("not written: {op}"));
        let reason = error.map(str::to_owned).or_else(pending)?;
        (!self.is_left_alone()).then(|| format!("the kernel lacks the entry for {}: {reason}", self.vtep.cidr))
    }

    fn is_left_alone(&self) -> bool {
        self.datapath.left_alone.contains(&self.vtep.cidr)
    }

    fn vtep_cidr_in_use(&self) -> Option<String> {
        let inside: Vec<_> = self.datapath.intruders.get(&self.vtep.cidr)?.iter().map(ToString::to_string).collect();
        Some(format!(
            "give {} or what is inside it another network: Cilium has pods or nodes at {}, and what is sent to them goes to BIG-IP",
            self.vtep.cidr,
            inside.join(", ")
        ))
    }

    fn pending_entry(&self) -> Option<&Op> {
        self.datapath.pending.iter().find(|op| op.entry() == Some(self.vtep.cidr))
    }

    fn endpoint_no_route(&self) -> Option<String> {
        let endpoint = self.vtep.endpoint;
        // Until the node's routes were read for this endpoint, their absence says nothing.
        let routed =
            self.facts.underlay.contains_key(&endpoint) || self.state(Lane::underlay_state) != ProbeState::Failed;
        if !routed {
            return Some(format!("give this node a route to {endpoint}: the kernel has none"));
        }
        // One that has answered was there: it is dead, not misplaced. Echoes through the tunnel may have gone to an earlier endpoint.
        let never = self.lane.is_some_and(|lane| lane.underlay.received + lane.arp.received == 0);
        let silent = never && self.silent() && self.state(Lane::underlay_state) == ProbeState::Failed;
        self.unresolved().filter(|_| silent).map(|unresolved| {
            format!("put {endpoint} and this node on one network, or correct vtep-endpoint: {unresolved}")
        })
    }

    /// That the endpoint, or the gateway to it, is not on the link.
    fn unresolved(&self) -> Option<String> {
        let underlay = self.facts.underlay.get(&self.vtep.endpoint).filter(|underlay| underlay.unresolved)?;
        Some(format!("nobody on {} answers ARP for {}", underlay.device.name, underlay.next_hop))
    }

    fn wrong_udp_port(&self, now: Instant) -> Option<String> {
        if !self.unanswered() {
            return None;
        }
        let flow = self.recent_flows(now).find(|flow| flow.port != self.tunnel.port)?;
        Some(format!(
            "set `port {}` in the tunnel profile of BIG-IP {}: its frames arrive on UDP port {}",
            self.tunnel.port, self.vtep.endpoint, flow.port
        ))
    }

    fn wrong_vni(&self, now: Instant) -> Option<String> {
        if !self.unanswered() {
            return None;
        }
        let flow = self.recent_flows(now).find(|flow| flow.port == self.tunnel.port && flow.vni != VTEP_VNI)?;
        Some(format!(
            "set `key {VTEP_VNI}` on the tunnel of BIG-IP {}: its frames carry VNI {}",
            self.vtep.endpoint, flow.vni
        ))
    }

    fn wrong_source(&self, now: Instant) -> Option<String> {
        let stray = self.lane?.stray.filter(|stray| now.duration_since(stray.last_seen) < RECENT)?;
        // Another node forwards what BIG-IP flooded: then BIG-IP's own frames are seen as well.
        let is_right = |flow: &&Flow| flow.port == self.tunnel.port && flow.vni == VTEP_VNI;
        let right = self.recent_flows(now).filter(is_right).map(|flow| flow.last_seen).max();
        let alone = right.is_none_or(|right| stray.last_seen.saturating_duration_since(right) >= ALONE);
        alone.then(|| {
            format!(
                "set `local-address {}` on BIG-IP's tunnel, or vtep-endpoint to {}: frames of {} come from there",
                self.vtep.endpoint, stray.source, stray.inner_source
            )
        })
    }

    fn foreign_inner_source(&self, now: Instant) -> Option<String> {
        let foreign = self.recent_flows(now).filter(|flow| flow.vni == VTEP_VNI).find_map(|flow| flow.foreign);
        let (_, address) = foreign.filter(|(at, _)| now.duration_since(*at) < RECENT / 2)?;
        Some(format!(
            "let BIG-IP {} use its self IP in {} as the source (a SNAT pool instead of automap): it sends from {address}, which is in no \
             vtep-cidr, so that the answers do not come back to it",
            self.vtep.endpoint, self.vtep.cidr
        ))
    }

    fn vtep_mac_mismatch(&self) -> Option<String> {
        let (configured, cidr) = (self.vtep.mac, self.vtep.cidr);
        let seen = self.lane.and_then(Lane::foreign_mac);
        if configured.is_multicast() {
            let seen = seen.map(|mac| format!("; BIG-IP's tunnel answers with {mac}")).unwrap_or_default();
            return Some(format!(
                "set vtep-mac for {cidr} to the MAC of BIG-IP's tunnel: {configured} is a group address, ping may pass and TCP \
                 does not{seen}"
            ));
        }
        seen.map(|seen| {
            format!("set vtep-mac for {cidr} to {seen}, which BIG-IP's tunnel answers with, instead of {configured}")
        })
    }

    fn endpoint_unreachable(&self) -> Option<String> {
        let dead = self.silent() && self.state(Lane::underlay_state) == ProbeState::Failed;
        let endpoint = self.vtep.endpoint;
        (dead && self.endpoint_no_route().is_none()).then(|| {
            let unresolved = self.unresolved().map(|unresolved| format!(", and {unresolved}")).unwrap_or_default();
            format!(
                "look at BIG-IP {endpoint} and the network to it: it answers neither ping nor through the tunnel{unresolved}"
            )
        })
    }

    fn tunnel_silent(&self) -> Option<String> {
        let silent = self.no_answer() && self.state(Lane::underlay_state) == ProbeState::Ok;
        let one_way = self.seen_since();
        // A target that never answered may be the wrong one.
        if one_way && !self.has_answered() {
            return None;
        }
        let heard = if one_way { ", though its own frames arrive" } else { "" };
        let (endpoint, port) = (self.vtep.endpoint, self.tunnel.port);
        silent.then(|| {
            format!(
                "BIG-IP {endpoint} answers ping but nothing through the tunnel{heard}: check that UDP port {port} is not filtered, \
                 that its tunnel has key {VTEP_VNI} and local-address {endpoint}, and its FDB record for {}{}",
                self.this_node(),
                self.unsent()
            )
        })
    }

    fn no_return_path(&self) -> Option<String> {
        let one_way =
            self.state(Lane::arp_state) == ProbeState::Ok && self.state(Lane::icmp_state) == ProbeState::Failed;
        (one_way && !self.drops() && self.vtep_mac_mismatch().is_none()).then(|| {
            let fdb = self.this_node();
            let router = self.facts.cilium.router.map(|router| format!(" that covers {router}")).unwrap_or_default();
            format!(
                "the tunnel of BIG-IP {} answers ARP but not ping: check its route to the pod CIDR{router}, its FDB record for {fdb}, \
                 and that the self IP allows ICMP{}",
                self.vtep.endpoint,
                self.unsent()
            )
        })
    }

    /// Why the last probe did not even leave, where that is so.
    fn unsent(&self) -> String {
        let error = self.lane.and_then(|lane| lane.icmp.send_error.as_ref());
        error.map(|error| format!(" (the last probe could not be sent: {error})")).unwrap_or_default()
    }

    /// As BIG-IP knows it.
    fn this_node(&self) -> String {
        let node = self.facts.underlay.get(&self.vtep.endpoint).and_then(|underlay| underlay.source);
        node.map_or_else(|| "this node".to_owned(), |node| format!("this node ({node})"))
    }

    fn path_mtu(&self) -> Option<String> {
        let lane = self.lane?;
        let large_lost = lane.icmp_state() == ProbeState::Ok && lane.path_mtu_state() == ProbeState::Failed;
        // Where probes of any size are lost, the size is not why.
        let (full, found) = (lane.path_mtu.full_size(), lane.path_mtu.inner_mtu());
        let found = found.filter(|found| *found < full)?;
        large_lost.then(|| {
            format!(
                "raise the MTU between this node and BIG-IP {}, or lower Cilium's and BIG-IP's tunnel MTU: inner packets of {found} bytes \
                 pass, those of {full} do not",
                self.vtep.endpoint
            )
        })
    }

    fn packet_loss(&self) -> Option<String> {
        let lane = self.lane?;
        let loss = lane.icmp.loss();
        (lane.icmp_state() == ProbeState::Ok && lane.icmp.lost() >= LOST && loss > LOSS).then(|| {
            format!("{:.1} % of the probes to {} are lost: look for drops on the way", loss * 100.0, self.vtep.endpoint)
        })
    }

    fn self_ip_unknown(&self) -> Option<String> {
        let Vtep { cidr, endpoint, .. } = self.vtep;
        match self.lane?.target {
            None => Some(format!(
                "set --probe-target {cidr}=<tunnel self IP>: none is known, BIG-IP has not sent anything from inside {cidr} yet, and none has answered so far"
            )),
            Some(target) if self.no_answer() && self.seen_since() && !self.has_answered() => Some(format!(
                "check --probe-target {cidr}={}: it does not answer while BIG-IP {endpoint} sends through the tunnel; if it is the \
                 tunnel self IP, look for a filter on UDP port {} towards BIG-IP",
                target.address, self.tunnel.port
            )),
            Some(_) => None,
        }
    }

    /// Nothing answers through the tunnel.
    fn no_answer(&self) -> bool {
        let arp = matches!(self.state(Lane::arp_state), ProbeState::Failed | ProbeState::Unsupported);
        arp && self.state(Lane::icmp_state) == ProbeState::Failed
    }

    /// The probe target has answered once: it is the right one.
    fn has_answered(&self) -> bool {
        self.lane.is_some_and(Lane::has_answered)
    }

    /// Nothing answers, and nothing has come by itself since.
    fn silent(&self) -> bool {
        self.no_answer() && !self.seen_since()
    }

    fn seen_since(&self) -> bool {
        self.lane.is_some_and(|lane| lane.seen_since_unanswered(self.tunnel).is_some())
    }

    /// Ping through the tunnel has failed often enough, or there is nothing to ping.
    fn unanswered(&self) -> bool {
        matches!(self.state(Lane::icmp_state), ProbeState::Failed | ProbeState::NoTarget)
    }

    fn state(&self, of: fn(&Lane) -> ProbeState) -> ProbeState {
        self.lane.map_or(ProbeState::Pending, of)
    }

    fn recent_flows(&self, now: Instant) -> impl Iterator<Item = &Flow> {
        let flows = self.lane.into_iter().flat_map(|lane| &lane.flows);
        flows.filter(move |flow| now.duration_since(flow.last_seen) < RECENT)
    }
}

#[cfg(test)]
mod tests;
