//! What is missing on each BIG-IP, as tmsh commands.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{
    compare::{CiliumEnd, Comparison, Difference},
    device::Device,
    wanted::{BigIp, SiteValues, bigips},
};
use crate::config::{
    finding::Rule,
    spec::{Spec, Vtep},
};

/// The changes to one BIG-IP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DevicePlan {
    /// Its hostname, or the file that describes it.
    pub bigip: String,
    /// In this order; empty if nothing is missing.
    pub commands: Vec<String>,
    /// Commands that delete FDB records of no node: right only if the list of nodes is complete.
    pub optional: Vec<String>,
}

/// The changes to each BIG-IP of the input, in its order.
#[must_use]
pub fn plan(devices: &[Device], comparison: &Comparison) -> Vec<DevicePlan> {
    let of_device = |(index, device): (usize, &Device)| {
        let own = comparison.differences.iter().filter(|difference| difference.device == Some(index));
        let (stale, own): (Vec<_>, Vec<_>) = own.partition(|difference| difference.finding.rule == Rule::BigipFdbStale);
        let commands_of = |all: Vec<&Difference>| -> Vec<String> {
            all.into_iter().flat_map(|difference| &difference.commands).cloned().collect()
        };
        let optional = commands_of(stale);
        let mut seen = BTreeSet::new();
        let mut commands = commands_of(own);
        // Two differences of one object may need the same change.
        commands.retain(|command| seen.insert(command.clone()));
        if !commands.is_empty() {
            commands.push("save sys config".to_owned());
        }
        DevicePlan { bigip: device.name.clone(), commands, optional }
    };
    devices.iter().enumerate().map(of_device).collect()
}

/// The VTEPs whose BIG-IP is not in the input, with all that it needs.
#[must_use]
pub fn absent(cilium: &CiliumEnd, comparison: &Comparison, site: &SiteValues) -> Vec<BigIp> {
    let without = cilium.vteps.iter().zip(&comparison.paired).filter(|(_, devices)| devices.is_empty());
    let vteps = without.filter_map(|(vtep, _)| Some(Vtep { cidr: vtep.cidr, endpoint: vtep.endpoint, mac: vtep.mac? }));
    let spec = Spec { enabled: true, vteps: vteps.collect(), mask: None, tunnel: cilium.tunnel };
    bigips(&spec, site)
}

/// A command as a line for a shell. It may run twice: what is there already is not created again. A value that a person has to choose
/// makes it a comment.
#[must_use]
pub fn for_shell(command: &str) -> String {
    if command.starts_with('#') {
        return command.to_owned();
    }
    if command.contains(['<', '>']) {
        return format!("# complete this: tmsh {command}");
    }
    let words: Vec<&str> = command.split(' ').collect();
    match words.as_slice() {
        // `create net tunnels vxlan NAME …`, `create net self NAME …`
        ["create", "net", "tunnels", kind, name, ..] => {
            format!("tmsh list net tunnels {kind} {name} >/dev/null 2>&1 || tmsh {command}")
        }
        ["create", "net", kind, name, ..] => format!("tmsh list net {kind} {name} >/dev/null 2>&1 || tmsh {command}"),
        ["modify", "net", "fdb", "tunnel", name, "records", "add", "{", mac, ..] => {
            format!("tmsh list net fdb tunnel {name} records {{ {mac} }} 2>/dev/null | grep -q {mac} || tmsh {command}")
        }
        ["delete", "net", kind, name] => format!("tmsh list net {kind} {name} >/dev/null 2>&1 && tmsh {command}"),
        _ => format!("tmsh {command}"),
    }
}

/// A text of somebody else as a part of one line: a control character could begin another line.
#[must_use]
pub fn in_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_a_shell_may_run_twice() {
        let cases = [
            (
                "create net self cilium_self address 10.1.6.34/24",
                "tmsh list net self cilium_self >/dev/null 2>&1 || tmsh create net self cilium_self address 10.1.6.34/24",
            ),
            (
                "create net tunnels vxlan p port 8472",
                "tmsh list net tunnels vxlan p >/dev/null 2>&1 || tmsh create net tunnels vxlan p port 8472",
            ),
            (
                "modify net fdb tunnel cilium records add { 0a:0a:0a:a9:48:ef { endpoint 10.169.72.239 } }",
                "tmsh list net fdb tunnel cilium records { 0a:0a:0a:a9:48:ef } 2>/dev/null | grep -q 0a:0a:0a:a9:48:ef || tmsh modify \
                 net fdb tunnel cilium records add { 0a:0a:0a:a9:48:ef { endpoint 10.169.72.239 } }",
            ),
            ("modify net tunnels tunnel cilium key 2", "tmsh modify net tunnels tunnel cilium key 2"),
            (
                "create net self cilium_self address <an address in 10.1.6.0/24>/24",
                "# complete this: tmsh create net self cilium_self address <an address in 10.1.6.0/24>/24",
            ),
            ("save sys config", "tmsh save sys config"),
        ];
        for (command, line) in cases {
            assert_eq!(for_shell(command), line);
        }
    }
}
