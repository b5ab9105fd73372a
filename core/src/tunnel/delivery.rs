//! Whether answers that reach this node's device also reach its stack. The tap sees a frame before a firewall, `rp_filter` or Cilium may drop
//! it; the agent's socket receives what is left. A function of counts and of `now`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::flow::Kinds;

/// This many answers must be missing: the last one may still be on its way to the socket.
const MIN_LOST: u64 = 2;
/// This many ARP requests for this node within [`RECENT`] mean that the answers to them are missing. One alone only refreshes an entry.
const MIN_ASKED: usize = 3;
/// Older frames are no evidence.
const RECENT: Duration = Duration::from_secs(10);

/// The frames from one endpoint that show whether this node drops them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The tap's counts at the last reading.
    seen: Kinds,
    /// Echo replies that the stack delivered.
    delivered: u64,
    /// Echo replies that the tap saw and the stack did not deliver, before the probes began to go unanswered.
    before: u64,
    /// The same since then.
    lost: u64,
    lost_at: Option<Instant>,
    /// When the last ARP requests for this node were counted.
    asked: VecDeque<Instant>,
}

impl Delivery {
    /// The stack delivered an echo reply.
    pub fn on_delivered(&mut self) {
        self.delivered += 1;
    }

    /// The tap's counts at the last reading.
    #[must_use]
    pub fn seen(&self) -> Kinds {
        self.seen
    }

    /// Processes the tap's counts. `calm` means that no probe is unanswered.
    pub fn on_kinds(&mut self, kinds: Kinds, calm: bool, now: Instant) {
        // Other nodes may forward answers, which the tap does not count.
        let missing = kinds.echo_replies.saturating_sub(self.delivered);
        let is_new_tap = kinds.echo_replies < self.seen.echo_replies || kinds.asked_for_us < self.seen.asked_for_us;
        if calm || is_new_tap {
            self.before = missing;
            self.delivered = self.delivered.min(kinds.echo_replies);
        }
        let lost = missing.saturating_sub(self.before);
        if lost > self.lost {
            self.lost_at = Some(now);
        }
        self.lost = lost;
        let asked = kinds.asked_for_us.saturating_sub(self.seen.asked_for_us);
        for _ in 0..asked.min(MIN_ASKED as u64) {
            self.asked.push_back(now);
        }
        while self.asked.len() > MIN_ASKED {
            self.asked.pop_front();
        }
        self.seen = kinds;
    }

    /// Echo replies that reached the device since the probes began to go unanswered, and were not delivered.
    #[must_use]
    pub fn lost_echoes(&self, now: Instant) -> Option<u64> {
        let at = self.lost_at.filter(|at| now.saturating_duration_since(*at) < RECENT);
        at.map(|_| self.lost).filter(|lost| *lost >= MIN_LOST)
    }

    /// Whether the far end asks for this node by ARP again and again, since then.
    #[must_use]
    pub fn is_asked_in_vain(&self, since: Instant, now: Instant) -> bool {
        let first = self.asked.front().filter(|_| self.asked.len() == MIN_ASKED);
        first.is_some_and(|first| *first > since && now.saturating_duration_since(*first) < RECENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(echo_replies: u64, asked_for_us: u64) -> Kinds {
        Kinds { echo_replies, asked_for_us, ..Kinds::default() }
    }

    #[test]
    fn answers_that_the_stack_does_not_get_are_counted() {
        let now = Instant::now();
        let mut delivery = Delivery::default();
        (0..5).for_each(|_| delivery.on_delivered());
        delivery.on_kinds(kinds(6, 0), true, now);
        assert_eq!(delivery.lost_echoes(now), None, "one may be on its way, or was lost long ago");
        delivery.on_kinds(kinds(7, 0), false, now);
        assert_eq!(delivery.lost_echoes(now), None);
        delivery.on_kinds(kinds(9, 0), false, now);
        assert_eq!(delivery.lost_echoes(now), Some(3));
        delivery.on_kinds(kinds(9, 0), false, now + RECENT);
        assert_eq!(delivery.lost_echoes(now + RECENT), None, "no answer reaches the device any more");
    }

    #[test]
    fn answers_that_the_stack_gets_are_not() {
        let now = Instant::now();
        let mut delivery = Delivery::default();
        for n in 1..50 {
            delivery.on_kinds(kinds(n, 0), n < 10, now);
            delivery.on_delivered();
        }
        assert_eq!(delivery.lost_echoes(now), None);
        // Others come by way of another node, and the tap is loaded anew.
        (0..50).for_each(|_| delivery.on_delivered());
        delivery.on_kinds(kinds(0, 0), false, now);
        delivery.on_kinds(kinds(2, 0), false, now);
        assert_eq!(delivery.lost_echoes(now), Some(2));
    }

    #[test]
    fn requests_in_vain_come_one_after_the_other() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut delivery = Delivery::default();
        let mut ask = |n, seconds| {
            delivery.on_kinds(kinds(0, n), false, at(seconds));
            delivery.is_asked_in_vain(start, at(seconds))
        };
        assert_eq!([ask(1, 1), ask(2, 60), ask(3, 120)], [false; 3], "an entry is refreshed now and then");
        assert_eq!([ask(4, 121), ask(5, 122), ask(5, 131)], [false, true, false]);
        assert!(ask(9, 140), "three at once");
        assert!(!delivery.is_asked_in_vain(at(140), at(141)), "before the outage");
    }
}
