//! The loops. Each is a task that ends with its channels; `cli::run` wires them together.

pub mod config;
pub mod history;
pub mod monitor;
pub mod node;
pub mod notifier;
pub mod prober;
pub mod reconcile;
