//! Heartbeats of the agent's loops. `/livez` checks these and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A loop without a heartbeat for this long counts as hung. Healthy loops beat at least every few seconds.
const HANGS: Duration = Duration::from_secs(15);

/// The last heartbeat of each named loop.
#[derive(Clone, Debug)]
pub struct Liveness {
    start: Instant,
    beats: Vec<(&'static str, Arc<AtomicU64>)>,
}

/// The handle with which one loop records its heartbeat.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    start: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Liveness {
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self { start, beats: Vec::new() }
    }

    /// Registers a loop. Its first heartbeat is now, so a loop that never starts is reported, too.
    pub fn register(&mut self, name: &'static str) -> Heartbeat {
        let heartbeat = Heartbeat { start: self.start, last_ms: Arc::default() };
        heartbeat.beat();
        self.beats.push((name, Arc::clone(&heartbeat.last_ms)));
        heartbeat
    }

    /// Each loop, with an error if it counts as hung.
    #[must_use]
    pub fn check(&self, now: Instant) -> Vec<(&'static str, Result<(), String>)> {
        let age = |last_ms: u64| now.duration_since(self.start).saturating_sub(Duration::from_millis(last_ms));
        let check = |(name, last): &(&'static str, Arc<AtomicU64>)| {
            let age = age(last.load(Ordering::Relaxed));
            (
                *name,
                if age < HANGS {
                    Ok(())
                } else {
                    Err(format!("the {name} loop has not turned for {} s", age.as_secs()))
                },
            )
        };
        self.beats.iter().map(check).collect()
    }
}

impl Heartbeat {
    /// Records a heartbeat.
    pub fn beat(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(elapsed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stops_is_named() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        let _beat = liveness.register("reconcile");
        assert_eq!(liveness.check(start + Duration::from_secs(1)), [("reconcile", Ok(()))]);
        let (name, verdict) = liveness.check(start + Duration::from_secs(60)).remove(0);
        assert_eq!(name, "reconcile");
        assert!(verdict.is_err_and(|reason| reason.contains("reconcile loop has not turned for")));
    }
}
