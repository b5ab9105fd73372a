//! Addresses in captured frames.
//!
//! The frame keeps its headers up to TCP, UDP or ICMP, with replaced addresses, and loses its data: nobody knows which addresses are in
//! there. What a sender has computed from addresses or data goes, too, because it would be an equation for them: the checksum of the IPv4
//! header is that of the header as it is now, and those of TCP, UDP and ICMP are zero.

use etherparse::Ipv4Header;

use super::Redactor;
use crate::{
    capture::Captured,
    config::spec::{Tunnel, TunnelProtocol},
};

const ETHERNET: usize = 14;
/// Ports, and the fixed part of TCP.
const TCP: usize = 20;
const UDP: usize = 8;
const ICMP: usize = 8;
const TUNNEL: usize = 8;

impl Redactor {
    /// Replaces the addresses in the headers of this frame, and cuts what follows them.
    pub fn frame(&mut self, captured: &mut Captured, tunnel: Tunnel) {
        let kept = self.ethernet(&mut captured.bytes, Some(tunnel));
        captured.bytes.truncate(kept);
    }

    /// Returns how much of the frame may remain. `tunnel`: it may carry another frame.
    fn ethernet(&mut self, frame: &mut [u8], tunnel: Option<Tunnel>) -> usize {
        let Some((header, payload)) = frame.split_first_chunk_mut::<ETHERNET>() else { return 0 };
        let (macs, ether_type) = header.split_at_mut(12);
        macs.chunks_exact_mut(6).for_each(|mac| self.mac_at(mac));
        ETHERNET
            + match ether_type {
                [0x08, 0x06] => self.arp(payload),
                [0x08, 0x00] => self.packet(payload, tunnel),
                _ => 0,
            }
    }

    /// RFC 826.
    fn arp(&mut self, packet: &mut [u8]) -> usize {
        let Some(packet) = packet.first_chunk_mut::<28>() else { return 0 };
        if packet[..6] != [0, 1, 8, 0, 6, 4] {
            return 0;
        }
        for [mac, ip] in [[8, 14], [18, 24]] {
            self.mac_at(&mut packet[mac..mac + 6]);
            self.ipv4_at(&mut packet[ip..ip + 4]);
        }
        packet.len()
    }

    fn packet(&mut self, packet: &mut [u8], tunnel: Option<Tunnel>) -> usize {
        let Some(first) = packet.first().copied().filter(|first| first >> 4 == 4) else { return 0 };
        let length = usize::from(first & 0x0f) * 4;
        let Some((header, payload)) = packet.split_at_mut_checked(length).filter(|_| length >= 20) else { return 0 };
        self.ipv4_at(&mut header[12..16]);
        self.ipv4_at(&mut header[16..20]);
        // Options may record addresses.
        header[20..].fill(0);
        header[10..12].fill(0);
        if let Ok((new, _)) = Ipv4Header::from_slice(header) {
            header[10..12].copy_from_slice(&new.calc_header_checksum().to_be_bytes());
        }
        let is_piece = (u16::from_be_bytes([header[6], header[7]]) & 0x1fff) != 0;
        let kept = match header[9] {
            _ if is_piece => 0,
            1 => self.icmp(payload),
            6 => tcp(payload),
            17 => self.udp(payload, tunnel),
            _ => 0,
        };
        length + kept
    }

    /// RFC 792.
    fn icmp(&mut self, message: &mut [u8]) -> usize {
        let Some((header, data)) = message.split_first_chunk_mut::<ICMP>() else { return 0 };
        header[2..4].fill(0);
        match header[0] {
            // An error carries the packet that it is about.
            3 | 11 => ICMP + self.packet(data, None),
            // So does a redirect, behind the address of the better gateway.
            5 => {
                self.ipv4_at(&mut header[4..]);
                ICMP + self.packet(data, None)
            }
            // Of an echo, identifier and sequence. A few zeros remain zeros, by which the agent's own echoes are known.
            0 | 8 => ICMP + data.iter().take_while(|byte| **byte == 0).count(),
            _ => {
                header[4..].fill(0);
                ICMP
            }
        }
    }

    fn udp(&mut self, datagram: &mut [u8], tunnel: Option<Tunnel>) -> usize {
        let Some((header, payload)) = datagram.split_first_chunk_mut::<UDP>() else { return 0 };
        let port = u16::from_be_bytes([header[2], header[3]]);
        header[6..].fill(0);
        let Some(tunnel) = tunnel.filter(|tunnel| port == tunnel.port || matches!(port, 8472 | 4789 | 6081)) else {
            return UDP;
        };
        let is_geneve = if port == tunnel.port { tunnel.protocol == TunnelProtocol::Geneve } else { port == 6081 };
        let Some((header, rest)) = payload.split_first_chunk_mut::<TUNNEL>() else { return UDP };
        let options = if is_geneve { usize::from(header[0] & 0x3f) * 4 } else { 0 };
        let Some((options, inner)) = rest.split_at_mut_checked(options) else { return UDP + TUNNEL };
        // Cilium's DSR has the address of a Service in one.
        options.fill(0);
        UDP + TUNNEL + options.len() + self.ethernet(inner, None)
    }

    fn mac_at(&mut self, bytes: &mut [u8]) {
        if let Ok(mac) = <[u8; 6]>::try_from(&*bytes) {
            bytes.copy_from_slice(&self.mac(mac.into()).octets());
        }
    }

    fn ipv4_at(&mut self, bytes: &mut [u8]) {
        if let Ok(address) = <[u8; 4]>::try_from(&*bytes) {
            bytes.copy_from_slice(&self.ipv4(address.into()).octets());
        }
    }
}

/// Returns how much of the segment may remain.
fn tcp(segment: &mut [u8]) -> usize {
    segment.iter_mut().skip(16).take(2).for_each(|byte| *byte = 0);
    TCP.min(segment.len())
}
