//! The bytes of Cilium's maps, and the tap's records as the map API wants them. Byte order and layout are decided here and
//! nowhere else.
//!
//! Source: `pkg/maps/vtep` and `bpf/lib/common.h` of Cilium 1.12 to 1.20; `tests/fixtures` holds dumps of a running 1.18.

use std::{fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::config::mac::Mac;

/// Key of `cilium_vtep_map`: the IPv4 network address of a VTEP CIDR, network order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VtepKey([u8; 4]);

impl VtepKey {
    #[must_use]
    pub fn new(cidr: Ipv4Net) -> Self {
        Self(cidr.network().octets())
    }

    #[must_use]
    pub fn network(self) -> Ipv4Addr {
        self.0.into()
    }
}

impl fmt::Debug for VtepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.network(), f)
    }
}

/// Value of `cilium_vtep_map`: MAC (6 bytes in order, 2 zero), endpoint (network order), 4 bytes of padding.
///
/// Values are compared as bytes, so that padding somebody scribbled on counts as drift.
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

const _: () = assert!(size_of::<VtepKey>() == 4);
const _: () = assert!(size_of::<VtepValue>() == 16);

#[expect(unsafe_code, reason = "a transparent wrapper around a byte array: every bit pattern is valid, no padding")]
// SAFETY: as the reason says.
unsafe impl aya::Pod for VtepKey {}
#[expect(unsafe_code, reason = "a transparent wrapper around a byte array: every bit pattern is valid, no padding")]
// SAFETY: as the reason says.
unsafe impl aya::Pod for VtepValue {}

/// The tap's records, as the map API wants them: wrappers, because both the trait and the records are of other crates.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct FlowKey(pub vtep_agent_ebpf::FlowKey);
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct FlowStats(pub vtep_agent_ebpf::FlowStats);

#[expect(unsafe_code, reason = "integers and byte arrays without padding, as the record's crate asserts by its size")]
// SAFETY: as the reason says.
unsafe impl aya::Pod for FlowKey {}
#[expect(unsafe_code, reason = "integers and byte arrays without padding, as the record's crate asserts by its size")]
// SAFETY: as the reason says.
unsafe impl aya::Pod for FlowStats {}

#[cfg(test)]
mod tests {
    use super::*;

    /// `bpftool -j map dump` of a running Cilium 1.18: `[{"key":["0x0a",…],"value":["0x00",…]},…]`.
    const DUMP: &str = include_str!("../../tests/fixtures/cilium-1.18/map-dump-vtep.json");

    #[test]
    fn bytes_are_those_of_a_real_cilium() {
        let dump: Vec<std::collections::BTreeMap<String, Vec<String>>> =
            serde_json::from_str(DUMP).expect("the fixture is JSON");
        let bytes = |words: &[String]| -> Vec<u8> {
            words.iter().map(|word| u8::from_str_radix(&word[2..], 16).expect("0x and two digits")).collect()
        };
        let seen: Vec<_> = dump.iter().map(|entry| (bytes(&entry["key"]), bytes(&entry["value"]))).collect();
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
