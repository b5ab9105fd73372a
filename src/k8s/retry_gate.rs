//! When an agent that lost its API server asks it again, so that a fleet that lost it in one moment does not come back in one.
//!
//! Time is cut into cycles from the agent's start on, and each agent has its place in the cycle, by its node's name. After a loss it asks at
//! its place of a cycle and at no other time, and the place never depends on when or how the server was lost: so no second sees more than its
//! share of the fleet, however often and for whatever reason the attempts fail, and a server that is back is found within one cycle, by half
//! of the fleet within half of one.

use std::{sync::PoisonError, time::Duration};

use sha2::{Digest, Sha256};
use tokio::{
    sync::{Mutex, watch},
    time::{self, Instant},
};
use vtep_core::config::cached::Unknown;

use super::server::Server;

/// The time in which each agent of a fleet asks once: in any second, less than a seventh of them. What is left to a fifth is for chance, for
/// names are not spread quite evenly.
const CYCLE: Duration = Duration::from_millis(7500);
/// The time between a loss or a failure and the next attempt, at least: a server that only restarts is back by then.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How many answers in a row may be no success before cycles are left out: a server that is starting gives some, and one that keeps giving
/// them suffers.
const FREE_REFUSALS: u32 = 2;

/// Why the API server does not tell what is there, in words.
#[derive(Debug)]
pub(super) enum Lost {
    /// It cannot be reached.
    Away(String),
    /// It answers, but not with what was asked for. The code is 0 where an answer of success cannot be read.
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

/// Lets through one attempt at a time, and after a loss at this agent's place in the cycle alone: watches that lost one API server together
/// ask it no more often than one would.
pub(super) struct Gate {
    turn: Mutex<()>,
    opening: std::sync::Mutex<Opening>,
    /// The cycles are counted from here.
    origin: Instant,
    /// This agent's place in each cycle, 0 to 1.
    place: f64,
    server: Server,
    /// Why the API server could not be reached the last time.
    trouble: watch::Sender<Option<String>>,
}

/// When the gate opens.
#[derive(Default)]
struct Opening {
    /// A watch was lost, and none has worked since.
    lost: bool,
    /// When to look whether anybody is there: long before the attempt.
    check_at: Option<Instant>,
    not_before: Option<Instant>,
    refusals: u32,
}

/// Why the gate closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// A watch ended before its time.
    Ended,
    Away,
    Answered,
}

impl Gate {
    /// The place is by the node's name: the names of a fleet are spread evenly.
    pub(super) fn new(node: &str, server: Server) -> Self {
        let number = Sha256::digest(node).first_chunk().copied().map_or(0, u32::from_be_bytes);
        let place = f64::from(number) / (f64::from(u32::MAX) + 1.0);
        let (turn, opening, trouble) = (Mutex::default(), std::sync::Mutex::default(), watch::Sender::new(None));
        Self { turn, opening, origin: Instant::now(), place, server, trouble }
    }

    /// Why the API server cannot be reached; `None` while it can.
    pub(super) fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// Waits for its turn, and makes the attempt.
    pub(super) async fn pass<T>(&self, attempt: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
        let _turn = self.turn.lock().await;
        self.check().await;
        let not_before = self.opening().not_before;
        if let Some(not_before) = not_before {
            time::sleep_until(not_before).await;
        }
        let outcome = attempt.await;
        self.tell(match &outcome {
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

    /// Right after a loss, a TCP connection tells whether the server is gone; it costs the server nothing, and the fleet need not wait for
    /// its attempts to know.
    async fn check(&self) {
        let due = self.opening().check_at.take();
        let Some(due) = due else { return };
        time::sleep_until(due).await;
        if let Err(reason) = self.server.reach().await {
            self.tell(Some(self.server.unreachable(&reason)));
        }
    }

    /// An attempt failed, or a watch was lost: the next waits, unless it waits already.
    pub(super) fn close(&self, why: Closed) {
        let mut opening = self.opening();
        let now = Instant::now();
        if opening.not_before.is_some_and(|not_before| not_before > now) {
            return;
        }
        if why == Closed::Ended && self.trouble.borrow().is_none() {
            opening.check_at = Some(now + FIRST_PAUSE.mul_f64(self.place));
        }
        // A watch that is opened and ends at once, again and again, is no success either.
        if why == Closed::Answered || (why == Closed::Ended && opening.lost) {
            opening.refusals = opening.refusals.saturating_add(1);
        }
        opening.lost = true;
        opening.not_before = Some(self.origin + next(now - self.origin, self.place, opening.refusals));
    }

    /// A watch works: what fails next is the first to fail.
    pub(super) fn works(&self) {
        let mut opening = self.opening();
        opening.lost = false;
        opening.refusals = 0;
    }

    /// A long time, spread over the fleet.
    pub(super) fn spread(&self, time: Duration) -> Duration {
        time.mul_f64(1.0 + self.place / 2.0)
    }

    fn tell(&self, trouble: Option<String>) {
        self.trouble.send_if_modified(|last| std::mem::replace(last, trouble) != *last);
    }

    fn opening(&self) -> std::sync::MutexGuard<'_, Opening> {
        // Whoever panicked held nothing half done.
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the agent at this place may ask next, counted from the origin as `now` is: at its place of a cycle, or of a later one after many
/// refusals.
fn next(now: Duration, place: f64, refusals: u32) -> Duration {
    let first = CYCLE.mul_f64(place);
    let begun = (now + FIRST_PAUSE).saturating_sub(first).div_duration_f64(CYCLE).ceil();
    let left_out = refusals.saturating_sub(FREE_REFUSALS).min(2);
    first + CYCLE.mul_f64(begun) + CYCLE * left_out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: u32 = 1000;
    /// The loss, after some time and at some point of a cycle.
    const LOSS: Duration = Duration::from_millis(100_300);

    /// When an agent asks within five minutes of the loss, if all attempts fail in this way.
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

    /// However long the API server was away, and with every attempt of every agent.
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

    /// Whenever it returns: promised are 5 s.
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
        let gate = Gate { place: 0.5, ..Gate::new("", Server::default()) };
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
