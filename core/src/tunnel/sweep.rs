//! The last way to find a tunnel self IP: asks by ARP for each address of a VTEP CIDR in turn. A function of `now`; the caller sends.
//!
//! It is slow, takes one CIDR at a time, and repeats none within an hour, because BIG-IP may flood each request.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use ipnet::{Ipv4AddrRange, Ipv4Net};

/// The time between two requests: at most fifty a second.
const INTERVAL: Duration = Duration::from_millis(20);
/// A CIDR is not swept again within this time.
const REPEAT_AFTER: Duration = Duration::from_secs(3600);
/// The wait before a sweep begins: BIG-IP's own frames may show the self IP sooner.
const GRACE_PERIOD: Duration = Duration::from_secs(5);

/// The state of the sweep.
#[derive(Debug, Default)]
pub struct Sweep {
    /// The CIDRs without a known self IP, each with the time since when.
    unknown: BTreeMap<Ipv4Net, Instant>,
    current: Option<(Ipv4Net, Ipv4AddrRange)>,
    /// When the last sweep of each CIDR began.
    begun: BTreeMap<Ipv4Net, Instant>,
    due: Option<Instant>,
}

impl Sweep {
    /// The address to ask for now, given the CIDRs without a known self IP.
    pub fn turn(&mut self, unknown: &[Ipv4Net], now: Instant) -> Option<(Ipv4Net, Ipv4Addr)> {
        self.unknown.retain(|cidr, _| unknown.contains(cidr));
        for &cidr in unknown {
            self.unknown.entry(cidr).or_insert(now);
        }
        if self.current.as_ref().is_some_and(|(cidr, _)| !unknown.contains(cidr)) {
            self.current = None;
        }
        if self.due.is_some_and(|due| now < due) {
            return None;
        }
        if self.current.is_none() {
            let cidr = self.next(now)?;
            self.begun.insert(cidr, now);
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

    /// Whether a sweep of this CIDR is complete, no matter how long ago.
    #[must_use]
    pub fn is_done(&self, cidr: Ipv4Net) -> bool {
        self.begun.contains_key(&cidr) && self.current.as_ref().is_none_or(|(current, _)| *current != cidr)
    }

    fn next(&self, now: Instant) -> Option<Ipv4Net> {
        let patient = self.unknown.iter().filter(|(_, since)| now.duration_since(**since) >= GRACE_PERIOD);
        let rested =
            |cidr: &Ipv4Net| self.begun.get(cidr).is_none_or(|begun| now.duration_since(*begun) >= REPEAT_AFTER);
        patient.map(|(cidr, _)| *cidr).find(rested)
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
        while *now < end {
            asked.extend(sweep.turn(unknown, *now).map(|(cidr, address)| (*now, cidr, address)));
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
        assert!(run(&mut sweep, &[cidr(6)], &mut now, 3500).is_empty(), "not again within an hour");
        assert!(!run(&mut sweep, &[cidr(6)], &mut now, 120).is_empty());
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
