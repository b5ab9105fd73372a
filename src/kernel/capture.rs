//! Captures frames on packet sockets. The kernel filters; this module reads, and ends at the limits.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use futures_util::future::select_all;
use jiff::Timestamp;
use nix::{libc, sys::time::TimeSpec};
use socket2::SockFilter;
use tokio::time;
use vtep_core::{
    capture::{
        Capture, Captured, Direction, Interface, Known,
        filter::{self, Instruction, Tunneled},
        packet::Packet,
    },
    node::{devices::Device, facts::Facts},
};

use super::socket::{EventSocket, Received};

/// Some thousand frames: what arrives while the reader waits for the processor.
const BUFFER: usize = 4 << 20;

/// Where a capture ends, whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub time: Duration,
    pub frames: usize,
    /// Bytes of each frame.
    pub snap: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("no VTEP is in effect, so there is nothing to capture")]
    NoVtep,
    #[error("no endpoint has a route, and Cilium's tunnel device is not there")]
    NoDevice,
    #[error("{devices}: no Ethernet header, which a capture needs, and no other device is there to capture on")]
    NotEthernet { devices: String },
    #[error("failed to open a packet socket on {device} (it needs CAP_NET_RAW)")]
    Open { device: String, source: io::Error },
    #[error("failed to read from {device}")]
    Read { device: String, source: io::Error },
}

/// Captures on the underlay devices of the endpoints, and the ARP of Cilium's tunnel device. It leaves out devices without an Ethernet header.
///
/// Traffic through the tunnels takes at most half of the frames: then the kernel leaves it out, so that ARP and ICMP have room and a busy
/// tunnel costs nothing.
///
/// # Errors
///
/// There is nothing to capture, or a socket fails.
pub async fn record(known: &Known, facts: &Facts, limits: Limits) -> Result<Capture, CaptureError> {
    if known.endpoints.is_empty() {
        return Err(CaptureError::NoVtep);
    }
    let Sources { opened, left_out } = open(known, facts)?;
    let mut recording =
        Recording { sources: opened, left_out, known, limits, frames: Vec::new(), bulk: 0, without_bulk_since: None };
    recording.run().await?;
    Ok(recording.end())
}

struct Source {
    device: String,
    socket: EventSocket,
    buffer: Vec<u8>,
    is_underlay: bool,
}

struct Recording<'k> {
    sources: Vec<Source>,
    left_out: Vec<String>,
    known: &'k Known,
    limits: Limits,
    frames: Vec<Captured>,
    /// Frames of other traffic than ARP and ICMP.
    bulk: usize,
    without_bulk_since: Option<Timestamp>,
}

struct Sources {
    opened: Vec<Source>,
    /// The names of devices without an Ethernet header.
    left_out: Vec<String>,
}

fn open(known: &Known, facts: &Facts) -> Result<Sources, CaptureError> {
    let underlay: BTreeMap<u32, &Device> =
        facts.underlay.values().map(|path| (path.device.index, &path.device)).collect();
    let program = filter::underlay(known, Tunneled::All);
    let underlay = underlay.into_values().map(|device| (device, &program[..], true));
    let program = filter::tunnel_device();
    let tunnel = facts.cilium.tunnel.iter().map(|device| (device, &program[..], false));
    let (usable, others): (Vec<_>, Vec<_>) = underlay.chain(tunnel).partition(|(device, ..)| !device.mac.is_zero());
    let left_out: Vec<_> = others.into_iter().map(|(device, ..)| device.name.clone()).collect();
    let opened = usable.into_iter().map(|(device, program, is_underlay)| Source::open(device, program, is_underlay));
    let opened = opened.collect::<Result<Vec<_>, _>>()?;
    match (opened.is_empty(), left_out.is_empty()) {
        (true, true) => Err(CaptureError::NoDevice),
        (true, false) => Err(CaptureError::NotEthernet { devices: left_out.join(", ") }),
        (false, _) => Ok(Sources { opened, left_out }),
    }
}

impl Source {
    fn open(device: &Device, program: &[Instruction], is_underlay: bool) -> Result<Self, CaptureError> {
        let name = device.name.clone();
        let fail = |source| CaptureError::Open { device: name.clone(), source };
        let socket = EventSocket::frames(device.index, |socket| socket.attach_filter(&sock_filter(program)));
        let socket = socket.map_err(fail)?;
        socket.record_times(BUFFER).map_err(fail)?;
        Ok(Self { socket, device: name, buffer: Vec::new(), is_underlay })
    }

    async fn receive(&mut self, snap: usize) -> io::Result<Received> {
        self.buffer.resize(snap, 0);
        self.socket.receive_frame(&mut self.buffer).await
    }

    /// The time of the first frame that has arrived and was not read.
    fn unread(&mut self) -> Option<Timestamp> {
        let received = self.socket.arrived_frame(&mut self.buffer).ok()?;
        received.at.and_then(timestamp)
    }
}

fn sock_filter(program: &[Instruction]) -> Vec<SockFilter> {
    let instruction = |of: &Instruction| SockFilter::new(of.code, of.jump_true, of.jump_false, of.k);
    program.iter().map(instruction).collect()
}

impl Recording<'_> {
    async fn run(&mut self) -> Result<(), CaptureError> {
        let end = time::Instant::from_std(Instant::now() + self.limits.time);
        let mut first = 0;
        while self.frames.len() < self.limits.frames {
            let snap = self.limits.snap;
            // The one that was read last comes last, so that a busy device leaves the others their turn.
            let (last, sources) = self.sources.split_at_mut(first);
            let in_turn = sources.iter_mut().chain(last);
            let next = select_all(in_turn.map(|source| Box::pin(source.receive(snap))));
            let Ok((received, turn, _)) = time::timeout_at(end, next).await else { return Ok(()) };
            let interface = (first + turn) % self.sources.len();
            first = (interface + 1) % self.sources.len();
            match received {
                Ok(received) => self.add(interface, received)?,
                // The device went down. It may come up again, and then the socket goes on.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(source) => return Err(CaptureError::Read { device: self.device(interface), source }),
            }
        }
        Ok(())
    }

    fn device(&self, interface: usize) -> String {
        self.sources.get(interface).map(|source| source.device.clone()).unwrap_or_default()
    }

    fn add(&mut self, interface: usize, received: Received) -> Result<(), CaptureError> {
        let Some(source) = self.sources.get(interface) else { return Ok(()) };
        let bytes = source.buffer.get(..received.length).unwrap_or(&source.buffer).to_vec();
        if Packet::decode(&bytes, self.known.tunnel).is_bulk() {
            // Frames from before the change of the filter may still be in the queue.
            if self.without_bulk_since.is_some() {
                return Ok(());
            }
            self.bulk += 1;
        }
        self.frames.push(Captured {
            at: received.at.and_then(timestamp).unwrap_or_else(Timestamp::now),
            interface,
            direction: if received.is_outgoing { Direction::Out } else { Direction::In },
            length: u32::try_from(received.length).unwrap_or(u32::MAX),
            bytes,
        });
        if self.bulk >= self.limits.frames.div_ceil(2) && self.without_bulk_since.is_none() {
            self.leave_bulk_out()?;
        }
        Ok(())
    }

    fn leave_bulk_out(&mut self) -> Result<(), CaptureError> {
        let program = sock_filter(&filter::underlay(self.known, Tunneled::ArpAndIcmp));
        for source in self.sources.iter().filter(|source| source.is_underlay) {
            // The kernel replaces the filter in one step.
            let attached = source.socket.get().attach_filter(&program);
            attached.map_err(|error| CaptureError::Open { device: source.device.clone(), source: error })?;
        }
        self.without_bulk_since = Some(Timestamp::now());
        Ok(())
    }

    fn end(mut self) -> Capture {
        // Each socket has a queue of its own.
        self.frames.sort_by_key(|captured| captured.at);
        // A frame that nobody has read may be an answer: what happened from then on is not known.
        let unread = self.sources.iter_mut().filter_map(Source::unread).min();
        let interface = |source: &Source| {
            let (received, dropped) = source.socket.statistics().unwrap_or_default();
            Interface { name: source.device.clone(), received: received.into(), dropped: dropped.into() }
        };
        Capture {
            interfaces: self.sources.iter().map(interface).collect(),
            frames: self.frames,
            ended: unread.unwrap_or_else(Timestamp::now),
            without_bulk_since: self.without_bulk_since,
            left_out: self.left_out,
        }
    }
}

fn timestamp(at: TimeSpec) -> Option<Timestamp> {
    Timestamp::new(at.tv_sec(), i32::try_from(at.tv_nsec()).ok()?).ok()
}
