//! The parsed configuration: types that hold only valid values.

use std::{fmt, net::Ipv4Addr};

use ipnet::{Ipv4Net, ipv4_mask_to_prefix};
use serde::{Deserialize, Serialize};

use crate::types::mac::Mac;

/// The number of entries that Cilium's VTEP map holds.
pub const MAX_VTEPS: usize = 8;

/// One BIG-IP, as this node must reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Vtep {
    /// The BIG-IP's tunnel network, without host bits; its prefix length is that of the VTEP mask, if there is one.
    pub cidr: Ipv4Net,
    /// The BIG-IP's address on the underlay, unicast.
    pub endpoint: Ipv4Addr,
    /// The MAC of the BIG-IP's tunnel, never zero.
    pub mac: Mac,
}

/// Where a VTEP is: what changes if another gateway takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub endpoint: Ipv4Addr,
    pub mac: Mac,
}

impl Vtep {
    #[must_use]
    pub const fn place(&self) -> Place {
        Place { endpoint: self.endpoint, mac: self.mac }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, mac } = self;
        write!(f, "{endpoint} {mac}")
    }
}

/// The encapsulation of the cluster's tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelProtocol {
    /// RFC 7348.
    Vxlan,
    /// RFC 8926.
    Geneve,
}

impl TunnelProtocol {
    /// The UDP port that Cilium uses if `tunnel-port` is not set.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Vxlan => 8472,
            Self::Geneve => 6081,
        }
    }

    /// The name of Cilium's tunnel device.
    #[must_use]
    pub const fn device(self) -> &'static str {
        match self {
            Self::Vxlan => "cilium_vxlan",
            Self::Geneve => "cilium_geneve",
        }
    }
}

impl fmt::Display for TunnelProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
        })
    }
}

/// How packets travel between this node and every other tunnel endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    pub protocol: TunnelProtocol,
    /// UDP destination port.
    pub port: u16,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self { protocol: TunnelProtocol::Vxlan, port: TunnelProtocol::Vxlan.default_port() }
    }
}

/// A whole valid configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// `enable-vtep`. When it is false, nothing below has an effect.
    pub enabled: bool,
    /// In the order of the lists; CIDRs are unique, and with a mask they do not overlap.
    pub vteps: Vec<Vtep>,
    /// `vtep-mask`: the datapath masks an address with it before it looks the address up. `None`: each CIDR has a prefix length of its own,
    /// and the longest prefix wins, as with custom resources and an LPM trie.
    pub mask: Option<Ipv4Addr>,
    pub tunnel: Tunnel,
}

/// Why a spec cannot come from a parsed document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("{0} VTEPs, but the map holds at most {MAX_VTEPS}")]
    TooMany(usize),
    #[error("{0} is not a network mask")]
    Mask(Ipv4Addr),
    #[error("{0} has host bits or no length, or its length differs from the mask's")]
    Cidr(Ipv4Net),
    #[error("{0} is not unicast")]
    Endpoint(Ipv4Addr),
    #[error("the MAC of {0} is zero")]
    Mac(Ipv4Net),
    #[error("{0} and {1} overlap")]
    Overlap(Ipv4Net, Ipv4Net),
}

impl Spec {
    /// Checks that parsing can produce this spec; needed for a spec from elsewhere, such as a state file.
    ///
    /// # Errors
    ///
    /// The first violation.
    pub fn check(&self) -> Result<(), SpecError> {
        let Self { enabled: _, vteps, mask, tunnel: _ } = self;
        if vteps.len() > MAX_VTEPS {
            return Err(SpecError::TooMany(vteps.len()));
        }
        let length_of = |mask| ipv4_mask_to_prefix(mask).ok().filter(|&length| length > 0).ok_or(SpecError::Mask(mask));
        let length = mask.map(length_of).transpose()?;
        for (at, &Vtep { cidr, endpoint, mac }) in vteps.iter().enumerate() {
            let fits = length.map_or(cidr.prefix_len() > 0, |length| cidr.prefix_len() == length);
            if cidr.trunc() != cidr || !fits {
                return Err(SpecError::Cidr(cidr));
            }
            if !is_unicast(endpoint) {
                return Err(SpecError::Endpoint(endpoint));
            }
            if mac.is_zero() {
                return Err(SpecError::Mac(cidr));
            }
            let clashes = |other: &Vtep| if length.is_some() { overlaps(other.cidr, cidr) } else { other.cidr == cidr };
            if let Some(other) = vteps.iter().take(at).find(|other| clashes(other)) {
                return Err(SpecError::Overlap(other.cidr, cidr));
            }
        }
        Ok(())
    }

    /// The prefix length of the entry with this network address in a hash, whose keys have none.
    #[must_use]
    pub fn prefix_len(&self, network: Ipv4Addr) -> u8 {
        let of_mask = self.mask.and_then(|mask| ipv4_mask_to_prefix(mask).ok());
        let of_vtep = || self.vteps.iter().map(|vtep| vtep.cidr).find(|cidr| cidr.network() == network);
        of_mask.or_else(|| of_vtep().map(|cidr| cidr.prefix_len())).unwrap_or(32)
    }
}

/// An address that another host can have.
#[must_use]
pub fn is_unicast(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    (1..224).contains(&first) && first != 127
}

/// Whether both have an address in common.
#[must_use]
pub fn overlaps(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}
