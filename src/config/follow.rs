//! The loop that turns what a source sees into views, and remembers the last good one over a restart.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task,
};
use tracing::{info, warn};

use super::{
    last_good::LastGood,
    view::{Observed, View},
};
use crate::{logging::chain, state_file::StateFile};

/// Publishes a view for each thing observed, until the source is gone.
pub async fn follow(
    source: String,
    mut observed: mpsc::Receiver<Observed>,
    file: StateFile<LastGood>,
    config: watch::Sender<Option<Arc<View>>>,
) {
    let recalled = recall(&file);
    let mut memory = Memory { saved: recalled.as_ref().and_then(LastGood::of), file, failing: false };
    // Not in force by itself: the source may know better in a moment, and until then the kernel stays as it is.
    let mut previous = recalled.map(Arc::new);
    while let Some(observed) = observed.recv().await {
        let view = Arc::new(View::next(&source, &observed, previous.as_deref(), Timestamp::now()));
        let View { hash, stale, .. } = &*view;
        let is_new = config.borrow().as_ref().is_none_or(|last| last.hash != *hash);
        if is_new && !hash.is_empty() && view.source_error.is_none() {
            info!(hash, valid = view.valid(), stale, "configuration read");
        }
        config.send_replace(Some(Arc::clone(&view)));
        memory.keep(&view).await;
        previous = Some(view);
    }
}

/// What was in force before a restart.
#[must_use]
pub fn recall(file: &StateFile<LastGood>) -> Option<View> {
    let good = file.load().unwrap_or_else(|error| {
        warn!(error = %chain(&error), "the last good configuration is lost, and not needed once a new one is read");
        None
    })?;
    let (hash, observed_at) = (good.hash.clone(), good.observed_at);
    match good.recall() {
        Ok(view) => {
            info!(hash, %observed_at, "the last good configuration is known");
            Some(view)
        }
        Err(error) => {
            warn!(%error, "the last good configuration is none, and ignored");
            None
        }
    }
}

struct Memory {
    file: StateFile<LastGood>,
    saved: Option<LastGood>,
    failing: bool,
}

impl Memory {
    /// Saves what is in force, where that is news.
    async fn keep(&mut self, view: &View) {
        let Some(good) = LastGood::of(view).filter(|good| self.saved.as_ref() != Some(good)) else { return };
        let (file, value) = (self.file.clone(), good.clone());
        // A slow disk does not hold the other loops up.
        match task::spawn_blocking(move || file.save(&value)).await {
            Ok(Ok(())) => {
                self.failing = false;
                self.saved = Some(good);
            }
            Ok(Err(error)) if !self.failing => {
                self.failing = true;
                warn!(error = %chain(&error), "the last good configuration will not outlive a restart: give --state-dir a place to write");
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}
