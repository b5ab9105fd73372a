//! Schedules the attempts of an agent that lost its API server, so that a fleet that lost it at once does not reconnect at once.
//!
//! Time is divided into cycles from the agent's start on, and the node's name gives each agent a fixed place in the cycle. After a loss the
//! agent makes attempts only at that place. The place does not depend on the time or the kind of the loss. So each second gets only its
//! share of the fleet, however often the attempts fail and for whatever reason. After the server's return, half of the fleet finds it
//! within half a cycle, and all of it within one.

use std::{sync::PoisonError, time::Duration};

use sha2::{Digest, Sha256};
use tokio::{
    sync::{Mutex, watch},
    time::{self, Instant},
};
use vtep_core::config::cached::Unknown;

use super::server::Server;

/// The time in which each agent of a fleet makes one attempt. In any second, fewer than a seventh of the agents do. The limit is a fifth;
/// the margin is for names that are not spread evenly.
const CYCLE: Duration = Duration::from_millis(7500);
/// The minimum time between a loss or a failure and the next attempt. A server that only restarts is back by then.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The number of consecutive refusals before the agent skips cycles. A server that starts refuses a few times; one that keeps refusing is
/// overloaded.
const FREE_REFUSALS: u32 = 2;

/// A failed request to the API server, with the reason in plain words.
#[derive(Debug)]
pub(super) enum Lost {
    /// The server cannot be reached.
    Away(String),
    /// The server refused the request, or its answer cannot be read. The code of an unreadable answer is 0.
    Answered { code: u16, reason: String },
}

impl From<Lost> for Unknown {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Answered { code: 403, reason } => Self::Withheld(reason),
            Lost::Answered { reason, .. } | Lost::Away(reason) => Self::Failed(reason),
        }
    }
}

/// Permits one attempt at a time, and after a loss only at this agent's place in the cycle. All watches of the agent share it, so together
/// they make no more attempts than one watch would.
pub(super) struct RetryGate {
    turn: Mutex<()>,
    opening: std::sync::Mutex<Opening>,
    /// The start of the first cycle.
    origin: Instant,
    /// This agent's place in each cycle, 0 to 1.
    place: f64,
    server: Server,
    /// The reason why the last attempt did not reach the API server.
    trouble: watch::Sender<Option<String>>,
}

/// When the gate opens.
#[derive(Default)]
struct Opening {
    /// A watch was lost, and none has worked since.
    lost: bool,
    /// The time of a quick TCP check whether the server is there, well before the attempt.
    check_at: Option<Instant>,
    not_before: Option<Instant>,
    refusals: u32,
}

/// The reason for closing the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// A watch ended early.
    Ended,
    Away,
    Answered,
}

impl RetryGate {
    /// A hash of the node's name gives the place, which spreads the nodes of a fleet over the cycle.
    pub(super) fn new(node: &str, server: Server) -> Self {
        let number = Sha256::digest(node).first_chunk().copied().map_or(0, u32::from_be_bytes);
        let place = f64::from(number) / (f64::from(u32::MAX) + 1.0);
        let (turn, opening, trouble) = (Mutex::default(), std::sync::Mutex::default(), watch::Sender::new(None));
        Self { turn, opening, origin: Instant::now(), place, server, trouble }
    }

    /// The reason why the API server cannot be reached; `None` while it can.
    pub(super) fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// Waits until the gate opens, then makes the attempt.
    pub(super) async fn pass<T>(&self, attempt: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
        let _turn = self.turn.lock().await;
        self.check().await;
        let not_before = self.opening().not_before;
        if let Some(not_before) = not_before {
            time::sleep_until(not_before).await;
        }
        let outcome = attempt.await;
        self.publish(match &outcome {
            Err(Lost::Away(reason)) => Some(reason.clone()),
            Ok(_) | Err(Lost::Answered { .. }) => None,
        });
        match &outcome {
            Ok(_) => {}
            Err(Lost::Away(_)) => self.close(Closed::Away),
            Err(Lost::Answered { .. }) => self.close(Closed::Answered),
        }
        outcome
    }

    /// Shortly after a loss, opens a TCP connection to learn whether the server is gone. This costs the server almost nothing, and the
    /// agent reports the loss long before its next attempt.
    async fn check(&self) {
        let due = self.opening().check_at.take();
        let Some(due) = due else { return };
        time::sleep_until(due).await;
        if let Err(reason) = self.server.reach().await {
            self.publish(Some(self.server.unreachable(&reason)));
        }
    }

    /// Closes the gate after a failed attempt or a lost watch. A gate that is closed already keeps its time.
    pub(super) fn close(&self, why: Closed) {
        let mut opening = self.opening();
        let now = Instant::now();
        if opening.not_before.is_some_and(|not_before| not_before > now) {
            return;
        }
        if why == Closed::Ended && self.trouble.borrow().is_none() {
            opening.check_at = Some(now + FIRST_PAUSE.mul_f64(self.place));
        }
        // A watch that opens and ends at once, again and again, counts as refused.
        if why == Closed::Answered || (why == Closed::Ended && opening.lost) {
            opening.refusals = opening.refusals.saturating_add(1);
        }
        opening.lost = true;
        opening.not_before = Some(self.origin + next(now - self.origin, self.place, opening.refusals));
    }

    /// A watch works: resets the count of refusals.
    pub(super) fn works(&self) {
        let mut opening = self.opening();
        opening.lost = false;
        opening.refusals = 0;
    }

    /// Lengthens a long interval by up to half of it, by this agent's place, so that a fleet does not act at once.
    pub(super) fn spread(&self, time: Duration) -> Duration {
        time.mul_f64(1.0 + self.place / 2.0)
    }

    fn publish(&self, trouble: Option<String>) {
        self.trouble.send_if_modified(|last| std::mem::replace(last, trouble) != *last);
    }

    fn opening(&self) -> std::sync::MutexGuard<'_, Opening> {
        // A panic cannot leave the value half changed, so a poisoned lock is safe to use.
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time of the next attempt of the agent at this place; it and `now` count from the origin. After many refusals, cycles are skipped.
fn next(now: Duration, place: f64, refusals: u32) -> Duration {
    let first = CYCLE.mul_f64(place);
    let begun = (now + FIRST_PAUSE).saturating_sub(first).div_duration_f64(CYCLE).ceil();
    let skipped = refusals.saturating_sub(FREE_REFUSALS).min(2);
    first + CYCLE.mul_f64(begun) + CYCLE * skipped
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: u32 = 1000;
    /// The time of the loss: after several cycles, and in the middle of one.
    const LOSS: Duration = Duration::from_millis(100_300);

    /// The attempts of an agent within five minutes of the loss, if all of them fail in this way.
    fn attempts(agent: u32, answered: bool) -> Vec<Duration> {
        let (mut at, mut attempts) = (LOSS, Vec::new());
        for failed in 0.. {
            at = next(at, f64::from(agent) / f64::from(FLEET), if answered { failed } else { 0 });
            if at > LOSS + Duration::from_secs(300) {
                break;
            }
            attempts.push(at - LOSS);
        }
        attempts
    }

    #[test]
    fn an_agent_asks_once_a_cycle_and_less_often_one_that_refuses() {
        let seconds = |answered| attempts(0, answered).iter().map(Duration::as_secs_f64).take(6).collect::<Vec<_>>();
        assert_eq!(seconds(false), [4.7, 12.2, 19.7, 27.2, 34.7, 42.2]);
        assert_eq!(seconds(true), [4.7, 12.2, 19.7, 34.7, 57.2, 79.7]);
    }

    /// This counts every attempt of every agent over five minutes.
    #[test]
    fn less_than_a_seventh_of_a_fleet_asks_in_any_second() {
        for answered in [false, true] {
            let mut seconds = vec![0; 301];
            for at in (0..FLEET).flat_map(|agent| attempts(agent, answered)) {
                seconds[at.as_secs() as usize] += 1;
            }
            assert!(seconds.iter().all(|asked| *asked < FLEET / 7), "{seconds:?}");
        }
    }

    /// This holds for any time of the return. The documents promise 5 s.
    #[test]
    fn half_of_a_fleet_finds_a_server_that_is_back_within_four_and_a_half_seconds() {
        let fleet: Vec<_> = (0..FLEET).map(|agent| attempts(agent, false)).collect();
        for back in (0..2000).map(|tenths| Duration::from_millis(tenths * 100)) {
            let wait = |attempts: &Vec<Duration>| attempts.iter().find(|at| **at >= back).map(|at| *at - back);
            let mut waits: Vec<_> = fleet.iter().filter_map(wait).collect();
            waits.sort_unstable();
            let (median, last) = (waits[waits.len() / 2], waits[waits.len() - 1]);
            assert!(waits.len() == FLEET as usize && median < Duration::from_millis(4500), "{back:?}: {median:?}");
            assert!(last <= FIRST_PAUSE + CYCLE, "{back:?}: {last:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_together_waits_together() {
        let gate = RetryGate { place: 0.5, ..RetryGate::new("", Server::default()) };
        let start = Instant::now();
        for _ in 0..3 {
            gate.close(Closed::Ended);
        }
        let lost = async || -> Result<(), Lost> { Err(Lost::Away("gone".into())) };
        assert!(gate.pass(lost()).await.is_err());
        assert_eq!(start.elapsed(), CYCLE / 2);
        assert_eq!(gate.trouble().borrow().as_deref(), Some("gone"));
        assert!(gate.pass(async { Ok(()) }).await.is_ok());
        assert_eq!(start.elapsed(), CYCLE / 2 + CYCLE);
        assert_eq!(*gate.trouble().borrow(), None);
        assert!(gate.pass(async { Ok(()) }).await.is_ok(), "and the others at once");
        assert_eq!(start.elapsed(), CYCLE / 2 + CYCLE);
    }
}
