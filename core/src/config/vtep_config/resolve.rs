//! Which VTEPs the objects give one node, and what is wrong with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::{Ipv4Net, ipv4_mask_to_prefix};

use super::{Endpoint, Kind, ObjectStatus, Objects, Schema, VtepConfig};
use crate::config::{
    finding::{Finding, Rule, Scope},
    parse::{
        Complaint, DEFAULT_MASK, overlaps, sort,
        values::{self, FarEnd},
    },
    selector::Labels,
    spec::{MAX_VTEPS, Vtep},
    surroundings::Around,
};

/// A VTEP with its name in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedVtep {
    /// The endpoint's name, e.g. `vpc-gateway`.
    pub name: String,
    /// The object that has it, e.g. `CiliumVTEPConfig/hybrid-gateway`.
    pub object: String,
    pub vtep: Vtep,
    /// Cilium on this node does not know it yet: upstream's operator has not written it into the node's `CiliumVTEPNodeConfig`.
    pub is_expected: bool,
}

/// What the objects say for one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// By name, at most [`MAX_VTEPS`].
    pub vteps: Vec<NamedVtep>,
    /// Every CIDR that an object for this node mentions, also in an endpoint with an error.
    pub mentioned: BTreeSet<Ipv4Net>,
    /// CIDRs that several objects claim: none of them is in force.
    pub conflicts: BTreeSet<Ipv4Net>,
    /// The mask that all CIDRs have; `None` if each has a prefix length of its own.
    pub mask: Option<Ipv4Addr>,
    /// An object may be for this node, and cannot be read: what it would give is unknown.
    pub is_partial: bool,
    /// All objects, also those for other nodes.
    pub objects: Vec<ObjectStatus>,
    pub findings: Vec<Finding>,
}

impl Resolved {
    /// An object is for this node, or may be.
    #[must_use]
    pub fn applies(&self) -> bool {
        self.is_partial || self.objects.iter().any(|object| object.applies)
    }

    /// An object for this node says that Cilium has synced it.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.objects.iter().any(|object| object.applies && object.synced == Some(true))
    }
}

impl Objects {
    /// Resolves the objects for their node.
    #[must_use]
    pub fn resolve(&self, around: Around<'_>) -> Resolved {
        let Self { all, node, labels, delivered: _ } = self;
        let readable: Vec<_> = all.iter().filter_map(|object| object.as_ref().ok()).cloned().collect();
        let mut resolved = resolve(&readable, node, labels, around);
        let unreadable = all.iter().filter_map(|object| object.as_ref().err());
        resolved.findings.extend(unreadable.map(|finding| Finding::clone(finding)));
        resolved.is_partial |= readable.len() < all.len();
        sort(&mut resolved.findings);
        resolved
    }
}

/// Resolves the objects for the node of this name with these labels. The node's own `CiliumVTEPNodeConfig` takes the place of all others.
#[must_use]
pub fn resolve(objects: &[VtepConfig], node: &str, labels: &Labels, around: Around<'_>) -> Resolved {
    let mut resolved = Resolved::default();
    let selected = select(objects, node, labels, &mut resolved);
    resolved.objects = objects.iter().map(|object| status(object, &selected)).collect();
    let mut candidates = Vec::new();
    let mut masks = BTreeSet::new();
    for object in &selected {
        resolved.findings.extend(object.unsynced.iter().map(|unsynced| {
            let key = format!("{} {}", object.path(), unsynced.path);
            let problem = format!("Cilium reports that it is not synced: {}", unsynced.reason);
            Finding::new(Rule::VtepConfigNotSynced, &key, None, None, problem, "look at Cilium's log on this node")
        }));
        let mask = mask(object, &mut resolved.findings);
        masks.insert(mask);
        let read =
            object.endpoints.iter().enumerate().map(|(index, endpoint)| Candidate::read(object, index, endpoint, mask));
        candidates.extend(read);
    }
    resolved.mask = masks.first().filter(|_| masks.len() == 1).copied().flatten().map(values::netmask);
    resolved.mentioned = candidates.iter().filter_map(|candidate| candidate.cidr).collect();
    resolved.conflicts = conflicts(&mut candidates);
    loops(&mut candidates);
    candidates.iter_mut().for_each(|candidate| candidate.compare(around));
    resolved.settle(candidates);
    sort(&mut resolved.findings);
    resolved
}

fn status(object: &VtepConfig, selected: &[&VtepConfig]) -> ObjectStatus {
    let synced = object.ready.map(|ready| ready && object.unsynced.is_empty());
    let applies = selected.iter().any(|selected| std::ptr::eq(*selected, object));
    ObjectStatus { name: object.path(), version: object.version.clone(), applies, synced }
}

/// The objects for this node.
fn select<'o>(objects: &'o [VtepConfig], node: &str, labels: &Labels, resolved: &mut Resolved) -> Vec<&'o VtepConfig> {
    if let Some(own) = objects.iter().find(|object| object.kind == Kind::NodeConfig && object.name == node) {
        return vec![own];
    }
    let mut selected = Vec::new();
    for object in objects.iter().filter(|object| object.kind == Kind::Config) {
        match &object.selector {
            Ok(selector) if selector.as_ref().is_none_or(|selector| selector.matches(labels)) => selected.push(object),
            Ok(_) => {}
            Err(error) => {
                resolved.is_partial = true;
                let key = format!("{} spec.nodeSelector", object.path());
                let problem = format!("the selector cannot be read: {error}");
                let remedy = "write matchLabels or matchExpressions with In, NotIn, Exists or DoesNotExist; until then this object has no \
                              effect, and nothing is removed";
                resolved.findings.push(Finding::new(
                    Rule::VtepConfigSelectorInvalid,
                    &key,
                    None,
                    None,
                    problem,
                    remedy,
                ));
            }
        }
    }
    selected
}

/// The prefix length that every CIDR of the object must have; `None` if each has its own.
fn mask(object: &VtepConfig, findings: &mut Vec<Finding>) -> Option<u8> {
    if object.schema == Schema::V2alpha1 {
        return None;
    }
    let mask = match &object.mask {
        None => DEFAULT_MASK,
        Some(text) => values::mask(text, DEFAULT_MASK).unwrap_or_else(|complaint| {
            findings.push(complaint.about(&format!("{} spec.cidrMask", object.path()), None, text));
            DEFAULT_MASK
        }),
    };
    ipv4_mask_to_prefix(mask).ok()
}

/// An endpoint of an object on its way to a VTEP.
struct Candidate<'o> {
    object: &'o VtepConfig,
    index: usize,
    endpoint: &'o Endpoint,
    cidr: Option<Ipv4Net>,
    address: Option<Ipv4Addr>,
    vtep: Option<Vtep>,
    findings: Vec<Finding>,
}

impl<'o> Candidate<'o> {
    fn read(object: &'o VtepConfig, index: usize, endpoint: &'o Endpoint, mask: Option<u8>) -> Self {
        let (cidr, address, vtep, findings) = (None, None, None, Vec::new());
        let mut candidate = Self { object, index, endpoint, cidr, address, vtep, findings };
        let as_mask = values::netmask(mask.unwrap_or(24));
        let cidr = candidate.value("cidr", Rule::VtepCidrInvalid, |text| match text.contains([',', ' ']) {
            true => Err(one_cidr(text)),
            false => values::cidr(text, as_mask, FarEnd::Gateway),
        });
        candidate.cidr = cidr.filter(|cidr| candidate.fits(*cidr, mask));
        candidate.address = candidate
            .value("tunnelEndpoint", Rule::VtepEndpointInvalid, |text| values::endpoint(text, FarEnd::Gateway));
        let mac = candidate.value("mac", Rule::VtepMacInvalid, |text| values::mac(text, FarEnd::Gateway));
        candidate.vtep = match (candidate.cidr, candidate.address, mac) {
            (Some(cidr), Some(endpoint), Some(mac)) => Some(Vtep { cidr, endpoint, mac }),
            (_, _, _) => None,
        };
        candidate
    }

    /// Reads a field, and notes what is wrong with it.
    fn value<T>(
        &mut self,
        field: &str,
        missing: Rule,
        read: impl FnOnce(&str) -> Result<values::Read<T>, Complaint>,
    ) -> Option<T> {
        let key = self.object.field(self.index, field);
        let Endpoint { tunnel_endpoint, cidr, mac, .. } = self.endpoint;
        let text = [("tunnelEndpoint", tunnel_endpoint), ("cidr", cidr), ("mac", mac)].into_iter();
        let Some(text) = text.filter(|(name, _)| *name == field).find_map(|(_, text)| text.as_deref()) else {
            let remedy = "write it as text, as the object's schema wants it";
            self.findings.push(Finding::new(missing, &key, None, None, "the field is absent or not text", remedy));
            return None;
        };
        match read(text) {
            Ok(values::Read { value, warning }) => {
                self.findings.extend(warning.map(|complaint| complaint.about(&key, None, text)));
                Some(value)
            }
            Err(complaint) => {
                self.findings.push(complaint.about(&key, None, text));
                None
            }
        }
    }

    fn fits(&mut self, cidr: Ipv4Net, mask: Option<u8>) -> bool {
        let Some(length) = mask.filter(|length| *length != cidr.prefix_len()) else { return true };
        let problem = format!(
            "{cidr} has the prefix length {}, and spec.cidrMask is {}",
            cidr.prefix_len(),
            values::netmask(length)
        );
        self.reject(
            Rule::VtepCidrMaskMismatch,
            "cidr",
            problem,
            "give all endpoints of the object the length of its cidrMask",
        );
        false
    }

    /// Notes an error: the VTEP has no effect.
    fn reject(&mut self, rule: Rule, field: &str, problem: String, remedy: &str) {
        let key = self.object.field(self.index, field);
        let text = if field == "cidr" { &self.endpoint.cidr } else { &self.endpoint.tunnel_endpoint };
        self.findings.push(Finding::new(rule, &key, None, text.as_deref(), problem, remedy).within(Scope::Vtep));
        self.vtep = None;
    }

    /// Compares CIDR and endpoint with what the node and the cluster need.
    fn compare(&mut self, around: Around<'_>) {
        let of_cidr = self.cidr.into_iter().flat_map(|cidr| {
            let found = overlaps::of_cidr(cidr, around);
            let known: Vec<_> = found.iter().map(|complaint| complaint.rule).collect();
            found.into_iter().chain(overlaps::unknown(cidr, around).filter(move |other| !known.contains(&other.rule)))
        });
        let of_cidr: Vec<_> = of_cidr.map(|complaint| ("cidr", complaint)).collect();
        let of_endpoint =
            self.address.into_iter().flat_map(|address| overlaps::of_endpoint(address, around.surroundings));
        let of_endpoint: Vec<_> = of_endpoint.map(|complaint| ("tunnelEndpoint", complaint)).collect();
        for (field, complaint) in of_cidr.into_iter().chain(of_endpoint) {
            if complaint.is_error() {
                self.vtep = None;
            }
            let text = if field == "cidr" { &self.endpoint.cidr } else { &self.endpoint.tunnel_endpoint };
            let key = self.object.field(self.index, field);
            self.findings.push(complaint.about(&key, None, text.as_deref().unwrap_or_default()));
        }
    }

    fn name(&self) -> String {
        self.endpoint.name.clone().unwrap_or_else(|| format!("endpoint {}", self.index))
    }
}

fn one_cidr(text: &str) -> Complaint {
    let problem = format!("{} holds several networks, and an endpoint has one", values::quote(text));
    Complaint::new(Rule::VtepCidrInvalid, problem, "write an endpoint for each network, each with a name of its own")
}

/// Two objects that claim one CIDR: neither takes effect. Within an object, the last endpoint counts, as in the lists. Returns the CIDRs
/// that several objects claim.
fn conflicts(candidates: &mut [Candidate<'_>]) -> BTreeSet<Ipv4Net> {
    let mut contested = BTreeSet::new();
    let mut claims: BTreeMap<Ipv4Net, Vec<(usize, String)>> = BTreeMap::new();
    for (at, candidate) in candidates.iter().enumerate() {
        if let Some(cidr) = candidate.cidr {
            claims.entry(cidr).or_default().push((at, candidate.object.path()));
        }
    }
    for (cidr, claims) in claims.into_iter().filter(|(_, claims)| claims.len() > 1) {
        let objects: BTreeSet<_> = claims.iter().map(|(_, object)| object.clone()).collect();
        let last = claims.last().map(|(at, _)| *at);
        if objects.len() > 1 {
            contested.insert(cidr);
        }
        for (at, object) in claims {
            let Some(candidate) = candidates.get_mut(at) else { continue };
            let others: Vec<_> = objects.iter().filter(|other| **other != object).cloned().collect();
            if !others.is_empty() {
                let problem = format!("{cidr} is also in {}: neither is in force on this node", others.join(" and "));
                candidate.reject(
                    Rule::VtepConfigConflict,
                    "cidr",
                    problem,
                    "leave the network to one object, or let their selectors differ",
                );
            } else if Some(at) != last {
                let problem = format!("{cidr} is listed again in this object, and the last one is in force");
                candidate.reject(Rule::VtepCidrDuplicate, "cidr", problem, "give each endpoint a network of its own");
            }
        }
    }
    contested
}

/// An endpoint inside a tunnel network: the outer packet would loop into the tunnel.
fn loops(candidates: &mut [Candidate<'_>]) {
    let cidrs: Vec<_> = candidates.iter().filter_map(|candidate| candidate.cidr).collect();
    for candidate in candidates {
        let Some(address) = candidate.address else { continue };
        if let Some(cidr) = cidrs.iter().find(|cidr| cidr.contains(&address)) {
            let problem =
                format!("{address} lies inside the tunnel network {cidr}: the outer packet would loop into the tunnel");
            let remedy = "write the VTEP's address on the underlay, not its address in the tunnel";
            candidate.reject(Rule::VtepEndpointInVtepCidr, "tunnelEndpoint", problem, remedy);
        }
    }
}

impl Resolved {
    /// Takes the VTEPs without an error, by name, as many as the map holds.
    fn settle(&mut self, candidates: Vec<Candidate<'_>>) {
        let mut sound = Vec::new();
        for mut candidate in candidates {
            self.findings.append(&mut candidate.findings);
            if let Some(vtep) = candidate.vtep {
                let key = candidate.object.field(candidate.index, "name");
                let VtepConfig { kind, schema, .. } = candidate.object;
                let is_expected = (*kind, *schema) == (Kind::Config, Schema::V2alpha1);
                let (name, object) = (candidate.name(), candidate.object.path());
                sound.push((NamedVtep { name, object, vtep, is_expected }, key));
            }
        }
        sound.sort_by(|(a, _), (b, _)| (&a.name, &a.object).cmp(&(&b.name, &b.object)));
        let over = sound.split_off(sound.len().min(MAX_VTEPS));
        self.findings.extend(over.into_iter().map(|(NamedVtep { name, vtep, .. }, key)| {
            let problem =
                format!("a node has room for {MAX_VTEPS} VTEPs, by name: {name} ({}) is one too many", vtep.cidr);
            let remedy = "let fewer endpoints select this node";
            Finding::new(Rule::VtepTooMany, &key, None, Some(&name), problem, remedy).within(Scope::Vtep)
        }));
        self.vteps = sound.into_iter().map(|(vtep, _)| vtep).collect();
    }
}
