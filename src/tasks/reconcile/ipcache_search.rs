//! Searches the ipcache for entries inside VTEP CIDRs, once a minute and on tokio's blocking pool, so that no pass waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use tokio::task::{self, JoinHandle};
use vtep_core::datapath::ipcache::{Inside, Owned};

use crate::kernel::{ipcache::Ipcache, maps::MapError};

const INTERVAL: Duration = Duration::from_secs(60);
/// The maximum number of reported entries of one CIDR. Even a single entry needs a person's attention.
const LIMIT: usize = 16;

/// VTEP CIDR → prefixes inside it that resolve to something else.
pub type Found = BTreeMap<Ipv4Net, Vec<Inside>>;

/// The running search, and the results of the last one.
#[derive(Default)]
pub struct Search {
    running: Option<JoinHandle<Result<Found, MapError>>>,
    /// The last search: its start, its CIDRs and its map.
    began: Option<(Instant, BTreeSet<Ipv4Net>, u32)>,
    found: Found,
}

impl Search {
    /// Returns the results of the last search. Starts another one after a minute, or if the map or the CIDRs have changed.
    pub async fn turn(&mut self, bpffs: &Path, map: u32, cidrs: &BTreeSet<Ipv4Net>, now: Instant) -> &Found {
        if let Some(ended) = self.running.take_if(|running| running.is_finished()) {
            // A failed search keeps the old results until the next one.
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

/// Searches once, and describes entries of pods and nodes inside these CIDRs. Entries with the VTEP's own endpoint, and entries that this
/// agent wrote (`owned`), do not count. `None` if there is no ipcache, or if this process may not open it.
///
/// # Errors
///
/// The ipcache exists and cannot be read.
pub fn search_once(
    bpffs: &Path,
    cidrs: &[(Ipv4Net, Ipv4Addr)],
    owned: &Owned,
) -> Result<Option<BTreeMap<Ipv4Net, Vec<String>>>, MapError> {
    let ipcache = match Ipcache::open(bpffs) {
        Err(MapError::Absent { .. } | MapError::NoBpffs { .. } | MapError::NotAllowed { .. }) => return Ok(None),
        opened => opened?,
    };
    let mut found = BTreeMap::new();
    for &(cidr, endpoint) in cidrs {
        let of_vtep = |e: Ipv4Addr| e == endpoint || owned.has(cidr, e);
        let whole = ipcache.resolve(cidr)?.filter(|entry| !entry.is_outside() || !entry.endpoint.is_none_or(of_vtep));
        let inside =
            whole.into_iter().map(|entry| Inside { prefix: cidr, entry }).chain(others_inside(&ipcache, cidr)?);
        let words: Vec<_> = inside.map(|inside| inside.to_string()).collect();
        if !words.is_empty() {
            found.insert(cidr, words);
        }
    }
    Ok(Some(found))
}

fn search(bpffs: &Path, cidrs: &BTreeSet<Ipv4Net>) -> Result<Found, MapError> {
    let ipcache = Ipcache::open(bpffs)?;
    let mut found = Found::new();
    for &cidr in cidrs {
        let inside = others_inside(&ipcache, cidr)?;
        if !inside.is_empty() {
            found.insert(cidr, inside);
        }
    }
    Ok(found)
}

/// Entries inside a CIDR that belong to pods or nodes. Entries for addresses outside the cluster do not count: a network policy with a CIDR
/// or a DNS name creates them, and the addresses are still BIG-IP's.
fn others_inside(ipcache: &Ipcache, cidr: Ipv4Net) -> Result<Vec<Inside>, MapError> {
    let mut inside = ipcache.inside(cidr)?;
    inside.retain(|inside| !inside.entry.is_outside() || inside.entry.endpoint.is_some());
    inside.truncate(LIMIT);
    Ok(inside)
}
