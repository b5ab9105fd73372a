//! The config task: turns each document of a source, with the needs of the node, into a view. It saves the last good configuration for the
//! next start.

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
        finding::Rule,
        last_good::LastGood,
        surroundings::{Fact, Surroundings},
        truth::Signs,
        view::{Observed, SourceState, View},
    },
    types::error_chain::chain,
};

use crate::state_file::StateFile;

/// The interval for checking vetoes and unreadable facts again, because the ipcache sends no notices.
const RECHECK: Duration = Duration::from_secs(10);
/// The interval while the ipcache does not exist yet: Cilium creates it when it starts.
const RECHECK_UNLOOKED: Duration = Duration::from_secs(1);

/// Searches the ipcache inside these VTEP CIDRs, each with its endpoint. The result describes the entries of others in words; it is `None`
/// if there is no ipcache.
pub type IpcacheQuery = Box<dyn Fn(Vec<(Ipv4Net, Ipv4Addr)>) -> IpcacheAnswer + Send + Sync>;
pub type IpcacheAnswer = Pin<Box<dyn Future<Output = Result<Option<BTreeMap<Ipv4Net, Vec<String>>>, String>> + Send>>;

/// Looks at what the node shows about its Cilium, to choose between lists and custom resources.
pub type SignsQuery = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Signs> + Send>> + Send + Sync>;

/// The sources of facts about this node that decide which VTEPs take effect.
pub struct Needs {
    /// Facts that need no answer of the API server; ready when the API server's name is resolved.
    pub given: Pin<Box<dyn Future<Output = Surroundings> + Send>>,
    /// Networks in the kernel; `None` before they were read for the first time.
    pub networks: watch::Receiver<Option<Surroundings>>,
    pub ipcache: IpcacheQuery,
    pub signs: SignsQuery,
}

/// Publishes a view for each observation of the source and each change of the node's needs, until the source is gone. It publishes nothing
/// before the node's needs are known.
pub async fn follow(
    source: String,
    mut observed: mpsc::Receiver<Observed>,
    mut needs: Needs,
    file: StateFile<LastGood>,
    config: watch::Sender<Option<Arc<View>>>,
) {
    let recalled = recall(&file);
    let mut memory = Memory { saved: recalled.as_ref().and_then(LastGood::of), file, failing: false };
    // The saved view is not published: the source may have a newer document soon. Until then, the kernel remains as it is.
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
        let signs = (needs.signs)().await;
        let known = given.and(&networks);
        let (around, unlooked) = around(observed, &known, signs, previous.as_deref(), &needs.ipcache).await;
        unread = !around.unreadable.is_empty();
        let view = View::next_on(&around, signs, &source, observed, previous.as_deref(), Timestamp::now());
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

/// The time until the next check although nothing changed. `unread`: a fact could not be read.
fn recheck(view: &View, unread: bool) -> Option<Duration> {
    if !view.unlooked.is_empty() {
        return Some(RECHECK_UNLOOKED);
    }
    // Which of two sources counts depends on Cilium, which sends no notices either.
    let has_both = view.findings.iter().any(|finding| finding.rule == Rule::VtepSourcesBoth);
    (unread || has_both || !view.vetoed.is_empty()).then_some(RECHECK)
}

/// The facts that veto VTEPs. For a VTEP that is in the document but not in effect yet, they include the ipcache's entries: the agent
/// searches the ipcache before it writes such a VTEP. The second result is the CIDRs that could not be checked, for lack of an ipcache.
pub async fn around(
    observed: &Observed,
    known: &Surroundings,
    signs: Signs,
    previous: Option<&View>,
    ipcache: &IpcacheQuery,
) -> (Surroundings, BTreeSet<Ipv4Net>) {
    let (mut around, mut unlooked) = (known.clone(), BTreeSet::new());
    let SourceState::Document(document) = &observed.state else {
        return (around, previous.map(|view| view.unlooked.clone()).unwrap_or_default());
    };
    let waits: BTreeSet<_> = previous.map(|view| view.unlooked.clone()).unwrap_or_default();
    let asked = View::to_search(document, signs, previous);
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

/// Restores the configuration that was in effect before a restart.
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
    /// Saves the effective configuration if it differs from the saved one.
    async fn keep(&mut self, view: &View) {
        let Some(good) = LastGood::of(view).filter(|good| self.saved.as_ref() != Some(good)) else { return };
        let (file, value) = (self.file.clone(), good.clone());
        // On another thread, so that a slow disk does not delay the other loops.
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
