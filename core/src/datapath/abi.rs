//! The bytes of Cilium's maps. Only this module knows their byte order and layout.
//!
//! Source: `pkg/maps/{vtep,ipcache}` and `bpf/lib/{common,eps}.h` of Cilium 1.12 to 1.20; `tests/fixtures` holds dumps of a running 1.18.

use std::{fmt, net::Ipv4Addr, ops::Range};

use ipnet::Ipv4Net;

use crate::types::mac::Mac;

/// Key of `cilium_vtep_map`: the IPv4 network address of a VTEP CIDR, network order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VtepKey([u8; 4]);

impl VtepKey {
    #[must_use]
    pub fn new(cidr: Ipv4Net) -> Self {
        // Not truncated: an entry with host bits is in the map under exactly these bits.
        Self(cidr.addr().octets())
    }

    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        self.0.into()
    }
}

impl fmt::Debug for VtepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.address(), f)
    }
}

/// Value of `cilium_vtep_map`: MAC (6 bytes in order, 2 zero), endpoint (network order), 4 bytes of padding.
///
/// Values are compared as bytes, so that changed padding counts as drift.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VtepValue([u8; 16]);

impl VtepValue {
    #[must_use]
    pub fn new(mac: Mac, endpoint: Ipv4Addr) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&mac.octets());
        bytes[8..12].copy_from_slice(&endpoint.octets());
        Self(bytes)
    }

    #[must_use]
    pub fn mac(self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.0;
        Mac::from([a, b, c, d, e, f])
    }

    #[must_use]
    pub fn endpoint(self) -> Ipv4Addr {
        let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = self.0;
        [a, b, c, d].into()
    }
}

impl fmt::Display for VtepValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endpoint {} mac {}", self.endpoint(), self.mac())?;
        if *self == Self::new(self.mac(), self.endpoint()) { Ok(()) } else { f.write_str(" (padding not zero)") }
    }
}

impl fmt::Debug for VtepValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Key of an LPM trie (`struct bpf_lpm_trie_key_u8` of `linux/bpf.h`): prefix length in bits, then the bytes that it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LpmKey<const N: usize> {
    /// In host byte order.
    pub prefix_len: u32,
    pub data: [u8; N],
}

impl<const N: usize> LpmKey<N> {
    /// The size of the key as the kernel counts it.
    pub const SIZE: usize = size_of::<u32>() + N;
}

/// Key of `cilium_vtep_map` as an LPM trie (cilium/cilium #46602): the data is the network address in network order.
pub type VtepLpmKey = LpmKey<4>;

#[must_use]
pub fn vtep_lpm_key(cidr: Ipv4Net) -> VtepLpmKey {
    LpmKey { prefix_len: cidr.prefix_len().into(), data: cidr.network().octets() }
}

/// `None` for a prefix length that IPv4 does not have.
#[must_use]
pub fn vtep_of_lpm_key(key: VtepLpmKey) -> Option<Ipv4Net> {
    Ipv4Net::new(key.data.into(), key.prefix_len.try_into().ok()?).ok()
}

/// Key of `cilium_ipcache`: the prefix length counts the 32 bits before the address; the data is cluster id (2), padding (1), family (1),
/// address (16; IPv4 in the first four).
pub type IpcacheKey = LpmKey<20>;

/// Bits before the address.
const IPCACHE_STATIC_BITS: u32 = 32;
/// `ENDPOINT_KEY_IPV4`.
const IPCACHE_FAMILY_IPV4: u8 = 1;

#[must_use]
pub fn ipcache_key(prefix: Ipv4Net) -> IpcacheKey {
    let mut data = [0; 20];
    data[3] = IPCACHE_FAMILY_IPV4;
    data[4..8].copy_from_slice(&prefix.network().octets());
    LpmKey { prefix_len: IPCACHE_STATIC_BITS + u32::from(prefix.prefix_len()), data }
}

/// `None` if the key is not an IPv4 prefix of this cluster.
#[must_use]
pub fn prefix_of_ipcache_key(key: IpcacheKey) -> Option<Ipv4Net> {
    let [0, 0, _, IPCACHE_FAMILY_IPV4, a, b, c, d, ..] = key.data else { return None };
    let length = key.prefix_len.checked_sub(IPCACHE_STATIC_BITS)?.try_into().ok()?;
    Ipv4Net::new([a, b, c, d].into(), length).ok()
}

/// The ipcache's entry for a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IpcacheEntry {
    /// Security identity.
    pub identity: u32,
    /// The node or VTEP to tunnel to; `None` for a local prefix, or one outside the cluster.
    pub endpoint: Option<Ipv4Addr>,
}

/// Cilium's identities of everything outside the cluster: `world`, and `world-ipv4` with dual stack.
const WORLD: [u32; 2] = [2, 9];
/// Identities of CIDRs (`IdentityScopeLocal`); the next range belongs to remote nodes.
const CIDR_IDENTITIES: Range<u32> = 1 << 24..2 << 24;
/// `host`, `remote-node`, and `kube-apiserver`, which nodes of the control plane have.
const NODES: [u32; 3] = [1, 6, 7];
/// Identities of nodes that a policy tells apart (`IdentityScopeRemoteNode`).
const NODE_IDENTITIES: Range<u32> = 2 << 24..3 << 24;

impl IpcacheEntry {
    /// The entry that F5's document creates: the world, behind a tunnel.
    #[must_use]
    pub fn of_vtep(endpoint: Ipv4Addr) -> Self {
        Self { identity: WORLD[0], endpoint: Some(endpoint) }
    }

    #[must_use]
    pub fn is_world(self) -> bool {
        WORLD.contains(&self.identity)
    }

    /// Whether this is the world, or a CIDR that a policy names.
    #[must_use]
    pub fn is_outside(self) -> bool {
        self.is_world() || CIDR_IDENTITIES.contains(&self.identity)
    }

    /// Whether the address belongs to a node of the cluster.
    #[must_use]
    pub fn is_node(self) -> bool {
        NODES.contains(&self.identity) || NODE_IDENTITIES.contains(&self.identity)
    }
}

impl fmt::Display for IpcacheEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "identity {}", self.identity)?;
        match self.endpoint {
            Some(endpoint) => write!(f, " behind {endpoint}"),
            None => Ok(()),
        }
    }
}

/// Value of `cilium_ipcache` (up to Cilium 1.17): identity (4, host byte order), tunnel endpoint (4, network order), padding (2), key (1),
/// flags (1).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IpcacheV1([u8; 12]);

impl IpcacheV1 {
    #[must_use]
    pub fn new(entry: IpcacheEntry) -> Self {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&entry.identity.to_ne_bytes());
        bytes[4..8].copy_from_slice(&entry.endpoint.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        Self(bytes)
    }

    #[must_use]
    pub fn entry(self) -> IpcacheEntry {
        let [i, j, k, l, a, b, c, d, ..] = self.0;
        entry([i, j, k, l], [a, b, c, d])
    }
}

/// Value of `cilium_ipcache_v2` (Cilium 1.18 and newer): identity (4, host byte order), tunnel endpoint (16; IPv4 in the first four),
/// padding (2), key (1), flags (1).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IpcacheV2([u8; 24]);

/// The entry has a tunnel endpoint (`flag_has_tunnel_ep`).
const FLAG_HAS_TUNNEL: u8 = 1 << 1;
/// The tunnel endpoint is IPv6 (`flag_ipv6_tunnel_ep`).
const FLAG_IPV6_TUNNEL: u8 = 1 << 2;

impl IpcacheV2 {
    #[must_use]
    pub fn new(entry: IpcacheEntry) -> Self {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&entry.identity.to_ne_bytes());
        if let Some(endpoint) = entry.endpoint {
            bytes[4..8].copy_from_slice(&endpoint.octets());
            bytes[23] = FLAG_HAS_TUNNEL;
        }
        Self(bytes)
    }

    /// An IPv6 endpoint counts as none: no VTEP has one.
    #[must_use]
    pub fn entry(self) -> IpcacheEntry {
        let [i, j, k, l, a, b, c, d, ..] = self.0;
        let flags = self.0[23];
        entry([i, j, k, l], if flags & FLAG_IPV6_TUNNEL == 0 { [a, b, c, d] } else { [0; 4] })
    }
}

fn entry(identity: [u8; 4], endpoint: [u8; 4]) -> IpcacheEntry {
    let endpoint = Ipv4Addr::from(endpoint);
    IpcacheEntry { identity: u32::from_ne_bytes(identity), endpoint: (!endpoint.is_unspecified()).then_some(endpoint) }
}

/// Conversions between a type and the bytes that the map API uses.
macro_rules! bytes {
    ($($name:ident: $size:literal;)+) => {$(
        const _: () = assert!(size_of::<$name>() == $size);

        impl From<$name> for [u8; $size] {
            fn from(record: $name) -> Self {
                record.0
            }
        }

        impl From<[u8; $size]> for $name {
            fn from(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }
        }
    )+};
}

bytes! {
    VtepKey: 4;
    VtepValue: 16;
    IpcacheV1: 12;
    IpcacheV2: 24;
}

const _: () = assert!(size_of::<VtepLpmKey>() == VtepLpmKey::SIZE && VtepLpmKey::SIZE == 8);
const _: () = assert!(size_of::<IpcacheKey>() == IpcacheKey::SIZE && IpcacheKey::SIZE == 24);

#[cfg(test)]
mod tests {
    use super::*;

    /// `bpftool -j map dump` of a running Cilium 1.18: `[{"key":["0x0a",…],"value":["0x00",…]},…]`.
    const DUMP: &str = include_str!("../../../tests/fixtures/cilium-1.18/map-dump-vtep.json");

    /// The same for `cilium_ipcache_v2`; each entry also has a decoded form.
    const IPCACHE_DUMP: &str = include_str!("../../../tests/fixtures/cilium-1.18/map-dump-ipcache-v2.json");

    fn entries(dump: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let dump: Vec<serde_json::Value> = serde_json::from_str(dump).expect("the fixture is JSON");
        let byte = |word: &serde_json::Value| u8::from_str_radix(&word.as_str()?[2..], 16).ok();
        let bytes = |words: &serde_json::Value| -> Option<Vec<u8>> { words.as_array()?.iter().map(byte).collect() };
        dump.iter().map(|e| (bytes(&e["key"]).expect("bytes"), bytes(&e["value"]).expect("bytes"))).collect()
    }

    fn key_bytes<const N: usize>(key: LpmKey<N>) -> Vec<u8> {
        key.prefix_len.to_ne_bytes().into_iter().chain(key.data).collect()
    }

    #[test]
    fn ipcache_bytes_are_those_of_a_real_cilium() {
        // The output of `cilium bpf ipcache list` in the same second.
        let expected = [
            ("10.0.0.15/32", 14142, None),
            ("10.0.0.126/32", 1, None),
            ("10.0.1.17/32", 3668, Some("10.169.72.233")),
            ("10.0.1.217/32", 6, Some("10.169.72.233")),
            ("10.0.1.0/24", 2, Some("10.169.72.233")),
            ("10.169.72.233/32", 6, None),
            ("10.169.72.239/32", 1, None),
            ("0.0.0.0/0", 2, None),
        ];
        let seen = entries(IPCACHE_DUMP);
        assert_eq!(seen.len(), expected.len());
        for ((prefix, identity, endpoint), (key, value)) in expected.into_iter().zip(seen) {
            let prefix = prefix.parse().expect("a prefix");
            let endpoint = endpoint.map(|endpoint| endpoint.parse().expect("an address"));
            let entry = IpcacheEntry { identity, endpoint };
            assert_eq!(key_bytes(ipcache_key(prefix)), key, "{prefix}");
            assert_eq!(prefix_of_ipcache_key(ipcache_key(prefix)), Some(prefix));
            assert_eq!(IpcacheV2::new(entry).0.as_slice(), value, "{prefix}");
            assert_eq!(IpcacheV2::new(entry).entry(), entry);
            assert_eq!(IpcacheV1::new(entry).entry(), entry);
        }
    }

    #[test]
    fn the_older_value_has_a_shorter_endpoint() {
        let entry = IpcacheEntry::of_vtep([10, 169, 72, 34].into());
        assert_eq!(IpcacheV1::new(entry).0, [2, 0, 0, 0, 10, 169, 72, 34, 0, 0, 0, 0]);
    }

    #[test]
    fn a_trie_knows_prefix_lengths() {
        let cidr = "10.1.6.0/24".parse().expect("a CIDR");
        assert_eq!(key_bytes(vtep_lpm_key(cidr)), [24, 0, 0, 0, 10, 1, 6, 0]);
        assert_eq!(vtep_of_lpm_key(vtep_lpm_key(cidr)), Some(cidr));
        assert_eq!(vtep_of_lpm_key(LpmKey { prefix_len: 33, data: [10, 1, 6, 0] }), None);
        assert_eq!(prefix_of_ipcache_key(LpmKey { prefix_len: 31, data: [0; 20] }), None);
        let mut ipv6 = [0; 20];
        ipv6[3] = 2;
        let ipv6 = LpmKey { prefix_len: 32, data: ipv6 };
        assert_eq!(prefix_of_ipcache_key(ipv6), None);
    }

    #[test]
    fn what_is_outside_the_cluster() {
        let of = |identity| IpcacheEntry { identity, endpoint: None };
        let outside =
            [1, 2, 6, 9, 255, 256, 14142, 16_777_215, 16_777_216, 16_777_217, 33_554_432].map(|id| of(id).is_outside());
        assert_eq!(outside, [false, true, false, true, false, false, false, false, true, true, false]);
    }

    #[test]
    fn bytes_are_those_of_a_real_cilium() {
        let seen = entries(DUMP);
        let cases = [
            ("10.1.5.0/24", "00:50:56:86:6b:28", "10.169.72.36"),
            ("10.1.6.0/24", "00:50:56:a0:7d:d8", "10.169.72.34"),
        ];
        for ((cidr, mac, endpoint), (key, value)) in cases.into_iter().zip(seen) {
            let expected_key = VtepKey::new(cidr.parse().expect("a CIDR"));
            let expected_value = VtepValue::new(mac.parse().expect("a MAC"), endpoint.parse().expect("an address"));
            assert_eq!(expected_key.0.as_slice(), key);
            assert_eq!(expected_value.0.as_slice(), value);
            assert_eq!(expected_value.mac().to_string(), mac);
            assert_eq!(expected_value.endpoint().to_string(), endpoint);
        }
    }
}
