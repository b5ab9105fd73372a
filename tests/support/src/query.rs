//! The query parameters of lists and watches.

use std::{collections::BTreeMap, time::Duration};

use crate::{record::Request, resource::Resource, status::Failure, store::Selection};

/// The duration of a watch without `timeoutSeconds`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);

/// The duration of a watch.
pub(crate) fn timeout(request: &Request) -> Duration {
    let seconds = request.parameter("timeoutSeconds").and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0);
    seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs)
}

/// The version after which a watch sends changes; `None` means that it first sends the present objects.
pub(crate) fn start_version(request: &Request) -> Result<Option<u64>, Failure> {
    let text = request.parameter("resourceVersion").unwrap_or_default();
    match text.as_str() {
        "" | "0" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| {
            let error = format!("strconv.ParseUint: parsing \"{text}\": invalid syntax");
            Failure::plain(500, "", format!("resourceVersion: Invalid value: \"{text}\": {error}"))
        }),
    }
}

/// Whether the query requests a streaming list. The real server requires the other two parameters with it.
pub(crate) fn initial_events(request: &Request) -> Result<bool, Failure> {
    let wanted = request.flag("sendInitialEvents");
    let complete = request.flag("allowWatchBookmarks")
        && request.parameter("resourceVersionMatch").is_some_and(|text| text == "NotOlderThan");
    if wanted && !complete {
        let message =
            "sendInitialEvents: Forbidden: needs allowWatchBookmarks=true and resourceVersionMatch=NotOlderThan";
        return Err(Failure::invalid(message));
    }
    Ok(wanted)
}

/// The refusal of a version that is too old.
pub(crate) fn too_old_version(version: Option<u64>) -> Failure {
    Failure::expired(&format!("too old resource version: {}", version.unwrap_or_default()))
}

/// The selection of a list or a watch.
pub(crate) fn selection(request: &Request, resource: Resource) -> Result<Selection, Failure> {
    let labels = labels(request)?;
    let fields = field_selector(request).map_err(Failure::bad_request)?;
    let namespace = Some(request.namespace.clone()).filter(|namespace| !namespace.is_empty()).or(fields.namespace);
    Ok(Selection { resource, version: request.version.clone(), namespace, name: fields.name, labels })
}

/// The required labels; the server supports only equality.
fn labels(request: &Request) -> Result<BTreeMap<String, String>, Failure> {
    let text = request.parameter("labelSelector").unwrap_or_default();
    let terms = text.split(',').filter(|term| !term.is_empty());
    let equality = |term: &str| match term.split_once('=') {
        Some((key, value)) if !key.contains(['!', ' ', '(']) => {
            Ok((key.to_owned(), value.strip_prefix('=').unwrap_or(value).to_owned()))
        }
        Some(_) | None => {
            Err(Failure::bad_request(format!("this server knows label selectors by equality alone: {term}")))
        }
    };
    terms.map(equality).collect()
}

/// The name in a field selector. `Err` has a selector that the server does not support.
pub(crate) fn field_selector(request: &Request) -> Result<FieldSelector, String> {
    let mut selector = FieldSelector::default();
    let text = request.parameter("fieldSelector").unwrap_or_default();
    for term in text.split(',').filter(|term| !term.is_empty()) {
        match term.split_once('=').map(|(key, value)| (key, value.strip_prefix('=').unwrap_or(value))) {
            Some(("metadata.name", value)) => selector.name = Some(value.to_owned()),
            Some(("metadata.namespace", value)) => selector.namespace = Some(value.to_owned()),
            Some(_) | None => return Err(format!("field label not supported: {term}")),
        }
    }
    Ok(selector)
}

/// The field and the value of a selector.
#[derive(Debug, Default)]
pub(crate) struct FieldSelector {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
}
