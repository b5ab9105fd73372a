//! Reads and writes Cilium's ipcache in either of its layouts: the entry of an address, and the entries inside a prefix.
//!
//! The ipcache has up to 512,000 entries. A pass looks up only a few. The longer search, [`Ipcache::inside`], runs on another thread.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path};

use aya::maps::{LpmTrie, Map, MapData, MapError as AyaError, MapType, lpm_trie::Key};
use ipnet::{Ipv4Net, Ipv4Subnets};
use vtep_core::datapath::{
    abi::{IpcacheEntry, IpcacheKey, IpcacheV1, IpcacheV2, ipcache_key, prefix_of_ipcache_key},
    ipcache::{Inside, Owned, Version},
};

use super::maps::{self, MapError, Pinned, from_trie, is_not_found, to_trie};

/// The names of the pin, the newest first: after an upgrade of Cilium the older one may still exist.
pub const NAMES: [&str; 2] = ["cilium_ipcache_v2", "cilium_ipcache"];
/// The map's name in errors.
const NAME: &str = "the ipcache";
/// For a prefix of this length or longer, the search looks up each address: at most 65,536 look-ups, which take less than a tenth of the
/// time of a walk over all keys of a full ipcache. For a shorter prefix it walks over all keys.
const PROBED_FROM: u8 = 16;

/// The opened map.
pub struct Ipcache {
    handle: Handle,
    pub id: u32,
}

enum Handle {
    V1(LpmTrie<MapData, [u8; 20], [u8; 12]>),
    V2(LpmTrie<MapData, [u8; 20], [u8; 24]>),
}

impl Ipcache {
    /// Opens the map that is pinned now.
    ///
    /// # Errors
    ///
    /// No map is pinned, its layout is unknown, or the kernel refuses.
    pub fn open(bpffs: &Path) -> Result<Self, MapError> {
        let [newer, older] = NAMES;
        let Pinned { path, data, shape, id, .. } = match maps::open(bpffs, newer) {
            Err(MapError::Absent { .. }) => maps::open(bpffs, older)?,
            other => other?,
        };
        let is_known = |value: usize| {
            shape.map_type == Some(MapType::LpmTrie) && (shape.key_size, shape.value_size) == (IpcacheKey::SIZE, value)
        };
        let handle = if is_known(size_of::<IpcacheV1>()) {
            LpmTrie::try_from(Map::LpmTrie(data)).map(Handle::V1)
        } else if is_known(size_of::<IpcacheV2>()) {
            LpmTrie::try_from(Map::LpmTrie(data)).map(Handle::V2)
        } else {
            return Err(MapError::UnknownLayout { path, shape });
        };
        Ok(Self { handle: handle.map_err(|source| MapError::Open { path, source })?, id })
    }

    #[must_use]
    pub fn version(&self) -> Version {
        match self.handle {
            Handle::V1(_) => Version::V1,
            Handle::V2(_) => Version::V2,
        }
    }

    /// Looks up a whole prefix: the result is the entry of the prefix itself, or of the longest prefix that contains it. The kernel does
    /// not report which of the two it found.
    ///
    /// # Errors
    ///
    /// The look-up fails.
    pub fn resolve(&self, prefix: Ipv4Net) -> Result<Option<IpcacheEntry>, MapError> {
        let key = to_trie(ipcache_key(prefix));
        let found = match &self.handle {
            Handle::V1(map) => map.get(&key, 0).map(|value| IpcacheV1::from(value).entry()),
            Handle::V2(map) => map.get(&key, 0).map(|value| IpcacheV2::from(value).entry()),
        };
        present(found).map_err(|source| MapError::Read { map: NAME, source })
    }

    /// The entries that this agent wrote and nobody changed since: prefix → endpoint.
    ///
    /// # Errors
    ///
    /// A look-up fails.
    pub fn of(&self, owned: &Owned) -> Result<BTreeMap<Ipv4Net, Ipv4Addr>, MapError> {
        let mut ours = BTreeMap::new();
        for prefix in owned.prefixes() {
            let endpoint = self.resolve(prefix)?.filter(|entry| entry.is_world()).and_then(|entry| entry.endpoint);
            ours.extend(endpoint.filter(|&endpoint| owned.has(prefix, endpoint)).map(|endpoint| (prefix, endpoint)));
        }
        Ok(ours)
    }

    /// The parts of `prefix` that resolve to another entry than `prefix` as a whole. Adjacent addresses with the same entry are merged.
    ///
    /// This costs a look-up for each address, or for short prefixes a walk over all keys.
    ///
    /// # Errors
    ///
    /// A look-up fails.
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
        let prefixes: Vec<_> = match &self.handle {
            Handle::V1(map) => map.keys().filter_map(inside).collect::<Result<_, _>>()?,
            Handle::V2(map) => map.keys().filter_map(inside).collect::<Result<_, _>>()?,
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
    /// The kernel refuses.
    pub fn put(&mut self, cidr: Ipv4Net, entry: IpcacheEntry) -> Result<(), MapError> {
        let key = to_trie(ipcache_key(cidr));
        let put = match &mut self.handle {
            Handle::V1(map) => map.insert(&key, <[u8; 12]>::from(IpcacheV1::new(entry)), 0),
            Handle::V2(map) => map.insert(&key, <[u8; 24]>::from(IpcacheV2::new(entry)), 0),
        };
        put.map_err(|source| MapError::Write { map: NAME, cidr, source })
    }

    /// Deletes the entry of exactly this prefix. An entry that no longer exists counts as success.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn delete(&mut self, cidr: Ipv4Net) -> Result<(), MapError> {
        let key = to_trie(ipcache_key(cidr));
        let deleted = match &mut self.handle {
            Handle::V1(map) => map.remove(&key),
            Handle::V2(map) => map.remove(&key),
        };
        present(deleted).map(drop).map_err(|source| MapError::Delete { map: NAME, cidr, source })
    }
}

/// Turns the error for an absent key into `None`.
fn present<T>(found: Result<T, AyaError>) -> Result<Option<T>, AyaError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adjacent addresses that resolve to the same entry.
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
