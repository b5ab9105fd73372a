//! Compares the capabilities of this process with those that it needs.

use std::fmt;

/// A capability, by its number in `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    pub name: &'static str,
    bit: u8,
    /// The work that the agent cannot do without it.
    pub needed_for: &'static str,
}

const CAP_SYS_ADMIN: u8 = 21;

pub const BPF: Capability = Capability {
    name: "CAP_BPF",
    bit: 39,
    needed_for: "reading and writing Cilium's BPF maps, and the tap on the underlay; CAP_SYS_ADMIN before Linux 5.8",
};
pub const NET_ADMIN: Capability =
    Capability { name: "CAP_NET_ADMIN", bit: 12, needed_for: "host routes and their rules" };
pub const NET_RAW: Capability =
    Capability { name: "CAP_NET_RAW", bit: 13, needed_for: "probing through the tunnel, and the tap on the underlay" };

/// The capabilities that `run` needs.
pub const NEEDED: [Capability; 3] = [BPF, NET_ADMIN, NET_RAW];

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.needed_for)
    }
}

/// The capabilities of [`NEEDED`] that a process with this `/proc/<pid>/status` lacks; `None` if the text has no `CapEff` line.
/// `CAP_SYS_ADMIN` includes `CAP_BPF`, as it did before Linux 5.8.
#[must_use]
pub fn missing(status: &str) -> Option<Vec<Capability>> {
    let effective = parse_effective(status)?;
    Some(NEEDED.into_iter().filter(|capability| !has(effective, *capability)).collect())
}

fn has(effective: u64, capability: Capability) -> bool {
    let bit = |n: u8| effective >> n & 1 == 1;
    bit(capability.bit) || (capability == BPF && bit(CAP_SYS_ADMIN))
}

fn parse_effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_effective_set() {
        let table = [
            ("CapPrm:\t0\nCapEff:\t000001ffffffffff\n", vec![]),
            ("CapEff:\t0000000000000000\n", vec!["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW"]),
            ("CapEff:\t0000008000002000\n", vec!["CAP_NET_ADMIN"]),
            ("CapEff:\t0000000000203000\n", vec![]),
        ];
        for (status, expected) in table {
            let missing = missing(status).expect("a CapEff line");
            assert_eq!(missing.iter().map(|capability| capability.name).collect::<Vec<_>>(), expected, "{status}");
        }
        assert_eq!(missing("Name:\tx\n"), None);
    }
}
