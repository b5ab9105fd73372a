//! Merges equal Events into one with a count, and limits their rate with a token bucket, as client-go's correlator does. A function of
//! records and of `now`; it writes no Event.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::event::{EventRecord, Regarding};
use crate::types::digest;

/// An equal record within this time after the last one increases the count of the same Event.
const SERIES: Duration = Duration::from_secs(600);
/// The size of the token bucket: this many Events may be written at once. It gains one token for each `PAUSE`.
const BURST: u32 = 25;
const PAUSE: Duration = Duration::from_secs(30);
/// The longest name of an object (a DNS subdomain), less the suffix that follows the node's name.
const NAME_MAX: usize = 253 - 17;

/// The action for a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    New { name: String },
    Again { name: String, count: i32 },
    TooMany,
}

#[derive(Debug)]
pub struct Correlator {
    /// The Events on the Node. Events on the ConfigMap are shared with other agents, so no agent counts them.
    series: BTreeMap<(&'static str, String), Series>,
    left: u32,
    refilled: Instant,
}

#[derive(Debug)]
struct Series {
    name: String,
    count: i32,
    last: Instant,
}

impl Correlator {
    pub fn new(now: Instant) -> Self {
        Self { series: BTreeMap::new(), left: BURST, refilled: now }
    }

    /// Registers a record about the object with this name.
    pub fn record(&mut self, event: &EventRecord, object: &str, now: Instant) -> Entry {
        if !self.take_token(now) {
            return Entry::TooMany;
        }
        self.series.retain(|_, series| now.duration_since(series.last) < SERIES);
        if event.about == Regarding::ConfigMap {
            return Entry::New { name: name(object, &[event.reason, &event.text]) };
        }
        let key = (event.reason, event.text.clone());
        if let Some(series) = self.series.get_mut(&key) {
            series.count = series.count.saturating_add(1);
            series.last = now;
            return Entry::Again { name: series.name.clone(), count: series.count };
        }
        let name = name(object, &[event.reason, &event.text, &event.at.to_string()]);
        self.series.insert(key, Series { name: name.clone(), count: 1, last: now });
        Entry::New { name }
    }

    /// The Event does not exist any more: the next equal record creates a new one.
    pub fn forget(&mut self, event: &EventRecord) {
        self.series.remove(&(event.reason, event.text.clone()));
    }

    fn take_token(&mut self, now: Instant) -> bool {
        while self.left < BURST && now.duration_since(self.refilled) >= PAUSE {
            self.left += 1;
            self.refilled += PAUSE;
        }
        if self.left == BURST {
            self.refilled = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// The object's name and a hash of the parts, as `kubectl` and others name Events.
fn name(object: &str, parts: &[&str]) -> String {
    let number = digest::hex_of_parts(parts.iter().copied());
    let object = object.get(..NAME_MAX).unwrap_or(object).trim_end_matches(['.', '-']);
    format!("{object}.{number:.16}")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn event(about: Regarding, text: &str, second: i64) -> EventRecord {
        let at = Timestamp::from_second(second).expect("a time");
        EventRecord { about, is_warning: true, reason: "WrongVni", text: text.into(), at }
    }

    #[test]
    fn the_same_again_is_counted() {
        let start = Instant::now();
        let mut correlator = Correlator::new(start);
        let Entry::New { name } = correlator.record(&event(Regarding::Node, "a", 1), "worker-1", start) else {
            panic!("not new")
        };
        assert!(name.starts_with("worker-1."), "{name}");
        let again = correlator.record(&event(Regarding::Node, "a", 2), "worker-1", start + Duration::from_secs(60));
        assert_eq!(again, Entry::Again { name: name.clone(), count: 2 });
        assert!(matches!(correlator.record(&event(Regarding::Node, "b", 3), "worker-1", start), Entry::New { .. }));
        let later =
            correlator.record(&event(Regarding::Node, "a", 4), "worker-1", start + Duration::from_secs(60) + SERIES);
        let Entry::New { name: other } = later else { panic!("{later:?}") };
        assert_ne!(other, name);
    }

    #[test]
    fn every_node_names_a_finding_alike() {
        let now = Instant::now();
        let [a, b] = [1, 2].map(|second| {
            Correlator::new(now).record(&event(Regarding::ConfigMap, "wrong", second), "cilium-config", now)
        });
        assert_eq!(a, b);
    }

    #[test]
    fn a_flood_ends_and_a_trickle_passes() {
        let start = Instant::now();
        let mut correlator = Correlator::new(start);
        let mut is_accepted = |second| {
            let at = start + Duration::from_secs(second);
            correlator.record(&event(Regarding::Node, &second.to_string(), 0), "n", at) != Entry::TooMany
        };
        let burst = (0..40).filter(|_| is_accepted(0)).count();
        assert_eq!(burst, BURST as usize);
        assert_eq!((is_accepted(29), is_accepted(30), is_accepted(31)), (false, true, false));
        let hour = (32..3632).filter(|second| is_accepted(*second)).count();
        assert_eq!(hour, 120, "one for each pause");
    }

    #[test]
    fn names_fit_and_are_names() {
        let long = name(&"a.".repeat(150), &["x"]);
        assert!(long.len() <= 253 && !long.contains(".."), "{long}");
    }
}
