//! Asks the agents of a cluster for their statuses, for a command that a person starts: with this person's kubeconfig and rights. The agents
//! know nothing of it, and nothing of it runs in the cluster.
//!
//! - [`pods`]: finds the agents, and what is known about their nodes
//! - [`ways`]: how an agent can be reached: port-forward, exec, or directly
//! - [`exec`]: commands in an agent's pod: its status, and its bundle
//! - [`ask`]: asks one agent, on the ways that the rights allow
//! - [`collect`]: asks all of them, many at a time, each with a deadline

pub mod ask;
pub mod collect;
pub mod exec;
pub mod pods;
pub mod ways;

/// The most bytes of an agent's answer.
const ANSWER_LIMIT: usize = 4 << 20;
