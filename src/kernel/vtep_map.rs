//! Reads and writes entries of `cilium_vtep_map` in either of its layouts.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path};

use aya::maps::{HashMap, LpmTrie, Map, MapData, MapType};
use ipnet::Ipv4Net;
use vtep_core::datapath::{
    abi::{VtepKey, VtepLpmKey, VtepValue, vtep_lpm_key, vtep_of_lpm_key},
    layout::Layout,
};

use super::maps::{self, MapError, Pinned, from_trie, is_not_found, to_trie};

/// The name of the map and of its pin.
pub const NAME: &str = "cilium_vtep_map";

/// The opened map.
pub struct VtepMap {
    handle: Handle,
    /// The kernel's id: another id means Cilium created another map.
    pub id: u32,
    /// The maximum number of entries.
    pub capacity: usize,
}

enum Handle {
    /// Network address → MAC and endpoint (Cilium 1.12 and newer).
    Hash(HashMap<MapData, [u8; 4], [u8; 16]>),
    /// Prefix → MAC and endpoint (the redesign of cilium/cilium #46602).
    Lpm(LpmTrie<MapData, [u8; 4], [u8; 16]>),
}

impl VtepMap {
    /// Opens the map that is pinned now.
    ///
    /// # Errors
    ///
    /// No map is pinned, its layout is unknown, or the kernel refuses.
    pub fn open(bpffs: &Path) -> Result<Self, MapError> {
        let Pinned { path, data, shape, id, max_entries } = maps::open(bpffs, NAME)?;
        let sizes = (shape.key_size, shape.value_size);
        let known = |key: usize| sizes == (key, size_of::<VtepValue>());
        let handle = match shape.map_type {
            Some(MapType::Hash) if known(size_of::<VtepKey>()) => {
                HashMap::try_from(Map::HashMap(data)).map(Handle::Hash)
            }
            Some(MapType::LpmTrie) if known(VtepLpmKey::SIZE) => LpmTrie::try_from(Map::LpmTrie(data)).map(Handle::Lpm),
            Some(_) | None => return Err(MapError::UnknownLayout { path, shape }),
        };
        let handle = handle.map_err(|source| MapError::Open { path, source })?;
        Ok(Self { handle, id, capacity: max_entries as usize })
    }

    #[must_use]
    pub fn model(&self) -> Layout {
        match self.handle {
            Handle::Hash(_) => Layout::VtepHash,
            Handle::Lpm(_) => Layout::VtepLpm,
        }
    }

    /// Reads every entry. The keys of a hash have no prefix length: `prefix_len` gives it for a network address.
    ///
    /// # Errors
    ///
    /// A look-up fails. If another process deletes an entry during the walk, that is not an error.
    pub fn read(&self, prefix_len: impl Fn(Ipv4Addr) -> u8) -> Result<BTreeMap<Ipv4Net, VtepValue>, MapError> {
        let entries: Result<_, _> = match &self.handle {
            Handle::Hash(map) => map
                .iter()
                .map(|entry| entry.map(|(key, value)| (with_length(key.into(), &prefix_len), value.into())))
                .collect(),
            Handle::Lpm(map) => map
                .iter()
                .filter_map(|entry| {
                    entry
                        .map(|(key, value)| vtep_of_lpm_key(from_trie(key)).map(|cidr| (cidr, value.into())))
                        .transpose()
                })
                .collect(),
        };
        entries.map_err(|source| MapError::Read { map: NAME, source })
    }

    /// Adds or replaces an entry.
    ///
    /// # Errors
    ///
    /// The map is full, or the kernel refuses.
    pub fn put(&mut self, cidr: Ipv4Net, value: VtepValue) -> Result<(), MapError> {
        let put = match &mut self.handle {
            Handle::Hash(map) => map.insert(<[u8; 4]>::from(VtepKey::new(cidr)), <[u8; 16]>::from(value), 0),
            Handle::Lpm(map) => map.insert(&to_trie(vtep_lpm_key(cidr)), <[u8; 16]>::from(value), 0),
        };
        put.map_err(|source| MapError::Write { map: NAME, cidr, source })
    }

    /// Deletes an entry. An entry that no longer exists counts as success.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn delete(&mut self, cidr: Ipv4Net) -> Result<(), MapError> {
        let deleted = match &mut self.handle {
            Handle::Hash(map) => map.remove(&VtepKey::new(cidr).into()),
            Handle::Lpm(map) => map.remove(&to_trie(vtep_lpm_key(cidr))),
        };
        match deleted {
            Err(source) if !is_not_found(&source) => Err(MapError::Delete { map: NAME, cidr, source }),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// An invalid length yields the prefix of the single address.
fn with_length(key: VtepKey, prefix_len: impl Fn(Ipv4Addr) -> u8) -> Ipv4Net {
    let address = key.address();
    Ipv4Net::new(address, prefix_len(address)).unwrap_or_else(|_| address.into())
}
