//! The handle of a running server.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, mpsc::sync_channel},
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    runtime::{Builder, Handle},
    sync::mpsc,
};

use crate::{
    fault::{Fault, Matcher, Times},
    listener::{self, Control},
    proxy,
    record::Request,
    resource::{CiliumVersions, Resource, VtepVersions},
    shared::{Command, Real, Shared, State, TooOld},
    store::Key,
    streams::Exec,
};

/// A running API server. Dropping it closes its port and all connections.
///
/// It has a thread and a runtime of its own. So it listens in the network namespace in which a test started it, a test that pauses its
/// clock does not pause the server, and tests without a runtime can use it. Only methods that say so wait for clients.
#[derive(Debug)]
pub struct ApiServer {
    pub(crate) shared: Arc<Shared>,
    /// The runtime for waits in synchronous tests.
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
    /// The runtime, the socket or the thread could not be created.
    pub fn start() -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST)
    }

    /// Starts an empty server on a free port of this address, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// The runtime, the socket or the thread could not be created.
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

    /// Starts a server in front of a real one, for which it has this kubeconfig: it forwards requests, and the faults happen on the way.
    /// [`ApiServer::apply`] then applies at the real server. The other methods that read or write objects have no effect.
    ///
    /// # Errors
    ///
    /// The server did not start, or the kubeconfig cannot be used.
    pub fn in_front_of(kubeconfig: &str) -> Result<Self> {
        let server = Self::start()?;
        let kubeconfig = kubeconfig.to_owned();
        let client = server.on_its_thread(async move { proxy::client(&kubeconfig).await })?;
        // A new server has none yet.
        let _ = server.shared.real.set(Real(client));
        Ok(server)
    }

    /// Runs something on the server's thread, in its network namespace.
    fn on_its_thread<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let (sender, result) = sync_channel(1);
        self.runtime.spawn(async move { sender.send(work.await) });
        result.recv().context("the server's thread is gone")?
    }

    /// The address that the server listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://address:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig, as JSON (which is YAML), for `KUBECONFIG` or `kube::config::Kubeconfig::from_yaml`. It has the token that
    /// [`ApiServer::require_token`] requires now, and `kube-system` as namespace.
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

    /// Creates or replaces an object, and notifies watches unless nothing changes. The server checks nothing else, so the object may have
    /// the wrong shape. Returns its resourceVersion.
    ///
    /// # Errors
    ///
    /// The object has no `metadata.name`, or lacks a required namespace.
    pub fn apply(&self, resource: Resource, object: Value) -> Result<u64> {
        if let Some(Real(client)) = self.shared.real.get() {
            let client = client.clone();
            return self.on_its_thread(async move { proxy::apply(&client, resource, object).await });
        }
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

    /// Changes the creation time of an object, which is otherwise the time of its first [`ApiServer::apply`]. Returns whether it exists.
    pub fn backdate(&self, resource: Resource, namespace: &str, name: &str, at: Timestamp) -> bool {
        self.shared.write(|store| store.backdate(&key(resource, namespace, name), at))
    }

    /// Lets port-forwards and execs of this pod lead to a TCP address, or to a pod in which nothing listens. Without this call, the pod is not
    /// found.
    pub fn run_pod(&self, name: &str, address: Option<SocketAddr>) {
        self.shared.state().pods.insert(name.to_owned(), address);
    }

    /// Lets every command in this pod but `vtep-agent status -o json` do this.
    pub fn on_exec(&self, name: &str, exec: Exec) {
        self.shared.state().execs.insert(name.to_owned(), exec);
    }

    /// Deletes an object and returns whether it existed. The namespace of a node is ignored.
    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) -> bool {
        self.shared.write(|store| store.remove(&key(resource, namespace, name))).is_some()
    }

    /// The stored object.
    #[must_use]
    pub fn object(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        self.shared.state().store.get(&key(resource, namespace, name)).map(|object| Value::clone(&object))
    }

    /// Serves other versions of CiliumNodeConfig from now on. Open watches of them end regularly, as after a change of the CRD.
    pub fn serve(&self, versions: CiliumVersions) {
        let mut state = self.shared.state();
        state.served.cilium = versions;
        end_watches(&state, &[Resource::CiliumNodeConfigs]);
    }

    /// Serves other versions of CiliumVTEPConfig and CiliumVTEPNodeConfig from now on. Open watches of them end regularly. Stored objects
    /// remain, and clients see them again as soon as their resource is served.
    pub fn serve_vtep(&self, versions: VtepVersions) {
        let mut state = self.shared.state();
        state.served.vtep = versions;
        end_watches(&state, &[Resource::CiliumVtepConfigs, Resource::CiliumVtepNodeConfigs]);
    }

    /// Makes every resourceVersion so far too old for a new watch. Open watches continue.
    pub fn compact(&self, answer: TooOld) {
        self.shared.state().too_old = answer;
        self.shared.write(crate::store::Store::compact);
    }

    /// Requires this bearer token from now on, or none. Requests without it get 401; open watches continue.
    pub fn require_token(&self, token: Option<&str>) {
        self.shared.state().token = token.map(str::to_owned);
    }

    /// Sends a bookmark on matching open watches, also on those that did not request any. Returns their number.
    pub fn bookmark(&self, matcher: &Matcher) -> usize {
        self.shared.command(matcher, || Command::Bookmark)
    }

    /// Adds a fault for requests. Several may be active: a request gets the oldest one that matches it and is not used up.
    pub fn misbehave(&self, matcher: Matcher, fault: Fault, times: Times) {
        self.shared.state().faults.add(matcher, fault, times);
    }

    /// Removes all faults of [`ApiServer::misbehave`]. Requests that hang continue to hang; for watches see [`ApiServer::interrupt`].
    pub fn behave(&self) {
        self.shared.state().faults.clear();
    }

    /// Disturbs matching watches that are open now. Returns their number.
    pub fn interrupt(&self, matcher: &Matcher, fault: &Fault) -> usize {
        self.shared.command(matcher, || Command::Fault(fault.clone()))
    }

    /// Stops listening and closes all connections. The server keeps the port, and the kernel refuses connections to it.
    ///
    /// # Errors
    ///
    /// The port could not be kept.
    pub fn stop(&self) -> Result<()> {
        self.control(Control::Stop).context("failed to stop listening")
    }

    /// Listens again, on the same port and with the same objects.
    ///
    /// # Errors
    ///
    /// The server could not listen on the port.
    pub fn resume(&self) -> Result<()> {
        self.control(Control::Resume).context("failed to listen again")
    }

    /// Every request so far, in the order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.state().requests.clear();
    }

    /// The number of open watches. A watch whose client has just disconnected may still count; see [`ApiServer::watching`].
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
            // If the thread panicked, it has printed the reason already.
            let _ = thread.join();
        }
    }
}

fn end_watches(state: &State, resources: &[Resource]) {
    for watch in state.watches.values().filter(|watch| resources.contains(&watch.resource)) {
        // A watch that closes at this moment needs no command.
        let _ = watch.commands.send(Command::Fault(Fault::End));
    }
}

fn key(resource: Resource, namespace: &str, name: &str) -> Key {
    let namespace = if resource.namespaced() { namespace } else { "" };
    Key { resource, namespace: namespace.to_owned(), name: name.to_owned() }
}
