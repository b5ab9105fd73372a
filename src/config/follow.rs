//! The loop that turns what a source sees into views, given what the node needs, and remembers the last good one over a restart.

use std::{collections::BTreeMap, net::Ipv4Addr, pin::Pin, sync::Arc, time::Duration};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task, time,
};
use tracing::{info, warn};

use super::{
    last_good::LastGood,
    parse::parse,
    surroundings::{Fact, Surroundings},
    view::{Observed, Sight, View},
};
use crate::{logging::chain, state_file::StateFile};

/// What vetoes a VTEP is looked at again after this, where nothing tells of its end: the ipcache sends no notices.
const RECHECK: Duration = Duration::from_secs(10);

/// What the ipcache has inside these VTEP CIDRs (each with its endpoint) that is not the VTEP's, in words.
pub type IpcacheLook = Box<dyn Fn(Vec<(Ipv4Net, Ipv4Addr)>) -> IpcacheLooked + Send + Sync>;
pub type IpcacheLooked = Pin<Box<dyn Future<Output = Result<BTreeMap<Ipv4Net, Vec<String>>, String>> + Send>>;

/// Publishes a view for each thing observed, and for each change of what the node needs, until the source is gone. None is published before
/// it is known what the node needs.
pub async fn follow(
    source: String,
    mut observed: mpsc::Receiver<Observed>,
    mut node: watch::Receiver<Option<Surroundings>>,
    ipcache: IpcacheLook,
    file: StateFile<LastGood>,
    config: watch::Sender<Option<Arc<View>>>,
) {
    let recalled = recall(&file);
    let mut memory = Memory { saved: recalled.as_ref().and_then(LastGood::of), file, failing: false };
    // Not in force by itself: the source may know better in a moment, and until then the kernel stays as it is.
    let mut previous = recalled.map(Arc::new);
    let mut latest = None;
    loop {
        let vetoed = previous.as_ref().is_some_and(|view| !view.vetoed.is_empty());
        tokio::select! {
            biased;
            new = observed.recv() => match new {
                Some(new) => latest = Some(new),
                None => return,
            },
            Ok(()) = node.changed() => {}
            () = time::sleep(RECHECK), if vetoed => {}
        }
        let (Some(observed), Some(needs)) = (&latest, node.borrow_and_update().clone()) else { continue };
        let around = around(observed, needs, previous.as_deref(), &ipcache).await;
        let view = Arc::new(View::next(&source, &observed.within(&around), previous.as_deref(), Timestamp::now()));
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

/// What the node needs, and what the ipcache has where the document asks for a VTEP that is not in force: it is looked at before anything
/// is written.
pub async fn around(
    observed: &Observed,
    needs: Surroundings,
    previous: Option<&View>,
    ipcache: &IpcacheLook,
) -> Surroundings {
    let Sight::Document(document) = &observed.sight else { return needs };
    let last_good = previous.and_then(|view| view.last_good.as_ref());
    let is_new = |cidr: &Ipv4Net| !last_good.iter().flat_map(|spec| &spec.vteps).any(|vtep| vtep.cidr == *cidr);
    let parsed = parse(&document.keys);
    let lines = parsed.lines.iter().filter_map(|line| line.cidr.zip(line.endpoint));
    let asked: Vec<_> = lines.filter(|(cidr, _)| is_new(cidr) && cidr.netmask() == parsed.mask).collect();
    if asked.is_empty() {
        return needs;
    }
    match ipcache(asked).await {
        Ok(found) => Surroundings { ipcache: found, ..needs },
        Err(reason) => {
            let mut needs = needs;
            needs.unreadable.insert(Fact::Ipcache, reason);
            needs
        }
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
