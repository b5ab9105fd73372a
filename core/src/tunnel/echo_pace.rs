//! How often to ask for echoes: less often where they are answered at a steady lower rate, because BIG-IP or a device on the way limits ICMP.
//! ARP requests go the same way through the tunnel, and no such limit concerns them: if they are lost as well, there is no limit, but loss. A
//! function of counts and of `now`.

use std::time::{Duration, Instant};

/// At the slowest pace, one round in this many has echoes.
const SLOWEST: u32 = 8;
/// While a limit is suspected, one round in this many has the echo beside the tunnel, and the others have the one through it.
const APART: u32 = 4;
/// This many results are no chance: the first suspicion, and the proof that answers are steady at a lower pace.
const MANY: u64 = 20;
/// This many show that a lower pace is still too fast.
const SOME: u64 = 6;
/// A limit answers now and then. Fewer losses after an answer than this are an outage, or two.
const RUNS: u32 = 3;
/// A few results show a pace that is too fast by at least this share of lost echoes, in percent.
const TOO_FAST: u64 = 40;
/// Many results show it by this share: a pace of just the limit loses a few.
const TOO_FAST_OF_MANY: u64 = 20;
/// Answers are steady if at most this share is lost, in percent.
const STEADY: u64 = 10;
/// After this time, the agent tries a faster pace; after each try in vain, the time doubles.
const TRY_AFTER: Duration = Duration::from_secs(5 * 60);
/// The longest of these times.
const TRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// Results of one kind of probe since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub answered: u64,
    pub lost: u64,
}

impl Counts {
    fn since(self, before: Self) -> Self {
        Self { answered: self.answered.saturating_sub(before.answered), lost: self.lost.saturating_sub(before.lost) }
    }

    fn total(self) -> u64 {
        self.answered + self.lost
    }

    /// The share that was lost, in percent.
    fn loss(self) -> u64 {
        (100 * self.lost).checked_div(self.total()).unwrap_or(0)
    }
}

/// Which echoes a round has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The one through the tunnel.
    pub through: bool,
    /// The one beside it.
    pub beside: bool,
}

impl Turn {
    pub const BOTH: Self = Self { through: true, beside: true };
}

/// The pace of the echoes of one VTEP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EchoPace {
    /// One round in this many has echoes.
    every: u32,
    /// The number of the round.
    round: u32,
    /// The counts of echoes and of ARP at the start of the period that is judged next.
    from: Option<(Counts, Counts)>,
    /// The counts of echoes at the round before.
    before: Counts,
    /// Their results since the last loss.
    since_loss: u64,
    /// How often a loss followed an answer in this period.
    runs: u32,
    /// Answers were steady at a lower pace.
    is_limited: bool,
    /// When the pace last changed: losses before are no packet loss.
    changed: Option<Instant>,
    /// Since when this pace is steady.
    steady: Option<Instant>,
    try_after: Duration,
    /// No pace was slow enough: until then, losses are loss.
    given_up_until: Option<Instant>,
}

impl Default for EchoPace {
    fn default() -> Self {
        Self {
            every: 1,
            round: 0,
            from: None,
            before: Counts::default(),
            since_loss: 0,
            runs: 0,
            is_limited: false,
            changed: None,
            steady: None,
            try_after: TRY_AFTER,
            given_up_until: None,
        }
    }
}

impl EchoPace {
    /// One round in this many has echoes.
    #[must_use]
    pub fn every(&self) -> u32 {
        self.every
    }

    /// Echoes are answered at a steady lower rate than the usual one.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.is_limited
    }

    /// When the pace last changed.
    #[must_use]
    pub fn changed(&self) -> Option<Instant> {
        self.changed
    }

    /// Whether there are losses in this period that may come from a limit: ARP is answered all the while, and there are not enough results
    /// yet.
    #[must_use]
    pub fn is_judging(&self, echoes: Counts, arp: Counts, now: Instant) -> bool {
        let Some((echoes, arp)) = self.results(echoes, arp) else { return false };
        let has_given_up = self.given_up_until.is_some_and(|until| now < until);
        !has_given_up && echoes.lost > 0 && arp.lost == 0 && 2 * arp.answered >= echoes.total()
    }

    /// The echoes of the round that begins now. While there may be a limit (`is_suspect`), or one is known, the two have rounds of their
    /// own: otherwise one of them would always take the answer that the other one waits for. A limit of just this rate may even then answer
    /// each one beside the tunnel and none that follows it, so that one is left out while the tunnel's is `missed`.
    pub fn turn(&mut self, is_suspect: bool, missed: bool) -> Turn {
        let is_apart = is_suspect || self.is_limited;
        let cycle = if self.every > 1 { self.every } else { APART };
        self.round = (self.round + 1) % cycle;
        match self.every {
            1 if !is_apart => Turn::BOTH,
            1 => Turn { through: self.round > 0, beside: self.round == 0 && !missed },
            _ => Turn { through: self.round == 0, beside: self.round == cycle / 2 && !missed },
        }
    }

    fn results(&self, echoes: Counts, arp: Counts) -> Option<(Counts, Counts)> {
        self.from.map(|(echoes_from, arp_from)| (echoes.since(echoes_from), arp.since(arp_from)))
    }

    /// Judges the counts before a round.
    pub fn on_round(&mut self, echoes: Counts, arp: Counts, now: Instant) {
        self.count_runs(echoes);
        let Some((echoes_now, arp_now)) = self.results(echoes, arp) else {
            self.begin(echoes, arp);
            return;
        };
        // Without losses, or without a known rate of ARP to compare with, there is nothing to judge: the period begins anew.
        let is_calm = self.every == 1 && echoes_now.lost == 0;
        if arp_now.lost > 0 {
            self.usual(now);
            self.is_limited = false;
        } else if is_calm || (self.every == 1 && self.given_up_until.is_some_and(|until| now < until)) {
            let over = is_calm && echoes_now.total() >= MANY;
            self.is_limited &= !over;
            if over || !is_calm || !self.is_limited {
                self.begin(echoes, arp);
            }
        } else {
            self.judge(echoes_now, arp_now, now);
        }
    }

    fn begin(&mut self, echoes: Counts, arp: Counts) {
        self.from = Some((echoes, arp));
        self.runs = 0;
    }

    /// Counts the losses that follow an answer, from the results since the last round.
    fn count_runs(&mut self, echoes: Counts) {
        let new = echoes.since(self.before);
        self.before = echoes;
        if new.lost > 0 {
            self.runs += u32::from(self.since_loss > 0);
            self.since_loss = new.answered;
        } else {
            self.since_loss += new.answered;
        }
    }

    fn judge(&mut self, echoes: Counts, arp: Counts, now: Instant) {
        let enough = if self.every == 1 && !self.is_limited { MANY } else { SOME };
        if echoes.total() < enough || 2 * arp.answered < echoes.total() {
            return;
        }
        let is_many = echoes.total() >= MANY;
        let is_too_fast = echoes.loss() >= if is_many { TOO_FAST_OF_MANY } else { TOO_FAST };
        if is_too_fast && echoes.answered > 0 && self.every == 1 && self.runs < RUNS {
            // An outage with ARP all the while, as of another MAC. It is over if nothing is lost any more.
            if self.since_loss >= MANY {
                self.from = None;
            }
        } else if !is_too_fast {
            if is_many && echoes.loss() <= STEADY {
                self.on_steady(now);
            } else if echoes.total() >= 2 * MANY {
                self.from = None;
            }
        } else if echoes.answered > 0 && self.every < SLOWEST {
            if self.is_limited {
                self.try_after = (2 * self.try_after).min(TRY_AFTER_MAX);
            }
            self.pace(2 * self.every, now);
        } else {
            // Nothing is answered, or no pace is slow enough.
            self.given_up_until = (echoes.answered > 0).then(|| now + TRY_AFTER);
            self.is_limited = false;
            self.usual(now);
        }
    }

    fn on_steady(&mut self, now: Instant) {
        let steady = *self.steady.get_or_insert(now);
        self.is_limited = self.every > 1;
        self.from = None;
        if self.every > 1 && now.saturating_duration_since(steady) >= self.try_after {
            self.pace(self.every / 2, now);
        } else if self.every == 1 {
            self.try_after = TRY_AFTER;
        }
    }

    /// Back to echoes in every round.
    fn usual(&mut self, now: Instant) {
        if self.every > 1 {
            self.pace(1, now);
        }
        (self.from, self.steady) = (None, None);
    }

    fn pace(&mut self, every: u32, now: Instant) {
        (self.every, self.changed, self.from, self.steady) = (every, Some(now), None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One VTEP whose far end answers as `answers` says: from the seconds since its last answered echo.
    struct Peer {
        pace: EchoPace,
        echoes: Counts,
        arp: Counts,
        now: Instant,
        answered: Instant,
        echoed: u64,
    }

    impl Peer {
        fn new() -> Self {
            let now = Instant::now();
            let (pace, echoes, arp) = (EchoPace::default(), Counts::default(), Counts::default());
            Self { pace, echoes, arp, now, answered: now, echoed: 0 }
        }

        /// Rounds of one second, each with ARP.
        fn run(&mut self, rounds: u64, answers: impl Fn(u64, f64) -> bool, arp: bool) {
            for round in 0..rounds {
                self.now += Duration::from_secs(1);
                self.pace.on_round(self.echoes, self.arp, self.now);
                *if arp { &mut self.arp.answered } else { &mut self.arp.lost } += 1;
                let is_suspect = self.pace.is_judging(self.echoes, self.arp, self.now);
                if arp && !self.pace.turn(is_suspect, false).through {
                    continue;
                }
                self.echoed += 1;
                if answers(round, (self.now - self.answered).as_secs_f64()) {
                    self.answered = self.now;
                    self.echoes.answered += 1;
                } else {
                    self.echoes.lost += 1;
                }
            }
        }
    }

    #[test]
    fn a_limit_is_found_and_kept_to() {
        for (limit, every) in [(2.0, 2), (4.0, 4), (7.5, 8)] {
            let mut peer = Peer::new();
            peer.run(300, |_, since| since >= limit, true);
            assert_eq!((peer.pace.every(), peer.pace.is_limited()), (every, true), "one answer in {limit} s");
            let (lost, echoed) = (peer.echoes.lost, peer.echoed);
            peer.run(80, |_, since| since >= limit, true);
            assert_eq!((peer.echoes.lost, peer.echoed), (lost, echoed + 80 / u64::from(every)), "steady");
        }
    }

    /// Now and then, a round comes too soon for the limit: a quarter to a third of the echoes is lost.
    #[test]
    fn a_limit_that_nearly_suffices_is_one() {
        for tight in [10, 12, 14] {
            let mut peer = Peer::new();
            let loses = |round: u64, since: f64| since >= 2.0 || round % 20 >= tight;
            peer.run(100, loses, true);
            assert_eq!((peer.pace.every(), peer.pace.is_limited()), (2, true), "{tight} of 20 rounds");
        }
    }

    #[test]
    fn the_end_of_a_limit_is_found_and_tries_in_vain_become_rare() {
        let mut peer = Peer::new();
        peer.run(100, |_, since| since >= 2.0, true);
        assert!(peer.pace.is_limited());
        let lost = peer.echoes.lost;
        peer.run(8 * 3600, |_, since| since >= 2.0, true);
        assert!(
            peer.pace.is_limited() && peer.echoes.lost - lost < 100,
            "{} lost in eight hours",
            peer.echoes.lost - lost
        );
        let mut peer = Peer::new();
        peer.run(100, |_, since| since >= 2.0, true);
        peer.run(15 * 60, |_, _| true, true);
        assert_eq!((peer.pace.every(), peer.pace.is_limited()), (1, false));
    }

    /// Each of these keeps the usual pace, or returns to it, and is no limit.
    #[test]
    fn what_is_no_limit() {
        let every = |n: u64, lost: u64| move |round: u64, _: f64| round % n >= lost;
        let mut peer = Peer::new();
        peer.run(1000, every(10, 1), true);
        assert_eq!(peer.pace.every(), 1, "a loss now and then");
        let mut peer = Peer::new();
        peer.run(1000, |_, _| false, true);
        assert_eq!(peer.pace.every(), 1, "a filter");
        assert!(!peer.pace.is_limited());
        let mut peer = Peer::new();
        peer.run(400, |round, _| round.wrapping_mul(2_654_435_761) % 100 >= 60, true);
        assert!(!peer.pace.is_limited(), "60 % at random, at any pace");
        assert_eq!(peer.pace.every(), 1, "after all paces were tried");
        let mut peer = Peer::new();
        peer.run(100, |_, since| since >= 2.0, true);
        peer.run(3, |_, _| false, false);
        assert_eq!((peer.pace.every(), peer.pace.is_limited()), (1, false), "the way itself is dead");
    }

    /// ARP is answered all the while, as when the tunnel has another MAC than the configured one.
    #[test]
    fn an_outage_is_no_limit() {
        for lost in 1..100 {
            for calm in [0, 1, 7, 30] {
                let mut peer = Peer::new();
                peer.run(calm, |_, _| true, true);
                peer.run(lost, |_, _| false, true);
                for _ in 0..60 {
                    peer.run(1, |_, _| true, true);
                    assert_eq!((peer.pace.every(), peer.pace.is_limited()), (1, false), "{calm} answered, {lost} lost");
                }
                let arp = peer.arp;
                assert!(!peer.pace.is_judging(peer.echoes, arp, peer.now), "{calm} answered, {lost} lost");
            }
        }
    }

    #[test]
    fn losses_are_no_loss_before_there_are_enough() {
        let (counts, now) = (|answered, lost| Counts { answered, lost }, Instant::now());
        let mut pace = EchoPace::default();
        assert!(!pace.is_judging(counts(0, 0), counts(0, 0), now));
        pace.on_round(counts(10, 0), counts(10, 0), now);
        assert!(pace.is_judging(counts(15, 5), counts(20, 0), now));
        assert!(!pace.is_judging(counts(15, 5), counts(19, 1), now), "ARP is lost as well");
        assert!(!pace.is_judging(counts(15, 5), counts(10, 0), now), "nothing is known of ARP");
    }
}
