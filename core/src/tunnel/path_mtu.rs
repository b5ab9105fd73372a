//! The largest packet that passes the tunnel: a full-size echo now and then, and a search by bisection when those are lost while small
//! ones pass. A function of events and of `now`.
//!
//! Sizes are bytes of the inner IPv4 packet.

use std::{
    io,
    time::{Duration, Instant},
};

use super::window::{Answers, Health, Thresholds};

/// Every IPv4 path passes this much (RFC 791, section 3.1).
const SMALLEST: u16 = 576;
/// How long the result of a search holds.
const SEARCH_AGAIN: Duration = Duration::from_secs(600);
/// The shortest patience in a search, whatever the round-trip time.
const SOONEST: Duration = Duration::from_millis(200);
/// A size has to be lost this often to count as too large: one loss is an accident.
const TRIES: u8 = 2;

/// What to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub size: u16,
}

/// The record of one VTEP.
#[derive(Clone, Debug)]
pub struct PathMtu {
    /// Echoes of the full size.
    full: Health,
    interval: Duration,
    timeout: Duration,
    due: Instant,
    /// The full size that the record is about.
    size: u16,
    search: Option<Search>,
    /// The largest that passes, as far as it was found.
    found: Option<u16>,
    searched: Option<Instant>,
}

/// Two records are equal if they say the same: `due` moves on in each turn while nothing is sent, and only this file reads it.
impl PartialEq for PathMtu {
    fn eq(&self, other: &Self) -> bool {
        let values = |record: &Self| {
            let Self { full: _, interval, timeout, due: _, size, search, found, searched } = record;
            (*interval, *timeout, *size, *search, *found, *searched)
        };
        self.full == other.full && values(self) == values(other)
    }
}

/// Between what passes and what does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Search {
    passes: u16,
    fails: u16,
    lost: u8,
    awaited: Option<(u16, u16, Instant)>,
}

impl PathMtu {
    /// Checks every `interval`; what is not answered within `timeout` is lost.
    #[must_use]
    pub fn new(thresholds: Thresholds, interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self {
            full: Health::new(thresholds, timeout),
            interval,
            timeout,
            due: now,
            size: 0,
            search: None,
            found: None,
            searched: None,
        }
    }

    /// What to send now, given the full size. With `alive` false nothing passes at all, and the size is not why.
    pub fn turn(&mut self, full: u16, alive: bool, now: Instant) -> Option<Due> {
        if full != self.size {
            *self = Self { size: full, ..Self::new(self.full.thresholds(), self.interval, self.timeout, now) };
        }
        if !alive {
            self.rest(now);
            return None;
        }
        if let Some(search) = &self.search {
            return search.awaited.is_none().then(|| Due { size: search.next() });
        }
        let stale = self.searched.is_none_or(|at| now.duration_since(at) >= SEARCH_AGAIN);
        if self.full.state() == Answers::Failed && stale && now >= self.due {
            self.search = Some(Search { passes: 0, fails: full, lost: 0, awaited: None });
            return Some(Due { size: SMALLEST });
        }
        if now < self.due {
            return None;
        }
        // After a loss the next ones come sooner: they decide.
        let interval = if self.full.last_lost() { self.interval / 2 } else { self.interval };
        self.due = now + interval;
        Some(Due { size: full })
    }

    /// Nothing can be learned now: a search is given up, and the next look is an interval away.
    pub fn rest(&mut self, now: Instant) {
        self.search = None;
        self.due = self.due.max(now + self.interval);
    }

    pub fn on_sent(&mut self, sequence: u16, due: Due, now: Instant) {
        match &mut self.search {
            Some(search) => search.awaited = Some((sequence, due.size, now)),
            None => self.full.on_sent(sequence, now),
        }
    }

    /// The kernel knows already that it is too large.
    pub fn on_send_error(&mut self, error: &io::Error, now: Instant) {
        match &mut self.search {
            Some(_) => self.lost(now),
            None => self.full.on_send_error(error, now),
        }
    }

    /// Whether this is the answer to one of ours.
    pub fn on_reply(&mut self, sequence: u16, now: Instant) -> bool {
        if let Some(search) = &mut self.search {
            match search.awaited {
                Some((awaited, size, _)) if awaited == sequence => {
                    (search.passes, search.lost, search.awaited) = (size, 0, None);
                    self.conclude(now);
                    return true;
                }
                Some(_) | None => {}
            }
        }
        let ours = self.full.awaits(sequence);
        if ours {
            self.full.on_reply(sequence, now);
            if self.full.state() == Answers::Ok {
                (self.found, self.searched) = (Some(self.size), None);
            }
        }
        ours
    }

    pub fn on_time(&mut self, now: Instant) {
        self.full.on_time(now);
        let awaited = self.search.as_ref().and_then(|search| search.awaited);
        if awaited.is_some_and(|(_, _, at)| now.duration_since(at) >= self.patience()) {
            self.lost(now);
        }
    }

    /// When there is something to do next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let searching =
            self.search.as_ref().map(|search| search.awaited.map_or(self.due, |(_, _, at)| at + self.patience()));
        searching.into_iter().chain(self.full.deadline()).fold(self.due, Instant::min)
    }

    /// In a search: many times what an answer takes.
    fn patience(&self) -> Duration {
        self.full.rtt.map_or(self.timeout, |rtt| (rtt * 20).clamp(SOONEST.min(self.timeout), self.timeout))
    }

    fn lost(&mut self, now: Instant) {
        let Some(search) = &mut self.search else { return };
        search.awaited = None;
        search.lost += 1;
        if search.lost >= TRIES {
            (search.fails, search.lost) = (search.next(), 0);
            self.conclude(now);
        }
    }

    fn conclude(&mut self, now: Instant) {
        let Some(search) = &self.search else { return };
        let nothing_passes = search.passes == 0 && search.fails <= SMALLEST;
        if nothing_passes || search.passes + 1 >= search.fails {
            self.found = (search.passes > 0).then_some(search.passes);
            // Small ones pass, or there would have been no search: a busy moment, and the next may tell more.
            self.searched = self.found.map(|_| now);
            self.search = None;
            self.due = now + self.interval;
        }
    }

    /// How full-size packets fare.
    #[must_use]
    pub fn state(&self) -> Answers {
        self.full.state()
    }

    /// The full size is lost, or was the last time, or has still to show.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        let can_be_known = self.size != 0;
        (can_be_known && self.full.state() != Answers::Ok) || self.full.last_lost()
    }

    /// The largest inner packet that passes, as far as it was found.
    #[must_use]
    pub fn inner_mtu(&self) -> Option<u16> {
        self.found
    }

    /// The largest that should pass.
    #[must_use]
    pub fn full_size(&self) -> u16 {
        self.size
    }
}

impl Search {
    fn next(&self) -> u16 {
        if self.passes == 0 { SMALLEST.min(self.fails) } else { self.passes + (self.fails - self.passes) / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u16 = 1450;
    const TICK: Duration = Duration::from_millis(100);

    /// Runs for some seconds over a path that passes so much.
    fn run(mtu: &mut PathMtu, passes: u16, now: &mut Instant, seconds: u32) -> u32 {
        let mut sent = 0;
        let end = *now + Duration::from_secs(seconds.into());
        let mut sequence = 0_u16;
        while *now < end {
            mtu.on_time(*now);
            while let Some(due) = mtu.turn(FULL, true, *now) {
                sequence = sequence.wrapping_add(1);
                sent += 1;
                mtu.on_sent(sequence, due, *now);
                if due.size <= passes {
                    assert!(mtu.on_reply(sequence, *now));
                }
            }
            *now += TICK;
        }
        sent
    }

    fn new(now: Instant) -> PathMtu {
        PathMtu::new(Thresholds { raise: 3, clear: 3 }, Duration::from_secs(2), Duration::from_millis(500), now)
    }

    #[test]
    fn any_path_mtu_is_found() {
        for passes in [576, 577, 800, 1000, 1400, 1448, 1449] {
            let mut now = Instant::now();
            let mut mtu = new(now);
            run(&mut mtu, passes, &mut now, 30);
            assert_eq!((mtu.state(), mtu.inner_mtu()), (Answers::Failed, Some(passes)));
            run(&mut mtu, FULL, &mut now, 10);
            assert_eq!((mtu.state(), mtu.inner_mtu()), (Answers::Ok, Some(FULL)), "and its repair is seen");
        }
    }

    #[test]
    fn a_path_that_passes_all_costs_one_echo_an_interval() {
        let mut now = Instant::now();
        let mut mtu = new(now);
        assert_eq!(run(&mut mtu, FULL, &mut now, 60), 30);
        assert_eq!((mtu.state(), mtu.inner_mtu()), (Answers::Ok, Some(FULL)));
    }

    #[test]
    fn a_search_is_not_repeated_before_its_time() {
        let mut now = Instant::now();
        let mut mtu = new(now);
        run(&mut mtu, 1000, &mut now, 60);
        let sent = run(&mut mtu, 1000, &mut now, 300);
        assert!((290..=310).contains(&sent), "{sent} echoes in 300 s");
    }

    #[test]
    fn a_search_that_found_nothing_is_made_again_soon() {
        let mut now = Instant::now();
        let mut mtu = new(now);
        run(&mut mtu, 0, &mut now, 20);
        assert_eq!(mtu.inner_mtu(), None);
        run(&mut mtu, 1000, &mut now, 20);
        assert_eq!(mtu.inner_mtu(), Some(1000));
    }

    #[test]
    fn where_nothing_passes_the_size_is_not_why() {
        let mut now = Instant::now();
        let mut mtu = new(now);
        run(&mut mtu, 0, &mut now, 60);
        assert_eq!(mtu.inner_mtu(), None);
        mtu.on_time(now);
        assert_eq!(mtu.turn(FULL, false, now), None);
        assert!(mtu.deadline() > now, "and nobody waits for it in a hurry");
    }
}
