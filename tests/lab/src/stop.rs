//! Ctrl-C and SIGTERM as an event.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

/// A pending request to stop.
pub(crate) struct Stop(Receiver<()>);

impl Stop {
    /// Call this before the program starts a thread.
    pub(crate) fn listen() -> Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block().context("failed to block signals")?;
        let (sender, receiver) = channel();
        thread::spawn(move || while signals.wait().is_ok() && sender.send(()).is_ok() {});
        Ok(Self(receiver))
    }

    pub(crate) fn wait(&self) {
        // The sender lives as long as the program.
        let _ = self.0.recv();
    }

    /// Waits for the request; whether it came within this time.
    pub(crate) fn wait_for(&self, time: Duration) -> bool {
        match self.0.recv_timeout(time) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => false,
        }
    }
}
