//! The other streams of the endpoints: tunnel frames with another VNI or on another port. A sender can invent any number of them, so only
//! those that persist are evidence. A function of the tap's counts and of `now`.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::flow::Flow;

/// A stream persists once new frames of it were seen this many times.
const SIGHTINGS: u32 = 3;
/// Frames this soon after the last sighting are no new one.
const SPACING: Duration = Duration::from_millis(500);
/// A stream that does not persist is dropped after this silence.
const CANDIDATE: Duration = Duration::from_secs(10);
/// A stream that persists is dropped after this silence.
const MAX_AGE: Duration = Duration::from_secs(60);
/// This many streams of an endpoint are listed.
pub const LISTED: usize = 5;
/// If more streams are known, those that were seen only once are dropped. A tunnel that is configured wrongly has one or two.
const LIMIT: usize = 4096;

#[derive(Debug)]
struct Stray {
    flow: Flow,
    sightings: u32,
    /// When the last sighting was counted.
    sighted: Instant,
}

impl Stray {
    fn persists(&self) -> bool {
        self.sightings >= SIGHTINGS
    }
}

/// The other streams of all endpoints.
#[derive(Debug, Default)]
pub struct Strays {
    /// By outer source, VNI and port.
    known: BTreeMap<(Ipv4Addr, u32, u16), Stray>,
}

impl Strays {
    /// Processes the streams that the tap knows now. It drops streams in a flood, so a stream may come back with lower counts.
    pub fn on_flows(&mut self, flows: Vec<Flow>, now: Instant) {
        let age = |flow: &Flow| now.saturating_duration_since(flow.last_seen);
        for flow in flows.into_iter().filter(|flow| age(flow) < CANDIDATE) {
            let key = (flow.source, flow.vni, flow.port);
            let Some(known) = self.known.get_mut(&key) else {
                let sighted = flow.last_seen;
                self.known.insert(key, Stray { flow, sightings: 1, sighted });
                continue;
            };
            if flow.last_seen.saturating_duration_since(known.sighted) >= SPACING {
                known.sightings = known.sightings.saturating_add(1);
                known.sighted = flow.last_seen;
            }
            known.flow = flow;
        }
        self.known.retain(|_, stray| age(&stray.flow) < if stray.persists() { MAX_AGE } else { CANDIDATE });
        if self.known.len() > LIMIT {
            self.known.retain(|_, stray| stray.sightings > 1);
        }
    }

    /// The streams of this endpoint that persist, those seen most often first, and how many others it has sent lately.
    #[must_use]
    pub fn of(&self, endpoint: Ipv4Addr) -> (Vec<Flow>, usize) {
        let streams = self.known.range((endpoint, 0, 0)..=(endpoint, u32::MAX, u16::MAX));
        let all: Vec<_> = streams.map(|(_, stray)| stray).collect();
        let mut listed: Vec<_> = all.iter().filter(|stray| stray.persists()).collect();
        listed.sort_by_key(|stray| std::cmp::Reverse(stray.sightings));
        let listed: Vec<_> = listed.into_iter().take(LISTED).map(|stray| stray.flow.clone()).collect();
        let others = all.len() - listed.len();
        (listed, others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::mac::Mac;

    const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 169, 72, 34);

    fn flow(vni: u32, last_seen: Instant) -> Flow {
        Flow {
            source: ENDPOINT,
            port: 8472,
            vni,
            packets: 1,
            bytes: 100,
            last_seen,
            inner_mac: Mac::default(),
            inner_source: None,
            arp_sender: None,
            foreign: None,
        }
    }

    fn vnis(strays: &Strays) -> (Vec<u32>, usize) {
        let (listed, others) = strays.of(ENDPOINT);
        (listed.iter().map(|flow| flow.vni).collect(), others)
    }

    #[test]
    fn a_stream_persists_at_the_third_sighting() {
        let start = Instant::now();
        let mut strays = Strays::default();
        let mut see = |ms| {
            let at = start + Duration::from_millis(ms);
            strays.on_flows(vec![flow(3, at)], at);
            vnis(&strays)
        };
        assert_eq!(see(0), (vec![], 1));
        assert_eq!(
            [see(100), see(200), see(300)],
            [(vec![], 1), (vec![], 1), (vec![], 1)],
            "one burst is one sighting"
        );
        assert_eq!(see(1000), (vec![], 1));
        assert_eq!(see(2000), (vec![3], 0));
        assert_eq!(strays.of([10, 169, 72, 36].into()), (vec![], 0), "another endpoint");
    }

    #[test]
    fn an_old_count_is_no_new_sighting() {
        let start = Instant::now();
        let mut strays = Strays::default();
        for s in 0..9 {
            strays.on_flows(vec![flow(3, start)], start + Duration::from_secs(s));
        }
        assert_eq!(vnis(&strays), (vec![], 1));
        strays.on_flows(vec![flow(3, start)], start + CANDIDATE);
        assert_eq!(vnis(&strays), (vec![], 0), "it has aged");
    }

    #[test]
    fn a_flood_lists_nothing_and_hides_nothing() {
        let start = Instant::now();
        let mut strays = Strays::default();
        let mut invented = 100..;
        for s in 0..60 {
            let at = start + Duration::from_secs(s);
            let flood = invented.by_ref().take(255).map(|vni| flow(vni, at));
            strays.on_flows(flood.chain([flow(3, at)]).collect(), at);
            assert!(strays.known.len() <= LIMIT);
        }
        let (listed, others) = vnis(&strays);
        assert!(listed == [3] && others >= 255, "{listed:?} {others}");
        let later = start + Duration::from_secs(60) + CANDIDATE;
        strays.on_flows(Vec::new(), later);
        assert_eq!(vnis(&strays), (vec![3], 0));
        strays.on_flows(Vec::new(), start + Duration::from_secs(59) + MAX_AGE);
        assert_eq!(vnis(&strays), (vec![], 0));
    }

    #[test]
    fn five_are_listed_and_the_others_counted() {
        let start = Instant::now();
        let mut strays = Strays::default();
        for s in 0..5 {
            let at = start + Duration::from_secs(s);
            // VNI 20 begins first.
            let begun = (10..=20).filter(|vni| s > 0 || *vni == 20);
            strays.on_flows(begun.map(|vni| flow(vni, at)).collect(), at);
        }
        assert_eq!(vnis(&strays), (vec![20, 10, 11, 12, 13], 6));
    }
}
