//! What vtep-agent decides, as functions of values and of `now`.
//!
//! Nothing here opens a socket, a file or a map, reads a clock, waits or logs: the agent does that, and hands values in. This crate builds
//! and tests without root and without a BPF toolchain.
//!
//! ```text
//! Document ─→ config::parse ─→ config::effective ─→ View ─┬─→ datapath::decide ─→ Plan
//!                                                         │        ▲
//!                                       what the kernel holds ─────┘
//!                                                         │
//!            frames ─→ tunnel ─→ Evidence ─→ diagnosis ─→ report::status
//! ```
//!
//! - [`types`]: what all others use
//! - [`config`]: documents, rules, and the effective configuration
//! - [`datapath`]: the bytes of Cilium's maps, states, plans, and whose a route is
//! - [`node`]: facts about a node, and what they mean for VTEPs
//! - [`tunnel`]: frames, probes and their windows
//! - [`diagnosis`]: from evidence to a cause
//! - [`report`]: the status, its history, Events, and how often a change is reported
//! - [`bigip`]: what a BIG-IP must hold, as tmsh commands

#![forbid(unsafe_code)]

pub mod bigip;
pub mod config;
pub mod datapath;
pub mod diagnosis;
pub mod node;
mod registry;
pub mod report;
pub mod tunnel;
pub mod types;
