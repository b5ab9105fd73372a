//! What the schemas of the objects want, and the resolution for a node does not need: the API server refuses an object without it. Only for
//! objects that the API server has not seen.

use super::{Schema, VtepConfig};
use crate::config::{
    finding::{Finding, Rule},
    parse::values::quote,
};

/// Letters of a name (RFC 1123, as in the schema).
const MAX_NAME: usize = 63;

/// Why the API server refuses this object.
#[must_use]
pub fn refusals(object: &VtepConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut refuse = |key: String, value: Option<&str>, problem: String, remedy: String| {
        let problem = format!("{problem}, and the API server refuses the object");
        findings.push(Finding::new(Rule::VtepConfigRefused, &key, None, value, problem, remedy));
    };
    let (list, version) = (object.schema.list(), object.version.as_str());
    let other = [(Schema::V2, "v2"), (Schema::V2alpha1, "v2alpha1")].into_iter().find(|(_, of)| *of == version);
    if let Some((schema, _)) = other.filter(|(schema, _)| *schema != object.schema) {
        let key = format!("{} spec.{list}", object.path());
        refuse(key, None, format!("cilium.io/{version} has no {list}"), format!("write {}", schema.list()));
    }
    for (index, endpoint) in object.endpoints.iter().enumerate() {
        let name = endpoint.name.as_deref();
        let is_taken =
            |name: &str| object.endpoints.iter().take(index).any(|other| other.name.as_deref() == Some(name));
        let problem = match name {
            None => Some("the endpoint has no name".to_owned()),
            Some(name) if !is_label(name) => Some(format!("{} is no name of a-z, 0-9 and dashes", quote(name))),
            Some(name) if is_taken(name) => Some(format!("another endpoint has the name {} as well", quote(name))),
            Some(_) => None,
        };
        if let Some(problem) = problem {
            refuse(object.field(index, "name"), name, problem, "write a name that no other endpoint has".to_owned());
        }
        if let Some(mac) = endpoint.mac.as_deref().filter(|mac| mac.split(':').count() != 6)
            && let Ok(read) = mac.parse::<crate::types::mac::Mac>()
        {
            let problem = format!("{} has no colons", quote(mac));
            refuse(object.field(index, "mac"), Some(mac), problem, format!("write {read}"));
        }
    }
    findings
}

/// Whether the name is a DNS label.
fn is_label(name: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let mut ends = name.chars();
    let first = ends.next();
    name.len() <= MAX_NAME && is_end(first) && is_end(ends.next_back().or(first)) && name.chars().all(is_inside)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::Kind, *};

    fn refused(version: &str, list: &str, endpoints: &serde_json::Value) -> Vec<String> {
        let object = json!({ "apiVersion": format!("cilium.io/{version}"), "metadata": { "name": "x" }, "spec": { list: endpoints } });
        let object = VtepConfig::read(Kind::Config, &object).expect("an object");
        refusals(&object).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn what_the_schema_wants() {
        let endpoint = |name: &str, mac: &str| json!({ "name": name, "tunnelEndpoint": "10.0.0.1", "cidr": "10.1.6.0/24", "mac": mac });
        let (good, mac) = (endpoint("gateway-1", "00:50:56:a0:7d:d8"), "00:50:56:a0:7d:d8");
        assert!(refused("v2", "endpoints", &json!([good])).is_empty());
        assert!(refused("v2alpha1", "vtepEndpoints", &json!([good, endpoint("b", "garbage")])).is_empty());
        let cases = [
            ("v2", "vtepEndpoints", json!([good]), "spec.vtepEndpoints: cilium.io/v2 has no vtepEndpoints"),
            ("v2", "endpoints", json!([{ "mac": mac }]), "spec.endpoints[0].name: the endpoint has no name"),
            ("v2", "endpoints", json!([endpoint("Bad_Name", mac)]), "is no name of a-z"),
            ("v2", "endpoints", json!([endpoint("-a", mac)]), "is no name of a-z"),
            ("v2", "endpoints", json!([good, good]), "spec.endpoints[1].name: another endpoint has the name"),
            ("v2", "endpoints", json!([endpoint("a", "82-36-0a-14-01-10")]), "write 82:36:0a:14:01:10"),
        ];
        for (version, list, endpoints, words) in cases {
            let found = refused(version, list, &endpoints);
            assert!(matches!(found.as_slice(), [message] if message.contains(words)), "{endpoints}: {found:?}");
        }
    }
}
