//! The answers of a BIG-IP's REST interface as one text.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::icontrol::Response;

/// One collection after the other, each with the items of all its pages: what was read of a collection is all of it. The text has a line for
/// each property, so that a finding can show it.
pub(super) fn text(responses: &[Response]) -> String {
    let mut whole: BTreeMap<&str, Value> = BTreeMap::new();
    for Response { url_path, body } in responses {
        // The client has parsed each body already.
        let Ok(mut page) = serde_json::from_str::<Value>(body) else { continue };
        if page.get("items").is_some() || page.get("kind").and_then(Value::as_str).is_some_and(is_collection) {
            page["selfLink"] = json!(format!("https://localhost{url_path}?expandSubcollections=true"));
            if let Some(page) = page.as_object_mut() {
                page.remove("nextLink");
            }
        }
        match whole.get_mut(url_path.as_str()) {
            Some(first) => add_items(first, page),
            None => drop(whole.insert(url_path, page)),
        }
    }
    let text = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    whole.values().map(text).collect::<Vec<_>>().join("\n")
}

fn is_collection(kind: &str) -> bool {
    kind.ends_with("collectionstate")
}

fn add_items(first: &mut Value, mut page: Value) {
    let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) else { return };
    match first.get_mut("items").and_then(Value::as_array_mut) {
        Some(items) => items.extend(more),
        None => first["items"] = Value::Array(more),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_collection_become_one() {
        let page = |name: &str, next: Option<&str>| {
            let mut body = json!({ "kind": "tm:net:self:selfcollectionstate", "items": [{ "name": name }] });
            if let Some(next) = next {
                body["nextLink"] = json!(next);
            }
            Response { url_path: "/mgmt/tm/net/self".to_owned(), body: body.to_string() }
        };
        let text = text(&[page("a", Some("https://localhost/mgmt/tm/net/self?$skip=1")), page("b", None)]);
        let value: Value = serde_json::from_str(&text).expect("one value");
        assert_eq!(value["items"], json!([{ "name": "a" }, { "name": "b" }]));
        assert_eq!(value.get("nextLink"), None);
    }
}
