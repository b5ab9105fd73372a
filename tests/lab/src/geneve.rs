//! A Geneve device in user space (RFC 8926, section 3), for kernels without Geneve: a thread between a UDP socket and the far end of a
//! veth device.
//!
//! It has one VNI and accepts no other; inside the host, frames carry no trace of it. The inner destination address selects the endpoint
//! of a frame.

use std::{
    io::{self, Read},
    net::{Ipv4Addr, UdpSocket},
    os::{fd::AsFd, unix::net::UnixStream},
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use socket2::Socket;

use crate::{host::Host, packet};

const HEADER: usize = 8;
const PROTOCOL_ETHERNET: [u8; 2] = [0x65, 0x58];
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
/// More than the MTU of any device in the lab.
const FRAME_MAX: usize = 2048;

/// The parameters of a device.
#[derive(Debug)]
pub(crate) struct Parameters {
    pub(crate) vni: u32,
    /// Source of the outer packets.
    pub(crate) local: Ipv4Addr,
    pub(crate) port: u16,
    /// The endpoint for each inner address.
    pub(crate) endpoints: Vec<(Ipv4Net, Ipv4Addr)>,
    /// The options in every header that it sends: whole words.
    pub(crate) options: &'static [u8],
}

/// Carries frames until it is dropped.
#[derive(Debug)]
pub(crate) struct UserDevice {
    /// Closing its end wakes the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl UserDevice {
    /// Creates the device on a host, and leaves it down.
    pub(crate) fn new(host: &Host, name: &str, parameters: Parameters) -> Result<Self> {
        // The other end is in a namespace of its own, so that no network stack answers in place of the far side.
        let wire = Host::new("wire")?;
        host.ip(&format!("link add {name} type veth peer name wire netns {}", wire.path().display()))?;
        wire.ip("link set wire up")?;
        let index = wire.link("wire")?.index;
        let frames = wire.run(|| packet::open(index, libc::ETH_P_ALL.try_into()?))?;
        frames.set_nonblocking(true)?;
        let address = (parameters.local, parameters.port);
        let packets = host.run(|| UdpSocket::bind(address).context("failed to open a Geneve port"))?;
        packets.set_nonblocking(true)?;
        let (stop, stopped) = UnixStream::pair()?;
        // A lost frame is like a loss on any network, and only the drop waits for the thread.
        let thread = thread::spawn(move || {
            let _ = Carrier { parameters, frames, packets }.run(&stopped);
            drop(wire);
        });
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for UserDevice {
    fn drop(&mut self) {
        self.stop = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Carrier {
    parameters: Parameters,
    frames: Socket,
    packets: UdpSocket,
}

impl Carrier {
    /// Runs until the other end of `stop` is closed.
    fn run(&self, stop: &UnixStream) -> io::Result<()> {
        let mut buffer = [0; FRAME_MAX];
        loop {
            let mut waiting =
                [stop.as_fd(), self.frames.as_fd(), self.packets.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            poll(&mut waiting, PollTimeout::NONE)?;
            let [is_over, from_host, from_far_side] = waiting.map(|fd| fd.any().unwrap_or(true));
            if is_over {
                return Ok(());
            }
            // An error means a lost frame, or that the device went down; it may come up again.
            if from_host && let Ok(length) = (&self.frames).read(&mut buffer) {
                self.send(&buffer[..length]);
            }
            if from_far_side && let Ok(length) = self.packets.recv(&mut buffer) {
                self.receive(&buffer[..length]);
            }
        }
    }

    fn send(&self, frame: &[u8]) {
        let Parameters { vni, port, endpoints, options, .. } = &self.parameters;
        let Some(to) = destination(frame) else { return };
        let Some((_, endpoint)) = endpoints.iter().find(|(network, _)| network.contains(&to)) else { return };
        let _ = self.packets.send_to(&[&header(*vni, options), *options, frame].concat(), (*endpoint, *port));
    }

    fn receive(&self, packet: &[u8]) {
        if let Some(frame) = open(packet, self.parameters.vni) {
            let _ = self.frames.send(frame);
        }
    }
}

/// Version 0, no flags: receivers may ignore the options.
fn header(vni: u32, options: &[u8]) -> [u8; HEADER] {
    let [_, vni @ ..] = vni.to_be_bytes();
    let [high, low] = PROTOCOL_ETHERNET;
    [(options.len() / 4) as u8, 0, high, low, vni[0], vni[1], vni[2], 0]
}

/// The Ethernet frame in a packet with this VNI.
fn open(packet: &[u8], vni: u32) -> Option<&[u8]> {
    let (start, rest) = packet.split_first_chunk::<HEADER>()?;
    let [_, wanted @ ..] = vni.to_be_bytes();
    let options = usize::from(start[0] & 0x3f) * 4;
    let is_ours = start[0] >> 6 == 0 && start[2..4] == PROTOCOL_ETHERNET && start[4..7] == wanted;
    is_ours.then(|| rest.get(options..)).flatten()
}

/// The destination address of an IPv4 packet or an ARP packet.
fn destination(frame: &[u8]) -> Option<Ipv4Addr> {
    let at = match frame.get(12..14)?.try_into().ok()? {
        ETHERTYPE_IPV4 => 14 + 16,
        ETHERTYPE_ARP => 14 + 24,
        _ => return None,
    };
    Some((*frame.get(at..)?.first_chunk::<4>()?).into())
}
