//! The objects of one BIG-IP, with their values.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    context::{Context, HostAddress, Network, default, word},
    part::{self, ArpRow, FdbRow, Kind, Member, Object, Part, TunnelMac, Value, location, members, property},
    profiles,
};
use crate::{
    bigip::device::{
        Address, AllowService, ArpEntry, Device, Fdb, FdbEntry, ObjectName, Route, SelfIp, Setting, Tunnel, Via,
    },
    types::{location::Location, mac::Mac},
};

/// The BIG-IP that these parts show together. Objects come in the order of the input.
pub(super) fn device(name: String, objects: &[Object<'_>], parts: &[Part<'_>]) -> Device {
    let mut context = Context::default();
    for partition in objects.iter().filter(|object| object.kind == Kind::Partition) {
        context.partitions.insert(partition.name.clone());
        if let Some((text, at)) = word(partition, "default-route-domain")
            && let Some(id) =
                context.parse(text, &at, partition, "default-route-domain", "the number of a route domain")
        {
            context.route_domains.insert(partition.name.clone(), id);
        }
    }
    let nowhere = Location::new(&parts.first().map_or_else(|| "".into(), |part| part.file().into()), 1, 1);
    let of_kind = |kind: Kind| objects.iter().filter(move |object| object.kind == kind);
    let profiles: Vec<&Object<'_>> = objects.iter().filter(|object| matches!(object.kind, Kind::Profile(_))).collect();
    let mut device = Device { name, ..Device::default() };
    device.profiles = profiles::build(&mut context, &profiles, &nowhere);
    let known: BTreeSet<&ObjectName> = device.profiles.iter().map(|profile| &profile.name).collect();
    device.tunnels = of_kind(Kind::Tunnel).filter_map(|object| tunnel(&mut context, object, &known)).collect();
    device.self_ips = of_kind(Kind::SelfIp).filter_map(|object| self_ip(&mut context, object)).collect();
    device.routes = of_kind(Kind::Route).filter_map(|object| route(&mut context, object)).collect();
    device.fdb = of_kind(Kind::Fdb).map(|object| fdb(&mut context, object)).collect();
    device.arp = of_kind(Kind::Arp).filter_map(|object| arp(&mut context, object)).collect();
    for part in parts {
        add_fdb_rows(&mut context, &mut device.fdb, part);
        device.arp.extend(part.arp_rows.iter().filter_map(|row| arp_row(&mut context, part, row)));
        add_macs(&context, &mut device.tunnels, part);
    }
    device.unread = context.unread;
    device
}

fn tunnel(context: &mut Context, object: &Object<'_>, known: &BTreeSet<&ObjectName>) -> Option<Tunnel> {
    let Some(mut profile) = context.reference(object, "profile") else {
        context.unread(object.location(), object, "profile", "the tunnel has none");
        return None;
    };
    // BIG-IP's own profiles are known by their bare names in each folder.
    if let Some((text, _)) = word(object, "profile")
        && !known.contains(&profile.value)
        && let Some(own) = known.get(&ObjectName::new(text, "/Common"))
    {
        profile.value = (*own).clone();
    }
    Some(Tunnel {
        name: context.name(&object.name, object),
        at: object.location(),
        key: context.number(object, "key", 0, "a number"),
        profile,
        local_address: context.address(object, "local-address"),
        secondary_address: context.address(object, "secondary-address"),
        remote_address: context.address(object, "remote-address"),
        mtu: context.number(object, "mtu", 0, "a number of bytes"),
        mac: None,
    })
}

fn self_ip(context: &mut Context, object: &Object<'_>) -> Option<SelfIp> {
    let (address, route_domain) = network(context, object, "address")?;
    let Some(vlan) = context.reference(object, "vlan") else {
        context.unread(object.location(), object, "vlan", "the self IP has none");
        return None;
    };
    let group = word(object, "traffic-group").map(|(text, _)| text.rsplit('/').next().unwrap_or_default());
    let is_floating = match (word(object, "floating"), group) {
        (Some((floating, _)), None) => floating == "enabled",
        (_, group) => !matches!(group, None | Some("traffic-group-local-only" | "none")),
    };
    Some(SelfIp {
        name: context.name(&object.name, object),
        at: object.location(),
        address,
        route_domain,
        allow_service: allow_service(object),
        vlan,
        is_floating,
    })
}

fn allow_service(object: &Object<'_>) -> Setting<AllowService> {
    let Some((word, list)) = members(&object.body, "allow-service") else {
        return default(AllowService::None, &object.location());
    };
    let value = match list.as_slice() {
        [] => AllowService::None,
        [Member { name, .. }] if name.text == "all" => AllowService::All,
        list => AllowService::Some(list.iter().map(|member| member.name.text.clone().into_owned()).collect()),
    };
    Setting { value, at: location(&object.files, word.at), is_default: false }
}

/// The network of a property, or of the object's name if it does not have this property, as in `create net self 10.1.6.34/24 vlan …`.
/// `None` if it cannot be read, or if it is IPv6.
fn network(context: &mut Context, object: &Object<'_>, property: &str) -> Option<(Setting<ipnet::Ipv4Net>, u16)> {
    let (text, at) = word(object, property).unwrap_or_else(|| {
        let name = object.name.strip_prefix('/').and_then(|name| name.split_once('/')).map(|(_, name)| name);
        (name.unwrap_or(&object.name), object.location())
    });
    match Network::read(text, context.route_domain(object)) {
        Some(Network::V4(value, route_domain)) => Some((Setting { value, at, is_default: false }, route_domain)),
        Some(Network::V6) => None,
        None => {
            context.unread(at, object, property, format_args!("{text:?} is not a network"));
            None
        }
    }
}

fn route(context: &mut Context, object: &Object<'_>) -> Option<Route> {
    let (network, route_domain) = network(context, object, "network")?;
    let Some(via) = via(context, object) else {
        context.unread(object.location(), object, "gw", "the route leads nowhere");
        return None;
    };
    Some(Route { name: context.name(&object.name, object), at: object.location(), network, route_domain, via })
}

fn via(context: &mut Context, object: &Object<'_>) -> Option<Setting<Via>> {
    let set = |value, at| Some(Setting { value, at, is_default: false });
    if let Some(Setting { value, at, .. }) = context.reference(object, "interface") {
        return set(Via::Interface(value), at);
    }
    if let Some((text, at)) = word(object, "gw").filter(|(text, _)| *text != "none") {
        return match HostAddress::read(text, context.route_domain(object)) {
            Some(HostAddress::V4(address)) => set(Via::Gateway(address), at),
            Some(HostAddress::Any | HostAddress::V6) | None => set(Via::Other(text.to_owned()), at),
        };
    }
    if let Some((text, at)) = word(object, "pool").filter(|(text, _)| *text != "none") {
        return set(Via::Other(format!("pool {text}")), at);
    }
    let (word, value) = property(&object.body, "blackhole")?;
    matches!(value, Value::Flag).then(|| Setting {
        value: Via::Other("blackhole".to_owned()),
        at: location(&object.files, word.at),
        is_default: false,
    })
}

fn fdb(context: &mut Context, object: &Object<'_>) -> Fdb {
    let records = members(&object.body, "records").map(|(_, records)| records).unwrap_or_default();
    let records = records.iter().filter_map(|record| fdb_entry(context, object, record)).collect();
    Fdb { tunnel: context.name(&object.name, object), at: object.location(), records }
}

fn fdb_entry(context: &mut Context, object: &Object<'_>, record: &Member<'_, '_>) -> Option<FdbEntry> {
    let at = location(&object.files, record.name.at);
    let mac = context.parse(&record.name.text, &at, object, "records", "a MAC address")?;
    let endpoint = match property(record.body, "endpoint") {
        Some((_, Value::Word(endpoint))) => {
            let at = location(&object.files, endpoint.at);
            let read = HostAddress::read(&endpoint.text, context.route_domain(object));
            if read.is_none() {
                let problem = format_args!("{:?} is not an address", endpoint.text);
                context.unread(at.clone(), object, "endpoint", problem);
            }
            v4(read).map(|value| Setting { value, at, is_default: false })
        }
        Some((_, Value::Block(_) | Value::Edit(..) | Value::Flag)) | None => None,
    };
    Some(FdbEntry { mac, at, endpoint, is_dynamic: false })
}

fn v4(address: Option<HostAddress>) -> Option<Address> {
    match address? {
        HostAddress::V4(address) => Some(address),
        HostAddress::Any | HostAddress::V6 => None,
    }
}

fn arp(context: &mut Context, object: &Object<'_>) -> Option<ArpEntry> {
    let text = word(object, "ip-address").map_or(&*object.name, |(text, _)| text);
    let text = text.rsplit('/').next().unwrap_or_default();
    let Some(address) = HostAddress::read(text, context.route_domain(object)) else {
        context.unread(object.location(), object, "ip-address", format_args!("{text:?} is not an address"));
        return None;
    };
    let mac = word(object, "mac-address")
        .and_then(|(text, at)| context.parse(text, &at, object, "mac-address", "a MAC address"));
    Some(ArpEntry { at: object.location(), address: v4(Some(address))?, mac, vlan: None })
}

fn arp_row(context: &mut Context, part: &Part<'_>, row: &ArpRow) -> Option<ArpEntry> {
    let ArpRow { address, mac, vlan, at } = row;
    let vlan = part::absolute(vlan, "/Common", &context.partitions);
    Some(ArpEntry {
        at: location(&part.source.files, *at),
        address: v4(HostAddress::read(address, 0))?,
        mac: *mac,
        vlan: Some(vlan),
    })
}

/// Adds what the table has beyond the configuration: records that BIG-IP learned, and saved ones if the input has no configuration.
fn add_fdb_rows(context: &mut Context, all: &mut Vec<Fdb>, part: &Part<'_>) {
    let mut places: BTreeMap<ObjectName, usize> =
        all.iter().enumerate().map(|(place, fdb)| (fdb.tunnel.clone(), place)).collect();
    let mut known: BTreeSet<_> = all
        .iter()
        .flat_map(|fdb| fdb.records.iter().map(|entry| (fdb.tunnel.clone(), entry.mac, endpoint_of(entry))))
        .collect();
    for FdbRow { tunnel, mac, endpoint, is_dynamic, at } in &part.fdb_rows {
        let (tunnel, at) = (part::absolute(tunnel, "/Common", &context.partitions), location(&part.source.files, *at));
        let endpoint = v4(HostAddress::read(endpoint, 0));
        let place = *places.entry(tunnel.clone()).or_insert(all.len());
        if place == all.len() {
            all.push(Fdb { tunnel: tunnel.clone(), at: at.clone(), records: Vec::new() });
        }
        if known.insert((tunnel, *mac, endpoint))
            && let Some(fdb) = all.get_mut(place)
        {
            let endpoint = endpoint.map(|value| Setting { value, at: at.clone(), is_default: false });
            fdb.records.push(FdbEntry { mac: *mac, at, endpoint, is_dynamic: *is_dynamic });
        }
    }
}

fn endpoint_of(entry: &FdbEntry) -> Option<Address> {
    entry.endpoint.as_ref().map(|endpoint| endpoint.value)
}

fn add_macs(context: &Context, tunnels: &mut [Tunnel], part: &Part<'_>) {
    let mut by_name: BTreeMap<ObjectName, &mut Option<Setting<Mac>>> =
        tunnels.iter_mut().map(|tunnel| (tunnel.name.clone(), &mut tunnel.mac)).collect();
    for TunnelMac { tunnel, mac, at } in &part.tunnel_macs {
        if let Some(place) = by_name.get_mut(&part::absolute(tunnel, "/Common", &context.partitions)) {
            **place = Some(Setting { value: *mac, at: location(&part.source.files, *at), is_default: false });
        }
    }
}
