//! Tells the nodes of the cluster from BIG-IPs: Cilium's ipcache has the identity of every node's address.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use vtep_core::tunnel::flow::{Sender, UnexpectedSource};

use crate::kernel::ipcache::Ipcache;

/// How long an answer of the ipcache counts.
const VALID_FOR: Duration = Duration::from_secs(60);

/// Which outer sources belong to nodes, and when the ipcache said so.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    known: BTreeMap<Ipv4Addr, (Instant, bool)>,
}

impl Nodes {
    /// Marks the nodes among these senders. Without a readable ipcache, no sender is known as a node.
    pub(super) fn name(&mut self, sources: &mut [UnexpectedSource], bpffs: &Path, now: Instant) {
        self.known.retain(|_, (at, _)| now.saturating_duration_since(*at) < VALID_FOR);
        // Most of the time no frame is unexpected, and the map stays closed.
        let mut ipcache = None;
        for unexpected in sources.iter_mut().filter(|unexpected| unexpected.sender == Sender::Unknown) {
            let source = unexpected.source;
            let known = self.known.get(&source).map(|(_, is_node)| *is_node);
            let look_up = || {
                let ipcache = ipcache.get_or_insert_with(|| Ipcache::open(bpffs).ok()).as_ref()?;
                let is_node = ipcache.resolve(source.into()).ok()?.is_some_and(|entry| entry.is_node());
                self.known.insert(source, (now, is_node));
                Some(is_node)
            };
            if known.or_else(look_up) == Some(true) {
                unexpected.sender = Sender::Node;
            }
        }
    }
}
