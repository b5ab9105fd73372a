//! The correct answer to a GET: a collection, or a part of it.

use serde_json::{Value, json};

use crate::device::{Collection, Device};

/// The options of iControl REST in a query.
#[derive(Debug, Default)]
struct Query {
    partition: Option<String>,
    top: Option<usize>,
    skip: usize,
    expands: bool,
}

impl Query {
    fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "$filter" => parsed.partition = value.strip_prefix("partition eq ").map(str::to_owned),
                "$top" => parsed.top = value.parse().ok(),
                "$skip" => parsed.skip = value.parse().unwrap_or_default(),
                "expandSubcollections" => parsed.expands = value == "true",
                _ => {}
            }
        }
        parsed
    }
}

/// The status and the body.
pub(crate) fn answer(device: &Device, path: &str, query: &str) -> (u16, Value) {
    if path == "/mgmt/tm/sys/global-settings" {
        let mut settings = device.global_settings();
        settings["selfLink"] = self_link(device, path, "").into();
        return (200, settings);
    }
    let query = Query::parse(query);
    if let Some(collection) = device.collection(path) {
        return (200, page(device, path, &query, collection));
    }
    let Some((parent, name)) = path.strip_suffix("/records").unwrap_or(path).rsplit_once('/') else {
        return unknown(path);
    };
    let name = name.replace('~', "/");
    if path.ends_with("/records") && parent == "/mgmt/tm/net/fdb/tunnel" {
        return match device.records(&name) {
            Some(records) => (200, page(device, path, &query, records)),
            None => absent(&name),
        };
    }
    let object = device.collection(parent).and_then(|all| all.items.into_iter().find(|item| item["fullPath"] == name));
    match (object, device.collection(parent)) {
        (Some(object), _) => (200, object),
        (None, Some(_)) => absent(&name),
        (None, None) => unknown(path),
    }
}

/// One page of a collection. As in iControl, an empty collection has no `items`, and the numbers of pages are only in an answer that is one.
fn page(device: &Device, path: &str, query: &Query, collection: Collection) -> Value {
    let Collection { kind, mut items } = collection;
    if let Some(partition) = &query.partition {
        items.retain(|item| item["partition"] == **partition);
    }
    let total = items.len();
    let top = query.top.or(device.forced_page_size());
    let mut items: Vec<_> = items.into_iter().skip(query.skip).take(top.unwrap_or(usize::MAX)).collect();
    items.iter_mut().for_each(|item| link(device, path, query, item));
    let options = if query.expands { "&expandSubcollections=true" } else { "" };
    let mut answer = json!({ "kind": format!("{kind}collectionstate"), "selfLink": self_link(device, path, "") });
    if let Some(top) = top {
        answer["currentItemCount"] = items.len().into();
        answer["itemsPerPage"] = top.into();
        answer["pageIndex"] = (query.skip / top.max(1) + 1).into();
        answer["startIndex"] = (query.skip + 1).into();
        answer["totalItems"] = total.into();
        answer["totalPages"] = total.div_ceil(top.max(1)).into();
        let after = query.skip + items.len();
        if after < total {
            answer["nextLink"] = self_link(device, path, &format!("$top={top}&$skip={after}{options}&")).into();
        }
    }
    if !items.is_empty() {
        answer["items"] = items.into();
    }
    answer
}

/// Adds the links of an item, and its sub-collection if the query asks for that.
fn link(device: &Device, path: &str, query: &Query, item: &mut Value) {
    let name = item["fullPath"].as_str().unwrap_or_default().to_owned();
    let own = format!("{path}/{}", name.replace('/', "~"));
    item["selfLink"] = self_link(device, &own, "").into();
    if path != "/mgmt/tm/net/fdb/tunnel" {
        return;
    }
    let records = format!("{own}/records");
    let mut reference = json!({ "link": self_link(device, &records, ""), "isSubcollection": true });
    let found = device.records(&name).map(|records| records.items).unwrap_or_default();
    if query.expands && !found.is_empty() {
        reference["items"] = found.into();
    }
    item["recordsReference"] = reference;
}

/// BIG-IP calls itself `localhost` in links.
fn self_link(device: &Device, path: &str, options: &str) -> String {
    format!("https://localhost{path}?{options}ver={}", device.version())
}

fn absent(name: &str) -> (u16, Value) {
    let message = format!("01020036:3: The requested tunnel ({name}) was not found.");
    (404, json!({ "code": 404, "message": message, "errorStack": [], "apiError": 3 }))
}

fn unknown(path: &str) -> (u16, Value) {
    let message = format!("Found unexpected URI tmapi_mapper{}.", path.trim_start_matches("/mgmt/tm"));
    (404, json!({ "code": 404, "message": message, "errorStack": [], "apiError": 1 }))
}
