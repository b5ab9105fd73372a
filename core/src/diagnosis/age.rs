//! Evidence has an age: what was seen some time ago is told as such, and comes after what holds now. Pure.

use std::time::{Duration, Instant};

use super::{Cause, Evidence};
use crate::tunnel::vtep_probes::{Lane, ProbeState};

/// What was seen within this time is of now.
pub(super) const FRESH: Duration = Duration::from_secs(15);
/// Before frames, a sweep or probes had this time, that nothing is known is no news.
pub(super) const LOOKING: Duration = Duration::from_secs(15);
/// The sweep takes one CIDR after the other: eight take less.
const LOOKING_AT_MOST: Duration = Duration::from_secs(60);
/// Ages are told in steps, so that a hint does not change every second.
const STEP_S: u64 = 5;

/// What a hint rests on, and when it was seen last: longer ago than fifteen seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    pub cause: Cause,
    pub what: &'static str,
    pub seen: Instant,
}

impl Evidence<'_> {
    /// What was seen last that makes this cause hold, and when; `None` where the cause is a state of now, or rests on frames that are
    /// recent in any case.
    fn seen(&self, cause: Cause) -> Option<(&'static str, Instant)> {
        match cause {
            Cause::VtepMacMismatch if !self.vtep.mac.is_multicast() => {
                Some(("ARP was answered with another MAC", self.lane?.observed_at?))
            }
            // Left alone, it is as somebody else wrote it.
            Cause::DatapathContended if !self.is_left_alone() => {
                let contended = self.datapath.contended.get(&self.vtep.cidr)?;
                Some(("the VTEP entry was put right", contended.repaired))
            }
            Cause::PacketLoss => Some(("a probe was lost", self.lane?.icmp.lost_at()?)),
            Cause::VtepMacMismatch
            | Cause::DatapathContended
            | Cause::NodeKernelUnsupported
            | Cause::CiliumNotRunning
            | Cause::CiliumBrokenRelease
            | Cause::CiliumArpZeroMac
            | Cause::CiliumVtepDisabled
            | Cause::CiliumRestartRequired
            | Cause::DatapathMissing
            | Cause::VtepCidrInUse
            | Cause::EndpointNoRoute
            | Cause::WrongUdpPort
            | Cause::WrongVni
            | Cause::WrongSource
            | Cause::EndpointUnreachable
            | Cause::TunnelSilent
            | Cause::ForeignInnerSource
            | Cause::NoReturnPath
            | Cause::PathMtu
            | Cause::SelfIpUnknown => None,
        }
    }

    /// What this cause rests on, where that is not of now.
    pub(super) fn observation(&self, cause: Cause, now: Instant) -> Option<Observation> {
        let (what, seen) = self.seen(cause)?;
        (now.saturating_duration_since(seen) > FRESH).then_some(Observation { cause, what, seen })
    }

    /// Whether a cause that holds now comes before this one: its evidence is old, or what showed it is silent since.
    pub(super) fn is_outranked(&self, cause: Cause, now: Instant) -> bool {
        let is_silent = cause == Cause::VtepMacMismatch
            && !self.vtep.mac.is_multicast()
            && self.state(Lane::arp_state) == ProbeState::Failed;
        is_silent || self.observation(cause, now).is_some()
    }

    /// Nothing is known, and nothing had its time yet.
    pub(super) fn is_early(&self, cause: Option<Cause>, now: Instant) -> bool {
        let is_unknown = matches!(cause, None | Some(Cause::SelfIpUnknown));
        is_unknown && !self.lane.is_some_and(|lane| has_looked(lane, now))
    }
}

/// Everything that may tell of this VTEP had its time.
pub(super) fn has_looked(lane: &Lane, now: Instant) -> bool {
    let time = now.saturating_duration_since(lane.began);
    time >= LOOKING && (lane.target.is_some() || lane.swept || !lane.heard || time >= LOOKING_AT_MOST)
}

impl Observation {
    /// For a hint's end.
    pub(super) fn ago(&self, now: Instant) -> String {
        let seconds = now.saturating_duration_since(self.seen).as_secs() / STEP_S * STEP_S;
        match seconds {
            ..120 => format!(" (seen {seconds} s ago)"),
            120.. => format!(" (seen {} min ago)", seconds / 60),
        }
    }
}
