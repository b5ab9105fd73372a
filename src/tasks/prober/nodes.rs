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
pub struct Nodes {
    known: BTreeMap<Ipv4Addr, (Instant, bool)>,
}

impl Nodes {
    /// Marks the nodes among these senders. Without a readable ipcache, no sender is known as a node.
    pub fn name(&mut self, sources: &mut [UnexpectedSource], bpffs: &Path, now: Instant) {
        self.known.retain(|_, (at, _)| now.saturating_duration_since(*at) < VALID_FOR);
        // Most of the time no frame is unexpected, and the map stays closed.
        let mut ipcache = None;
        for unexpected in sources.iter_mut().filter(|unexpected| unexpected.sender == Sender::Unknown) {
            let source = unexpected.source;
            if !self.known.contains_key(&source) {
                let ipcache = ipcache.get_or_insert_with(|| Ipcache::open(bpffs).ok()).as_ref();
                let Some(Ok(entry)) = ipcache.map(|ipcache| ipcache.resolve(source.into())) else { continue };
                self.known.insert(source, (now, entry.is_some_and(|entry| entry.is_node())));
            }
            if self.known.get(&source).is_some_and(|(_, is_node)| *is_node) {
                unexpected.sender = Sender::Node;
            }
        }
    }
}
