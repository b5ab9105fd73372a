//! The decisions of vtep-agent, as functions of values and of `now`.
//!
//! This crate opens no socket, file or map, reads no clock, never waits and writes no log. The agent does all of that and passes values in.
//! This crate builds and tests without root and without a BPF toolchain.
//!
//! ```text
//! Document ─→ config::parse ─→ config::effective ─→ View ─┬─→ datapath::decide ─→ Plan
//!                                                         │        ▲
//!                                         state of the kernel ─────┘
//!                                                         │
//!            frames ─→ tunnel ─→ Evidence ─→ diagnosis ─→ report::status
//! ```
//!
//! - [`types`]: types that all other modules use
//! - [`config`]: documents, rules, and the effective configuration
//! - [`datapath`]: the bytes of Cilium's maps, states, plans, and the owner of each route
//! - [`node`]: facts about a node, and their consequences for VTEPs
//! - [`tunnel`]: frames, probes and their windows
//! - [`diagnosis`]: from evidence to a cause
//! - [`report`]: the status, its history, Events, and how often a change is reported
//! - [`bundle`]: the parts of a bundle for a ticket, and the replacement of addresses
//! - [`capture`]: the filter, the file and the words of a packet capture
//! - [`fleet`]: the statuses of many agents in one report
//! - [`bigip`]: the objects that a BIG-IP needs, as tmsh commands, and the objects that it has

#![forbid(unsafe_code)]

pub mod bigip;
pub mod bundle;
pub mod capture;
pub mod config;
pub mod datapath;
pub mod diagnosis;
pub mod fleet;
pub mod node;
mod registry;
pub mod report;
pub mod tunnel;
pub mod types;
