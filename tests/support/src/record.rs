//! One request as the server received it, in the terms of RBAC rules.

use std::{fmt, net::SocketAddr, time::Instant};

use jiff::Timestamp;
use serde_json::Value;

use crate::fault::Fault;

/// The verb for RBAC, derived from method, path and query like in the real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the verbs")]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl fmt::Display for Verb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        })
    }
}

/// One request, recorded after its body was read and before the answer.
#[derive(Debug, Clone)]
pub struct Request {
    /// The time of arrival by the wall clock.
    pub at: Timestamp,
    /// The time of arrival, for intervals.
    pub instant: Instant,
    /// The client's address; one address is one TCP connection.
    pub peer: SocketAddr,
    /// The HTTP method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query as sent, without the question mark.
    pub query: String,
    /// The verb of RBAC.
    pub verb: Verb,
    /// The API group; empty for the core group and for paths that are not resources.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The plural name; empty for paths that are not resources, such as `/version`.
    pub resource: String,
    /// `status`, or empty.
    pub subresource: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The object's name, from the path or from a field selector `metadata.name=…`; RBAC's `resourceNames` covers both.
    pub name: String,
    /// The `User-Agent` header, or empty.
    pub user_agent: String,
    /// The `Content-Type` header, or empty.
    pub content_type: String,
    /// The body, if it is JSON.
    pub body: Option<Value>,
    /// The fault that the server applied to it.
    pub fault: Option<Fault>,
}

impl Request {
    /// The decoded value of a query parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// Whether a boolean query parameter is set.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| value == "true" || value == "1")
    }

    /// `resource` or `resource/subresource`, the form in RBAC rules.
    #[must_use]
    pub fn rbac_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}
