//! The last way to find a tunnel self IP: asks by ARP for each address of a VTEP CIDR in turn. A function of `now`; the caller sends.
//!
//! It is slow and takes one CIDR at a time, because BIG-IP may flood each request. It repeats a CIDR at growing intervals, and anew when the
//! endpoint begins to answer or to send: then a VTEP that did not exist may have come up.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use ipnet::{Ipv4AddrRange, Ipv4Net};

/// The time between two requests: at most fifty a second.
const INTERVAL: Duration = Duration::from_millis(20);
/// The times from the beginning of one sweep of a CIDR to the next; the last one repeats.
const REPEAT_AFTER: [Duration; 5] = [
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(300),
    Duration::from_secs(900),
    Duration::from_secs(3600),
];
/// An endpoint that comes and goes causes no more sweeps of its CIDR than one in this time.
const MIN_INTERVAL: Duration = Duration::from_secs(30);
/// The wait before a sweep begins: BIG-IP's own frames may show the self IP sooner.
const GRACE_PERIOD: Duration = Duration::from_secs(5);

/// The state of the sweep.
#[derive(Debug, Default)]
pub struct Sweep {
    /// The CIDRs without a known self IP.
    unknown: BTreeMap<Ipv4Net, Unknown>,
    current: Option<(Ipv4Net, Ipv4AddrRange)>,
    /// The sweeps of each CIDR.
    begun: BTreeMap<Ipv4Net, Begun>,
    due: Option<Instant>,
}

/// A CIDR without a known self IP.
#[derive(Clone, Copy, Debug)]
struct Unknown {
    since: Instant,
    is_alive: bool,
}

/// The sweeps of a CIDR.
#[derive(Clone, Copy, Debug)]
struct Begun {
    /// When the last one began.
    at: Instant,
    /// How many there were since the endpoint came alive.
    times: usize,
}

impl Begun {
    fn is_rested(&self, now: Instant) -> bool {
        let interval = match self.times.checked_sub(1) {
            Some(before) => REPEAT_AFTER[before.min(REPEAT_AFTER.len() - 1)],
            None => MIN_INTERVAL,
        };
        now.saturating_duration_since(self.at) >= interval
    }
}

impl Sweep {
    /// The address to ask for now, given the CIDRs without a known self IP, and whether the endpoint of each answers or sends.
    pub fn turn(&mut self, unknown: &[(Ipv4Net, bool)], now: Instant) -> Option<(Ipv4Net, Ipv4Addr)> {
        self.unknown.retain(|cidr, _| unknown.iter().any(|(unknown, _)| unknown == cidr));
        for &(cidr, is_alive) in unknown {
            let known = self.unknown.entry(cidr).or_insert(Unknown { since: now, is_alive });
            if is_alive && !known.is_alive {
                self.begun.entry(cidr).and_modify(|begun| begun.times = 0);
            }
            known.is_alive = is_alive;
        }
        if self.current.as_ref().is_some_and(|(cidr, _)| !self.unknown.contains_key(cidr)) {
            self.current = None;
        }
        if self.due.is_some_and(|due| now < due) {
            return None;
        }
        if self.current.is_none() {
            let cidr = self.next(now)?;
            let times = self.begun.get(&cidr).map_or(0, |begun| begun.times) + 1;
            self.begun.insert(cidr, Begun { at: now, times });
            self.current = Some((cidr, cidr.hosts()));
        }
        let (cidr, addresses) = self.current.as_mut()?;
        let asked = addresses.next().map(|address| (*cidr, address));
        if asked.is_none() {
            self.current = None;
        }
        self.due = Some(now + INTERVAL);
        asked
    }

    /// Whether a sweep of this CIDR is complete, no matter how long ago, and the endpoint has not come alive since.
    #[must_use]
    pub fn is_done(&self, cidr: Ipv4Net) -> bool {
        self.begun.get(&cidr).is_some_and(|begun| begun.times > 0)
            && self.current.as_ref().is_none_or(|(current, _)| *current != cidr)
    }

    fn next(&self, now: Instant) -> Option<Ipv4Net> {
        let patient = self.unknown.iter().filter(|(_, of)| now.duration_since(of.since) >= GRACE_PERIOD);
        let is_rested = |cidr: &Ipv4Net| self.begun.get(cidr).is_none_or(|begun| begun.is_rested(now));
        patient.map(|(cidr, _)| *cidr).find(is_rested)
    }

    /// The time of the next request, while a sweep is under way.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.current.as_ref().and(self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs for this many seconds. Returns the requests, each with its time.
    fn run(
        sweep: &mut Sweep,
        unknown: &[Ipv4Net],
        now: &mut Instant,
        seconds: u64,
    ) -> Vec<(Instant, Ipv4Net, Ipv4Addr)> {
        let end = *now + Duration::from_secs(seconds);
        let mut asked = Vec::new();
        let unknown: Vec<_> = unknown.iter().map(|cidr| (*cidr, false)).collect();
        while *now < end {
            asked.extend(sweep.turn(&unknown, *now).map(|(cidr, address)| (*now, cidr, address)));
            *now += Duration::from_millis(5);
        }
        asked
    }

    fn cidr(n: u8) -> Ipv4Net {
        Ipv4Net::new([10, 1, n, 0].into(), 24).expect("24 is a prefix length")
    }

    #[test]
    fn every_host_is_asked_for_once_and_slowly() {
        let mut now = Instant::now();
        let mut sweep = Sweep::default();
        let start = now;
        assert!(run(&mut sweep, &[cidr(6)], &mut now, 5).is_empty() && !sweep.is_done(cidr(6)));
        let asked = run(&mut sweep, &[cidr(6)], &mut now, 60);
        assert!(sweep.is_done(cidr(6)) && !sweep.is_done(cidr(5)));
        assert_eq!(asked.len(), 254);
        assert_eq!((asked[0].2, asked[253].2), ([10, 1, 6, 1].into(), [10, 1, 6, 254].into()));
        assert!(asked[0].0 - start >= GRACE_PERIOD, "BIG-IP's own frames may show it");
        assert!(asked.windows(2).all(|pair| pair[1].0 - pair[0].0 >= INTERVAL));
    }

    #[test]
    fn it_is_repeated_ever_more_rarely_and_anew_for_an_endpoint_that_comes_alive() {
        let mut now = Instant::now();
        let (mut sweep, start) = (Sweep::default(), now);
        let asked = run(&mut sweep, &[cidr(6)], &mut now, 3 * 3600);
        let begins = asked.iter().filter(|(.., address)| *address == Ipv4Addr::new(10, 1, 6, 1));
        let minutes: Vec<_> = begins.map(|(at, ..)| at.duration_since(start).as_secs() / 60).collect();
        assert_eq!(minutes, [0, 1, 3, 8, 23, 83, 143]);
        let mut count = |is_alive, seconds: u64| {
            let end = now + Duration::from_secs(seconds);
            let mut count = 0;
            while now < end {
                count += usize::from(sweep.turn(&[(cidr(6), is_alive)], now).is_some());
                now += Duration::from_millis(5);
            }
            count
        };
        assert_eq!(count(true, 8), 254, "it came alive");
        assert_eq!((count(false, 1), count(true, 8)), (0, 0), "it comes and goes");
        assert_eq!(count(true, 30), 254);
    }

    #[test]
    fn an_endpoint_that_has_come_alive_is_searched_before_that_is_done() {
        let (mut sweep, mut now) = (Sweep::default(), Instant::now());
        run(&mut sweep, &[cidr(6)], &mut now, 20);
        assert!(sweep.is_done(cidr(6)));
        sweep.turn(&[(cidr(6), true)], now);
        assert!(!sweep.is_done(cidr(6)), "the search of its dead endpoint shows nothing");
    }

    #[test]
    fn one_cidr_after_the_other_and_none_that_is_known() {
        let mut now = Instant::now();
        let mut sweep = Sweep::default();
        let first = run(&mut sweep, &[cidr(5), cidr(6)], &mut now, 6);
        assert!(first.iter().all(|(_, asked, _)| *asked == cidr(5)) && !first.is_empty());
        let second = run(&mut sweep, &[cidr(6)], &mut now, 30);
        assert!(second.iter().all(|(_, asked, _)| *asked == cidr(6)) && second.len() == 254);
        assert!(run(&mut sweep, &[], &mut now, 30).is_empty());
        assert_eq!(sweep.deadline(), None);
    }
}
