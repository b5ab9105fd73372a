//! The agent in a real Kubernetes: API server, controllers, scheduler, kubelet and container runtime, in the lab's namespaces.
//!
//! `make test-cluster` brings the servers, builds the image, and runs these tests one after the other.

mod agent;
mod answers;
mod cluster;
mod confinement;
mod control_plane;
mod edits;
mod faulty;
mod fleet;
mod install;
mod kubectl;
mod leftovers;
mod node;
mod outages;
mod pki;
mod policy;
mod probes;
mod replacing;
mod rights;
mod stranger;
mod tools;

// A scenario of the agent's tests, and what it needs of them.
#[allow(dead_code, reason = "other tests of the agent use the rest")]
#[path = "../agent/api.rs"]
mod api;
#[path = "../agent/misbehaviour.rs"]
mod misbehaviour;
#[allow(dead_code, reason = "other tests of the agent use the rest")]
#[path = "../agent/support.rs"]
mod support;
