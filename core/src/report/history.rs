//! The recent history of each VTEP: round-trip times and loss of the last ten minutes, and the last changes. It is in memory only, and
//! bounded.

use std::{collections::VecDeque, time::Duration};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::Serialize;

use super::status::{Status, VtepStatus};
use crate::diagnosis::{Cause, Verdict};

/// The time between two points.
pub const STEP: Duration = Duration::from_secs(5);
/// Points per VTEP: ten minutes of them.
const POINTS: usize = 120;
/// Changes of all VTEPs together.
const CHANGES: usize = 50;

/// The content of `/history`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct History {
    /// Newest first.
    pub changes: VecDeque<Change>,
    pub vteps: Vec<Track>,
}

/// A change of verdict or cause, a repair, or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub at: Timestamp,
    pub cidr: Ipv4Net,
    pub from: State,
    /// Equal to `from` if the entry was only repaired.
    pub to: State,
    /// Repairs of the map entry since the previous change.
    pub repairs: u64,
}

/// The state of a VTEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    pub verdict: Verdict,
    pub cause: Option<Cause>,
}

/// The last ten minutes of one VTEP.
#[derive(Clone, Debug, Serialize)]
pub struct Track {
    pub cidr: Ipv4Net,
    /// Oldest first, five seconds apart.
    pub points: VecDeque<Point>,
    #[serde(skip)]
    last: Counters,
}

/// Five seconds of pings through the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    pub at: Timestamp,
    /// Mean of the round-trip times; `null` if nothing was answered.
    pub rtt_us: Option<u64>,
    pub received: u64,
    pub lost: u64,
}

/// The counters at the last point. They only grow.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    answered: u64,
    rtt_sum: Duration,
    lost: u64,
    repairs: u64,
    state: Option<State>,
}

impl History {
    /// Records the changes since the last call.
    pub fn note_changes(&mut self, status: &Status, at: Timestamp) {
        self.vteps.retain(|track| status.vteps.iter().any(|vtep| vtep.cidr == track.cidr));
        for vtep in &status.vteps {
            let track = track(&mut self.vteps, vtep.cidr);
            let to = State { verdict: vtep.verdict, cause: vtep.cause };
            // The first observation of a VTEP is not a change.
            let from = track.last.state.replace(to).unwrap_or(to);
            let repairs = vtep.datapath.repairs.saturating_sub(track.last.repairs);
            track.last.repairs = vtep.datapath.repairs;
            if from != to || repairs > 0 {
                self.changes.truncate(CHANGES - 1);
                self.changes.push_front(Change { at, cidr: vtep.cidr, from, to, repairs });
            }
        }
    }

    /// Adds a point to each VTEP's track.
    pub fn note_points(&mut self, status: &Status, at: Timestamp) {
        for vtep in &status.vteps {
            track(&mut self.vteps, vtep.cidr).note(vtep, at);
        }
    }
}

fn track(tracks: &mut Vec<Track>, cidr: Ipv4Net) -> &mut Track {
    let position = tracks.iter().position(|track| track.cidr == cidr).unwrap_or_else(|| {
        tracks.push(Track { cidr, points: VecDeque::new(), last: Counters::default() });
        tracks.len() - 1
    });
    &mut tracks[position]
}

impl Track {
    fn note(&mut self, vtep: &VtepStatus, at: Timestamp) {
        let icmp = &vtep.probes.icmp;
        let last = self.last;
        let received = icmp.rtts.count().saturating_sub(last.answered);
        let sum = icmp.rtts.sum().saturating_sub(last.rtt_sum);
        let point = Point {
            at,
            rtt_us: u64::try_from(sum.as_micros()).ok().and_then(|sum| sum.checked_div(received)),
            received,
            lost: icmp.lost.saturating_sub(last.lost),
        };
        self.last = Counters { answered: icmp.rtts.count(), rtt_sum: icmp.rtts.sum(), lost: icmp.lost, ..last };
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One VTEP that was never probed.
    fn status(verdict: Verdict, cause: Option<Cause>, repairs: u64) -> Status {
        let mut status = Status::sample();
        status.vteps.truncate(1);
        let vtep = &mut status.vteps[0];
        (vtep.verdict, vtep.cause, vtep.datapath.repairs, vtep.probes.icmp.lost) = (verdict, cause, repairs, 0);
        status
    }

    #[test]
    fn changes_are_told_once_newest_first_and_bounded() {
        let mut history = History::default();
        let at = Timestamp::now();
        for (verdict, cause, repairs) in [
            (Verdict::Healthy, None, 0),
            (Verdict::Healthy, None, 0),
            (Verdict::Unreachable, Some(Cause::TunnelSilent), 0),
            (Verdict::Unreachable, Some(Cause::TunnelSilent), 2),
            (Verdict::Healthy, None, 3),
        ] {
            history.note_changes(&status(verdict, cause, repairs), at);
        }
        let reported: Vec<_> = history.changes.iter().map(|change| (change.from, change.to, change.repairs)).collect();
        let healthy = State { verdict: Verdict::Healthy, cause: None };
        let silent = State { verdict: Verdict::Unreachable, cause: Some(Cause::TunnelSilent) };
        assert_eq!(reported, [(silent, healthy, 1), (silent, silent, 2), (healthy, silent, 0)]);
        for n in 0..200 {
            history.note_changes(&status(if n % 2 == 0 { Verdict::Healthy } else { Verdict::Unknown }, None, 2), at);
        }
        assert_eq!(history.changes.len(), CHANGES);
    }

    #[test]
    fn a_point_counts_since_the_one_before_and_ten_minutes_are_kept() {
        let mut history = History::default();
        let at = Timestamp::now();
        let mut status = status(Verdict::Healthy, None, 0);
        history.note_points(&status, at);
        status.vteps[0].probes.icmp.rtts.observe(Duration::from_micros(100));
        status.vteps[0].probes.icmp.rtts.observe(Duration::from_micros(300));
        status.vteps[0].probes.icmp.lost = 1;
        history.note_points(&status, at);
        history.note_points(&status, at);
        let point = |rtt_us, received, lost| Point { at, rtt_us, received, lost };
        let expected = [point(None, 0, 0), point(Some(200), 2, 1), point(None, 0, 0)];
        assert!(history.vteps[0].points.iter().eq(&expected), "{:?}", history.vteps[0].points);
        for _ in 0..500 {
            history.note_points(&status, at);
        }
        assert_eq!(history.vteps[0].points.len(), POINTS);
    }
}
