//! `vtep-agent fleet` as a command, at an API server that leads to hundreds of agents over real HTTP and real WebSockets. Needs no root.
//!
//! - `cluster`: the API server, the agents behind it, and the command
//! - `outputs`: what a person and a script see
//! - `agents`: agents that are slow, dead, older or newer
//! - `bundle`: `fleet bundle`: which nodes are in it, what it says about those that are not, and what it leaves
//! - `rights`: what a person may do, and what that person reads if a right is missing
//! - `size`: 500 agents: time and memory
//! - `terminal`: the progress bar, colours and `--watch` on a real terminal
//! - `page`: the page of `--listen`, over HTTP and in a real browser
//! - `habits`: completions, man pages, version, the plugin of kubectl

mod agents;
mod bundle;
mod cluster;
mod habits;
mod outputs;
mod page;
mod rights;
mod size;
mod terminal;
