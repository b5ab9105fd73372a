//! Writes the queued notes as Events, one at a time, and retries while the API server does not answer.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, ObjectReference},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time;
use tracing::warn;
use vtep_core::{
    config::merge::Names,
    report::{
        correlator::{Correlator, Entry},
        event::{EventRecord, Regarding},
    },
};

use super::Waiting;
use crate::k8s::words::sentence;

const CONTROLLER: &str = "vtep-agent";
/// The namespace of Events about objects without a namespace.
const DEFAULT_NAMESPACE: &str = "default";
/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// After this time of retries, the note is out of date and is dropped.
const GIVE_UP: Duration = Duration::from_secs(300);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The API's limits for `note` and `reportingInstance`, in bytes.
const NOTE_MAX: usize = 1024;
const REPORTER_MAX: usize = 128;

pub struct Writer {
    client: Client,
    names: Names,
    correlator: Correlator,
    /// The ConfigMap's uid once it is known: `kubectl describe` selects Events by it.
    configmap_uid: Option<String>,
    /// The last attempt failed, and the log has a line about it.
    fails: bool,
}

impl Writer {
    #[must_use]
    pub fn new(client: Client, names: Names) -> Self {
        Self { client, names, correlator: Correlator::new(now()), configmap_uid: None, fails: false }
    }

    /// Runs until all senders of the queue are dropped.
    pub async fn run(mut self, mut waiting: Waiting) {
        while let Some(note) = waiting.notes.recv().await {
            let written = self.write(&note).await;
            let tally = if written { &waiting.tally.written } else { &waiting.tally.dropped };
            tally.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes one note; false if it was dropped.
    async fn write(&mut self, note: &EventRecord) -> bool {
        let object = match note.about {
            Regarding::Node => &self.names.node,
            Regarding::ConfigMap => &self.names.configmap,
        };
        let mut entry = self.correlator.record(note, object, now());
        if entry == Entry::TooMany {
            return false;
        }
        let begin = time::Instant::now();
        let mut pause = Duration::from_secs(1);
        loop {
            let outcome = time::timeout(TIMEOUT, self.put(note, &entry)).await;
            let error = match outcome {
                Ok(Ok(())) => {
                    self.fails = false;
                    return true;
                }
                // The Event to be counted up has expired: create a new one.
                Ok(Err(kube::Error::Api(status))) if status.code == 404 && matches!(entry, Entry::Again { .. }) => {
                    self.correlator.forget(note);
                    entry = self.correlator.record(note, &self.names.node, now());
                    continue;
                }
                // A refusal is final: a retry would be refused again.
                Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) && status.code != 429 => {
                    self.say(note, &status.message);
                    return false;
                }
                Ok(Err(error)) => sentence(&error),
                Err(_) => format!("no answer within {TIMEOUT:?}"),
            };
            self.say(note, &error);
            if begin.elapsed() + pause > GIVE_UP {
                self.correlator.forget(note);
                return false;
            }
            time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn say(&mut self, note: &EventRecord, error: &str) {
        if !std::mem::replace(&mut self.fails, true) {
            warn!(reason = note.reason, error, "cannot write Events; the log has the same changes");
        }
    }

    async fn put(&mut self, note: &EventRecord, entry: &Entry) -> kube::Result<()> {
        if note.about == Regarding::ConfigMap && self.configmap_uid.is_none() {
            let Names { namespace, configmap, .. } = &self.names;
            let configmaps = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
            // A failure is harmless: without the uid, `kubectl events` still finds the Event by the object's name.
            self.configmap_uid = configmaps.get(configmap).await.ok().and_then(|object| object.metadata.uid);
        }
        let namespace = match note.about {
            Regarding::Node => DEFAULT_NAMESPACE,
            Regarding::ConfigMap => &self.names.namespace,
        };
        let events = Api::<Event>::namespaced(self.client.clone(), namespace);
        match entry {
            Entry::New { name } => {
                let event = self.event(note, name, namespace);
                match events.create(&PostParams::default(), &event).await {
                    // Another agent has written this Event, or an earlier attempt succeeded and its answer was lost.
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                    other => other.map(drop),
                }
            }
            Entry::Again { name, count } => {
                let series = json!({ "series": { "count": count, "lastObservedTime": MicroTime(Timestamp::now()) } });
                events.patch(name, &PatchParams::default(), &Patch::Merge(series)).await.map(drop)
            }
            Entry::TooMany => Ok(()),
        }
    }

    fn regarding(&self, about: Regarding) -> ObjectReference {
        let Names { namespace, configmap, node } = &self.names;
        match about {
            // `kubectl describe node` selects Events with the Node's name as uid, the form that the kubelet uses.
            Regarding::Node => ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(node.clone()),
                uid: Some(node.clone()),
                ..ObjectReference::default()
            },
            Regarding::ConfigMap => ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("ConfigMap".into()),
                namespace: Some(namespace.clone()),
                name: Some(configmap.clone()),
                uid: self.configmap_uid.clone(),
                ..ObjectReference::default()
            },
        }
    }

    fn event(&self, note: &EventRecord, name: &str, namespace: &str) -> Event {
        let (kind, action) = match note.about {
            Regarding::Node => (if note.is_warning { "Warning" } else { "Normal" }, "Diagnose"),
            Regarding::ConfigMap => ("Warning", "Validate"),
        };
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(note.at)),
            type_: Some(kind.to_owned()),
            reason: Some(note.reason.to_owned()),
            action: Some(action.to_owned()),
            note: Some(cut(&note.text, NOTE_MAX)),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(cut(&self.names.node, REPORTER_MAX)),
            regarding: Some(self.regarding(note.about)),
            ..Event::default()
        }
    }
}

/// The time of the runtime's clock, which tests can pause.
fn now() -> Instant {
    time::Instant::now().into_std()
}

/// Truncates text to at most `most` bytes, between characters.
fn cut(text: &str, most: usize) -> String {
    let ends = text.char_indices().map(|(at, letter)| at + letter.len_utf8());
    let end = ends.take_while(|end| *end <= most).last().unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use vtep_apiserver::{ApiServer, Fault, Matcher, Times};

    use super::*;
    use crate::k8s::events::Queue;

    fn writer(server: &ApiServer) -> Writer {
        let config = kube::Config::new(server.url().parse().expect("a URL"));
        let client = Client::try_from(config).expect("a client");
        let names =
            Names { namespace: "kube-system".into(), configmap: "cilium-config".into(), node: "worker-1".into() };
        Writer::new(client, names)
    }

    /// One distinct note per second for an hour. The paused clock jumps ahead whenever all tasks wait for it.
    #[tokio::test(start_paused = true)]
    async fn an_hour_without_an_answer_fills_nothing() {
        let server = ApiServer::start().expect("a server");
        server.misbehave(Matcher::all(), Fault::Hang, Times::Always);
        let (queue, waiting) = Queue::new();
        let writing = tokio::spawn(writer(&server).run(waiting));
        let begin = time::Instant::now();
        for second in 0..3600 {
            let text = second.to_string();
            let at = Timestamp::from_second(second).expect("a time");
            queue.push(EventRecord { about: Regarding::Node, is_warning: true, reason: "WrongVni", text, at });
            time::sleep(Duration::from_secs(1)).await;
        }
        assert!(begin.elapsed() >= Duration::from_secs(3600));
        // All notes are dropped except those in the queue and the one that is being retried.
        assert!((3500..3600).contains(&queue.dropped()), "{}", queue.dropped());
        assert_eq!(queue.written(), 0);
        assert!(server.requests().len() < 3600 / 30 * 2, "{} requests", server.requests().len());

        server.behave();
        drop(queue);
        writing.await.expect("the writer ends with its queue");
    }

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("ab…", 4), "ab");
    }
}
