//! vtep-agent keeps BIG-IP tunnels into Cilium's pods working, and names the cause when one does not.
//!
//! ```text
//! cilium-config ─→ config ─→ what is in force ─→ desired ─┐
//!                                                         ├─→ plan ─→ apply ─→ survey again     (reconcile, datapath)
//!                                   kernel's own state ───┘
//!                       └──→ probes through the tunnel, and the tap ─→ evidence                 (probe)
//!
//! datapath + evidence ─→ diagnose ─→ status ─→ HTTP, metrics, log                               (monitor, http, metrics)
//! ```
//!
//! - [`config`]: where the configuration comes from, what it says, what is wrong with it
//! - [`node`]: facts about this node: kernel, devices, routes, capabilities, the running Cilium
//! - [`datapath`]: Cilium's maps and the host routes: bytes, states, plans, and the kernel
//! - [`reconcile`]: the loop that keeps the kernel as the configuration wants it
//! - [`probe`]: what goes through the tunnel and comes back, and what comes by itself
//! - [`mod@diagnose`]: from evidence to a cause
//! - [`monitor`]: the loop that diagnoses; [`herald`] says each change once, and [`damper`] bounds how often
//! - [`status`]: what anyone may know, in one serialisable type; [`history`]: what it was lately
//! - [`state_file`]: what is remembered over a restart; [`heap`]: what is given back after it; [`bounded`]: what is read, and how much of it at most
//! - [`http`], [`metrics`], [`logging`], [`events`], [`node_condition`], [`progress`]: how it is told
//! - [`bigip`]: what a BIG-IP must hold for all this
//! - [`cli`]: one file per subcommand

pub mod bigip;
pub mod bounded;
pub mod cli;
pub mod config;
pub mod damper;
pub mod datapath;
pub mod diagnose;
pub mod error_chain;
pub mod events;
pub mod heap;
pub mod herald;
pub mod history;
pub mod history_task;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod monitor;
pub mod node;
pub mod node_condition;
pub mod probe;
pub mod progress;
pub mod reconcile;
pub mod state_file;
pub mod status;
