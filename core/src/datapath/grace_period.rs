//! The time that Cilium's own reconciler gets before this agent repairs an entry of a custom resource.
//!
//! Cilium writes such an entry itself, and may know a newer object than this agent. So the agent repairs one only after a while, and only if
//! the API server has delivered the objects again since the difference was first seen. A function of plans and of `now`.

use std::time::{Duration, Instant};

use super::plan::Op;

/// How long Cilium's reconciler comes first.
pub const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// The pending operations, each with the time when it was first seen.
#[derive(Clone, Debug, Default)]
pub struct GracePeriod {
    pending: Vec<(Op, Instant)>,
}

impl GracePeriod {
    /// Notes the operations that are pending now. One that is pending no more is forgotten.
    pub fn note(&mut self, plan: &[Op], now: Instant) {
        self.pending.retain(|(op, _)| plan.contains(op));
        let is_new = |op: &&Op| !self.pending.iter().any(|(known, _)| known == *op);
        let new: Vec<_> = plan.iter().filter(is_new).map(|op| (*op, now)).collect();
        self.pending.extend(new);
    }

    /// Whether the operation has been pending for the whole grace period.
    #[must_use]
    pub fn is_over(&self, op: &Op, now: Instant) -> bool {
        self.since(op).is_some_and(|since| now.saturating_duration_since(since) >= GRACE_PERIOD)
    }

    /// Whether the objects were delivered after the operation was first seen.
    #[must_use]
    pub fn is_confirmed(&self, op: &Op, delivered: Option<Instant>) -> bool {
        self.since(op).zip(delivered).is_some_and(|(since, delivered)| delivered >= since)
    }

    fn since(&self, op: &Op) -> Option<Instant> {
        self.pending.iter().find(|(known, _)| known == op).map(|(_, since)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::abi::VtepValue;

    fn add(n: u8) -> Op {
        let cidr = format!("10.1.{n}.0/24").parse().expect("a CIDR");
        Op::AddEntry { cidr, value: VtepValue::new([2; 6].into(), [10, 169, 72, n].into()) }
    }

    #[test]
    fn cilium_comes_first_and_the_objects_are_read_again() {
        let start = Instant::now();
        let mut grace = GracePeriod::default();
        grace.note(&[add(6)], start);
        assert!(!grace.is_over(&add(6), start) && !grace.is_over(&add(5), start + GRACE_PERIOD));
        grace.note(&[add(6), add(5)], start + GRACE_PERIOD);
        let over = |grace: &GracePeriod, n, after| grace.is_over(&add(n), start + after);
        assert!(over(&grace, 6, GRACE_PERIOD) && !over(&grace, 5, GRACE_PERIOD));
        assert!(over(&grace, 5, GRACE_PERIOD * 2));
        let confirmed = |n, delivered| grace.is_confirmed(&add(n), delivered);
        assert!(!confirmed(6, None) && confirmed(6, Some(start)) && !confirmed(5, Some(start)));
        // Cilium has written it meanwhile: a later difference is another one.
        grace.note(&[], start + GRACE_PERIOD);
        grace.note(&[add(6)], start + GRACE_PERIOD);
        assert!(!over(&grace, 6, GRACE_PERIOD));
    }
}
