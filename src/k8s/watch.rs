//! Follows a selection of objects with a watch, and opens the watch again whenever it ends. `retry_gate` decides the time of each attempt.
//!
//! The agent does not use kube's watcher, which resumes a watch that ends at once without a pause, never lists again after HTTP 410, and
//! needs the right to list even for a single object.

use std::{collections::BTreeMap, fmt::Debug, future, mem, pin::pin, time::Duration};

use futures_util::{Stream, StreamExt};
use kube::{
    Api, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tracing::{info, warn};
use vtep_core::config::cached::{Cached, Unknown};

use super::{
    retry_gate::{Closed, Lost, RetryGate},
    server::Server,
    words,
};

/// The timeout of one request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// A watch that has been open for this long counts as working.
const MIN_AGE: Duration = Duration::from_secs(1);
/// A watch ends by itself after 290 s. A watch of at least this age may be reopened at once. One that ended sooner was probably cut for
/// the whole fleet, so the agent waits for its turn.
const FULL_AGE: Duration = Duration::from_secs(270);
/// A watch without an event for longer than its lifetime is dead.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(300);
/// The interval of attempts to read a resource that the API server does not serve, or forbids to read.
const ABSENT_INTERVAL: Duration = Duration::from_secs(300);

/// The objects of a selection, by their names.
pub(super) type Objects<K> = BTreeMap<String, K>;

/// One object by its name, or all of a namespace, or those with a label.
pub(super) struct Selection<K, V> {
    /// The same resource in each of its versions, the preferred first. The first version that is served is used; if none is, there are no
    /// objects.
    pub(super) apis: Vec<Api<K>>,
    /// The resource's name in RBAC rules.
    pub(super) resource: &'static str,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) label: Option<&'static str>,
    /// The configuration is complete without it: if it is absent, forbidden or unreadable, the agent logs that and continues.
    pub(super) optional: bool,
    /// The server that error messages name.
    pub(super) server: Server,
    pub(super) read: fn(&Objects<K>) -> Result<V, Unknown>,
    /// Asks to read the objects again now, whatever the watch says.
    pub(super) recheck: Option<watch::Receiver<()>>,
}

/// The output of a selection.
struct Out<V> {
    part: watch::Sender<Cached<V>>,
    /// The failure that the log reported last.
    warned: Option<Unknown>,
}

/// The objects that a read found, and the version from which to watch.
struct Found<'s, K> {
    /// `None` if the resource is not served.
    api: Option<&'s Api<K>>,
    objects: Objects<K>,
    version: String,
}

impl<K: ResourceExt> Found<'_, K> {
    fn put(&mut self, object: K) {
        self.version = object.resource_version().unwrap_or_default();
        self.objects.insert(object.name_any(), object);
    }

    fn remove(&mut self, object: &K) {
        self.version = object.resource_version().unwrap_or_default();
        self.objects.remove(&object.name_any());
    }
}

/// How a watch ended.
enum End {
    /// The watch reached its normal lifetime.
    OfAge,
    /// The watch ended early without an error: the API server probably stops, and ends other watches, too.
    Clean,
    /// The server no longer knows the version, or the watch fell silent: the next attempt reads the objects again.
    Stale,
    /// There is nothing to watch for now: the resource is not served, or, with a reason, forbidden.
    Absent(Option<String>),
    /// Somebody asked to read the objects again.
    Recheck,
}

/// The outcome of an attempt to open a watch.
enum Opened<S> {
    Watch(S),
    Unserved,
    /// The agent lacks the right, and continues without the optional resource.
    Forbidden(String),
}

impl<K, V> Selection<K, V>
where
    K: Clone + DeserializeOwned + Debug + ResourceExt,
    V: PartialEq,
{
    /// Reads the selection once, without a watch.
    pub(super) async fn read_once(&self) -> Cached<V> {
        let found = self.read().await.map_err(Unknown::from);
        match found.and_then(|found| self.value(&found)) {
            Ok(known) => Cached { known: Some(known), error: None, open: true },
            Err(unknown) => Cached { known: None, error: Some(unknown), open: true },
        }
    }

    /// Publishes the selection now and after each change, until all receivers are dropped.
    pub(super) async fn follow(&self, gate: &RetryGate, out: watch::Sender<Cached<V>>) {
        let mut out = Out { part: out, warned: None };
        let mut found = None;
        let mut recheck = self.recheck.clone();
        while !out.part.is_closed() {
            let end = self.attempt(gate, &mut found, &mut out, &mut recheck).await;
            if !matches!(end, Ok(End::Clean | End::OfAge)) {
                found = None;
            }
            match end {
                Ok(End::OfAge | End::Recheck) => continue,
                Ok(End::Clean | End::Stale) => gate.close(Closed::Ended),
                Ok(End::Absent(reason)) => {
                    if let Some(reason) = reason {
                        self.publish(&mut out, Err(Unknown::Withheld(reason)));
                    }
                    // A timeout is no error: the agent looks again in both cases.
                    let _ = time::timeout(gate.spread(ABSENT_INTERVAL), asked(&mut recheck)).await;
                    continue;
                }
                // The gate checks the connection and then publishes the reason.
                Err(Lost::Away(_)) => gate.close(Closed::Ended),
                Err(lost @ Lost::Answered { .. }) => {
                    gate.close(Closed::Answered);
                    self.publish(&mut out, Err(Unknown::from(lost)));
                }
            }
            out.part.send_if_modified(|part| mem::take(&mut part.open));
        }
    }

    /// Reads the objects unless a version to watch from is known, and watches until the watch ends.
    async fn attempt<'s>(
        &'s self,
        gate: &RetryGate,
        found: &mut Option<Found<'s, K>>,
        out: &mut Out<V>,
        recheck: &mut Option<watch::Receiver<()>>,
    ) -> Result<End, Lost> {
        let opened = gate.pass(self.open(found)).await?;
        if let Opened::Forbidden(reason) = opened {
            return Ok(End::Absent(Some(reason)));
        }
        let Some(found) = found else { return Ok(End::Stale) };
        self.publish(out, self.value(found));
        let Opened::Watch(events) = opened else { return Ok(End::Absent(None)) };
        self.on_events(events, gate, found, out, recheck).await
    }

    /// Publishes the objects after each change that the watch delivers, until the watch ends.
    async fn on_events(
        &self,
        events: impl Stream<Item = kube::Result<WatchEvent<K>>>,
        gate: &RetryGate,
        found: &mut Found<'_, K>,
        out: &mut Out<V>,
        recheck: &mut Option<watch::Receiver<()>>,
    ) -> Result<End, Lost> {
        let mut events = pin!(events);
        let opened = Instant::now();
        loop {
            let event = tokio::select! {
                biased;
                event = time::timeout(SILENCE_TIMEOUT, events.next()) => event,
                () = asked(recheck) => return Ok(End::Recheck),
            };
            // The first `Added` events prove little, because the watch may end right after them; a change proves that it works.
            let is_change = matches!(event, Ok(Some(Ok(WatchEvent::Modified(_) | WatchEvent::Deleted(_)))));
            if is_change || opened.elapsed() > MIN_AGE {
                gate.works();
            }
            let event = match event {
                Ok(Some(event)) => event.map_err(|error| self.explain("watch", &error))?,
                // Without a version to continue from, the next attempt reads the objects first.
                Ok(None) if found.version.is_empty() => return Ok(End::Stale),
                Ok(None) if opened.elapsed() > FULL_AGE => return Ok(End::OfAge),
                Ok(None) => return Ok(End::Clean),
                Err(_) => return Ok(End::Stale),
            };
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => found.put(object),
                WatchEvent::Deleted(object) => found.remove(&object),
                WatchEvent::Bookmark(bookmark) => {
                    found.version = bookmark.metadata.resource_version;
                    continue;
                }
                // The version is too old: the next attempt reads the objects again.
                WatchEvent::Error(status) if status.code == 410 => return Ok(End::Stale),
                WatchEvent::Error(status) => return Err(self.explain("watch", &kube::Error::Api(status))),
            }
            self.publish(out, self.value(found));
        }
    }

    /// Opens a watch. The caller publishes the objects only once the watch is open: with the right to read but not to watch, the agent thus
    /// reports one lasting error instead of alternating between success and error.
    async fn open<'s>(
        &'s self,
        found: &mut Option<Found<'s, K>>,
    ) -> Result<Opened<impl Stream<Item = kube::Result<WatchEvent<K>>> + use<K, V>>, Lost> {
        if found.is_none() {
            match self.read().await {
                Ok(looked) => *found = Some(looked),
                Err(Lost::Answered { code: 403, reason }) if self.optional => return Ok(Opened::Forbidden(reason)),
                Err(lost) => return Err(lost),
            }
        }
        let Some(Found { api: Some(api), version, .. }) = found else { return Ok(Opened::Unserved) };
        let params = WatchParams {
            field_selector: self.name.as_ref().map(|name| format!("metadata.name={name}")),
            label_selector: self.label.map(str::to_owned),
            ..WatchParams::default()
        };
        match self.answer("watch", api.watch(&params, version)).await {
            Ok(events) => Ok(Opened::Watch(events)),
            Err(Lost::Answered { code: 403, reason }) if self.optional => Ok(Opened::Forbidden(reason)),
            // A read cannot distinguish an absent object from a resource that is not served; only the watch can.
            Err(Lost::Answered { code: 404, .. }) if self.optional => Ok(Opened::Unserved),
            Err(lost) => Err(lost),
        }
    }

    /// Reads the objects. A single object needs only the right to get, not to list; a watch without a version then begins with the current
    /// state.
    async fn read(&self) -> Result<Found<'_, K>, Lost> {
        for api in &self.apis {
            let found = match &self.name {
                Some(name) => match self.answer("get", api.get_opt(name)).await {
                    Ok(object) => {
                        let objects = object.into_iter().map(|object| (object.name_any(), object)).collect();
                        Some(Found { api: Some(api), objects, version: String::new() })
                    }
                    // For a path that is not served, the server answers with a page of text, which `get_opt` does not turn into `None`.
                    Err(Lost::Answered { code: 404, .. }) if self.optional => None,
                    Err(lost) => return Err(lost),
                },
                None => self.answer("list", self.list(api)).await?.map(|list| Found {
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

    /// Publishes a value or a failure. For an optional resource, the log reports each failure once. A failed read keeps the known value,
    /// and then needs no line.
    fn publish(&self, out: &mut Out<V>, value: Result<V, Unknown>) {
        let stays = matches!(value, Err(Unknown::Failed(_))) && out.part.borrow().known.is_some();
        let missing = value.as_ref().err().filter(|_| self.optional).cloned();
        if missing != out.warned && !stays {
            self.log(missing.as_ref());
            out.warned = missing;
        }
        out.put(value);
    }

    fn log(&self, missing: Option<&Unknown>) {
        match missing {
            Some(Unknown::Withheld(reason)) => warn!(reason, "continuing without optional data from the API server"),
            Some(Unknown::Failed(reason)) => {
                warn!(reason, "cannot read optional data from the API server; no new VTEP takes effect");
            }
            None => info!(part = self.described(), "optional data from the API server is readable now"),
        }
    }

    fn value(&self, found: &Found<'_, K>) -> Result<V, Unknown> {
        let value = (self.read)(&found.objects).map_err(|unknown| match found.api {
            Some(_) => unknown,
            None => Unknown::Withheld("it is not served".to_owned()),
        });
        value.map_err(|unknown| unknown.about(&self.described()))
    }

    /// Waits for an answer, with a timeout.
    async fn answer<T>(&self, verb: &str, asked: impl Future<Output = kube::Result<T>>) -> Result<T, Lost> {
        match time::timeout(TIMEOUT, asked).await {
            Ok(answer) => answer.map_err(|error| self.explain(verb, &error)),
            Err(_) => {
                let reason = self.server.unreachable(&format!("no answer within {} s", TIMEOUT.as_secs()));
                // A timeout on an optional resource counts as an answered failure: `Away` publishes nothing, and the configuration
                // would wait for this resource for ever.
                Err(if self.optional { Lost::Answered { code: 0, reason } } else { Lost::Away(reason) })
            }
        }
    }

    /// Turns an error into a plain reason; a refusal names the missing right or object.
    fn explain(&self, verb: &str, error: &kube::Error) -> Lost {
        let what = self.described();
        if words::is_unreadable(error) {
            return Lost::Answered { code: 0, reason: format!("the API server sent {what} of the wrong shape") };
        }
        let kube::Error::Api(status) = error else {
            return Lost::Away(self.server.unreachable(&words::plain(error)));
        };
        let role = if self.namespace.is_some() { "Role" } else { "ClusterRole" };
        let reason = match status.code {
            403 => format!(
                "the API server forbids to {verb} {what}: give this agent's ServiceAccount a {role} with that verb and resource"
            ),
            401 => format!("the API server does not accept this agent's credentials: {}", words::message(status)),
            _ => format!("the API server failed to {verb} {what}: {}", words::refusal(status)),
        };
        Lost::Answered { code: status.code, reason }
    }

    /// `configmaps "cilium-config" in namespace "kube-system"`.
    fn described(&self) -> String {
        let name = self.name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
        let namespace = self.namespace.as_ref().map(|namespace| format!(" in namespace {namespace:?}"));
        format!("{}{name}{}", self.resource, namespace.unwrap_or_default())
    }

    /// `None` if this version of the resource is not served.
    async fn list(&self, api: &Api<K>) -> kube::Result<Option<kube::api::ObjectList<K>>> {
        let params = ListParams { label_selector: self.label.map(str::to_owned), ..ListParams::default() };
        match api.list(&params).await {
            Ok(list) => Ok(Some(list)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Waits until somebody asks to read the objects again.
async fn asked(recheck: &mut Option<watch::Receiver<()>>) {
    if let Some(recheck) = recheck
        && recheck.changed().await.is_ok()
    {
        return;
    }
    future::pending::<()>().await;
}

impl<V: PartialEq> Out<V> {
    fn put(&self, value: Result<V, Unknown>) {
        self.part.send_if_modified(|part| {
            let was_closed = !mem::replace(&mut part.open, true);
            let differs = match value {
                Ok(value) => {
                    let differs = part.error.take().is_some() | (part.known.as_ref() != Some(&value));
                    part.known = Some(value);
                    differs
                }
                Err(unknown) => part.error.replace(unknown) != part.error,
            };
            differs | was_closed
        });
    }
}
