//! ICMP echoes over a raw socket: through the tunnel if the socket is bound to Cilium's router address, otherwise over the underlay.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
};

use vtep_core::tunnel::frames::{Echo, echo_reply, echo_request};

use super::socket::{EventSocket, Path};

/// The length of the IPv4 and ICMP headers, in bytes.
const HEADERS: u16 = 20 + 8;
/// The length of an ordinary echo in bytes, headers included; `ping` sends the same.
pub const ORDINARY: u16 = 56 + HEADERS;

/// A raw ICMP socket. The kernel delivers every echo reply for its address to it, so receivers must match the echo's identity.
pub struct IcmpSocket {
    socket: EventSocket,
    path: Option<Path>,
}

impl IcmpSocket {
    /// # Errors
    ///
    /// The process lacks `CAP_NET_RAW`, or `path.source` is not an address of this node.
    pub fn open(path: Option<Path>) -> io::Result<Self> {
        let socket = EventSocket::icmp()?;
        if let Some(path) = path {
            socket.get().bind(&SocketAddrV4::new(path.source, 0).into())?;
            // A packet that is too large must be dropped, not fragmented: the path MTU is measured by the loss.
            socket.never_fragment()?;
        }
        Ok(Self { socket, path })
    }

    #[must_use]
    pub fn path(&self) -> Option<Path> {
        self.path
    }

    /// Sends one echo request of `size` bytes, IPv4 header included, without waiting.
    ///
    /// # Errors
    ///
    /// The kernel's error about this packet: no route, no buffer space (Cilium dropped it), and others.
    pub fn send(&self, echo: Echo, size: u16, to: Ipv4Addr) -> io::Result<()> {
        self.socket.forget_errors();
        self.socket.send(&echo_request(echo, size.saturating_sub(HEADERS).into()), self.path, to)
    }

    /// Waits for the next echo reply, and returns its source and identity.
    ///
    /// # Errors
    ///
    /// The socket fails.
    pub async fn receive(&self) -> io::Result<(Ipv4Addr, Echo)> {
        let mut buffer = [0; 2048];
        loop {
            let length = self.socket.receive(&mut buffer).await?;
            if let Some(reply) = buffer.get(..length).and_then(echo_reply) {
                return Ok(reply);
            }
        }
    }
}
