//! The handle of a running server.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, mpsc::sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::{
    runtime::{Builder, Handle},
    sync::mpsc,
};

use crate::{
    fault::{Fault, Matcher, Times},
    listener::{self, Control},
    record::Request,
    resource::{CiliumVersions, Resource},
    shared::{Command, Shared, TooOld},
    store::Key,
};

/// A running API server. Dropping it closes its port and all connections.
///
/// It has a thread and a runtime of its own: started from within a network namespace it listens there, a test that pauses its clock
/// does not pause the server, and tests without a runtime can use it. No method waits for clients; those that wait say so.
#[derive(Debug)]
pub struct ApiServer {
    pub(crate) shared: Arc<Shared>,
    /// For waits that are not asynchronous.
    pub(crate) runtime: Handle,
    address: SocketAddr,
    control: Option<mpsc::UnboundedSender<Control>>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts an empty server on a free port of 127.0.0.1, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// That no runtime, no socket or no thread could be made.
    pub fn start() -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST)
    }

    /// Starts an empty server on a free port of this address, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// That no runtime, no socket or no thread could be made.
    pub fn start_at(address: Ipv4Addr) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("failed to make the runtime")?;
        let handle = runtime.handle().clone();
        let listener = {
            let _entered = runtime.enter();
            let held = listener::hold(SocketAddr::from((address, 0))).and_then(listener::listen);
            held.with_context(|| format!("failed to listen on {address}"))?
        };
        let address = listener.local_addr().context("failed to learn the port")?;
        let shared = Arc::new(Shared::new());
        let (control, commands) = mpsc::unbounded_channel();
        let served = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("apiserver".to_owned())
            .spawn(move || runtime.block_on(listener::run(listener, commands, served)))
            .context("failed to start the server's thread")?;
        Ok(Self { shared, runtime: handle, address, control: Some(control), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://address:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig, as JSON (which is YAML), for `KUBECONFIG` or `kube::config::Kubeconfig::from_yaml`. It holds the token that
    /// [`ApiServer::require_token`] asks for at this moment, and `kube-system` as namespace.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        let user = self.shared.state().token.as_ref().map_or_else(|| json!({}), |token| json!({ "token": token }));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": self.url() } }],
            "users": [{ "name": "test", "user": user }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": "kube-system" } }],
        });
        config.to_string()
    }

    /// Creates or replaces an object; watches see it unless it changes nothing. Nothing else is checked, so the shape may be wrong.
    /// Returns its resourceVersion.
    ///
    /// # Errors
    ///
    /// That the object has no `metadata.name`, or no namespace where it needs one.
    pub fn apply(&self, resource: Resource, object: Value) -> Result<u64> {
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().context("the object has no metadata.name")?.to_owned();
        let namespace = match resource.namespaced() {
            true => metadata["namespace"].as_str().context("the object has no metadata.namespace")?.to_owned(),
            false => String::new(),
        };
        let stored = self.shared.write(|store| store.put(Key { resource, namespace, name }, object));
        let version = stored["metadata"]["resourceVersion"].as_str().context("the object has no resourceVersion")?;
        version.parse().context("the resourceVersion is no number")
    }

    /// Deletes an object and returns whether it was there. The namespace of a node is ignored.
    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) -> bool {
        self.shared.write(|store| store.remove(&key(resource, namespace, name))).is_some()
    }

    /// An object as it is stored.
    #[must_use]
    pub fn object(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        self.shared.state().store.get(&key(resource, namespace, name)).map(|object| Value::clone(&object))
    }

    /// Serves other versions of CiliumNodeConfig from now on. Open watches of them end properly, as when a CRD changes.
    pub fn serve(&self, versions: CiliumVersions) {
        let mut state = self.shared.state();
        state.cilium = versions;
        for watch in state.watches.values().filter(|watch| watch.resource == Resource::CiliumNodeConfigs) {
            // A watch that is just closing needs no command.
            let _ = watch.commands.send(Command::Fault(Fault::End));
        }
    }

    /// Makes every resourceVersion that was handed out so far too old for a new watch. Open watches go on.
    pub fn compact(&self, answer: TooOld) {
        self.shared.state().too_old = answer;
        self.shared.write(crate::store::Store::compact);
    }

    /// Wants this bearer token from now on, or none. Without it requests are answered 401; open watches go on.
    pub fn require_token(&self, token: Option<&str>) {
        self.shared.state().token = token.map(str::to_owned);
    }

    /// How often watches opened from now on get a bookmark, if they want any. A minute unless told otherwise.
    pub fn bookmark_every(&self, interval: Duration) {
        self.shared.state().bookmark_interval = interval;
    }

    /// Sends a bookmark on matching open watches, whether they asked for it or not. Returns their number.
    pub fn bookmark(&self, matcher: &Matcher) -> usize {
        self.shared.command(matcher, || Command::Bookmark)
    }

    /// Answers requests wrongly. Several orders may stand at once: a request gets the oldest that concerns it and is not used up.
    pub fn misbehave(&self, matcher: Matcher, fault: Fault, times: Times) {
        self.shared.state().faults.add(matcher, fault, times);
    }

    /// Forgets all orders of [`ApiServer::misbehave`]. What hangs goes on hanging; see [`ApiServer::interrupt`] for watches.
    pub fn behave(&self) {
        self.shared.state().faults.clear();
    }

    /// Disturbs matching watches that are open now. Returns their number.
    pub fn interrupt(&self, matcher: &Matcher, fault: &Fault) -> usize {
        self.shared.command(matcher, || Command::Fault(fault.clone()))
    }

    /// Stops listening and closes all connections. Connections to the port, which stays ours, are refused.
    ///
    /// # Errors
    ///
    /// That the port could not be kept.
    pub fn stop(&self) -> Result<()> {
        self.control(Control::Stop).context("failed to stop listening")
    }

    /// Listens again, on the same port and with the same objects.
    ///
    /// # Errors
    ///
    /// That the port could not be listened on.
    pub fn resume(&self) -> Result<()> {
        self.control(Control::Resume).context("failed to listen again")
    }

    /// Every request so far, in the order in which they came.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.state().requests.clear();
    }

    /// How many watches are open. One whose client has just gone may still count; see [`ApiServer::watching`].
    #[must_use]
    pub fn open_watches(&self) -> usize {
        self.shared.state().watches.len()
    }

    fn control(&self, order: impl FnOnce(std::sync::mpsc::SyncSender<io::Result<()>>) -> Control) -> Result<()> {
        let (answer, answered) = sync_channel(1);
        let control = self.control.as_ref().context("the server is going down")?;
        control.send(order(answer)).ok().context("the server's thread is gone")?;
        answered.recv().context("the server's thread is gone")?.map_err(Into::into)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.control.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened.
            let _ = thread.join();
        }
    }
}

fn key(resource: Resource, namespace: &str, name: &str) -> Key {
    let namespace = if resource.namespaced() { namespace } else { "" };
    Key { resource, namespace: namespace.to_owned(), name: name.to_owned() }
}
