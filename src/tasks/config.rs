//! The loop that turns what a source sees into views, given what the node needs, and remembers the last good one over a restart.

pub mod dir;
pub mod key_files;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task, time,
};
use tracing::{info, warn};
use vtep_core::{
    config::{
        last_good::LastGood,
        parse::parse,
        surroundings::{Fact, Surroundings},
        view::{Observed, SourceState, Truth, View},
    },
    types::error_chain::chain,
};

use crate::state_file::StateFile;

/// What vetoes a VTEP is looked at again after this, where nothing tells of its end: the ipcache sends no notices.
const RECHECK: Duration = Duration::from_secs(10);
/// An ipcache that is not there yet comes with Cilium's start.
const RECHECK_UNLOOKED: Duration = Duration::from_secs(1);

/// What the ipcache has inside these VTEP CIDRs (each with its endpoint) that is not the VTEP's, in words; `None` where there is no ipcache.
pub type IpcacheLook = Box<dyn Fn(Vec<(Ipv4Net, Ipv4Addr)>) -> IpcacheLooked + Send + Sync>;
pub type IpcacheLooked = Pin<Box<dyn Future<Output = Result<Option<BTreeMap<Ipv4Net, Vec<String>>>, String>> + Send>>;

/// What speaks against VTEPs on this node.
pub struct Needs {
    /// What is known without an answer of the API server, once its name is resolved.
    pub given: Pin<Box<dyn Future<Output = Surroundings> + Send>>,
    /// What the kernel says; `None` before the first reading.
    pub networks: watch::Receiver<Option<Surroundings>>,
    pub ipcache: IpcacheLook,
}

/// Publishes a view for each thing observed, and for each change of what the node needs, until the source is gone. None is published before
/// it is known what the node needs.
pub async fn follow(
    source: String,
    mut observed: mpsc::Receiver<Observed>,
    mut needs: Needs,
    file: StateFile<LastGood>,
    config: watch::Sender<Option<Arc<View>>>,
) {
    let recalled = recall(&file);
    let mut memory = Memory { saved: recalled.as_ref().and_then(LastGood::of), file, failing: false };
    // Not in force by itself: the source may know better in a moment, and until then the kernel stays as it is.
    let mut previous = recalled.map(Arc::new);
    let (mut latest, mut unread) = (None, false);
    let given = needs.given.await;
    loop {
        let recheck = previous.as_deref().and_then(|view| recheck(view, unread));
        tokio::select! {
            biased;
            new = observed.recv() => match new {
                Some(new) => latest = Some(new),
                None => return,
            },
            Ok(()) = needs.networks.changed() => {}
            () = time::sleep(recheck.unwrap_or_default()), if recheck.is_some() => {}
        }
        let networks = needs.networks.borrow_and_update().clone();
        let (Some(observed), Some(networks)) = (&latest, networks) else { continue };
        let (around, unlooked) = around(observed, &given.and(&networks), previous.as_deref(), &needs.ipcache).await;
        unread = !around.unreadable.is_empty();
        let view = View::next_on(&around, &source, observed, previous.as_deref(), Timestamp::now());
        let view = Arc::new(View { unlooked, ..view });
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

/// When to look again although nothing changed; `unread`: something could not be read.
fn recheck(view: &View, unread: bool) -> Option<Duration> {
    if !view.unlooked.is_empty() {
        return Some(RECHECK_UNLOOKED);
    }
    (unread || !view.vetoed.is_empty()).then_some(RECHECK)
}

/// What speaks against VTEPs, with what the ipcache has where the document asks for one that is not in force: it is looked at before
/// anything is written. Beside it, the CIDRs for which there was no ipcache to look into.
pub async fn around(
    observed: &Observed,
    known: &Surroundings,
    previous: Option<&View>,
    ipcache: &IpcacheLook,
) -> (Surroundings, BTreeSet<Ipv4Net>) {
    let (mut around, mut unlooked) = (known.clone(), BTreeSet::new());
    let SourceState::Document(document) = &observed.state else {
        return (around, previous.map(|view| view.unlooked.clone()).unwrap_or_default());
    };
    let parsed = parse(&document.keys);
    let standing = previous.map(|view| view.standing_for(Truth::of(&parsed))).unwrap_or_default();
    let waits: BTreeSet<_> = previous.map(|view| view.unlooked.clone()).unwrap_or_default();
    let lines = parsed.lines.iter().filter_map(|line| line.cidr.zip(line.endpoint));
    let is_asked = |cidr: &Ipv4Net| waits.contains(cidr) || !standing.contains(cidr);
    let asked: Vec<_> = lines.filter(|(cidr, _)| is_asked(cidr) && cidr.netmask() == parsed.mask).collect();
    if !asked.is_empty() {
        let cidrs: BTreeSet<_> = asked.iter().map(|(cidr, _)| *cidr).collect();
        match ipcache(asked).await {
            Ok(Some(found)) => around.ipcache = found,
            Ok(None) => unlooked = cidrs,
            Err(reason) => {
                unlooked = &cidrs & &waits;
                around.unreadable.insert(Fact::Ipcache, reason);
            }
        }
    }
    (around, unlooked)
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
            warn!(%error, "ignoring the saved configuration: it is not valid");
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
