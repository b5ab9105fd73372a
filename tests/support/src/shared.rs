//! The state that the handle, the connections and the watches share, and the signals with which they wake each other.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::{
    fault::{Fault, Faults, Matcher},
    record::Request,
    resource::{Resource, Served},
    store::Store,
    streams::Exec,
};

/// The user name of every client in the messages of refusals.
pub const USER: &str = "system:serviceaccount:kube-system:vtep-agent";

/// How a watch learns that its start version is too old. The real server does both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TooOld {
    /// 200, then an `ERROR` event with a `Status` of code 410.
    #[default]
    Event,
    /// HTTP status 410.
    Status,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The store's version.
    pub(crate) changed: watch::Sender<u64>,
    /// Changes with every recorded request.
    pub(crate) recorded: watch::Sender<()>,
    /// Open watches.
    pub(crate) watching: watch::Sender<usize>,
    /// The server that answers in place of the store.
    pub(crate) real: OnceLock<Real>,
}

/// A client of the real server that this one is in front of.
pub(crate) struct Real(pub(crate) kube::Client);

impl fmt::Debug for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Real")
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) faults: Faults,
    pub(crate) requests: Vec<Request>,
    pub(crate) watches: BTreeMap<u64, OpenWatch>,
    pub(crate) token: Option<String>,
    pub(crate) served: Served,
    pub(crate) too_old: TooOld,
    /// The pods that run, by name. Without an address, nothing listens in the pod.
    pub(crate) pods: BTreeMap<String, Option<SocketAddr>>,
    /// By the name of the pod.
    pub(crate) execs: BTreeMap<String, Exec>,
    next_watch: u64,
}

/// An open watch, seen from outside.
#[derive(Debug)]
pub(crate) struct OpenWatch {
    pub(crate) request: Request,
    pub(crate) resource: Resource,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
}

/// Commands to an open watch.
#[derive(Debug)]
pub(crate) enum Command {
    Fault(Fault),
    Bookmark,
}

impl Shared {
    pub(crate) fn new() -> Self {
        let state = State {
            store: Store::new(),
            faults: Faults::default(),
            requests: Vec::new(),
            watches: BTreeMap::new(),
            token: None,
            served: Served::default(),
            too_old: TooOld::default(),
            pods: BTreeMap::new(),
            execs: BTreeMap::new(),
            next_watch: 0,
        };
        Self {
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            recorded: watch::Sender::new(()),
            watching: watch::Sender::new(0),
            real: OnceLock::new(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to the store and wakes the watches.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        let mut state = self.state();
        let result = work(&mut state.store);
        self.changed.send_replace(state.store.version());
        result
    }

    /// Records a request together with the fault that it gets.
    pub(crate) fn record(&self, mut request: Request) -> Request {
        let mut state = self.state();
        request.fault = state.faults.take(&request);
        state.requests.push(request.clone());
        self.recorded.send_replace(());
        request
    }

    /// Sends a command to matching open watches, and returns their number.
    pub(crate) fn command(&self, matcher: &Matcher, command: impl Fn() -> Command) -> usize {
        let state = self.state();
        let concerned = state.watches.values().filter(|watch| matcher.matches(&watch.request));
        concerned.filter(|watch| watch.commands.send(command()).is_ok()).count()
    }

    pub(crate) fn forget(&self, watch: u64) {
        let mut state = self.state();
        state.watches.remove(&watch);
        self.watching.send_replace(state.watches.len());
    }
}

impl State {
    /// Registers a watch and returns its number. The caller publishes the new count.
    pub(crate) fn register(&mut self, watch: OpenWatch) -> u64 {
        self.next_watch += 1;
        self.watches.insert(self.next_watch, watch);
        self.next_watch
    }
}

/// An object as JSON in the requested version.
pub(crate) fn render(object: &Value, api_version: &str) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".to_owned(), Value::from(api_version));
    }
    object
}
