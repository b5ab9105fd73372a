//! The two sources of a document, and which of them counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Instant,
};

use ipnet::Ipv4Net;

use super::{View, objects::had_objects};
use crate::{
    config::{
        Keys,
        document::Document,
        finding::{Finding, Rule},
        parse::{Parsed, parse, tokens},
        spec::{Spec, Vtep},
        surroundings::{Around, Surroundings},
        truth::{self, Signs, Truth},
        vtep_config::Resolved,
    },
    types::digest,
};

/// The keys whose place custom resources take.
const LISTS: [&str; 4] = ["vtep-endpoint", "vtep-cidr", "vtep-mac", "vtep-mask"];

/// What a document has, read without the needs of the node.
pub(super) struct Sources {
    pub(super) truth: Truth,
    pub(super) reason: &'static str,
    /// The objects, resolved for this node.
    pub(super) resolved: Resolved,
    pub(super) delivered: Option<Instant>,
    /// The keys as a Cilium reads them that takes its VTEPs from custom resources.
    pub(super) keys_without_lists: Keys,
    has_lists: bool,
    lists: Parsed,
}

impl Sources {
    pub(super) fn read(document: &Document, signs: Signs, previous: Option<&View>) -> Self {
        let (surroundings, standing) = (Surroundings::default(), BTreeSet::new());
        let around = Around { surroundings: &surroundings, standing: &standing };
        let objects = document.objects.as_ref();
        let resolved = objects.map(|objects| objects.resolve(around)).unwrap_or_default();
        let has_value = |key: &str| document.keys.get(key).is_some_and(|list| tokens(list).next().is_some());
        let has_lists = LISTS.iter().filter(|key| **key != "vtep-mask").any(|key| has_value(key));
        let sources = truth::Sources {
            lists: has_lists,
            objects: resolved.applies(),
            is_synced: resolved.is_synced(),
            had_objects: previous.is_some_and(had_objects),
        };
        let lists = parse(&document.keys);
        let (truth, reason) = match truth::decide(signs, sources) {
            (Truth::Configmap, _) if lists.elsewhere => {
                (Truth::None, "cilium-config has no VTEP lists, and no custom resource is known")
            }
            decided => decided,
        };
        let mut keys_without_lists = document.keys.clone();
        keys_without_lists.retain(|key, _| !LISTS.contains(&key.as_str()));
        let delivered = objects.and_then(|objects| objects.delivered);
        Self { truth, reason, resolved, delivered, keys_without_lists, has_lists, lists }
    }

    /// CIDR and endpoint of each VTEP that may take effect, whatever the node needs.
    pub(super) fn candidates(&self) -> Vec<(Ipv4Net, Ipv4Addr)> {
        if self.truth == Truth::Crd {
            return self.resolved.vteps.iter().map(|named| (named.vtep.cidr, named.vtep.endpoint)).collect();
        }
        let candidates = self.lists.lines.iter().filter_map(|line| line.cidr.zip(line.endpoint));
        candidates.filter(|(cidr, _)| cidr.netmask() == self.lists.mask).collect()
    }

    /// The CIDRs for which lists and objects have different values, while the lists are in effect: a controller may write the other value,
    /// so the agent writes none.
    pub(super) fn disputed(&self, spec: Option<&Spec>) -> BTreeSet<Ipv4Net> {
        let others: BTreeMap<_, _> = self.resolved.vteps.iter().map(|named| (named.vtep.cidr, named.vtep)).collect();
        let vteps = spec.into_iter().flat_map(|spec| &spec.vteps);
        let differs = |vtep: &&Vtep| match others.get(&vtep.cidr) {
            Some(other) => other != *vtep,
            None => self.resolved.mentioned.contains(&vtep.cidr),
        };
        vteps.filter(differs).map(|vtep| vtep.cidr).collect()
    }

    /// The warning that both sources are there.
    pub(super) fn both(&self) -> Option<Finding> {
        if !self.has_lists || !self.resolved.applies() {
            return None;
        }
        let named: Vec<_> =
            self.resolved.objects.iter().filter(|object| object.applies).map(|o| o.name.as_str()).collect();
        let named = if named.is_empty() { "custom resources".to_owned() } else { named.join(" and ") };
        let (in_force, other) = match self.truth {
            Truth::Crd => (named.as_str(), "the lists in cilium-config have no effect"),
            Truth::Configmap | Truth::None => {
                ("the lists in cilium-config", "the custom resources have no effect here")
            }
        };
        let problem = format!(
            "cilium-config has VTEP lists, and {named} has VTEPs for this node: {in_force} counts, because {}",
            self.reason.trim_start_matches("because ")
        );
        let remedy = format!(
            "remove one of the two; until then {other}, and where both have a value for a network and the values \
                              differ, the agent writes none"
        );
        Some(Finding::new(Rule::VtepSourcesBoth, "vtep-endpoint", None, None, problem, remedy))
    }

    /// The same on every node that sees the same keys, and has the same VTEPs from objects.
    pub(super) fn hash(&self, document: &Document) -> String {
        let keys = document.keys.iter().flat_map(|(key, value)| [key.clone(), value.clone()]);
        let objects = self.resolved.vteps.iter().flat_map(|named| {
            let Vtep { cidr, endpoint, mac } = named.vtep;
            [named.name.clone(), cidr.to_string(), endpoint.to_string(), mac.to_string()]
        });
        let parts: Vec<String> = keys.chain(objects).collect();
        let mut hash = digest::hex_of_parts(parts.iter().map(String::as_str));
        hash.truncate(12);
        hash
    }
}
