//! Questions whose answers a real API server gave (`tests/fixtures/api-server.json`), so that this one answers like it.
//!
//! `make test-cluster` asks a real server, and fails if the record is out of date; with `UPDATE_RECORD=1` it writes the record. The tests of
//! this crate ask this server, and need no Kubernetes.

use serde_json::{Map, Value, json};

/// Who asks in the record, in place of the name that a server knows.
const USER: &str = "USER";

/// One request.
#[derive(Debug)]
pub struct Question {
    /// Its name in the record.
    pub what: &'static str,
    pub method: &'static str,
    pub path: &'static str,
    /// The content type of the body; without a body, empty.
    pub content_type: &'static str,
    pub body: Option<Value>,
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const CONFIG_MAPS: &str = "/api/v1/namespaces/kube-system/configmaps";
const CILIUM_CONFIG: &str = "/api/v1/namespaces/kube-system/configmaps/cilium-config";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

/// The questions, in their order: later ones see what earlier ones wrote. They are one list, so that a reader sees this order.
#[must_use]
pub fn questions() -> Vec<Question> {
    let at = json!({ "eventTime": "2026-01-01T00:00:00.000000Z" });
    let series = json!({ "series": { "count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z" } });
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "worker-1" } });
    vec![
        read("a ConfigMap that does not exist", CILIUM_CONFIG),
        write("a ConfigMap is created", "POST", CONFIG_MAPS, JSON, config_map("true")),
        write("the same again", "POST", CONFIG_MAPS, JSON, config_map("true")),
        read("the ConfigMap", CILIUM_CONFIG),
        read(
            "a list of one name",
            "/api/v1/namespaces/kube-system/configmaps?fieldSelector=metadata.name%3Dcilium-config",
        ),
        read(
            "a watch of one name that begins with the present state",
            "/api/v1/namespaces/kube-system/configmaps?watch=true&fieldSelector=metadata.name%3Dcilium-config&timeoutSeconds=1",
        ),
        read(
            "a watch from a version that is no number",
            "/api/v1/namespaces/kube-system/configmaps?watch=true&resourceVersion=x&timeoutSeconds=1",
        ),
        write("a patch", "PATCH", CILIUM_CONFIG, MERGE, json!({ "data": { "enable-vtep": "false" } })),
        write("a patch of an unknown kind", "PATCH", CILIUM_CONFIG, "text/plain", json!({})),
        write(
            "a patch of nothing",
            "PATCH",
            "/api/v1/namespaces/kube-system/configmaps/none",
            MERGE,
            json!({ "data": {} }),
        ),
        read("a resource that is not served", "/apis/cilium.io/v2/ciliumvtepconfigs"),
        read("an object of it", "/apis/cilium.io/v2alpha1/ciliumvtepnodeconfigs/worker-1"),
        read("a group that is not served", "/apis/example.com/v1"),
        read("a Node that does not exist", "/api/v1/nodes/worker-1"),
        write("a Node is created", "POST", "/api/v1/nodes", JSON, node),
        write(
            "its condition, by server-side apply",
            "PATCH",
            "/api/v1/nodes/worker-1/status?fieldManager=vtep-agent&force=true",
            "application/apply-patch+yaml",
            condition(),
        ),
        write("an Event without a time", "POST", EVENTS, JSON, event("a", json!({}))),
        write("an Event", "POST", EVENTS, JSON, event("a", at.clone())),
        write("an Event whose note is too long", "POST", EVENTS, JSON, {
            let mut long = event("b", at.clone());
            long["note"] = "x".repeat(1025).into();
            long
        }),
        write("its repetition", "PATCH", "/apis/events.k8s.io/v1/namespaces/default/events/a", MERGE, series),
        write(
            "a repetition of nothing",
            "PATCH",
            "/apis/events.k8s.io/v1/namespaces/default/events/none",
            MERGE,
            json!({}),
        ),
        read(
            "the EndpointSlices of a Service that does not exist",
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dnone",
        ),
        write("the ConfigMap is deleted", "DELETE", CILIUM_CONFIG, "", Value::Null),
        read("it is gone", CILIUM_CONFIG),
        read("whether the server is ready", "/readyz"),
    ]
}

fn read(what: &'static str, path: &'static str) -> Question {
    Question { what, method: "GET", path, content_type: "", body: None }
}

fn write(
    what: &'static str,
    method: &'static str,
    path: &'static str,
    content_type: &'static str,
    body: Value,
) -> Question {
    Question { what, method, path, content_type, body: Some(body) }
}

fn config_map(value: &str) -> Value {
    let metadata = json!({ "name": "cilium-config", "namespace": "kube-system" });
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "enable-vtep": value } })
}

fn event(name: &str, extra: Value) -> Value {
    let mut event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": { "name": name, "namespace": "default" },
        "action": "Diagnose", "reason": "WrongVni", "type": "Warning", "note": "a note",
        "reportingController": "vtep-agent", "reportingInstance": "vtep-agent-worker-1",
        "regarding": { "apiVersion": "v1", "kind": "Node", "name": "worker-1" },
    });
    for (key, value) in extra.as_object().into_iter().flatten() {
        event[key] = value.clone();
    }
    event
}

fn condition() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "worker-1" },
        "status": { "conditions": [{
            "type": "VtepTunnelsHealthy", "status": "True", "reason": "TunnelsHealthy", "message": "2 VTEPs are healthy",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] },
    })
}

/// An answer without what differs from one server to another: versions, times, identities, owners of fields, defaults of fields that nobody
/// reads. `user` is the name of who asked.
#[must_use]
pub fn reduced(code: u16, body: &str, user: &str) -> Value {
    let lines: Vec<_> = body.lines().map(serde_json::from_str::<Value>).collect::<Result<_, _>>().unwrap_or_default();
    let body = match &lines[..] {
        [] => Value::from(body.trim_end()),
        [one] if one["object"].is_null() => reduce(one, user),
        events => events.iter().map(|event| reduce(event, user)).collect(),
    };
    json!({ "code": code, "body": body })
}

/// The fields of objects, of lists, of a `Status` and of a watch event that clients of this server read.
const KEPT: [&str; 20] = [
    "apiVersion",
    "kind",
    "metadata",
    "name",
    "namespace",
    "data",
    "items",
    "object",
    "type",
    "reason",
    "note",
    "action",
    "series",
    "count",
    "status",
    "conditions",
    "code",
    "regarding",
    "message",
    "details",
];

fn reduce(value: &Value, user: &str) -> Value {
    match value {
        Value::Object(fields) => {
            let is_status = fields.get("kind").is_some_and(|kind| kind == "Status");
            let kept = fields.iter().filter(|(key, _)| KEPT.contains(&key.as_str()));
            let is_dropped = |key: &str, value| (is_status && key == "details") || is_default(key, value);
            let kept = kept.filter(|(key, value)| !is_dropped(key, value));
            kept.map(|(key, value)| match key.as_str() {
                "data" => (key.clone(), value.clone()),
                _ => (key.clone(), reduce(value, user)),
            })
            .collect::<Map<_, _>>()
            .into()
        }
        Value::Array(values) => values.iter().map(|value| reduce(value, user)).collect(),
        Value::String(text) => Value::from(text.replace(user, USER)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// A Node's status has fields that the server fills in.
fn is_default(key: &str, value: &Value) -> bool {
    key == "status" && value.is_object() && value["conditions"].is_null()
}
