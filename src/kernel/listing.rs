//! Devices, routes, rules and neighbours of this node as JSON, for people who cannot run `ip` there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric},
        rule::{RuleAttribute, RuleMessage},
    },
};
use serde_json::{Value, json};
use vtep_core::types::mac::Mac;

use super::netlink::{DumpError, dump, fold};

/// The most entries of a listing. A node with a full table of routes has far more.
const MOST: usize = 4096;
/// The kernel's own table of local addresses and broadcasts.
const LOCAL: u32 = 255;

/// The names of all devices, by which the other listings name them.
pub type Names = BTreeMap<u32, String>;

/// # Errors
///
/// The kernel does not answer.
pub async fn links(netlink: &Handle) -> Result<(Names, Value), DumpError> {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Inet;
    let listed = dump(netlink, &RouteNetlinkMessage::GetAddress(request)).await?;
    let mut addresses: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for message in &listed {
        if let RouteNetlinkMessage::NewAddress(message) = message {
            addresses.entry(message.header.index).or_default().extend(address(message));
        }
    }
    let listed = dump(netlink, &RouteNetlinkMessage::GetLink(LinkMessage::default())).await?;
    let (mut names, mut links) = (Names::new(), Vec::new());
    for message in &listed {
        if let RouteNetlinkMessage::NewLink(message) = message {
            let index = message.header.index;
            let (name, link) = link(message, addresses.get(&index));
            names.insert(index, name);
            links.push(link);
        }
    }
    Ok((names, json!({ "links": cut(links) })))
}

fn address(message: &AddressMessage) -> Option<String> {
    let local = message.attributes.iter().find_map(|attribute| {
        if let AddressAttribute::Local(IpAddr::V4(address)) = attribute { Some(address) } else { None }
    });
    Some(format!("{}/{}", local?, message.header.prefix_len))
}

fn link(message: &LinkMessage, addresses: Option<&Vec<String>>) -> (String, Value) {
    let (mut name, mut mac, mut mtu, mut kind, mut vxlan) = (String::new(), None, None, None, None);
    for attribute in &message.attributes {
        if let LinkAttribute::IfName(value) = attribute {
            name.clone_from(value);
        } else if let LinkAttribute::Address(value) = attribute {
            mac = ethernet(value);
        } else if let LinkAttribute::Mtu(value) = attribute {
            mtu = Some(*value);
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            for info in infos {
                if let LinkInfo::Kind(value) = info {
                    kind = Some(value.to_string());
                } else if let LinkInfo::Data(InfoData::Vxlan(values)) = info {
                    vxlan = Some(vxlan_details(values));
                }
            }
        }
    }
    let link = json!({
        "index": message.header.index,
        "name": name,
        "kind": kind,
        "mac": mac,
        "mtu": mtu,
        "up": message.header.flags.contains(LinkFlags::Up),
        "addresses": addresses,
        "vxlan": vxlan,
    });
    (name, link)
}

/// Cilium's device takes VNI and endpoint of each frame from its programs (`external`).
fn vxlan_details(values: &[InfoVxlan]) -> Value {
    let (mut vni, mut port, mut external) = (None, None, None);
    for value in values {
        if let InfoVxlan::Id(value) = value {
            vni = Some(*value);
        } else if let InfoVxlan::Port(value) = value {
            port = Some(*value);
        } else if let InfoVxlan::CollectMetadata(value) = value {
            external = Some(*value);
        }
    }
    json!({ "vni": vni, "port": port, "external": external })
}

/// # Errors
///
/// The kernel does not answer.
pub async fn routes(netlink: &Handle, names: &Names) -> Result<Value, DumpError> {
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet;
    let request = RouteNetlinkMessage::GetRoute(request);
    let listed = fold(netlink, &request, Vec::new, |routes, message| {
        if let RouteNetlinkMessage::NewRoute(message) = message {
            routes.extend(route(&message, names).filter(|_| routes.len() <= MOST));
        }
    });
    Ok(json!({ "routes": cut(listed.await?) }))
}

/// `None` for a route of the kernel's own table.
fn route(message: &RouteMessage, names: &Names) -> Option<Value> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let (mut to, mut via, mut source, mut device, mut metric, mut mtu) = (None, None, None, None, None, None);
    let mut further = Vec::new();
    for attribute in &message.attributes {
        if let RouteAttribute::Table(value) = attribute {
            table = *value;
        } else if let RouteAttribute::Destination(RouteAddress::Inet(value)) = attribute {
            to = Some(*value);
        } else if let RouteAttribute::Gateway(RouteAddress::Inet(value)) = attribute {
            via = Some(*value);
        } else if let RouteAttribute::PrefSource(RouteAddress::Inet(value)) = attribute {
            source = Some(*value);
        } else if let RouteAttribute::Oif(value) = attribute {
            device = Some(name(*value, names));
        } else if let RouteAttribute::Priority(value) = attribute {
            metric = Some(*value);
        } else if let RouteAttribute::Metrics(values) = attribute {
            mtu = values.iter().find_map(|value| if let RouteMetric::Mtu(mtu) = value { Some(*mtu) } else { None });
        } else if let RouteAttribute::MultiPath(_) = attribute {
            further.push(format!("{attribute:?}"));
        }
    }
    let to = to.unwrap_or(Ipv4Addr::UNSPECIFIED);
    (table != LOCAL).then(|| {
        json!({
            "table": table,
            "to": format!("{to}/{}", header.destination_prefix_length),
            "via": via,
            "device": device,
            "source": source,
            "metric": metric,
            "mtu": mtu,
            "protocol": u8::from(header.protocol),
            "scope": format!("{:?}", header.scope).to_lowercase(),
            "type": format!("{:?}", header.kind).to_lowercase(),
            "further": further,
        })
    })
}

/// # Errors
///
/// The kernel does not answer.
pub async fn rules(netlink: &Handle) -> Result<Value, DumpError> {
    let mut request = RuleMessage::default();
    request.header.family = AddressFamily::Inet;
    let listed = dump(netlink, &RouteNetlinkMessage::GetRule(request)).await?;
    let rule = |message: &RouteNetlinkMessage| {
        if let RouteNetlinkMessage::NewRule(message) = message { Some(rule(message)) } else { None }
    };
    Ok(json!({ "rules": cut(listed.iter().filter_map(rule).collect()) }))
}

fn rule(message: &RuleMessage) -> Value {
    let header = &message.header;
    let (mut from, mut to, mut priority, mut table, mut protocol) = (None, None, 0, u32::from(header.table), None);
    let mut further = Vec::new();
    for attribute in &message.attributes {
        if let RuleAttribute::Source(value) = attribute {
            from = Some(format!("{value}/{}", header.src_len));
        } else if let RuleAttribute::Destination(value) = attribute {
            to = Some(format!("{value}/{}", header.dst_len));
        } else if let RuleAttribute::Priority(value) = attribute {
            priority = *value;
        } else if let RuleAttribute::Table(value) = attribute {
            table = *value;
        } else if let RuleAttribute::Protocol(value) = attribute {
            protocol = Some(u8::from(*value));
        } else if !matches!(attribute, RuleAttribute::SuppressPrefixLen(u32::MAX)) {
            further.push(format!("{attribute:?}"));
        }
    }
    json!({
        "priority": priority,
        "from": from,
        "to": to,
        "table": table,
        "action": format!("{:?}", header.action).to_lowercase(),
        "protocol": protocol,
        "further": further,
    })
}

/// The ARP entries of these addresses.
///
/// # Errors
///
/// The kernel does not answer.
pub async fn neighbours(netlink: &Handle, wanted: &BTreeSet<Ipv4Addr>, names: &Names) -> Result<Value, DumpError> {
    let mut request = NeighbourMessage::default();
    request.header.family = AddressFamily::Inet;
    let request = RouteNetlinkMessage::GetNeighbour(request);
    let listed = fold(netlink, &request, Vec::new, |neighbours, message| {
        if let RouteNetlinkMessage::NewNeighbour(message) = message {
            neighbours.extend(neighbour(&message, wanted, names));
        }
    });
    let listed = listed.await?;
    let has = |address: &Ipv4Addr| listed.iter().any(|entry: &Value| entry["address"] == address.to_string());
    let without: Vec<_> = wanted.iter().filter(|address| !has(address)).collect();
    Ok(json!({ "without_entry": without, "neighbours": cut(listed) }))
}

fn neighbour(message: &NeighbourMessage, wanted: &BTreeSet<Ipv4Addr>, names: &Names) -> Option<Value> {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet(value)) = attribute {
            address = Some(*value);
        } else if let NeighbourAttribute::LinkLayerAddress(value) = attribute {
            mac = ethernet(value);
        }
    }
    let address = address.filter(|address| wanted.contains(address))?;
    Some(json!({
        "address": address,
        "device": name(message.header.ifindex, names),
        "mac": mac,
        "state": format!("{:?}", message.header.state).to_lowercase(),
    }))
}

fn name(index: u32, names: &Names) -> String {
    names.get(&index).cloned().unwrap_or_else(|| format!("#{index}"))
}

/// A link-layer address of six octets. That of a tunnel device is an IP address, which `--redact` would not know as one.
fn ethernet(bytes: &[u8]) -> Option<String> {
    Some(Mac::new(bytes.try_into().ok()?).to_string())
}

/// At most [`MOST`] entries, and a last one that says that there are more.
fn cut(mut entries: Vec<Value>) -> Vec<Value> {
    if entries.len() > MOST {
        entries.truncate(MOST);
        entries.push(json!(format!("more than {MOST} entries: the others are left out")));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_has_six_octets() {
        let of = |address: &[u8]| {
            let mut message = LinkMessage::default();
            message.attributes.push(LinkAttribute::Address(address.to_vec()));
            link(&message, None).1["mac"].clone()
        };
        assert_eq!(of(&[0, 0x50, 0x56, 0xa0, 0x7d, 0xd8]), "00:50:56:a0:7d:d8");
        // A device of IPIP or GRE.
        assert_eq!(of(&[10, 169, 72, 239]), Value::Null);
        assert_eq!(of(&[]), Value::Null);
    }
}
