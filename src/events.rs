//! Kubernetes Events (`events.k8s.io/v1`): what the log says of a change, where `kubectl describe` and `kubectl events` look.
//!
//! A change of verdict is told on the Node. A finding is told on the ConfigMap, under a name that every agent of the cluster arrives at:
//! five hundred nodes make one Event of one slip. Telling never waits: what does not fit into the queue is dropped and counted.

mod book;
mod writer;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::sync::mpsc;

pub use self::writer::Writer;
use crate::{
    config::finding::{Finding, Severity},
    diagnose::{Cause, Diagnosis, Verdict},
};

/// Notes that may wait for the API server: some changes of each VTEP.
const WAITING: usize = 64;

/// What an Event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum About {
    Node,
    ConfigMap,
}

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub about: About,
    /// `Warning`, or else `Normal`.
    pub is_warning: bool,
    /// CamelCase, from the id of the cause or of the rule.
    pub reason: &'static str,
    pub text: String,
    pub at: Timestamp,
}

impl Note {
    /// A cause that holds now, or that the VTEP is healthy again.
    #[must_use]
    pub fn verdict(cidr: Ipv4Net, diagnosis: &Diagnosis, runbook: &str, at: Timestamp) -> Self {
        let Diagnosis { verdict, cause, hint, .. } = diagnosis;
        let reason = cause.map_or("VtepHealthy", Cause::reason);
        let hint = hint.as_ref().map(|hint| format!(": {hint}")).unwrap_or_default();
        let more = cause.map(|cause| format!(" (see {})", cause.section(runbook))).unwrap_or_default();
        let text = format!("VTEP {cidr} is {verdict}{hint}{more}");
        Self { about: About::Node, is_warning: *verdict != Verdict::Healthy, reason, text, at }
    }

    /// A verdict that changes too often to be told each time.
    #[must_use]
    pub fn restless(cidr: Ipv4Net, at: Timestamp) -> Self {
        let text =
            format!("VTEP {cidr}: the verdict changes too often; it is told again once it has held for a minute");
        Self { about: About::Node, is_warning: true, reason: "VtepRestless", text, at }
    }

    /// What is wrong with the configuration; none of what is only worth a note.
    #[must_use]
    pub fn finding(finding: &Finding, at: Timestamp) -> Option<Self> {
        let Finding { rule, severity, message, .. } = finding;
        (*severity >= Severity::Warning).then(|| Self {
            about: About::ConfigMap,
            is_warning: true,
            reason: rule.reason(),
            text: message.clone(),
            at,
        })
    }
}

/// What became of the notes since the start.
#[derive(Debug, Default)]
struct Tally {
    written: AtomicU64,
    dropped: AtomicU64,
}

/// Where notes are left. Clones are one queue.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// None: there are to be no Events.
    notes: Option<mpsc::Sender<Note>>,
    tally: Arc<Tally>,
}

impl Queue {
    /// A queue, and what a [`Writer`] takes from it.
    #[must_use]
    pub fn new() -> (Self, Waiting) {
        let (sender, notes) = mpsc::channel(WAITING);
        let tally = Arc::<Tally>::default();
        (Self { notes: Some(sender), tally: tally.clone() }, Waiting { notes, tally })
    }

    pub fn tell(&self, note: Note) {
        if self.notes.as_ref().is_some_and(|notes| notes.try_send(note).is_err()) {
            self.tally.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[must_use]
    pub fn is_on(&self) -> bool {
        self.notes.is_some()
    }

    #[must_use]
    pub fn written(&self) -> u64 {
        self.tally.written.load(Ordering::Relaxed)
    }

    /// Notes that no Event came of: too many, or the API server did not take them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.tally.dropped.load(Ordering::Relaxed)
    }
}

/// The other end of a [`Queue`].
#[derive(Debug)]
pub struct Waiting {
    notes: mpsc::Receiver<Note>,
    tally: Arc<Tally>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::finding::Rule;

    #[test]
    fn reasons_are_the_ids_in_camel_case() {
        let word = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
        let camel_case = |id: &str| id.split('-').map(word).collect::<String>();
        let causes = Cause::ALL.iter().map(|cause| (cause.id(), cause.reason()));
        let rules = Rule::ALL.iter().map(|rule| (rule.id(), rule.reason()));
        causes.chain(rules).for_each(|(id, reason)| assert_eq!(camel_case(id), reason));
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (queue, _waiting) = Queue::new();
        let cidr = "10.1.6.0/24".parse().expect("a CIDR");
        (0..WAITING + 3).for_each(|_| queue.tell(Note::restless(cidr, Timestamp::UNIX_EPOCH)));
        assert_eq!(queue.dropped(), 3);
    }

    #[test]
    fn with_events_off_nothing_is_dropped() {
        let queue = Queue::default();
        queue.tell(Note::restless("10.1.6.0/24".parse().expect("a CIDR"), Timestamp::UNIX_EPOCH));
        assert_eq!((queue.is_on(), queue.dropped()), (false, 0));
    }
}
