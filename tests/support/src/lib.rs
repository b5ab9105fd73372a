//! A small Kubernetes API server for integration tests: real HTTP/1.1 on a real socket, and misbehaviour on command.
//!
//! ```text
//!   test ── ApiServer (handle) ─┬─ store ── changes ──┐
//!                               ├─ faults ──┐         │
//!                               └─ requests ┴ handler ┴ watch ── hyper ── 127.0.0.1:port ── the client under test
//! ```
//!
//! - [`ApiServer`]: start it, put objects in, make it misbehave, read what it saw.
//! - [`Fault`], [`Matcher`], [`Times`]: what goes wrong, for which requests, how often.
//! - [`Request`], [`Verb`]: one recorded request, in the terms of RBAC.
//! - [`Resource`], [`CiliumVersions`]: what is served.
//! - [`objects`]: the JSON of the objects that tests need.
//!
//! It serves `configmaps`, `nodes` (with `status`), `events.k8s.io/v1` events, `endpointslices.discovery.k8s.io`,
//! `ciliumnodeconfigs.cilium.io` in the versions that are switched on, `ciliumnodes.cilium.io`, and discovery. It knows neither TLS, label
//! selectors but by equality, paging nor schemas: what a test puts in is what clients get, so an object of the wrong shape can also simply be
//! stored. Nothing is written to disk.

mod connection;
mod discovery;
mod fault;
mod handler;
mod listener;
pub mod objects;
mod patch;
mod query;
mod record;
mod resource;
mod routes;
mod server;
mod shared;
mod status;
mod store;
mod verbs;
mod wait;
mod watch;

pub use crate::{
    fault::{After, Fault, Matcher, Times},
    record::{Request, Verb},
    resource::{CiliumVersions, Resource},
    server::ApiServer,
    shared::{TooOld, USER},
};
