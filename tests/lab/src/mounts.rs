//! The lab's own mounts, in a mount namespace of the calling thread. The host's file system remains unchanged.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

/// The mount point of the lab's BPF file system.
pub const BPF_FS: &str = "/sys/fs/bpf";
/// The directory of Cilium's pins.
pub const PINS: &str = "/sys/fs/bpf/tc/globals";
/// The lab's files, which disappear with the lab.
pub const FILES: &str = "/mnt";
/// Replaces `/var/run/cilium`.
pub const CILIUM_RUN: &str = "/mnt/cilium";
/// The directory of the agent's state.
pub const STATE: &str = "/mnt/state";
/// Replaces the mounted ConfigMap.
pub const CONFIG: &str = "/mnt/config";

/// Keeps the mounts. Only the thread that created them, and threads and processes that it starts later, see them.
#[derive(Debug)]
pub(crate) struct Mounts(());

impl Mounts {
    pub(crate) fn new() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).context("failed to make a mount namespace (the lab needs root)")?;
        // Otherwise a shared mount of the host would propagate the lab's mounts back.
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
        // The thread may start another lab. If this fails, the mounts end with the thread.
        for target in [FILES, BPF_FS] {
            let _ = umount2(Path::new(target), MntFlags::MNT_DETACH);
        }
    }
}

fn mount_fs(kind: &str, target: &str) -> Result<()> {
    mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("failed to mount {kind} on {target}"))
}
