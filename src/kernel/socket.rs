//! Raw and packet sockets on the event loop. The socket options and addresses here need `unsafe` or exist in no crate.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
};

use nix::{
    getsockopt_impl,
    libc::{self, in_addr, in_pktinfo},
    setsockopt_impl, sockopt_impl,
    sys::{
        socket::{
            ControlMessage, ControlMessageOwned, LinkAddr, MsgFlags, SockaddrIn, getsockopt, recv, recvmsg, sendmsg,
            setsockopt,
            sockopt::{Ipv4RecvErr, RcvBufForce, ReceiveTimestampns},
        },
        time::TimeSpec,
    },
};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;
use vtep_core::tunnel::tcp_probe::SOURCE_PORTS;

/// The source address and the device of packets, regardless of routing rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub source: Ipv4Addr,
    pub device: u32,
}

/// A socket that the event loop watches.
pub struct EventSocket(AsyncFd<Socket>);

impl EventSocket {
    /// A raw ICMP socket that receives only echo replies.
    ///
    /// # Errors
    ///
    /// The process lacks `CAP_NET_RAW`.
    pub fn icmp() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking().cloexec(), Some(Protocol::ICMPV4))?;
        setsockopt(&socket, IcmpFilter, &!(1 << ICMP_ECHO_REPLY)).map_err(io::Error::from)?;
        // Without this option, the kernel does not report that a program or a queue dropped a sent packet (raw(7)).
        setsockopt(&socket, Ipv4RecvErr, &true).map_err(io::Error::from)?;
        Self::watch(socket)
    }

    /// A raw TCP socket that receives only segments to the source ports of probes.
    ///
    /// # Errors
    ///
    /// The process lacks `CAP_NET_RAW`.
    pub fn tcp() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking().cloexec(), Some(Protocol::TCP))?;
        socket.attach_filter(&to_probes())?;
        setsockopt(&socket, Ipv4RecvErr, &true).map_err(io::Error::from)?;
        Self::watch(socket)
    }

    /// A socket that receives copies of a device's incoming IPv4 packets, from the IPv4 header on. `prepare` may attach a filter before the
    /// first packet arrives.
    ///
    /// # Errors
    ///
    /// The process lacks `CAP_NET_RAW`, the device does not exist, or `prepare` fails.
    pub fn packets<E: From<io::Error>>(device: u32, prepare: impl FnOnce(&Socket) -> Result<(), E>) -> Result<Self, E> {
        // A socket without a protocol receives nothing; `bind` sets the protocol after `prepare`.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), None)?;
        // This option keeps the socket off the transmit path.
        setsockopt(&socket, IgnoreOutgoing, &true).map_err(io::Error::from)?;
        prepare(&socket)?;
        socket.bind(&packet_address(device, libc::ETH_P_IP)?)?;
        Ok(Self::watch(socket)?)
    }

    /// A socket that receives copies of all frames of a device in both directions, from the Ethernet header on: the kernel shows outgoing
    /// frames only to sockets of all protocols. `prepare` must attach a filter that passes few frames.
    ///
    /// # Errors
    ///
    /// The process lacks `CAP_NET_RAW`, the device does not exist, or `prepare` fails.
    pub fn frames<E: From<io::Error>>(device: u32, prepare: impl FnOnce(&Socket) -> Result<(), E>) -> Result<Self, E> {
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        prepare(&socket)?;
        socket.bind(&packet_address(device, libc::ETH_P_ALL)?)?;
        Ok(Self::watch(socket)?)
    }

    #[expect(unsafe_code, reason = "the event loop wants a promise about the descriptor")]
    fn watch(socket: Socket) -> io::Result<Self> {
        // SAFETY: the Socket owns its descriptor, which remains open and unchanged until the AsyncFd that owns the Socket is dropped.
        Ok(Self(unsafe { AsyncFd::register(socket) }?))
    }

    /// Sets DF on all outgoing packets, and makes the kernel ignore the path MTU that it has cached.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn never_fragment(&self) -> io::Result<()> {
        Ok(setsockopt(self.get(), MtuDiscover, &libc::IP_PMTUDISC_PROBE)?)
    }

    /// Sends one packet without waiting, by `path` if there is one.
    ///
    /// # Errors
    ///
    /// The kernel's error about this packet: no route, no buffer space (Cilium dropped it), and others.
    pub fn send(&self, bytes: &[u8], path: Option<Path>, to: Ipv4Addr) -> io::Result<()> {
        // The device in IP_PKTINFO overrides the route: the probe tests the tunnel even if the host route is missing.
        let info = path.map(|path| in_pktinfo {
            ipi_ifindex: path.device.cast_signed(),
            ipi_spec_dst: in_addr { s_addr: u32::from(path.source).to_be() },
            ipi_addr: in_addr { s_addr: 0 },
        });
        let control: Vec<_> = info.iter().map(ControlMessage::Ipv4PacketInfo).collect();
        let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
        sendmsg(self.get().as_raw_fd(), &[io::IoSlice::new(bytes)], &control, MsgFlags::empty(), Some(&to))?;
        Ok(())
    }

    #[must_use]
    pub fn get(&self) -> &Socket {
        self.0.get_ref()
    }

    /// Clears ICMP errors about earlier packets. Otherwise the next call would fail with one of them, even if it concerns another peer.
    pub fn forget_errors(&self) {
        let _ = self.get().take_error();
        let mut nothing = [0; 1];
        // The limit bounds the time of this loop. Remaining errors make no call fail; they only take memory, which the kernel bounds.
        for _ in 0..64 {
            if recv(self.get().as_raw_fd(), &mut nothing, MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT).is_err() {
                return;
            }
        }
    }

    /// Waits for the next packet and returns its length; a packet longer than `buffer` is truncated.
    ///
    /// # Errors
    ///
    /// The socket fails, for example because its device went down.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let received = ready.try_io(|socket| Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::empty())?));
            match received {
                // A router's ICMP error about an earlier packet. It is ignored, because the missing answer shows the same.
                Ok(Err(error)) if is_unreachable(&error) => self.forget_errors(),
                Ok(received) => return received,
                Err(_would_block) => {}
            }
        }
    }
}

/// A classic BPF program (`linux/filter.h`) that passes IPv4 packets with a TCP destination port of the probes.
fn to_probes() -> [SockFilter; 6] {
    // BPF_LDX | BPF_B | BPF_MSH: the length of the IPv4 header. BPF_LD | BPF_H | BPF_IND: the destination port behind it.
    const LENGTH: u16 = 0xb1;
    const LOAD: u16 = 0x48;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const JUMP_IF_ABOVE: u16 = 0x25;
    const RETURN: u16 = 0x06;
    let (first, last) = (u32::from(*SOURCE_PORTS.start()), u32::from(*SOURCE_PORTS.end()));
    [
        SockFilter::new(LENGTH, 0, 0, 0),
        SockFilter::new(LOAD, 0, 0, 2),
        SockFilter::new(JUMP_IF_AT_LEAST, 0, 2, first),
        SockFilter::new(JUMP_IF_ABOVE, 1, 0, last),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// A frame of a socket of [`EventSocket::frames`], with what the kernel says about it.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// The frame's length; the buffer may have less of it.
    pub length: usize,
    pub is_outgoing: bool,
    /// The kernel's time of the frame.
    pub at: Option<TimeSpec>,
}

impl EventSocket {
    /// Lets the kernel record the time of each frame, and keep more frames than by default.
    ///
    /// # Errors
    ///
    /// The kernel has no times for this socket.
    pub fn record_times(&self, buffer: usize) -> io::Result<()> {
        // Without CAP_NET_ADMIN, the default remains: the socket counts what it drops.
        let _ = setsockopt(self.get(), RcvBufForce, &buffer);
        Ok(setsockopt(self.get(), ReceiveTimestampns, &true)?)
    }

    /// Waits for the next frame.
    ///
    /// # Errors
    ///
    /// The socket fails, for example because its device went down.
    pub async fn receive_frame(&self, buffer: &mut [u8]) -> io::Result<Received> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(received) = ready.try_io(|socket| receive_frame(socket.get_ref(), buffer)) {
                return received;
            }
        }
    }

    /// The next frame, if it has arrived.
    ///
    /// # Errors
    ///
    /// There is none, or the socket fails.
    pub fn arrived_frame(&self, buffer: &mut [u8]) -> io::Result<Received> {
        receive_frame(self.get(), buffer)
    }

    /// The frames that passed the filter since the last call, and those among them that found no room.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn statistics(&self) -> io::Result<(u32, u32)> {
        let Statistics { packets, drops } = getsockopt(self.get(), PacketStatistics)?;
        Ok((packets, drops))
    }
}

fn receive_frame(socket: &Socket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = nix::cmsg_space!(TimeSpec);
    let mut parts = [io::IoSliceMut::new(buffer)];
    // With MSG_TRUNC, the kernel returns the whole length.
    let message = recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_TRUNC)?;
    let time = |message| if let ControlMessageOwned::ScmTimestampns(at) = message { Some(at) } else { None };
    Ok(Received {
        length: message.bytes,
        is_outgoing: message.address.is_some_and(|address| address.pkttype() == libc::PACKET_OUTGOING),
        at: message.cmsgs().ok().and_then(|mut messages| messages.find_map(time)),
    })
}

/// `struct tpacket_stats` of `linux/if_packet.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    packets: u32,
    drops: u32,
}

sockopt_impl!(
    /// `PACKET_STATISTICS`: reading sets both counts to zero.
    PacketStatistics,
    GetOnly,
    libc::SOL_PACKET,
    libc::PACKET_STATISTICS,
    Statistics
);

/// Whether the error code comes from an ICMP error (ip(7), `icmp_err_convert` in the kernel).
fn is_unreachable(error: &io::Error) -> bool {
    const OF_ICMP: [i32; 9] = [
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::ENOPROTOOPT,
        libc::ECONNREFUSED,
        libc::EMSGSIZE,
        libc::EOPNOTSUPP,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EPROTO,
    ];
    error.raw_os_error().is_some_and(|errno| OF_ICMP.contains(&errno))
}

sockopt_impl!(
    /// `PACKET_IGNORE_OUTGOING` (Linux 4.20).
    IgnoreOutgoing,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_IGNORE_OUTGOING,
    bool
);

sockopt_impl!(
    /// `IP_MTU_DISCOVER` (ip(7)).
    MtuDiscover,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int
);

/// Linux's `ICMP_FILTER` at level `SOL_RAW`: a set bit blocks the ICMP type of that number (`linux/icmp.h`).
const ICMP_FILTER: libc::c_int = 1;
const SOL_RAW: libc::c_int = 255;
/// RFC 792.
const ICMP_ECHO_REPLY: u32 = 0;

sockopt_impl!(
    /// The ICMP types that a raw socket does not receive.
    IcmpFilter,
    SetOnly,
    SOL_RAW,
    ICMP_FILTER,
    u32
);

/// The socket address for a device's packets of one protocol.
#[expect(unsafe_code, reason = "no crate in use builds a sockaddr_ll without")]
fn packet_address(device: u32, protocol: libc::c_int) -> io::Result<SockAddr> {
    // SAFETY: the storage is zeroed and larger than sockaddr_ll; the family and the length are set to those of a sockaddr_ll.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = libc::AF_PACKET as u16;
            (*address).sll_protocol = (protocol as u16).to_be();
            (*address).sll_ifindex = device.cast_signed();
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    Ok(address)
}
