//! Compares the configuration that Cilium runs with and the effective one. Only a restart of Cilium ends such a difference.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use super::running::{RunningConfig, RunningVtep};
use crate::config::spec::{Spec, Vtep};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The ConfigMap key that differs.
    pub key: &'static str,
    pub effect: Effect,
    problem: String,
}

/// The effect of a difference while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Cilium's programs do not work as configured, for all VTEPs: no map entry can correct that.
    Programs,
    /// Every 60 s Cilium writes an older value for this network, and the agent corrects it.
    Overwrites(Ipv4Addr),
    /// Cilium does not know this network, or knows one that is no longer configured. Its next start corrects that.
    Listing(Ipv4Addr),
}

impl Effect {
    /// Whether the difference harms the VTEP of this network.
    #[must_use]
    pub fn harms(self, of: Ipv4Addr) -> bool {
        match self {
            Self::Programs => true,
            Self::Overwrites(network) => network == of,
            Self::Listing(_) => false,
        }
    }

    /// Whether Cilium writes an older value for this network.
    #[must_use]
    pub fn overwrites(self, of: Ipv4Addr) -> bool {
        self == Self::Overwrites(of)
    }
}

impl Difference {
    /// Whether it is about the lists of VTEPs or their mask, which a Cilium with custom resources does not use.
    #[must_use]
    pub fn is_of_lists(&self) -> bool {
        matches!(self.key, "vtep-endpoint" | "vtep-cidr" | "vtep-mac" | "vtep-mask")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

impl Difference {
    /// Adds how it is known.
    pub(super) fn known(self, how: &str) -> Self {
        Self { problem: self.problem + how, ..self }
    }
}

/// The words for a value of Cilium's: before the value, and after its network.
#[derive(Clone, Copy)]
pub(super) struct Words {
    pub(super) before: &'static str,
    pub(super) after: &'static str,
}

const RUNS: Words = Words { before: "Cilium runs with", after: "" };

/// All differences. A value that Cilium does not disclose counts as equal.
#[must_use]
pub fn differences(spec: &Spec, running: &RunningConfig) -> Vec<Difference> {
    let Spec { enabled, vteps, mask, tunnel } = spec;
    let of_all = |key, runs: String, says: String| Difference {
        key,
        effect: Effect::Programs,
        problem: format!("Cilium runs with {runs}, the configuration says {says}"),
    };
    if let Some(runs) = running.vtep_enabled.filter(|runs| runs != enabled) {
        return vec![of_all("enable-vtep", runs.to_string(), enabled.to_string())];
    }
    if !enabled {
        return Vec::new();
    }
    let mut found = Vec::new();
    if let Some((runs, mask)) = running.vtep_mask.zip(*mask).filter(|(runs, mask)| runs != mask) {
        found.push(of_all("vtep-mask", runs.to_string(), mask.to_string()));
    }
    if let Some(runs) = running.tunnel_protocol.filter(|runs| *runs != tunnel.protocol) {
        found.push(of_all("tunnel-protocol", runs.to_string(), tunnel.protocol.to_string()));
    }
    if let Some(runs) = running.tunnel_port.filter(|runs| *runs != tunnel.port) {
        found.push(of_all("tunnel-port", runs.to_string(), tunnel.port.to_string()));
    }
    if let Some(known) = &running.vteps {
        found.extend(of_lists(vteps, known));
    }
    found
}

/// The differences between these VTEPs and those that Cilium was started with.
pub(super) fn of_lists(vteps: &[Vtep], known: &BTreeMap<Ipv4Addr, RunningVtep>) -> Vec<Difference> {
    let of_vtep = |vtep: &Vtep| match known.get(&vtep.cidr.network()) {
        Some(running) => of_values(vtep, running, RUNS),
        None => vec![Difference {
            key: "vtep-cidr",
            effect: Effect::Listing(vtep.cidr.network()),
            problem: format!("Cilium does not know {}", vtep.cidr),
        }],
    };
    let is_listed = |network: &Ipv4Addr| vteps.iter().any(|vtep| vtep.cidr.network() == *network);
    let unlisted = known.keys().filter(|network| !is_listed(network)).map(|&network| Difference {
        key: "vtep-cidr",
        effect: Effect::Listing(network),
        problem: format!("Cilium runs with {network}, which the configuration does not list"),
    });
    vteps.iter().flat_map(of_vtep).chain(unlisted).collect()
}

pub(super) fn of_values(vtep: &Vtep, running: &RunningVtep, words: Words) -> Vec<Difference> {
    let Vtep { cidr, endpoint, mac } = vtep;
    let Words { before, after } = words;
    let difference = |key, runs: &dyn fmt::Display, says: &dyn fmt::Display| Difference {
        key,
        effect: Effect::Overwrites(cidr.network()),
        problem: format!("{before} {runs} for {cidr}{after}, the configuration says {says}"),
    };
    let of_endpoint = running.endpoint.filter(|runs| runs != endpoint);
    let of_mac = running.mac.filter(|runs| runs != mac);
    let of_endpoint = of_endpoint.map(|runs| difference("vtep-endpoint", &runs, endpoint));
    of_endpoint.into_iter().chain(of_mac.map(|runs| difference("vtep-mac", &runs, mac))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::{Tunnel, TunnelProtocol};

    fn spec() -> Spec {
        let vtep = |n: u8| Vtep {
            cidr: format!("10.1.{n}.0/24").parse().expect("a network"),
            endpoint: [10, 169, 72, n].into(),
            mac: [0, 0x50, 0x56, 0, 0, n].into(),
        };
        Spec {
            enabled: true,
            vteps: vec![vtep(1), vtep(2)],
            mask: Some([255, 255, 255, 0].into()),
            tunnel: Tunnel::default(),
        }
    }

    fn running() -> RunningConfig {
        let vteps = spec()
            .vteps
            .into_iter()
            .map(|vtep| (vtep.cidr.network(), RunningVtep { endpoint: Some(vtep.endpoint), mac: Some(vtep.mac) }));
        RunningConfig {
            started: None,
            vtep_enabled: Some(true),
            vtep_mask: Some([255, 255, 255, 0].into()),
            vteps: Some(vteps.collect()),
            tunnel_protocol: Some(TunnelProtocol::Vxlan),
            tunnel_port: Some(8472),
        }
    }

    #[test]
    fn each_difference_is_named_once() {
        type Change = fn(&mut Spec, &mut RunningConfig);
        type Found<'a> = &'a [(&'static str, Effect)];
        let overwrites = |n: u8| Effect::Overwrites(Ipv4Addr::new(10, 1, n, 0));
        let listing = |n: u8| Effect::Listing(Ipv4Addr::new(10, 1, n, 0));
        let cases: [(Change, Found<'_>); 11] = [
            (|_, _| {}, &[]),
            (|_, running| *running = RunningConfig::default(), &[]),
            (|_, running| running.vteps = None, &[]),
            (|_, running| running.vtep_enabled = Some(false), &[("enable-vtep", Effect::Programs)]),
            (|spec, running| (spec.enabled, running.vtep_enabled) = (false, Some(false)), &[]),
            (|_, running| running.vtep_mask = Some([255, 255, 0, 0].into()), &[("vtep-mask", Effect::Programs)]),
            (|_, running| running.tunnel_port = Some(6081), &[("tunnel-port", Effect::Programs)]),
            (|spec, _| spec.tunnel.protocol = TunnelProtocol::Geneve, &[("tunnel-protocol", Effect::Programs)]),
            (|spec, _| spec.vteps[0].endpoint = [10, 9, 9, 9].into(), &[("vtep-endpoint", overwrites(1))]),
            (|spec, _| spec.vteps[1].mac = [2, 0, 0, 0, 0, 9].into(), &[("vtep-mac", overwrites(2))]),
            (
                |spec, _| spec.vteps[1].cidr = "10.1.3.0/24".parse().expect("a network"),
                &[("vtep-cidr", listing(3)), ("vtep-cidr", listing(2))],
            ),
        ];
        for (at, (change, expected)) in cases.into_iter().enumerate() {
            let (mut spec, mut running) = (spec(), running());
            change(&mut spec, &mut running);
            let found: Vec<_> = differences(&spec, &running).iter().map(|d| (d.key, d.effect)).collect();
            assert_eq!(found, expected, "case {at}");
        }
    }

    #[test]
    fn a_difference_names_both_values() {
        let mut spec = spec();
        spec.vteps[0].endpoint = [10, 9, 9, 9].into();
        let found = differences(&spec, &running());
        assert_eq!(
            found[0].to_string(),
            "vtep-endpoint: Cilium runs with 10.169.72.1 for 10.1.1.0/24, the configuration says 10.9.9.9"
        );
    }
}
