//! ICMP echoes over a raw socket: through the tunnel if the socket is bound to Cilium's router address, otherwise over the underlay.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
};

use nix::{
    libc::{in_addr, in_pktinfo},
    sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg},
};
use vtep_core::tunnel::frames::{Echo, echo_reply, echo_request};

use super::socket::EventSocket;

/// The length of the IPv4 and ICMP headers, in bytes.
const HEADERS: u16 = 20 + 8;
/// The length of an ordinary echo in bytes, headers included; `ping` sends the same.
pub const ORDINARY: u16 = 56 + HEADERS;

/// The source address and the device of echoes, regardless of routing rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub source: Ipv4Addr,
    pub device: u32,
}

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
        let message = echo_request(echo, size.saturating_sub(HEADERS).into());
        // The device in IP_PKTINFO overrides the route: the probe tests the tunnel even if the host route is missing.
        let info = self.path.map(|path| in_pktinfo {
            ipi_ifindex: path.device.cast_signed(),
            ipi_spec_dst: in_addr { s_addr: u32::from(path.source).to_be() },
            ipi_addr: in_addr { s_addr: 0 },
        });
        let control: Vec<_> = info.iter().map(ControlMessage::Ipv4PacketInfo).collect();
        let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
        let bytes = [io::IoSlice::new(&message)];
        self.socket.forget_errors();
        sendmsg(self.socket.get().as_raw_fd(), &bytes, &control, MsgFlags::empty(), Some(&to))?;
        Ok(())
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
