//! Devices as a whole: the two units of a pair, BIG-IPs that no VTEP names, and VTEPs that no BIG-IP serves.

use super::{
    super::device::{Component, Device, Tunnel},
    CiliumEnd, CiliumVtep, Comparison, Difference, Place, address_or_any, difference,
    pairing::{Pair, may_be_meant},
    some_of,
    tunnel::property,
};
use crate::config::finding::{Finding, Rule, Severity};

pub(super) fn compare(cilium: &CiliumEnd, devices: &[Device], pairs: &[Pair<'_>], comparison: &mut Comparison) {
    for vtep in &cilium.vteps {
        let own: Vec<_> = pairs.iter().filter(|pair| pair.vtep == vtep).collect();
        match own.as_slice() {
            [] => absent(vtep, devices, comparison),
            [one] => alone(one, comparison),
            units => failover(units, comparison),
        }
    }
    for (index, device) in devices.iter().enumerate() {
        if pairs.iter().all(|pair| pair.index != index) {
            unlisted(cilium, index, device, comparison);
        }
        for unread in &device.unread {
            comparison.notes.push(format!("{}: {}", unread.at, unread.problem));
        }
    }
}

fn absent(vtep: &CiliumVtep, devices: &[Device], comparison: &mut Comparison) {
    let CiliumVtep { cidr, endpoint, .. } = vtep;
    if let Some(device) = devices.iter().find(|device| !device.covers(Component::Tunnels)) {
        let name = &device.name;
        comparison.notes.push(format!(
            "{name}: the input does not show all tunnels, and none of the VTEP {cidr}: it is not compared (tmsh list net tunnels)"
        ));
        return;
    }
    let problem = format!("no BIG-IP of the input has a tunnel for the VTEP {cidr} at {endpoint}");
    let remedy = "give the configuration of its BIG-IP too, or create the tunnel there";
    let finding = Finding::new(Rule::BigipAbsent, "net tunnels tunnel", None, None, problem, remedy);
    let difference =
        Difference { finding, at: None, vtep: Some(*cidr), device: None, cilium: None, commands: Vec::new() };
    comparison.differences.push(difference.against("vtep-endpoint", endpoint));
}

/// A floating local address moves to the other unit, whose tunnel has a MAC of its own.
fn alone(pair: &Pair<'_>, comparison: &mut Comparison) {
    if !is_floating(pair) {
        return;
    }
    let place = local_address(pair);
    let problem =
        "local-address is a floating self IP: after a failover, the other unit answers with the MAC of its own tunnel";
    let remedy = "give the configuration of the other unit too, and compare the MACs of the two tunnels";
    let difference = difference(pair, Rule::BigipFailoverMac, &place, problem, remedy);
    comparison.differences.push(difference.with_severity(Severity::Info));
}

fn failover(units: &[&Pair<'_>], comparison: &mut Comparison) {
    let [first, ..] = units else { return };
    let macs: Vec<_> = units.iter().filter_map(|unit| unit.tunnel.mac.as_ref()).map(|mac| mac.value).collect();
    let is_same = macs.len() == units.len() && macs.iter().all(|mac| macs.first() == Some(mac));
    if is_same {
        return;
    }
    let names: Vec<_> = units.iter().map(|unit| unit.device.name.as_str()).collect();
    let names = names.join(" and ");
    let shown = if macs.len() == units.len() { format!(" ({})", some_of(&macs)) } else { String::new() };
    let problem = format!(
        "{names} have a tunnel at the same local-address, each with a MAC of its own{shown}: after a failover, vtep-mac is wrong on \
         every node, and TCP is dead until somebody changes it"
    );
    let remedy = "give each unit a VTEP of its own (local-address, self IP and vtep-cidr), or let the agents follow the MAC (--mac learned)";
    comparison.differences.push(difference(first, Rule::BigipFailoverMac, &local_address(first), &problem, remedy));
}

fn local_address<'a>(pair: &Pair<'a>) -> Place<'a> {
    let local = &pair.tunnel.local_address;
    property(pair, "local-address", address_or_any(local.value), &local.at)
}

fn is_floating(pair: &Pair<'_>) -> bool {
    let local = pair.tunnel.local_address.value.map(|local| local.ip);
    pair.device.self_ips.iter().any(|own| own.is_floating && Some(own.address.value.addr()) == local)
}

fn unlisted(cilium: &CiliumEnd, index: usize, device: &Device, comparison: &mut Comparison) {
    let tunnels: Vec<_> = device.tunnels.iter().filter(|tunnel| may_be_meant(device, tunnel)).collect();
    let Some(first) = tunnels.first() else { return };
    let at_address = |tunnel: &&Tunnel| format!("{} at {}", tunnel.name, address_or_any(tunnel.local_address.value));
    let named: Vec<_> = tunnels.iter().map(at_address).collect();
    let endpoints: Vec<_> = cilium.vteps.iter().map(|vtep| vtep.endpoint).collect();
    let problem = format!("no VTEP names this BIG-IP, {}, with its tunnels {}", device.name, some_of(&named));
    let remedy = "add its VTEP to Cilium's configuration, or leave its file out";
    let key = format!("net tunnels tunnel {}", first.name);
    let finding = Finding::new(Rule::BigipUnlisted, &key, None, None, problem, remedy);
    let at = Some(first.at.clone());
    let difference = Difference { finding, at, vtep: None, device: Some(index), cilium: None, commands: Vec::new() };
    comparison.differences.push(difference.against("vtep-endpoint", some_of(&endpoints)));
}
