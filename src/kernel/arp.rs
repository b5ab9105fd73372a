//! ARP requests inside tunnel frames: they reach the BIG-IP's tunnel whatever its port lockdown, and their answer carries the
//! real MAC. The answers come in through the tap.

use std::{io, net::Ipv4Addr};

use tokio::net::UdpSocket;
use vtep_core::{config::spec::Tunnel, tunnel::frames::arp_request, types::mac::Mac};

/// A UDP socket that plays the tunnel device for ARP requests.
pub struct ArpSocket {
    socket: UdpSocket,
}

/// The sender of a request: the answer is addressed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpSender {
    /// The tunnel device's MAC, so that BIG-IP learns nothing new from the probe.
    pub mac: Mac,
    /// Cilium's router address.
    pub address: Ipv4Addr,
}

impl ArpSocket {
    /// # Errors
    ///
    /// When no socket can be opened.
    pub async fn open() -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await? })
    }

    /// Asks the BIG-IP at `endpoint` for the MAC of `target`, without waiting.
    ///
    /// # Errors
    ///
    /// What the kernel says: no route to the endpoint, and the like.
    pub fn send(&self, tunnel: Tunnel, sender: ArpSender, endpoint: Ipv4Addr, target: Ipv4Addr) -> io::Result<()> {
        let frame = arp_request(tunnel.protocol, sender.mac, sender.address, target);
        self.socket.try_send_to(&frame, (endpoint, tunnel.port).into())?;
        Ok(())
    }
}
