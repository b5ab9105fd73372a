//! Looks through the ipcache for entries inside a VTEP CIDR, once a minute and on a thread of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use tokio::task::{self, JoinHandle};

use super::{
    ipcache::{Inside, Ipcache},
    maps::MapError,
};

const INTERVAL: Duration = Duration::from_secs(60);
/// More of one CIDR are not told: one is reason enough to look.
const TOLD: usize = 16;

/// VTEP CIDR → what inside it resolves to something else.
pub type Found = BTreeMap<Ipv4Net, Vec<Inside>>;

/// The search, and what the last one found.
#[derive(Default)]
pub struct Search {
    running: Option<JoinHandle<Result<Found, MapError>>>,
    /// When, where and in which map the last one began.
    began: Option<(Instant, BTreeSet<Ipv4Net>, u32)>,
    found: Found,
}

impl Search {
    /// What the last search found; begins another when a minute has passed, or when the map or the CIDRs are others.
    pub async fn turn(&mut self, bpffs: &Path, map: u32, cidrs: &BTreeSet<Ipv4Net>, now: Instant) -> &Found {
        if let Some(ended) = self.running.take_if(|running| running.is_finished()) {
            // What could not be read is found the next time.
            if let Ok(Ok(found)) = ended.await {
                self.found = found;
            }
        }
        let is_current = |(began, of, in_map): &(Instant, BTreeSet<Ipv4Net>, u32)| {
            now.duration_since(*began) < INTERVAL && of == cidrs && *in_map == map
        };
        if self.running.is_none() && !self.began.as_ref().is_some_and(is_current) {
            self.began = Some((now, cidrs.clone(), map));
            self.found.retain(|cidr, _| cidrs.contains(cidr));
            let (bpffs, cidrs) = (bpffs.to_owned(), cidrs.clone());
            self.running = Some(task::spawn_blocking(move || search(&bpffs, &cidrs)));
        }
        &self.found
    }
}

fn search(bpffs: &Path, cidrs: &BTreeSet<Ipv4Net>) -> Result<Found, MapError> {
    let ipcache = Ipcache::open(bpffs)?;
    let mut found = Found::new();
    for &cidr in cidrs {
        let mut inside = ipcache.inside(cidr)?;
        // What is outside the cluster is BIG-IP's, whoever names it: a policy with a CIDR or a DNS name does.
        inside.retain(|inside| !inside.entry.is_outside() || inside.entry.endpoint.is_some());
        inside.truncate(TOLD);
        if !inside.is_empty() {
            found.insert(cidr, inside);
        }
    }
    Ok(found)
}
