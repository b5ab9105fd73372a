//! A network namespace without a name.
//!
//! It exists as long as a process has its descriptor or runs inside it, so a killed lab leaves none behind.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    thread,
};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};

#[derive(Debug)]
pub(crate) struct Namespace(OwnedFd);

impl Namespace {
    pub(crate) fn new() -> Result<Self> {
        // A thread of its own creates it, so that the caller remains in its namespace.
        let made = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("failed to make a network namespace (the lab needs root)")?;
            File::open("/proc/thread-self/ns/net").context("failed to open the new network namespace")
        })?;
        Ok(Self(made.into()))
    }

    /// Moves the calling thread into this namespace. Safe between `fork` and `exec`: one system call, no allocation.
    pub(crate) fn enter(&self) -> io::Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
    }

    /// Runs a closure on a thread inside this namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            self.enter().context("failed to enter a network namespace of the lab")?;
            work()
        })
    }

    /// A path that other processes can open while this process lives.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
