//! vtep-agent keeps BIG-IP tunnels into Cilium's pods working, and names the cause when one does not.
//!
//! [`vtep_core`] makes every decision, in functions of values. This crate observes, calls the core, and writes:
//!
//! ```text
//!          k8s, a directory ─→ tasks::config ─→ View ──┬─→ tasks::reconcile ⇄ kernel: maps, routes
//!  netlink, Cilium's files ─→ tasks::node ─→ Facts ────┼─→ tasks::prober    ⇄ kernel: sockets, tap
//!                                                      └─→ tasks::monitor ─→ http, log, k8s: Events
//! ```
//!
//! - [`cli`]: one file per subcommand; `cli::run` wires the tasks together
//! - [`tasks`]: the loops
//! - [`kernel`]: maps, routes, devices, sockets and the tap
//! - [`k8s`]: the API server: watches, Events, the Node's condition
//! - [`icontrol`]: the REST interface of a BIG-IP, for commands that a person starts with `--bigip-url`
//! - [`fleet`]: the agents of a cluster, asked through the API server, for a command that a person starts
//! - [`http`]: health endpoints, `/status`, metrics and the page
//! - [`bigip_archive`]: the configuration in a UCS or qkview of a BIG-IP
//! - [`state_file`]: files that survive a restart; [`bounded`]: reads with a size limit; [`watch_dir`]: inotify on one directory;
//!   [`build_info`]: version and commit
//! - [`liveness`]: heartbeats of the loops; [`together`]: the moments at which they wake up; [`logging`]: the log's format

pub mod bigip_archive;
pub mod bounded;
pub mod build_info;
pub mod cli;
pub mod fleet;
pub mod http;
pub mod icontrol;
pub mod k8s;
pub mod kernel;
pub mod liveness;
pub mod logging;
pub mod state_file;
pub mod tasks;
pub mod together;
pub mod watch_dir;
