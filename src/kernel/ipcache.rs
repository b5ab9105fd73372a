//! Cilium's ipcache, in either of its layouts: what an address resolves to, and what of it lies inside a prefix.
//!
//! It holds up to 512,000 entries. A pass looks a few of them up; [`Ipcache::inside`], which looks for more, runs beside the loop.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path};

use aya::maps::{LpmTrie, Map, MapData, MapError as AyaError, MapType, lpm_trie::Key};
use ipnet::{Ipv4Net, Ipv4Subnets};
use vtep_core::datapath::{
    abi::{IpcacheEntry, IpcacheKey, IpcacheV1, IpcacheV2, ipcache_key, prefix_of_ipcache_key},
    ipcache::{Inside, Owned, Version},
};

use super::maps::{self, MapError, Pinned, from_trie, is_not_found, to_trie};

/// Pins, the newest first: an upgrade may leave the older one behind.
const NAMES: [&str; 2] = ["cilium_ipcache_v2", "cilium_ipcache"];
/// The map, in errors.
const NAME: &str = "the ipcache";
/// A prefix of this length or longer is looked through address by address: 65,536 look-ups at most, which take less than a tenth of a
/// walk over all keys of a full ipcache. A shorter one is walked.
const PROBED_FROM: u8 = 16;

/// The opened map.
pub struct Ipcache {
    layout: Layout,
    pub id: u32,
}

enum Layout {
    V1(LpmTrie<MapData, [u8; 20], [u8; 12]>),
    V2(LpmTrie<MapData, [u8; 20], [u8; 24]>),
}

impl Ipcache {
    /// Opens what is pinned now.
    ///
    /// # Errors
    ///
    /// When nothing is pinned, when the layout is not known, and when the kernel refuses.
    pub fn open(bpffs: &Path) -> Result<Self, MapError> {
        let [newer, older] = NAMES;
        let Pinned { path, data, shape, id, .. } = match maps::open(bpffs, newer) {
            Err(MapError::Absent { .. }) => maps::open(bpffs, older)?,
            other => other?,
        };
        let is_known = |value: usize| {
            shape.map_type == Some(MapType::LpmTrie) && (shape.key_size, shape.value_size) == (IpcacheKey::SIZE, value)
        };
        let layout = if is_known(size_of::<IpcacheV1>()) {
            LpmTrie::try_from(Map::LpmTrie(data)).map(Layout::V1)
        } else if is_known(size_of::<IpcacheV2>()) {
            LpmTrie::try_from(Map::LpmTrie(data)).map(Layout::V2)
        } else {
            return Err(MapError::UnknownLayout { path, shape });
        };
        Ok(Self { layout: layout.map_err(|source| MapError::Open { path, source })?, id })
    }

    #[must_use]
    pub fn version(&self) -> Version {
        match self.layout {
            Layout::V1(_) => Version::V1,
            Layout::V2(_) => Version::V2,
        }
    }

    /// What the whole of a prefix resolves to: the entry of the prefix itself or of the longest one that contains it. The kernel does not
    /// tell which of them it found.
    ///
    /// # Errors
    ///
    /// When the kernel fails the look-up.
    pub fn resolve(&self, prefix: Ipv4Net) -> Result<Option<IpcacheEntry>, MapError> {
        let key = to_trie(ipcache_key(prefix));
        let found = match &self.layout {
            Layout::V1(map) => map.get(&key, 0).map(|value| IpcacheV1::from(value).entry()),
            Layout::V2(map) => map.get(&key, 0).map(|value| IpcacheV2::from(value).entry()),
        };
        present(found).map_err(|source| MapError::Read { map: NAME, source })
    }

    /// The entries that this agent put there and that are still as it put them: prefix → endpoint.
    ///
    /// # Errors
    ///
    /// When the kernel fails a look-up.
    pub fn of(&self, owned: &Owned) -> Result<BTreeMap<Ipv4Net, Ipv4Addr>, MapError> {
        let mut ours = BTreeMap::new();
        for prefix in owned.prefixes() {
            let endpoint = self.resolve(prefix)?.filter(|entry| entry.is_world()).and_then(|entry| entry.endpoint);
            ours.extend(endpoint.filter(|&endpoint| owned.has(prefix, endpoint)).map(|endpoint| (prefix, endpoint)));
        }
        Ok(ours)
    }

    /// What in `prefix` resolves to something else than the whole of it. Neighbouring addresses of the same entry are one.
    ///
    /// Costs a look-up per address, or a walk over all keys for the shortest prefixes.
    ///
    /// # Errors
    ///
    /// When the kernel fails a look-up.
    pub fn inside(&self, prefix: Ipv4Net) -> Result<Vec<Inside>, MapError> {
        if prefix.prefix_len() >= PROBED_FROM { self.probe(prefix) } else { self.walk(prefix) }
    }

    fn probe(&self, prefix: Ipv4Net) -> Result<Vec<Inside>, MapError> {
        let whole = self.resolve(prefix)?;
        let mut runs: Vec<Run> = Vec::new();
        for address in prefix.network().into()..=u32::from(prefix.broadcast()) {
            match self.resolve(Ipv4Addr::from(address).into())? {
                Some(entry) if Some(entry) != whole => match runs.last_mut() {
                    Some(run) if run.entry == entry && run.last + 1 == address => run.last = address,
                    Some(_) | None => runs.push(Run { first: address, last: address, entry }),
                },
                Some(_) | None => {}
            }
        }
        Ok(runs.into_iter().flat_map(Run::prefixes).collect())
    }

    fn walk(&self, prefix: Ipv4Net) -> Result<Vec<Inside>, MapError> {
        let inside = |key: Result<Key<[u8; 20]>, AyaError>| {
            let found =
                key.map(|key| prefix_of_ipcache_key(from_trie(key)).filter(|p| prefix.contains(p) && *p != prefix));
            found.map_err(|source| MapError::Read { map: NAME, source }).transpose()
        };
        let prefixes: Vec<_> = match &self.layout {
            Layout::V1(map) => map.keys().filter_map(inside).collect::<Result<_, _>>()?,
            Layout::V2(map) => map.keys().filter_map(inside).collect::<Result<_, _>>()?,
        };
        let whole = self.resolve(prefix)?;
        let mut found = Vec::new();
        for prefix in prefixes {
            found.extend(self.resolve(prefix)?.filter(|e| Some(*e) != whole).map(|entry| Inside { prefix, entry }));
        }
        Ok(found)
    }

    /// Adds or replaces the entry of exactly this prefix.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn put(&mut self, cidr: Ipv4Net, entry: IpcacheEntry) -> Result<(), MapError> {
        let key = to_trie(ipcache_key(cidr));
        let put = match &mut self.layout {
            Layout::V1(map) => map.insert(&key, <[u8; 12]>::from(IpcacheV1::new(entry)), 0),
            Layout::V2(map) => map.insert(&key, <[u8; 24]>::from(IpcacheV2::new(entry)), 0),
        };
        put.map_err(|source| MapError::Write { map: NAME, cidr, source })
    }

    /// Deletes the entry of exactly this prefix; one that is gone already is success.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn delete(&mut self, cidr: Ipv4Net) -> Result<(), MapError> {
        let key = to_trie(ipcache_key(cidr));
        let deleted = match &mut self.layout {
            Layout::V1(map) => map.remove(&key),
            Layout::V2(map) => map.remove(&key),
        };
        present(deleted).map(drop).map_err(|source| MapError::Delete { map: NAME, cidr, source })
    }
}

/// Nothing there is no error.
fn present<T>(found: Result<T, AyaError>) -> Result<Option<T>, AyaError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Neighbouring addresses that resolve to the same.
struct Run {
    first: u32,
    last: u32,
    entry: IpcacheEntry,
}

impl Run {
    fn prefixes(self) -> impl Iterator<Item = Inside> {
        let Self { first, last, entry } = self;
        Ipv4Subnets::new(first.into(), last.into(), 0).map(move |prefix| Inside { prefix, entry })
    }
}
