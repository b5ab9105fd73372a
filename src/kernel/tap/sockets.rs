//! The tap's sockets: one on each underlay device, whose filter passes ARP answers, and one on Cilium's tunnel device.

use std::{collections::BTreeSet, io, time::Instant};

use aya::programs::ProgramError;
use tokio::sync::mpsc;
use vtep_agent_ebpf::SNAP_LEN;
use vtep_core::{
    config::spec::Tunnel,
    tunnel::frames::{Arp, TunnelArpReply, arp_reply, tunnel_arp_reply},
};

use super::{Tap, TapError};
use crate::kernel::socket::EventSocket;

/// An ARP answer from the tap, with the time of its arrival.
pub type Answer = (Instant, TunnelArpReply);

/// An ARP reply that Cilium sent, with the time of its observation.
pub type OwnReply = (Instant, Arp);

impl Tap {
    /// Listens on exactly these devices. A device that fails is reported in the result and skipped; the others work.
    pub fn listen_on(&mut self, devices: &BTreeSet<u32>, answers: &mpsc::Sender<Answer>) -> Vec<TapError> {
        self.listeners.retain(|device, listener| {
            let keep = devices.contains(device) && !listener.is_finished();
            if !keep {
                listener.abort();
            }
            keep
        });
        let mut errors = Vec::new();
        for &device in devices {
            if self.listeners.contains_key(&device) {
                continue;
            }
            match self.open(device) {
                Ok(socket) => {
                    let listener = tokio::spawn(listen(socket, self.tunnel, answers.clone()));
                    self.listeners.insert(device, listener);
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// Watches Cilium's ARP replies on this tunnel device; with `None`, stops watching.
    ///
    /// # Errors
    ///
    /// No socket can be opened on the device.
    pub fn watch_replies(&mut self, device: Option<u32>, replies: &mpsc::Sender<OwnReply>) -> Result<(), TapError> {
        let is_current =
            self.replies.as_ref().is_some_and(|(on, listener)| Some(*on) == device && !listener.is_finished());
        if is_current {
            return Ok(());
        }
        if let Some((_, listener)) = self.replies.take() {
            listener.abort();
        }
        let Some(device) = device else { return Ok(()) };
        let program = Self::program(&mut self.ebpf, "arp_replies")?;
        let socket = EventSocket::frames(device, |socket| program.attach(socket).map_err(OpenError::Program));
        let socket = socket.map_err(|error| error.on(device))?;
        self.replies = Some((device, tokio::spawn(listen_to_replies(socket, replies.clone()))));
        Ok(())
    }

    fn open(&mut self, device: u32) -> Result<EventSocket, TapError> {
        let program = Self::program(&mut self.ebpf, "tap")?;
        EventSocket::packets(device, |socket| program.attach(socket).map_err(OpenError::Program))
            .map_err(|error| error.on(device))
    }
}

enum OpenError {
    Socket(io::Error),
    Program(ProgramError),
}

impl OpenError {
    fn on(self, device: u32) -> TapError {
        match self {
            Self::Socket(source) => TapError::Socket { device, source },
            Self::Program(source) => TapError::Program(source),
        }
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

/// Receives ARP answers until the socket fails. After a device went down, `listen_on` opens a new socket once a route uses it again.
async fn listen(socket: EventSocket, tunnel: Tunnel, answers: mpsc::Sender<Answer>) {
    let mut buffer = [0; SNAP_LEN as usize];
    while let Ok(length) = socket.receive(&mut buffer).await {
        let at = Instant::now();
        if let Some(reply) = buffer.get(..length).and_then(|packet| tunnel_arp_reply(packet, tunnel)) {
            // If the channel is full, the prober is behind; the dropped answer costs only one probe.
            let _ = answers.try_send((at, reply));
        }
    }
}

async fn listen_to_replies(socket: EventSocket, replies: mpsc::Sender<OwnReply>) {
    let mut buffer = [0; SNAP_LEN as usize];
    while let Ok(length) = socket.receive(&mut buffer).await {
        if let Some(arp) = buffer.get(..length).and_then(arp_reply) {
            // If the channel is full, a later reply carries the same information.
            let _ = replies.try_send((Instant::now(), arp));
        }
    }
}
