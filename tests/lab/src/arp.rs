//! Sends ARP requests with any sender through any device: correct and incorrect requests of a BIG-IP.

use std::{
    io::{self, Read},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use socket2::Socket;

use crate::{host::Host, mac::Mac, packet};

const ETHERTYPE_ARP: u16 = 0x0806;
/// Ethernet, IPv4, address lengths, request.
const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
const REPLY: u8 = 2;
const FRAME_LEN: usize = 42;

/// An ARP request.
#[derive(Debug, Clone, Copy)]
pub struct ArpRequest {
    /// Destination of the frame. Cilium answers broadcasts and frames to the MAC of its tunnel device.
    pub to: Mac,
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
}

impl ArpRequest {
    /// The usual kind: a broadcast.
    #[must_use]
    pub fn broadcast(sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        Self { to: Mac([0xff; 6]), sender, target }
    }
}

/// Sends one request through a host's device, with the device's MAC, and waits for the answer. Returns the MAC in it, or `None` without
/// an answer.
///
/// # Errors
///
/// The device does not exist, or the socket failed.
pub fn arp(from: &Host, device: &str, request: ArpRequest, timeout: Duration) -> Result<Option<Mac>> {
    let link = from.link(device)?;
    let frame = encode(link.mac, request);
    from.run(|| {
        let socket = packet::open(link.index, ETHERTYPE_ARP)?;
        socket.send(&frame).with_context(|| format!("failed to send through {device}"))?;
        receive(socket, request, Instant::now() + timeout).context("failed to wait for an ARP reply")
    })
}

/// Gratuitous ARP (RFC 5227, section 3): tells everybody on the link that this device has the address now.
pub(crate) fn announce(host: &Host, device: &str, address: Ipv4Addr) -> Result<()> {
    let link = host.link(device)?;
    let frame = encode(link.mac, ArpRequest::broadcast(address, address));
    host.run(|| {
        let socket = packet::open(link.index, ETHERTYPE_ARP)?;
        socket.send(&frame).with_context(|| format!("failed to send through {device}"))?;
        Ok(())
    })
}

fn receive(mut socket: Socket, request: ArpRequest, deadline: Instant) -> io::Result<Option<Mac>> {
    let mut frame = [0; FRAME_LEN];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut frame) {
            Ok(FRAME_LEN) => {
                if let Some(mac) = decode(&frame, request) {
                    return Ok(Some(mac));
                }
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
}

fn encode(mac: Mac, request: ArpRequest) -> Vec<u8> {
    let ArpRequest { to, sender, target } = request;
    let nobody = [0; 6];
    let (to, mac) = (to.0, mac.0);
    [&to[..], &mac, &ETHERTYPE_ARP.to_be_bytes(), &REQUEST, &mac, &sender.octets(), &nobody, &target.octets()].concat()
}

/// The sender's MAC of a reply to this request.
fn decode(frame: &[u8; FRAME_LEN], request: ArpRequest) -> Option<Mac> {
    let is_reply = frame[12..14] == ETHERTYPE_ARP.to_be_bytes() && frame[14..21] == REQUEST[..7] && frame[21] == REPLY;
    let is_ours = frame[28..32] == request.target.octets() && frame[38..42] == request.sender.octets();
    let mac = frame[22..].first_chunk()?;
    (is_reply && is_ours).then_some(Mac(*mac))
}
