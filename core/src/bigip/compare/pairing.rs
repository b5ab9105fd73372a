//! Which tunnel of which BIG-IP belongs to a VTEP.

use super::{
    super::device::{Address, Device, Profile, ProfileKind, SelfIp, Tunnel},
    CiliumEnd, CiliumVtep,
};
use crate::tunnel::frames::VTEP_VNI;

/// A VTEP, and the tunnel at its other end.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) cilium: &'a CiliumEnd,
    pub(super) vtep: &'a CiliumVtep,
    pub(super) device: &'a Device,
    /// The device's index in the input.
    pub(super) index: usize,
    pub(super) tunnel: &'a Tunnel,
}

/// How surely a tunnel belongs to a VTEP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Certainty {
    /// The endpoint is a self IP of this device, which has only one tunnel that may be meant.
    Device,
    /// The tunnel has a self IP in the VTEP's CIDR.
    SelfIp,
    /// The endpoint is the tunnel's address of this unit.
    SecondaryAddress,
    /// The endpoint is the tunnel's local address.
    LocalAddress,
}

impl<'a> Pair<'a> {
    pub(super) fn profile(&self) -> Option<&'a Profile> {
        self.device.profiles.iter().find(|profile| profile.name == self.tunnel.profile.value)
    }

    /// The self IPs of the tunnel.
    pub(super) fn self_ips(&self) -> impl Iterator<Item = &'a SelfIp> + use<'a> {
        let tunnel = self.tunnel;
        self.device.self_ips.iter().filter(move |own| own.vlan.value == tunnel.name)
    }

    /// The route domain of the tunnel's local address.
    pub(super) fn route_domain(&self) -> u16 {
        self.tunnel.local_address.value.map_or(0, |address| address.route_domain)
    }
}

/// The pairs, in the order of the VTEPs. Both units of an HA pair may have the tunnel of one VTEP.
pub(super) fn pair<'a>(cilium: &'a CiliumEnd, devices: &'a [Device]) -> Vec<Pair<'a>> {
    let candidates: Vec<_> = cilium.vteps.iter().map(|vtep| candidates(cilium, vtep, devices)).collect();
    // A tunnel that one VTEP names belongs to no other VTEP by a weaker sign.
    let is_taken = |pair: &Pair<'_>, certainty: Certainty| {
        let others = candidates.iter().flatten().filter(|(other, _)| !std::ptr::eq(other.vtep, pair.vtep));
        others.into_iter().any(|(other, theirs)| std::ptr::eq(other.tunnel, pair.tunnel) && *theirs > certainty)
    };
    let mut pairs = Vec::new();
    for of_vtep in &candidates {
        let free = || of_vtep.iter().filter(|(pair, certainty)| !is_taken(pair, *certainty));
        let Some(best) = free().map(|(_, certainty)| *certainty).max() else { continue };
        pairs.extend(free().filter(|(_, certainty)| *certainty == best).map(|(pair, _)| *pair));
    }
    pairs
}

/// The best tunnel of each device for this VTEP.
fn candidates<'a>(cilium: &'a CiliumEnd, vtep: &'a CiliumVtep, devices: &'a [Device]) -> Vec<(Pair<'a>, Certainty)> {
    let best_of = |(index, device): (usize, &'a Device)| {
        let pairs = device.tunnels.iter().map(|tunnel| Pair { cilium, vtep, device, index, tunnel });
        let certain = pairs.filter_map(|pair| certainty(&pair).map(|certainty| (pair, certainty)));
        certain.max_by_key(|(pair, certainty)| (*certainty, likeness(pair)))
    };
    devices.iter().enumerate().filter_map(best_of).collect()
}

fn certainty(pair: &Pair<'_>) -> Option<Certainty> {
    let Pair { vtep, device, tunnel, .. } = pair;
    let is_endpoint = |address: Option<Address>| address.is_some_and(|a| a.ip == vtep.endpoint);
    if is_endpoint(tunnel.local_address.value) {
        return Some(Certainty::LocalAddress);
    }
    if is_endpoint(tunnel.secondary_address.value) {
        return Some(Certainty::SecondaryAddress);
    }
    if pair.self_ips().any(|own| vtep.cidr.contains(&own.address.value.addr())) {
        return Some(Certainty::SelfIp);
    }
    let is_only = device.tunnels.iter().filter(|other| may_be_meant(device, other)).count() == 1;
    let has_endpoint = device.self_ips.iter().any(|own| own.address.value.addr() == vtep.endpoint);
    (is_only && has_endpoint && may_be_meant(device, tunnel)).then_some(Certainty::Device)
}

/// Whether the tunnel is one of VXLAN or Geneve, as far as its profile is known.
pub(super) fn may_be_meant(device: &Device, tunnel: &Tunnel) -> bool {
    let profile = device.profiles.iter().find(|profile| profile.name == tunnel.profile.value);
    profile.is_none_or(|profile| !matches!(profile.kind, ProfileKind::Other(_)))
}

/// Of several tunnels with one local address, Cilium's is most like what it has to be.
fn likeness(pair: &Pair<'_>) -> usize {
    let port = pair.profile().is_some_and(|profile| profile.port.value == pair.cilium.tunnel.port);
    let key = pair.tunnel.key.value == VTEP_VNI;
    let self_ip = pair.self_ips().any(|own| pair.vtep.cidr.contains(&own.address.value.addr()));
    [key, self_ip, port, may_be_meant(pair.device, pair.tunnel)].into_iter().filter(|is_like| *is_like).count()
}
