//! From evidence to a cause: decides the fault of one VTEP, and what a person should do next. Pure.
//!
//! The causes are tried from the node outwards, and the first that holds is the verdict's; the others that hold are listed under `also`.
//! A cause with old evidence comes after those that hold now, and a cause that the agent itself corrects comes last.
//!
//! What the evidence shows at one moment is not yet the verdict that is reported: `hold_down.rs` decides when it is.
//!
//! `cause.rs` is the registry of causes. `node.rs`, `map.rs`, `wire.rs` and `bigip.rs` decide them: in each file a hint function for every
//! cause on that part of the path, then the helpers that several of them use. `peer.rs` has the words for the far end.

mod age;
mod bigip;
mod cause;
mod hold_down;
mod map;
mod node;
mod peer;
mod wire;

use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use self::age::{FRESH, has_had_time};
use crate::{
    config::spec::{Place, Tunnel, Vtep},
    datapath::report::DatapathReport,
    node::{
        drift::{Difference, Effect},
        facts::Facts,
        fitness::Kernel,
    },
    tunnel::{
        flow::Flow,
        vtep_probes::{ProbeState, VtepProbes},
    },
};

pub use self::{
    age::Observation,
    cause::{Cause, Hop, RUNBOOK, Verdict},
    hold_down::{Flapping, HoldDown},
};

/// Everything that is known about one VTEP now.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub vtep: &'a Vtep,
    /// Its name, if it comes from a custom resource: then the far end may be no BIG-IP.
    pub name: Option<&'a str>,
    /// The agent runs in a pod: a hint about a setting also names the chart's value.
    pub in_pod: bool,
    pub tunnel: Tunnel,
    /// The differences between the running Cilium and the configuration.
    pub differences: &'a [Difference],
    pub kernel: &'a Kernel,
    pub facts: &'a Facts,
    pub datapath: &'a DatapathReport,
    pub probes: Option<&'a VtepProbes>,
    /// When its last outage ended: probes that were lost before are no packet loss.
    pub recovered: Option<Instant>,
}

/// The verdict about one VTEP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Where the VTEP was: nothing here applies to another endpoint or MAC.
    pub place: Place,
    /// The VTEP's name, if it comes from a custom resource.
    pub name: Option<String>,
    pub verdict: Verdict,
    /// The cause nearest to the node; none when healthy, or when it is too early to tell.
    pub cause: Option<Cause>,
    /// The other causes that hold.
    pub also: Vec<Cause>,
    /// What a person should do next, with the values seen.
    pub hint: Option<String>,
    /// The old observations behind these causes.
    pub evidence: Vec<Observation>,
    /// The outages, if the VTEP flaps.
    pub flapping: Option<Flapping>,
    /// Nothing is known yet, because frames, probes and the sweep need more time. Such a diagnosis makes no Event.
    pub early: bool,
    /// When verdict or cause last changed.
    pub since: Timestamp,
}

impl Diagnosis {
    /// A sample for tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn of(verdict: Verdict, cause: Option<Cause>) -> Self {
        let (also, evidence) = (Vec::new(), Vec::new());
        let place = Place { endpoint: [10, 169, 72, 34].into(), mac: [0, 0x50, 0x56, 0xa0, 0x7d, 0xd8].into() };
        let since = Timestamp::UNIX_EPOCH;
        Self { place, name: None, verdict, cause, also, hint: None, evidence, flapping: None, early: false, since }
    }

    /// Same place, same verdict, same cause; the values in the hint may differ.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        (self.place, self.verdict, self.cause) == (other.place, other.verdict, other.cause)
    }

    /// The VTEP in words: `10.1.6.0/24` or `vpc-gateway (10.1.6.0/24)`.
    #[must_use]
    pub fn label(&self, cidr: Ipv4Net) -> String {
        self.name.as_ref().map_or_else(|| cidr.to_string(), |name| format!("{name} ({cidr})"))
    }
}

/// Frames older than this are no evidence.
const RECENT: Duration = Duration::from_secs(10);

/// The verdict, the causes and the hint that the evidence shows now.
#[must_use]
pub fn diagnose(evidence: &Evidence<'_>, now: Instant, at: Timestamp) -> Diagnosis {
    let hint_of = |&cause: &Cause| cause.hint(evidence, now).map(|hint| (cause, hint));
    let mut held: Vec<_> = Cause::ALL.iter().filter_map(hint_of).collect();
    held.sort_by_key(|(cause, _)| (evidence.is_corrected(*cause), evidence.is_outranked(*cause, now)));
    let old: Vec<_> = held.iter().filter_map(|(cause, _)| evidence.observation(*cause, now)).collect();
    let (remarks, held): (Vec<_>, Vec<_>) = held.into_iter().partition(|(cause, _)| cause.is_remark());
    let mut held = held.into_iter();
    let first = held.next();
    let also = held.chain(remarks).map(|(cause, _)| cause).collect();
    let verdict =
        first.as_ref().map_or_else(|| evidence.verdict_without_cause(now), |(cause, _)| evidence.verdict(*cause));
    let (cause, hint) = first.unzip();
    let age = old.iter().find(|observation| Some(observation.cause) == cause);
    let hint = hint.map(|hint| hint + &age.map(|observation| observation.ago(now)).unwrap_or_default());
    let early = verdict == Verdict::Unknown && evidence.is_early(cause, now);
    let (place, name) = (evidence.vtep.place(), evidence.name.map(str::to_owned));
    Diagnosis { place, name, verdict, cause, also, hint, evidence: old, flapping: None, early, since: at }
}

impl Evidence<'_> {
    /// Healthy if probes through the tunnel are answered. An echo follows Cilium's map, which may still have an earlier endpoint; an ARP
    /// request goes to this one. So the first answer to one of them is not enough.
    fn verdict_without_cause(&self, now: Instant) -> Verdict {
        let through = self.state(VtepProbes::icmp_state);
        let is_confirmed = self.state(VtepProbes::arp_state) != ProbeState::Pending
            || self.probes.is_some_and(|probes| has_had_time(probes, now));
        if self.datapath.last_pass.is_some() && through == ProbeState::Ok && is_confirmed {
            Verdict::Healthy
        } else {
            Verdict::Unknown
        }
    }

    fn verdict(&self, cause: Cause) -> Verdict {
        // If no echo was ever answered, port lockdown may be the whole reason. If one was, the pods' packets are now lost as well.
        let pings = self.state(VtepProbes::icmp_state) == ProbeState::Ok;
        let lost = cause == Cause::NoReturnPath && !pings && self.probes.is_some_and(VtepProbes::has_echoed);
        let passes = cause == Cause::CiliumVtepDisabled && pings;
        match () {
            () if self.is_corrected(cause) || passes => Verdict::Degraded,
            () if lost => Verdict::Unreachable,
            () => cause.verdict(),
        }
    }

    /// Whether the agent itself corrects the fault: a pass of the reconciler overwrites older values as often as Cilium or another writer
    /// brings them back. It cannot correct Cilium's programs.
    fn is_corrected(&self, cause: Cause) -> bool {
        let only_values = || self.harmful_differences().all(|difference| difference.effect != Effect::Programs);
        (cause == Cause::DatapathContended && !self.is_backed_off())
            || (cause == Cause::CiliumRestartRequired && only_values() && !self.drops_probes())
    }

    /// Ping through the tunnel fails, or no address to ping is known.
    fn is_ping_unanswered(&self) -> bool {
        matches!(self.state(VtepProbes::icmp_state), ProbeState::Failed | ProbeState::NoTarget)
    }

    /// Neither ARP nor ping is answered through the tunnel. One of them may not have been lost often enough yet to count as failed.
    fn is_tunnel_unanswered(&self) -> bool {
        use ProbeState::{Failed, Pending, Unsupported};
        let (arp, icmp) = (self.state(VtepProbes::arp_state), self.state(VtepProbes::icmp_state));
        matches!((arp, icmp), (Failed | Unsupported | Pending, Failed) | (Failed, Pending))
    }

    /// The probe target has answered at least once, so it is the right address.
    fn has_target_answered(&self) -> bool {
        self.probes.is_some_and(VtepProbes::has_answered)
    }

    /// BIG-IP has recently sent frames of its own, after the first unanswered probe.
    fn has_own_frames(&self, now: Instant) -> bool {
        let seen = self.probes.and_then(|probes| probes.seen_since_unanswered(self.tunnel));
        seen.is_some_and(|seen| now.saturating_duration_since(seen) < FRESH)
    }

    fn state(&self, of: fn(&VtepProbes) -> ProbeState) -> ProbeState {
        self.probes.map_or(ProbeState::Pending, of)
    }

    fn recent_flows(&self, now: Instant) -> impl Iterator<Item = &Flow> {
        let flows = self.probes.into_iter().flat_map(|probes| &probes.flows);
        flows.filter(move |flow| now.duration_since(flow.last_seen) < RECENT)
    }
}

#[cfg(test)]
mod tests;
