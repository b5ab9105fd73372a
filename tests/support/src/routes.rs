//! Converts method, path and query into a request in RBAC's terms, by the rules of the real server's `RequestInfoFactory`.
//!
//! It does not know which resources exist, so it records unknown ones, too.

use std::{net::SocketAddr, time::Instant};

use hyper::{
    Method,
    header::{CONTENT_TYPE, HeaderName, USER_AGENT},
    http::request::Parts,
};
use jiff::Timestamp;

use crate::{
    query,
    record::{Request, Verb},
};

/// The record of a request, without its fault.
pub(crate) fn resolve(parts: &Parts, peer: SocketAddr, body: &[u8]) -> Request {
    let path = parts.uri.path().to_owned();
    let route = Route::parse(&path);
    let header =
        |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut request = Request {
        at: Timestamp::now(),
        instant: Instant::now(),
        peer,
        method: parts.method.to_string(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        verb: Verb::Get,
        group: route.group.to_owned(),
        version: route.version.to_owned(),
        resource: route.resource.to_owned(),
        subresource: route.subresource.to_owned(),
        namespace: route.namespace.to_owned(),
        name: route.name.to_owned(),
        user_agent: header(USER_AGENT),
        content_type: header(CONTENT_TYPE),
        body: serde_json::from_slice(body).ok(),
        fault: None,
        path,
    };
    request.verb = verb(&parts.method, &request);
    if request.name.is_empty() && matches!(request.verb, Verb::List | Verb::Watch | Verb::DeleteCollection) {
        request.name = selected_name(&request).unwrap_or_default();
    }
    request
}

fn selected_name(request: &Request) -> Option<String> {
    query::field_selector(request).ok()?.name
}

fn verb(method: &Method, request: &Request) -> Verb {
    let collection = !request.resource.is_empty() && request.name.is_empty();
    match method.as_str() {
        "POST" => Verb::Create,
        "PUT" => Verb::Update,
        "PATCH" => Verb::Patch,
        "DELETE" if collection => Verb::DeleteCollection,
        "DELETE" => Verb::Delete,
        _ if collection && request.flag("watch") => Verb::Watch,
        _ if collection => Verb::List,
        _ => Verb::Get,
    }
}

/// The parts of a path.
#[derive(Debug, Default, PartialEq, Eq)]
struct Route<'a> {
    group: &'a str,
    version: &'a str,
    namespace: &'a str,
    resource: &'a str,
    name: &'a str,
    subresource: &'a str,
}

impl<'a> Route<'a> {
    fn parse(path: &'a str) -> Self {
        let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        match segments.as_slice() {
            ["api", version, rest @ ..] => Self::resource("", version, rest),
            ["apis", group, version, rest @ ..] => Self::resource(group, version, rest),
            _ => Self::default(),
        }
    }

    fn resource(group: &'a str, version: &'a str, rest: &[&'a str]) -> Self {
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", rest),
        };
        let at = |index: usize| rest.get(index).copied().unwrap_or_default();
        match rest {
            [] => Self::default(),
            _ => Self { group, version, namespace, resource: at(0), name: at(1), subresource: at(2) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Route;

    #[test]
    fn paths() {
        let table = [
            ("/version", ["", "", "", "", "", ""]),
            ("/apis/cilium.io/v2", ["", "", "", "", "", ""]),
            ("/api/v1/nodes/a/status", ["", "v1", "", "nodes", "a", "status"]),
            ("/api/v1/namespaces/kube-system/configmaps", ["", "v1", "kube-system", "configmaps", "", ""]),
            ("/apis/cilium.io/v2/ciliumnodeconfigs", ["cilium.io", "v2", "", "ciliumnodeconfigs", "", ""]),
            ("/api/v1/namespaces/default", ["", "v1", "", "namespaces", "default", ""]),
        ];
        for (path, [group, version, namespace, resource, name, subresource]) in table {
            let expected = Route { group, version, namespace, resource, name, subresource };
            assert_eq!(Route::parse(path), expected, "{path}");
        }
    }
}
