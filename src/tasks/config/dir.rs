//! The configuration from a directory with one file per key: a mounted ConfigMap.
//!
//! The kubelet writes a new directory and swaps the `..data` symlink, so a notice about the directory itself covers every key.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::mpsc, time};
use vtep_core::config::{
    document::Document,
    surroundings::Surroundings,
    view::{Observed, Sight},
};

use super::key_files::read_dir;

/// A person's editor writes in several steps: wait until they are over.
const SETTLE: Duration = Duration::from_millis(20);
/// How often the directory is looked at where the kernel sends no notices.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is looked at anyway.
const RESYNC: Duration = Duration::from_secs(10);

/// Sends what the directory holds, now and after each change, until the receiver is gone.
pub async fn follow(dir: PathBuf, surroundings: Surroundings, updates: mpsc::Sender<Observed>) {
    let mut last = None;
    let mut watch = None;
    loop {
        // Watched before it is read, so that a change in between is not lost.
        if watch.as_ref().is_none_or(|watch: &Watch| !watch.is_of(&dir)) {
            watch = Watch::start(&dir).ok();
        }
        let mut observed = read(&dir, &surroundings);
        if matches!(observed.sight, Sight::Missing(_)) {
            // The kubelet may have been in the middle of a swap.
            time::sleep(SETTLE).await;
            observed = read(&dir, &surroundings);
        }
        if matches!(observed.sight, Sight::Missing(_)) {
            // A directory that goes takes its watch with it.
            watch = None;
        }
        if last.as_ref() != Some(&observed) {
            if updates.send(observed.clone()).await.is_err() {
                return;
            }
            last = Some(observed);
        }
        match &mut watch {
            Some(watch) => {
                // Either way the directory is read again.
                let _ = time::timeout(RESYNC, watch.changed()).await;
            }
            None => time::sleep(RETRY).await,
        }
    }
}

/// What the directory holds.
#[must_use]
pub fn read(dir: &Path, surroundings: &Surroundings) -> Observed {
    let missing = |why: &dyn std::fmt::Display| {
        Sight::Missing(format!(
            "cannot read the directory {} ({why}): mount the ConfigMap cilium-config there",
            dir.display()
        ))
    };
    match read_dir(dir) {
        // Cilium's has more than a hundred: what has none is not mounted yet.
        Ok(keys) if keys.is_empty() => missing(&"it has no file"),
        Ok(keys) => Sight::Document(Document::of_keys(keys, surroundings.clone())),
        Err(error) => missing(&error),
    }
    .into()
}

struct Watch {
    /// Device and inode of the directory: another directory of the same name needs another watch.
    identity: Option<(u64, u64)>,
    notices: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    fn start(dir: &Path) -> notify::Result<Self> {
        let (sender, notices) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading sends notices, too: taking those for changes, it would never end.
            if event.is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            // Full means that a notice is waiting already.
            let _ = sender.try_send(());
        })?;
        watcher.watch(dir, RecursiveMode::NonRecursive)?;
        Ok(Self { identity: identity(dir), notices, _watcher: watcher })
    }

    fn is_of(&self, dir: &Path) -> bool {
        self.identity.is_some() && self.identity == identity(dir)
    }

    /// Waits for a change, and for the end of those that follow at once.
    async fn changed(&mut self) {
        if self.notices.recv().await.is_none() {
            return std::future::pending().await;
        }
        time::sleep(SETTLE).await;
        while self.notices.try_recv().is_ok() {}
    }
}

fn identity(dir: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(dir).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
