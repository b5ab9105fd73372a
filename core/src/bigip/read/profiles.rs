//! Profiles of tunnels: BIG-IP's own ones, and what a profile has from the one that it is derived from.

use std::collections::BTreeMap;

use super::{
    context::{Context, default, word},
    part::{Kind, Object, Value, location, property},
};
use crate::{
    bigip::device::{Flooding, ObjectName, Profile, ProfileKind, Setting},
    types::location::Location,
};

/// BIG-IP's own profiles for VXLAN and Geneve: component, name, encapsulation, port, flooding.
///
/// Source: the answers of BIG-IP 14.1 to `GET /mgmt/tm/net/tunnels/vxlan` and `…/geneve`.
const BUILT_IN: &[(&str, &str, &str, u16, &str)] = &[
    ("geneve", "geneve", "geneve", 6081, "multipoint"),
    ("vxlan", "vxlan", "vxlan", 4789, "multicast"),
    ("vxlan", "vxlan-gpe", "vxlan-gpe", 4790, "multipoint"),
    ("vxlan", "vxlan-multipoint", "vxlan", 4789, "multipoint"),
    ("vxlan", "vxlan-ovsdb", "vxlan", 4789, "replicator"),
    ("vxlan", "vxlan-ovsdb-multipoint", "vxlan", 4789, "multipoint"),
    ("vxlan", "vxlan-ovsdb-no-flooding", "vxlan", 4789, "none"),
];

/// BIG-IP's own profiles of other kinds, each with the name of its component.
///
/// Source: F5, "BIG-IP TMSH Reference", components `net tunnels`.
const OTHERS: &[&str] =
    &["dslite", "etherip", "fec", "gre", "ipip", "ipsec", "nvgre", "ppp", "tcp-forward", "v6rd", "wccpgre"];

pub(super) fn is_built_in(kind: &Kind, name: &str) -> bool {
    let name = name.strip_prefix("/Common/").unwrap_or(name);
    matches!(kind, Kind::Profile(kind) if built_in(kind, name).is_some())
}

/// The properties of a profile that the input does not print.
#[derive(Clone, Copy)]
struct Defaults<'c> {
    encapsulation: &'c str,
    port: u16,
    flooding: &'c str,
}

fn built_in(kind: &str, name: &str) -> Option<Defaults<'static>> {
    let found = BUILT_IN.iter().find(|(of, profile, ..)| (*of, *profile) == (kind, name));
    found.map(|&(_, _, encapsulation, port, flooding)| Defaults { encapsulation, port, flooding })
}

/// What a profile of this component has if nothing else is known.
fn base(kind: &str) -> Defaults<'_> {
    built_in(kind, kind).unwrap_or(Defaults { encapsulation: kind, port: 0, flooding: "none" })
}

/// The profiles of the input, and BIG-IP's own ones that it does not print: those are `nowhere`.
pub(super) fn build(context: &mut Context, objects: &[&Object<'_>], nowhere: &Location) -> Vec<Profile> {
    let all: BTreeMap<ObjectName, &Object<'_>> =
        objects.iter().map(|object| (context.name(&object.name, object), *object)).collect();
    let mut profiles: Vec<Profile> = objects.iter().filter_map(|object| one(context, &all, object)).collect();
    let own = BUILT_IN.iter().map(|(kind, name, ..)| (*kind, *name));
    for (kind, name) in own.chain(OTHERS.iter().map(|kind| (*kind, *kind))) {
        let full = ObjectName::new(name, "/Common");
        if !all.contains_key(&full) {
            let Defaults { encapsulation, port, flooding } = built_in(kind, name).unwrap_or_else(|| base(kind));
            profiles.push(Profile {
                name: full,
                at: nowhere.clone(),
                kind: kind_of(kind, encapsulation),
                port: default(port, nowhere),
                flooding: default(flooding_of(flooding), nowhere),
            });
        }
    }
    profiles
}

fn kind_of(component: &str, encapsulation: &str) -> ProfileKind {
    match (component, encapsulation) {
        ("vxlan", "vxlan") => ProfileKind::Vxlan,
        ("geneve", _) => ProfileKind::Geneve,
        ("vxlan", other) => ProfileKind::Other(other.to_owned()),
        (component, _) => ProfileKind::Other(component.to_owned()),
    }
}

fn one(context: &mut Context, all: &BTreeMap<ObjectName, &Object<'_>>, object: &Object<'_>) -> Option<Profile> {
    let Kind::Profile(component) = &object.kind else { return None };
    let name = context.name(&object.name, object);
    let chain = chain(context, all, &name, object);
    let last = chain.last().and_then(|(name, _)| built_in(component, name.short()));
    let defaults = last.unwrap_or_else(|| base(component));
    let at = object.location();
    // The property of the nearest profile that has it.
    let found = |property: &str| {
        chain.iter().enumerate().find_map(|(depth, (_, object))| {
            let (value, at) = word(object.as_ref()?, property)?;
            Some((value, at, depth > 0))
        })
    };
    let port = found("port").and_then(|(text, at, is_default)| {
        let value = context.parse(text, &at, object, "port", "a UDP port")?;
        Some(Setting { value, at, is_default })
    });
    let flooding =
        found("flooding-type").map(|(text, at, is_default)| Setting { value: flooding_of(text), at, is_default });
    let encapsulation = found("encapsulation-type").map_or(defaults.encapsulation, |(text, ..)| text);
    Some(Profile {
        name,
        kind: kind_of(component, encapsulation),
        port: port.unwrap_or_else(|| default(defaults.port, &at)),
        flooding: flooding.unwrap_or_else(|| default(flooding_of(defaults.flooding), &at)),
        at,
    })
}

/// A profile, the one that it is derived from, and so on. Those that the input does not print have no object.
fn chain<'o, 'a>(
    context: &mut Context,
    all: &BTreeMap<ObjectName, &'o Object<'a>>,
    name: &ObjectName,
    object: &'o Object<'a>,
) -> Vec<(ObjectName, Option<&'o Object<'a>>)> {
    /// No administrator derives profiles this often, and it keeps a hostile file from taking quadratic time.
    const MAX_LENGTH: usize = 16;
    let Kind::Profile(component) = &object.kind else { return Vec::new() };
    let mut chain = vec![(name.clone(), Some(object))];
    let mut present = object;
    while let Some((_, Value::Word(parent))) = property(&present.body, "defaults-from") {
        if parent.text == "none" {
            break;
        }
        let mut next = context.name(&parent.text, present);
        if !all.contains_key(&next) && is_built_in(&present.kind, &parent.text) {
            next = ObjectName::new(&parent.text, "/Common");
        }
        if chain.iter().any(|(name, _)| *name == next) || chain.len() == MAX_LENGTH {
            break;
        }
        let found = all.get(&next).copied();
        if found.is_none() && built_in(component, next.short()).is_none() {
            let at = location(&present.files, parent.at);
            context.unread(at, present, "defaults-from", format_args!("the input does not have {next}"));
            break;
        }
        chain.push((next, found));
        match found {
            Some(parent) => present = parent,
            None => break,
        }
    }
    chain
}

fn flooding_of(text: &str) -> Flooding {
    match text {
        "none" => Flooding::None,
        "multicast" => Flooding::Multicast,
        "multipoint" => Flooding::Multipoint,
        other => Flooding::Other(other.to_owned()),
    }
}
