//! Sends ARP requests inside tunnel frames. They reach the BIG-IP's tunnel regardless of its port lockdown, and the answer contains the
//! tunnel's real MAC. The tap receives the answers.

use std::{io, net::Ipv4Addr};

use tokio::net::UdpSocket;
use vtep_core::{config::spec::Tunnel, tunnel::frames::arp_request, types::mac::Mac};

/// A UDP socket that sends encapsulated ARP requests, as the tunnel device would.
pub struct ArpSocket {
    socket: UdpSocket,
}

/// The sender of the requests; BIG-IP addresses its answer to it.
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
    /// The socket cannot be opened.
    pub async fn open() -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await? })
    }

    /// Asks the BIG-IP at `endpoint` for the MAC of `target`, without waiting.
    ///
    /// # Errors
    ///
    /// The kernel's error, for example that there is no route to the endpoint.
    pub fn send(&self, tunnel: Tunnel, sender: ArpSender, endpoint: Ipv4Addr, target: Ipv4Addr) -> io::Result<()> {
        let frame = arp_request(tunnel.protocol, sender.mac, sender.address, target);
        self.socket.try_send_to(&frame, (endpoint, tunnel.port).into())?;
        Ok(())
    }
}
