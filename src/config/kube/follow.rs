//! Keeps in view what a selection of objects holds, by a watch that is opened again whenever it ends.
//!
//! The loop is our own, because kube's watcher resumes a watch that ends at once without any pause, never looks again after HTTP 410, and
//! needs the right to list even one object.

use std::{collections::BTreeMap, fmt::Debug, pin::pin, time::Duration};

use futures_util::{Stream, StreamExt};
use kube::{
    Api, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Mutex, watch},
    time::{self, Instant},
};

/// How long the API server may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two attempts, at least; it doubles with each that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// And at most, before it is spread.
const LAST_PAUSE: Duration = Duration::from_secs(20);
/// Each pause is longer by up to so much, by the agent's place in the fleet: one that lost its API server in one moment comes back by a
/// fifteenth a second after the first pause, a thirtieth after the second, and so on; by less than a seventh in all. What is left to a fifth
/// is for chance: names are not spread quite evenly.
const SPREAD: Duration = Duration::from_secs(15);
/// A watch ends by itself after 290 s; one that lived so long may be opened again at once, one that ended sooner was not alone.
const FULL_LIFE: Duration = Duration::from_secs(270);
/// One that is silent for longer than its life is dead.
const SILENCE: Duration = Duration::from_secs(300);
/// How often to look for a resource that the API server does not serve.
const UNSERVED: Duration = Duration::from_secs(300);

/// The objects of a selection, by their names.
pub(super) type Objects<K> = BTreeMap<String, K>;

/// What is known of a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part<V> {
    pub(super) known: Option<V>,
    /// Why that may be out of date.
    pub(super) error: Option<String>,
}

impl<V> Default for Part<V> {
    fn default() -> Self {
        Self { known: None, error: None }
    }
}

impl<V> Part<V> {
    /// The API server has not answered yet.
    pub(super) fn is_pending(&self) -> bool {
        self.known.is_none() && self.error.is_none()
    }
}

/// One object by its name, or all of a namespace.
pub(super) struct Selection<K, V> {
    /// The same resource in each of its versions, the best first: the first that is served is used, and none is no objects.
    pub(super) apis: Vec<Api<K>>,
    /// As RBAC names it.
    pub(super) resource: &'static str,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) read: fn(&Objects<K>) -> Result<V, String>,
}

/// Lets through one attempt at a time, and none for a while after one failed: three watches that lost one API server together ask it no
/// more often than one would.
pub(super) struct Gate {
    turn: Mutex<()>,
    opening: std::sync::Mutex<Opening>,
    /// This agent's place in the fleet, 0 to 1.
    place: f64,
}

/// When the gate opens.
#[derive(Default)]
struct Opening {
    not_before: Option<Instant>,
    pause: Pause,
}

/// What was there when the API server was asked, and from where to watch on.
struct Found<'s, K> {
    /// `None`: the resource is not served.
    api: Option<&'s Api<K>>,
    objects: Objects<K>,
    version: String,
}

/// The time until the next attempt.
struct Pause(Duration);

/// How a watch ended.
enum End {
    /// As watches do.
    OfAge,
    /// Before its time: the API server goes, and others end with it.
    Clean,
    /// From where it was is not known any more.
    Stale,
}

/// Why the API server does not tell what is there, in words.
struct Lost(String);

impl<K, V> Selection<K, V>
where
    K: Clone + DeserializeOwned + Debug + ResourceExt,
    V: PartialEq,
{
    /// One look.
    pub(super) async fn read_once(&self) -> Part<V> {
        let found = self.look().await.map_err(|Lost(reason)| reason);
        match found.and_then(|found| self.value(&found.objects)) {
            Ok(known) => Part { known: Some(known), error: None },
            Err(reason) => Part { known: None, error: Some(reason) },
        }
    }

    /// Tells what is there, now and after each change, until nobody listens.
    pub(super) async fn follow(&self, gate: &Gate, out: watch::Sender<Part<V>>) {
        let mut found = None;
        while !out.is_closed() {
            match self.attempt(gate, &mut found, &out).await {
                Ok(End::OfAge) => {}
                Ok(End::Clean) if found.as_ref().is_some_and(|found| found.api.is_none()) => {
                    found = None;
                    time::sleep(UNSERVED.mul_f64(1.0 + gate.place / 2.0)).await;
                }
                Ok(End::Clean) => gate.hold(),
                Ok(End::Stale) => {
                    found = None;
                    gate.hold();
                }
                Err(Lost(reason)) => {
                    found = None;
                    gate.hold();
                    self.tell(&out, Err(reason));
                }
            }
        }
    }

    /// Looks, unless it is known from where to watch on, and watches until the watch ends.
    async fn attempt<'s>(
        &'s self,
        gate: &Gate,
        found: &mut Option<Found<'s, K>>,
        out: &watch::Sender<Part<V>>,
    ) -> Result<End, Lost> {
        let opened = gate.pass(self.open(found)).await?;
        let Some(found) = found else { return Ok(End::Stale) };
        self.tell(out, self.value(&found.objects));
        let Some(events) = opened else { return Ok(End::Clean) };
        let mut events = pin!(events);
        let opened = Instant::now();
        loop {
            let event = time::timeout(SILENCE, events.next()).await;
            // What comes at once says little, a watch may end right behind it; a change says that it works.
            let is_change = matches!(event, Ok(Some(Ok(WatchEvent::Modified(_) | WatchEvent::Deleted(_)))));
            if is_change || opened.elapsed() > FIRST_PAUSE {
                gate.works();
            }
            let event = match event {
                Ok(Some(event)) => event.map_err(|error| self.explain("watch", &error))?,
                // Without a version to go on from, the look comes first again.
                Ok(None) if found.version.is_empty() => return Ok(End::Stale),
                Ok(None) if opened.elapsed() > FULL_LIFE => return Ok(End::OfAge),
                Ok(None) => return Ok(End::Clean),
                Err(_) => return Ok(End::Stale),
            };
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    found.version = object.resource_version().unwrap_or_default();
                    found.objects.insert(object.name_any(), object);
                }
                WatchEvent::Deleted(object) => {
                    found.version = object.resource_version().unwrap_or_default();
                    found.objects.remove(&object.name_any());
                }
                WatchEvent::Bookmark(bookmark) => {
                    found.version = bookmark.metadata.resource_version;
                    continue;
                }
                // The version is too old: the next look begins anew.
                WatchEvent::Error(status) if status.code == 410 => return Ok(End::Stale),
                WatchEvent::Error(status) => return Err(self.explain("watch", &kube::Error::Api(status))),
            }
            self.tell(out, self.value(&found.objects));
        }
    }

    /// Opens a watch; `None` where the resource is not served. What was found is only told once the watch is open, so that a right to look
    /// without the right to watch is one lasting error, and no flicker.
    async fn open<'s>(
        &'s self,
        found: &mut Option<Found<'s, K>>,
    ) -> Result<Option<impl Stream<Item = kube::Result<WatchEvent<K>>> + use<K, V>>, Lost> {
        if found.is_none() {
            *found = Some(self.look().await?);
        }
        let Some(Found { api: Some(api), version, .. }) = found else { return Ok(None) };
        let mut params = WatchParams::default();
        if let Some(name) = &self.name {
            params = params.fields(&format!("metadata.name={name}"));
        }
        self.answer("watch", api.watch(&params, version)).await.map(Some)
    }

    /// An object by its name is looked at without the right to list; a watch that names no version then begins with what is there.
    async fn look(&self) -> Result<Found<'_, K>, Lost> {
        for api in &self.apis {
            let found = match &self.name {
                Some(name) => {
                    let object = self.answer("get", api.get_opt(name)).await?;
                    let objects = object.into_iter().map(|object| (object.name_any(), object)).collect();
                    Some(Found { api: Some(api), objects, version: String::new() })
                }
                None => self.answer("list", list(api)).await?.map(|list| Found {
                    api: Some(api),
                    version: list.metadata.resource_version.unwrap_or_default(),
                    objects: list.items.into_iter().map(|object| (object.name_any(), object)).collect(),
                }),
            };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Ok(Found { api: None, objects: Objects::new(), version: String::new() })
    }

    fn tell(&self, out: &watch::Sender<Part<V>>, value: Result<V, String>) {
        out.send_if_modified(|part| match value {
            Ok(value) => {
                let differs = part.error.take().is_some() | (part.known.as_ref() != Some(&value));
                part.known = Some(value);
                differs
            }
            Err(reason) => part.error.replace(reason) != part.error,
        });
    }

    fn value(&self, objects: &Objects<K>) -> Result<V, String> {
        (self.read)(objects).map_err(|reason| format!("{}: {reason}", self.described()))
    }

    /// Waits for an answer, but not for ever.
    async fn answer<T>(&self, verb: &str, asked: impl Future<Output = kube::Result<T>>) -> Result<T, Lost> {
        match time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer.map_err(|error| self.explain(verb, &error)),
            Err(_) => Err(Lost(format!(
                "the API server did not answer within {} s when asked to {verb} {}",
                PATIENCE.as_secs(),
                self.described()
            ))),
        }
    }

    /// A refusal as what is missing, any other failure in its own words.
    fn explain(&self, verb: &str, error: &kube::Error) -> Lost {
        let kube::Error::Api(status) = error else { return Lost(crate::logging::chain(error).to_string()) };
        let role = if self.namespace.is_some() { "Role" } else { "ClusterRole" };
        Lost(match status.code {
            403 => format!(
                "the API server forbids to {verb} {}: give this agent's ServiceAccount a {role} with that verb and resource",
                self.described()
            ),
            401 => format!("the API server does not accept this agent's credentials: {}", status.message),
            _ if status.message.is_empty() => format!("the API server sent {} of the wrong shape", self.described()),
            _ => crate::logging::chain(error).to_string(),
        })
    }

    /// `configmaps "cilium-config" in namespace "kube-system"`.
    fn described(&self) -> String {
        let name = self.name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
        let namespace = self.namespace.as_ref().map(|namespace| format!(" in namespace {namespace:?}"));
        format!("{}{name}{}", self.resource, namespace.unwrap_or_default())
    }
}

/// `None` where this version of the resource is not served.
async fn list<K: Clone + DeserializeOwned + Debug>(api: &Api<K>) -> kube::Result<Option<kube::api::ObjectList<K>>> {
    match api.list(&ListParams::default()).await {
        Ok(list) => Ok(Some(list)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pause {
    /// Doubles with each attempt, and is spread by the agent's place in the fleet.
    fn next(&mut self, place: f64) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(LAST_PAUSE);
        now + SPREAD.mul_f64(place)
    }
}

impl Gate {
    /// The place is by the node's name: the names of a fleet are spread evenly, and a node comes back as soon as it did the last time.
    pub(super) fn new(node: &str) -> Self {
        let number = Sha256::digest(node).first_chunk().copied().map_or(0, u32::from_be_bytes);
        let place = f64::from(number) / (f64::from(u32::MAX) + 1.0);
        Self { turn: Mutex::default(), opening: std::sync::Mutex::default(), place }
    }

    /// Waits for its turn, and makes the attempt.
    async fn pass<T>(&self, attempt: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
        let _turn = self.turn.lock().await;
        let not_before = self.opening().not_before;
        if let Some(not_before) = not_before {
            time::sleep_until(not_before).await;
        }
        let outcome = attempt.await;
        if outcome.is_err() {
            self.hold();
        }
        outcome
    }

    /// An attempt failed, or a watch was lost: the next waits, unless it waits already.
    fn hold(&self) {
        let mut opening = self.opening();
        let now = Instant::now();
        if opening.not_before.is_none_or(|not_before| not_before <= now) {
            opening.not_before = Some(now + opening.pause.next(self.place));
        }
    }

    /// A watch works: what fails next is the first to fail.
    fn works(&self) {
        self.opening().pause = Pause::default();
    }

    fn opening(&self) -> std::sync::MutexGuard<'_, Opening> {
        // Whoever panicked held nothing half done.
        self.opening.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_spread_over_the_fleet() {
        for place in [0.0, 0.5, 0.999] {
            let mut pause = Pause::default();
            for base in [1, 2, 4, 8, 16, 20, 20] {
                assert_eq!(pause.next(place), Duration::from_secs(base) + SPREAD.mul_f64(place));
            }
        }
    }

    /// However long the API server was away, and with every attempt of every agent.
    #[test]
    fn less_than_a_seventh_of_a_fleet_asks_in_any_second() {
        let mut seconds = [0; 300];
        for agent in 0..1000 {
            let (mut pause, mut at) = (Pause::default(), Duration::ZERO);
            while at < Duration::from_secs(300) {
                seconds[at.as_secs() as usize] += usize::from(!at.is_zero());
                at += pause.next(f64::from(agent) / 1000.0);
            }
        }
        assert!(seconds.iter().all(|asked| *asked < 1000 / 7), "{seconds:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_together_waits_together() {
        let gate = Gate { place: 0.5, ..Gate::new("") };
        let start = Instant::now();
        for _ in 0..3 {
            gate.hold();
        }
        let lost = async || -> Result<(), Lost> { Err(Lost("gone".into())) };
        assert!(gate.pass(lost()).await.is_err());
        assert_eq!(start.elapsed(), FIRST_PAUSE + SPREAD / 2);
        assert!(gate.pass(async { Ok(()) }).await.is_ok());
        assert_eq!(start.elapsed(), FIRST_PAUSE * 3 + SPREAD);
        assert!(gate.pass(async { Ok(()) }).await.is_ok(), "and the others at once");
        assert_eq!(start.elapsed(), FIRST_PAUSE * 3 + SPREAD);
    }
}
