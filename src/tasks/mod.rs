//! The agent's loops. Each is a task that ends when its channels close; `cli::run` connects them.

pub mod config;
pub mod history;
pub mod monitor;
pub mod node;
pub mod notifier;
pub mod prober;
pub mod reconcile;
