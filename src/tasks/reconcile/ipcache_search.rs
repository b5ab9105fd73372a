//! Looks through the ipcache for entries inside a VTEP CIDR, once a minute and on a thread of its own.

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

/// What the ipcache gives to pods and nodes inside these CIDRs, in words, where BIG-IP's own endpoints are given, and entries that this
/// agent put there. `None` where there is no ipcache, or where this process may not open it.
///
/// # Errors
///
/// When it is there and cannot be read.
pub fn look(
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

/// What is outside the cluster is BIG-IP's, whoever names it: a policy with a CIDR or a DNS name does.
fn others_inside(ipcache: &Ipcache, cidr: Ipv4Net) -> Result<Vec<Inside>, MapError> {
    let mut inside = ipcache.inside(cidr)?;
    inside.retain(|inside| !inside.entry.is_outside() || inside.entry.endpoint.is_some());
    inside.truncate(TOLD);
    Ok(inside)
}
