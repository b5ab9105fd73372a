//! The load of a fleet on one API server, from the figures of one agent. Pure, and tested by `tests/figures.rs`; `benches/fleet.rs` compares
//! it with simulated fleets.
//!
//! Assumptions: agents do not influence each other, the server answers at once, and each agent's place in the cycle of attempts is uniform
//! (`src/k8s/retry_gate.rs`: a hash of the node's name). The model has no queue, so it says nothing about the server's time.

/// The cycle of attempts, and the pause after a loss, in seconds: `CYCLE` and `FIRST_PAUSE` of `src/k8s/retry_gate.rs`.
const CYCLE: f64 = 7.5;
const FIRST_PAUSE: f64 = 0.5;
/// The lifetime of a watch, in seconds, after which an agent opens it again.
const WATCH_AGE: f64 = 290.0;
/// The mean of the largest of seven independent values, in standard deviations: the cycle has seven whole seconds.
const LARGEST_OF_SEVEN: f64 = 1.352;

/// What one agent costs, measured in a small fleet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PerAgent {
    /// From its start until it watches.
    pub(crate) start_requests: f64,
    pub(crate) start_bytes: f64,
    /// For one edit of the ConfigMap.
    pub(crate) edit_bytes: f64,
    /// After the return of a server that was away for a while, until it watches again. After a restart it only opens its watches.
    pub(crate) return_requests: f64,
    pub(crate) return_bytes: f64,
    /// Open at the same time.
    pub(crate) watches: f64,
}

/// The load of all agents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Requests a second while nothing happens: watches that reach their age.
    pub(crate) steady_requests: f64,
    /// All agents start.
    pub(crate) start_requests: f64,
    pub(crate) start_bytes: f64,
    /// One edit.
    pub(crate) edit_bytes: f64,
    /// The worst second after the server's return.
    pub(crate) storm_agents: f64,
    pub(crate) storm_requests: f64,
    pub(crate) storm_requests_after_restart: f64,
    pub(crate) storm_bytes: f64,
    /// Seconds after the server's return, if it was away for longer than a cycle; or for a moment, when agents still pause.
    pub(crate) half_back: f64,
    pub(crate) half_back_after_restart: f64,
    pub(crate) nine_tenths_back: f64,
    pub(crate) nine_tenths_back_after_restart: f64,
}

impl PerAgent {
    pub(crate) fn times(&self, agents: f64) -> Load {
        let storm_agents = storm(agents);
        Load {
            steady_requests: agents * self.watches / WATCH_AGE,
            start_requests: agents * self.start_requests,
            start_bytes: agents * self.start_bytes,
            edit_bytes: agents * self.edit_bytes,
            storm_agents,
            storm_requests: storm_agents * self.return_requests,
            storm_requests_after_restart: storm_agents * self.watches,
            storm_bytes: storm_agents * self.return_bytes,
            half_back: CYCLE / 2.0,
            half_back_after_restart: FIRST_PAUSE + CYCLE / 2.0,
            nine_tenths_back: CYCLE * 0.9,
            nine_tenths_back_after_restart: FIRST_PAUSE + CYCLE * 0.9,
        }
    }
}

/// The most agents in one second. Each second of the cycle gets its share of them, more or less by chance; the worst of seven is more.
fn storm(agents: f64) -> f64 {
    let share = 1.0 / CYCLE;
    agents * share + LARGEST_OF_SEVEN * (agents * share * (1.0 - share)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_fleet_has_the_flatter_storm() {
        let share = |agents: f64| storm(agents) / agents;
        assert!((0.150..0.160).contains(&share(500.0)), "{}", share(500.0));
        assert!((0.138..0.144).contains(&share(5000.0)), "{}", share(5000.0));
        assert!(share(1e9) > 1.0 / CYCLE && share(1e9) < 0.1334);
    }

    /// The chance part, against fleets with random places.
    #[test]
    fn the_worst_second_is_as_in_random_fleets() {
        let mut random = fastrand::Rng::with_seed(21);
        for agents in [500_u32, 5000] {
            let mut worst = |_| {
                let mut seconds = [0; 8];
                (0..agents).for_each(|_| seconds[(random.f64() * CYCLE) as usize] += 1);
                f64::from(seconds.into_iter().max().unwrap_or(0))
            };
            let mean = (0..400).map(&mut worst).sum::<f64>() / 400.0;
            let deviation = storm(f64::from(agents)) / mean - 1.0;
            assert!(deviation.abs() < 0.02, "{agents}: {deviation}");
        }
    }

    #[test]
    fn everything_else_is_proportional() {
        let one = PerAgent { start_requests: 10.0, edit_bytes: 700.0, watches: 5.0, ..PerAgent::default() };
        let load = one.times(5000.0);
        assert_eq!((load.start_requests, load.edit_bytes), (50_000.0, 3_500_000.0));
        assert!((86.0..87.0).contains(&load.steady_requests));
        assert_eq!(load.half_back_after_restart - load.half_back, FIRST_PAUSE);
    }
}
