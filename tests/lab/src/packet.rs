//! Packet sockets: the Ethernet frames of one device, in and out.

use std::io;

use anyhow::{Context, Result};
use nix::{libc, setsockopt_impl, sockopt_impl, sys::socket::setsockopt};
use socket2::{Domain, SockAddr, Socket, Type};

sockopt_impl!(
    /// `PACKET_IGNORE_OUTGOING` (packet(7), Linux 4.20).
    IgnoreOutgoing,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_IGNORE_OUTGOING,
    bool
);

/// Opens a socket, in the namespace of the calling thread, for a device's incoming frames of this EtherType; it also sends on the device.
pub(crate) fn open(index: u32, ethertype: u16) -> Result<Socket> {
    // A socket without a protocol receives nothing; `bind` sets the protocol.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).context("failed to open a packet socket")?;
    setsockopt(&socket, IgnoreOutgoing, &true).context("failed to set up a packet socket")?;
    let address = link_layer(index, ethertype)?;
    socket.bind(&address).with_context(|| format!("failed to bind to interface #{index}"))?;
    Ok(socket)
}

fn link_layer(index: u32, ethertype: u16) -> Result<SockAddr> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    #[expect(unsafe_code, reason = "socket2 has no safe constructor for packet addresses")]
    // SAFETY: the storage is at least as large as a `sockaddr_ll`, which is plain bytes, and the length is that of the written value.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(address);
            *length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
            Ok(())
        })
    }?;
    Ok(address)
}
