//! One request as the server saw it, in the terms in which RBAC rules are written.

use std::{fmt, net::SocketAddr, time::Instant};

use jiff::Timestamp;
use serde_json::Value;

use crate::fault::Fault;

/// The verb that RBAC asks for, derived from method, path and query as the real server derives it.
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

/// One request, recorded when its body was read and before it is answered.
#[derive(Debug, Clone)]
pub struct Request {
    /// When it came, by the wall clock.
    pub at: Timestamp,
    /// When it came, for intervals.
    pub instant: Instant,
    /// Who asked; one address is one TCP connection.
    pub peer: SocketAddr,
    /// The HTTP method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query as sent, without the question mark.
    pub query: String,
    /// The verb of RBAC.
    pub verb: Verb,
    /// The API group; empty for the core group and for paths that are no resources.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The plural name; empty for paths that are no resources, such as `/version`.
    pub resource: String,
    /// `status`, or empty.
    pub subresource: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The object's name, from the path or from a field selector `metadata.name=…`, which RBAC's `resourceNames` cover too.
    pub name: String,
    /// The `User-Agent` header, or empty.
    pub user_agent: String,
    /// The `Content-Type` header, or empty.
    pub content_type: String,
    /// The body, where it is JSON.
    pub body: Option<Value>,
    /// What the server was told to do wrong with it.
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

    /// `resource` or `resource/subresource`, as an RBAC rule spells it.
    #[must_use]
    pub fn rbac_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}
