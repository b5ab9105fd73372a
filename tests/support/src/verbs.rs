//! Executes the verbs on the store, except watch.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    patch::{self, PatchKind},
    query,
    record::{Request, Verb},
    resource::Resource,
    shared::{Shared, render},
    status::Failure,
    store::{Key, Store},
    watch::Watch,
};

/// The longest note of an Event, in bytes.
const NOTE_MAX: usize = 1024;

/// A successful answer.
#[derive(Debug)]
pub(crate) enum Reply {
    Json(StatusCode, Value),
    Watch(Box<Watch>),
    /// A path that the server does not serve, such as that of an absent CRD: plain text, no `Status`.
    NoPage,
}

/// Executes a request for a resource.
pub(crate) fn answer(shared: &Shared, request: &Request, resource: Resource) -> Result<Reply, Failure> {
    let has_status = resource == Resource::Nodes && request.subresource == "status";
    let placed = request.name.is_empty() || resource.namespaced() != request.namespace.is_empty();
    if !(placed && (request.subresource.is_empty() || has_status)) {
        return Ok(Reply::NoPage);
    }
    let api_version = resource.api_version(&request.version);
    let key = Key { resource, namespace: request.namespace.clone(), name: request.name.clone() };
    let (code, object) = match request.verb {
        Verb::Get => (StatusCode::OK, get(shared, request, &key)?),
        Verb::List => return list(shared, request, resource).map(|list| Reply::Json(StatusCode::OK, list)),
        Verb::Create => (StatusCode::CREATED, shared.write(|store| create(store, request, key))?),
        Verb::Update => (StatusCode::OK, shared.write(|store| update(store, request, key))?),
        Verb::Patch => (StatusCode::OK, shared.write(|store| patch(store, request, key))?),
        Verb::Delete => {
            let removed = shared.write(|store| store.remove(&key));
            removed.ok_or_else(|| Failure::not_found(request))?;
            let success = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
            return Ok(Reply::Json(StatusCode::OK, success));
        }
        Verb::Watch | Verb::DeleteCollection => {
            return Err(Failure::plain(405, "MethodNotAllowed", "this server does not do that"));
        }
    };
    Ok(Reply::Json(code, render(&object, &api_version)))
}

fn get(shared: &Shared, request: &Request, key: &Key) -> Result<Value, Failure> {
    shared.state().store.get(key).map(|object| Value::clone(&object)).ok_or_else(|| Failure::not_found(request))
}

/// Returns all pages at once and ignores `limit`; so no client can have a valid continue token.
fn list(shared: &Shared, request: &Request, resource: Resource) -> Result<Value, Failure> {
    let selection = query::selection(request, resource)?;
    if request.parameter("continue").is_some() {
        return Err(Failure::expired(
            "The provided continue parameter is too old to display a consistent list result.",
        ));
    }
    let state = shared.state();
    let exact = request.parameter("resourceVersionMatch").is_some_and(|text| text == "Exact");
    let version = request.parameter("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or_default();
    if exact && state.store.is_too_old(version) {
        return Err(Failure::expired(&format!("too old resource version: {version}")));
    }
    let api_version = resource.api_version(&request.version);
    let mut items: Vec<_> = state.store.list(&selection).iter().map(|object| render(object, &api_version)).collect();
    // Objects that the server itself defines have neither in a list.
    let is_built_in = resource.group() != "cilium.io";
    for item in items.iter_mut().filter_map(Value::as_object_mut).filter(|_| is_built_in) {
        item.retain(|key, _| key != "kind" && key != "apiVersion");
    }
    Ok(json!({
        "kind": format!("{}List", resource.kind()), "apiVersion": api_version,
        "metadata": { "resourceVersion": state.store.version().to_string() },
        "items": items,
    }))
}

fn create(store: &mut Store, request: &Request, mut key: Key) -> Result<Value, Failure> {
    let object = body(request)?;
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().map(str::to_owned);
    let generated = || text("generateName").map(|prefix| format!("{prefix}{:05}", store.version()));
    key.name = text("name").or_else(generated).ok_or_else(|| {
        Failure::invalid(format!("{} \"\" is invalid: metadata.name: Required value", key.resource.kind()))
    })?;
    if text("namespace").is_some_and(|namespace| namespace != key.namespace) {
        return Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if key.resource == Resource::Events {
        check_event(&object)?;
    }
    if store.get(&key).is_some() {
        return Err(Failure::already_exists(request, &key.name));
    }
    Ok(Value::clone(&store.put(key, object)))
}

fn update(store: &mut Store, request: &Request, key: Key) -> Result<Value, Failure> {
    let new = body(request)?;
    let old = store.get(&key).ok_or_else(|| Failure::not_found(request))?;
    let version = &new["metadata"]["resourceVersion"];
    if !version.is_null() && *version != old["metadata"]["resourceVersion"] {
        return Err(Failure::conflict(request));
    }
    let merged = only_the_part(request, &old, new);
    Ok(Value::clone(&store.put(key, merged)))
}

fn patch(store: &mut Store, request: &Request, key: Key) -> Result<Value, Failure> {
    let patch = body(request)?;
    let kind = PatchKind::of(&request.content_type).ok_or_else(|| {
        let message = "415: Unsupported Media Type";
        Failure::plain(415, "UnsupportedMediaType", message)
    })?;
    let creates = kind == PatchKind::Apply && request.subresource.is_empty();
    let old = match store.get(&key) {
        Some(old) => Value::clone(&old),
        None if creates => json!({ "metadata": {} }),
        None => return Err(Failure::not_found(request)),
    };
    let mut new = old.clone();
    match kind {
        PatchKind::Merge => patch::merge(&mut new, &patch),
        PatchKind::Strategic => patch::strategic(&mut new, &patch),
        PatchKind::Apply => {
            let manager = request.parameter("fieldManager").filter(|manager| !manager.is_empty()).ok_or_else(|| {
                Failure::invalid("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch")
            })?;
            patch::apply(&mut new, &patch, &manager, &request.subresource);
        }
    }
    let merged = only_the_part(request, &old, new);
    Ok(Value::clone(&store.put(key, merged)))
}

/// For a node, `nodes/status` writes only the status, and `nodes` everything except the status.
fn only_the_part(request: &Request, old: &Value, new: Value) -> Value {
    let (mut result, status) = match (request.resource.as_str(), request.subresource.as_str()) {
        ("nodes", "status") => {
            let mut result = old.clone();
            if let Some(fields) = new["metadata"].get("managedFields") {
                result["metadata"]["managedFields"] = fields.clone();
            }
            (result, new.get("status").cloned())
        }
        ("nodes", _) => (new, old.get("status").cloned()),
        _ => return new,
    };
    if let Some(status) = status {
        result["status"] = status;
    }
    result
}

fn body(request: &Request) -> Result<Value, Failure> {
    let usable = |body: &&Value| body.is_object() && (body["metadata"].is_object() || body["metadata"].is_null());
    let message = "the object provided is unrecognized (must be of type map, with metadata that is a map)";
    request.body.as_ref().filter(usable).cloned().ok_or_else(|| Failure::bad_request(message))
}

/// The checks of `events.k8s.io/v1` for a new event.
fn check_event(event: &Value) -> Result<(), Failure> {
    let required = ["eventTime", "reportingController", "reportingInstance", "action", "reason"];
    let missing = required.into_iter().find(|field| event[*field].as_str().is_none_or(str::is_empty));
    let name = event["metadata"]["name"].as_str().unwrap_or_default();
    let invalid = |what: &str| Err(Failure::invalid(format!("Event \"{name}\" is invalid: {what}")));
    if let Some(field) = missing {
        return invalid(&format!("{field}: Required value"));
    }
    if event["note"].as_str().is_some_and(|note| note.len() > NOTE_MAX) {
        return invalid(&format!("message: Invalid value: \"\": can have at most {NOTE_MAX} characters"));
    }
    match event["type"].as_str() {
        Some("Normal" | "Warning") => Ok(()),
        _ => invalid("type: Invalid value: has an invalid value"),
    }
}
