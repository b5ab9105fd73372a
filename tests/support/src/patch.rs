//! Patches: JSON merge patch, strategic merge patch and server-side apply, limited to the needs of nodes, events and ConfigMaps.

use serde_json::{Map, Value, json};

/// The kind of patch by its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Merge,
    Strategic,
    Apply,
}

impl PatchKind {
    pub(crate) fn of(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::Apply),
            _ => None,
        }
    }
}

/// RFC 7386.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        target.clone_from(patch);
        return;
    };
    for (key, value) in patch {
        let fields = map(target);
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// A merge that retains those members of keyed lists that the patch does not name.
pub(crate) fn strategic(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        target.clone_from(patch);
        return;
    };
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        let fields = map(target);
        if value.is_null() {
            fields.remove(key);
            continue;
        }
        let field = fields.entry(key.as_str()).or_insert(Value::Null);
        match (list_key(key), value.as_array()) {
            (Some(list_key), Some(members)) => merge_list(field, members, list_key),
            _ => strategic(field, value),
        }
    }
}

/// Server-side apply without conflicts: removes conditions that the manager owned and no longer names, merges the rest, and records the
/// new ownership in `managedFields`.
pub(crate) fn apply(target: &mut Value, patch: &Value, manager: &str, subresource: &str) {
    let mut patch = patch.clone();
    if let Some(metadata) = patch["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    let owned = owned_fields(&patch);
    let mut entries = target["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let before = entries.iter().position(|entry| entry["manager"] == manager && entry["subresource"] == subresource);
    if let Some(before) = before.map(|index| entries.remove(index)) {
        release(target, &before["fieldsV1"], &owned);
    }
    strategic(target, &patch);
    entries.push(json!({
        "manager": manager, "operation": "Apply", "apiVersion": patch["apiVersion"], "subresource": subresource,
        "fieldsType": "FieldsV1", "fieldsV1": owned,
    }));
    target["metadata"]["managedFields"] = Value::Array(entries);
}

/// Removes conditions that the manager owned before but not now.
fn release(target: &mut Value, before: &Value, now: &Value) {
    let types = |fields: &Value| -> Vec<String> {
        fields["f:status"]["f:conditions"].as_object().map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
    };
    let kept = types(now);
    let gone: Vec<_> = types(before).into_iter().filter(|key| !kept.contains(key)).collect();
    if let Some(conditions) = target["status"]["conditions"].as_array_mut() {
        conditions.retain(|condition| !gone.contains(&member_key("type", condition)));
    }
}

/// The fields of a patch in the form of `FieldsV1`.
fn owned_fields(patch: &Value) -> Value {
    let Some(fields) = patch.as_object() else { return json!({}) };
    let mut owned = Map::new();
    for (key, value) in fields.iter().filter(|(key, _)| !["apiVersion", "kind", "metadata"].contains(&key.as_str())) {
        let inner = match (list_key(key), value.as_array()) {
            (Some(list_key), Some(members)) => {
                members.iter().map(|member| (member_key(list_key, member), owned_fields(member))).collect()
            }
            _ => owned_fields(value),
        };
        owned.insert(format!("f:{key}"), inner);
    }
    Value::Object(owned)
}

fn member_key(list_key: &str, member: &Value) -> String {
    format!("k:{{\"{list_key}\":{}}}", member[list_key])
}

/// The field that identifies a member of a list.
fn list_key(list: &str) -> Option<&'static str> {
    match list {
        "conditions" | "addresses" => Some("type"),
        "taints" => Some("key"),
        _ => None,
    }
}

fn merge_list(target: &mut Value, members: &[Value], key: &str) {
    let mut list = target.as_array().cloned().unwrap_or_default();
    for member in members {
        match list.iter_mut().find(|present| present[key] == member[key]) {
            Some(present) => strategic(present, member),
            None => list.push(member.clone()),
        }
    }
    *target = Value::Array(list);
}

/// Turns the value into a map if it is not one, and returns it.
fn map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            unreachable!("it was made a map just above")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{apply, merge};

    #[test]
    fn merge_replaces_lists_and_removes_nulls() {
        let mut target = json!({ "a": { "b": 1, "c": 2 }, "d": [1, 2] });
        merge(&mut target, &json!({ "a": { "b": null, "e": 3 }, "d": [3] }));
        assert_eq!(target, json!({ "a": { "c": 2, "e": 3 }, "d": [3] }));
    }

    #[test]
    fn apply_owns_its_conditions_only() {
        let ready = json!({ "type": "Ready", "status": "True" });
        let mut node = json!({ "metadata": { "name": "a" }, "status": { "conditions": [ready] } });
        let ours = json!({ "status": { "conditions": [{ "type": "Ours", "status": "False" }] } });
        apply(&mut node, &ours, "agent", "status");
        assert_eq!(node["status"]["conditions"].as_array().map(Vec::len), Some(2));
        apply(&mut node, &json!({ "status": {} }), "agent", "status");
        assert_eq!(node["status"]["conditions"], json!([ready]));
    }
}
