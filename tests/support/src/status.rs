//! `Status` objects, in the words of the real server.

use serde_json::{Value, json};

use crate::{fault::Fault, record::Request, shared::USER};

/// A refusal: the parts of a `Status`, and `Retry-After`.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) code: u16,
    pub(crate) retry_after: Option<u32>,
    reason: &'static str,
    message: String,
    details: Value,
}

impl Failure {
    /// The status of a fault, if that fault answers with a status.
    pub(crate) fn of(fault: &Fault, request: &Request) -> Option<Self> {
        match fault {
            Fault::Unauthorized => Some(Self::unauthorized()),
            Fault::Forbidden => Some(Self::forbidden(request)),
            Fault::NotFound => Some(Self::not_found(request)),
            Fault::Gone => Some(Self::expired("too old resource version: told to say so")),
            Fault::TooManyRequests(seconds) => Some(Self::too_many_requests(*seconds)),
            Fault::InternalError => Some(Self::plain(500, "InternalError", "Internal error occurred: told to fail")),
            Fault::Unavailable => Some(Self::plain(503, "ServiceUnavailable", "apiserver not ready")),
            Fault::Hang
            | Fault::Delay(_)
            | Fault::HalfLine(_)
            | Fault::Reset
            | Fault::Close
            | Fault::End
            | Fault::Bookmarks(_)
            | Fault::WrongShape
            | Fault::Garbage
            | Fault::NotHttp => None,
        }
    }

    pub(crate) fn unauthorized() -> Self {
        Self::plain(401, "Unauthorized", "Unauthorized")
    }

    /// The wording of `apierrors.NewForbidden` and of the RBAC authorizer.
    fn forbidden(request: &Request) -> Self {
        let Request { verb, group, resource, namespace, name, path, .. } = request;
        if resource.is_empty() {
            return Self::plain(403, "Forbidden", format!("forbidden: User \"{USER}\" cannot {verb} path \"{path}\""));
        }
        let subject = match name.as_str() {
            "" => format!("{} is forbidden", qualified(request)),
            _ => format!("{} \"{name}\" is forbidden", qualified(request)),
        };
        let scope = match namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            _ => format!("in the namespace \"{namespace}\""),
        };
        let what = format!("resource \"{}\" in API group \"{group}\" {scope}", request.rbac_resource());
        let message = format!("{subject}: User \"{USER}\" cannot {verb} {what}");
        Self { details: details(request), ..Self::plain(403, "Forbidden", message) }
    }

    pub(crate) fn not_found(request: &Request) -> Self {
        let message = format!("{} \"{}\" not found", qualified(request), request.name);
        Self { details: details(request), ..Self::plain(404, "NotFound", message) }
    }

    pub(crate) fn already_exists(request: &Request, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(request));
        Self { details: details(request), ..Self::plain(409, "AlreadyExists", message) }
    }

    pub(crate) fn conflict(request: &Request) -> Self {
        let what = format!("{} \"{}\"", qualified(request), request.name);
        let message = format!(
            "Operation cannot be fulfilled on {what}: the object has been modified; \
             please apply your changes to the latest version and try again"
        );
        Self { details: details(request), ..Self::plain(409, "Conflict", message) }
    }

    pub(crate) fn expired(message: &str) -> Self {
        Self::plain(410, "Expired", message)
    }

    fn too_many_requests(seconds: u32) -> Self {
        let message = "Too many requests, please try again later.";
        let details = json!({ "retryAfterSeconds": seconds });
        Self { details, retry_after: Some(seconds), ..Self::plain(429, "TooManyRequests", message) }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(400, "BadRequest", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::plain(422, "Invalid", message)
    }

    pub(crate) fn plain(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, retry_after: None, reason, message: message.into(), details: json!({}) }
    }

    pub(crate) fn to_json(&self) -> Value {
        let Self { code, retry_after: _, reason, message, details } = self;
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "details": details, "code": code,
        });
        // An error that the server does not know has no reason.
        if !reason.is_empty() {
            status["reason"] = Value::from(*reason);
        }
        status
    }
}

/// `configmaps`, or `ciliumnodeconfigs.cilium.io`.
fn qualified(request: &Request) -> String {
    match request.group.as_str() {
        "" => request.resource.clone(),
        group => format!("{}.{group}", request.resource),
    }
}

fn details(request: &Request) -> Value {
    json!({ "name": request.name, "group": request.group, "kind": request.resource })
}
