//! The records of the tunnel's forwarding database: BIG-IP reaches only the nodes that have one.

use std::collections::BTreeSet;

use super::{
    super::{
        device::{Address, Component, Fdb, FdbEntry, Setting},
        wanted::FdbRecord,
    },
    ClusterNode, Comparison, Place, address_or_any, difference,
    pairing::Pair,
    some_of,
};
use crate::config::finding::Rule;

pub(super) fn compare(pair: &Pair<'_>, comparison: &mut Comparison) {
    let (device, tunnel) = (pair.device, pair.tunnel);
    let found: Vec<&Fdb> = device.fdb.iter().filter(|fdb| fdb.tunnel == tunnel.name).collect();
    // A BIG-IP lists the database of each tunnel, also an empty one. If it lists those of others only, this one was not asked for.
    let is_covered = device.covers(Component::Fdb) && (device.fdb.is_empty() || !found.is_empty());
    if !is_covered {
        let what = format!("{}: the input does not show all FDB records: missing ones are not found", device.name);
        comparison.notes.push(format!("{what} (tmsh list net fdb tunnel {})", tunnel.name));
    }
    let records: Vec<_> = found.iter().flat_map(|fdb| &fdb.records).filter(|record| !record.is_dynamic).collect();
    let at = found.first().map_or(&tunnel.at, |fdb| &fdb.at);
    let place = |value| Place { key: format!("net fdb tunnel {} records", tunnel.name), value, at };
    route_domains(pair, &records, comparison);
    let Some(nodes) = &pair.cilium.nodes else {
        if records.is_empty() && is_covered {
            let problem = "the forwarding database is empty, so BIG-IP reaches no pod";
            let remedy = "add a record for each node (give --node-ip or --nodes)";
            comparison.differences.push(difference(pair, Rule::BigipFdbMissing, &place(None), problem, remedy));
        } else {
            let name = &device.name;
            comparison
                .notes
                .push(format!("{name}: nodes are not known: FDB records are not compared (--node-ip, --nodes)"));
        }
        return;
    };
    if is_covered {
        missing(pair, nodes, &records, &place(None), comparison);
    }
    stale(pair, nodes, &records, comparison);
}

/// Records in another route domain than the tunnel lead nowhere.
fn route_domains(pair: &Pair<'_>, records: &[&FdbEntry], comparison: &mut Comparison) {
    let domain = pair.route_domain();
    let endpoints = records.iter().filter_map(|record| record.endpoint.as_ref());
    let elsewhere: Vec<&Setting<Address>> =
        endpoints.filter(|endpoint| endpoint.value.route_domain != domain).collect();
    let Some(first) = elsewhere.first() else { return };
    let tunnel = &pair.tunnel.name;
    let shown: Vec<Address> = elsewhere.iter().map(|endpoint| endpoint.value).collect();
    let place =
        Place { key: format!("net fdb tunnel {tunnel} records"), value: Some(first.value.to_string()), at: &first.at };
    let problem =
        format!("FDB records lead into another route domain than the tunnel's, which is {domain}: {}", some_of(&shown));
    let in_domain = |record: &&&FdbEntry| record.endpoint.as_ref().is_some_and(|at| at.value.route_domain != domain);
    let commands = records.iter().filter(in_domain).filter_map(|record| {
        let ip = record.endpoint.as_ref()?.value.ip;
        let endpoint = Address { ip, route_domain: domain };
        Some(format!("modify net fdb tunnel {tunnel} records modify {{ {} {{ endpoint {endpoint} }} }}", record.mac))
    });
    let remedy = format!("write the endpoints with %{domain}");
    comparison.differences.push(
        difference(pair, Rule::BigipRouteDomain, &place, &problem, &remedy)
            .against("local-address", address_or_any(pair.tunnel.local_address.value))
            .mended_by(commands),
    );
}

fn missing(
    pair: &Pair<'_>,
    nodes: &[ClusterNode],
    records: &[&FdbEntry],
    place: &Place<'_>,
    comparison: &mut Comparison,
) {
    let recorded: BTreeSet<_> =
        records.iter().filter_map(|record| record.endpoint.as_ref()).map(|endpoint| endpoint.value.ip).collect();
    let lacking: Vec<&ClusterNode> =
        nodes.iter().filter(|node| node.address.is_some_and(|address| !recorded.contains(&address))).collect();
    if lacking.is_empty() {
        return;
    }
    let tunnel = &pair.tunnel.name;
    let wrong: Vec<String> = lacking
        .iter()
        .filter_map(|node| node.others.iter().find(|other| recorded.contains(other)).map(|other| (node, other)))
        .map(|(node, other)| format!("{} is recorded with {other}", node.shown()))
        .collect();
    let shown: Vec<String> = lacking.iter().map(|node| node.shown()).collect();
    let mut problem = match (recorded.is_empty(), shown.len()) {
        (true, _) => "the forwarding database is empty, so BIG-IP reaches no pod".to_owned(),
        (false, 1) => format!("no FDB record for the node {}: BIG-IP does not reach its pods", some_of(&shown)),
        (false, n) => format!("no FDB records for {n} nodes, {}: BIG-IP does not reach their pods", some_of(&shown)),
    };
    if !wrong.is_empty() {
        problem += &format!("; {}, which is not its InternalIP", some_of(&wrong));
    }
    let domain = pair.route_domain();
    let commands = lacking.iter().filter_map(|node| node.address).map(|address| {
        let FdbRecord { mac, endpoint: ip } = FdbRecord::of_node(address);
        let endpoint = Address { ip, route_domain: domain };
        format!("modify net fdb tunnel {tunnel} records add {{ {mac} {{ endpoint {endpoint} }} }}")
    });
    let remedy = "add the records, or let CIS keep them (--cilium-name)";
    comparison.differences.push(difference(pair, Rule::BigipFdbMissing, place, &problem, remedy).mended_by(commands));
}

fn stale(pair: &Pair<'_>, nodes: &[ClusterNode], records: &[&FdbEntry], comparison: &mut Comparison) {
    let known: BTreeSet<_> = nodes.iter().filter_map(|node| node.address).collect();
    let vteps: BTreeSet<_> = pair.cilium.vteps.iter().map(|vtep| vtep.endpoint).collect();
    let is_stale = |record: &&&FdbEntry| {
        let endpoint = record.endpoint.as_ref().map(|endpoint| endpoint.value.ip);
        endpoint.is_some_and(|ip| !known.contains(&ip) && !vteps.contains(&ip))
    };
    let stale: Vec<&FdbEntry> = records.iter().filter(is_stale).copied().collect();
    let Some(first) = stale.first() else { return };
    let endpoints: Vec<Address> =
        stale.iter().filter_map(|record| record.endpoint.as_ref()).map(|endpoint| endpoint.value).collect();
    let tunnel = &pair.tunnel.name;
    let place = Place {
        key: format!("net fdb tunnel {tunnel} records"),
        value: endpoints.first().map(ToString::to_string),
        at: &first.at,
    };
    let (records, have) = if stale.len() == 1 { ("record", "has") } else { ("records", "have") };
    let problem = format!(
        "{} FDB {records} {have} the address of no node: {}; BIG-IP floods each ARP request to them",
        stale.len(),
        some_of(&endpoints)
    );
    let commands =
        stale.iter().map(|record| format!("modify net fdb tunnel {tunnel} records delete {{ {} }}", record.mac));
    comparison.differences.push(
        difference(pair, Rule::BigipFdbStale, &place, &problem, "delete them, if the list of nodes is complete")
            .mended_by(commands),
    );
}

impl ClusterNode {
    fn shown(&self) -> String {
        let address = self.address.map(|address| address.to_string());
        match (&self.name, address) {
            (Some(name), Some(address)) => format!("{name} ({address})"),
            (Some(name), None) => name.clone(),
            (None, address) => address.unwrap_or_default(),
        }
    }
}
