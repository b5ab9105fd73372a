//! ICMP echoes through a raw socket: through the tunnel when bound to Cilium's router address, beside it when not.

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

/// Bytes of the IPv4 and of the ICMP header.
const HEADERS: u16 = 20 + 8;
/// Bytes of an ordinary echo, headers included: as `ping` sends.
pub const ORDINARY: u16 = 56 + HEADERS;

/// Where echoes leave: from this address, through this device, whatever the routing rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub source: Ipv4Addr,
    pub device: u32,
}

/// A raw ICMP socket. The kernel hands it every ICMP packet for its address, so receivers match by echo identity.
pub struct IcmpSocket {
    socket: EventSocket,
    path: Option<Path>,
}

impl IcmpSocket {
    /// # Errors
    ///
    /// Without `CAP_NET_RAW`, and when `path.source` is no address of this node.
    pub fn open(path: Option<Path>) -> io::Result<Self> {
        let socket = EventSocket::icmp()?;
        if let Some(path) = path {
            socket.get().bind(&SocketAddrV4::new(path.source, 0).into())?;
            // What is too large shall be lost where it is, not be cut.
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
    /// What the kernel says of this one: no route, no buffer space (Cilium dropped it), and the like.
    pub fn send(&self, echo: Echo, size: u16, to: Ipv4Addr) -> io::Result<()> {
        let message = echo_request(echo, size.saturating_sub(HEADERS).into());
        // The device in IP_PKTINFO chooses the route: the probe proves the tunnel, also where the host route is missing.
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

    /// Waits for the next echo reply: its source and identity.
    ///
    /// # Errors
    ///
    /// When the socket fails.
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
