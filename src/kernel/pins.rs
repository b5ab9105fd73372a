//! Notices of changes to Cilium's pins, so that a new map is filled at once and not at the next tick.
//!
//! Only a hint: where the kernel sends none, or the directory is not there yet, the tick finds the same.

use std::{path::Path, time::Duration};

use tokio::{sync::mpsc, time};

use super::maps::PINS;
use crate::watch_dir::DirWatch;

/// How often it is looked whether the directory is still the one that is watched.
const RENEW: Duration = Duration::from_secs(1);

/// Sends `()` when a pin is made, replaced or removed, until the receiver is gone.
#[must_use]
pub fn watch(bpffs: &Path) -> mpsc::Receiver<()> {
    let (notices, receiver) = mpsc::channel(1);
    let watch = DirWatch::new(bpffs.join(PINS), notices.clone());
    tokio::spawn(keep_watching(watch, notices));
    receiver
}

/// A bpffs that is mounted anew brings another directory, which needs another watch.
async fn keep_watching(mut watch: DirWatch, notices: mpsc::Sender<()>) {
    while !notices.is_closed() {
        if watch.renew() {
            // Pins may have changed before the watch began. A full channel has a notice already.
            let _ = notices.try_send(());
        }
        time::sleep(RENEW).await;
    }
}
