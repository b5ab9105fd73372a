//! Kubernetes Events (`events.k8s.io/v1`): what the log says of a change, where `kubectl describe` and `kubectl events` look.
//!
//! A change of verdict is told on the Node. A finding is told on the ConfigMap, under a name that every agent of the cluster arrives at:
//! five hundred nodes make one Event of one slip. Telling never waits: what does not fit into the queue is dropped and counted.

mod writer;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::mpsc;
use vtep_core::report::{event::Note, status};

pub use self::writer::Writer;

/// Notes that may wait for the API server: some changes of each VTEP.
const WAITING: usize = 64;

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

    /// What became of the notes since the start.
    #[must_use]
    pub fn tally(&self) -> status::Events {
        status::Events { enabled: self.notes.is_some(), written: self.written(), dropped: self.dropped() }
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
    use jiff::Timestamp;

    use super::*;

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
        assert_eq!((queue.tally().enabled, queue.dropped()), (false, 0));
    }
}
