//! From evidence to a cause: what is wrong with one VTEP, in one word, and what a person should do next. Pure.
//!
//! The causes are tried from the node outwards – kernel, Cilium, map, wire, BIG-IP – and the first that holds is the verdict's;
//! the others that hold as well are named under `also`. What rests on old evidence comes after what holds now, and what the agent makes
//! good by itself comes last.

mod age;
mod cause;
mod reach;
mod writers;

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::{
    config::spec::{Tunnel, Vtep},
    datapath::{layout::Model, plan::Op, report::DatapathReport},
    node::{
        drift::{Difference, Effect},
        facts::Facts,
        fitness::Kernel,
    },
    tunnel::{
        flow::Flow,
        frames::VTEP_VNI,
        vtep_probes::{Lane, ProbeState},
        window::SendError,
    },
};

pub use self::{
    age::Observation,
    cause::{Cause, RUNBOOK, Verdict},
};

/// What is known of one VTEP at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub vtep: &'a Vtep,
    pub tunnel: Tunnel,
    /// Where the running Cilium differs from the configuration.
    pub differences: &'a [Difference],
    pub kernel: &'a Kernel,
    pub facts: &'a Facts,
    pub datapath: &'a DatapathReport,
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
    /// What of all this rests on something that was seen some time ago.
    pub evidence: Vec<Observation>,
    /// Nothing is known because nothing had its time yet: that is no news.
    pub early: bool,
    /// When verdict or cause last changed.
    pub since: Timestamp,
}

impl Diagnosis {
    #[cfg(any(test, feature = "testing"))]
    pub fn of(verdict: Verdict, cause: Option<Cause>) -> Self {
        let (also, evidence) = (Vec::new(), Vec::new());
        Self { verdict, cause, also, hint: None, evidence, early: false, since: Timestamp::UNIX_EPOCH }
    }

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
/// After this, what a tunnel answered before it fell silent is history.
const SILENT: Duration = Duration::from_secs(60);
/// As with every cause, fewer misses than this say nothing.
const LOST: usize = 3;

/// Weighs the evidence.
#[must_use]
pub fn diagnose(evidence: &Evidence<'_>, now: Instant, at: Timestamp) -> Diagnosis {
    let hint_of = |&cause: &Cause| evidence.hint(cause, now).map(|hint| (cause, hint));
    let mut held: Vec<_> = Cause::ALL.iter().filter_map(hint_of).collect();
    held.sort_by_key(|(cause, _)| (evidence.is_made_good(*cause), evidence.is_outranked(*cause, now)));
    let old: Vec<_> = held.iter().filter_map(|(cause, _)| evidence.observation(*cause, now)).collect();
    let mut held = held.into_iter();
    let first = held.next();
    let also = held.map(|(cause, _)| cause).collect();
    let verdict =
        first.as_ref().map_or_else(|| evidence.verdict_without_cause(), |(cause, _)| evidence.verdict(*cause));
    let (cause, hint) = first.unzip();
    let age = old.iter().find(|observation| Some(observation.cause) == cause);
    let hint = hint.map(|hint| hint + &age.map(|observation| observation.ago(now)).unwrap_or_default());
    let early = verdict == Verdict::Unknown && evidence.is_early(cause, now);
    Diagnosis { verdict, cause, also, hint, evidence: old, early, since: at }
}

impl Evidence<'_> {
    /// Through the tunnel and back, or as far as it is known.
    fn verdict_without_cause(&self) -> Verdict {
        let through = self.state(Lane::icmp_state);
        if self.datapath.last_pass.is_some() && through == ProbeState::Ok { Verdict::Healthy } else { Verdict::Unknown }
    }

    fn verdict(&self, cause: Cause) -> Verdict {
        // Where echoes never came back, port lockdown may be all there is; where they did, what comes for pods is lost as well.
        let lost = cause == Cause::NoReturnPath && self.lane.is_some_and(Lane::has_echoed);
        match () {
            () if self.is_made_good(cause) => Verdict::Degraded,
            () if lost => Verdict::Unreachable,
            () => cause.verdict(),
        }
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
            Cause::EndpointNoRoute => self.endpoint_no_route(now),
            Cause::WrongUdpPort => self.wrong_udp_port(now),
            Cause::WrongVni => self.wrong_vni(now),
            Cause::WrongSource => self.wrong_source(now),
            Cause::ForeignInnerSource => self.foreign_inner_source(now),
            Cause::VtepMacMismatch => self.vtep_mac_mismatch(now),
            Cause::EndpointUnreachable => self.endpoint_unreachable(now),
            Cause::TunnelSilent => self.tunnel_silent(now),
            Cause::NoReturnPath => self.no_return_path(now),
            Cause::PathMtu => self.path_mtu(),
            Cause::PacketLoss => self.packet_loss(),
            Cause::SelfIpUnknown => self.self_ip_unknown(now),
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

    fn vtep_mac_mismatch(&self, now: Instant) -> Option<String> {
        let (configured, cidr) = (self.vtep.mac, self.vtep.cidr);
        let at = self.lane.and_then(|lane| lane.observed_at);
        // Of a tunnel that has been silent for long it is not known any more.
        let is_gone = self.no_answer() && at.is_none_or(|at| now.saturating_duration_since(at) >= SILENT);
        let seen = self.lane.and_then(Lane::foreign_mac).filter(|_| !is_gone);
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
