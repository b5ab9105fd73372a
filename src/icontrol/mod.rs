//! iControl REST, the HTTP interface of a BIG-IP: reads the objects that its tunnels consist of.
//!
//! It only sends GET, at most [`MAX_REQUESTS`] requests, one after the other. It knows how BIG-IP delivers a collection (in pages, with
//! sub-collections, or not at all), but not what the objects mean: the core reads the answers.
//!
//! Only a command that a person starts with `--bigip-url` gets here. `run` has no such flag, so the DaemonSet never talks to a BIG-IP.
//!
//! Source: F5, "iControl REST API User Guide". The answers of a BIG-IP that starts, or that refuses, are those in public bug reports.

use std::time::Duration;

mod collections;
mod credentials;
mod failure;
mod page;
mod server;
mod session;
mod tls;

pub use self::{
    credentials::{Credentials, Secret, SecretError},
    failure::Failure,
    server::{Server, UrlError},
    session::MAX_REQUESTS,
    tls::{Trust, authorities},
};

/// The answers of one BIG-IP.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// `https://host:port`.
    pub server: String,
    /// In the order of the requests. A collection, or the records of one tunnel, is here with all its pages, or not at all: nothing that
    /// BIG-IP has is missing from it.
    pub responses: Vec<Response>,
    /// How many objects the responses contain.
    pub objects: usize,
    /// What could not be read, and why: a sentence each.
    pub notes: Vec<String>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The path of the request without its query: `/mgmt/tm/net/fdb/tunnel/~Common~cilium/records`.
    pub url_path: String,
    /// JSON, an object with a `kind`.
    pub body: String,
}

/// Reads a BIG-IP. `timeout` applies to each answer; all of them together may take three times as long.
///
/// # Errors
///
/// The BIG-IP cannot be reached, does not accept the credentials, or lets nothing be read.
pub async fn read(
    server: &Server,
    credentials: Credentials,
    trust: Trust,
    timeout: Duration,
) -> Result<Fetched, Failure> {
    let mut session = session::Session::new(server.clone(), credentials, trust, timeout)?;
    let mut fetched = collections::read(&mut session).await?;
    fetched.server = server.to_string();
    if let Some(fingerprint) = session.unverified() {
        fetched.notes.push(format!(
            "the certificate of {server} was not verified (--bigip-insecure); its SHA-256 fingerprint is {fingerprint}"
        ));
    }
    Ok(fetched)
}
