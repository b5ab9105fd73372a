//! A record of the three lists: the values that this agent saw, and when. Cilium 1.19 and newer do not disclose the lists that they were
//! started with; the record has them. A function of what was seen and of `now`.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Keys,
    parse::{Line, parse},
    spec::MAX_VTEPS,
};
use crate::{datapath::abi::VtepValue, types::mac::Mac};

/// The keys of the lists.
pub const LIST_KEYS: [&str; 3] = ["vtep-endpoint", "vtep-cidr", "vtep-mac"];
/// The number of remembered periods. Between two starts of Cilium the lists rarely change more than once or twice.
const MOST: usize = 16;
/// A change this near to Cilium's start may have come before or after Cilium read the lists: an init container reads them a few seconds
/// before the start, and the clocks of node and API server differ.
const DOUBT: Duration = Duration::from_secs(10);
/// A change may have been made this long before the agent saw it: the kubelet updates a mounted ConfigMap only once a minute or so.
const LATENESS: Duration = Duration::from_secs(120);

/// The VTEPs of the lists by network, as Cilium reads them: of two with the same network the last wins.
pub type Listed = BTreeMap<Ipv4Addr, Values>;

/// The values of one network; `None` if they are not readable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    pub endpoint: Option<Ipv4Addr>,
    pub mac: Option<Mac>,
}

/// The time during which the lists were the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// They were in force from this time on, or longer.
    pub since: Timestamp,
    /// They were in force until this time, or longer; the last period continues.
    pub until: Timestamp,
    /// `None` if the lists as a whole are in error: Cilium does not start with most of these errors.
    pub listed: Option<Listed>,
}

/// The periods, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRecord {
    periods: Vec<Period>,
    /// The agent has followed the source without a gap since the last observation.
    attended: bool,
}

/// What a source shows of the lists.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    pub keys: &'a Keys,
    /// The lists have not changed after this time, by what the API server says of the object; `None` if that is not known.
    pub changed: Option<Timestamp>,
    /// The source follows the document, so that the next change will be seen as soon as it happens.
    pub current: bool,
}

impl ListRecord {
    /// The record in a state file. While the agent did not run, nobody followed the source.
    #[must_use]
    pub fn recall(mut periods: Vec<Period>) -> Self {
        periods.drain(..periods.len().saturating_sub(MOST));
        Self { periods, attended: false }
    }

    #[must_use]
    pub fn periods(&self) -> &[Period] {
        &self.periods
    }

    /// The record after this observation; `None` if there is no document.
    #[must_use]
    pub fn next(mut self, sight: Option<Sight<'_>>, now: Timestamp) -> Self {
        let Some(Sight { keys, changed, current }) = sight else {
            self.lose(now);
            return self;
        };
        let listed = listed(keys);
        let is_same = self.periods.last().is_some_and(|last| last.listed == listed);
        if !is_same {
            self.change(listed, changed, now);
        } else if let ([only], Some(changed)) = (&mut self.periods[..], changed) {
            // A later period began when the agent saw it, or when the API server says; only the first may have begun long before.
            only.since = only.since.min(changed);
        }
        if current {
            self.attended = true;
        } else {
            self.lose(now);
        }
        self
    }

    /// From now on, the agent may miss a change.
    fn lose(&mut self, now: Timestamp) {
        if let (true, Some(last)) = (self.attended, self.periods.last_mut()) {
            last.until = last.until.max(before(now, LATENESS));
        }
        self.attended = false;
    }

    fn change(&mut self, listed: Option<Listed>, changed: Option<Timestamp>, now: Timestamp) {
        let since = match self.periods.last_mut() {
            None => changed.unwrap_or(now).min(now),
            Some(last) => {
                let earliest = if self.attended { last.until.max(before(now, LATENESS)) } else { last.until };
                // A time before that belongs to another change: what changed now was an override.
                let changed = changed.filter(|changed| *changed >= earliest).map(|changed| changed.min(now));
                last.until = changed.filter(|_| self.attended).unwrap_or(earliest);
                changed.unwrap_or(now).max(last.until)
            }
        };
        self.periods.push(Period { since, until: since, listed });
        self.periods.drain(..self.periods.len().saturating_sub(MOST));
    }

    /// The lists that a Cilium with this start may have read, the oldest first; more than one if they changed at about that time. `None`
    /// if the record does not cover the start, or if those lists were in error.
    #[must_use]
    pub fn at(&self, start: Timestamp) -> Option<Vec<&Listed>> {
        let (from, to) = (before(start, DOUBT), start.checked_add(DOUBT).unwrap_or(Timestamp::MAX));
        if self.periods.first()?.since > from {
            return None;
        }
        let begins = [Timestamp::MIN].into_iter().chain(self.periods.iter().map(|period| period.until));
        let ends = self.periods.iter().skip(1).map(|period| period.since).chain([Timestamp::MAX]);
        let spans = self.periods.iter().zip(begins.zip(ends));
        let may_be_read = spans.filter(|(_, (begin, end))| *begin <= to && *end >= from);
        may_be_read.map(|(period, _)| period.listed.as_ref()).collect()
    }

    /// The lists as the agent saw them last.
    #[must_use]
    pub fn present(&self) -> Option<&Listed> {
        self.periods.last()?.listed.as_ref()
    }

    /// Whether the lists ever had this value for the network.
    #[must_use]
    pub fn had(&self, network: Ipv4Addr, value: VtepValue) -> bool {
        let values = Values { endpoint: Some(value.endpoint()), mac: Some(value.mac()) };
        self.periods.iter().filter_map(|period| period.listed.as_ref()?.get(&network)).any(|had| *had == values)
    }
}

/// A line without a readable network is left out: it is no network of any VTEP that the agent programs.
fn listed(keys: &Keys) -> Option<Listed> {
    let parsed = parse(keys);
    let values = |&Line { cidr, endpoint, mac, .. }: &Line| Some((cidr?.network(), Values { endpoint, mac }));
    // With VTEP off, a list that is too long is no error.
    let is_readable = !parsed.list_error() && parsed.lines.len() <= MAX_VTEPS;
    is_readable.then(|| parsed.lines.iter().filter_map(values).collect())
}

fn before(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
