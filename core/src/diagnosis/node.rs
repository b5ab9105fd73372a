//! Causes on this node: its kernel, and Cilium. Pure.

use std::time::Instant;

use super::{Cause, Evidence, RECENT, age::at_least, map};
use crate::{
    datapath::layout::Layout,
    node::{drift::Difference, fitness::Kernel, udp::UdpErrors},
    tunnel::{
        send_error::SendError,
        vtep_probes::{ProbeState, VtepProbes},
    },
};

/// Fewer UDP errors than this happen on any node.
const MIN_UDP_ERRORS: u64 = 3;

pub(super) fn kernel_unsupported(evidence: &Evidence<'_>, _now: Instant) -> Option<String> {
    let Kernel { release, supported, reasons } = evidence.kernel;
    let reasons = || reasons.join("; ");
    (!supported).then(|| format!("nothing is written on this node, which is not fit: {} (Linux {release})", reasons()))
}

pub(super) fn cilium_not_running(evidence: &Evidence<'_>, _now: Instant) -> Option<String> {
    // Facts about another tunnel come from an earlier configuration.
    if evidence.facts.tunnel != evidence.tunnel {
        return None;
    }
    let cilium = &evidence.facts.cilium;
    let mut absent = Vec::new();
    if cilium.tunnel.is_none() {
        absent.push(format!("the device {}", evidence.tunnel.protocol.device()));
    }
    match (&cilium.host, cilium.router) {
        (None, _) => absent.push("the device cilium_host".into()),
        (Some(_), None) => absent.push("the router address on cilium_host".into()),
        (Some(_), Some(_)) => {}
    }
    (!absent.is_empty()).then(|| format!("look at Cilium's pod on this node: {} is not there", absent.join(" and ")))
}

/// A remark: the programs work on.
pub(super) fn cilium_agent_not_running(evidence: &Evidence<'_>, _now: Instant) -> Option<String> {
    let since = evidence.facts.agent.stopped_at()?;
    Some(format!(
        "look at Cilium's pod on this node: its agent does not run since {since:.0}; its programs and maps work on, and nothing is \
         reconciled"
    ))
}

pub(super) fn cilium_device_down(evidence: &Evidence<'_>, _now: Instant) -> Option<String> {
    let cilium = &evidence.facts.cilium;
    let down = [&cilium.tunnel, &cilium.host].into_iter().flatten().find(|device| !device.up)?;
    let name = &down.name;
    Some(format!(
        "run `ip link set {name} up` on this node, and find out who set it down: every packet to a VTEP needs {name}"
    ))
}

pub(super) fn cilium_broken_release(evidence: &Evidence<'_>, _now: Instant) -> Option<String> {
    let version = evidence.facts.version?;
    let broken = version.broken()?;
    let what = broken.what.replace("BIG-IP", &evidence.peer_name());
    Some(format!("upgrade Cilium to {} or newer: {version} is broken for VTEPs, {what}", broken.fixed_in))
}

pub(super) fn cilium_arp_zero_mac(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let (at, mac) = evidence.probes?.answered?;
    let version = evidence.facts.version.map(|version| format!(" (this is {version})")).unwrap_or_default();
    (mac.is_zero() && now.duration_since(at) < RECENT).then(|| {
        format!(
            "upgrade Cilium to 1.18.8, 1.19.2 or newer{version}: it answers the ARP requests of {} with the MAC {mac}; until then a \
             static ARP entry on {} helps",
            evidence.peer(),
            evidence.peer_name()
        )
    })
}

pub(super) fn cilium_vtep_disabled(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let problem = evidence.datapath.map_problem.as_ref()?;
    let devices_there = cilium_not_running(evidence, now).is_none();
    (evidence.datapath.model == Layout::None && devices_there).then(|| {
        // Programs keep the map that they were loaded with.
        if evidence.state(VtepProbes::icmp_state) == ProbeState::Ok {
            return format!(
                "restart the cilium DaemonSet, which makes the pin anew: {problem}; packets still pass, because Cilium's programs keep \
                 their map, but nobody can repair or change an entry of it"
            );
        }
        format!("restart the cilium DaemonSet, so that it starts with enable-vtep: {problem}")
    })
}

pub(super) fn cilium_restart_required(evidence: &Evidence<'_>, _now: Instant) -> Option<String> {
    let harm: Vec<_> = evidence.harmful_differences().map(ToString::to_string).collect();
    if !harm.is_empty() {
        return Some(format!("restart the cilium DaemonSet: {}", harm.join("; ")));
    }
    evidence.drops_probes().then(|| {
        let drops = format!("programs on this node drop what is sent to {}, though its entry is there", evidence.entry());
        match evidence.name {
            None => format!(
                "restart the cilium DaemonSet: its {drops}; they were loaded without VTEP, or with another vtep-mask"
            ),
            // The entry comes from an object that Cilium reconciles while it runs: only its start decides about VTEP as a whole.
            Some(_) => format!(
                "look at the log of Cilium's agent on this node: its {drops}; it was started without enable-vtep, or it has not \
                 reconciled its CiliumVTEPConfig"
            ),
        }
    })
}

/// Answers reach this node's device and not its stack, or its own firewall refuses the probes.
pub(super) fn dropped_on_node(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let (peer, tools) = (evidence.peer(), "nftables or iptables");
    if let Some(refused) = evidence.refused_probe() {
        return Some(format!(
            "look at the output rules of {tools} on this node: a probe of {peer} could not be sent: {refused}"
        ));
    }
    if evidence.is_cilium_at_fault(now) {
        return None;
    }
    let probes = evidence.probes.filter(|probes| probes.icmp_state() == ProbeState::Failed)?;
    let device = evidence.facts.underlay.get(&evidence.vtep.endpoint).map(|underlay| underlay.device.name.as_str());
    let device = device.unwrap_or("the device");
    let since = probes.icmp.unanswered_since()?;
    let asked_in_vain = probes.arp_state() == ProbeState::Ok && probes.delivery.is_asked_in_vain(since, now);
    let router = evidence.facts.cilium.router.map_or_else(|| "this node".to_owned(), |router| router.to_string());
    let seen = match probes.delivery.lost_echoes(now) {
        Some(lost) => format!("{} answers to ping reached {device}, and this node dropped them", at_least(lost)),
        None if asked_in_vain => {
            format!(
                "it asks for {router} by ARP again and again, its requests reach {device}, and Cilium does not answer"
            )
        }
        None => return None,
    };
    Some(format!(
        "look at the input rules of {tools} on this node (UDP port {}), at rp_filter, and at Cilium's drops (`cilium-dbg monitor \
         --type drop`): {peer} answers; {seen}{}{}",
        evidence.tunnel.port,
        evidence.strict_filters(),
        evidence.udp_errors()
    ))
}

impl Evidence<'_> {
    /// The error of the last probe through the tunnel, if this node's own firewall refused it.
    fn refused_probe(&self) -> Option<&SendError> {
        let probes = self.probes.filter(|probes| probes.icmp_state() == ProbeState::Failed)?;
        let errors = [&probes.icmp, &probes.arp].into_iter().filter_map(|window| window.send_error.as_ref());
        errors.into_iter().find(|error| error.is_refused())
    }

    /// A known fault of Cilium, or of its map, explains why its programs drop frames or do not answer.
    fn is_cilium_at_fault(&self, now: Instant) -> bool {
        let faults = [
            cilium_not_running,
            cilium_broken_release,
            cilium_arp_zero_mac,
            cilium_vtep_disabled,
            map::datapath_missing,
        ];
        let needs_restart =
            cilium_restart_required(self, now).is_some() && !self.is_corrected(Cause::CiliumRestartRequired);
        needs_restart || faults.into_iter().any(|fault| fault(self, now).is_some())
    }

    fn strict_filters(&self) -> String {
        let strict: Vec<_> = self.facts.strict_devices.iter().map(String::as_str).collect();
        if strict.is_empty() { String::new() } else { format!("; rp_filter is strict on {}", strict.join(", ")) }
    }

    fn udp_errors(&self) -> String {
        let UdpErrors { no_ports, in_errors } = self.probes.map(|probes| probes.udp_errors).unwrap_or_default();
        let grows =
            [("NoPorts", no_ports), ("InErrors", in_errors)].into_iter().filter(|(_, count)| *count >= MIN_UDP_ERRORS);
        let grows: Vec<_> = grows.map(|(name, count)| format!("{name} by {}", at_least(count))).collect();
        if grows.is_empty() {
            String::new()
        } else {
            format!("; meanwhile this node's UDP errors grew: {}", grows.join(", "))
        }
    }

    /// Differences between the running Cilium and the configuration that harm this VTEP.
    pub(super) fn harmful_differences(&self) -> impl Iterator<Item = &Difference> {
        let network = self.vtep.cidr.network();
        self.differences.iter().filter(move |difference| difference.effect.harms(network))
    }

    /// Cilium's program on `cilium_host` drops the probes although the entry is in the map.
    pub(super) fn drops_probes(&self) -> bool {
        let in_sync = self.datapath.model.is_known() && self.pending_entry().is_none() && !self.is_backed_off();
        in_sync
            && self.state(VtepProbes::icmp_state) == ProbeState::Failed
            && self.probes.and_then(|probes| probes.icmp.send_error.as_ref()).is_some_and(SendError::is_drop)
    }
}
