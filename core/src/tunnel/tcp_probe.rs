//! `--probe-tcp`: one TCP SYN a round to a port of the tunnel self IP, by the way that packets of pods take. A function of events and of `now`.
//!
//! Ping may pass where TCP does not: with a group address as the MAC, with wrong checksums, or with a policy. A SYN/ACK proves that the way
//! works in both directions, and so does a RST. No connection is ever completed: the kernel, which knows nothing of it, answers a SYN/ACK with
//! a RST. Silence alone is no verdict, because a filter or port lockdown may drop SYNs without an answer.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use etherparse::{IpNumber, Ipv4Slice, TcpHeader, TcpHeaderSlice};

use super::window::{ProbeWindow, Thresholds, WindowState};

/// The source ports of probes. They are above the kernel's default range for connections (`ip_local_port_range`), so that no connection of this
/// node has one of them.
pub const SOURCE_PORTS: RangeInclusive<u16> = 61_000..=64_999;
/// What a probe offers to receive, in bytes. Nothing is ever sent.
const RECEIVE_WINDOW: u16 = 1024;

/// The probes of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpProbe {
    /// The tunnel self IP and the port.
    pub target: SocketAddrV4,
    pub window: ProbeWindow,
}

impl TcpProbe {
    #[must_use]
    pub fn new(target: SocketAddrV4, thresholds: Thresholds, timeout: Duration) -> Self {
        Self { target, window: ProbeWindow::new(thresholds, timeout) }
    }

    /// The port was answered, and is not any more.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.window.received > 0 && self.window.state() == WindowState::Failed
    }

    /// Every SYN is answered, or none ever was: then the port is filtered.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        self.window.received == 0 || (self.window.state() == WindowState::Ok && self.window.lost() == 0)
    }

    pub fn on_answer(&mut self, answer: &Answer, id: u16, now: Instant) {
        let [id_high, id_low, high, low] = answer.acknowledged.to_be_bytes();
        if answer.from == self.target && u16::from_be_bytes([id_high, id_low]) == id {
            self.window.on_reply(u16::from_be_bytes([high, low]), now);
        }
    }
}

/// A SYN to `target` (RFC 9293, section 3.1) with its checksum. The sequence number has the agent's identity and the probe's number.
#[must_use]
pub fn syn(id: u16, sequence: u16, source: Ipv4Addr, target: SocketAddrV4) -> Vec<u8> {
    let [id_high, id_low] = id.to_be_bytes();
    let [high, low] = sequence.to_be_bytes();
    let number = u32::from_be_bytes([id_high, id_low, high, low]);
    let ports = SOURCE_PORTS.end() - SOURCE_PORTS.start() + 1;
    let port = SOURCE_PORTS.start() + sequence % ports;
    let mut header = TcpHeader::new(port, target.port(), number, RECEIVE_WINDOW);
    header.syn = true;
    // Only a payload of more than 64 kB has no checksum.
    header.checksum = header.calc_checksum_ipv4_raw(source.octets(), target.ip().octets(), &[]).unwrap_or_default();
    header.to_bytes().to_vec()
}

/// A SYN/ACK or a RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub from: SocketAddrV4,
    /// The sequence number of the SYN that it answers.
    pub acknowledged: u32,
}

/// Decodes the answer to a SYN in an IPv4 packet, as a raw socket delivers it.
#[must_use]
pub fn answer(packet: &[u8]) -> Option<Answer> {
    let ip = Ipv4Slice::from_slice(packet).ok()?;
    if ip.payload().fragmented || ip.payload().ip_number != IpNumber::TCP {
        return None;
    }
    let tcp = TcpHeaderSlice::from_slice(ip.payload().payload).ok()?;
    let is_answer = tcp.ack() && (tcp.syn() || tcp.rst()) && SOURCE_PORTS.contains(&tcp.destination_port());
    is_answer.then(|| Answer {
        from: SocketAddrV4::new(ip.header().source_addr(), tcp.source_port()),
        acknowledged: tcp.acknowledgment_number().wrapping_sub(1),
    })
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 126);
    const TARGET: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 1, 6, 34), 443);
    const ID: u16 = 0xbeef;
    const SECOND: Duration = Duration::from_secs(1);

    fn probe() -> TcpProbe {
        TcpProbe::new(TARGET, Thresholds { raise: 3, clear: 3 }, SECOND / 2)
    }

    /// The answer of a host, with these flags.
    fn reply(syn: &[u8], flags: fn(&mut TcpHeader)) -> Vec<u8> {
        let syn = TcpHeaderSlice::from_slice(syn).expect("a header");
        let mut header = TcpHeader::new(syn.destination_port(), syn.source_port(), 7, 1024);
        header.acknowledgment_number = syn.sequence_number().wrapping_add(1);
        flags(&mut header);
        let builder = PacketBuilder::ipv4(TARGET.ip().octets(), ROUTER.octets(), 64).tcp_header(header);
        let mut packet = Vec::new();
        builder.write(&mut packet, &[]).expect("a packet");
        packet
    }

    #[test]
    fn a_syn_has_the_right_checksum() {
        let bytes = syn(ID, 9, ROUTER, TARGET);
        let header = TcpHeaderSlice::from_slice(&bytes).expect("a header").to_header();
        let checksum = header.calc_checksum_ipv4_raw(ROUTER.octets(), TARGET.ip().octets(), &[]);
        assert_eq!((checksum, header.syn, header.ack), (Ok(header.checksum), true, false));
        assert_eq!((header.destination_port, header.source_port), (443, 61_009));
        let ports = (0..=u16::MAX).map(|sequence| {
            let bytes = syn(ID, sequence, ROUTER, TARGET);
            TcpHeaderSlice::from_slice(&bytes).expect("a header").source_port()
        });
        assert!(ports.into_iter().all(|port| SOURCE_PORTS.contains(&port)));
    }

    #[test]
    fn a_syn_ack_and_a_rst_are_answers_and_nothing_else_is() {
        type Flags = fn(&mut TcpHeader);
        let now = Instant::now();
        let bytes = syn(ID, 9, ROUTER, TARGET);
        let answers: [(Flags, bool); 4] = [
            (|header| (header.syn, header.ack) = (true, true), true),
            (|header| (header.rst, header.ack) = (true, true), true),
            (|header| header.ack = true, false),
            (|header| header.rst = true, false),
        ];
        for (flags, counts) in answers {
            let found = answer(&reply(&bytes, flags));
            assert_eq!(found.is_some(), counts);
            let Some(found) = found else { continue };
            let mut probe = probe();
            probe.window.on_sent(9, now);
            probe.on_answer(&found, ID + 1, now);
            assert_eq!(probe.window.received, 0, "another agent's");
            probe.on_answer(&found, ID, now);
            assert_eq!((probe.window.received, probe.is_broken(), probe.is_steady()), (1, false, true));
        }
        for length in 0..60 {
            let whole = reply(&bytes, |header| (header.syn, header.ack) = (true, true));
            let _ = answer(&whole[..length.min(whole.len())]);
        }
        let udp = PacketBuilder::ipv4(TARGET.ip().octets(), ROUTER.octets(), 64).udp(443, 61_009);
        let mut packet = Vec::new();
        udp.write(&mut packet, &[0; 20]).expect("a packet");
        assert_eq!(answer(&packet), None);
    }

    #[test]
    fn silence_alone_breaks_nothing() {
        let start = Instant::now();
        let lose = |probe: &mut TcpProbe, from: u16| {
            for n in from..from + 5 {
                let at = start + SECOND * u32::from(n);
                probe.window.on_sent(n, at);
                probe.window.on_time(at + SECOND / 2);
            }
        };
        let mut never = probe();
        lose(&mut never, 0);
        assert_eq!((never.is_broken(), never.is_steady()), (false, true));
        let mut once = probe();
        once.window.on_sent(100, start);
        once.window.on_reply(100, start);
        lose(&mut once, 1);
        assert_eq!((once.is_broken(), once.is_steady()), (true, false));
    }
}
