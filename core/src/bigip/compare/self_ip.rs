//! The self IP inside the tunnel: its network, and what it accepts.

use super::{
    super::device::{AllowService, Component, SelfIp},
    Comparison, Place, difference,
    pairing::Pair,
    some_of,
};
use crate::config::finding::{Rule, Severity};

pub(super) fn compare(pair: &Pair<'_>, comparison: &mut Comparison) {
    let all: Vec<_> = pair.self_ips().collect();
    let inside: Vec<_> = all.iter().copied().filter(|own| is_inside(pair, own)).collect();
    match (inside.as_slice(), all.as_slice()) {
        ([], []) => missing(pair, comparison),
        ([], outside) => outside.iter().for_each(|own| outside_of_cidr(pair, own, comparison)),
        (inside, _) => {
            inside.iter().for_each(|own| prefix(pair, own, comparison));
            lockdown(pair, inside, comparison);
        }
    }
}

fn is_inside(pair: &Pair<'_>, own: &SelfIp) -> bool {
    pair.vtep.cidr.contains(&own.address.value.addr())
}

fn missing(pair: &Pair<'_>, comparison: &mut Comparison) {
    let tunnel = pair.tunnel;
    let cidr = pair.vtep.cidr;
    if !pair.device.covers(Component::SelfIps) {
        let name = &pair.device.name;
        comparison
            .notes
            .push(format!("{name}: the input shows no self IPs: these are not compared (tmsh list net self)"));
        return;
    }
    let place = Place { key: format!("net tunnels tunnel {}", tunnel.name), value: None, at: &tunnel.at };
    let problem = format!("the tunnel has no self IP in {cidr}, so BIG-IP can neither ask for pods nor answer a ping");
    let difference = difference(pair, Rule::BigipSelfIp, &place, &problem, "create one");
    comparison.differences.push(difference.against("vtep-cidr", cidr).mended_by([create(pair)]));
}

/// The command that creates the self IP. Its address is for a person to choose.
fn create(pair: &Pair<'_>) -> String {
    let (cidr, tunnel) = (pair.vtep.cidr, &pair.tunnel.name);
    let taken = |name: &String| pair.device.self_ips.iter().any(|own| own.name.short() == name);
    let first = format!("{tunnel}_self");
    let name = if taken(&first) { format!("{tunnel}_vtep_self") } else { first };
    let length = cidr.prefix_len();
    format!("create net self {name} address <an address in {cidr}>/{length} allow-service default vlan {tunnel}")
}

fn outside_of_cidr(pair: &Pair<'_>, own: &SelfIp, comparison: &mut Comparison) {
    let (cidr, address) = (pair.vtep.cidr, own.address.value);
    let place = address_of(own);
    let problem = format!("the tunnel's self IP {address} is outside {cidr}: nodes send its answers elsewhere");
    let remedy = format!("create a self IP in {cidr} and delete this one, or write {} into vtep-cidr", address.trunc());
    let difference = difference(pair, Rule::BigipSelfIp, &place, &problem, &remedy);
    comparison.differences.push(difference.against("vtep-cidr", cidr).mended_by([create(pair)]));
}

fn prefix(pair: &Pair<'_>, own: &SelfIp, comparison: &mut Comparison) {
    let (cidr, address) = (pair.vtep.cidr, own.address.value);
    if address.prefix_len() == cidr.prefix_len() {
        return;
    }
    let network = address.trunc();
    let pods: Vec<_> =
        pair.cilium.pods.iter().filter(|pods| network.contains(*pods) || pods.contains(&network)).collect();
    let length = cidr.prefix_len();
    let (problem, severity) = if pods.is_empty() {
        (
            format!("the self IP has the prefix length {}, and vtep-cidr has {length}", address.prefix_len()),
            Severity::Warning,
        )
    } else {
        let pods = some_of(&pods);
        (
            format!(
                "the self IP's network {network} overlaps the pods in {pods}: BIG-IP takes them for its own network"
            ),
            Severity::Error,
        )
    };
    let remedy = format!("create it again as {}/{length}", address.addr());
    let (name, vlan) = (&own.name, &own.vlan.value);
    // tmsh cannot change the address of a self IP.
    let commands = [
        format!("delete net self {name}"),
        format!("create net self {name} address {}/{length} allow-service default vlan {vlan}", address.addr()),
    ];
    let difference = difference(pair, Rule::BigipSelfIp, &address_of(own), &problem, &remedy);
    comparison.differences.push(difference.with_severity(severity).against("vtep-cidr", cidr).mended_by(commands));
}

/// If there are several, for example the unit's own and a floating one, one that answers is enough.
fn lockdown(pair: &Pair<'_>, inside: &[&SelfIp], comparison: &mut Comparison) {
    let [first, ..] = inside else { return };
    if inside.iter().any(|own| own.allow_service.value != AllowService::None) {
        return;
    }
    let by_default = if first.allow_service.is_default { " by default" } else { "" };
    let place = Place {
        key: format!("net self {} allow-service", first.name),
        value: Some("none".to_owned()),
        at: &first.allow_service.at,
    };
    let problem = format!(
        "the self IP {} allows no service{by_default}: it answers no ping, so the tunnel looks dead although monitors work",
        first.address.value
    );
    let difference = difference(pair, Rule::BigipSelfIpLockdown, &place, &problem, "allow the default services");
    comparison
        .differences
        .push(difference.mended_by([format!("modify net self {} allow-service default", first.name)]));
}

fn address_of(own: &SelfIp) -> Place<'_> {
    let value = Some(own.address.value.to_string());
    Place { key: format!("net self {} address", own.name), value, at: &own.address.at }
}
