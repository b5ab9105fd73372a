//! The lab's own mounts, in a mount namespace of the calling thread: the host's file system gets nothing.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

/// Where the lab's BPF file system is.
pub const BPF_FS: &str = "/sys/fs/bpf";
/// Where Cilium keeps its pins.
pub const PINS: &str = "/sys/fs/bpf/tc/globals";
/// The lab's files: gone with the lab.
pub const FILES: &str = "/mnt";
/// Plays `/var/run/cilium`.
pub const CILIUM_RUN: &str = "/mnt/cilium";
/// Where the agent keeps its state.
pub const STATE: &str = "/mnt/state";
/// Plays the mounted ConfigMap.
pub const CONFIG: &str = "/mnt/config";

/// Keeps the mounts. They are only there for the thread that made them, and for threads and processes that it starts later.
#[derive(Debug)]
pub(crate) struct Mounts(());

impl Mounts {
    pub(crate) fn new() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).context("failed to make a mount namespace (the lab needs root)")?;
        // Else a shared mount of the host would carry the lab's mounts back.
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .context("failed to make the lab's mounts private")?;
        mount_fs("bpf", BPF_FS)?;
        mount_fs("tmpfs", FILES)?;
        let mounts = Self(());
        for dir in [PINS, CILIUM_RUN, CONFIG] {
            fs::create_dir_all(dir).with_context(|| format!("failed to make {dir}"))?;
        }
        Ok(mounts)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        // The thread may start another lab. Where this fails, the mounts end with the thread.
        for target in [FILES, BPF_FS] {
            let _ = umount2(Path::new(target), MntFlags::MNT_DETACH);
        }
    }
}

fn mount_fs(kind: &str, target: &str) -> Result<()> {
    mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("failed to mount {kind} on {target}"))
}
