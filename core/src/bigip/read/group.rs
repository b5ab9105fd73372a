//! Which parts are one BIG-IP. The rule is in the documentation of [`super`].

use std::collections::{BTreeSet, HashMap};

use super::{
    build,
    context::{HostAddress, Network},
    part::{Kind, Object, Part, word},
};
use crate::bigip::device::{Component, Device, ObjectName};

/// Parts of one BIG-IP.
#[derive(Default)]
pub(super) struct Group<'a> {
    parts: Vec<Part<'a>>,
    objects: Vec<Object<'a>>,
    places: HashMap<(Kind, ObjectName), usize>,
    hostname: Option<String>,
    prompt: Option<String>,
    /// The parts could also belong to another BIG-IP.
    uncertain: Vec<String>,
}

pub(super) fn groups(parts: Vec<Part<'_>>) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for mut part in parts {
        let place =
            groups.iter().position(|group| group.is_same(&part)).or_else(|| place_of_nameless(&groups, &mut part));
        match place.and_then(|place| groups.get_mut(place)) {
            Some(group) => group.add(part),
            None => {
                let mut group = Group::default();
                group.add(part);
                groups.push(group);
            }
        }
    }
    groups
}

/// The group that a part belongs to, if the part or the group has no name.
fn place_of_nameless(groups: &[Group<'_>], part: &mut Part<'_>) -> Option<usize> {
    let has_name = part.hostname.is_some() || part.prompt.is_some();
    let candidates: Vec<usize> = (0..groups.len())
        .filter(|place| {
            let group = &groups[*place];
            // A file from an archive belongs to no other one.
            archive(group.parts[0].file()).is_none()
                && archive(part.file()).is_none()
                && !(has_name && group.has_name())
                && !group.contradicts(part)
        })
        .collect();
    let beside = candidates.iter().copied().filter(|place| groups[*place].is_beside(part));
    let beside: Vec<usize> = beside.collect();
    match (beside.as_slice(), candidates.as_slice()) {
        ([], []) => None,
        ([one], _) | ([], [one]) => Some(*one),
        ([.., last], _) | ([], [.., last]) => {
            let name = groups[*last].name();
            part.notes.push(format!(
                "{}: it has no hostname, so it counts as a part of {name}, the BIG-IP before it",
                part.file()
            ));
            Some(*last)
        }
    }
}

impl<'a> Group<'a> {
    fn has_name(&self) -> bool {
        self.hostname.is_some() || self.prompt.is_some()
    }

    fn name(&self) -> String {
        let file = self.parts.first().map(|part| archive(part.file()).unwrap_or(part.file()));
        self.hostname.as_deref().or(self.prompt.as_deref()).or(file).unwrap_or_default().to_owned()
    }

    /// Whether the part certainly belongs to this BIG-IP.
    fn is_same(&self, part: &Part<'_>) -> bool {
        if let (Some(one), Some(other)) = (archive(self.parts[0].file()), archive(part.file())) {
            return one == other;
        }
        let one = self.hostname.as_deref().or(self.prompt.as_deref());
        let other = part.hostname.as_deref().or(part.prompt.as_deref());
        match (one, other) {
            (Some(one), Some(other)) if one.contains('.') && other.contains('.') => one.eq_ignore_ascii_case(other),
            (Some(one), Some(other)) => first_label(one).eq_ignore_ascii_case(first_label(other)),
            (None, _) | (_, None) => false,
        }
    }

    fn is_beside(&self, part: &Part<'_>) -> bool {
        self.parts.iter().any(|other| directory(other.file()) == directory(part.file()))
    }

    fn add(&mut self, mut part: Part<'a>) {
        self.hostname = self.hostname.take().or_else(|| part.hostname.clone());
        self.prompt = self.prompt.take().or_else(|| part.prompt.clone());
        self.uncertain.append(&mut part.notes);
        for object in part.objects.drain(..).filter(|object| !object.name.is_empty()) {
            let place = *self.places.entry(object.key()).or_insert(self.objects.len());
            match self.objects.get_mut(place) {
                // What the later one has counts; what it does not print may be in the earlier one.
                Some(known) => known.body.extend(object.body),
                None => self.objects.push(object),
            }
        }
        self.parts.push(part);
    }

    fn contradicts(&self, part: &Part<'_>) -> bool {
        let is_other = part.objects.iter().any(|object| {
            let known = self.places.get(&object.key()).and_then(|place| self.objects.get(*place));
            known.is_some_and(|known| differ(known, object))
        });
        is_other || is_other_unit(&self.objects, &part.objects)
    }

    pub(super) fn device(self) -> (Device, Vec<String>) {
        let mut device = build::device(self.name(), &self.objects, &self.parts);
        device.covered = covered(&self.parts);
        let mut notes = self.uncertain;
        let tunnels: BTreeSet<&ObjectName> = device.tunnels.iter().map(|tunnel| &tunnel.name).collect();
        for part in &self.parts {
            for mac in &part.tunnel_macs {
                let name = super::part::absolute(&mac.tunnel, "/Common", &BTreeSet::new());
                if !tunnels.contains(&name) {
                    let at = super::part::location(&part.source.files, mac.at);
                    notes.push(format!("{at}: the input shows the MAC of the tunnel {name}, but not the tunnel"));
                }
            }
        }
        (device, notes)
    }
}

/// The properties that distinguish objects of the same name on two units.
fn distinguishing(kind: &Kind) -> &'static [&'static str] {
    match kind {
        Kind::Profile(_) => &["flooding-type", "port"],
        Kind::Tunnel => &["key", "local-address", "profile", "secondary-address"],
        Kind::SelfIp => &["address", "vlan"],
        Kind::Route => &["gw", "interface", "network"],
        Kind::Fdb | Kind::Arp | Kind::Partition => &[],
    }
}

fn differ(one: &Object<'_>, other: &Object<'_>) -> bool {
    distinguishing(&one.kind).iter().any(|property| {
        let (one, other) = (word(&one.body, property), word(&other.body, property));
        matches!((one, other), (Some(one), Some(other)) if !is_same_value(one, other))
    })
}

/// Commands write values in other ways than `tmsh list`.
fn is_same_value(one: &str, other: &str) -> bool {
    let bare = |text: &'_ str| text.strip_prefix("/Common/").unwrap_or(text).to_owned();
    one == other
        || bare(one) == bare(other)
        || matches!((HostAddress::read(one, 0), HostAddress::read(other, 0)), (Some(one), Some(other)) if one == other)
        || matches!((Network::read(one, 0), Network::read(other, 0)), (Some(one), Some(other)) if one == other)
}

fn is_other_unit(known: &[Object<'_>], new: &[Object<'_>]) -> bool {
    let names = |objects: &[Object<'_>]| -> BTreeSet<ObjectName> {
        let self_ips = objects.iter().filter(|object| object.kind == Kind::SelfIp && !object.name.is_empty());
        self_ips.map(|object| object.key().1).collect()
    };
    let (known, new) = (names(known), names(new));
    let folder = |name: &ObjectName| name.absolute().rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let folders: BTreeSet<_> = known.iter().map(folder).collect();
    known.is_disjoint(&new) && new.iter().any(|name| folders.contains(&folder(name)))
}

/// The kinds that these parts show completely, together.
///
/// A terminal's log shows a kind completely if it shows objects of this kind, unless a command in it selects some of them. A text that is
/// cut off or broken may lack anything.
///
/// BIG-IP saves self IPs, tunnels and forwarding databases in `bigip_base.conf`, as a public file of version 15.1 shows. The file for
/// routes and profiles is not documented, so one of the two files alone does not prove that there are none. Both together have everything,
/// and so has an SCF, which is both in one. Partitions other than `Common` have files of their own.
fn covered(parts: &[Part<'_>]) -> BTreeSet<Component> {
    if parts.iter().any(|part| part.signs.is_broken) {
        return BTreeSet::new();
    }
    let is_archive = parts.iter().any(|part| archive(part.file()).is_some());
    let has_partitions = parts.iter().any(|part| part.signs.has_partitions);
    let is_scf = parts.iter().any(|part| part.signs.is_file && part.signs.has_base && part.signs.has_ltm);
    let has_base = parts.iter().any(|part| part.signs.is_file && part.signs.has_base);
    let has_ltm = parts.iter().any(|part| part.signs.is_file && part.signs.has_ltm);
    let mut covered: BTreeSet<Component> = BTreeSet::new();
    if is_scf || is_archive || (has_base && has_ltm && !has_partitions) {
        return Component::ALL.into();
    }
    if has_base && !has_partitions {
        covered.extend([Component::SelfIps, Component::Tunnels, Component::Fdb]);
    }
    for part in parts {
        // What one of several files has of a kind need not be all.
        if !part.signs.is_file || (part.signs.has_base && !has_partitions) {
            covered.extend(part.covered.difference(&part.partial));
        }
    }
    covered
}

/// The archive that a file is from.
fn archive(file: &str) -> Option<&str> {
    file.split_once('!').map(|(archive, _)| archive)
}

fn directory(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn first_label(host: &str) -> &str {
    host.split('.').next().unwrap_or_default()
}
