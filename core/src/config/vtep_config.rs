//! VTEPs from custom resources: reads the objects, and resolves them for one node.
//!
//! Two schemas exist. EKS's builds of Cilium serve `CiliumVTEPConfig` as `cilium.io/v2`: one mask for all of an object, and no selector.
//! Upstream (cilium/cilium #46602) has `cilium.io/v2alpha1`: a prefix length for each CIDR, a node selector, and a `CiliumVTEPNodeConfig` with
//! the result for each node. This module decides nothing about the source in effect, and never panics on an object of a third schema.

mod resolve;
mod schema;
#[cfg(test)]
mod tests;

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    finding::{Finding, Rule},
    selector::{Labels, Selector},
};

pub use self::{
    resolve::{NamedVtep, Resolved, resolve},
    schema::refusals,
};

/// All objects of a cluster that may concern a node, and what decides which of them do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Each as read, or why it cannot be.
    pub all: Vec<Result<VtepConfig, Box<Finding>>>,
    /// The node's name.
    pub node: String,
    pub labels: Labels,
    /// When the API server last delivered them or a change of them. `None`: they come from a file.
    pub delivered: Option<Instant>,
}

/// An object as the API server or a manifest gives it. Its values are text that nobody has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VtepConfig {
    pub kind: Kind,
    pub name: String,
    /// The version of its API, e.g. `v2`.
    pub version: String,
    pub schema: Schema,
    /// `None` selects every node; an error is why the selector cannot be read.
    pub selector: Result<Option<Selector>, String>,
    /// `spec.cidrMask`, only in [`Schema::V2`].
    pub mask: Option<String>,
    pub endpoints: Vec<Endpoint>,
    /// The condition `Ready` of the object's status; `None` if Cilium has not written it.
    pub ready: Option<bool>,
    /// What the object's status reports as not synced.
    pub unsynced: Vec<Unsynced>,
}

/// An object in `/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectStatus {
    /// Kind and name, e.g. `CiliumVTEPConfig/hybrid-gateway`.
    pub name: String,
    /// The version of its API, e.g. `v2`.
    pub version: String,
    /// It is for this node.
    pub applies: bool,
    /// Cilium reports that it has synced it; `null` if it reports nothing.
    pub synced: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `CiliumVTEPConfig`, for every node that it selects.
    Config,
    /// `CiliumVTEPNodeConfig`, named after the node that it is for.
    NodeConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// EKS's builds: `spec.endpoints`, `spec.cidrMask`.
    V2,
    /// Upstream: `spec.vtepEndpoints`, `spec.nodeSelector`.
    V2alpha1,
}

/// One endpoint of an object; a field that it lacks is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    pub name: Option<String>,
    pub tunnel_endpoint: Option<String>,
    pub cidr: Option<String>,
    pub mac: Option<String>,
}

/// A part of an object that Cilium has not synced to its map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsynced {
    /// A path in the object, e.g. `status.conditions[Ready]`.
    pub path: String,
    /// Cilium's own words, or that it gives none.
    pub reason: String,
}

impl Kind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "CiliumVTEPConfig",
            Self::NodeConfig => "CiliumVTEPNodeConfig",
        }
    }

    /// The kind of a manifest, if it is one of these.
    #[must_use]
    pub fn of(kind: &str) -> Option<Self> {
        [Self::Config, Self::NodeConfig].into_iter().find(|known| known.name() == kind)
    }
}

impl Schema {
    /// The name of the list of endpoints in `spec`.
    #[must_use]
    pub const fn list(self) -> &'static str {
        match self {
            Self::V2 => "endpoints",
            Self::V2alpha1 => "vtepEndpoints",
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    message: String,
}

/// An element of `status.endpointStatuses` or `status.vtepEndpointStatuses`. Cilium leaves out what is false or empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EndpointStatus {
    name: String,
    synced: bool,
    error: String,
}

impl VtepConfig {
    /// Reads an object of this kind.
    ///
    /// # Errors
    ///
    /// Its `spec` has neither of the known lists of endpoints: the schema is unknown, and the object has no effect.
    pub fn read(kind: Kind, object: &Value) -> Result<Self, Box<Finding>> {
        let name = object["metadata"]["name"].as_str().unwrap_or("without a name").to_owned();
        let spec = &object["spec"];
        let schemas = [Schema::V2alpha1, Schema::V2];
        let known = schemas.iter().find_map(|schema| Some((*schema, spec[schema.list()].as_array()?.as_slice())));
        // Cilium's operator leaves out the list of a node for which nothing is in force.
        let is_empty = kind == Kind::NodeConfig && spec.as_object().is_some_and(serde_json::Map::is_empty);
        let Some((schema, list)) = known.or(is_empty.then_some((Schema::V2alpha1, &[][..]))) else {
            let version = object["apiVersion"].as_str().unwrap_or("without an apiVersion");
            let key = format!("{}/{name} spec", kind.name());
            let problem = format!("it has neither vtepEndpoints nor endpoints ({version}), so its schema is unknown");
            let remedy = "write it as cilium.io/v2 or cilium.io/v2alpha1 define it; until then it has no effect";
            return Err(Box::new(Finding::new(Rule::VtepListEmpty, &key, None, None, problem, remedy)));
        };
        let selector = Some(&spec["nodeSelector"]).filter(|selector| !selector.is_null());
        let selector = selector.map(Selector::deserialize).transpose().map_err(|error| error.to_string());
        let mask = spec["cidrMask"].as_str().filter(|_| schema == Schema::V2).map(str::to_owned);
        let endpoints = list.iter().map(Endpoint::read).collect();
        let version = object["apiVersion"].as_str().and_then(|version| version.rsplit('/').next());
        let version = version.unwrap_or_default().to_owned();
        let (ready, unsynced) = (ready(&object["status"]), unsynced(&object["status"]));
        Ok(Self { kind, name, version, schema, selector, mask, endpoints, ready, unsynced })
    }

    /// The object in findings, e.g. `CiliumVTEPConfig/hybrid-gateway`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.kind.name(), self.name)
    }

    /// A field of an endpoint in findings, e.g. `CiliumVTEPConfig/hybrid-gateway spec.endpoints[0].cidr`.
    fn field(&self, index: usize, field: &str) -> String {
        format!("{} spec.{}[{index}].{field}", self.path(), self.schema.list())
    }
}

impl Endpoint {
    fn read(endpoint: &Value) -> Self {
        let text = |field: &str| endpoint[field].as_str().map(str::to_owned);
        Self { name: text("name"), tunnel_endpoint: text("tunnelEndpoint"), cidr: text("cidr"), mac: text("mac") }
    }
}

/// The conditions that can be read.
fn conditions(status: &Value) -> impl Iterator<Item = Condition> {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.filter_map(|condition| Condition::deserialize(condition).ok())
}

fn ready(status: &Value) -> Option<bool> {
    let ready = conditions(status).find(|condition| condition.kind == "Ready")?;
    match ready.status.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

/// An element of the status that cannot be read reports nothing.
fn unsynced(status: &Value) -> Vec<Unsynced> {
    let words = |text: String| if text.is_empty() { "Cilium gives no reason".to_owned() } else { text };
    let ready = conditions(status).filter(|condition| condition.kind == "Ready" && condition.status == "False");
    let ready = ready.map(|Condition { kind, message, .. }| Unsynced {
        path: format!("status.conditions[{kind}]"),
        reason: words(message),
    });
    let lists = ["endpointStatuses", "vtepEndpointStatuses"];
    let endpoints = lists.into_iter().flat_map(|list| {
        let statuses = status[list].as_array().into_iter().flatten();
        let statuses = statuses.filter_map(|status| EndpointStatus::deserialize(status).ok());
        statuses.filter(|status| !status.synced).map(move |EndpointStatus { name, error, .. }| Unsynced {
            path: format!("status.{list}[{name}]"),
            reason: words(error),
        })
    });
    ready.chain(endpoints).collect()
}
