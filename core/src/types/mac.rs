//! MAC addresses as they appear in `cilium-config` and in everything this agent prints.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A 48-bit MAC address in transmission order, read in any usual notation and printed in lower case with `:`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

/// The text is not a 48-bit MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address of six octets")]
pub struct InvalidMac;

impl Mac {
    #[must_use]
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// The group bit of the first octet; the broadcast address has it too.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The address of one device.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && !self.is_zero()
    }
}

impl From<[u8; 6]> for Mac {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;

    /// The notations of Go's `net.ParseMAC`, which Cilium reads with: `00:50:56:a0:7d:d8`, `00-50-56-a0-7d-d8` and
    /// `0050.56a0.7dd8`, in any case. Longer addresses (EUI-64) are not accepted.
    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let separator = [':', '-', '.'].into_iter().find(|&c| text.contains(c)).ok_or(InvalidMac)?;
        let (groups, digits) = if separator == '.' { (3, 4) } else { (6, 2) };
        let parts: Vec<&str> = text.split(separator).collect();
        let well_formed = |part: &&str| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
        if parts.len() != groups || !parts.iter().all(well_formed) {
            return Err(InvalidMac);
        }
        let value = u64::from_str_radix(&parts.concat(), 16).map_err(|_| InvalidMac)?;
        let [_, _, octets @ ..] = value.to_be_bytes();
        Ok(Self(octets))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.octets();
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        let mac = Mac::new([0x00, 0x50, 0x56, 0xa0, 0x7d, 0xd8]);
        for text in ["00:50:56:a0:7d:d8", "00:50:56:A0:7D:D8", "00-50-56-a0-7D-d8", "0050.56a0.7dd8", "0050.56A0.7DD8"]
        {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        for text in [
            "",
            ":",
            "00:50:56:a0:7d",
            "00:50:56:a0:7d:d8:00",
            "00:50:56:a0:7d:d8:00:01",
            "00:50-56:a0:7d:d8",
            "0:50:56:a0:7d:d8",
            "000:50:56:a0:7d:d8",
            "00:50:56:a0:7d:g8",
            "00:50:56:a0:7d:+8",
            "005056a07dd8",
            "0050.56a0.7dd8.0000",
            "0050:56a0:7dd8",
            "00:50:56:a0:7d:d8 ",
            "é0:50:56:a0:7d:d8",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(InvalidMac), "{text}");
        }
    }

    #[test]
    fn prints_lower_case_with_colons() {
        let mac: Mac = "01-50-56-A0-7D-D8".parse().expect("a MAC");
        assert_eq!(mac.to_string(), "01:50:56:a0:7d:d8");
        assert_eq!(serde_json::to_string(&mac).expect("JSON"), "\"01:50:56:a0:7d:d8\"");
        assert_eq!(serde_json::from_str::<Mac>("\"01:50:56:a0:7d:d8\"").expect("JSON"), mac);
        assert!(mac.is_multicast() && !mac.is_zero());
        assert!(Mac::new([0; 6]).is_zero());
        assert!(Mac::new([0xff; 6]).is_multicast());
    }
}
