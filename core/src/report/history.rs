//! The recent history of each VTEP: round-trip times and loss of the last ten minutes, and the last changes. It is in memory only, and
//! bounded.

use std::{collections::VecDeque, time::Duration};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::Serialize;

use super::status::{Failover, Status, VtepStatus};
use crate::{
    config::spec::Place,
    diagnosis::{Cause, Verdict},
};

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

/// A change of verdict or cause, a repair, a move, a failover, or several of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub at: Timestamp,
    pub cidr: Ipv4Net,
    pub from: State,
    /// Equal to `from` if the entry was only repaired. After a move it is unknown until the probes of the new place have a result; if that
    /// is health, it is entered here, because a failover that succeeds is no outage.
    pub to: State,
    /// Repairs of the map entry since the previous change.
    pub repairs: u64,
    /// Repairs of routes and rules since the previous change.
    pub route_repairs: u64,
    /// The configuration has another endpoint or MAC: a failover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
    /// Another unit has taken over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,
}

/// The old and the new place of a VTEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    pub from: Place,
    pub to: Place,
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
    route_repairs: u64,
    failovers: u64,
    state: Option<State>,
    place: Option<Place>,
    /// Nothing is known yet about the place that it moved to.
    is_moving: bool,
}

impl History {
    /// Records the changes since the last call.
    pub fn note_changes(&mut self, status: &Status, at: Timestamp) {
        self.complete_failovers(status);
        self.vteps.retain(|track| status.vteps.iter().any(|vtep| vtep.cidr == track.cidr));
        for vtep in &status.vteps {
            self.note_change(vtep, at);
        }
    }

    /// Enters what has become known since about failovers: further changes, and how long pings were lost.
    fn complete_failovers(&mut self, status: &Status) {
        for Change { cidr, failover, .. } in &mut self.changes {
            let Some(known) = failover else { continue };
            let vtep = status.vteps.iter().find(|vtep| vtep.cidr == *cidr);
            let is_same = |now: &&Failover| now.changes.first() == known.changes.first() && now.is_of_time(known);
            if let Some(now) = vtep.and_then(|vtep| vtep.failovers.iter().find(is_same)) {
                *known = Failover { at: known.at, ..now.clone() };
            }
        }
    }

    fn note_change(&mut self, vtep: &VtepStatus, at: Timestamp) {
        let (change, is_arrival) = track(&mut self.vteps, vtep.cidr).last.change(vtep, at);
        let move_of = |change: &&mut Change| change.cidr == vtep.cidr && change.moved.is_some();
        match self.changes.iter_mut().find(move_of).filter(|_| is_arrival) {
            Some(moved) => {
                moved.to = change.to;
                moved.repairs += change.repairs;
                moved.route_repairs += change.route_repairs;
            }
            None if change.is_one() => {
                self.changes.truncate(CHANGES - 1);
                self.changes.push_front(change);
            }
            None => {}
        }
    }

    /// Adds a point to each VTEP's track.
    pub fn note_points(&mut self, status: &Status, at: Timestamp) {
        for vtep in &status.vteps {
            track(&mut self.vteps, vtep.cidr).note(vtep, at);
        }
    }
}

impl Change {
    fn is_one(&self) -> bool {
        let is_event = self.moved.is_some() || self.failover.is_some();
        self.from != self.to || self.repairs + self.route_repairs > 0 || is_event
    }
}

fn track(tracks: &mut Vec<Track>, cidr: Ipv4Net) -> &mut Track {
    let position = tracks.iter().position(|track| track.cidr == cidr).unwrap_or_else(|| {
        tracks.push(Track { cidr, points: VecDeque::new(), last: Counters::default() });
        tracks.len() - 1
    });
    &mut tracks[position]
}

impl Counters {
    /// The difference from the last observation, and whether it is the end of a move, or still within one: then it is no change of its own.
    fn change(&mut self, vtep: &VtepStatus, at: Timestamp) -> (Change, bool) {
        let to = State { verdict: vtep.verdict, cause: vtep.cause };
        // The first observation of a VTEP is not a change.
        let from = self.state.replace(to).unwrap_or(to);
        let place = Place { endpoint: vtep.endpoint, mac: vtep.mac_configured };
        let moved = self.place.replace(place).filter(|&from| from != place).map(|from| Moved { from, to: place });
        let since = |now: u64, last: &mut u64| now.saturating_sub(std::mem::replace(last, now));
        let repairs = since(vtep.datapath.repairs, &mut self.repairs);
        let route_repairs = since(vtep.datapath.route_repairs, &mut self.route_repairs);
        let has_failed_over = std::mem::replace(&mut self.failovers, vtep.failovers_total) < vtep.failovers_total;
        let failover = vtep.failovers.last().filter(|_| has_failed_over).cloned();
        let is_arrival = self.is_moving && moved.is_none() && (vtep.early || vtep.verdict == Verdict::Healthy);
        let is_moving = vtep.early && (self.is_moving || moved.is_some());
        if moved.is_some() {
            // The probes begin anew, and so do their counts.
            let Self { repairs, route_repairs, failovers, state, place, .. } = *self;
            *self = Self { repairs, route_repairs, failovers, state, place, ..Self::default() };
        }
        self.is_moving = is_moving;
        (Change { at, cidr: vtep.cidr, from, to, repairs, route_repairs, moved, failover }, is_arrival)
    }
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

    fn at_place(n: u8, verdict: Verdict, cause: Option<Cause>, repairs: u64) -> Status {
        let mut status = status(verdict, cause, repairs);
        let vtep = &mut status.vteps[0];
        vtep.endpoint = [10, 0, 0, n].into();
        vtep.early = verdict == Verdict::Unknown;
        status
    }

    /// The changes, newest first, as the page would write them.
    fn lines(history: &History) -> Vec<String> {
        let state =
            |State { verdict, cause }: State| cause.map_or_else(|| verdict.to_string(), |cause| cause.to_string());
        let line = |change: &Change| {
            let moved = change.moved.map(|Moved { from, to }| format!(", {} → {}", from.endpoint, to.endpoint));
            format!("{} → {}{}", state(change.from), state(change.to), moved.unwrap_or_default())
        };
        history.changes.iter().map(line).collect()
    }

    #[test]
    fn a_failover_that_succeeds_is_one_change() {
        let mut history = History::default();
        let unknown = Some(Cause::SelfIpUnknown);
        for status in [
            at_place(5, Verdict::Healthy, None, 0),
            at_place(6, Verdict::Unknown, None, 0),
            at_place(6, Verdict::Unknown, unknown, 1),
            at_place(6, Verdict::Healthy, None, 2),
            at_place(6, Verdict::Healthy, None, 2),
        ] {
            history.note_changes(&status, Timestamp::now());
        }
        assert_eq!(lines(&history), ["healthy → healthy, 10.0.0.5 → 10.0.0.6"]);
        assert_eq!(history.changes[0].repairs, 2);
        let json = serde_json::to_value(&history.changes[0]).expect("JSON");
        let place = |n: u8| serde_json::json!({"endpoint": format!("10.0.0.{n}"), "mac": "00:50:56:a0:7d:d8"});
        assert_eq!(json["moved"], serde_json::json!({"from": place(5), "to": place(6)}));

        // What comes later is a change of its own, and has no move.
        history.note_changes(&at_place(6, Verdict::Unreachable, Some(Cause::TunnelSilent), 2), Timestamp::now());
        assert_eq!(lines(&history)[0], "healthy → tunnel-silent");
        assert_eq!(serde_json::to_value(&history.changes[0]).expect("JSON").get("moved"), None);
    }

    #[test]
    fn a_failover_that_fails_is_followed_by_its_fault() {
        let (healthy, unknown, silent) = (Verdict::Healthy, Verdict::Unknown, Verdict::Unreachable);
        let cause = Some(Cause::TunnelSilent);
        let mut history = History::default();
        let steps = [(5, healthy, None), (6, unknown, None), (6, silent, cause), (6, healthy, None)];
        for (n, verdict, cause) in steps {
            history.note_changes(&at_place(n, verdict, cause, 0), Timestamp::now());
        }
        let expected = ["tunnel-silent → healthy", "unknown → tunnel-silent", "healthy → unknown, 10.0.0.5 → 10.0.0.6"];
        assert_eq!(lines(&history), expected);

        // The agent still knows nothing, and that is a finding by now.
        let mut history = History::default();
        let mut late = at_place(6, unknown, Some(Cause::SelfIpUnknown), 0);
        late.vteps[0].early = false;
        history.note_changes(&at_place(5, healthy, None, 0), Timestamp::now());
        history.note_changes(&at_place(6, unknown, Some(Cause::SelfIpUnknown), 0), Timestamp::now());
        history.note_changes(&late, Timestamp::now());
        history.note_changes(&at_place(6, healthy, None, 0), Timestamp::now());
        let expected = ["self-ip-unknown → healthy", "healthy → self-ip-unknown, 10.0.0.5 → 10.0.0.6"];
        assert_eq!(lines(&history), expected);
    }

    /// A rule that somebody deleted is news, too.
    #[test]
    fn repairs_of_routes_are_changes() {
        let mut history = History::default();
        let mut status = status(Verdict::Healthy, None, 0);
        for route_repairs in [0, 2, 2, 3] {
            status.vteps[0].datapath.route_repairs = route_repairs;
            history.note_changes(&status, Timestamp::now());
        }
        let reported: Vec<_> = history.changes.iter().map(|change| (change.repairs, change.route_repairs)).collect();
        assert_eq!(reported, [(0, 1), (0, 2)]);
    }

    /// From a place in trouble to one that works, and on before anything is known.
    #[test]
    fn every_move_is_a_change() {
        let (healthy, unknown) = (Verdict::Healthy, Verdict::Unknown);
        let mut history = History::default();
        history.note_changes(&at_place(5, Verdict::Unreachable, Some(Cause::TunnelSilent), 0), Timestamp::now());
        let steps = [(6, unknown), (7, unknown), (7, healthy), (5, healthy)];
        for (n, verdict) in steps {
            history.note_changes(&at_place(n, verdict, None, 0), Timestamp::now());
        }
        let expected = [
            "healthy → healthy, 10.0.0.7 → 10.0.0.5",
            "unknown → healthy, 10.0.0.6 → 10.0.0.7",
            "tunnel-silent → unknown, 10.0.0.5 → 10.0.0.6",
        ];
        assert_eq!(lines(&history), expected);
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
