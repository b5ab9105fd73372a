//! The kernel's counts of UDP packets that it could not deliver, from `/proc/net/snmp`. Pure.

/// The errors of all UDP sockets of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpErrors {
    /// No socket has the port.
    pub no_ports: u64,
    /// A wrong checksum, a full buffer, or another reason of a socket's.
    pub in_errors: u64,
}

impl UdpErrors {
    /// Parses `/proc/net/snmp`: a line of names and a line of values for each protocol. `None` if the text has no such pair for UDP.
    #[must_use]
    pub fn parse(snmp: &str) -> Option<Self> {
        let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, values) = (lines.next()?.split_whitespace(), lines.next()?.split_whitespace());
        let named: Vec<_> = names.zip(values).collect();
        let value = |name| named.iter().find(|(known, _)| *known == name)?.1.parse().ok();
        Some(Self { no_ports: value("NoPorts")?, in_errors: value("InErrors")? })
    }

    /// The errors since this earlier reading.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            no_ports: self.no_ports.saturating_sub(before.no_ports),
            in_errors: self.in_errors.saturating_sub(before.in_errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_stand_below_their_names() {
        let snmp = "IcmpMsg: InType0 InType3\nIcmpMsg: 7 9\n\
            Udp: InDatagrams NoPorts InErrors OutDatagrams\nUdp: 100 12 3 90\n\
            UdpLite: InDatagrams NoPorts InErrors\nUdpLite: 1 2 3\n";
        let errors = UdpErrors::parse(snmp);
        assert_eq!(errors, Some(UdpErrors { no_ports: 12, in_errors: 3 }));
        for other in ["", "Udp: NoPorts InErrors\n", "Udp: NoPorts\nUdp: 1\n", "Udp: NoPorts InErrors\nUdp: x 1\n"] {
            assert_eq!(UdpErrors::parse(other), None, "{other:?}");
        }
    }
}
