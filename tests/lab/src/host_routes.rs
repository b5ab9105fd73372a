//! Cilium's host routes for VTEPs: a route in a table of its own, and a rule that leads to it.

use anyhow::Result;
use ipnet::Ipv4Net;

use crate::host::Host;

/// Adds route and rule, and returns whether it did. Like Cilium, takes an intact route to mean that the rule exists, too.
pub(crate) fn add(node: &Host, cidr: Ipv4Net, mtu: u32) -> Result<bool> {
    // This fails if the table does not exist yet.
    let present = node.ip(&format!("route show table 202 {cidr}")).unwrap_or_default();
    if !present.is_empty() {
        return Ok(false);
    }
    node.ip(&format!(
        "route add {cidr} dev cilium_host scope link mtu {mtu} table 202
         rule add priority 112 to {cidr} lookup 202"
    ))?;
    Ok(true)
}

/// Deletes route and rule.
pub(crate) fn delete(node: &Host, cidr: Ipv4Net) {
    // Another program may have deleted either of them.
    let _ = node.ip(&format!("route del {cidr} table 202"));
    let _ = node.ip(&format!("rule del priority 112 to {cidr} lookup 202"));
}
