//! The API server: the watches that the configuration comes from, Events, and the Node's condition. This module decides nothing: the core
//! merges the objects and chooses the Events.

mod bounded_body;
pub mod events;
pub mod kubeconfig;
pub mod node_condition;
pub mod nodes;
mod objects;
mod retry_gate;
pub mod server;
pub mod source;
mod watch;
mod watches;
pub mod words;

/// Whether this process runs in a pod: the kubelet sets the variable in each container.
#[must_use]
pub fn in_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}
