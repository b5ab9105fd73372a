//! The tunnel's MTU.

use super::{Comparison, difference, pairing::Pair, tunnel::property};
use crate::config::finding::{Rule, Severity};

/// The outer headers of VXLAN, and of Geneve without options, over IPv4: Ethernet 14, IPv4 20, UDP 8, tunnel 8 octets.
const OVERHEAD: u16 = 50;
/// The MTU of Ethernet.
const ETHERNET: u16 = 1500;

pub(super) fn compare(pair: &Pair<'_>, comparison: &mut Comparison) {
    let mtu = pair.tunnel.mtu.value;
    let needed = mtu.saturating_add(OVERHEAD);
    let underlay = pair.cilium.mtu.unwrap_or(ETHERNET);
    if mtu == 0 || needed <= underlay {
        return;
    }
    let fits = underlay.saturating_sub(OVERHEAD);
    let place = property(pair, "mtu", mtu.to_string(), &pair.tunnel.mtu.at);
    let difference = if let Some(underlay) = pair.cilium.mtu {
        let problem = format!("with an MTU of {mtu}, frames have {needed} bytes on an underlay of {underlay}");
        let command = format!("modify net tunnels tunnel {} mtu {fits}", pair.tunnel.name);
        difference(pair, Rule::BigipMtu, &place, &problem, &format!("set mtu to 0, or to {fits}"))
            .against("mtu", underlay)
            .mended_by([command])
    } else {
        // The underlay may have larger frames.
        let problem = format!("with an MTU of {mtu}, the underlay needs one of {needed}, on the nodes too");
        let remedy = format!("set mtu to 0, or to {fits}, if the underlay has Ethernet's usual MTU of {ETHERNET}");
        difference(pair, Rule::BigipMtu, &place, &problem, &remedy).with_severity(Severity::Info)
    };
    comparison.differences.push(difference);
}
