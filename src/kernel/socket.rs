//! Raw and packet sockets on the event loop: the few things that need `unsafe`, or that no crate offers.

use std::{io, os::fd::AsRawFd};

use nix::{
    libc, setsockopt_impl, sockopt_impl,
    sys::socket::{MsgFlags, recv, setsockopt, sockopt::Ipv4RecvErr},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;

/// A socket that the event loop watches.
pub struct EventSocket(AsyncFd<Socket>);

impl EventSocket {
    /// A raw ICMP socket that gets echo replies and nothing else.
    ///
    /// # Errors
    ///
    /// Without `CAP_NET_RAW`.
    pub fn icmp() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking().cloexec(), Some(Protocol::ICMPV4))?;
        setsockopt(&socket, IcmpFilter, &!(1 << ICMP_ECHO_REPLY)).map_err(io::Error::from)?;
        // Without it, the kernel keeps to itself that a program or a queue dropped what was sent (raw(7)).
        setsockopt(&socket, Ipv4RecvErr, &true).map_err(io::Error::from)?;
        Self::watch(socket)
    }

    /// A socket for copies of the IPv4 packets that come in on a device, from their IPv4 header on. `prepare` may put a filter
    /// on it before it gets the first.
    ///
    /// # Errors
    ///
    /// Without `CAP_NET_RAW`, when the device is gone, and what `prepare` fails with.
    pub fn packets<E: From<io::Error>>(device: u32, prepare: impl FnOnce(&Socket) -> Result<(), E>) -> Result<Self, E> {
        // Without a protocol it gets nothing; the address brings it.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), None)?;
        // Keeps it off the transmit path altogether.
        setsockopt(&socket, IgnoreOutgoing, &true).map_err(io::Error::from)?;
        prepare(&socket)?;
        socket.bind(&packet_address(device, libc::ETH_P_IP)?)?;
        Ok(Self::watch(socket)?)
    }

    /// A socket for copies of all frames that pass a device either way, from their Ethernet header on: only who listens to everything
    /// is shown what goes out. `prepare` has to put a filter on it that leaves little.
    ///
    /// # Errors
    ///
    /// Without `CAP_NET_RAW`, when the device is gone, and what `prepare` fails with.
    pub fn frames<E: From<io::Error>>(device: u32, prepare: impl FnOnce(&Socket) -> Result<(), E>) -> Result<Self, E> {
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        prepare(&socket)?;
        socket.bind(&packet_address(device, libc::ETH_P_ALL)?)?;
        Ok(Self::watch(socket)?)
    }

    #[expect(unsafe_code, reason = "the event loop wants a promise about the descriptor")]
    fn watch(socket: Socket) -> io::Result<Self> {
        // SAFETY: a Socket owns its descriptor, which stays open and the same until the AsyncFd that owns it is dropped.
        Ok(Self(unsafe { AsyncFd::register(socket) }?))
    }

    /// Sets DF on all that leaves, and leaves what is known of the path's MTU out of account.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn never_fragment(&self) -> io::Result<()> {
        Ok(setsockopt(self.get(), MtuDiscover, &libc::IP_PMTUDISC_PROBE)?)
    }

    #[must_use]
    pub fn get(&self) -> &Socket {
        self.0.get_ref()
    }

    /// Forgets what routers said of earlier packets, which the next call would fail with, whomever it is about.
    pub fn forget_errors(&self) {
        let _ = self.get().take_error();
        let mut nothing = [0; 1];
        // As many as a moment can bring; what is left is no error of a call, but memory, and that has a bound.
        for _ in 0..64 {
            if recv(self.get().as_raw_fd(), &mut nothing, MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT).is_err() {
                return;
            }
        }
    }

    /// Waits for the next packet and gives its length, which `buffer` may cut.
    ///
    /// # Errors
    ///
    /// When the socket fails, e.g. because its device went down.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let received = ready.try_io(|socket| Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::empty())?));
            match received {
                // A router's word on an earlier packet: its silence says as much.
                Ok(Err(error)) if is_unreachable(&error) => self.forget_errors(),
                Ok(received) => return received,
                Err(_would_block) => {}
            }
        }
    }
}

/// What ICMP errors turn into (ip(7), `icmp_err_convert` of the kernel).
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

/// Linux's `ICMP_FILTER` at level `SOL_RAW`: one bit for each ICMP type that is not wanted (`linux/icmp.h`).
const ICMP_FILTER: libc::c_int = 1;
const SOL_RAW: libc::c_int = 255;
/// RFC 792.
const ICMP_ECHO_REPLY: u32 = 0;

sockopt_impl!(
    /// The ICMP types that a raw socket does not get.
    IcmpFilter,
    SetOnly,
    SOL_RAW,
    ICMP_FILTER,
    u32
);

/// The address of all packets of this protocol of a device.
#[expect(unsafe_code, reason = "no crate in use builds a sockaddr_ll without")]
fn packet_address(device: u32, protocol: libc::c_int) -> io::Result<SockAddr> {
    // SAFETY: the storage is zeroed and larger than sockaddr_ll, the family says that it holds one, and the length is its size.
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
