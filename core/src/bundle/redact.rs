//! Replaces addresses and names of nodes, the same one always by the same one, in texts and in captured frames.
//!
//! What a diagnosis needs remains visible: whether two addresses are equal, whether an address is in a network (of 16 or more bits), the
//! last octet, the group bit of a MAC. Addresses that name nobody stay as they are: loopback, multicast, masks, zeros, and networks of
//! fewer than 16 bits.
//!
//! The third octet is replaced as in Crypto-PAn (Xu, Fan, Ammar, Moon: Prefix-Preserving IP Address Anonymization, 2002): each bit is
//! flipped or not depending on a secret and on all bits before it. Whoever knows the original of one address learns from it the first two
//! octets of the others in its /16, and of their third octets the bits up to the first one that differs: no mapping that keeps networks
//! can hide that. It says nothing about the further bits, and nothing about addresses in another /16.
//!
//! The replacements are in ranges that no network uses, and are never replaced again: `240.0.0.0/4` (RFC 1112), `02:f5:00:…`, and
//! `2001:db8::/32` (RFC 3849).

mod frames;
mod pcapng;
mod text;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, ipv4_mask_to_prefix};
use sha2::{Digest, Sha256};

use super::part::Part;
use crate::{config::spec::Tunnel, types::mac::Mac};

/// The first octets of replaced MACs: locally administered, of one or of a group.
const OURS: [[u8; 3]; 2] = [[0x02, 0xf5, 0x00], [0x03, 0xf5, 0x00]];
/// 256 addresses of 16 networks each begin with 240 to 255.
const BLOCKS: usize = 1 << 12;

/// Random bytes, which are in no file: whoever knows them can compute the third octets back.
#[derive(Clone, Default)]
pub struct Secret([u8; 32]);

impl From<[u8; 32]> for Secret {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<u64> for Secret {
    fn from(number: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Self(bytes)
    }
}

/// Without the bytes.
impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// What was replaced so far, in the order of appearance.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    secret: Secret,
    /// The first two octets → the position of their block.
    blocks: BTreeMap<[u8; 2], usize>,
    macs: BTreeMap<Mac, u32>,
    ipv6: BTreeMap<Ipv6Addr, u64>,
    /// Each with its replacement.
    names: BTreeMap<String, String>,
}

impl Redactor {
    /// `node` is the node's name, which may contain its address.
    #[must_use]
    pub fn new(secret: impl Into<Secret>, node: &str) -> Self {
        Self::of_names(secret, [(node.to_owned(), "node-1".to_owned())])
    }

    /// Names, each with its replacement. A name that also is a replacement is replaced like any other.
    #[must_use]
    pub fn of_names(secret: impl Into<Secret>, names: impl IntoIterator<Item = (String, String)>) -> Self {
        let names = names.into_iter().filter(|(name, _)| !name.is_empty()).collect();
        Self { secret: secret.into(), names, ..Self::default() }
    }

    /// The file of a part with replaced addresses and names. `tunnel`: frames of another one lose what they carry.
    ///
    /// # Errors
    ///
    /// Nobody knows where this file has its addresses, in words.
    pub fn part(&mut self, part: Part, bytes: &[u8], tunnel: Tunnel) -> Result<Vec<u8>, &'static str> {
        match part {
            Part::VtepMapRaw | Part::IpcacheRaw => {
                Err("the bytes of a map have addresses, and --redact replaces them only where it knows them")
            }
            Part::Capture => self.pcapng(bytes, tunnel).ok_or("the file is not as this version writes it"),
            Part::Table
            | Part::Status
            | Part::History
            | Part::Health
            | Part::Metrics
            | Part::Log
            | Part::Configuration
            | Part::Findings
            | Part::Preflight
            | Part::Plan
            | Part::Probe
            | Part::VtepMap
            | Part::Ipcache
            | Part::Links
            | Part::Routes
            | Part::Rules
            | Part::Neighbours
            | Part::Cilium
            | Part::RunningConfig
            | Part::Header
            | Part::Words => Ok(self.text(&String::from_utf8_lossy(bytes)).into_bytes()),
        }
    }

    pub fn ip(&mut self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(address) => self.ipv4(address).into(),
            IpAddr::V6(address) => self.ipv6(address).into(),
        }
    }

    pub fn ipv4(&mut self, address: Ipv4Addr) -> Ipv4Addr {
        if names_nobody(address) {
            return address;
        }
        let [a, b, c, d] = address.octets();
        let next = self.blocks.len();
        let block = *self.blocks.entry([a, b]).or_insert(next) % BLOCKS;
        let [high, low] = u16::try_from(block).unwrap_or_default().to_be_bytes();
        Ipv4Addr::new(240 | high, low, self.third([a, b], c), d)
    }

    /// A network remains one, without host bits; a short one names nobody.
    pub fn net(&mut self, net: Ipv4Net) -> Ipv4Net {
        let has_host_bits = net.trunc() != net;
        match net.prefix_len() {
            0..16 if !has_host_bits => net,
            length => {
                let new = Ipv4Net::new(self.ipv4(net.addr()), length).unwrap_or(net);
                if has_host_bits { new } else { new.trunc() }
            }
        }
    }

    pub fn mac(&mut self, mac: Mac) -> Mac {
        let [a, b, c, ..] = mac.octets();
        if mac.is_zero() || mac.octets() == [0xff; 6] || OURS.contains(&[a, b, c]) || is_of_protocol(mac) {
            return mac;
        }
        let next = u32::try_from(self.macs.len()).unwrap_or_default() + 1;
        let [_, d, e, f] = self.macs.entry(mac).or_insert(next).to_be_bytes();
        let [a, b, c] = OURS[usize::from(mac.is_multicast())];
        Mac::new([a, b, c, d, e, f])
    }

    fn ipv6(&mut self, address: Ipv6Addr) -> Ipv6Addr {
        let is_example = address.segments()[..2] == [0x2001, 0x0db8];
        if address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_example {
            return address;
        }
        if let Some(embedded) = address.to_ipv4_mapped() {
            return self.ipv4(embedded).to_ipv6_mapped();
        }
        let next = self.ipv6.len() as u64 + 1;
        let number = *self.ipv6.entry(address).or_insert(next);
        Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(number))
    }

    /// The third octet of an address that begins with these two. Equal beginnings of it remain equal, and different ones different, so that
    /// networks remain apart, or inside each other.
    fn third(&self, [a, b]: [u8; 2], octet: u8) -> u8 {
        // A bit for each beginning of an octet, of none to seven bits: 255 of 256.
        let flips = Sha256::new().chain_update(self.secret.0).chain_update([a, b]).finalize();
        let (mut beginning, mut new) = (1_usize, 0);
        for shift in (0..8).rev() {
            let bit = octet >> shift & 1;
            let flip = flips.get(beginning / 8).map_or(0, |byte| byte >> (beginning % 8) & 1);
            new = new << 1 | (bit ^ flip);
            // With a one in front of it, so that beginnings of different lengths differ.
            beginning = beginning << 1 | usize::from(bit);
        }
        new
    }
}

/// Addresses that do not belong to a network of somebody.
fn names_nobody(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    // A mask looks like an address: 255.255.255.0.
    let is_mask = first >= 128 && ipv4_mask_to_prefix(address).is_ok();
    matches!(first, 0 | 127 | 224..) || is_mask
}

/// Multicast of a protocol (RFC 1112, RFC 2464, IEEE 802.1D): it says nothing about a network.
fn is_of_protocol(mac: Mac) -> bool {
    let [a, b, c, ..] = mac.octets();
    matches!([a, b], [0x33, 0x33]) || [[0x01, 0x00, 0x5e], [0x01, 0x80, 0xc2]].contains(&[a, b, c])
}

#[cfg(test)]
mod tests;
