//! Notices of changes to Cilium's pins, so that the agent fills a new map immediately and not at the next tick.
//!
//! A notice is only a hint. If the kernel sends none, or if the directory does not exist yet, the next tick finds the change.

use std::{path::Path, time::Duration};

use tokio::{sync::mpsc, time};

use super::maps::PINS;
use crate::{together, watch_dir::DirWatch};

/// How often the watch checks whether the name still belongs to the same directory.
const RENEW: Duration = Duration::from_secs(1);

/// Sends `()` when a pin is made, replaced or removed, until the receiver is gone.
#[must_use]
pub fn watch(bpffs: &Path) -> mpsc::Receiver<()> {
    let (notices, receiver) = mpsc::channel(1);
    let watch = DirWatch::new(bpffs.join(PINS), notices.clone());
    tokio::spawn(keep_watching(watch, notices));
    receiver
}

/// Renews the watch: a new mount of bpffs has a new directory.
async fn keep_watching(mut watch: DirWatch, notices: mpsc::Sender<()>) {
    while !notices.is_closed() {
        if watch.renew() {
            // Pins may have changed before the watch began. A full channel has a notice already.
            let _ = notices.try_send(());
        }
        time::sleep_until(together::next(RENEW).into()).await;
    }
}
