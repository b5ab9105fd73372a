//! A stand-in for the REST interface of a BIG-IP (iControl REST): real HTTPS on a real socket, with faults on demand.
//!
//! ```text
//!   test ── BigIp (handle) ─┬─ device ─── answers ─┐
//!                           ├─ faults ──┐          │
//!                           └─ requests ┴ handler ─┴─ hyper ── rustls ── 127.0.0.1:port ── the client under test
//! ```
//!
//! - [`BigIp`], [`Options`], [`Certificate`]: start it, break it, read the recorded requests.
//! - [`Device`], [`Tunnel`], [`Profile`], [`SelfIp`], [`Route`]: its objects, in the shapes of iControl's JSON.
//! - [`Fault`], [`Matcher`], [`Times`]: the faults, the requests that they apply to, and how often.
//! - [`Request`]: one recorded request.
//!
//! It answers only GET. It knows the collections of tunnels, their profiles, self IPs, routes, FDB records and ARP, the device's hostname,
//! `$filter` by partition, `$top` and `$skip`, `expandSubcollections`, basic authentication and tokens. It writes nothing to disk.
//!
//! Source of the shapes: F5, "iControl REST API User Guide", and answers in public bug reports and in the test data of public clients.

mod answers;
mod certificate;
mod device;
mod fault;
mod handler;
mod objects;
mod server;

pub use self::{
    certificate::Certificate,
    device::Device,
    fault::{Fault, Matcher, Times},
    handler::Request,
    objects::{Profile, Route, SelfIp, Tunnel},
    server::{BigIp, Options, PASSWORD, TOKEN, USER},
};
