//! The sockets of the probes, and the probes' source addresses.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    time::Instant,
};

use tracing::warn;
use vtep_core::{
    config::spec::Tunnel,
    node::devices::CiliumDevices,
    tunnel::{frames::Echo, tcp_probe::Answer, window::ProbeWindow},
};

use crate::kernel::{
    arp::{ArpSender, ArpSocket},
    icmp::IcmpSocket,
    socket::Path,
    tcp::TcpSocket,
};

pub(super) struct Sockets {
    arp: ArpSocket,
    /// None while Cilium's tunnel device or router address is missing.
    arp_sender: Option<ArpSender>,
    /// The source address and device of echoes through the tunnel.
    path: Option<Path>,
    through_tunnel: Option<IcmpSocket>,
    beside_tunnel: Option<IcmpSocket>,
    /// TCP probes are switched on.
    has_tcp: bool,
    tcp: Option<TcpSocket>,
    /// The errors, as last logged.
    errors: Vec<String>,
}

impl Sockets {
    /// # Errors
    ///
    /// The socket for ARP cannot be opened.
    pub(super) async fn new(has_tcp: bool) -> io::Result<Self> {
        Ok(Self {
            arp: ArpSocket::open().await?,
            arp_sender: None,
            path: None,
            through_tunnel: None,
            beside_tunnel: None,
            has_tcp,
            tcp: None,
            errors: Vec::new(),
        })
    }

    /// Takes the addresses from Cilium's devices as they are now. [`Self::open`] must follow.
    pub(super) fn fit(&mut self, cilium: &CiliumDevices) {
        self.arp_sender = match (&cilium.tunnel, cilium.router) {
            (Some(tunnel), Some(address)) => Some(ArpSender { mac: tunnel.mac, address }),
            (None, _) | (_, None) => None,
        };
        self.path = match (&cilium.host, cilium.router) {
            (Some(host), Some(source)) => Some(Path { source, device: host.index }),
            (None, _) | (_, None) => None,
        };
    }

    /// Opens each ICMP socket that is not open and could be. Returns true if it tried to open the one through the tunnel.
    pub(super) fn open(&mut self) -> bool {
        let mut errors = Vec::new();
        let moved = self.through_tunnel.as_ref().map(IcmpSocket::path) != self.path.map(Some);
        if moved {
            let opened = self.path.map(|path| IcmpSocket::open(Some(path))).transpose();
            self.through_tunnel = opened.unwrap_or_else(|error| {
                errors.push(format!("cannot probe through the tunnel: {error}"));
                None
            });
        }
        let path = self.path.filter(|_| self.has_tcp);
        if self.tcp.as_ref().map(TcpSocket::path) != path {
            let opened = path.map(TcpSocket::open).transpose();
            self.tcp = opened.unwrap_or_else(|error| {
                errors.push(format!("cannot send SYNs through the tunnel: {error}"));
                None
            });
        }
        if self.beside_tunnel.is_none() {
            let opened = IcmpSocket::open(None);
            self.beside_tunnel =
                opened.map_err(|error| errors.push(format!("cannot probe the underlay: {error}"))).ok();
        }
        if errors != self.errors {
            errors.iter().for_each(|error| warn!(error, "no probe socket"));
            self.errors = errors;
        }
        moved
    }

    /// Closes the socket after an error; [`Self::open`] opens another.
    pub(super) fn close_through_tunnel(&mut self, error: &io::Error) {
        warn!(%error, "the tunnel's ICMP socket failed; another is opened within a second");
        self.through_tunnel = None;
    }

    /// Closes the socket after an error; [`Self::open`] opens another.
    pub(super) fn close_tcp(&mut self, error: &io::Error) {
        warn!(%error, "the tunnel's TCP socket failed; another is opened within a second");
        self.tcp = None;
    }

    pub(super) fn syn_through_tunnel(&self, id: u16, sequence: u16, to: SocketAddrV4) -> io::Result<()> {
        self.tcp.as_ref().map_or_else(no_socket, |socket| socket.send(id, sequence, to))
    }

    /// The next answer to a SYN; waits for ever while there is no socket.
    pub(super) async fn receive_tcp(&self) -> io::Result<Answer> {
        match &self.tcp {
            Some(socket) => socket.receive().await,
            None => std::future::pending().await,
        }
    }

    /// Closes the socket after an error; [`Self::open`] opens another.
    pub(super) fn close_beside_tunnel(&mut self, error: &io::Error) {
        warn!(%error, "the underlay's ICMP socket failed; another is opened within a second");
        self.beside_tunnel = None;
    }

    /// The address to which ARP answers are sent.
    pub(super) fn arp_address(&self) -> Option<Ipv4Addr> {
        self.arp_sender.map(|sender| sender.address)
    }

    /// The socket for echoes through the tunnel, if it is open.
    pub(super) fn through_tunnel(&self) -> Option<&IcmpSocket> {
        self.through_tunnel.as_ref()
    }

    pub(super) fn ask_arp(&self, tunnel: Tunnel, endpoint: Ipv4Addr, target: Ipv4Addr) -> io::Result<()> {
        match self.arp_sender {
            Some(sender) => self.arp.send(tunnel, sender, endpoint, target),
            None => Err(io::Error::other("Cilium's tunnel device or router address is missing")),
        }
    }

    pub(super) fn echo_through_tunnel(&self, echo: Echo, size: u16, target: Ipv4Addr) -> io::Result<()> {
        self.through_tunnel.as_ref().map_or_else(no_socket, |socket| socket.send(echo, size, target))
    }

    pub(super) fn echo_beside_tunnel(&self, echo: Echo, size: u16, endpoint: Ipv4Addr) -> io::Result<()> {
        self.beside_tunnel.as_ref().map_or_else(no_socket, |socket| socket.send(echo, size, endpoint))
    }

    /// The next echo through the tunnel; waits for ever while there is no socket.
    pub(super) async fn receive_through_tunnel(&self) -> io::Result<(Ipv4Addr, Echo)> {
        receive(self.through_tunnel.as_ref()).await
    }

    /// The next echo beside the tunnel; waits for ever while there is no socket.
    pub(super) async fn receive_beside_tunnel(&self) -> io::Result<(Ipv4Addr, Echo)> {
        receive(self.beside_tunnel.as_ref()).await
    }
}

fn no_socket() -> io::Result<()> {
    Err(io::Error::other("no socket: see the log"))
}

async fn receive(socket: Option<&IcmpSocket>) -> io::Result<(Ipv4Addr, Echo)> {
    match socket {
        Some(socket) => socket.receive().await,
        None => std::future::pending().await,
    }
}

/// Records a probe in its window: as sent, or as lost if it could not be sent.
pub(super) fn record(window: &mut ProbeWindow, sequence: u16, now: Instant, sent: io::Result<()>) {
    match sent {
        Ok(()) => window.on_sent(sequence, now),
        Err(error) => window.on_send_error(&error, now),
    }
}
