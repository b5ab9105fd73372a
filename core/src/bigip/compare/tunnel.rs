//! The tunnel itself and its profile.

use super::{
    super::device::{Component, Flooding, ObjectName, Profile, ProfileKind},
    Comparison, Place, address_or_any, difference,
    pairing::Pair,
};
use crate::{
    config::{finding::Rule, spec::TunnelProtocol},
    tunnel::frames::VTEP_VNI,
    types::location::Location,
};

pub(super) fn compare(pair: &Pair<'_>, comparison: &mut Comparison) {
    key(pair, comparison);
    profile(pair, comparison);
    local_address(pair, comparison);
    mac(pair, comparison);
}

fn key(pair: &Pair<'_>, comparison: &mut Comparison) {
    let tunnel = pair.tunnel;
    let key = tunnel.key.value;
    if key == VTEP_VNI {
        return;
    }
    let place = property(pair, "key", key.to_string(), &tunnel.key.at);
    let problem = format!("the key is {key}, and Cilium takes only frames with VNI {VTEP_VNI} from a BIG-IP");
    let difference = difference(pair, Rule::BigipKey, &place, &problem, &format!("set the key to {VTEP_VNI}"));
    let command = format!("modify net tunnels tunnel {} key {VTEP_VNI}", tunnel.name);
    comparison.differences.push(difference.mended_by([command]));
}

fn profile(pair: &Pair<'_>, comparison: &mut Comparison) {
    let tunnel = pair.tunnel;
    let protocol = pair.cilium.tunnel.protocol;
    let name = &tunnel.profile.value;
    let place = property(pair, "profile", name.to_string(), &tunnel.profile.at);
    let Some(profile) = pair.profile() else {
        if pair.device.covers(Component::Profiles) {
            let problem = format!("the profile {name} does not exist");
            let own = own_profile(pair);
            let remedy = format!("create a {protocol} profile for the tunnel");
            comparison.differences.push(
                difference(pair, Rule::BigipProfile, &place, &problem, &remedy)
                    .against("tunnel-protocol", protocol)
                    .mended_by(own),
            );
        } else {
            comparison.notes.push(format!(
                "{}: the profile {name} is not in the input: its port and flooding-type are not compared (tmsh list net tunnels)",
                pair.device.name
            ));
        }
        return;
    };
    let is_same = matches!(
        (&profile.kind, protocol),
        (ProfileKind::Vxlan, TunnelProtocol::Vxlan) | (ProfileKind::Geneve, TunnelProtocol::Geneve)
    );
    if !is_same {
        let problem =
            format!("the profile {name} is of the kind {}, and Cilium's tunnels are {protocol}", profile.kind);
        let remedy = format!("give the tunnel a {protocol} profile");
        comparison.differences.push(
            difference(pair, Rule::BigipProfile, &place, &problem, &remedy)
                .against("tunnel-protocol", protocol)
                .mended_by(own_profile(pair)),
        );
        return;
    }
    port(pair, profile, comparison);
    flooding(pair, profile, comparison);
}

fn port(pair: &Pair<'_>, profile: &Profile, comparison: &mut Comparison) {
    let wanted = pair.cilium.tunnel.port;
    let port = profile.port.value;
    if port == wanted {
        return;
    }
    let by_default = if profile.port.is_default { " by default" } else { "" };
    let place = Place {
        key: format!("net tunnels {} {} port", profile.kind, profile.name),
        value: Some(port.to_string()),
        at: &profile.port.at,
    };
    let problem = format!("the tunnel's UDP port is {port}{by_default}, and Cilium's is {wanted}");
    let difference = difference(pair, Rule::BigipPort, &place, &problem, &format!("set the port to {wanted}"));
    let command = change_profile(pair, profile, &format!("port {wanted}"));
    comparison.differences.push(difference.against("tunnel-port", wanted).mended_by(command));
}

fn flooding(pair: &Pair<'_>, profile: &Profile, comparison: &mut Comparison) {
    let flooding = &profile.flooding.value;
    if *flooding == Flooding::Multipoint {
        return;
    }
    let by_default = if profile.flooding.is_default { " by default" } else { "" };
    let place = Place {
        key: format!("net tunnels {} {} flooding-type", profile.kind, profile.name),
        value: Some(flooding.to_string()),
        at: &profile.flooding.at,
    };
    let problem = format!(
        "flooding-type is {flooding}{by_default}: BIG-IP sends its ARP requests for pods to no node, and members stay down"
    );
    let difference = difference(pair, Rule::BigipFlooding, &place, &problem, "set flooding-type to multipoint");
    let command = change_profile(pair, profile, "flooding-type multipoint");
    comparison.differences.push(difference.mended_by(command));
}

fn local_address(pair: &Pair<'_>, comparison: &mut Comparison) {
    let (tunnel, endpoint) = (pair.tunnel, pair.vtep.endpoint);
    let local = tunnel.local_address.value;
    // Without a self IP on a VLAN, the input does not show the underlay.
    let tunnels = &pair.device.tunnels;
    let is_on_vlan = |vlan: &ObjectName| tunnels.iter().all(|tunnel| tunnel.name != *vlan);
    let shows_underlay = pair.device.self_ips.iter().any(|own| is_on_vlan(&own.vlan.value));
    let judges_self_ips = pair.device.covers(Component::SelfIps) && shows_underlay;
    let is_own = |ip| pair.device.self_ips.iter().any(|own| own.address.value.addr() == ip);
    let is_endpoint = local.is_some_and(|local| local.ip == endpoint);
    let lacks_self_ip = judges_self_ips && local.is_some_and(|local| !is_own(local.ip));
    if is_endpoint && !lacks_self_ip {
        return;
    }
    let shown = address_or_any(local);
    let mut problems = Vec::new();
    if !is_endpoint {
        problems.push(format!("not the vtep-endpoint {endpoint}"));
    }
    if lacks_self_ip {
        problems.push("no self IP of this BIG-IP".to_owned());
    }
    let place = property(pair, "local-address", shown.clone(), &tunnel.local_address.at);
    let problem = format!("local-address {shown} is {}", problems.join(" and "));
    let is_inside = pair.self_ips().any(|own| own.address.value.addr() == endpoint);
    let command = format!("modify net tunnels tunnel {} local-address {endpoint}", tunnel.name);
    let (remedy, commands) = match local {
        Some(local) if is_inside && !lacks_self_ip => {
            (format!("{endpoint} is the self IP inside the tunnel: write {} into vtep-endpoint", local.ip), Vec::new())
        }
        _ if is_endpoint => (format!("create a self IP {endpoint} on the VLAN of the nodes"), Vec::new()),
        Some(local) if judges_self_ips && !lacks_self_ip && !is_own(endpoint) => {
            (format!("{endpoint} is no self IP here: write {} into vtep-endpoint", local.ip), Vec::new())
        }
        _ => (format!("set local-address to {endpoint}"), vec![command]),
    };
    let difference = difference(pair, Rule::BigipLocalAddress, &place, &problem, &remedy);
    comparison.differences.push(difference.against("vtep-endpoint", endpoint).mended_by(commands));
}

fn mac(pair: &Pair<'_>, comparison: &mut Comparison) {
    let (Some(shown), Some(configured)) = (&pair.tunnel.mac, pair.vtep.mac) else { return };
    if shown.value == configured {
        return;
    }
    let place = property(pair, "MAC", shown.value.to_string(), &shown.at);
    let problem =
        format!("the tunnel's MAC is {}, and vtep-mac is {configured}: BIG-IP drops what pods send", shown.value);
    let remedy = format!("write {} into vtep-mac", shown.value);
    comparison
        .differences
        .push(difference(pair, Rule::BigipMac, &place, &problem, &remedy).against("vtep-mac", configured));
}

/// A property of the tunnel.
pub(super) fn property<'a>(pair: &Pair<'a>, name: &str, value: String, at: &'a Location) -> Place<'a> {
    Place { key: format!("net tunnels tunnel {} {name}", pair.tunnel.name), value: Some(value), at }
}

/// The commands that give the tunnel a profile of its own.
fn own_profile(pair: &Pair<'_>) -> Vec<String> {
    let (protocol, port, tunnel) = (pair.cilium.tunnel.protocol, pair.cilium.tunnel.port, &pair.tunnel.name);
    let free = |name: &String| pair.device.profiles.iter().all(|profile| profile.name.short() != name);
    let names = (1..).map(|n| if n == 1 { format!("{tunnel}_{protocol}") } else { format!("{tunnel}_{protocol}_{n}") });
    let name = names.take(100).find(free).unwrap_or_else(|| format!("{tunnel}_{protocol}"));
    vec![
        format!("create net tunnels {protocol} {name} port {port} flooding-type multipoint"),
        format!("modify net tunnels tunnel {tunnel} profile {name}"),
    ]
}

/// Changes a profile, or if it is one of BIG-IP's own, which other tunnels may use, gives the tunnel another one.
fn change_profile(pair: &Pair<'_>, profile: &Profile, change: &str) -> Vec<String> {
    if profile.is_built_in() {
        own_profile(pair)
    } else {
        vec![format!("modify net tunnels {} {} {change}", profile.kind, profile.name)]
    }
}
