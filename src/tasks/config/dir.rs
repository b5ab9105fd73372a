//! The configuration from a directory with one file per key: a mounted ConfigMap.
//!
//! The kubelet writes a new directory and swaps the `..data` symlink, so a notice about the directory itself covers every key.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::watch_dir::DirWatch;
use tokio::{sync::mpsc, time};
use vtep_core::config::{
    document::Document,
    surroundings::Surroundings,
    view::{Observed, SourceState},
};

use super::key_files::read_dir;

/// An editor writes a file in several steps: the agent waits for the last one.
const SETTLE: Duration = Duration::from_millis(20);
/// The interval between reads while the directory cannot be watched.
const RETRY: Duration = Duration::from_secs(1);
/// The interval between reads while the directory is watched, in case a notice is lost.
const RESYNC: Duration = Duration::from_secs(10);

/// Sends the content of the directory, now and after each change, until the receiver is gone.
pub async fn follow(dir: PathBuf, surroundings: Surroundings, updates: mpsc::Sender<Observed>) {
    let mut last = None;
    let (sender, mut notices) = mpsc::channel(1);
    let mut watch = DirWatch::new(dir.clone(), sender);
    loop {
        // The watch begins before the read, so that no change in between is lost.
        watch.renew();
        let mut observed = read(&dir, &surroundings);
        if matches!(observed.state, SourceState::Missing(_)) {
            // The kubelet may have been in the middle of a swap.
            time::sleep(SETTLE).await;
            observed = read(&dir, &surroundings);
        }
        if matches!(observed.state, SourceState::Missing(_)) {
            // The watch ended with the directory.
            watch.stop();
        }
        if last.as_ref() != Some(&observed) {
            if updates.send(observed.clone()).await.is_err() {
                return;
            }
            last = Some(observed);
        }
        if watch.is_active() {
            // A timeout is no error: the loop reads the directory in both cases.
            let _ = time::timeout(RESYNC, changed(&mut notices)).await;
        } else {
            time::sleep(RETRY).await;
        }
    }
}

/// Reads the directory as a document.
#[must_use]
pub fn read(dir: &Path, surroundings: &Surroundings) -> Observed {
    let missing = |why: &dyn std::fmt::Display| {
        SourceState::Missing(format!(
            "cannot read the directory {} ({why}): mount the ConfigMap cilium-config there",
            dir.display()
        ))
    };
    match read_dir(dir) {
        // Cilium's ConfigMap has more than a hundred keys. An empty directory is not mounted yet.
        Ok(keys) if keys.is_empty() => missing(&"it has no file"),
        Ok(keys) => SourceState::Document(Document::of_keys(keys, surroundings.clone())),
        Err(error) => missing(&error),
    }
    .into()
}

/// Waits for a change, and then for the changes that follow immediately.
async fn changed(notices: &mut mpsc::Receiver<()>) {
    // None means that the sender is gone, but the caller holds it in its watch.
    let _ = notices.recv().await;
    time::sleep(SETTLE).await;
    while notices.try_recv().is_ok() {}
}
