//! Finds the largest packet that passes the tunnel: it sends a full-size echo now and then, and searches by bisection if those are lost
//! while small ones pass. A function of events and of `now`; the caller sends.
//!
//! Sizes are bytes of the inner IPv4 packet.

use std::{
    io,
    time::{Duration, Instant},
};

use super::window::{ProbeWindow, Thresholds, WindowState};

/// Every IPv4 path passes this much (RFC 791, section 3.1).
const SMALLEST: u16 = 576;
/// The result of a search is valid for this long.
const SEARCH_AGAIN: Duration = Duration::from_secs(600);
/// The shortest time to wait for an answer in a search, even if the round-trip time is very short.
const SOONEST: Duration = Duration::from_millis(200);
/// A size counts as too large after this many losses: a single loss is an accident.
const TRIES: u8 = 2;
/// A search that found a smaller size sends the full size this many times more, and all must be lost: where packets of any size are lost, a
/// search also ends with a smaller one.
const CONFIRMATIONS: u8 = 5;

/// The size of the echo to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub size: u16,
}

/// The state of one VTEP.
#[derive(Clone, Debug)]
pub struct PathMtu {
    /// Echoes of the full size.
    full: ProbeWindow,
    interval: Duration,
    timeout: Duration,
    due: Instant,
    /// The full size that these results belong to.
    size: u16,
    search: Option<Search>,
    /// The largest size that passes, if it was found.
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

/// A search between a size that passes and one that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Search {
    /// The full size.
    full: u16,
    passes: u16,
    fails: u16,
    lost: u8,
    /// How often the full size was lost after the search had found a smaller one.
    confirmed: u8,
    awaited: Option<(u16, u16, Instant)>,
}

impl PathMtu {
    /// Checks every `interval`; an echo that is not answered within `timeout` is lost.
    #[must_use]
    pub fn new(thresholds: Thresholds, interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self {
            full: ProbeWindow::new(thresholds, timeout),
            interval,
            timeout,
            due: now,
            size: 0,
            search: None,
            found: None,
            searched: None,
        }
    }

    /// The echo to send now, given the full size. If `alive` is false, nothing passes at all, so the size is not the reason. A check that is
    /// due within `slack` takes place now.
    pub fn turn(&mut self, full: u16, alive: bool, slack: Duration, now: Instant) -> Option<Due> {
        if full != self.size {
            *self = Self { size: full, ..Self::new(self.full.thresholds(), self.interval, self.timeout, now) };
        }
        if !alive {
            self.suppress(now);
            return None;
        }
        if let Some(search) = &self.search {
            return search.awaited.is_none().then(|| Due { size: search.next() });
        }
        let stale = self.searched.is_none_or(|at| now.duration_since(at) >= SEARCH_AGAIN);
        if self.full.state() == WindowState::Failed && stale && now >= self.due {
            self.search = Some(Search { full, passes: 0, fails: full, lost: 0, confirmed: 0, awaited: None });
            return Some(Due { size: SMALLEST });
        }
        if now + slack < self.due {
            return None;
        }
        // After a loss, the next echoes come sooner, because they decide about the state.
        let interval = if self.full.last_lost() { self.interval / 2 } else { self.interval };
        self.due = now + interval;
        Some(Due { size: full })
    }

    /// Gives up a search, because it can learn nothing now. The next check is an interval away.
    pub fn suppress(&mut self, now: Instant) {
        self.search = None;
        self.due = self.due.max(now + self.interval);
    }

    pub fn on_sent(&mut self, sequence: u16, due: Due, now: Instant) {
        match &mut self.search {
            Some(search) => search.awaited = Some((sequence, due.size, now)),
            None => self.full.on_sent(sequence, now),
        }
    }

    /// The kernel refused to send: it already knows that the size is too large.
    pub fn on_send_error(&mut self, error: &io::Error, now: Instant) {
        match &mut self.search {
            Some(_) => self.lost(now),
            None => self.full.on_send_error(error, now),
        }
    }

    /// Processes an answer. Returns whether it answers one of these echoes.
    pub fn on_reply(&mut self, sequence: u16, now: Instant) -> bool {
        if let Some(search) = &mut self.search {
            match search.awaited {
                // The full size passes after all: packets were lost by chance, and the losses so far show nothing.
                Some((awaited, _, _)) if awaited == sequence && search.is_closed() => {
                    self.search = None;
                    self.full = ProbeWindow::new(self.full.thresholds(), self.timeout);
                    self.due = now + self.interval / 2;
                    return true;
                }
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
            if self.full.state() == WindowState::Ok {
                (self.found, self.searched) = (Some(self.size), None);
            }
        }
        ours
    }

    pub fn on_time(&mut self, now: Instant) {
        self.full.on_time(now);
        let awaited = self.search.as_ref().and_then(|search| search.awaited);
        if awaited.is_some_and(|(_, _, at)| now.duration_since(at) >= self.search_timeout()) {
            self.lost(now);
        }
    }

    /// The time of the next action.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let searching =
            self.search.as_ref().map(|search| search.awaited.map_or(self.due, |(_, _, at)| at + self.search_timeout()));
        searching.into_iter().chain(self.full.deadline()).fold(self.due, Instant::min)
    }

    /// The time to wait for an answer in a search: many round-trip times.
    fn search_timeout(&self) -> Duration {
        self.full.rtt.map_or(self.timeout, |rtt| (rtt * 20).clamp(SOONEST.min(self.timeout), self.timeout))
    }

    fn lost(&mut self, now: Instant) {
        let Some(search) = &mut self.search else { return };
        search.awaited = None;
        if search.is_closed() {
            search.confirmed += 1;
            self.conclude(now);
            return;
        }
        search.lost += 1;
        if search.lost >= TRIES {
            (search.fails, search.lost) = (search.next(), 0);
            self.conclude(now);
        }
    }

    fn conclude(&mut self, now: Instant) {
        let Some(search) = &self.search else { return };
        let nothing_passes = search.passes == 0 && search.fails <= SMALLEST;
        if nothing_passes || (search.is_closed() && search.confirmed >= CONFIRMATIONS) {
            self.found = (search.passes > 0).then_some(search.passes);
            // If nothing was found, a busy moment is the reason, because a search begins only while small packets pass. The next search may
            // find more.
            self.searched = self.found.map(|_| now);
            self.search = None;
            self.due = now + self.interval;
        }
    }

    /// The state of full-size echoes.
    #[must_use]
    pub fn state(&self) -> WindowState {
        self.full.state()
    }

    /// Full-size echoes are lost, the last one was lost, or their result is still unknown.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        let can_be_known = self.size != 0;
        (can_be_known && self.full.state() != WindowState::Ok) || self.full.last_lost()
    }

    /// The largest inner packet that passes, if it was found.
    #[must_use]
    pub fn inner_mtu(&self) -> Option<u16> {
        self.found
    }

    /// The largest size that should pass.
    #[must_use]
    pub fn full_size(&self) -> u16 {
        self.size
    }
}

impl Search {
    /// The largest size that passes is known.
    fn is_closed(&self) -> bool {
        self.passes > 0 && self.passes + 1 >= self.fails
    }

    fn next(&self) -> u16 {
        if self.is_closed() {
            return self.full;
        }
        if self.passes == 0 { SMALLEST.min(self.fails) } else { self.passes + (self.fails - self.passes) / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u16 = 1450;
    const TICK: Duration = Duration::from_millis(100);

    /// Runs for some seconds over a path with this MTU. Returns the number of echoes.
    fn run(mtu: &mut PathMtu, passes: u16, now: &mut Instant, seconds: u32) -> u32 {
        let mut sent = 0;
        let end = *now + Duration::from_secs(seconds.into());
        let mut sequence = 0_u16;
        while *now < end {
            mtu.on_time(*now);
            while let Some(due) = mtu.turn(FULL, true, Duration::ZERO, *now) {
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
            assert_eq!((mtu.state(), mtu.inner_mtu()), (WindowState::Failed, Some(passes)));
            run(&mut mtu, FULL, &mut now, 10);
            assert_eq!((mtu.state(), mtu.inner_mtu()), (WindowState::Ok, Some(FULL)), "and its repair is seen");
        }
    }

    #[test]
    fn a_path_that_passes_all_costs_one_echo_an_interval() {
        let mut now = Instant::now();
        let mut mtu = new(now);
        assert_eq!(run(&mut mtu, FULL, &mut now, 60), 30);
        assert_eq!((mtu.state(), mtu.inner_mtu()), (WindowState::Ok, Some(FULL)));
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

    /// Ten days with a fifth of all packets lost: hardly ever is the size taken for the reason.
    #[test]
    fn random_loss_is_no_smaller_mtu() {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let is_named_on_a_day = |seed: u64| {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut now, mut sequence) = (Instant::now(), 0_u16);
            let (mut mtu, end) = (new(now), now + DAY);
            while now < end {
                mtu.on_time(now);
                while let Some(due) = mtu.turn(FULL, true, Duration::ZERO, now) {
                    sequence = sequence.wrapping_add(1);
                    mtu.on_sent(sequence, due, now);
                    if random.u8(..100) >= 20 {
                        mtu.on_reply(sequence, now);
                    }
                }
                if mtu.state() == WindowState::Failed && mtu.inner_mtu().is_some_and(|found| found < FULL) {
                    return true;
                }
                now += TICK;
            }
            false
        };
        let named = (1..=10).filter(|&seed| is_named_on_a_day(seed)).count();
        assert!(named <= 2, "on {named} days");
    }

    #[test]
    fn where_nothing_passes_the_size_is_not_why() {
        let mut now = Instant::now();
        let mut mtu = new(now);
        run(&mut mtu, 0, &mut now, 60);
        assert_eq!(mtu.inner_mtu(), None);
        mtu.on_time(now);
        assert_eq!(mtu.turn(FULL, false, Duration::ZERO, now), None);
        assert!(mtu.deadline() > now, "and the next action is not due at once");
    }
}
