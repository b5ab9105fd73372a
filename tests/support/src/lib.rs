//! A small Kubernetes API server for integration tests: real HTTP/1.1 on a real socket, with faults on demand.
//!
//! ```text
//!   test ── ApiServer (handle) ─┬─ store ── changes ──┐
//!                               ├─ faults ──┐         │
//!                               └─ requests ┴ handler ┴ watch ── hyper ── 127.0.0.1:port ── the client under test
//! ```
//!
//! - [`ApiServer`]: start it, store objects, inject faults, read the recorded requests.
//! - [`Fault`], [`Matcher`], [`Times`]: the faults, the requests that they apply to, and how often.
//! - [`Request`], [`Verb`]: one recorded request, in the terms of RBAC.
//! - [`Resource`], [`CiliumVersions`], [`VtepVersions`]: the resources that the server serves.
//! - [`objects`]: the JSON of the objects that tests need.
//!
//! In front of a real API server ([`ApiServer::in_front_of`]), it forwards every request, and the faults happen on the way.
//!
//! By itself, it serves `configmaps`, `nodes` (with `status`), `pods` (with `portforward` and `exec` over a WebSocket), `events.k8s.io/v1` events, `endpointslices.discovery.k8s.io`,
//! `ciliumnodeconfigs.cilium.io`, `ciliumvtepconfigs.cilium.io` and `ciliumvtepnodeconfigs.cilium.io` in the versions that are switched
//! on, `ciliumnodes.cilium.io`, and discovery. It has no TLS, no paging and no schemas, and of label selectors only equality. Clients get
//! exactly the objects that a test stores, also objects of the wrong shape. It writes nothing to disk.

pub mod answers;
mod connection;
mod discovery;
mod fault;
mod handler;
mod listener;
pub mod objects;
mod patch;
mod proxy;
mod query;
mod record;
mod resource;
mod routes;
mod server;
mod shared;
mod status;
mod store;
mod streams;
mod verbs;
mod wait;
mod watch;

pub use crate::{
    fault::{After, Fault, Matcher, Times},
    record::{Request, Verb},
    resource::{CiliumVersions, Resource, VtepVersions},
    server::ApiServer,
    shared::{TooOld, USER},
    streams::Exec,
};
