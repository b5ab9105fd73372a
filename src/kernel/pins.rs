//! Notices of changes to Cilium's pins, so that a new map is filled at once and not at the next tick.
//!
//! Only a hint: where the kernel sends none, or the directory is not there yet, the tick finds the same.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::mpsc, time};

use super::maps::PINS;

/// How often it is looked whether the directory is still the one that is watched.
const RENEW: Duration = Duration::from_secs(1);

/// Sends `()` when a pin is made, replaced or removed, until the receiver is gone.
#[must_use]
pub fn watch(bpffs: &Path) -> mpsc::Receiver<()> {
    // Full means that a notice is waiting already.
    let (notices, receiver) = mpsc::channel(1);
    tokio::spawn(keep_watching(bpffs.join(PINS), notices));
    receiver
}

/// A bpffs that is mounted anew brings another directory, which needs another watch.
async fn keep_watching(dir: PathBuf, notices: mpsc::Sender<()>) {
    let mut watching: Option<((u64, u64), RecommendedWatcher)> = None;
    while !notices.is_closed() {
        let found = identity(&dir);
        if watching.as_ref().map(|(identity, _)| *identity) != found {
            watching = found.zip(start(&dir, &notices));
            // Whatever was pinned before the watch began.
            let _ = notices.try_send(());
        }
        time::sleep(RENEW).await;
    }
}

fn start(dir: &Path, notices: &mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let notices = notices.clone();
    let on_event = move |event: notify::Result<notify::Event>| {
        // Our own look-ups open the directory, too.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = notices.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(on_event).ok()?;
    watcher.watch(dir, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

fn identity(dir: &Path) -> Option<(u64, u64)> {
    fs::metadata(dir).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}
