//! Kubernetes Events (`events.k8s.io/v1`): the same changes as in the log, for `kubectl describe` and `kubectl events`.
//!
//! A change of verdict is an Event of the Node. A finding is an Event of the ConfigMap, and its name is a function of the finding: five
//! hundred nodes that find the same error write one Event. The queue never blocks a loop: if it is full, it drops the note and counts that.

mod writer;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::mpsc;
use vtep_core::report::{event::EventRecord, status};

pub use self::writer::Writer;

/// The length of the queue: enough for several changes of each VTEP.
const WAITING: usize = 64;

/// Counters of written and dropped notes since the start.
#[derive(Debug, Default)]
struct Tally {
    written: AtomicU64,
    dropped: AtomicU64,
}

/// The sending end for notes. All clones share one queue.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// `None` if Events are disabled.
    notes: Option<mpsc::Sender<EventRecord>>,
    tally: Arc<Tally>,
}

impl Queue {
    /// A queue, and the receiving end for a [`Writer`].
    #[must_use]
    pub fn new() -> (Self, Waiting) {
        let (sender, notes) = mpsc::channel(WAITING);
        let tally = Arc::<Tally>::default();
        (Self { notes: Some(sender), tally: tally.clone() }, Waiting { notes, tally })
    }

    pub fn push(&self, note: EventRecord) {
        if self.notes.as_ref().is_some_and(|notes| notes.try_send(note).is_err()) {
            self.tally.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counters since the start, as `/status` reports them.
    #[must_use]
    pub fn tally(&self) -> status::Events {
        status::Events { enabled: self.notes.is_some(), written: self.written(), dropped: self.dropped() }
    }

    #[must_use]
    pub fn written(&self) -> u64 {
        self.tally.written.load(Ordering::Relaxed)
    }

    /// The number of notes without an Event: the queue was full, the rate limit applied, or the API server refused the Event.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.tally.dropped.load(Ordering::Relaxed)
    }
}

/// The receiving end of a [`Queue`].
#[derive(Debug)]
pub struct Waiting {
    notes: mpsc::Receiver<EventRecord>,
    tally: Arc<Tally>,
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (queue, _waiting) = Queue::new();
        (0..WAITING + 3).for_each(|_| queue.push(EventRecord::flapping("10.1.6.0/24", Timestamp::UNIX_EPOCH)));
        assert_eq!(queue.dropped(), 3);
    }

    #[test]
    fn with_events_off_nothing_is_dropped() {
        let queue = Queue::default();
        queue.push(EventRecord::flapping("10.1.6.0/24", Timestamp::UNIX_EPOCH));
        assert_eq!((queue.tally().enabled, queue.dropped()), (false, 0));
    }
}
