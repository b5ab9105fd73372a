//! Compares the two ends of the tunnels: Cilium's VTEPs with the objects of the BIG-IPs that they name.
//!
//! A comparison judges only what the input shows. What it cannot judge is a note, not a difference: a configuration that was given in part
//! proves nothing about the rest.

mod cilium;
mod fdb;
mod mtu;
mod pairing;
mod routes;
mod self_ip;
#[cfg(test)]
mod tests;
mod tunnel;
mod units;

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

use self::pairing::Pair;
use super::device::{Address, Component, Device};
use crate::{
    config::{
        finding::{Finding, Rule, Severity},
        spec::Tunnel,
    },
    types::{location::Location, mac::Mac},
};

/// Cilium's end.
#[derive(Clone, Debug, Default)]
pub struct CiliumEnd {
    pub tunnel: Tunnel,
    pub vteps: Vec<CiliumVtep>,
    /// The networks of pods; empty if they are not known.
    pub pods: BTreeSet<Ipv4Net>,
    /// The pools that pods' networks are taken from (`cluster-pool-ipv4-cidr`). They may also contain other networks.
    pub pools: BTreeSet<Ipv4Net>,
    /// The nodes of the cluster; `None` if they are not known.
    pub nodes: Option<Vec<ClusterNode>>,
    /// The MTU of the underlay, if the configuration sets it.
    pub mtu: Option<u16>,
}

/// A VTEP as Cilium's configuration has it, also if an error keeps it from taking effect: the other end may show what is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CiliumVtep {
    pub cidr: Ipv4Net,
    pub endpoint: Ipv4Addr,
    pub mac: Option<Mac>,
}

/// A node as BIG-IP's forwarding databases must know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterNode {
    pub name: Option<String>,
    /// Its address on the underlay: the InternalIP.
    pub address: Option<Ipv4Addr>,
    /// Its other addresses. A record with one of these leads nowhere.
    pub others: Vec<Ipv4Addr>,
    /// The networks that Kubernetes gave to it.
    pub pod_cidrs: Vec<Ipv4Net>,
}

/// A difference between the two ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its `key` is BIG-IP's object and property, its `value` BIG-IP's value.
    pub finding: Finding,
    /// Where BIG-IP's value stands.
    pub at: Option<Location>,
    /// The VTEP that it concerns.
    pub vtep: Option<Ipv4Net>,
    /// The index of the BIG-IP in the input.
    pub device: Option<usize>,
    /// Cilium's key and value.
    pub cilium: Option<String>,
    /// The tmsh commands that end the difference. Empty if the change belongs into Cilium's configuration.
    pub commands: Vec<String>,
}

/// The result of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub differences: Vec<Difference>,
    /// For each VTEP, in the order of [`CiliumEnd::vteps`], the BIG-IPs that have its tunnel, each with the tunnel's name.
    pub paired: Vec<Vec<(usize, String)>>,
    /// What could not be judged, and what would show it.
    pub notes: Vec<String>,
}

/// Compares Cilium's end with these BIG-IPs.
#[must_use]
pub fn compare(cilium: &CiliumEnd, devices: &[Device]) -> Comparison {
    let pairs = pairing::pair(cilium, devices);
    let mut comparison = Comparison::default();
    for pair in &pairs {
        tunnel::compare(pair, &mut comparison);
        mtu::compare(pair, &mut comparison);
        self_ip::compare(pair, &mut comparison);
        routes::compare(pair, &mut comparison);
        fdb::compare(pair, &mut comparison);
    }
    units::compare(cilium, devices, &pairs, &mut comparison);
    comparison.paired = cilium.vteps.iter().map(|vtep| devices_of(vtep, &pairs)).collect();
    comparison.notes.sort();
    comparison.notes.dedup();
    comparison.differences.sort_by_key(|difference| (difference.device, difference.vtep, difference.finding.rule));
    comparison
}

fn devices_of(vtep: &CiliumVtep, pairs: &[Pair<'_>]) -> Vec<(usize, String)> {
    let own = pairs.iter().filter(|pair| pair.vtep == vtep);
    own.map(|pair| (pair.index, pair.tunnel.name.to_string())).collect()
}

/// A difference about a pair's object, without Cilium's value and without commands.
fn difference(pair: &Pair<'_>, rule: Rule, place: &Place<'_>, problem: &str, remedy: &str) -> Difference {
    let finding = Finding::new(rule, &place.key, None, place.value.as_deref(), problem, remedy);
    Difference {
        finding,
        at: Some(place.at.clone()),
        vtep: Some(pair.vtep.cidr),
        device: Some(pair.index),
        cilium: None,
        commands: Vec::new(),
    }
}

impl Difference {
    fn with_severity(mut self, severity: Severity) -> Self {
        self.finding.severity = severity;
        self
    }

    /// Adds Cilium's key and value.
    fn against(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.cilium = Some(format!("{key} {value}"));
        self
    }

    fn mended_by(mut self, commands: impl IntoIterator<Item = String>) -> Self {
        self.commands.extend(plain(commands.into_iter().collect()));
        self
    }
}

/// The commands, or comments in their place if a name in one of them has characters that mean something to tmsh or to a shell. A person
/// pastes the commands, and somebody else may have written the input. Without one of them, the others could do harm.
fn plain(commands: Vec<String>) -> Vec<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" _-./:%{}".contains(&byte);
    if commands.iter().all(|command| without_placeholder(command).bytes().all(is_plain)) {
        return commands;
    }
    let comment = |command: String| {
        let shown: String = command.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("# a name is not plain, write it by hand: {shown}")
    };
    commands.into_iter().map(comment).collect()
}

/// The command without the brackets around a value that a person has to choose.
fn without_placeholder(command: &str) -> String {
    let placeholder = command.find("<pod CIDR>").or_else(|| command.find("<an address in "));
    let parts = placeholder.and_then(|start| {
        let (before, rest) = command.split_at_checked(start)?;
        let (inside, after) = rest.strip_prefix('<')?.split_once('>')?;
        Some([before, inside, after].concat())
    });
    parts.unwrap_or_else(|| command.to_owned())
}

/// BIG-IP's object and property, its value, and where it stands.
struct Place<'a> {
    key: String,
    value: Option<String>,
    at: &'a Location,
}

impl Device {
    fn covers(&self, component: Component) -> bool {
        self.covered.contains(&component)
    }
}

/// An address as BIG-IP shows it.
fn address_or_any(address: Option<Address>) -> String {
    address.map_or_else(|| "any".to_owned(), |address| address.to_string())
}

/// The addresses as a sentence lists them: the first three, and how many more.
fn some_of<T: std::fmt::Display>(all: &[T]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    match all.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
